"""Accuracy against the strength of a corruption, for classifiers of pixels and of tokens.

Strengths and methods were chosen on validation clips; the table is of test clips. Noise, jitter and the rest come from
each clip's own generator, so that a stronger corruption is the same corruption, stronger, and all methods see the same
pixels. Two networks are trained on corrupted clips first; the whole takes some 30 minutes on two cores.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trajlib.classify.readers import Simple3DCNN, TokenClassifier, classification_loss
from trajlib.data.augment import augmented
from trajlib.data.clips import SPLIT_SEEDS, render_clip, split
from trajlib.data.measure import measure_dot
from trajlib.data.render import Corruption
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics, physics
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints
from trajlib.zoo.batches import draw_augmentations, shuffled_batches
from trajlib.zoo.config import recipes_of


class Kind(NamedTuple):
    """A field of `Corruption`, strengths from hardly visible to clearly bad (0 is shared by all), and their unit."""

    field: str
    strengths: tuple[float, ...]
    unit: str


KINDS = {
    "noise": Kind("noise", (0.03, 0.1, 0.2, 0.4), "standard deviation, white is 1"),
    "blur": Kind("blur", (0.5, 1.0, 2.0, 4.0), "standard deviation, px"),
    "darkness": Kind("brightness", (-0.05, -0.15, -0.3, -0.6), "added, white is 1"),
    "contrast": Kind("contrast", (0.1, 0.3, 0.6, 0.9), "share lost"),
    "occlusion": Kind("occlusion", (4.0, 8.0, 16.0, 32.0), "width, px"),
    "texture": Kind("texture", (0.05, 0.15, 0.3, 0.6), "amplitude, white is 1"),
    "distractors": Kind("distractors", (1, 2, 4, 8), "dots that stand still"),
    "jitter": Kind("jitter", (0.5, 1.0, 2.0, 4.0), "standard deviation, px"),
    "frame drops": Kind("frame_drops", (0.1, 0.25, 0.5, 0.75), "share"),
}
TRAINED = {"simple_3dcnn": "3D CNN, trained on corruptions", "token_classifier": "transformer, trained on corruptions"}
METHODS = ("3D CNN on pixels", "transformer on tokens", *TRAINED.values(), "tracker, equations",
           "foreground centroid, equations", "moving foreground, equations", "long exposure, linear")  # fmt: skip
MODELS = ("tokenizer", "simple_3dcnn", "token_classifier", "token_tracker")
KEYS = ("corruption", "strength")
# correct answers; those that are correct of the clean clip, too; Wilson's 95 % interval of the accuracy
COLUMNS = {"corruption": str, "strength": float, "method": str, "correct": int, "kept": int} | dict.fromkeys(
    ("low", "high"), float
)


@dataclass(frozen=True)
class Settings:
    test_clips: int = 400
    validation_clips: int = 128


FULL, SMOKE = Settings(), Settings(test_clips=4, validation_clips=16)


def jobs(settings):
    """Clean clips, then each corruption at each strength."""
    pairs = [("none", 0.0), *((kind, strength) for kind, some in KINDS.items() for strength in some.strengths)]
    return [{"corruption": kind, "strength": float(strength)} for kind, strength in pairs]


def corruption_of(kind, strength):
    """The `Corruption` of a kind in KINDS at a strength; 0 of any kind is the clean clip."""
    if kind == "none" or not strength:
        return None
    field, strengths, _ = KINDS[kind]
    return Corruption(**{field: type(strengths[-1])(strength)})  # dots are counted


# ---- methods: their answer to a clip is a score for each family, (n, 4); the highest counts ----


class Method(NamedTuple):
    """`scores(inputs)` -> (n, 4), NaN where it finds nothing; `inputs` are tokens (n, *grid) or videos uint8."""

    tokens: bool
    scores: Callable


@torch.no_grad()
def by_network(model, inputs):
    """A network's probabilities (n, 4) for tokens, or for videos (n, 3, t, h, w) uint8."""
    return model(inputs if inputs.dtype == torch.int64 else to_float(inputs)).softmax(-1).double().numpy()


def family_weights(path, radius, noise=0.02):
    """(n, 4) weights of the families, exp(-score / 2) over their sum: an approximate posterior, as the score is BIC.

    Arguments as in `physics.fit_family`. NaN for a clip with a frame without a dot, or whose dot does not move (a bar
    that hides it, for instance): it would fit all families.
    """
    usable = np.isfinite(path).all((1, 2)) & np.isfinite(radius).all(1) & (radius > 0).all(1)
    usable &= (np.ptp(path, axis=1) > 1e-6).all(1)
    found = np.full((len(path), len(FAMILIES)), np.nan)
    if usable.any():
        fits = physics.fit_families(path[usable], radius[usable], noise).values()
        found[usable] = softmax(np.stack([-fit.score / 2 for fit in fits], 1), axis=1)
    return found


