"""How probable models find real clips: clips of the training and new ones, with the right class and with a wrong one.

Bits, the negative log2 of a probability. "bits a trajectory": the trajectory tokens, each given the coarser ones.
"bits a masked token": video tokens in masks as training draws them, the same masks for all; given the trajectory
(joint) or the class (plain). "bits a clip": all tokens. The autoregressive model gives it exactly; a masked model's is
an upper bound, the video unmasked in random groups one after another, and the joint model's includes the trajectory's.

"wrong class": how much more a clip costs on average over the other classes. "classifier": the share of clips whose own
class costs least, by trajectory tokens (joint), masked tokens (plain) or all tokens (autoregressive).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from studies.generation import count_examples
from torch import Tensor
from torch.nn import functional as F

from trajlib.data.clips import split
from trajlib.data.measure import measure_dot
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.generation.autoregressive import clip_bits
from trajlib.generation.masks import random_masks
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints
from trajlib.zoo.joint_recipe import track_pool

BATCH = 50
NETS = {"joint": "transformer", "plain": "plain_transformer", "autoregressive": "autoregressive"}
DATA = {"training": "train", "new": "test"}  # clips -> split
MODELS = ("tokenizer", *NETS.values())
KEYS = ("model", "clips", "seed")
COLUMNS = {"model": str, "clips": str, "seed": int, "metric": str, "value": float, "low": float, "high": float,
           "n": int}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    trajectories: int = 4000
    clips: int = 500  # tokens of a clip cost more than its trajectory
    groups: int = 16  # in which a masked model's video is unmasked for "bits a clip"
    grid: dict = field(default_factory=lambda: {"seeds": (0,), "models": tuple(NETS)})


FULL, SMOKE = Settings(), Settings(16, 8, 2)


def jobs(settings):
    return [{"model": model, "clips": clips, "seed": seed}
            for seed in settings.grid["seeds"] for model in settings.grid["models"] for clips in DATA]  # fmt: skip


# ---- bits of each item, for labels (b,) ----


def cost(logits: Tensor, tokens: Tensor) -> Tensor:
    """Bits of tokens (...) under logits (..., codes)."""
    return F.cross_entropy(logits.float().flatten(0, -2), tokens.flatten(), reduction="none").view_as(
        tokens
    ) / math.log(2)


@torch.no_grad()
def trajectory_bits(net, trajectories: Tensor, labels: Tensor) -> Tensor:
    """Of trajectories (b, frames, 3) given their class, (b,)."""
    tokens = net.trajectory.encode(trajectories)
    return cost(net.trajectory_logits(tokens, labels), tokens).sum(1)


def video_logits(net, tokens: Tensor, trajectories: Tensor, labels: Tensor) -> Tensor:
    """Of all video tokens (b, n), of which some are masked: given the trajectory, or for a plain model the class."""
    if hasattr(net, "trajectory"):
        return net.video_logits(tokens, net.offsets(trajectories))
    return net(tokens, labels)


@torch.no_grad()
def masked_bits(net, tokens: Tensor, masked: Tensor, trajectories: Tensor, labels: Tensor) -> Tensor:
    """Mean bits of a masked token (b, n), masked (b, n): (b,)."""
    bits = cost(video_logits(net, tokens.masked_fill(masked, net.mask_token), trajectories, labels), tokens)
    return (bits * masked).sum(1) / masked.sum(1)


@torch.no_grad()
def video_bits(net, tokens: Tensor, trajectories: Tensor, labels: Tensor, order: Tensor, groups: int) -> Tensor:
    """Of whole clips' tokens (b, n), unmasked in `groups` parts of `order` (n,), one after another: (b,)."""
    given, total = torch.full_like(tokens, net.mask_token), torch.zeros(len(tokens))
    for part in order.chunk(groups):
        total += cost(video_logits(net, given, trajectories, labels)[:, part], tokens[:, part]).sum(1)
        given[:, part] = tokens[:, part]
    return total


def of_classes(bits: Callable[[Tensor], Tensor], labels: Tensor, classes: int) -> np.ndarray:
    """`bits(labels)` (b,) with the right class in the first column, then with the others: (b, classes)."""
    return torch.stack([bits((labels + k) % classes) for k in range(classes)], 1).float().numpy()


# ---- a job ----


def run(job, context):
    """What a model's tokens cost on clips of one split."""
    settings, data = context.settings, split(DATA[job["clips"]])
    tokenizer, (net, card) = (checkpoints.load(name, context.artifacts) for name in ("tokenizer", NETS[job["model"]]))
    tokenizer, rows, joint = tokenizer[0], [], hasattr(net, "trajectory")
    rng = torch.Generator().manual_seed(job["seed"])
    order = torch.randperm(math.prod(net.grid), generator=rng)

    def add(metric, values, interval=metrics.mean_interval):
        low, high = interval(values)
        rows.append(job | {"metric": metric, "value": float(np.mean(values)), "low": low, "high": high}
                    | {"n": len(values), "examples": count_examples(card)})  # fmt: skip

    def add_classes(name, bits):
        add(f"{name}, wrong class", bits[:, 1:].mean(1) - bits[:, 0])
        add("classifier", bits.argmin(1) == 0, lambda hits: metrics.wilson(hits.sum(), len(hits)))

    if joint:
        trajectories, labels, _ = track_pool(data, settings.trajectories)
        bits = batches(
            lambda x, y: of_classes(lambda z: trajectory_bits(net, x, z), y, net.num_classes), trajectories, labels
        )
        add("bits a trajectory", bits[:, 0])
        add_classes("bits a trajectory", bits)
    videos = [to_float(data.videos(part.tolist())) for part in torch.arange(settings.clips).split(BATCH)]
    labels = data.labels(range(settings.clips))
    dots = torch.cat([measure_dot(part) for part in videos])
    with bf16_autocast():
        tokens = torch.cat([tokenizer.encode(part) for part in videos]).flatten(1)
    if job["model"] == "autoregressive":
        grids = tokens.unflatten(1, net.grid)
        bits = batches(lambda x, y: of_classes(lambda z: clip_bits(net, x, z), y, net.num_classes), grids, labels)
        add("bits a clip", bits[:, 0])
        add_classes("bits a clip", bits)
        return rows
    masked = random_masks(*tokens.shape, generator=rng)
    if joint:
        add("bits a masked token", batches(lambda *x: masked_bits(net, *x), tokens, masked, dots, labels))
    else:
        bits = batches(
            lambda *x: of_classes(lambda z: masked_bits(net, *x[:3], z), x[3], net.num_classes),
            tokens,
            masked,
            dots,
            labels,
        )
        add("bits a masked token", bits[:, 0])
        add_classes("bits a masked token", bits)
    whole = batches(lambda *x: video_bits(net, *x, order, settings.groups), tokens, dots, labels)
    add("bits a clip", whole + batches(lambda *x: trajectory_bits(net, *x), dots, labels) if joint else whole)
    return rows


def batches(function, *tensors) -> np.ndarray:
    """`function` of the tensors, so many rows at a time, in bfloat16 where that is quick."""
    with bf16_autocast():
        parts = [function(*part) for part in zip(*(x.split(BATCH) for x in tensors), strict=True)]
    return np.concatenate([np.asarray(part) for part in parts])
