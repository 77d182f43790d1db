"""How good generated clips are: each model's samples by the same measures, next to real clips and reconstructions.

1,000 samples of a model, a quarter of each class. "gaussian" has no network: a linear-Gaussian sampler of trajectories
for each class, drawn by the renderer in colours of training clips. "real" are test clips, other ones than those that
distances, precision and recall compare with; "reconstructions" are the same clips after the tokenizer, the upper bound
of whatever it decodes. Then come real clips, corrupted on purpose: they show what a distance notices. The last
sources are the joint transformer's video along trajectories of real clips: they show where class consistency is lost.

What each model was trained on differs: the column `examples` says how many examples it has seen.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.neighbors import NearestNeighbors
from studies.linear_gaussian import LinearGaussian
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from trajlib.data.clips import split
from trajlib.data.render import Corruption, render
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.samples import TrackStats, check_physics, interpolate_gaps, track_video
from trajlib.generation.autoregressive import generate_autoregressive
from trajlib.generation.joint_sampling import decode_video, generate
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints
from trajlib.zoo.joint_recipe import measured_tracks

BATCH = 50
SAMPLERS: dict[str, tuple[str, Callable[..., Tensor], dict[str, Any]]] = {  # model, its sampler, settings
    "joint": ("transformer", generate, {}),
    "joint, best of 4": ("transformer", generate, {"drafts": 4}),
    "plain": ("plain_transformer", generate, {}),
    "autoregressive": ("autoregressive", generate_autoregressive, {}),
    "autoregressive, guidance 3": ("autoregressive", generate_autoregressive, {"guidance": 3.0}),
}
CORRUPTED = {"jitter 0.5 px": 0.5, "jitter 1 px": 1.0, "jitter 2 px": 2.0}
GIVEN = {"joint, real trajectories": False, "joint, rounded trajectories": True}  # whether they are rounded to tokens
SOURCES = (*SAMPLERS, "gaussian", "reconstructions", "real", *CORRUPTED, "frames shuffled", *GIVEN)
MODELS = ("tokenizer", "transformer", "plain_transformer", "autoregressive", "i3d")
KEYS = ("model", "seed")
# 95 % intervals over clips: Wilson's for shares, the bootstrap for means, order statistics for medians, the jackknife
# for distances and diversities
COLUMNS = {"model": str, "seed": int, "metric": str, "value": float, "low": float, "high": float, "n": int}


@dataclass(frozen=True)
class Settings:
    clips: int = 1000  # of each model, and twice as many test clips
    validation_clips: int = 128  # what is normal, and how exactly a dot is tracked after the tokenizer
    tracks: int = 24000  # training trajectories among which a copy is looked for, in 16 augmentations
    gaussian_tracks: int = 12000
    trees: int = 300
    groups: int = 10  # of the jackknife
    grid: dict = field(default_factory=lambda: {"seeds": (0,), "models": SOURCES})


FULL = Settings()
SMOKE = Settings(
    16, 16, 16, 48, 10, 4, {"seeds": (0,), "models": ("joint", "gaussian", "real", "joint, rounded trajectories")}
)


def jobs(settings):
    return [{"model": model, "seed": seed} for seed in settings.grid["seeds"] for model in settings.grid["models"]]


# ---- where clips come from: batches of videos (b, 3, t, h, w) in [0, 1], and CPU seconds to sample each ----

Batches = Iterator[tuple[Tensor, float]]


def sampled(name: str, labels: Tensor, seed: int, context) -> Batches:
    """Clips of a model; decoding tokens into pixels counts as sampling."""
    model, sample, kwargs = SAMPLERS[name]
    net, tokenizer = (checkpoints.load(part, context.artifacts)[0] for part in (model, "tokenizer"))
    if "drafts" in kwargs:
        kwargs = kwargs | {"tokenizer": tokenizer}
    for k, some in enumerate(labels.split(BATCH)):
        began = time.process_time()
        with bf16_autocast():
            videos = tokenizer.decode(sample(net, some, seed=10_000 * (seed + 1) + k, **kwargs))
        yield videos, time.process_time() - began


def gaussian(labels: Tensor, seed: int, context) -> Batches:
    """Draws of a Gaussian for each class, rendered."""
    data, rng = split("train"), np.random.default_rng(seed)
    tracks = [data.track(i) for i in range(context.settings.gaussian_tracks)]
    known = torch.tensor(np.stack([np.column_stack([track.path, track.radius]) for track in tracks])).float()
    classes = data.labels(range(len(tracks)))
    samplers = [LinearGaussian(known[classes == k]) for k in range(data.num_classes)]
    for some in labels.split(BATCH):
        began, videos = time.process_time(), []
        for label in some.tolist():
            found = samplers[label].sample(1, data.spec.size, rng)[0].numpy()
            colour = tracks[rng.integers(len(tracks))].params.colour
            videos.append(render(found[:, :2], found[:, 2].clip(0.5), colour, data.spec))
        yield to_float(torch.from_numpy(np.stack(videos))), time.process_time() - began


def given(name: str, n: int, seed: int, context) -> Batches:
    """The joint transformer's video along the trajectories of test clips n, n + 1, ..., in place of sampled ones."""
    net, tokenizer = (checkpoints.load(part, context.artifacts)[0] for part in ("transformer", "tokenizer"))
    data = split("test")
    for part in torch.arange(n, 2 * n).split(BATCH):
        began = time.process_time()
        trajectories, _ = measured_tracks([data.track(i) for i in part.tolist()])
        if GIVEN[name]:
            trajectories = net.trajectory.decode(net.trajectory.encode(trajectories))
        with bf16_autocast():
            videos = tokenizer.decode(decode_video(net, trajectories, seed=10_000 * (seed + 1) + int(part[0])))
        yield videos, time.process_time() - began


