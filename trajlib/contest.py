"""Tokens or pixels: every reader learns the family from the same few or many labelled clips, with several seeds.

`python -m trajlib ablate --contest` runs it; a study that was stopped is taken up, and may be extended. What is the
same for all: the labelled clips of a seed, drawn from the first 6,400 of the train world (of 6,400 labels all seeds
have the same; they differ in the network's start and order); the test clips, looked at once; as many labelled clips
of the validation world as there are labels, 200 at most, by which a network's best look or a linear reader's strength
is chosen. Networks of a kind see as many clips, in versions: any of 96 for pixels, of two for tokens.

What is not the same, since it is the question: what was learnt before. The tokenizer and the tracker saw the train
world's clips without labels, and so did the two pixel networks with help, if fewer. The masked transformer saw 12,000
clips *with* their families, though as a condition and never as an answer: its arms are no few-label readers in the
strict sense. Two pairs of a tokenizer and a tracker are the control for that: the course's own in half the width and
fewer steps, one pair from the labelled clips alone, the other from clips without labels. Being dear, they run but once.

Costs are of a reader, without the tokenizer, which is the same for all on tokens: 07 measures it. CPU seconds of
training include the making of its clips and the looks at validation clips, not what was learnt before.
"""

import contextlib
import copy
import csv
import dataclasses
import functools
import io
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from trajlib import FAMILIES, pretrained, recipes, stamps
from trajlib.ablations import LIBRARIES, StudyError, file_of, narrowed, provenance, shortened
from trajlib.classifiers import TokenTracker, classification_loss, tracking_loss
from trajlib.contenders import (
    ARMS,
    CHUNK,
    CODES,
    TAUGHT,
    Shelf,
    encode,
    families,
    films,
    maker,
    models_of,
    pixels,
    see,
    teach,
)
from trajlib.dataset import VERSIONS
from trajlib.tokenizer import Tokenizer, reconstruction_loss
from trajlib.training import fit, multiply_adds

FILE = "contest.csv"
COLUMNS = (
    "arm", "labels", "seed", "accuracy", "tested", "hits", "parameters", "multiply_adds", "seconds", "milliseconds",
    "steps", "clips", "study", "code", "date", *LIBRARIES,
)  # fmt: skip
WHOLE = ("labels", "seed", "tested", "parameters", "multiply_adds", "steps", "clips")
FIGURES = ("accuracy", "seconds", "milliseconds")  # share of test clips, CPU s of training, CPU ms a clip of reading


def pack(hits):
    """Which clips are right, (n,) bool, as hex of packed bits."""
    return np.packbits(np.asarray(hits, bool)).tobytes().hex()


def unpack(text, n):
    """The reverse of `pack`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=n).astype(bool)


def labelled(cfg, labels, seed):
    """The clips of the train world that a seed has labels for, numbers (labels,); those of fewer are among them."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randperm(cfg.contest["clips"], generator=rng)[:labels]


def looked_at(cfg, labels):
    """How many clips of the validation world one who has so many labels may look at."""
    return min(labels, cfg.contest["validation_clips"])


# ---- networks ----


@torch.no_grad()
def predict(net, shelf, kind, split, n):
    """Classes (n,) of a split's first clips, and the CPU seconds that reading them took."""
    device, found, seconds = next(net.parameters()).device, [], 0.0
    for index in torch.arange(n).split(16):
        inputs = see(shelf, kind, split, index, torch.zeros_like(index)).to(device)
        began = time.process_time()
        found.append(net(inputs).argmax(-1).cpu())
        seconds += time.process_time() - began
    return torch.cat(found), seconds


