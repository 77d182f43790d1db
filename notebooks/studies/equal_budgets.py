"""Generators trained on equal budgets: the same clips, as many examples, the same width and depth; three seeds each.

Part "clips": transformers of one size over the tokens of the same 4,000 clips. "plain" is MAGVIT's masked transformer,
given the class; "autoregressive" the AR baseline; "joint" has trajectory tokens, of these clips alone; "joint, more
tracks" draws its trajectories from 60,000 tracks, which need no pixels. `examples` are clips seen; the joint
transformer also sees two trajectories for each, and `seconds` says what that costs. All sample with their defaults.
The short trainings have one seed.

Part "trajectories": the joint transformer's trajectory part alone, half as wide, on the same tracks, at temperature 1
and without guidance. Its tokens are the 22 of the course; or 48, all frequencies of x, y and radius: coarse to fine,
fine to coarse, or in place of frequencies one token per frame and axis. "linear-Gaussian" has no network.
"""

import functools
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from studies.likelihoods import batches, trajectory_bits, video_bits
from studies.linear_gaussian import LinearGaussian
from studies.sealed import student_half

from trajlib.data.clips import split
from trajlib.data.measure import measure_dot
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics, physics
from trajlib.evaluate.samples import check_physics, track_video
from trajlib.generation.autoregressive import (
    AutoregressiveTransformer,
    autoregressive_loss,
    clip_bits,
    generate_autoregressive,
)
from trajlib.generation.joint import JointTransformer, trajectory_loss, video_loss
from trajlib.generation.joint_sampling import generate, sample_trajectories
from trajlib.generation.tasks import TASK_NUMBERS
from trajlib.generation.trajectory_tokens import augment_trajectories
from trajlib.generation.transformer import MaskedTransformer, commit_loss, drop_labels
from trajlib.training.loop import fit
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints
from trajlib.zoo.batches import encode
from trajlib.zoo.config import RECIPES
from trajlib.zoo.joint_recipe import track_pool

BATCH = 50
JOINT, MORE = "joint", "joint, more tracks"
CLIPS = ("plain", "autoregressive", JOINT, MORE)
CODES = {  # counts of frequencies of x, y and radius; what becomes of the cosine transform
    "22 tokens, coarse to fine": ((9, 9, 4), lambda waves: waves),
    "48 tokens, coarse to fine": ((16, 16, 16), lambda waves: waves),
    "48 tokens, fine to coarse": ((16, 16, 16), lambda waves: waves.flip(0)),
    "48 tokens, one per frame": ((16, 16, 16), lambda waves: torch.eye(len(waves))),
}
SMALL = {"dim": 64, "depth": 3, "heads": 2}  # the model of the second part
GAUSSIAN = "linear-Gaussian"
ROUNDING = 0.1  # px: what rounding to 256 levels moves a dot; the fits allow for it
MODELS = ("tokenizer",)
KEYS = ("part", "method", "steps", "seed")
COLUMNS = {"part": str, "method": str, "steps": int, "seed": int, "parameters": int, "seconds": float}
COLUMNS |= {"metric": str, "value": float, "low": float, "high": float, "n": int}


@dataclass(frozen=True)
class Settings:
    clips: int = 4000  # of the training, whose tokens all models see
    tracks: int = 60_000  # of the training
    batch: int = 32  # clips a step, and twice as many trajectories
    new: int = 200  # validation clips, whose bits are counted
    samples: int = 160  # a quarter of each class
    trajectories: int = 1000  # samples and validation tracks of the second part
    groups: int = 16  # see `video_bits`
    model: dict = field(default_factory=lambda: {"dim": 128, "depth": 4, "heads": 4})
    grid: dict = field(default_factory=lambda: {"seeds": (0, 1, 2), "clips": (80, 240), "trajectories": 400})


FULL = Settings()
SMOKE = Settings(16, 48, 4, 4, 4, 8, 2, {"dim": 32, "depth": 1, "heads": 2},
                 {"seeds": (0,), "clips": (2,), "trajectories": 2})  # fmt: skip


def jobs(settings):
    grid = settings.grid
    clips = [{"part": "clips", "method": method, "steps": steps} for steps in grid["clips"] for method in CLIPS]
    paths = [{"part": "trajectories", "method": code, "steps": grid["trajectories"]} for code in CODES]
    paths.append({"part": "trajectories", "method": GAUSSIAN, "steps": 0})
    long = [job for job in clips if job["steps"] == max(grid["clips"]) and job["method"] != MORE]
    short = [job for job in clips if job["steps"] == min(grid["clips"])]  # one seed
    found = [job | {"seed": seed} for seed in grid["seeds"] for job in paths + long]
    return found + [job | {"seed": 0} for job in short if job | {"seed": 0} not in found]