def real(name: str, n: int, seed: int, context) -> Batches:
    """Test clips n, n + 1, ...: as they are, after the tokenizer, or corrupted."""
    corruption = Corruption(jitter=CORRUPTED[name]) if name in CORRUPTED else None
    tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]
    order = torch.from_numpy(np.random.default_rng(seed).permutation(tokenizer.spec.frames))
    data = split("test", corruption=corruption)
    for part in torch.arange(n, 2 * n).split(BATCH):
        began, videos = time.process_time(), to_float(data.videos(part.tolist()))
        if name == "frames shuffled":
            videos = videos[:, :, order]
        if name == "reconstructions":
            with bf16_autocast():
                videos = tokenizer.reconstruct(videos)
        yield videos, time.process_time() - began


# ---- what the measures need of them ----


def appearance(videos: Tensor) -> Tensor:
    """Colour (how far below white the darkest pixels are) and radius in pixels, means over the frames: (b, 4)."""
    dark = 1 - videos
    colour = dark.amax((-1, -2)).mean(-1)  # (b, 3)
    area = dark.mean(1).sum((-1, -2)).mean(-1) / colour.mean(1).clamp_min(1e-3)
    return torch.cat([colour, (area / torch.pi).sqrt()[:, None]], 1)


def joined(tracks: Iterable[TrackStats]) -> TrackStats:
    """Of several batches -> of all."""
    return TrackStats(*map(np.concatenate, zip(*tracks, strict=True)))


@torch.no_grad()
def examine(batches: Batches, features: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """All that the metrics need of videos that come in batches: all at once are too many for the memory.

    {"tracks": `TrackStats`, "features": `features(videos)` (n, d), "moments": `shape_moments` of mean frames (n, 21),
    "appearance" (n, 4), "seconds" a clip (batches,)}.
    """
    tracks, found, exposures, looks, seconds = [], [], [], [], []
    for videos, took in batches:
        tracks.append(track_video(videos))
        found.append(features(videos))
        dark = 1 - videos.mean(1)
        dark = dark * (dark > 0.1 * dark.amax((1, 2, 3), keepdim=True))  # a decoded background is not quite white
        exposures.append(adaptive_avg_pool2d(dark.mean(1), 32) + 1e-9)  # moments need some darkness
        looks.append(appearance(videos))
        seconds.append(took / len(videos))
    moments = metrics.shape_moments(torch.cat(exposures).numpy())
    return {"tracks": joined(tracks), "features": torch.cat(found).numpy(), "moments": moments,
            "appearance": torch.cat(looks).numpy(), "seconds": np.array(seconds)}  # fmt: skip


@functools.lru_cache(maxsize=1)
def limits(context) -> dict[str, Any]:
    """Of validation clips: their `TrackStats`, which are normal; the px that dots are off after the tokenizer."""
    clips = split("validation").batch(range(context.settings.validation_clips))
    tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]
    with bf16_autocast():
        tracks = [track_video(tokenizer.reconstruct(to_float(part))) for part in clips.videos.split(BATCH)]
    error = np.linalg.norm(np.concatenate([part.path for part in tracks]) - clips.paths.numpy(), axis=-1)
    return {"normal": track_video(to_float(clips.videos)), "noise": float(np.nanmedian(error))}


