"""Who still reads a damaged clip: accuracy against the strength of each damage, for readers of pixels and of tokens.

Strengths and readers were chosen on validation clips; the table is of test clips. Noise, jitter and all the rest come
from each clip's own dice, so that a stronger damage is the same damage, stronger, and all readers see the same pixels.
`python -m trajlib ablate --damage` runs it.
"""

import csv
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trajlib import FAMILIES, metrics, physics, pretrained, recipes
from trajlib.ablations import file_of, provenance
from trajlib.classifiers import Simple3DCNN, TokenClassifier, classification_loss, seen_dot
from trajlib.dataset import SEEDS, TrajectoryDataset, develop, to_float, version
from trajlib.render import Damage
from trajlib.training import fit

FILE = "damage.csv"


class Kind(NamedTuple):
    """A field of `Damage`, strengths from hardly seen to clearly bad (0 is shared by all), and what they count."""

    field: str
    strengths: tuple[float, ...]
    unit: str


KINDS = {
    "noise": Kind("noise", (0.03, 0.1, 0.2, 0.4), "standard deviation, white is 1"),
    "blur": Kind("blur", (0.5, 1.0, 2.0, 4.0), "standard deviation, px"),
    "darkness": Kind("brightness", (-0.05, -0.15, -0.3, -0.6), "added, white is 1"),
    "contrast": Kind("contrast", (0.1, 0.3, 0.6, 0.9), "share lost"),
    "occlusion": Kind("occluder", (4.0, 8.0, 16.0, 32.0), "width, px"),
    "texture": Kind("texture", (0.05, 0.15, 0.3, 0.6), "amplitude, white is 1"),
    "distractors": Kind("distractors", (1, 2, 4, 8), "dots that stand still"),
    "shake": Kind("shake", (0.5, 1.0, 2.0, 4.0), "standard deviation, px"),
    "lost frames": Kind("drops", (0.1, 0.25, 0.5, 0.75), "share"),
}
COLUMNS = ("kind", "strength", "reader", "hits", "kept", "n", "low", "high", "date", "code", "torch")
TRAINED = {"simple_3dcnn_damaged": "3D CNN, taught damage", "token_classifier_damaged": "transformer, taught damage"}
READERS = ("3D CNN on pixels", "transformer on tokens", *TRAINED.values(), "tracker, equations",
           "centre of ink, equations", "what moved, equations", "long exposure, linear")  # fmt: skip


def damage(kind, strength):
    """The `Damage` of a kind in KINDS at a strength; 0 of any kind is the clean clip."""
    field, strengths, _ = KINDS[kind]
    return Damage(**{field: type(strengths[-1])(strength)})  # dots are counted


# ---- readers: what they say of clips is a score for each family, (n, 4); the highest is the answer ----


class Reader(NamedTuple):
    """`scores(seen)` -> (n, 4), NaN where it finds nothing; `seen` are tokens (n, 8, 4, 4) or videos uint8."""

    tokens: bool
    scores: Callable


@torch.no_grad()
def by_network(model, seen):
    """A network's probabilities (n, 4) for tokens, or for videos (n, 3, 16, 64, 64) uint8."""
    return model(seen if seen.dtype == torch.int64 else to_float(seen)).softmax(-1).double().numpy()


def by_equations(follow, noise, seen):
    """`physics.weights` of the dots (n, 16, 3) that `follow(seen)` finds; `noise`: px that they are off."""
    dots = follow(seen).double().numpy()
    return physics.weights(dots[..., :2], dots[..., 2], noise)


@torch.no_grad()
def tracked(tracker, tokens):
    """Dots (n, 16, 3) that a `TokenTracker` reads from tokens."""
    x, y, radius = tracker(tokens).unbind(-1)
    return torch.stack([x, y, radius.clamp_min(0.5)], -1)


def inked(videos):
    """Dots (n, 16, 3) by the centre of ink of each frame."""
    return seen_dot(to_float(videos))


def moved(videos):
    """The same of what is darker than the lightest that each pixel ever is: whatever stands still is paper."""
    x = to_float(videos)
    return seen_dot(1 - (x.amax(2, keepdim=True) - x))


def by_exposure(linear, videos):
    """A linear classifier's scores (n, 4) of the long exposure's moments; NaN for a clip that is all white."""
    with np.errstate(all="ignore"):
        numbers = metrics.exposure(to_float(videos))
    found = np.isfinite(numbers).all(1)
    scores = np.full((len(numbers), len(FAMILIES)), np.nan)
    if found.any():
        scores[found] = linear.decision_function(numbers[found])
    return scores


def right(scores, labels):
    """Which clips are answered rightly, (n,) bool: to find no dot is an answer, too, and a wrong one."""
    return np.isfinite(scores).all(1) & (np.nan_to_num(scores).argmax(1) == np.asarray(labels))