def by_network(arm, shelf, chosen, seed):
    """Train a network on the chosen clips: {column: value}, and which test clips it gets right."""
    budget, kind = shelf.cfg.contest, arm.sees
    steps, size, held = budget["steps"][arm.kind], budget["batch"][arm.kind], looked_at(shelf.cfg, len(chosen))
    rng = torch.Generator().manual_seed(seed)
    passes = [torch.randperm(len(chosen), generator=rng) for _ in range(-(-steps * size // len(chosen)))]
    order = chosen[torch.cat(passes)]  # one pass after another, each in an order of its own
    turns = torch.randint(VERSIONS if kind == "pixels" else budget["versions"], (steps * size,), generator=rng)
    turns = turns * (not arm.plain)
    best = {"right": -1, "weights": None}

    def batch(step):
        part = slice(step * size, (step + 1) * size)
        return [see(shelf, kind, "train", order[part], turns[part]), families(order[part])]

    def watch(step, average):
        right = (predict(average, shelf, kind, "validation", held)[0] == families(range(held))).sum().item()
        if right >= best["right"]:  # of equals the last
            best.update(right=right, weights=copy.deepcopy(average.state_dict()))

    recipe = budget["recipes"]["plain" if arm.plain else arm.kind] | {"steps": steps, "lines": budget["looks"]}
    torch.manual_seed(seed)
    net, began = arm.build(shelf), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        net, _ = fit(net, lambda m, b: classification_loss(m, *b), batch, seed=seed, **recipe,
                     watch=None if arm.plain else watch)  # fmt: skip
    seconds = time.process_time() - began
    if best["weights"]:
        net.load_state_dict(best["weights"])
    n = budget["test_clips"]
    said, reading = predict(net, shelf, kind, "test", n)
    one = see(shelf, kind, "test", torch.arange(1), torch.zeros(1, dtype=torch.long))
    costs = {"parameters": sum(w.numel() for w in net.parameters()), "multiply_adds": multiply_adds(lambda: net(one))}
    costs |= {"seconds": seconds, "milliseconds": 1000 * reading / n, "steps": steps, "clips": steps * size}
    return costs, (said == families(range(n))).numpy()


# ---- readers without a network: numbers in, families out ----


LINEAR = {  # the strongest penalty first
    "ridge": [make_pipeline(StandardScaler(), RidgeClassifier(10.0**k)) for k in range(7, -1, -1)],
    "logistic": [make_pipeline(StandardScaler(), LogisticRegression(C=10.0**k, max_iter=2000)) for k in range(-3, 2)],
    "logistic, unscaled": [LogisticRegression(C=10.0**k, max_iter=2000) for k in range(-3, 1)],  # for sparse counts
}


@functools.lru_cache(maxsize=4)
def numbers(arm, shelf, split):
    """What the arm makes of each clip in each version: (n * versions, d), the versions of a clip together."""
    return arm.build(shelf, see(shelf, arm.sees, split, slice(None), slice(None)).flatten(0, 1))


def by_numbers(arm, shelf, chosen, seed):
    """The same as `by_network` for a linear reader, to whom each version of a clip is an example."""
    n, held = shelf.cfg.contest["test_clips"], looked_at(shelf.cfg, len(chosen))
    x, examined, test = (numbers(arm, shelf, split) for split in ("train", "validation", "test"))
    versions, began = shelf.turns("train").shape[1], time.process_time()
    rows = (chosen[:, None] * versions + torch.arange(versions)).flatten().numpy()
    best = best_reader(arm, x[rows], families(chosen).repeat_interleave(versions), examined[:held])
    seconds = time.process_time() - began
    hits = best.predict(test) == families(range(n)).numpy()
    costs = cost_of_numbers(arm, shelf, best, *source_of_numbers(arm, shelf))
    return costs | {"seconds": seconds, "steps": 0, "clips": len(rows)}, hits


def best_reader(arm, x, labels, examined):
    """Of the arm's linear readers, taught x (m, d) and labels (m,), the best on the first validation clips (k, d)."""
    readers = [reader.fit(x, labels.numpy()) for reader in map(clone, LINEAR[arm.reader])]
    true = families(range(examined.shape[0]))  # counts are sparse: they have no len
    return max(readers, key=lambda reader: reader.score(examined, true))  # the first of equals


def source_of_numbers(arm, shelf):
    """What makes a linear reader's codes, the network in it if that is not the tokenizer, and what it is given."""
    given = arm.sees in ("tokens", "untrained")
    make, net = (nn.Identity(), None) if given else maker(shelf, arm.sees)
    index = torch.arange(min(50, shelf.cfg.contest["test_clips"]))
    return make, net, see(shelf, arm.sees if given else CODES[arm.sees][0], "test", index, torch.zeros_like(index))


def cost_of_numbers(arm, shelf, best, make, net, inputs):
    """{column: value} of a linear reader, and of the network that makes its numbers unless that is the tokenizer."""
    began = time.process_time()
    with torch.no_grad():
        found = arm.build(shelf, make(inputs))
    best.predict(found)
    seconds, weights = time.process_time() - began, len(FAMILIES) * found.shape[1]
    parameters = weights + len(FAMILIES) + (sum(w.numel() for w in net.parameters()) if net else 0)
    costs = {"parameters": parameters, "multiply_adds": weights + multiply_adds(lambda: make(inputs[:1]))}
    return costs | {"milliseconds": 1000 * seconds / len(inputs)}


# ---- a tokenizer of one's own ----


def shown(shelf, arm, chosen):
    """numbers -> uint8 videos, for a pair: of the chosen clips alone, if the arm is `few`.

    All of them come in one pass after another, each pass in an order of its own and each time in another version. Any
    other arm is shown clips of the train world after those with labels, a new one for each number.
    """

    def clip(number):
        turn, place = divmod(number, len(chosen))
        k = np.random.default_rng(turn).permutation(len(chosen))[place]
        return int(chosen[k]), int(37 * turn + k) % VERSIONS  # 37: all 96, one after another

    if arm.few:
        return lambda numbers: films("train", *zip(*map(clip, numbers), strict=True))
    return lambda numbers: recipes.unlabelled([shelf.cfg.contest["clips"] + number for number in numbers])


def taught_pair(shelf, arm, chosen, seed):
    """A tokenizer that has seen each number of `shown` once, and a tracker that has seen the first of them often."""
    cfg, budget = shelf.cfg, shelf.cfg.contest["pair"]
    cfg = dataclasses.replace(cfg, tokenizer_recipe=shortened(cfg.tokenizer_recipe, budget["tokenizer"]))
    clips = shown(shelf, arm, chosen)
    torch.manual_seed(seed)
    codec = Tokenizer(**narrowed(Tokenizer(**cfg.tokenizer).config, budget["width"]))
    batch = recipes.tokenizer_batches(cfg, clips)
    codec, _ = fit(codec, lambda m, b: reconstruction_loss(m, *b, hue=cfg.hue_weight), batch, seed=seed,
                   **cfg.tokenizer_recipe)  # fmt: skip
    examples = recipes.encode_dots(codec, budget["clips"], clips)
    tracker = TokenTracker(codec.config["levels"], codec.grid, **cfg.token_tracker)
    batch = recipes.shuffled_batches(examples, cfg.tracker_batch, seed)
    recipe = shortened(cfg.tracker_recipe, budget["tracker"])
    return codec, fit(tracker, lambda m, b: tracking_loss(m, *b), batch, seed=seed, **recipe)[0]


def by_pair(arm, shelf, chosen, seed):
    """The same as `by_numbers`, of paths that a tokenizer and a tracker of the run's own read."""
    n, held, began = shelf.cfg.contest["test_clips"], looked_at(shelf.cfg, len(chosen)), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        codec, tracker = taught_pair(shelf, arm, chosen, seed)

    @torch.no_grad()
    def read(split, index, turns):
        parts = zip(index.split(20), turns.split(20), strict=True)
        return arm.build(shelf, torch.cat([tracker(codec.encode(pixels(split, *part))) for part in parts]))

    turns = shelf.turns("train")[chosen]  # (labels, versions)
    index = chosen.repeat_interleave(turns.shape[1])
    examined = read("validation", torch.arange(held), torch.zeros(held, dtype=torch.long))
    best = best_reader(arm, read("train", index, turns.flatten()), families(index), examined)
    seconds, test = time.process_time() - began, torch.arange(n)
    hits = best.predict(read("test", test, torch.zeros_like(test))) == families(test).numpy()
    some = codec.encode(pixels("test", test[:50], torch.zeros_like(test[:50])))
    costs = cost_of_numbers(arm, shelf, best, tracker, tracker, some)
    steps = sum(shelf.cfg.contest["pair"][name] for name in ("tokenizer", "tracker"))
    return costs | {"seconds": seconds, "steps": steps, "clips": len(index)}, hits


# ---- the study ----


def stamp(name, shelf):
    """A digest of all that an arm's figures hang on but the labels and the seed."""
    budget, kind = shelf.cfg.contest, ARMS[name].kind
    facts = [name, shelf.cfg.name, [shelf.mark(m, *ARMS[name].needs) for m in models_of(name)], shelf.sizes]
    facts += [budget[key].get(kind) for key in ("steps", "batch", "recipes")]
    facts += [budget["recipes"]["plain"] if ARMS[name].plain else None, budget["versions"], budget["looks"]]
    facts += [budget["taught"] if set(ARMS[name].needs) & set(TAUGHT) else None]
    if kind == "pair":
        cfg = shelf.cfg
        facts += [budget["pair"], ARMS[name].few, cfg.tokenizer, cfg.tokenizer_recipe, cfg.tokenizer_batch]
        facts += [cfg.close_up_batch, cfg.close_up_share, cfg.hue_weight]
        facts += [cfg.token_tracker, cfg.tracker_recipe, cfg.tracker_batch]
    return stamps.digest([json.dumps(facts)])


def run_arm(name, labels, seed, shelf):
    """One run: {column: value}."""
    arm = ARMS[name]
    learn = {"linear": by_numbers, "pair": by_pair}.get(arm.kind, by_network)
    costs, hits = learn(arm, shelf, labelled(shelf.cfg, labels, seed), seed)
    row = {"arm": name, "labels": labels, "seed": seed, "accuracy": float(hits.mean())}
    return row | {"tested": len(hits), "hits": pack(hits)} | costs


def plan(cfg, only=()):
    """(arm, labels, seed) of every run, one seed after the other: a study that is stopped has each arm once."""
    unknown = set(only) - set(ARMS)
    if unknown:
        raise StudyError(f"There is no arm {', '.join(sorted(unknown))}; there are: {', '.join(ARMS)}.")
    names, sizes = [name for name in ARMS if name in (only or ARMS)], cfg.contest["sizes"]
    jobs = [(name, labels, seed) for seed in cfg.contest["seeds"] for labels in sizes for name in names]
    pair = cfg.contest["pair"]
    return [
        job for job in jobs if ARMS[job[0]].kind != "pair" or (job[1] in pair["labels"] and job[2] in pair["seeds"])
    ]


def run(cfg, artifacts, out, only=(), workers=2, say=print):
    """Run what `out` lacks, networks in `workers` processes of one thread each, and return all rows."""
    out, jobs = Path(out), plan(cfg, only)
    rows, names = read(out) if out.exists() else [], {job[0] for job in jobs}
    done = {(row["arm"], row["labels"], row["seed"]) for row in rows}
    for needed in sorted({needed for name in names for needed in models_of(name)}):
        getattr(recipes, needed)(cfg, artifacts)  # trained, if it is not there
    shelf = Shelf(cfg, str(artifacts), out.parent / f"{out.stem}-shelf")
    marks = {name: stamp(name, shelf) for name in names}
    if any(row["study"] != marks.get(row["arm"], row["study"]) for row in rows):
        raise StudyError(f"{out} holds rows of another budget or of other models: give another --out, or delete them.")
    jobs = [job for job in jobs if job not in done]
    say(f"{len(jobs)} runs; {len(done)} are there")
    facts, began, count = provenance(cfg), time.time(), 0

    def keep(row):
        nonlocal count
        count += 1
        rows.append(row | facts | {"study": marks[row["arm"]]})
        write(out, rows)
        said = f"{row['arm']}, {row['labels']} labels, seed {row['seed']}: {row['accuracy']:.1%}"
        say(f"{count:>3}/{len(jobs)} {said} ({(time.time() - began) / 60:.1f} min)")

    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    try:
        wanted = {need for job in jobs for need in ARMS[job[0]].needs}
        taught = [pool.submit(teach, shelf, need) for need in TAUGHT if need in wanted]
        for need in [need for need in CODES if need in wanted]:
            say(f"the shelf: {need}")
            parts = [(split, first) for split, n in shelf.sizes.items() for first in range(0, n, CHUNK)]
            for future in [pool.submit(encode, shelf, need, *part) for part in parts]:
                future.result()
        for future in taught:
            future.result()
        linear = [job for job in jobs if ARMS[job[0]].kind == "linear"]
        waiting = [pool.submit(run_arm, *job, shelf) for job in jobs if job not in linear]
        for job in sorted(linear, key=lambda job: list(ARMS).index(job[0])):  # an arm's numbers are made once
            keep(run_arm(*job, shelf))  # here, meanwhile
        for future in as_completed(waiting):
            keep(future.result())
    finally:
        pool.shutdown(cancel_futures=True)
    return rows


def write(path, rows):
    """All rows in the order of `ARMS`, then by labels and seed; see `pretrained.write_table`."""
    order = list(ARMS)
    in_order = sorted(rows, key=lambda row: (order.index(row["arm"]), row["labels"], row["seed"]))
    pretrained.write_table(path, COLUMNS, in_order)


def read(path):
    """The rows of a study: numbers are numbers, the rest is text."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or set(rows[0]) != set(COLUMNS) or {row["arm"] for row in rows} - set(ARMS):
        raise StudyError(f"{path} is not a study of these arms: give another file, or delete it and run again.")
    kinds = dict.fromkeys(WHOLE, int) | dict.fromkeys(FIGURES, float)
    return [{key: kinds.get(key, str)(text) for key, text in row.items()} for row in rows]


def study(cfg, artifacts):
    """The rows that a notebook shows: the folder's, made now if the profile's study takes seconds; else the shipped."""
    return read(file_of(run, FILE, "--contest", cfg, artifacts))


def curves(rows):
    """{arm: {labels: which test clips are right, (seeds, n) bool}}, in the order of `ARMS`.

    Seed 0 comes first, then the others up to one that is missing: the same place is the same seed, whatever the arm.
    """
    found = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        seeds = found.setdefault(row["arm"], {}).setdefault(row["labels"], [])
        if row["seed"] == len(seeds):
            seeds.append(unpack(row["hits"], row["tested"]))
    return {name: {k: np.stack(found[name][k]) for k in sorted(found[name])} for name in ARMS if name in found}
