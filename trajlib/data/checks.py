"""What models are given: a ValueError says what came, what was expected and what to do."""

from collections.abc import Sequence
from typing import Any

import torch

from trajlib.data.spec import VideoSpec
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
        raise ValueError(
            f"videos came with shape {tuple(videos.shape)}; expected (b, {', '.join(map(str, spec.shape))}): "
            "batch, RGB, frames, height, width."
        )
    if not videos.isfinite().all():
        raise ValueError("videos contain NaN or infinity; expected finite values in [0, 1].")
    if videos.numel() and (videos.min() < -1e-3 or videos.max() > 1 + 1e-3):
        raise ValueError(
            f"videos run from {videos.min():.3g} to {videos.max():.3g}; expected [0, 1]: divide 0..255 pixels by 255."
        )


def check_pixels(*videos: Any, dims: Sequence[int] = (5,)) -> None:
    """ValueError unless these are float tensors of one shape (b, 3, t, h, w), with clips in them, in about [0, 1].

    `dims`: how many dimensions they may have.
    """
    for one in videos:
        is_tensor = isinstance(one, torch.Tensor)
        if not is_tensor or not one.is_floating_point() or one.ndim not in dims or not one.numel() or one.is_meta:
            came = f"{one.dtype} {tuple(one.shape)}" if is_tensor else type(one).__name__
            raise ValueError(f"videos came as {came}; expected a float tensor (b, 3, frames, height, width) in [0, 1].")
        if one.shape != videos[0].shape:
            raise ValueError(f"videos of {tuple(videos[0].shape)} and {tuple(one.shape)} came; expected one shape.")
        low, high = one.aminmax()
        if not (low >= -0.5 and high <= 1.5):  # NaN is neither
            raise ValueError(f"videos run from {low:.3g} to {high:.3g}; expected [0, 1]: divide 0..255 pixels by 255.")


def check_tokens(tokens: Any, shape: Sequence[int], codebook_size: int) -> None:
    """ValueError, in one sentence, unless these are indices (b, *shape) into a codebook, in a tensor."""
    is_tensor = isinstance(tokens, torch.Tensor)
    if not is_tensor or tokens.dtype not in INDEX_DTYPES or tuple(tokens.shape[1:]) != tuple(shape):
        came = f"{tokens.dtype} {tuple(tokens.shape)}" if is_tensor else type(tokens).__name__
        expected = ", ".join(map(str, ("b", *shape)))
        raise ValueError(f"tokens came as {came}; expected int64 ({expected}) in a torch tensor.")
    if tokens.numel() and (tokens.min() < 0 or tokens.max() >= codebook_size):
        raise ValueError(
            f"tokens run from {tokens.min()} to {tokens.max()}; this codebook has 0 .. {codebook_size - 1}."
        )


def check_labels(labels: Any, num_classes: int = len(FAMILIES), names: Sequence[str] = FAMILIES) -> torch.Tensor:
    """Class indices as an int64 tensor (b,), or a ValueError that says what they must be."""
    known = ", ".join(f"{i} {name}" for i, name in enumerate(names)) if len(names) == num_classes else ""
    known = known or f"0 .. {num_classes - 1}"
    try:
        labels = torch.as_tensor(labels)
        came = f"{labels.dtype} {tuple(labels.shape)}"
    except (TypeError, ValueError, RuntimeError):  # torch's, about names, None, or numbers of too many digits
        labels, came = torch.empty(0), type(labels).__name__
    if labels.ndim != 1 or labels.dtype not in INDEX_DTYPES or labels.numel() == 0:
        raise ValueError(f"labels came as {came}; expected whole numbers of shape (b,), int64: {known}.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; the classes are {known}.")
    return labels.long()
