"""What several tests put in place of something else: a pool without processes, and what is no video."""

from concurrent.futures import Future

import torch

NO_VIDEOS = [  # what came, and what the sentence about it says
    (torch.zeros(1, 3, 16, 64, 64, dtype=torch.uint8), "expected a float32 tensor in .0, 1.: trajlib.dataset.to_float"),
    (torch.full((1, 3, 16, 64, 64), 255.0), "divide 0..255 pixels by 255"),
    (torch.rand(1, 16, 3, 64, 64), "expected .b, 3, 16, 64, 64."),
    (torch.full((1, 3, 16, 64, 64), torch.nan), "NaN"),
    (torch.zeros(1, 3, 16, 64, 64).double(), "came as torch.float64; expected a float32 tensor .*: videos.float"),
    (torch.zeros(1, 3, 16, 64, 64).half(), "came as torch.float16; expected a float32 tensor .*: videos.float"),
]


class Inline:
    """A pool that runs everything at once, here."""

    def __init__(self, *args):
        pass

    def submit(self, function, *args):
        future = Future()
        future.set_result(function(*args))
        return future

    def shutdown(self, **kwargs):
        pass