def by_equations(track, noise, inputs):
    """`family_weights` of the dots (n, t, 3) that `track(inputs)` finds; `noise`: px that they are off."""
    dots = track(inputs).double().numpy()
    return family_weights(dots[..., :2], dots[..., 2], noise)


@torch.no_grad()
def by_tracker(tracker, tokens):
    """Dots (n, t, 3) that a `TokenTracker` reads from tokens."""
    x, y, radius = tracker(tokens).unbind(-1)
    return torch.stack([x, y, radius.clamp_min(0.5)], -1)


def by_centroid(videos):
    """Dots (n, t, 3) by the centroid of each frame's foreground."""
    return measure_dot(to_float(videos))


def by_moving_centroid(videos):
    """The same of what is darker than the lightest value that each pixel ever has: what stands still is background."""
    x = to_float(videos)
    return measure_dot(1 - (x.amax(2, keepdim=True) - x))


def by_exposure(linear, videos):
    """A linear classifier's scores (n, 4) of the long exposure's moments; NaN for a clip that is all white."""
    with np.errstate(all="ignore"):
        numbers = metrics.exposure(to_float(videos))
    found = np.isfinite(numbers).all(1)
    scores = np.full((len(numbers), len(FAMILIES)), np.nan)
    if found.any():
        scores[found] = linear.decision_function(numbers[found])
    return scores


def correct(scores, labels):
    """Which clips are answered correctly, (n,) bool: finding no dot is a wrong answer."""
    return np.isfinite(scores).all(1) & (np.nan_to_num(scores).argmax(1) == np.asarray(labels))


def tracking_noise(track, inputs, paths):
    """Median distance in px of the tracked dots from the true centres, at least 0.02: what the equations assume."""
    return max(0.02, float((track(inputs)[..., :2] - paths).norm(dim=-1).nanmedian().nan_to_num(1.0)))


def methods(context):
    """{name: `Method`}, in the order of METHODS."""
    load, recipe = partial(checkpoints.load, artifacts=context.artifacts), recipes_of(context.profile).token_classifier
    held, data = split("validation").batch(range(context.settings.validation_clips)), split("train", recipe.clips)
    linear = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-2, 5, 15)))
    parts = torch.arange(len(data)).split(100)
    exposures = [metrics.exposure(to_float(data.videos(part))) for part in parts]
    linear.fit(np.concatenate(exposures), data.labels(range(len(data))).numpy())
    track, tokens = partial(by_tracker, load("token_tracker")[0]), load("tokenizer")[0].encode(to_float(held.videos))
    found = {
        "3D CNN on pixels": Method(False, partial(by_network, load("simple_3dcnn")[0])),
        "transformer on tokens": Method(True, partial(by_network, load("token_classifier")[0])),
        "tracker, equations": Method(True, partial(by_equations, track, tracking_noise(track, tokens, held.paths))),
        "long exposure, linear": Method(False, partial(by_exposure, linear)),
    }
    ways = {"foreground centroid, equations": by_centroid, "moving foreground, equations": by_moving_centroid}
    for name, way in ways.items():
        noise = tracking_noise(way, held.videos, held.paths)
        found[name] = Method(False, partial(by_equations, way, noise))
    for model, name in TRAINED.items():
        found[name] = Method("token" in model, partial(by_network, trained(model, context)))
    return {name: found[name] for name in METHODS}


def ask(methods, tokenizer, clips, size=32):
    """{name: which clips of a `Batch` are answered correctly, (n,) bool}: each batch is tokenized once."""
    found = {name: [] for name in methods}
    for videos, labels in zip(clips.videos.split(size), clips.labels.split(size), strict=True):
        tokens = tokenizer.encode(to_float(videos))
        for name, method in methods.items():
            found[name].append(correct(method.scores(tokens if method.tokens else videos), labels))
    return {name: np.concatenate(parts) for name, parts in found.items()}


# ---- corruption as augmentation ----


def draw_corruption(rng):
    """A random kind, at a strength evenly from 0 to its strongest."""
    kind = KINDS[list(KINDS)[rng.integers(len(KINDS))]]
    top = kind.strengths[-1]
    strength = top * rng.uniform()
    return Corruption(**{kind.field: round(strength) if isinstance(top, int) else strength})


def corrupted_example(numbers, i, c, seed=0):
    """The labelled clip i, corrupted, in its c-th augmentation numbers[i, c], uint8; each has its own corruption."""
    rng = np.random.default_rng([SPLIT_SEEDS["train"], i, 2, c, seed])
    video = render_clip(split("train").track(i), draw_corruption(rng), rng).video
    return augmented(torch.from_numpy(video), int(numbers[i, c]))


def prepare(context):
    """Train the two networks on corrupted clips."""
    for name in TRAINED:
        trained(name, context)


