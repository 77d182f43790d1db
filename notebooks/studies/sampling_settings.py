"""How the settings of parallel decoding change generated clips: one setting at a time, the others as they are.

Scored by the share of clips with one whole dot, the share whose dot follows the equation of its class, and the variety
of their paths. Seeds are used for nothing else. Some five minutes on two cores.
"""

import functools
import math
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.samples import check_physics, track_video
from trajlib.generation import joint_sampling, sampling
from trajlib.generation.joint_sampling import generate
from trajlib.generation.masks import mask_ratio
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints

DEFAULTS = {  # what `generate` does: the one with trajectory tokens, and the plain masked transformer
    "transformer": {"steps": 12, "guidance": joint_sampling.GUIDANCE, "resampling_steps": 16,
                    "temperature": joint_sampling.VIDEO_TEMPERATURE},
    "plain_transformer": {"steps": 12, "guidance": sampling.GUIDANCE, "temperature": 1.0,
                          "resampling_steps": sampling.RESAMPLING_STEPS,
                          "resample_temperature": sampling.RESAMPLE_TEMPERATURE, "order": "halton",
                          "choice_temperature": 4.5, "schedule": "cosine"},
}  # fmt: skip
SCHEDULES = {
    "cosine": mask_ratio,
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
    "root": lambda r: 1 - math.sqrt(r),
}
# with resampling, its last steps hide most of what these settings do
WITHOUT_RESAMPLING = ("order", "choice_temperature", "schedule")
GRID = {
    "transformer": {
        "steps": (1, 4, 32), "guidance": (0.0, 2.0, 3.0), "resampling_steps": (0, 8, 32),
        "temperature": (0.3, 0.7, 1.0),
    },
    "plain_transformer": {
        "guidance": (0.0, 3.0), "resampling_steps": (0,), "order": ("confidence",), "choice_temperature": (0.0, 20.0),
        "schedule": ("linear", "square", "root"),
    },
}  # fmt: skip
MODELS = ("tokenizer", *DEFAULTS)
KEYS = ("model", "parameter", "value", "seed")
# shares of clips and Wilson's 95 % intervals: class-consistent; one whole dot. Variety: the mean distance between the
# paths of clips with one dot, over that of real clips. CPU seconds a clip
COLUMNS = {"model": str, "parameter": str, "value": str, "seed": int} | dict.fromkeys(
    ("consistent", "consistent_low", "consistent_high", "one_dot", "one_dot_low", "one_dot_high", "variety",
     "clip_seconds"), float,
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    clips: int = 200  # generated for each setting, a quarter of each class
    validation_clips: int = 128  # real clips: what is normal, and how exactly dots are tracked
    grid: dict = field(default_factory=lambda: {"seeds": (0,), "models": GRID})


SMALL = {"transformer": {"guidance": (0.0,)}, "plain_transformer": {"order": ("confidence",)}}
FULL, SMOKE = Settings(), Settings(clips=4, validation_clips=16, grid={"seeds": (0,), "models": SMALL})


def jobs(settings):
    """The defaults of each model, then each of its settings."""
    found = []
    for seed in settings.grid["seeds"]:
        for model, grid in settings.grid["models"].items():
            pairs = [("default", "default"), *((name, str(value)) for name, some in grid.items() for value in some)]
            found += [{"model": model, "parameter": name, "value": value, "seed": seed} for name, value in pairs]
    return found


def choices(job):
    """The keyword arguments of `generate`."""
    name, found = job["parameter"], dict(DEFAULTS[job["model"]])
    if name != "default":
        found[name] = type(found[name])(job["value"])
    if name in WITHOUT_RESAMPLING:
        found["resampling_steps"] = 0
    if name == "choice_temperature":
        found["order"] = "confidence"
    if job["model"] == "transformer":
        return found
    return found | {"schedule": SCHEDULES[found["schedule"]]}


@functools.lru_cache(maxsize=1)
def real(context):
    """Of real validation clips: `TrackStats`, and how far off dots are in their reconstructions, px."""
    tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]
    clips = split("validation").batch(range(context.settings.validation_clips))
    videos = to_float(clips.videos)
    with bf16_autocast():
        found = track_video(tokenizer.reconstruct(videos))
    error = (torch.from_numpy(found.path) - clips.paths).norm(dim=-1)
    return track_video(videos), float(error.nanmedian().nan_to_num(1.0))


def variety(paths):
    """Mean distance between paths (n, t, 2), root mean square over the frames, px; 0 for fewer than two."""
    return pdist(paths.reshape(len(paths), -1)).mean() / math.sqrt(paths.shape[1]) if len(paths) > 1 else 0.0


def run(job, context):
    """Generate clips with one setting, and check them."""
    tokenizer, transformer = (checkpoints.load(name, context.artifacts)[0] for name in ("tokenizer", job["model"]))
    labels, kwargs = torch.arange(context.settings.clips) % 4, choices(job)
    began, first_seed = time.process_time(), 100_000 + 1000 * job["seed"]
    with bf16_autocast():
        parts = [generate(transformer, x, seed=first_seed + k, **kwargs) for k, x in enumerate(labels.split(50))]
        seconds = time.process_time() - began
        stats = track_video(tokenizer.decode(torch.cat(parts)))
    normal, noise = real(context)
    checked, n = check_physics(stats, normal, noise), len(labels)
    row = {"examples": n, "clip_seconds": seconds / n}
    row["variety"] = variety(stats.path[checked.one_dot]) / variety(normal.path)
    for name, hits in {"consistent": checked.best == labels.numpy(), "one_dot": checked.one_dot}.items():
        low, high = metrics.wilson(hits.sum(), n)
        row |= {name: float(np.mean(hits)), f"{name}_low": low, f"{name}_high": high}
    return row


def sweep(frame: pd.DataFrame, model: str, parameter: str) -> pd.DataFrame:
    """A model's rows of one parameter with its default value among them, by value; seed by seed."""
    frame, default = frame[frame["model"] == model], DEFAULTS[model][parameter]
    name, value = ("resampling_steps", "0") if parameter in WITHOUT_RESAMPLING else ("default", "default")
    if parameter == "choice_temperature":
        name, value = "order", "confidence"
    base = frame[(frame["parameter"] == name) & (frame["value"] == value)].assign(value=str(default))
    rows = pd.concat([base, frame[frame["parameter"] == parameter]])
    if isinstance(default, str):
        return rows
    return rows.sort_values("value", key=lambda column: column.astype(float), kind="stable")