def off(follow, seen, paths):
    """Median distance in px of the followed dots from the true centres, at least 0.02: what equations are told."""
    return max(0.02, float((follow(seen)[..., :2] - paths).norm(dim=-1).nanmedian().nan_to_num(1.0)))


def readers(cfg, artifacts, own=None):
    """{name: `Reader`}; the two networks that were taught damage are loaded from the folder `own`, if one is named."""
    held = TrajectoryDataset(cfg.validation_clips, seed=SEEDS["validation"]).batch()
    known = TrajectoryDataset(cfg.labelled_clips, seed=SEEDS["train"]).batch()
    linear = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-2, 5, 15)))
    exposures = [metrics.exposure(to_float(part)) for part in known.videos.split(100)]
    linear.fit(np.concatenate(exposures), known.labels.numpy())
    follow = partial(tracked, pretrained.load("token_tracker", artifacts)[0])
    codec = pretrained.load("tokenizer", artifacts)[0]
    noise = off(follow, torch.cat([codec.encode(to_float(part)) for part in held.videos.split(32)]), held.paths)
    found = {
        "3D CNN on pixels": Reader(False, partial(by_network, pretrained.load("simple_3dcnn", artifacts)[0])),
        "transformer on tokens": Reader(True, partial(by_network, pretrained.load("token_classifier", artifacts)[0])),
        "tracker, equations": Reader(True, partial(by_equations, follow, noise)),
        "long exposure, linear": Reader(False, partial(by_exposure, linear)),
    }
    for name, way in {"centre of ink, equations": inked, "what moved, equations": moved}.items():
        found[name] = Reader(False, partial(by_equations, way, off(way, held.videos, held.paths)))
    for model, name in TRAINED.items() if own else ():
        found[name] = Reader("token" in model, partial(by_network, pretrained.load(model, own)[0]))
    return {name: found[name] for name in READERS if name in found}


def ask(readers, codec, clips, size=32):
    """{name: which clips of a `Batch` it gets right, (n,) bool}: tokens are made once for all who read them."""
    found = {name: [] for name in readers}
    for videos, labels in zip(clips.videos.split(size), clips.labels.split(size), strict=True):
        tokens = codec.encode(to_float(videos))
        for name, reader in readers.items():
            found[name].append(right(reader.scores(tokens if reader.tokens else videos), labels))
    return {name: np.concatenate(parts) for name, parts in found.items()}


# ---- damage as augmentation ----


def draw_damage(rng):
    """A random kind, at a strength evenly from 0 to its strongest."""
    kind = KINDS[list(KINDS)[rng.integers(len(KINDS))]]
    top = kind.strengths[-1]
    strength = top * rng.uniform()
    return Damage(**{kind.field: round(strength) if isinstance(top, int) else strength})


def damaged_examples(cfg, numbers):
    """What both networks are taught on: a function of i, c -> the labelled clip i, damaged, in its c-th version, uint8.

    Each version of a clip has a damage of its own, from dice of its own.
    """
    world = TrajectoryDataset(cfg.labelled_clips, seed=SEEDS["train"])

    def example(i, c):
        rng = np.random.default_rng([SEEDS["train"], i, 2, c, cfg.seed])
        video = develop(world.track(i), draw_damage(rng), rng).video
        return version(torch.from_numpy(video), int(numbers[i, c]))

    return example


def teach(name, cfg, artifacts, own):
    """Train one of TRAINED by the recipe of its shipped twin, unless the folder `own` has it; returns its name."""
    numbers = recipes.version_numbers(cfg.labelled_clips, cfg.versions, cfg.seed)
    example = damaged_examples(cfg, numbers)
    labels = torch.arange(cfg.labelled_clips) % len(FAMILIES)
    index = torch.cartesian_prod(torch.arange(cfg.labelled_clips), torch.arange(cfg.versions))  # rows i, c

    def train():
        began = time.time()
        if name == "simple_3dcnn_damaged":
            recipe, pick = cfg.cnn_recipe, recipes.shuffled_batches([index], cfg.cnn_batch, cfg.seed)

            def batch(step):
                rows = pick(step)[0].tolist()
                return [to_float(torch.stack([example(i, c) for i, c in rows])), labels[[i for i, _ in rows]]]

            torch.manual_seed(cfg.seed)
            model = Simple3DCNN()
        else:
            codec = pretrained.load("tokenizer", artifacts)[0]
            tokens = [codec.encode(to_float(torch.stack([example(i, c) for i, c in part.tolist()])))
                      for part in index.split(32)]  # fmt: skip
            recipe, examples = cfg.token_classifier_recipe, [torch.cat(tokens), labels[index[:, 0]]]
            batch = recipes.shuffled_batches(examples, cfg.token_classifier_batch, cfg.seed)
            torch.manual_seed(cfg.seed)
            model = TokenClassifier(codec.config["levels"], codec.grid, **cfg.token_classifier)
        checkpoint = pretrained.folder(own) / f"{name}.checkpoint"
        model, history = fit(
            model, lambda m, b: classification_loss(m, *b), batch, **recipe, seed=cfg.seed, checkpoint=checkpoint
        )
        data = f"{cfg.labelled_clips:,} labelled clips of world {SEEDS['train']}, {cfg.versions} versions, all damaged"
        figures = {key: round(float(np.mean(values[-50:])), 4) for key, values in history.items()}
        card = {"recipe": recipe, "seed": cfg.seed, "profile": cfg.name, "data": data, "figures": figures}
        return model, card | {"minutes": round((time.time() - began) / 60, 1)}

    pretrained.train_or_load(name, own, train, torch.float16)
    return name