def trained(name, context):
    """One of TRAINED, by the recipe of the shipped network of this name but on corrupted clips; kept as float16."""
    recipes = recipes_of(context.profile)
    recipe, seed, tokenizer = getattr(recipes, name), recipes.seed, checkpoints.load("tokenizer", context.artifacts)[0]

    def new():
        torch.manual_seed(seed)
        if name == "simple_3dcnn":
            return Simple3DCNN()
        return TokenClassifier(tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels, **recipe.model)

    def make():
        numbers = draw_augmentations(recipe.clips, recipe.augmentations, seed)
        index = torch.cartesian_prod(torch.arange(recipe.clips), torch.arange(recipe.augmentations))  # rows i, c
        labels = index[:, 0] % len(FAMILIES)

        def videos(rows):
            return to_float(torch.stack([corrupted_example(numbers, i, c, seed) for i, c in rows.tolist()]))

        examples = [index, labels]
        if name == "token_classifier":
            examples = [torch.cat([tokenizer.encode(videos(part)) for part in index.split(32)]), labels]
        pick = shuffled_batches(examples, recipe.train.batch, seed)

        def batch(step):
            inputs, labels = pick(step)
            return [videos(inputs) if name == "simple_3dcnn" else inputs, labels]

        model, _ = fit(new(), lambda m, b: classification_loss(m, *b), batch, **recipe.train.options, seed=seed)
        return {key: tensor.half() for key, tensor in model.state_dict().items()}

    model = new()
    model.load_state_dict(context.cached(f"{name}-{context.weights['tokenizer']}", make))
    return model.eval()


# ---- one job ----


@functools.lru_cache(maxsize=1)
def loaded(context):
    """The methods, the tokenizer, and the answers to the clean clips: once in a process."""
    found, tokenizer = methods(context), checkpoints.load("tokenizer", context.artifacts)[0]
    return found, tokenizer, ask(found, tokenizer, split("test").batch(range(context.settings.test_clips)))


def run(job, context):
    """A row for each method."""
    found, tokenizer, clean = loaded(context)
    n, rows = context.settings.test_clips, []
    answers = clean
    if job["strength"]:
        data = split("test", corruption=corruption_of(job["corruption"], job["strength"]))
        answers = ask(found, tokenizer, data.batch(range(n)))
    for name, hits in answers.items():
        low, high = metrics.wilson(hits.sum(), n)
        row = {"method": name, "correct": int(hits.sum()), "kept": int((hits & clean[name]).sum()), "examples": n}
        rows.append(row | {"low": low, "high": high})
    return rows


# ---- reading the table ----


def curve(frame: pd.DataFrame, corruption: str, method: str) -> pd.DataFrame:
    """A method's rows for one corruption, from the clean clips to the strongest."""
    return frame[(frame["method"] == method) & frame["corruption"].isin(["none", corruption])]


def lost(frame: pd.DataFrame, corruption: str, method: str, step: int) -> tuple[float, float]:
    """At the strength number `step` (1 is the weakest): share of clips lost, and McNemar's p value.

    The same clips, clean and corrupted: if the corruption did nothing, an answer that changes would become wrong as
    often as right.
    """
    rows = curve(frame, corruption, method)
    clean, row = rows.iloc[0], rows.iloc[step]
    gone, come = int(clean["correct"] - row["kept"]), int(row["correct"] - row["kept"])
    return (gone - come) / int(row["examples"]), binomtest(gone, max(1, gone + come)).pvalue


def kept_share(
    frame: pd.DataFrame, corruption: str, method: str, step: int, rounds: int = 10_000, seed: int = 0
) -> tuple[float, np.ndarray]:
    """Share of its lead over chance that a method keeps at the strength number `step`; and the same share of `rounds`
    resamples of the test clips, (rounds,), from the numbers of clips that stay correct, are lost, or become correct.
    """
    rows = curve(frame, corruption, method)
    clean, row = rows.iloc[0], rows.iloc[step]
    n, both = int(row["examples"]), int(row["kept"])
    gone, come = int(clean["correct"]) - both, int(row["correct"]) - both
    counts = np.array([both, gone, come, n - both - gone - come])
    drawn = np.vstack([counts, np.random.default_rng(seed).multinomial(n, counts / n, rounds)])
    lead = (drawn[:, 0] + drawn[:, [2, 1]].T) / n - 1 / len(FAMILIES)  # (2, 1 + rounds): corrupted, clean
    share = lead[0] / lead[1]
    return float(share[0]), share[1:]


def kept_more(frame: pd.DataFrame, corruption: str, one: str, other: str, step: int, comparisons=1):
    """By how much the share that `one` keeps exceeds that of `other`, and its 95 % interval, widened for so many
    comparisons at once (Bonferroni). The two are resampled independently, though their clips are the same: where both
    find the same clips difficult, the interval is too wide.
    """
    (first, drawn), (second, others) = (
        kept_share(frame, corruption, name, step, seed=k) for k, name in enumerate((one, other))
    )
    tail = 0.025 / comparisons
    low, high = np.quantile(drawn - others, [tail, 1 - tail])
    return first - second, (float(low), float(high))
