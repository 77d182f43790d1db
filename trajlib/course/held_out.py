"""Windows of a folder of videos: which are trained on, and which are held out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from trajlib.data.spec import VideoDataset, VideoSpec
from trajlib.data.video_files import to_float
from trajlib.data.video_folder import VideoFolder, split_of
from trajlib.zoo import batches

FEW_FILES = 20  # below this, windows at the end of each file are held out, not whole files
FEW_WINDOWS = 500  # below this, a warning
HELD_OUT = 0.2  # of each of few files
ZOOM = 1.5  # training windows are decoded so much larger than they are used: crops of them differ


class Part:
    """Some windows of a dataset, as a dataset."""

    num_classes = 0

    def __init__(self, data: VideoDataset, indices: Sequence[int]):
        self.data, self.indices, self.spec = data, list(indices), data.spec

    def __len__(self) -> int:
        return len(self.indices)

    def videos(self, indices: Sequence[int]) -> torch.Tensor:
        return self.data.videos([self.indices[i] for i in indices])


def split_folder(plan: Any, cache: Path) -> tuple[Part, Part, list[str]]:
    """Training windows, at ZOOM times the size, held-out windows, and what is to be said about them.

    `plan` has `videos`, `spec`, `frames`, `size`, `fps` and `motion`, see `own_videos.Plan`."""
    size = plan.size if plan.motion else round(plan.size * ZOOM)
    options = {"motion": plan.motion, "cache": cache}
    exact = VideoFolder(plan.videos, plan.spec, **options)
    if len(exact) < FEW_WINDOWS:  # windows may overlap, then there are four times as many
        options["stride"] = max(1, plan.frames // 4)
        exact = VideoFolder(plan.videos, plan.spec, **options)
    large = VideoFolder(plan.videos, VideoSpec(plan.frames, size, plan.fps), **options)
    said = [f"skipped or cut short: {sentence}" for sentence in exact.problems.values()]
    used = sum(count > 0 for count in exact.counts)
    away = {file for file in exact.files if split_of(file.relative_to(exact.folder).as_posix()) == "test"}
    kept, tested = ([k for k, file in enumerate(_files_of(data)) if (file in away) == x]
                    for data, x in ((large, False), (exact, True)))  # fmt: skip
    if used >= FEW_FILES and kept and tested:
        said.insert(0, f"{used} videos; every tenth, by a hash of its path, is held out")
    else:
        kept, tested = _ends(large, False), _ends(exact, True)
        said.insert(0, f"{used} videos; the last fifth of each is held out, so held-out windows resemble training ones")
    if not kept or not tested:
        raise ValueError(f"{plan.videos} has {len(exact)} windows of {plan.frames} frames: too few to hold some out.")
    if len(kept) < FEW_WINDOWS:
        said.append(f"warning: only {len(kept)} training windows; a tokenizer learns so few by heart. Add videos.")
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).tolist()
    return Part(large, [kept[k] for k in order]), Part(exact, tested), said  # else the first steps see one video alone


def _files_of(data: VideoFolder) -> list[Path]:
    return [file for file, count in zip(data.files, data.counts, strict=True) for _ in range(count)]


def _ends(data: VideoFolder, end: bool) -> list[int]:
    """Windows of the last fifth of each file, or all that do not overlap it; a file too short for both has no end."""
    found, first, length = [], 0, data.spec.frames
    for count in data.counts:
        frames = (count - 1) * data.stride + length
        border = frames - max(length, round(HELD_OUT * frames))
        border = frames if border < length else border
        starts = [k * data.stride for k in range(count)]
        found += [first + k for k, s in enumerate(starts) if (s >= border if end else s + length <= border)]
        first += count
    return found


def training_batches(data: VideoDataset, size: int, batch: int, seed: int = 0) -> batches.Batches:
    """batch_fn for `fit`: windows as crops or as a whole, half and half, some of them mirrored."""

    def batch_fn(step: int) -> list[torch.Tensor]:
        rng = torch.Generator().manual_seed(1_000_003 * seed + step)
        chosen = batches.epoch_indices(data, range(step * batch, (step + 1) * batch))
        found = []
        for video in to_float(data.videos(chosen)):  # (3, t, h, w)
            room, dice = video.shape[-1] - size, torch.rand(4, generator=rng).tolist()
            if room and dice[0] < 0.5:
                frames = video.transpose(0, 1)
                video = F.interpolate(frames, (size, size), mode="bilinear", antialias=True).transpose(0, 1)
            else:
                top, left = (int(dice[k] * (room + 1)) for k in (1, 2))
                video = video[..., top : top + size, left : left + size]
            found.append(video.flip(-1) if dice[3] < 0.5 else video)
        return [torch.stack(found).clamp(0, 1)]

    return batch_fn


class Scaled(Part):
    """The whole windows of a dataset at the size of `spec`."""

    def __init__(self, data: VideoDataset, spec: VideoSpec):
        super().__init__(data, range(len(data)))
        self.spec = spec

    def videos(self, indices: Sequence[int]) -> torch.Tensor:
        found = super().videos(indices)
        size = (self.spec.size, self.spec.size)
        frames = F.interpolate(to_float(found.transpose(1, 2).flatten(0, 1)), size, mode="bilinear", antialias=True)
        return frames.mul(255).round().byte().unflatten(0, (len(found), -1)).transpose(1, 2).contiguous()