@functools.lru_cache(maxsize=1)
def reference(context) -> dict[str, Any]:
    """Of real test clips 0 .. n - 1: what the others are compared with; `limits`; and training paths."""
    n = context.settings.clips
    i3d = checkpoints.load("i3d", context.artifacts)[0]
    parts = ((to_float(split("test").videos(part.tolist())), 0.0) for part in torch.arange(n).split(BATCH))
    found = examine(parts, i3d.features) | {"i3d": i3d}
    data = split("train")
    known = np.stack([data.track(i).path for i in range(context.settings.tracks)])
    return found | limits(context) | {"known": known}


def augmentations(paths: np.ndarray, size: int) -> np.ndarray:
    """Paths (n, t, 2) flipped, transposed and reversed in time: (16, n, t, 2)."""
    found = [paths, paths[:, ::-1]]
    for axis in (0, 1):
        found += [np.where(np.arange(2) == axis, size - 1 - path, path) for path in found]
    return np.stack([*found, *(path[..., ::-1] for path in found)])


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between the Gaussians with the means and covariances of features (n, d) and (m, d): 0 if they are the same.

    Heusel et al., arXiv 1706.08500. It is larger for fewer clips: compare at the same n only.
    """
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    one, two = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # trace of the root of a product: the sum of the roots of its eigenvalues, which are real and not negative
    roots = np.sqrt(np.linalg.eigvals(one @ two).real.clip(0)).sum()
    return float(means + np.trace(one) + np.trace(two) - 2 * roots)


def manifold_membership(points: np.ndarray, others: np.ndarray, k: int = 3) -> np.ndarray:
    """(n,) bool: points (n, d) inside the k-nearest-neighbour ball of one of the `others` (m, d).

    Kynkaanniemi et al., arXiv 1904.06991: the share of samples inside the real clips' manifold is *precision*, the
    share of real clips inside the samples' is *recall*.
    """
    reach = NearestNeighbors(n_neighbors=k).fit(others).kneighbors()[0][:, -1]  # a point is not its own neighbour
    return (cdist(points, others) <= reach).any(1)


def jackknife(
    function: Callable[..., float], *sets: np.ndarray, groups: int = 10, seed: int = 0
) -> tuple[float, float]:  # fmt: skip
    """95 % interval of function(*sets), each (n, ...): from its values when one of `groups` parts is left out.

    Unlike the bootstrap it repeats no clip; a repeated one would be its own nearest neighbour.
    """
    rng = np.random.default_rng(seed)
    group = [rng.permutation(len(values)) % groups for values in sets]
    values = [function(*(s[of != g] for s, of in zip(sets, group, strict=True))) for g in range(groups)]
    error = np.sqrt((groups - 1) * np.var(values))
    value = function(*sets)
    return float(value - 1.96 * error), float(value + 1.96 * error)


def kernel_distance(
    a: np.ndarray, b: np.ndarray, degree: int = 3, offset: float = 1.0, standardized: bool = True
) -> float:  # fmt: skip
    """Unbiased squared maximum mean discrepancy of features (n, d) and real ones (m, d), kernel (x.y / d + 1)^3.

    Binkowski et al. (KID, arXiv 1801.01401): 0 on average for two sets of one kind, whatever their size. Features are
    standardized by the real ones, lest the largest decide alone. `offset` and `degree`: those of another kernel.
    """
    (n, d), m = a.shape, len(b)
    if standardized:  # a feature that never changes tells nothing
        spread = np.where(b.std(0) > 1e-3 * b.std(0).max(), b.std(0), np.inf)
        a, b = ((x - b.mean(0)) / spread for x in (a, b))
    aa, bb, ab = ((x @ y.T / d + offset) ** degree for x, y in ((a, a), (b, b), (a, b)))
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def diversity(rows: np.ndarray) -> float:
    """Mean distance between clips of one class: rows (n, 1 + d), the class first, then what is compared."""
    classes = (rows[rows[:, 0] == k, 1:] for k in np.unique(rows[:, 0]))
    return float(np.mean([pdist(some).mean() for some in classes if len(some) > 1]))


# ---- the measures ----


def run(job, context):
    """The rows of one source: its clips are made and measured."""
    settings, name, seed = context.settings, job["model"], job["seed"]
    n, labels = settings.clips, torch.arange(settings.clips) % 4
    if name in SAMPLERS:
        batches, examples = sampled(name, labels, seed, context), trained_on(name, context)
    elif name in GIVEN:
        batches, examples = given(name, n, seed, context), trained_on("joint", context)
    elif name == "gaussian":
        batches, examples = gaussian(labels, seed, context), settings.gaussian_tracks
    else:
        batches, examples = real(name, n, seed, context), n
    other, rows = reference(context), []
    i3d = other["i3d"]
    found = examine(batches, i3d.features)
    asked, groups = labels.numpy(), settings.groups

    def add(metric, value, interval, count=n):
        rows.append(job | {"metric": metric, "value": float(value), "low": float(interval[0]), "n": count}
                    | {"high": float(interval[1]), "examples": examples})  # fmt: skip

    def add_share(metric, hits):
        add(metric, np.mean(hits), metrics.wilson(hits.sum(), len(hits)), len(hits))

    def add_ratio(metric, values, real_values):
        some, base = np.column_stack([asked, values]), diversity(np.column_stack([asked, real_values]))
        add(metric, diversity(some) / base, np.array(jackknife(diversity, some, groups=groups)) / base)

    tracks: TrackStats = found["tracks"]
    checked = check_physics(tracks, other["normal"], other["noise"])
    add_share("class consistency", checked.best == asked)
    add_share("one dot", checked.one_dot)
    add_share("no jump", checked.no_jump)
    add_share("inside", checked.inside)
    sure = checked.residual[checked.one_dot, asked[checked.one_dot]]
    sure = sure if len(sure) else np.array([64.0])
    add("residual (px)", np.median(sure), metrics.median_interval(sure), len(sure))
    with torch.no_grad():
        add_share("I3D agreement", i3d.head(torch.from_numpy(found["features"])).argmax(-1).numpy() == asked)
    trees = ExtraTreesClassifier(settings.trees, min_samples_leaf=2, random_state=0, n_jobs=1)
    trees.fit(found["moments"], asked)  # on the shape of the long exposure
    add_share("class accuracy score", trees.predict(other["moments"]) == np.arange(n) % 4)
    for metric, distance in (("Frechet distance", frechet_distance), ("kernel distance", kernel_distance)):
        pair = found["features"].astype(float), other["features"].astype(float)
        add(metric, distance(*pair), jackknife(distance, *pair, groups=groups))
    add_share("precision", manifold_membership(found["features"], other["features"]))
    add_share("recall", manifold_membership(other["features"], found["features"]))
    size = split("test").spec.size
    apart, fresh = (nearest_known(some, other["known"], size) for some in (tracks, other["tracks"]))
    add("novelty (px)", np.median(apart), metrics.median_interval(apart))
    add_share("nearer than 95 % of real clips", apart < np.quantile(fresh, 0.05))
    paths, real_paths = (interpolate_gaps(some.path).reshape(n, -1) for some in (tracks, other["tracks"]))
    add_ratio("path diversity over real", paths, real_paths)
    add_ratio("colour diversity over real", found["appearance"][:, :3], other["appearance"][:, :3])
    add_ratio("size diversity over real", found["appearance"][:, 3:], other["appearance"][:, 3:])
    took = found["seconds"]
    add("CPU seconds a clip", took.mean(), metrics.mean_interval(took) if len(took) > 1 else (took[0], took[0]))
    return rows


def trained_on(name: str, context) -> int:
    """How many examples a model has seen in training."""
    return count_examples(checkpoints.load(SAMPLERS[name][0], context.artifacts)[1])


def count_examples(card: dict[str, Any]) -> int:
    """Of a model's card, which may tell kinds of examples apart."""
    examples = card["examples"]
    return sum(examples.values()) if isinstance(examples, dict) else int(examples)


def nearest_known(tracks: TrackStats, known: np.ndarray, size: int) -> np.ndarray:
    """Root mean square distance in pixels to the nearest training path (m, t, 2) in any of 16 augmentations, (n,)."""
    found = augmentations(interpolate_gaps(tracks.path), size)
    flat, known = found.reshape(-1, known[0].size), known.reshape(len(known), -1)
    distance = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(flat)[0][:, 0]
    return distance.reshape(len(found), -1).min(0) / np.sqrt(found.shape[2])
