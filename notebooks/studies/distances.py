"""What distances between sets of videos notice: real clips with a fault of known kind and strength, and samples.

A fault of content leaves the motion as it is, a fault of motion leaves the dot's look as it is. Each set is compared
with the same real clips, by five measures:

- "Frechet, I3D": Fréchet distance of the features of our I3D, as FVD (Unterthiner et al., arXiv 1812.01717);
- "kernel, I3D": of the same features, the unbiased maximum mean discrepancy with the kernel (x.y / d)^2 of JEDi (Luo et
  al., arXiv 2410.05203), whose own features come from V-JEPA;
- "Frechet, motion": of histograms of the tracked dot's velocity and acceleration, as FVMD (Liu et al., arXiv
  2407.16124), which tracks many points;
- "Frechet, mean frame": of 4 x 4 pixels of the clip's mean frame. A baseline: it cannot see the order of the frames;
- "physics": the share of clips whose motion is not of the class that was asked for. It needs the truth.

Our I3D has learnt classes that differ in motion alone. The I3D of published FVDs has learnt human actions, which the
scene and the objects help to tell apart. So "Frechet, I3D" cannot be compared with published FVDs; `standard_fvd` can,
for those who have the file of that I3D. The study does not need it.
"""

import functools
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from studies import generation
from studies.generation import BATCH, Batches, frechet_distance, jackknife, kernel_distance
from torch.nn.functional import adaptive_avg_pool2d

from trajlib.data.clips import split
from trajlib.data.render import Corruption, render
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.samples import TrackStats, check_physics, interpolate_gaps
from trajlib.zoo import checkpoints

FAULTS = {  # kind, strengths
    "colour shift": ("content", (0.25, 0.5, 1.0)),  # how far the dot's colour moves towards red, 0..1
    "blur": ("content", (0.5, 1.0, 2.0)),  # standard deviation, px
    "paler dot": ("content", (0.2, 0.4, 0.6)),  # share of its contrast with the background that is lost
    "larger dot": ("content", (1.15, 1.3, 1.6)),  # times its radius
    "jitter": ("motion", (0.5, 1.0, 2.0)),  # standard deviation of the position in each frame, px
    "shuffled frames": ("motion", (2.0, 4.0, 16.0)),  # frames of a window in which they are shuffled
    "class mix": ("motion", (0.25, 0.5, 1.0)),  # share of clips that show a line, whatever their class
    "time reversed": ("motion", (0.25, 0.5, 1.0)),  # share of clips
    "frozen": ("motion", (4.0, 8.0, 12.0)),  # last frames that repeat the one before them
}
SIZES = (100, 200, 500, 1000, 2000)
FEWEST_FRAMES = 10  # of FVD
GENERATORS = ("joint", "gaussian", "autoregressive", "plain")
MODELS = ("tokenizer", "transformer", "plain_transformer", "autoregressive", "i3d")
KEYS = ("source", "strength")
# kind: content, motion, generator, or size: then source is "real", and strength is n. 95 % intervals over clips: the
# jackknife for distances, Wilson's for the share
COLUMNS = {"source": str, "kind": str, "strength": float, "distance": str, "value": float, "low": float, "high": float,
           "n": int}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    clips: int = 1000  # with a fault, or of a generator
    half: int = 2000  # test clips 0 .. half - 1 are compared with; clips half, half + 1, ... are other ones
    validation_clips: int = 128
    gaussian_tracks: int = 12000
    groups: int = 10  # of the jackknife
    grid: dict = field(default_factory=lambda: {"sizes": SIZES, "faults": tuple(FAULTS), "generators": GENERATORS})


FULL = Settings()
SMOKE = Settings(8, 16, 16, 48, 4, {"sizes": (8, 16), "faults": ("blur", "frozen"), "generators": ("joint",)})


def jobs(settings):
    grid = settings.grid
    found = [("real", "size", float(n)) for n in grid["sizes"]]
    found += [(name, FAULTS[name][0], strength) for name in grid["faults"] for strength in FAULTS[name][1]]
    found += [(name, "generator", 0.0) for name in grid["generators"]]
    return [dict(zip(("source", "kind", "strength"), job, strict=True)) for job in found]


