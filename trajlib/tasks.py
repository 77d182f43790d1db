"""COMMIT's ten tasks: which pixels are given, and what stands in for the rest when they are tokenized.

Yu et al., MAGVIT (arXiv 2212.05199), sec. 3.2, table 12 and app. B.1. A *condition* is a whole clip: the given pixels,
and everything else filled from them by the task's rule. It is tokenized like any clip. A *region* is (16, 64, 64)
bool, True where a pixel is given.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from trajlib.render import FRAMES, SIZE

HALF, QUARTER = SIZE // 2, SIZE // 4
_t, _y, _x = torch.meshgrid(torch.arange(FRAMES), torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
SWEEP = _t * (SIZE - HALF) // (FRAMES - 1)  # left edge of what moves from left to right


@dataclass(frozen=True)
class Task:
    """One of the ten. `labelled`: the class is told too."""

    name: str
    region: Callable  # (frames given) -> (16, 64, 64) bool
    fill: Callable  # (videos, region) -> videos whose pixels outside the region come from those inside
    labelled: bool = False


def replicate(videos, region):
    """Each later frame is the last given one."""
    last = int(region.any(2).any(1).nonzero().max())
    return videos[:, :, torch.arange(FRAMES).clamp(max=last)]


def interpolate(videos, region):
    """Each frame between is a mixture of the first and the last."""
    part = torch.linspace(0, 1, FRAMES)[:, None, None]
    return videos[:, :, :1] * (1 - part) + videos[:, :, -1:] * part


def edge(videos, region):
    """Each pixel outside is the nearest one of the rectangle that is given."""
    rows, columns = (region[0].any(axis).nonzero()[:, 0] for axis in (1, 0))
    y, x = (torch.arange(SIZE).clamp(int(inside.min()), int(inside.max())) for inside in (rows, columns))
    return videos[..., y[:, None], x]


def paper(videos, region):
    """White. MAGVIT's zero is black, and no clip of ours has ever been black: the tokenizer would be lost there."""
    return torch.where(region, videos, 1.0)


def first_frames(count):
    """The first `count` frames."""
    return _t < count


def inside(left, top=QUARTER):
    """A square of half the side, its corner at (left, top)."""
    return strip(left) & (_y >= top) & (_y < top + HALF)


def strip(left):
    """A vertical strip half as wide as the picture."""
    return (_x >= left) & (_x < left + HALF)


TASKS = {
    "FP": Task("frame prediction", first_frames, replicate),
    "FI": Task("frame interpolation", lambda _: (_t == 0) | (_t == FRAMES - 1), interpolate),
    "OPC": Task("central outpainting", lambda _: inside(QUARTER), edge),
    "OPV": Task("vertical outpainting", lambda _: strip(QUARTER), edge),
    "OPH": Task("horizontal outpainting", lambda _: (_y >= QUARTER) & (_y < QUARTER + HALF), edge),
    "OPD": Task("dynamic outpainting", lambda _: strip(SWEEP), paper),
    "IPC": Task("central inpainting", lambda _: ~inside(QUARTER), paper),
    "IPD": Task("dynamic inpainting", lambda _: ~inside(SWEEP), paper),
    "CG": Task("class-conditional generation", lambda _: _t < 0, paper, labelled=True),
    "CFP": Task("class-conditional frame prediction", first_frames, replicate, labelled=True),
}
NUMBERS = {key: number for number, key in enumerate(TASKS)}


def region(task, frames=1):
    """(16, 64, 64) bool: the pixels that are given. `frames`: how many, where the task gives the first ones."""
    check(task)
    if not 1 <= frames < FRAMES:
        raise ValueError(f"frames is {frames}; from 1 to {FRAMES - 1} can be given.")
    return TASKS[task].region(frames)


def condition(videos, task, frames=1):
    """The clip that is tokenized in place of `videos` (b, 3, 16, 64, 64): it depends on the given pixels alone."""
    where = region(task, frames)
    if not where.any():  # nothing is given: paper, and no token of it will be used
        return torch.ones_like(videos)
    return TASKS[task].fill(videos, where)


def hidden_frames(task, paths, frames=1):
    """(b, 16) bool: where the centre of the dot (b, 16, 2) lies outside the given pixels."""
    where = region(task, frames)
    x, y = paths.round().long().clamp(0, where.shape[-1] - 1).unbind(-1)
    return ~where[torch.arange(len(where)), y, x]


def given_tokens(task, frames=1, grid=(8, 4, 4)):
    """(8, 4, 4) bool: tokens whose own pixels, 2 frames of 16 x 16, hold any that are given."""
    return F.adaptive_max_pool3d(region(task, frames)[None].float(), grid)[0] > 0


def check(task):
    """The task's key, or a ValueError that lists the tasks."""
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; the tasks are {', '.join(TASKS)}.")
    return task
