"""What models are given: a ValueError says what came, what was expected and what to do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from trajlib.data.spec import VideoSpec, check_number, describe
from trajlib.data.trajectories import FAMILIES

INDEX_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # bool is none


def check_videos(videos: Any, spec: VideoSpec = VideoSpec()) -> None:
    """ValueError, in one sentence, unless this is a float32 tensor (b, 3, frames, size, size) in [0, 1].

    Under autocast, too, videos come in float32: it is the layers that compute in another type.
    """
    came = videos.dtype if isinstance(videos, torch.Tensor) else type(videos).__name__
    if came != torch.float32:
        kind = videos.dtype if hasattr(videos, "dtype") else came
        remedy = "trajlib.data.video_files.to_float"
        if "float" in str(kind):  # no 0..255: to_float would divide them
            remedy = "videos.float()" if isinstance(came, torch.dtype) else "torch.from_numpy(videos).float()"
        raise ValueError(f"videos came as {came}; expected a float32 tensor in [0, 1]: {remedy} makes one.")
    if videos.ndim != 5 or tuple(videos.shape[1:]) != spec.shape:
        expected = f"expected (b, {', '.join(map(str, spec.shape))}): batch, RGB, frames, height, width."
        raise ValueError(f"videos came with shape {tuple(videos.shape)}; {expected}")
    if not videos.isfinite().all():
        raise ValueError("videos contain NaN or infinity; expected finite values in [0, 1].")
    _check_range(videos, 1e-3)


def check_pixels(*videos: Any, dims: Sequence[int] = (5,)) -> None:
    """ValueError unless these are float tensors of one shape (b, 3, t, h, w), of any number of clips, in about [0, 1].

    `dims`: how many dimensions they may have.
    """
    for one in videos:
        is_tensor = isinstance(one, torch.Tensor)
        is_video = is_tensor and one.is_floating_point() and one.ndim in dims and not one.is_meta
        if not is_video or not all(one.shape[1:]) or (one.ndim == 5 and one.shape[1] != 3):
            came = f"videos came as {describe(one)}"
            raise ValueError(f"{came}; expected a float tensor (b, 3, frames, height, width) in [0, 1].")
        if one.shape != videos[0].shape:
            raise ValueError(f"videos of {tuple(videos[0].shape)} and {tuple(one.shape)} came; expected one shape.")
        _check_range(one, 0.5)


def _check_range(videos: torch.Tensor, tolerance: float) -> None:
    low, high = videos.aminmax() if videos.numel() else (0, 1)
    if not (low >= -tolerance and high <= 1 + tolerance):  # NaN is neither
        raise ValueError(f"videos run from {low:.3g} to {high:.3g}; expected [0, 1]: divide 0..255 pixels by 255.")


def check_tokens(tokens: Any, shape: Sequence[int] | None, codebook_size: int, name: str = "tokens") -> None:
    """ValueError, in one sentence, unless these are indices (b, *shape) into a codebook, in a tensor.

    `shape` None: any. The mask token is no index: models receive it, callers never give it.
    """
    check_number("codebook_size", codebook_size, 1, whole=True)
    is_tensor = isinstance(tokens, torch.Tensor)
    if not is_tensor or tokens.dtype not in INDEX_DTYPES or (shape and tuple(shape) != tuple(tokens.shape[1:])):
        expected = "" if shape is None else f" ({', '.join(map(str, ('b', *shape)))})"
        raise ValueError(f"{name} came as {describe(tokens)}; expected int64{expected} in a torch tensor.")
    low, high = map(int, tokens.aminmax()) if tokens.numel() else (0, 0)  # 8 bits would not hold the codebook's size
    if not 0 <= low <= high < codebook_size:
        raise ValueError(f"{name} run from {low} to {high}; this codebook has 0 .. {codebook_size - 1}.")


def check_array(name: str, values: Any, *shape: int | None, tensor: bool = False, finite: bool = True) -> Any:
    """These numbers as a float64 array; with `tensor`, a float32 tensor as it came.

    ValueError, in one sentence, for what has another shape (None: any length), and if `finite`, for NaN or infinity.
    Not `finite`: truth values are numbers, too, 0 or 1.
    """
    found: Any = values if tensor else np.asarray(values)
    kind: Any = getattr(found, "dtype", None)
    good = kind == torch.float32 if tensor else kind.kind in ("fiu" if finite else "fiub")
    if not good or len(shape) != found.ndim or any(m not in (None, n) for n, m in zip(found.shape, shape, strict=True)):
        expected = f"{'a float32 tensor' if tensor else 'numbers'} of shape {str(shape).replace('None', 'any')}"
        raise ValueError(f"{name} came as {describe(values)}; expected {expected}.")
    if finite and not (found.isfinite() if tensor else np.isfinite(found)).all():
        raise ValueError(f"{name} has NaN or infinity; finite numbers were expected.")
    return found if tensor else found.astype(float, copy=False)


def check_labels(labels: Any, num_classes: int = len(FAMILIES), names: Sequence[str] = FAMILIES) -> torch.Tensor:
    """Class indices as an int64 tensor (b,), or a ValueError that says what they must be."""
    check_number("num_classes", num_classes, 1, whole=True)
    fit = len(names) == num_classes
    known = ", ".join(f"{i} {name}" for i, name in enumerate(names)) if fit else f"0 .. {num_classes - 1}"
    found = as_tensor(labels)
    if not isinstance(found, torch.Tensor) or found.ndim != 1 or found.dtype not in INDEX_DTYPES or not len(found):
        raise ValueError(f"labels came as {describe(found)}; expected whole numbers of shape (b,), int64: {known}.")
    if found.min() < 0 or int(found.max()) >= num_classes:
        raise ValueError(f"labels run from {found.min()} to {found.max()}; the classes are {known}.")
    return found.long()


def generator(seed: int) -> torch.Generator:
    """Random numbers from this seed alone; ValueError for what is no seed."""
    check_number("seed", seed, 0, whole=True)
    return torch.Generator().manual_seed(seed)


def check_probabilities(p: torch.Tensor) -> None:
    """ValueError, in one sentence, unless these are distributions (..., v): numbers from 0, not all of them 0."""
    total = p.sum(-1) if isinstance(p, torch.Tensor) and p.is_floating_point() and p.ndim else torch.zeros(1)
    if not ((total > 0) & total.isfinite()).all() or (p < 0).any():
        raise ValueError("p has NaN, infinity, numbers below 0 or a row of zeros; expected probabilities (..., v).")


def as_tensor(values: Any) -> Any:
    """A tensor of these numbers, or what came where they are none: a check then refuses it."""
    try:
        return values if isinstance(values, torch.Tensor) else torch.from_numpy(np.array(values, order="C"))
    except (TypeError, ValueError, RuntimeError):  # about names, None, or numbers of too many digits
        return values