def clip(i: int, name: str, strength: float) -> np.ndarray:
    """Test clip i with a fault, (3, t, h, w) uint8; without one if `name` is "real"."""
    track, rng = split("test").track(i), np.random.default_rng(i)
    chosen = rng.random() < strength  # for faults of a share of the clips
    if name == "class mix" and chosen:
        track = split("test", families=("linear",)).track(i)  # of the same length, colour, size, ...
    path, radius, colour = track.path, track.radius, np.array(track.params.colour)
    order, last = np.arange(len(path)), len(path) - 1
    match name:
        case "colour shift":
            colour = colour + strength * (np.array([1.0, 0.0, 0.0]) - colour)
        case "paler dot":
            colour = colour + strength * (1 - colour)
        case "larger dot":
            radius = strength * radius
        case "jitter":
            path = path + strength * rng.normal(size=path.shape)
        case "shuffled frames":
            order = rng.permuted(order.reshape(-1, int(strength)), axis=1).ravel()
        case "time reversed" if chosen:
            order = last - order
        case "frozen":
            order = np.minimum(order, last - int(strength))
    return render(path[order], radius[order], colour, corruption=Corruption(blur=strength * (name == "blur")), rng=rng)


def batches(first: int, n: int, name: str = "real", strength: float = 0.0) -> Batches:
    """`clip` of first, first + 1, ...; seconds are not counted."""
    for part in torch.arange(first, first + n).split(BATCH):
        yield to_float(torch.from_numpy(np.stack([clip(i, name, strength) for i in part.tolist()]))), 0.0


def motion_histograms(paths: np.ndarray, bins: int = 8, window: int = 4) -> np.ndarray:
    """Paths (n, t, 2) -> (n, 2 * t / window * bins): pixels of velocity, of acceleration by direction and window.

    FVMD adds up logarithms of these lengths: its videos are larger.
    """
    velocity = np.diff(paths, axis=1, prepend=paths[:, :1])
    found = []
    for vectors in (velocity, np.diff(velocity, axis=1, prepend=velocity[:, :1])):
        angle = np.arctan2(vectors[..., 1], vectors[..., 0])
        which = np.floor(bins * (angle / (2 * np.pi) + 0.5)).astype(int) % bins
        lengths = np.eye(bins)[which] * np.linalg.norm(vectors, axis=-1, keepdims=True)  # (n, t, bins)
        found.append(lengths.reshape(len(paths), -1, window, bins).sum(2).reshape(len(paths), -1))
    return np.concatenate(found, 1)


# ---- FVD as it is published ----


