"""Tokens or pixels: every method learns the class from the same few or many labelled clips, with several seeds.

The same for all: the labelled clips of a seed, drawn from the first 6,400 of the train split (of 6,400 labels all seeds
have the same; they differ in initialization and order); the test clips, used once; as many labelled validation clips
as there are labels, 200 at most, by which a network's best check or a linear classifier's penalty is chosen. Networks
of a kind see as many clips in augmentations: any of 96 for pixels, two for tokens.

Not the same, since it is the question: what was learnt before. The tokenizer and the tracker saw the train split
without labels, and so did the two pretrained pixel networks, if fewer clips. The masked transformer saw 12,000 clips
*with* their class, as a condition: its methods are not label-efficient in the strict sense. Two pairs of a tokenizer
and a tracker of their own are the control for that, in half the width and fewer steps: one pair from the labelled
clips alone, the other from clips without labels. They are slow and run once.

Costs are of a classifier without the tokenizer, which is the same for all methods on tokens. CPU seconds of training
include rendering and the validation checks, but no pretraining. The whole takes hours.
"""

import contextlib
import copy
import functools
import io
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.base import clone
from studies import label_methods
from studies.label_methods import CLASSES, FEATURES, LINEAR, METHODS, features, inputs, maker, pretrained, videos
from studies.label_pair import Unlabelled, own_pair
from studies.sealed import student_half
from torch import nn

from trajlib.classify.readers import classification_loss
from trajlib.data.augment import NUM_AUGMENTATIONS
from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.training.loop import fit
from trajlib.training.optimizers import multiply_adds

MODELS = ("tokenizer", "token_tracker", "plain_transformer")
KEYS = ("method", "labels", "seed")
# share of `tested` test clips, and which of them are correct, as hex of packed bits; CPU seconds; CPU ms a clip
COLUMNS = {"method": str, "labels": int, "seed": int, "accuracy": float, "tested": int, "correct": str,
           "parameters": int, "multiply_adds": int, "train_seconds": float, "clip_milliseconds": float,
           "steps": int}  # fmt: skip


STEPS, BATCH = {"pixels": 300, "tokens": 1200, "backbone": 200}, {"pixels": 16, "tokens": 64, "backbone": 16}
TRAIN = {
    "plain": {"lr": 1e-3, "weight_decay": 0.0, "ema": 0.0, "bf16": False},
    "pixels": {"lr": 1e-3, "muon": 0.02, "weight_decay": 0.05, "ema": 0.98, "bf16": False},
    "tokens": {"lr": 2e-3, "muon": 0.02, "weight_decay": 0.05, "ema": 0.99, "bf16": False},
    "backbone": {"lr": 5e-4, "muon": 0.005, "weight_decay": 0.05, "ema": 0.98, "bf16": False},
}
PAIR = {"width": 0.5, "tokenizer": 1200, "tracker": 2500, "clips": 7680}
GRID = {  # number of labels: number of seeds
    "linear": {40: 5, 160: 5, 400: 5, 1600: 5, 6400: 5},
    "network": {160: 5, 1600: 3, 6400: 3, 40: 5, 400: 5},
    "pair": {160: 1},
}


@dataclass(frozen=True)
class Settings:
    """Budgets of each kind of network; `train` are arguments of `training.loop.fit`; `pair`: see `own_pair`."""

    clips: int = 6400
    validation_clips: int = 200
    test_clips: int = 2000
    augmentations: int = 2  # of each clip, that there are features of
    checks: int = 4  # on validation clips, in a training
    pretrain_steps: int = 500
    pretrain_batch: int = 16
    steps: dict = field(default_factory=lambda: STEPS)
    batch: dict = field(default_factory=lambda: BATCH)
    train: dict = field(default_factory=lambda: TRAIN)
    pair: dict = field(default_factory=lambda: PAIR)
    grid: dict = field(default_factory=lambda: GRID)


FULL = Settings()
SMOKE = Settings(
    clips=16, validation_clips=4, test_clips=12, checks=2, pretrain_steps=2, pretrain_batch=2,
    steps=dict.fromkeys(STEPS, 2), batch=dict.fromkeys(BATCH, 2),
    pair={"width": 1, "tokenizer": 2, "tracker": 2, "clips": 16},
    grid={"linear": {8: 1, 16: 1}, "network": {8: 1, 16: 1}, "pair": {8: 1}},
)  # fmt: skip


def jobs(settings):
    """Networks one seed after the other, so that a study that is stopped has each once; linear classifiers together."""
    linear = [{"method": name, "labels": labels, "seed": seed} for name, method in METHODS.items()
              for labels, seeds in settings.grid["linear"].items() for seed in range(seeds)
              if method.kind == "linear"]  # fmt: skip
    return linear + [
        {"method": name, "labels": labels, "seed": seed} for kind in ("network", "pair")
        for seed in range(max(settings.grid[kind].values())) for labels, seeds in settings.grid[kind].items()
        for name, method in METHODS.items()
        if seed < seeds and method.kind != "linear" and (kind == "pair") == (method.kind == "pair")
    ]  # fmt: skip


