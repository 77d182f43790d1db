"""What a video is made of: how many frames of how many pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch


def is_integer(number: Any) -> bool:
    """Whether this is an integer, Python's or NumPy's; a bool is none here."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


@dataclass(frozen=True)
class VideoSpec:
    """Frames, side of the square picture in pixels, frames a second; ValueError unless all are positive.

    fps None: as many frames a second as a video's file has.
    """

    frames: int = 16
    size: int = 64
    fps: float | None = 8

    def __post_init__(self) -> None:
        for name in ("frames", "size"):
            value = getattr(self, name)
            if not is_integer(value) or value < 1:
                raise ValueError(f"{name} is {value!r}; a video has a positive whole number of {name}.")
        if self.fps is None:
            return
        if isinstance(self.fps, bool) or not isinstance(self.fps, int | float) or not 0 < self.fps < float("inf"):
            raise ValueError(f"fps is {self.fps!r}; a positive number of frames a second was expected.")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(3, frames, size, size): the shape of one video."""
        return (3, self.frames, self.size, self.size)

    @property
    def centre(self) -> float:
        """The middle of the picture in pixels, where a pixel's centre is a whole number."""
        return (self.size - 1) / 2


def as_spec(spec: VideoSpec | Mapping[str, Any]) -> VideoSpec:
    """A `VideoSpec`, or one from its fields, as a model card stores them."""
    return spec if isinstance(spec, VideoSpec) else VideoSpec(**spec)


class VideoDataset(Protocol):
    """What every recipe takes: videos of one `VideoSpec`, with classes or without.

    `num_classes` is 0 for videos without labels; then `labels` is never called.
    """

    spec: VideoSpec
    num_classes: int

    def __len__(self) -> int: ...

    def videos(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 (b, 3, frames, size, size)."""
        ...

    def labels(self, indices: Sequence[int]) -> torch.Tensor:
        """int64 (b,) in 0 .. num_classes - 1."""
        ...