@torch.no_grad()
def standard_features(videos: torch.Tensor, path: str | Path, batch: int = 10) -> np.ndarray:
    """What FVD (Unterthiner et al., arXiv 1812.01717) compares: videos (n, 3, t, h, w) in [0, 1] -> (n, 400) float64.

    `path`: the I3D trained on Kinetics-400, as the TorchScript archive `i3d_torchscript.pt` of StyleGAN-V (Skorokhodov
    et al., arXiv 2112.14683), which is neither shipped nor downloaded here. It brings code of its own, which runs when
    it is called: name only a file from a source that you trust. As there it receives whole numbers 0..255, scales them
    and resizes the frames to 224 x 224 itself. Its last pooling needs two time steps, so a video needs ten frames.

    ValueError, one sentence, for other videos, and for a file that is missing or another one.
    """
    found, tensor = [], isinstance(videos, torch.Tensor)
    if not tensor or videos.ndim != 5 or videos.shape[1] != 3 or videos.shape[2] < FEWEST_FRAMES or not len(videos):
        came = tuple(videos.shape) if tensor else type(videos).__name__
        raise ValueError(f"FVD takes videos (n, 3, t, h, w) with {FEWEST_FRAMES} frames or more; {came} came.")
    if not videos.is_floating_point() or videos.min() < 0 or videos.max() > 1:
        raise ValueError(f"FVD takes videos in [0, 1]; {videos.dtype}, {videos.min()} to {videos.max()} came.")
    if not Path(path).is_file():
        raise ValueError(f"There is no file at {path}: name your copy of i3d_torchscript.pt, the course has none.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch prefers a newer format, in which the file is not
            detector = torch.jit.load(str(path), map_location="cpu").eval()
        for part in videos.split(batch):
            whole = (255 * part).round().to(torch.uint8)  # as StyleGAN-V calls it
            found.append(detector(whole, rescale=True, resize=True, return_features=True).double())
    except (RuntimeError, ValueError, AttributeError) as error:
        why = str(error).strip().split("\n")[0][:100]
        raise ValueError(f"{path} does not work as StyleGAN-V's i3d_torchscript.pt: {why}.") from None
    features = torch.cat(found)
    if features.shape != (len(videos), 400) or not features.isfinite().all():
        raise ValueError(f"{path} is not StyleGAN-V's i3d_torchscript.pt: it gives {tuple(features.shape)} features.")
    return features.numpy()


def standard_fvd(videos: torch.Tensor, real: torch.Tensor, path: str | Path) -> float:
    """FVD of generated against real videos, (n, 3, t, h, w) and (m, 3, t, h, w) in [0, 1]; see `standard_features`.

    Like any Fréchet distance it is larger for fewer clips: published ones compare 2,048 with as many, of 16 frames
    each. ValueError for fewer than two.
    """
    if min(len(videos), len(real)) < 2:
        raise ValueError(f"FVD compares sets of two videos or more; {len(videos)} and {len(real)} came.")
    return frechet_distance(standard_features(videos, path), standard_features(real, path))


DISTANCES = {  # what they compare, and how
    "Frechet, I3D": ("features", frechet_distance),
    "kernel, I3D": ("features", partial(kernel_distance, degree=2, offset=0.0, standardized=False)),
    "Frechet, motion": ("motion", frechet_distance),
    "Frechet, mean frame": ("mean frame", frechet_distance),
}


def measured(videos: Batches, context) -> dict:
    """{"tracks": `TrackStats`, "features", "motion" and "mean frame": (n, d) each}."""
    i3d = checkpoints.load("i3d", context.artifacts)[0]
    parts = (i3d.features, lambda some: adaptive_avg_pool2d(some.mean(2), 4).flatten(1))
    found = generation.examine(videos, lambda some: torch.cat([part(some) for part in parts], 1))
    features, frames = np.split(found["features"].astype(float), [i3d.head.in_features], 1)
    motion = motion_histograms(interpolate_gaps(found["tracks"].path))
    return {"tracks": found["tracks"], "features": features, "motion": motion, "mean frame": frames}


@functools.lru_cache(maxsize=2)
def real(first: int, context) -> dict:
    """`measured` of `half` real clips, from this one on."""
    return measured(batches(first, context.settings.half), context)


def run(job, context):
    """The rows of one set of clips: a row for each distance."""
    settings, name = context.settings, job["source"]
    examples = n = int(job["strength"]) if name == "real" else settings.clips
    labels = torch.arange(n) % 4
    if name in generation.SAMPLERS:
        videos, examples = generation.sampled(name, labels, 0, context), generation.trained_on(name, context)
    elif name == "gaussian":
        videos, examples = generation.gaussian(labels, 0, context), settings.gaussian_tracks
    else:
        videos = batches(settings.half, n, name, job["strength"])
    found = real(settings.half, context) if name == "real" else measured(videos, context)
    rows, other, limits = [], real(0, context), generation.limits(context)
    for distance, (key, function) in DISTANCES.items():
        pair = found[key][:n], other[key][:n]
        rows.append((distance, function(*pair), *jackknife(function, *pair, groups=settings.groups)))
    tracks = TrackStats(*(part[:n] for part in found["tracks"]))
    wrong = check_physics(tracks, limits["normal"], limits["noise"]).best != labels.numpy()
    rows.append(("physics", wrong.mean(), *metrics.wilson(wrong.sum(), n)))
    rows = [dict(zip(("distance", "value", "low", "high"), row, strict=True)) for row in rows]
    return [job | row | {"n": n, "examples": examples} for row in rows]


def compare(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that are no `size`, next to as many real clips: those to which the faults were added.

    `change` of the distance, in units of half of the real clips' interval; `noticed`: the interval lies above theirs.
    """
    clean = frame[frame["kind"] == "size"].set_index(["distance", "n"])[["value", "low", "high"]]
    found = frame[frame["kind"] != "size"].join(clean.add_suffix("_real"), on=["distance", "n"])
    change = (found["value"] - found["value_real"]) / (found["high_real"] - found["low_real"]) * 2
    return found.assign(change=change, noticed=found["low"] > found["high_real"])


def motion_over_content(frame: pd.DataFrame) -> pd.DataFrame:
    """`ratio` of mean absolute changes, by motion over by content; `low`, `high`: with any one fault left out."""
    faults, found = compare(frame).query("kind != 'generator'"), {}
    for distance, rows in faults.groupby("distance", sort=False):
        parts = [rows] + [rows[rows["source"] != name] for name in rows["source"].unique()]
        means = [part["change"].abs().groupby(part["kind"]).mean() for part in parts]
        ratio, *without = (mean["motion"] / mean["content"] if mean["content"] else np.inf for mean in means)
        found[distance] = {"ratio": ratio, "low": min(without), "high": max(without)}
    return pd.DataFrame(found).T


def agreement(frame: pd.DataFrame, kinds: tuple[str, ...] = ("generator",)) -> pd.Series:
    """Spearman's rank correlation of each distance with physics, over the sets of these kinds."""
    wide = frame[frame["kind"].isin(kinds)].pivot(index=["source", "strength"], columns="distance", values="value")
    return pd.Series({name: spearmanr(wide[name], wide["physics"]).statistic for name in DISTANCES})
