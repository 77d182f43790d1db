"""MAGVIT's parts switched on one at a time: the same clips, the same number of steps, two seeds, one table.

The base is a `Tokenizer` of half the default width with FSQ of 1,000 codes, trained on whole clips from the start.
Every variant changes one thing. Figures are of validation clips. Two seeds take some 25 minutes on two cores. What a
discriminator does needs more steps, and other measures: see `realism`.
"""

import dataclasses
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from studies.tokenizer_variants import VARIANTS

from trajlib.course.adversarial import perceptual_from_cnn, perceptual_from_vgg
from trajlib.data.augment import foreground_crops
from trajlib.data.clips import VideoSpec, collate, render_clip, split
from trajlib.data.measure import track_centroid
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints

PERCEPTUAL_WEIGHT = 0.1  # MAGVIT-v2's
MODELS = ("simple_3dcnn",)  # whose features the perceptual loss compares
OPTIONAL = ("perceptual_vgg",)  # downloads half a gigabyte
KEYS = ("variant", "seed")
COLUMNS = {"part": str, "variant": str, "reference": str, "seed": int, "changes": str, "steps": int}
COLUMNS |= dict.fromkeys(("parameters", "tokens", "codes"), int) | {"bits": float, "entropy_bits": float, "used": int}
# dB; px; share of frames that show the dot; share of the dot's darkness in the wrong colour; CPU seconds
FIGURES = ("psnr_blank", "psnr", "foreground_psnr", "error_median", "error_p99", "present", "colour_error")
COLUMNS |= dict.fromkeys(("perplexity", *FIGURES, "step_seconds"), float)
LAYERS = (("consecutive_residual", 1), ("compress_space", 48), ("consecutive_residual", 1), ("compress_space", 96),
          ("consecutive_residual", 2))  # fmt: skip
TINY = (("residual"), ("compress_space", 32), ("residual"), ("compress_space", 48), ("residual"))


@dataclass(frozen=True)
class Settings:
    """Sizes; `train` are arguments of `training.loop.fit`, its average reaching back as far as the recipe's."""

    steps: int = 140
    batch: int = 8
    clips: int = 128  # validation clips
    dim: int = 32
    layers: tuple = LAYERS
    chroma_weight: float = 10.0
    crop_share: float = 0.6  # of the steps, where a variant begins with crops
    train: dict = field(
        default_factory=lambda: {"lr": 1e-3, "muon": 0.02, "ema": 0.92, "weight_decay": 0.0, "bf16": True}
    )
    grid: dict = field(default_factory=lambda: {"seeds": (0, 1), "variants": tuple(VARIANTS)})

    @property
    def tokenizer(self) -> dict[str, Any]:
        """Arguments of the base."""
        return {"dim": self.dim, "layers": self.layers}


FULL = Settings()
SMOKE = Settings(
    steps=2, batch=2, clips=4, dim=16, layers=TINY, grid={"seeds": (0,), "variants": ("base", "lfq_2x512")}
)  # fmt: skip


def jobs(settings):
    """One seed after the other: a study that is stopped half-way has each variant once."""
    names, base = settings.grid["variants"], settings.tokenizer
    return [
        {"part": VARIANTS[name].part, "variant": name, "reference": VARIANTS[name].reference, "seed": seed,
         "changes": changes(VARIANTS[name], base)}
        for seed in settings.grid["seeds"] for name in names
    ]  # fmt: skip


def changes(variant, base):
    """What sets the variant apart from the base, in JSON."""
    facts = {name: getattr(variant, name) for name in ("loss", "train", "perceptual", "crops", "anneal")}
    facts |= {name: getattr(getattr(variant, name), "__name__", "") for name in ("alter", "condition")}
    return json.dumps(variant.tokenizer(base) | {name: value for name, value in facts.items() if value})


# ---- one run ----


def run(job, context):
    """The figures of a trained tokenizer, or the library's error where it cannot run the variant."""
    variant, settings = VARIANTS[job["variant"]], context.settings
    torch.manual_seed(job["seed"])
    try:
        model = build(variant, settings)
        model, seconds = train(model, variant, job["seed"], context)
    except TypeError as error:
        if not variant.raises:
            raise
        return {"steps": settings.steps, "status": " ".join(f"TypeError: {error}".split())[:100]}
    clips = clips_of("validation", range(settings.clips), model.spec.frames)
    row = {"steps": settings.steps, "examples": settings.steps * settings.batch, "step_seconds": seconds}
    return row | measure(model, variant, clips)


def build(variant, settings):
    """The untrained tokenizer of a variant."""
    model = Tokenizer(**settings.tokenizer | variant.tokenizer(settings.tokenizer))
    if variant.alter:
        variant.alter(model)
    if variant.anneal:
        model.quantizer.anneal_steps = settings.steps // 2
    return model


def clips_of(name, indices, frames=16):
    """A `Batch` of clips of a split; with another number of frames, the same motions at other times."""
    data = split(name)
    return data.batch(indices) if frames == 16 else collate([resampled(data.track(i), frames) for i in indices])


