"""What several tests put in place of something else: a pool without processes, and what is no video."""

from concurrent.futures import Future

import torch

NO_VIDEOS = [  # what came, and what the sentence about it says
    (torch.zeros(1, 3, 16, 64, 64, dtype=torch.uint8), "expected floats"),
    (torch.full((1, 3, 16, 64, 64), 255.0), "divide 0..255 pixels by 255"),
    (torch.rand(1, 16, 3, 64, 64), "expected .b, 3, 16, 64, 64."),
    (torch.full((1, 3, 16, 64, 64), torch.nan), "NaN"),
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
