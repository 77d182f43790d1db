"""Videos as tensors and as files: scaling to [0, 1], and MP4."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from trajlib.data.spec import check_number


def to_float(videos: torch.Tensor | np.ndarray) -> torch.Tensor:
    """uint8 0..255, of any shape, -> float32 tensor in [0, 1]: what the models take. ValueError for another type."""
    came = getattr(videos, "dtype", type(videos).__name__)
    if came not in (torch.uint8, np.uint8):
        raise ValueError(f"videos came as {came}; uint8 in 0..255 was expected: floats in [0, 1] need no scaling.")
    return (videos if isinstance(videos, torch.Tensor) else torch.tensor(videos)).float() / 255


def as_uint8(video: np.ndarray) -> np.ndarray:
    """uint8, or float in [0, 1], -> uint8 in 0..255, of any shape; NaN is drawn black. ValueError for anything else."""
    video = np.asarray(video)
    if video.dtype == np.uint8:
        return video
    if video.dtype.kind != "f" or (video.size and not (np.nanmin(video) >= -0.5 and np.nanmax(video) <= 1.5)):
        raise ValueError(f"a video of {video.dtype} came; expected uint8 in 0..255, or floats in [0, 1].")
    return np.rint(np.clip(np.nan_to_num(video), 0, 1) * 255).astype(np.uint8)


def write_mp4(video: ArrayLike, file: str | Path, scale: int = 4, fps: float = 8) -> None:
    """Write (3, t, h, w) uint8, or float in [0, 1], as H.264 that every browser plays.

    An odd width or height gets one more column or row, a copy of the last: such pictures cannot be stored.
    """
    import av

    video = np.asarray(video)
    check_number("scale", scale, 1, 64, whole=True)
    check_number("fps", fps, 0.1, 1000)
    if video.ndim != 4 or video.shape[0] != 3 or not video.size:
        raise ValueError(f"a video of shape {video.shape} came; expected (3, frames, height, width).")
    frames = as_uint8(video).transpose(1, 2, 3, 0).repeat(scale, 1).repeat(scale, 2)  # pixels stay square
    frames = np.pad(frames, ((0, 0), *((0, n % 2) for n in frames.shape[1:3]), (0, 0)), mode="edge")
    with av.open(str(file), "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1001)  # 29.97 has a fraction of 2^48, which no encoder takes
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