def resampled(track, frames):
    """The clip of the same motion and camera at so many evenly spaced times."""
    camera, params = track.params.camera, track.params
    path3d = params.motion.at(np.linspace(0, 1, frames))
    path, depth = camera.project(path3d)
    radius = camera.apparent_radius(params.dot_radius, depth)
    track = dataclasses.replace(track, path=path, radius=radius, path3d=path3d)
    return render_clip(track, spec=VideoSpec(frames=frames))


def conditions(variant, labels):
    """{"cond": (b, 4)} for a variant with a condition."""
    return {"cond": variant.condition(labels)} if variant.condition else {}


def loss_of(variant, context):
    """loss_fn for `fit`: the squared error, and what the variant adds to it."""
    settings, features = context.settings, None
    if variant.perceptual:
        cnn = checkpoints.load("simple_3dcnn", context.artifacts)[0]
        features = perceptual_from_vgg() if variant.perceptual == "vgg" else perceptual_from_cnn(cnn)
    weights = {"chroma_weight": settings.chroma_weight} | variant.loss

    def loss_fn(model, batch):
        videos, labels = batch
        recon, _, quantizer_loss = model(videos, **conditions(variant, labels))
        loss, parts = reconstruction_loss(recon, videos, quantizer_loss, **weights)
        if features:
            loss = loss + PERCEPTUAL_WEIGHT * features(videos, recon)
        return loss, parts

    return loss_fn


def train(model, variant, seed, context):
    """The trained tokenizer, and the median CPU seconds of a step, its clips' rendering included.

    Each clip is seen once; all variants of a seed see the same ones.
    """
    settings, marks = context.settings, []
    size, steps = settings.batch, settings.steps

    def batch(step):
        marks.append(time.process_time())  # of this process alone, however busy the machine is
        first = (seed * steps + step) * size
        clips = clips_of("train", range(first, first + size), model.spec.frames)
        if variant.crops and step < settings.crop_share * steps:
            crops = to_float(foreground_crops(clips.videos, torch.Generator().manual_seed(step)))
            return [crops, clips.labels.repeat_interleave(len(crops) // size)]
        return [to_float(clips.videos), clips.labels]

    options = settings.train | variant.train | {"steps": steps, "seed": seed, "log_lines": 0}
    trained, _ = fit(model, loss_of(variant, context), batch, **options)
    return trained, float(np.median(np.diff([*marks, time.process_time()])))


def distortion(recon, videos, paths):
    """Of each clip (b,) or frame (b, t): dB of videos against the true ones; px to the true dot; whether it shows."""
    positions, intensity = track_centroid(recon)
    error = (positions - paths).norm(dim=-1).nan_to_num(64.0)  # no dot: as far off as the picture is wide
    ratio = intensity / track_centroid(videos)[1]
    return {
        "psnr": metrics.psnr(videos, recon),
        "foreground_psnr": metrics.foreground_psnr(videos, recon),
        "psnr_blank": metrics.psnr(videos, torch.ones_like(videos)),
        "error": error,
        "present": ((ratio > 0.5) & (ratio < 2) & (error < 3)).float(),
        "colour_error": metrics.colour_error(videos, recon),
    }


def measure(model, variant, clips, size=32):
    """Every figure of a tokenizer on a `Batch` of clips, {column: number}."""
    parts, tokens = [], []
    for first in range(0, len(clips), size):
        some = clips[first : first + size]
        videos, cond = to_float(some.videos), conditions(variant, some.labels)
        tokens.append(model.encode(videos, **cond))
        parts.append(distortion(model.decode(tokens[-1], **cond), videos, some.paths))
    found = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    error, num_codebooks = found.pop("error"), model.num_codebooks
    codes, count, tokens = model.codebook_size**num_codebooks, math.prod(model.grid), torch.cat(tokens)
    whole = tokens if num_codebooks == 1 else (tokens * model.codebook_size ** torch.arange(num_codebooks)).sum(-1)
    usage = metrics.codebook_usage(whole, codes)
    row = {"parameters": sum(weights.numel() for weights in model.parameters()), "tokens": count, "codes": codes}
    row |= {"bits": count * math.log2(codes), "entropy_bits": count * usage.entropy}
    row |= {"used": usage.used, "perplexity": usage.perplexity, "error_median": error.median().item()}
    row |= {"error_p99": error.flatten().quantile(0.99).item()}
    return row | {key: value.nanmean().item() for key, value in found.items()}


# ---- reading the table ----


def gains(frame: pd.DataFrame, column: str = "psnr") -> pd.DataFrame:
    """Each run's gain over the reference variant of the same seed: columns variant, reference, seed, gain."""
    runs = frame[frame["status"] == "ok"].set_index(["variant", "seed"])[column]
    rows = frame[(frame["status"] == "ok") & (frame["variant"] != "base")]
    rows = rows[[pair in runs.index for pair in zip(rows["reference"], rows["seed"], strict=True)]]
    there = runs.loc[list(zip(rows["reference"], rows["seed"], strict=True))].to_numpy()
    return rows[["variant", "reference", "seed"]].assign(gain=rows[column].to_numpy() - there)
