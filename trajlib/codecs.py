"""Real video codecs on the same clips, through PyAV: what a clip costs them in bytes, and what comes back."""

import contextlib
import io
import os
from typing import NamedTuple

import av
import numpy as np
import torch
from av.bitstream import BitStreamFilterContext

os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes its settings to stderr for each clip

# The same clip has to give the same bytes: so one thread, and two ways closed in which these encoders decide by memory
# that they never wrote (MALLOC_PERTURB_ shows it: tests/test_codecs.py). In x264 an AVX-512 routine of the macroblock
# tree does; cpu-independent=1 takes the portable one. x265 leaves the margin of a picture that is one coding block wide
# unwritten, and searches it for motion: so blocks of 32 pixels, since one of 64 is the whole frame.
X264 = {"preset": "veryslow", "threads": "1", "x264-params": "cpu-independent=1"}
X265 = {"preset": "slow", "x265-params": "info=0:log-level=none:pools=none:frame-threads=1:ctu=32"}
# the encoder, its pixel format, its container, its settings. Colour is kept at full resolution where the encoder can:
# a dot of 3 pixels suffers when it is halved.
CODECS = {
    "x264": ("libx264", "yuv444p", "mp4", X264),
    "x265": ("libx265", "yuv444p", "mp4", X265),
    "SVT-AV1": ("libsvtav1", "yuv420p", "mp4", {"preset": "4", "svtav1-params": "lp=1"}),
    "VP9": ("libvpx-vp9", "yuv444p", "webm", {"deadline": "good", "cpu-used": "1", "b": "0", "threads": "1"}),
}
LOSSLESS = ("libx264rgb", "rgb24", "mp4", X264)


class Compressed(NamedTuple):
    """What came back, (3, t, h, w) uint8; bytes of the coded frames; of the headers beside them; of the whole file."""

    video: torch.Tensor
    payload: int
    header: int
    file: int


@contextlib.contextmanager
def priority_kept():
    """SVT-AV1 makes a root's process a real-time one (SCHED_FIFO, priority 99), and so everything that it starts later:
    two threads that wait for a third by spinning then hold both cores for good."""
    if not hasattr(os, "sched_getscheduler"):  # not on Linux
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def compress(video, codec, crf, fps=8):
    """A clip (3, t, h, w) uint8 through a codec and back: `Compressed`.

    `codec` is a key of `CODECS`, or "lossless"; `crf` is its quality, 0 the best, 51 (x264, x265) or 63 the worst.
    ValueError for an unknown codec or a clip of another type.
    """
    if codec != "lossless" and codec not in CODECS:
        raise ValueError(f"codec came as {codec!r}; expected one of {', '.join(CODECS)} or lossless.")
    if video.dtype != torch.uint8 or video.ndim != 4 or video.shape[0] != 3:
        raise ValueError(f"the clip came as {video.dtype} {tuple(video.shape)}; expected uint8 (3, t, h, w).")
    encoder, pixels, container, options = LOSSLESS if codec == "lossless" else CODECS[codec]
    frames = video.permute(1, 2, 3, 0).contiguous().numpy()  # (t, h, w, 3)
    buffer, payload = io.BytesIO(), 0
    with priority_kept(), av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(encoder, rate=fps, options=options | {"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        # x264 spends some 600 bytes of the first frame on a text about itself, which no decoder needs
        trim = BitStreamFilterContext("filter_units=remove_types=6", stream) if encoder == "libx264" else None
        for frame in [*(av.VideoFrame.from_ndarray(f, format="rgb24") for f in frames), None]:
            for packet in stream.encode(frame):
                for part in trim.filter(packet) if trim else [packet]:
                    payload += part.size
                    file.mux(part)
        header = len(stream.codec_context.extradata or b"")
    size = len(buffer.getvalue())
    buffer.seek(0)
    with av.open(buffer) as file:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    return Compressed(torch.from_numpy(decoded).permute(3, 0, 1, 2), payload, header, size)