def prepare(context):
    """Make the features, and pretrain the networks, that the jobs need."""
    wanted = [METHODS[name] for name in dict.fromkeys(job["method"] for job in context.jobs)]
    for method in wanted:
        if method.pretrained:
            pretrained(context, method.pretrained)
        for name in label_methods.sizes(context.settings) if method.input in (*FEATURES, "permuted") else ():
            features(context, method.input, name)
    features.cache_clear()


def run(job, context):
    """Train one method with one number of labels and one seed, and test it."""
    method, settings = METHODS[job["method"]], context.settings
    chosen = labelled(settings, job["labels"], job["seed"])
    train = {"linear": by_numbers, "pair": by_pair}.get(method.kind, by_network)
    row, correct = train(method, context, chosen, job["seed"])
    return row | {"accuracy": float(correct.mean()), "tested": len(correct), "correct": pack(correct)}


def labelled(settings, labels, seed):
    """Indices (labels,) of the train clips that are labelled for a seed; those of fewer labels are among them."""
    return torch.randperm(settings.clips, generator=torch.Generator().manual_seed(seed))[:labels]


def checked(settings, labels):
    """How many validation clips may be used with so many labels."""
    return min(labels, settings.validation_clips)


def classes(index):
    """Labels of clips by their indices: they come in turn."""
    return torch.as_tensor(index) % CLASSES


# ---- networks ----


@torch.no_grad()
def predict(network, context, kind, name, n):
    """Classes (n,) of a split's first clips, and the CPU seconds of the network."""
    device, found, seconds = next(network.parameters()).device, [], 0.0
    for index in torch.arange(n).split(16):
        x = inputs(context, kind, name, index, torch.zeros_like(index)).to(device)
        began = time.process_time()
        found.append(network(x).argmax(-1).cpu())
        seconds += time.process_time() - began
    return torch.cat(found), seconds


