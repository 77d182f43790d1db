"""What several tests use: inputs that are not videos."""

import torch

NO_VIDEOS = [  # an input, and a part of the error message
    (torch.zeros(1, 3, 16, 64, 64, dtype=torch.uint8), r"expected a float32 tensor in .0, 1.: trajlib\S*\.to_float"),
    (torch.full((1, 3, 16, 64, 64), 255.0), "divide 0..255 pixels by 255"),
    (torch.rand(1, 16, 3, 64, 64), "expected .b, 3, 16, 64, 64."),
    (torch.full((1, 3, 16, 64, 64), torch.nan), "NaN"),
    (torch.zeros(1, 3, 16, 64, 64).double(), "came as torch.float64; expected a float32 tensor .*: videos.float"),
    (torch.zeros(1, 3, 16, 64, 64).half(), "came as torch.float16; expected a float32 tensor .*: videos.float"),
]
