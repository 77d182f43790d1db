"""COMMIT's ten tasks: which pixels are observed, and what fills the rest before it is tokenized.

Yu et al., MAGVIT (arXiv 2212.05199), sec. 3.2, table 12 and app. B.1. A *condition* is a whole video: the observed
pixels, and everything else filled from them by the task's rule. It is tokenized like any video. A *region* is
(frames, size, size) bool, True where a pixel is observed. A new task is one more entry of `TASKS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trajlib.data.spec import VideoSpec, check_number
from trajlib.tokenizer.video_tokenizer import max_over_cells


@dataclass(frozen=True)
class Task:
    """A task. `labelled`: the model receives the class as well."""

    name: str
    region: Callable[[VideoSpec, int], Tensor]  # (spec, observed frames) -> bool, broadcasts to (frames, size, size)
    fill: Callable[[Tensor, Tensor], Tensor]  # (videos, region) -> videos, from the pixels inside the region alone
    labelled: bool = False


def axes(spec: VideoSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of frames, rows and columns that broadcast to (frames, size, size)."""
    return torch.arange(spec.frames)[:, None, None], torch.arange(spec.size)[:, None], torch.arange(spec.size)


def first_frames(spec: VideoSpec, frames: int) -> Tensor:
    """The first `frames` frames."""
    return axes(spec)[0] < frames


def rows(spec: VideoSpec) -> Tensor:
    """The middle half of the rows."""
    y = axes(spec)[1]
    return (y >= spec.size // 4) & (y < spec.size // 4 + spec.size // 2)


def strip(spec: VideoSpec, moving: bool = False) -> Tensor:
    """A vertical strip half as wide as the picture: in its middle, or moving from the left edge to the right one."""
    t, _, x = axes(spec)
    left = t * (spec.size - spec.size // 2) // max(spec.frames - 1, 1) if moving else spec.size // 4
    return (x >= left) & (x < left + spec.size // 2)


def square(spec: VideoSpec, moving: bool = False) -> Tensor:
    """The part of `strip` in the middle half of the rows."""
    return strip(spec, moving) & rows(spec)


def replicate(videos: Tensor, region: Tensor) -> Tensor:
    """Each later frame is a copy of the last observed one."""
    last = int(region.any(2).any(1).nonzero().max())
    return videos[:, :, torch.arange(len(region), device=videos.device).clamp(max=last)]


def interpolate(videos: Tensor, region: Tensor) -> Tensor:
    """Each frame between is a mixture of the first and the last one."""
    part = torch.linspace(0, 1, len(region), device=videos.device)[:, None, None]
    return videos[:, :, :1] * (1 - part) + videos[:, :, -1:] * part


def edge(videos: Tensor, region: Tensor) -> Tensor:
    """Each pixel outside is a copy of the nearest one of the observed rectangle."""
    inside_rows, inside_columns = (region[0].any(axis).nonzero()[:, 0] for axis in (1, 0))
    y, x = (torch.arange(videos.shape[-1]).clamp(int(i.min()), int(i.max())) for i in (inside_rows, inside_columns))
    return videos[..., y[:, None], x]


def fill_background(videos: Tensor, region: Tensor) -> Tensor:
    """White, the background. MAGVIT fills with 0, which is black: no training clip is black."""
    return torch.where(region, videos, 1.0)


TASKS = {
    "FP": Task("frame prediction", first_frames, replicate),
    "FI": Task("frame interpolation", lambda spec, _: axes(spec)[0] % max(spec.frames - 1, 1) == 0, interpolate),
    "OPC": Task("central outpainting", lambda spec, _: square(spec), edge),
    "OPV": Task("vertical outpainting", lambda spec, _: strip(spec), edge),
    "OPH": Task("horizontal outpainting", lambda spec, _: rows(spec), edge),
    "OPD": Task("dynamic outpainting", lambda spec, _: strip(spec, moving=True), fill_background),
    "IPC": Task("central inpainting", lambda spec, _: ~square(spec), fill_background),
    "IPD": Task("dynamic inpainting", lambda spec, _: ~square(spec, moving=True), fill_background),
    "CG": Task("class-conditional generation", lambda spec, _: axes(spec)[0] < 0, fill_background, labelled=True),
    "CFP": Task("class-conditional frame prediction", first_frames, replicate, labelled=True),
}


class _TaskNumbers(dict[str, int]):
    """The row of each task's embedding: its position in TASKS, so that a task which is added there has one."""

    def __missing__(self, task: str) -> int:
        return list(TASKS).index(check_task(task))


TASK_NUMBERS = _TaskNumbers()


def check_task(task: str) -> str:
    """The task's key, or a ValueError that lists the tasks."""
    if task not in list(TASKS):
        raise ValueError(f"task is {task!r}; the tasks are {', '.join(TASKS)}.")
    return task


def region(task: str, spec: VideoSpec = VideoSpec(), frames: int = 1) -> Tensor:
    """(frames, size, size) bool: the observed pixels. `frames`: how many, where a task observes the first ones."""
    check_task(task)
    check_number("frames", frames, 1, max(spec.frames - 1, 1), whole=True)
    return TASKS[task].region(spec, frames).expand(spec.frames, spec.size, spec.size).contiguous()


def condition(videos: Tensor, task: str, frames: int = 1) -> Tensor:
    """The video that is tokenized in place of `videos` (b, 3, t, s, s): it depends on the observed pixels alone."""
    where = region(task, VideoSpec(frames=videos.shape[2], size=videos.shape[-1]), frames)
    if not where.any():  # nothing is observed: background, and no token of it will be used
        return torch.ones_like(videos)
    return TASKS[task].fill(videos, where.to(videos.device))


def masked_frames(task: str, paths: Tensor, frames: int = 1, spec: VideoSpec = VideoSpec()) -> Tensor:
    """(b, t) bool: the frames in which the centre of the dot, paths (b, t, 2) in pixels, is not observed."""
    where = region(task, spec, frames)
    x, y = paths.round().long().clamp(0, spec.size - 1).unbind(-1)
    return ~where[torch.arange(len(where)), y, x]


def observed_tokens(task: str, grid: Sequence[int], frames: int = 1, spec: VideoSpec = VideoSpec()) -> Tensor:
    """Bool in the shape of `grid`, (t, h, w) or (t, h, w, codebooks): tokens whose own pixels hold an observed one."""
    found = max_over_cells(region(task, spec, frames)[None].float(), grid[:3])[0] > 0
    return found.view(*grid[:3], *[1] * (len(grid) - 3)).expand(*grid).contiguous()