def by_network(method, context, chosen, seed):
    """Train a network on the chosen clips: {column: value}, and which test clips it gets right."""
    settings, kind, n = context.settings, method.input, context.settings.test_clips
    steps, size, held = settings.steps[method.kind], settings.batch[method.kind], checked(settings, len(chosen))
    rng = torch.Generator().manual_seed(seed)
    passes = [torch.randperm(len(chosen), generator=rng) for _ in range(-(-steps * size // len(chosen)))]
    order = chosen[torch.cat(passes)]  # one pass after another, each in its own order
    count = NUM_AUGMENTATIONS if kind == "pixels" else settings.augmentations
    which = torch.randint(count, (steps * size,), generator=rng) * (not method.plain)
    best = {"correct": -1, "weights": None}

    def batch(step):
        part = slice(step * size, (step + 1) * size)
        return [inputs(context, kind, "train", order[part], which[part]), classes(order[part])]

    def check(step, average):
        correct = (predict(average, context, kind, "validation", held)[0] == classes(range(held))).sum().item()
        if correct >= best["correct"]:  # of equals the last
            best.update(correct=correct, weights=copy.deepcopy(average.state_dict()))

    options = settings.train["plain" if method.plain else method.kind] | {"steps": steps, "log_lines": settings.checks}
    torch.manual_seed(seed)
    network, began = method.build(context), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        network, _ = fit(network, lambda m, b: classification_loss(m, *b), batch, seed=seed, **options,
                         callback=None if method.plain else check)  # fmt: skip
    seconds = time.process_time() - began
    if best["weights"]:
        network.load_state_dict(best["weights"])
    answers, reading = predict(network, context, kind, "test", n)
    one = inputs(context, kind, "test", torch.arange(1), torch.zeros(1, dtype=torch.long))
    row = {"parameters": sum(w.numel() for w in network.parameters())}
    row |= {"multiply_adds": multiply_adds(lambda: network(one)), "train_seconds": seconds, "steps": steps}
    row |= {"clip_milliseconds": 1000 * reading / n, "examples": steps * size}
    return row, (answers == classes(range(n))).numpy()


# ---- linear classifiers ----


@functools.lru_cache(maxsize=3)
def numbers(name, context, part):
    """What the method makes of each clip in each augmentation: (n * augmentations, d), those of a clip together."""
    found = features(context, METHODS[name].input, part).flatten(0, 1)
    return METHODS[name].build(context, found.long() if found.dtype == torch.int16 else found)


def by_numbers(method, context, chosen, seed):
    """The same as `by_network` for a linear classifier, to which each augmentation of a clip is an example."""
    settings, name = context.settings, next(key for key, value in METHODS.items() if value is method)
    held, count = checked(settings, len(chosen)), settings.augmentations
    x, validation, test = (numbers(name, context, part) for part in ("train", "validation", "test"))
    began = time.process_time()
    rows = (chosen[:, None] * count + torch.arange(count)).flatten().numpy()
    best = best_linear(method, x[rows], classes(chosen).repeat_interleave(count), validation[:held])
    seconds = time.process_time() - began
    index = torch.arange(min(50, settings.test_clips))
    make, network = (nn.Identity(), None) if method.input == "tokens" else maker(context, method.input)
    source = "tokens" if method.input == "tokens" else FEATURES[method.input][0]
    given = inputs(context, source, "test", index, torch.zeros_like(index))
    row = cost_of_linear(method, context, best, make, network, given)
    correct = best.predict(test) == classes(range(settings.test_clips)).numpy()
    return row | {"train_seconds": seconds, "steps": 0, "examples": len(rows)}, correct


def best_linear(method, x, labels, validation):
    """Of the method's linear classifiers, fitted to x (m, d), labels (m,), the best on the first validation clips."""
    found = [classifier.fit(x, labels.numpy()) for classifier in map(clone, LINEAR[method.linear])]
    true = classes(range(validation.shape[0]))  # counts are sparse: they have no len
    return max(found, key=lambda classifier: classifier.score(validation, true))  # the first of equals


def cost_of_linear(method, context, best, make, network, given):
    """{column: value} of a linear classifier, and of the network that makes its numbers, if not the tokenizer."""
    began = time.process_time()
    with torch.no_grad():
        found = method.build(context, make(given))
    best.predict(found)
    seconds, weights = time.process_time() - began, CLASSES * found.shape[1]
    parameters = weights + CLASSES + (sum(w.numel() for w in network.parameters()) if network else 0)
    row = {"parameters": parameters, "multiply_adds": weights + multiply_adds(lambda: make(given[:1]))}
    return row | {"clip_milliseconds": 1000 * seconds / len(given)}


# ---- a tokenizer and a tracker of its own ----


def by_pair(method, context, chosen, seed):
    """The same as `by_numbers`, of paths that the run's own tokenizer and tracker find."""
    settings, held, began = context.settings, checked(context.settings, len(chosen)), time.process_time()
    data = Unlabelled(tuple(chosen.tolist())) if method.subset else Unlabelled(first=settings.clips)
    with contextlib.redirect_stdout(io.StringIO()):
        tokenizer, tracker = own_pair(context, data, seed)

    @torch.no_grad()
    def read(name, index, which):
        parts = zip(index.split(20), which.split(20), strict=True)
        return method.build(
            context, torch.cat([tracker(tokenizer.encode(to_float(videos(name, *part)))) for part in parts])
        )

    which = label_methods.augmentations(settings, "train")[chosen]  # (labels, augmentations)
    index, test = chosen.repeat_interleave(which.shape[1]), torch.arange(settings.test_clips)
    validation = read("validation", torch.arange(held), torch.zeros(held, dtype=torch.long))
    best = best_linear(method, read("train", index, which.flatten()), classes(index), validation)
    seconds = time.process_time() - began
    correct = best.predict(read("test", test, torch.zeros_like(test))) == classes(test).numpy()
    tokens = tokenizer.encode(to_float(split("test").videos(test[:50])))
    row = cost_of_linear(method, context, best, tracker, tracker, tokens) | {"train_seconds": seconds}
    return row | {"steps": settings.pair["tokenizer"] + settings.pair["tracker"], "examples": len(index)}, correct


# ---- reading the table ----


def pack(correct):
    """Which clips are correct, (n,) bool, as hex of packed bits."""
    return np.packbits(np.asarray(correct, bool)).tobytes().hex()


def unpack(text, n):
    """The inverse of `pack`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=n).astype(bool)


def curves(frame):
    """{method: {labels: which test clips are correct, (seeds, n) bool}}, in the order of METHODS.

    Seed 0 comes first, then the others up to one that is missing: a row is the same seed in all methods.
    """
    found = {}
    for row in frame[frame["status"] == "ok"].sort_values("seed").itertuples():
        seeds = found.setdefault(row.method, {}).setdefault(row.labels, [])
        if row.seed == len(seeds):
            seeds.append(unpack(row.correct, row.tested))
    return {name: {k: np.stack(found[name][k]) for k in sorted(found[name])} for name in METHODS if name in found}


def over_seeds(one, other=None):
    """Mean accuracy of a method, or how much it exceeds another's from the same labels, and its 95 % interval.

    `one`, `other`: (seeds, n) bool, as in `curves`; the seeds that both have count. The interval adds the error over
    seeds (Student's t: there are few) and that over clips.
    """
    seeds = len(one) if other is None else min(len(one), len(other))
    values = one[:seeds] - (np.zeros_like(one[:seeds], float) if other is None else other[:seeds].astype(float))
    mean, clips = values.mean(), values.mean(0).std() / np.sqrt(values.shape[1])
    half = np.hypot(student_half(values.mean(1)), 1.96 * clips)
    return float(mean), (float(mean - half), float(mean + half))