# ---- what all jobs share ----


def prepare(context):
    known(context), new(context)


@functools.lru_cache(maxsize=1)
def known(context):
    """Of training clips tokens, labels and trajectories; of training tracks trajectories and labels."""
    data, settings = split("train"), context.settings
    tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]

    def make():
        def examples(videos, indices):
            with bf16_autocast():
                return [tokenizer.encode(videos), data.labels(indices), measure_dot(videos)]

        clips = dict(zip(("tokens", "labels", "trajectories"), encode(data, settings.clips, examples), strict=True))
        tracks = dict(zip(("tracks", "track labels"), track_pool(data, settings.tracks), strict=False))
        return clips | tracks

    return context.cached("known", make)


@functools.lru_cache(maxsize=1)
def new(context):
    """Of validation clips tokens, labels, trajectories; `TrackStats`; px that dots are off after the tokenizer."""
    tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]
    clips = split("validation").batch(range(context.settings.new))
    videos = to_float(clips.videos)
    with bf16_autocast():
        tokens = torch.cat([tokenizer.encode(part) for part in videos.split(BATCH)])
        decoded = track_video(torch.cat([tokenizer.decode(part) for part in tokens.split(BATCH)]))
    noise = float(np.nanmedian(np.linalg.norm(decoded.path - clips.paths.numpy(), axis=-1)))
    return tokens, clips.labels, measure_dot(videos), track_video(videos), noise


def row_of(job, net, seconds, metric, values, examples):
    """A row: the mean of the values, Wilson's interval if they are hits, else the bootstrap's."""
    values = np.asarray(values)
    hits = values.dtype == bool
    low, high = metrics.wilson(values.sum(), len(values)) if hits else metrics.mean_interval(values)
    size = 0 if net is None else sum(p.numel() for p in net.parameters())
    return job | {"parameters": size, "seconds": seconds, "metric": metric, "value": float(values.mean()),
                  "low": low, "high": high, "n": len(values), "examples": examples}  # fmt: skip


def trained(net, loss_fn, batch, job, context):
    """The averaged model, and the CPU seconds of its training."""
    train, began = RECIPES["full"].transformer.train.shortened(job["steps"]), time.process_time()
    net, _ = fit(net, lambda model, parts: loss_fn(model, *parts), batch, **train.options, seed=job["seed"])
    return net, time.process_time() - began


def run(job, context):
    return (of_clips if job["part"] == "clips" else of_trajectories)(job, context)


# ---- generators of clips ----


def of_clips(job, context):
    settings, pool, method = context.settings, known(context), job["method"]
    tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]
    given = (tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels, 4)
    torch.manual_seed(job["seed"])
    cls = {"plain": MaskedTransformer, "autoregressive": AutoregressiveTransformer}.get(method, JointTransformer)
    net = cls(*given, **settings.model)
    net.init_output_bias(pool["tokens"])
    names = ("tracks", "track labels") if method == MORE else ("trajectories", "labels")
    tracks, track_labels = (pool[name] for name in names)
    if cls is JointTransformer:
        net.trajectory.fit(augment_trajectories(tracks, net.spec.size))

    def batch(step):
        rows = torch.randint(len(pool["tokens"]), (settings.batch,))
        found = [pool[name][rows] for name in ("tokens", "labels", "trajectories")]
        if cls is JointTransformer:
            rows = torch.randint(len(tracks), (2 * settings.batch,))
            some = augment_trajectories(tracks[rows], net.spec.size)
            found += [some, drop_labels(track_labels[rows], net.unconditional)]
        return found

    net, seconds = trained(net, {"plain": plain, "autoregressive": ar}.get(method, joint), batch, job, context)
    tokens, labels, dots, normal, noise = new(context)
    order = torch.randperm(tokens[0].numel(), generator=torch.Generator().manual_seed(0))
    if method == "autoregressive":
        bits, sample = batches(lambda x, y: clip_bits(net, x, y), tokens, labels), generate_autoregressive
    else:
        sample = generate
        bits = batches(lambda *x: video_bits(net, *x, order, settings.groups), tokens.flatten(1), dots, labels)
    if cls is JointTransformer:
        bits = bits + batches(lambda *x: trajectory_bits(net, *x), dots, labels)
    asked = torch.arange(settings.samples) % 4
    with bf16_autocast():
        parts = [sample(net, some, seed=100 * job["seed"] + k) for k, some in enumerate(asked.split(BATCH))]
        stats = track_video(torch.cat([tokenizer.decode(part) for part in parts]))
    checked = check_physics(stats, normal, noise)
    found = {"class consistency": checked.best == asked.numpy(), "one dot": checked.one_dot, "bits a clip": bits}
    examples = job["steps"] * settings.batch
    return [row_of(job, net, seconds, metric, values, examples) for metric, values in found.items()]


