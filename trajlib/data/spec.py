"""What a video is made of: how many frames of how many pixels."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import torch

LARGEST = 2**53  # up to here every whole number is a float, and a number of JSON


def is_integer(number: Any) -> bool:
    """Whether this is an integer, Python's or NumPy's; a bool is none here."""
    return isinstance(number, Integral) and not isinstance(number, bool)


def describe(value: Any) -> str:
    """What came, in a message: a number or a text as Python writes it, type and shape of an array, else the type."""
    if value is None or isinstance(value, Real | str | bytes):
        return repr(value)[:80]
    kind = "" if isinstance(value, torch.Tensor) else type(value).__name__
    return f"{kind} {value.dtype} {tuple(value.shape)}".lstrip() if hasattr(value, "dtype") else kind


def check_number(
    name: str, value: Any, low: float = -LARGEST, high: float = LARGEST, whole: bool = False, above: bool = False
) -> None:
    """ValueError, in one sentence, unless this is a number from `low` to `high`; a bool is none.

    `whole`: an integer, Python's or NumPy's. `above`: `low` itself is too low.
    """
    is_number = is_integer(value) if whole else isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not (low < value if above else low <= value) or value > high:  # NaN is neither
        kind, start = "a whole number" if whole else "a finite number", f" {'above' if above else 'from'} {low}"
        start += "" if high == LARGEST else f"{', at most' if above else ' to'} {high}"
        raise ValueError(f"{name} is {describe(value)}; {kind}{start if low > -LARGEST else ''} was expected.")


def check_numbers(name: str, values: Any, low: float, **limits: Any) -> tuple[Any, ...]:
    """These numbers as a tuple; ValueError for no sequence, an empty one, or one with what `check_number` refuses."""
    if not isinstance(values, list | tuple | range | torch.Tensor | np.ndarray) or not len(values):
        raise ValueError(f"{name} came as {describe(values)}; a sequence of at least one number was expected.")
    for value in (found := values.tolist() if hasattr(values, "tolist") else values):
        check_number(name, value, low, **limits)
    return tuple(found)


def check_name(kind: str, name: Any, names: Collection[str]) -> None:
    """ValueError, which lists the names, unless this is one of them."""
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{kind} is {describe(name)}; it must be one of {', '.join(names)}.")


@dataclass(frozen=True)
class VideoSpec:
    """Frames, side of the square picture in pixels, frames a second; ValueError unless all are positive numbers.

    fps None: as many frames a second as a video's file has.
    """

    frames: int = 16
    size: int = 64
    fps: float | None = 8

    def __post_init__(self) -> None:
        check_number("frames", self.frames, 1, whole=True)
        check_number("size", self.size, 1, whole=True)
        if self.fps is not None:
            check_number("fps", self.fps, 0, above=True)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(3, frames, size, size): the shape of one video."""
        return (3, self.frames, self.size, self.size)

    @property
    def centre(self) -> float:
        """The middle of the picture in pixels, where a pixel's centre is a whole number."""
        return (self.size - 1) / 2


def as_spec(spec: VideoSpec | Mapping[str, Any]) -> VideoSpec:
    """A `VideoSpec`, or one from its fields, as a model card stores them; ValueError for anything else."""
    if not isinstance(spec, VideoSpec | Mapping):
        raise ValueError(f"spec came as {describe(spec)}; a VideoSpec or its fields were expected.")
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

    def labels(self, indices: Sequence[int]) -> torch.Tensor:
        """int64 (b,) in 0 .. num_classes - 1."""