# ---- the table ----


LOADED = {}  # in a process of the study: what it asks, loaded once


def run_one(kind, strength, cfg, artifacts, own):
    """{reader: (n,) bool} of the study's test clips under one damage."""
    if not LOADED:
        LOADED.update(codec=pretrained.load("tokenizer", artifacts)[0], readers=readers(cfg, artifacts, own))
    spoilt = damage(kind, strength) if strength else None
    clips = TrajectoryDataset(cfg.damage_study["test_clips"], seed=SEEDS["test"], damage=spoilt)
    return ask(**LOADED, clips=clips.batch())


def rows_of(kind, strength, hits, clean):
    """A row for each reader, from {reader: (n,) bool} damaged and clean. `kept`: right both times."""
    for name, found in hits.items():
        low, high = metrics.wilson(found.sum(), len(found))
        counts = {"hits": int(found.sum()), "kept": int((found & clean[name]).sum()), "n": len(found)}
        yield {"kind": kind, "strength": float(strength), "reader": name, **counts, "low": low, "high": high}


def run(cfg, artifacts, out, workers=2, say=print):
    """All damages, in `workers` processes of one thread each; the rows are written to `out` and returned.

    The two networks that are taught damage are kept in a folder beside `out`: a study that was stopped takes them up.
    """
    out = Path(out)
    own = out.with_suffix("")
    for made in (recipes.tokenizer, recipes.simple_3dcnn, recipes.token_classifier, recipes.token_tracker):
        made(cfg, artifacts)  # so that every process finds it
    facts = {key: value for key, value in provenance(cfg).items() if key in COLUMNS}
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    try:
        for future in as_completed([pool.submit(teach, name, cfg, artifacts, own) for name in TRAINED]):
            say(f"trained {future.result()}")
        jobs = [("none", 0.0), *((kind, strength) for kind, some in KINDS.items() for strength in some.strengths)]
        waiting = {pool.submit(run_one, *job, cfg, artifacts, own): job for job in jobs}
        clean = next(iter(waiting)).result()
        rows = []
        for count, future in enumerate(as_completed(waiting), 1):
            kind, strength = waiting[future]
            rows += [row | facts for row in rows_of(kind, strength, future.result(), clean)]
            write(out, rows)
            said = ", ".join(f"{found.mean():.0%}" for found in future.result().values())
            say(f"{count}/{len(jobs)} {kind} {strength:g}: {said}")
    finally:
        pool.shutdown(cancel_futures=True)
    return rows


def write(path, rows):
    """All rows in the order of KINDS, strengths and READERS; see `pretrained.write_table`."""
    kinds = ["none", *KINDS]
    in_order = sorted(rows, key=lambda r: (kinds.index(r["kind"]), abs(r["strength"]), READERS.index(r["reader"])))
    pretrained.write_table(path, COLUMNS, in_order)


def study(cfg, artifacts):
    """The rows that a notebook shows: the folder's, made now if the profile's study takes seconds; else the shipped."""
    path = file_of(run, FILE, "--damage", cfg, artifacts)
    numbers = {"strength": float, "hits": int, "kept": int, "n": int, "low": float, "high": float}
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: numbers.get(key, str)(text) for key, text in row.items()} for row in csv.DictReader(file)]


# ---- what the table says ----


def curve(rows, kind, reader):
    """A reader's rows for one kind, from undamaged to strongest."""
    return [row for row in rows if row["reader"] == reader and row["kind"] in ("none", kind)]


def lost(rows, kind, reader, step):
    """At the strength number `step` (1 is the weakest): share of clips lost, and how likely so uneven a split is.

    The same clips, clean and damaged: a clip that was right and is wrong now, or the other way, would be a fair coin
    if the damage did nothing (McNemar's test).
    """
    clean, *spoilt = curve(rows, kind, reader)
    row = spoilt[step - 1]
    gone, come = clean["hits"] - row["kept"], row["hits"] - row["kept"]
    return (gone - come) / row["n"], binomtest(gone, max(1, gone + come)).pvalue