def plain(net, tokens, labels, _):
    """Of the class-conditional task alone: nothing is observed."""
    nothing, task = torch.zeros_like(tokens, dtype=torch.bool), torch.full_like(labels, TASK_NUMBERS["CG"])
    return commit_loss(net, tokens, labels, task, tokens, nothing, parts=("mask",))


def ar(net, tokens, labels, _):
    return autoregressive_loss(net, tokens, labels)


def joint(net, tokens, _, dots, tracks, labels):
    """Trajectories given the class, and video given the trajectory."""
    task = torch.full_like(labels, TASK_NUMBERS["CG"])
    trajectory, bits = trajectory_loss(net, tracks, labels, task)
    return trajectory + video_loss(net, tokens, dots, task[: len(tokens)])[0], {"trajectory": bits}


# ---- generators of trajectories ----


def of_trajectories(job, context):
    settings, pool = context.settings, known(context)
    tracks, labels, n = pool["tracks"], pool["track labels"], settings.trajectories
    asked = torch.arange(n) % 4
    if job["method"] == GAUSSIAN:
        net, seconds, rng, size = None, 0.0, np.random.default_rng(job["seed"]), split("train").spec.size
        classes = [LinearGaussian(tracks[labels == k]) for k in range(4)]
        found = torch.stack([classes[k].sample(1, size, rng)[0] for k in asked.tolist()])
        examples, values = len(tracks), {}
    else:
        net, seconds = trajectory_model(job, context)
        with torch.no_grad():
            found = sample_trajectories(net, asked, guidance=1.0, temperature=(1.0,), seed=job["seed"])
        fresh, own, _ = track_pool(split("validation"), n)
        examples, values = 2 * settings.batch * job["steps"], {}
        values["bits a trajectory"] = batches(lambda *x: trajectory_bits(net, *x), fresh, own)
    path, radius = found[..., :2].numpy(), found[..., 2].clip(0.5).numpy()
    hits = physics.best_family(path, radius, ROUNDING) == asked.numpy()
    values = {"class consistency": hits} | values
    return [row_of(job, net, seconds, metric, some, examples) for metric, some in values.items()]


def trajectory_model(job, context):
    """A joint transformer without video, on one code of trajectories, and its seconds."""
    settings, pool = context.settings, known(context)
    tracks, labels = pool["tracks"], pool["track labels"]
    counts, change = CODES[job["method"]]
    torch.manual_seed(job["seed"])
    net = JointTransformer(2, (8, 4, 4), num_classes=4, **SMALL, trajectory={"counts": counts})
    net.trajectory.transform.copy_(change(net.trajectory.transform))
    net.trajectory.fit(augment_trajectories(tracks, net.spec.size))

    def batch(step):
        rows = torch.randint(len(tracks), (2 * settings.batch,))
        return [augment_trajectories(tracks[rows], net.spec.size), drop_labels(labels[rows], net.unconditional)]

    def loss(model, some, classes):
        value, bits = trajectory_loss(model, some, classes, torch.full_like(classes, TASK_NUMBERS["CG"]))
        return value, {"bits": bits}

    return trained(net, loss, batch, job, context)


# ---- reading the table ----


def over_seeds(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """For each part, method and number of steps: mean over the seeds, 95 % interval, examples and seconds.

    The interval covers both the seeds (Student's t) and the clips or samples of a run.
    """
    found = []
    for key, rows in frame[frame["metric"] == metric].groupby(["part", "method", "steps"], sort=False):
        k, values = len(rows), rows["value"].to_numpy()
        clips = ((rows["high"] - rows["low"]) / 2).mean() / np.sqrt(k)
        half = float(np.hypot(clips, student_half(values)))
        found.append((*key, values.mean(), values.mean() - half, values.mean() + half, k,
                      rows["examples"].iloc[0], rows["seconds"].mean()))  # fmt: skip
    return pd.DataFrame(
        found, columns=["part", "method", "steps", "value", "low", "high", "seeds", "examples", "seconds"]
    )
