"""Rate and distortion of real video codecs, next to the tokens of the course's tokenizer, on the same test clips.

The codecs run through PyAV at several qualities. The tokens are one quality with three sizes: log2 of the codebook for
each, the entropy of single tokens, and real bytes by a range coder with the probabilities of the autoregressive model.
"""

import contextlib
import io
import os
from dataclasses import dataclass, field
from typing import NamedTuple

import av
import numpy as np
import torch
from av.bitstream import BitStreamFilterContext
from studies.bitstream import write_bytes

from trajlib.data.clips import split
from trajlib.data.measure import track_centroid
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.zoo import checkpoints
from trajlib.zoo.batches import encode_videos

os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes its settings to stderr for each clip

# The same clip has to give the same bytes: so one thread, and two ways closed in which these encoders decide by memory
# that they never wrote (MALLOC_PERTURB_ shows it: test_codecs.py). In x264 an AVX-512 routine of the macroblock tree
# does; cpu-independent=1 takes the portable one. x265 leaves the margin of a picture that is one coding block wide
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
TOKENS = ("tokens", "tokens, entropy", "tokens, range coder")
MODELS = ("tokenizer", "autoregressive")
KEYS = ("method", "quality")
# quality: the codec's crf, lower is better. Bits a clip: the coded frames with their 95 % interval, and the whole file.
# dB and its interval; median px between the dot and its true position, the size of the picture where there is no dot
COLUMNS = {"method": str, "quality": int} | dict.fromkeys(
    ("bits", "bits_low", "bits_high", "file_bits", "psnr", "psnr_low", "psnr_high", "psnr_blank", "error_median"), float
)


@dataclass(frozen=True)
class Settings:
    clips: int = 200  # test clips
    coded_clips: int = 200  # of these, those whose tokens are written as bytes
    entropy_clips: int = 1000  # test clips whose tokens are counted
    grid: dict = field(default_factory=lambda: {"h26x": (20, 30, 40, 51), "av1, vp9": (20, 40, 55, 63)})


FULL = Settings()
SMOKE = Settings(clips=2, coded_clips=1, entropy_clips=4, grid={"h26x": (40,), "av1, vp9": (55,)})


def jobs(settings):
    found = [{"method": codec, "quality": quality} for codec in CODECS
             for quality in settings.grid["h26x" if codec.startswith("x") else "av1, vp9"]]  # fmt: skip
    return found + [{"method": name, "quality": 0} for name in TOKENS]


def run(job, context):
    """Bits and quality of one codec at one quality, or of the tokens with one kind of code."""
    settings, method = context.settings, job["method"]
    clips = split("test").batch(range(settings.clips))
    if method not in TOKENS:
        coded = [compress(video, method, job["quality"]) for video in clips.videos]
        bits, files = ([8.0 * getattr(c, part) for c in coded] for part in ("payload", "file"))
        row = rate(bits, settings.clips) | {"file_bits": float(np.mean(files))}
        return row | distortion(to_float(torch.stack([c.video for c in coded])), clips)
    tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]
    tokens = tokenizer.encode(to_float(clips.videos))
    if method == "tokens, range coder":
        streams = write_bytes(checkpoints.load("autoregressive", context.artifacts)[0], tokens[: settings.coded_clips])
        row = rate([8.0 * len(stream) for stream in streams], len(streams))
    elif method == "tokens, entropy":
        counted = encode_videos(tokenizer, split("test"), settings.entropy_clips)
        bits = counted[0].numel() * metrics.codebook_usage(counted, tokenizer.codebook_size).entropy
        row = rate([bits], settings.entropy_clips)
    else:
        row = rate([tokens[0].numel() * np.log2(tokenizer.codebook_size)], settings.clips)
    return row | {"file_bits": row["bits"]} | distortion(tokenizer.decode(tokens), clips)


def rate(bits, examples):
    """{column: value} of bits a clip; the interval is that of the mean, or the value where there is but one."""
    low, high = metrics.mean_interval(bits) if len(bits) > 1 else (bits[0], bits[0])
    return {"examples": examples, "bits": float(np.mean(bits)), "bits_low": float(low), "bits_high": float(high)}


def distortion(videos, clips):
    """{column: value} of videos (n, 3, t, h, w) in [0, 1] against the true clips; 8 bits a channel, as codecs have."""
    true, videos = to_float(clips.videos), videos.mul(255).round() / 255
    error = (track_centroid(videos)[0] - clips.paths).norm(dim=-1).nan_to_num(float(true.shape[-1]))
    psnr = metrics.psnr(true, videos)
    low, high = metrics.mean_interval(psnr) if len(psnr) > 1 else (psnr.item(),) * 2
    row = {"psnr": psnr.mean().item(), "psnr_low": low, "psnr_high": high, "error_median": error.median().item()}
    return row | {"psnr_blank": metrics.psnr(true, torch.ones_like(true)).mean().item()}


# ---- the codecs ----


class Compressed(NamedTuple):
    """The decoded video, (3, t, h, w) uint8; bytes of the coded frames, of the headers, and of the whole file."""

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
