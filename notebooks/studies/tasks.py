"""COMMIT's tasks and forecasts: how far off the dot is where it is masked, next to trivial and linear answers.

An error is the distance in pixels to the dot's true centre, mean over the frames in which that is masked, for each
clip. A joint transformer completes trajectories, which cost little: their errors are measured on all clips, and those
of the decoded videos, as of the plain transformer's, on the first few of the same clips. Generation (CG) has no true
place: see the study `generation`.

Trivial: straight lines between the places where some of the dot shows, constant beyond them; in forecasts constant
position, velocity or acceleration if that is better on average. Linear-Gaussian: the conditional mean of a Gaussian
over training trajectories, of the class where a task gives it; the best linear answer, and it needs no network.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.polynomial import polynomial
from studies.linear_gaussian import LinearGaussian
from torch.nn import functional as F

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.samples import interpolate_gaps, mean_error, track_video
from trajlib.generation.joint_sampling import complete, complete_trajectories, contradictions, decode_video, medoid
from trajlib.generation.observed_track import dots_of, observe_track
from trajlib.generation.sampling import encode_condition
from trajlib.generation.tasks import TASKS, masked_frames, region
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints
from trajlib.zoo.joint_recipe import track_pool

BATCH = 32
COMPARISONS = 10  # tasks; intervals of gains are widened for so many comparisons (Bonferroni)
# px, of a dot that touches masked pixels; as `linear_guess.LOOSE`. On validation clips 2 is better, by up to 0.1 px (in
# OPD the lead of the joint model's medoid is then no longer significant).
CUT_NOISE = 1.5
BASELINES = ("trivial", "linear-Gaussian")
MODELS = ("tokenizer", "transformer", "plain_transformer")
KEYS = ("task", "frames")
# metrics: "error (px)"; "gain over trivial (px)" and "gain over linear-Gaussian (px)", how much nearer on the same
# clips; of the draws "truth within the draws", see `within`
COLUMNS = {"task": str, "frames": int, "method": str, "metric": str, "value": float, "low": float, "high": float,
           "n": int}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    clips: int = 500
    decoded_clips: int = 500
    draws: int = 16
    tracks: int = 12000  # training trajectories of the linear-Gaussian answer
    split: str = "test"
    grid: dict = field(default_factory=lambda: {"frames": (1, 4, 8), "tasks": [task for task in TASKS if task != "CG"]})


FULL = Settings()
SMOKE = Settings(8, 4, 4, 48, grid={"frames": (1,), "tasks": ["FP", "IPD"]})


def jobs(settings):
    """Each task from one frame, and frame prediction from more."""
    found = [{"task": task, "frames": 1} for task in settings.grid["tasks"]]
    return found[:1] + [{"task": "FP", "frames": k} for k in settings.grid["frames"][1:]] + found[1:]


@functools.lru_cache(maxsize=1)
def gaussians(context):
    """For each class, and last for all: a `LinearGaussian` of training trajectories as measured in pixels."""
    trajectories, labels, _ = track_pool(split("train"), context.settings.tracks)
    classes = [trajectories[labels == k] for k in labels.unique()]
    return [LinearGaussian(some) for some in (*classes, trajectories)]


def linear_answer(job, context, videos, labels):
    """The linear-Gaussian conditional mean (b, frames, 3) of what the task observes of videos."""
    dots, cut = dots_of(observe_track(videos, region(job["task"], frames=job["frames"])), videos.shape[-1])
    models = gaussians(context)
    found = models[-1].conditional_mean(dots, cut, CUT_NOISE)
    if TASKS[job["task"]].labelled:
        for k in labels.unique().tolist():
            some = labels == k
            found[some] = models[k].conditional_mean(dots[some], cut[some], CUT_NOISE)
    return found


def extrapolate(paths: np.ndarray, observed: int, order: int) -> np.ndarray:
    """Paths (n, t, 2) of which the first `observed` frames are read, continued with constant position (order 0),
    velocity (1) or acceleration (2), from the last order + 1 of those frames or as many as there are.
    """
    known = paths[:, max(0, observed - order - 1) : observed]
    times = np.arange(1 - known.shape[1], 1)  # 0 is the last observed frame
    later = np.arange(1, paths.shape[1] - observed + 1)
    curve = polynomial.polyfit(times, known.swapaxes(0, 1).reshape(len(times), -1), len(times) - 1)
    values = polynomial.polyval(later, curve).reshape(len(paths), 2, -1)
    return np.concatenate([paths[:, :observed], values.swapaxes(1, 2)], 1)


def trivial_answers(job, videos):
    """Paths (b, frames, 2) of answers without a model."""
    spec = split("test").spec
    shown = torch.where(region(job["task"], frames=job["frames"]), videos, 1.0)
    found = [interpolate_gaps(track_video(shown).path)]
    if job["task"] in ("FP", "CFP"):
        known = interpolate_gaps(track_video(videos).path)
        found += [extrapolate(known, job["frames"], order).clip(0, spec.size - 1) for order in range(3)]
    return found


def decoded(net, tokenizer, job, videos, labels=None, trajectories=None):
    """Paths (b, frames, 2) in the completed videos; along each of the trajectories one video is decoded."""
    found, (task, frames) = [], (job["task"], job["frames"])
    whole = F.adaptive_max_pool3d((~region(task, frames=frames))[None].float(), net.grid)[0] == 0
    for k, part in enumerate(torch.arange(len(videos)).split(BATCH)):
        with bf16_autocast():
            if trajectories is None:
                asked = labels[part] if TASKS[task].labelled else None
                tokens = complete(net, tokenizer, videos[part], task, asked, frames, seed=7000 + k)
            else:
                condition = encode_condition(tokenizer, videos[part], task, frames)["condition"]
                tokens = decode_video(net, trajectories[part], condition, whole, seed=7000 + k)
            found.append(interpolate_gaps(track_video(tokenizer.decode(tokens)).path))
    return np.concatenate(found)


def within(draws: np.ndarray, truth: np.ndarray, where: np.ndarray) -> np.ndarray:
    """For each clip the share of masked frames in which the truth lies within the draws (k, b, frames, 2).

    That is, not every draw is nearer to the mean of the others than the truth is to the mean of all draws. If truth and
    draws came from one distribution, it would be about k / (k + 1).
    """
    k, some = len(draws), where.any(1)
    mean = draws.mean(0)
    farthest = (np.linalg.norm(draws - mean, axis=-1) * k / (k - 1)).max(0)  # from the mean of the other draws
    inside = (np.linalg.norm(truth - mean, axis=-1) <= farthest) * where
    return inside[some].sum(1) / where[some].sum(1)


def bootstrap(values: np.ndarray, confidence: float, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Interval of the mean over clips, from more resamples than usual: its ends are rare."""
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(len(values), size=(1000, len(values)))].mean(1)
                            for _ in range(resamples // 1000)])  # fmt: skip
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def completed(job, context, clips):
    """{method: the error of each clip (b,) in px} of the answers that need no video; masked frames (b, frames) bool;
    the joint model's draws (k, b, frames, 3), and their medoid (b, frames, 3).
    """
    settings, (task, frames) = context.settings, (job["task"], job["frames"])
    joint, k = checkpoints.load("transformer", context.artifacts)[0], settings.draws
    videos, labels, truth = to_float(clips.videos), clips.labels, clips.paths.numpy()
    where = masked_frames(task, clips.paths, frames).numpy()
    with bf16_autocast():
        pairs = enumerate(zip(videos.split(250), labels.split(250), strict=True))
        parts = [complete_trajectories(joint, x, task, y, frames, k, 5000 + part) for part, (x, y) in pairs]
    draws = torch.cat(parts, 1).float()
    seen = region(task, frames=frames)
    central = medoid(draws, torch.stack([contradictions(part, videos, seen) for part in draws]))
    paths = draws[..., :2].numpy()
    errors = [mean_error(answer, truth, where) for answer in trivial_answers(job, videos)]
    found = {
        "trivial": min(errors, key=np.mean),
        "linear-Gaussian": mean_error(linear_answer(job, context, videos, labels)[..., :2].numpy(), truth, where),
        "joint, one sample": mean_error(paths[0], truth, where),
        f"joint, medoid of {k}": mean_error(central[..., :2].numpy(), truth, where),
        f"joint, mean of {k}": mean_error(paths.mean(0), truth, where),
        f"joint, best of {k}": np.min([mean_error(path, truth, where) for path in paths], 0),
    }
    return found, where, draws, central


def rows_of(job, found):
    """Rows of {method: errors (b,) of the clips, or of the first}: mean errors, and gains over the baselines."""
    rows = []
    for method, errors in found.items():
        rows.append(row_of(job, method, "error (px)", errors, metrics.mean_interval(errors)))
        for baseline in BASELINES:
            if method not in BASELINES[: BASELINES.index(baseline) + 1]:
                gain = found[baseline][: len(errors)] - errors
                interval = bootstrap(gain, 1 - 0.05 / COMPARISONS)
                rows.append(row_of(job, method, f"gain over {baseline} (px)", gain, interval))
    return rows


def row_of(job, method, metric, values, interval):
    """One row: the mean of values (b,)."""
    return job | {"method": method, "metric": metric, "value": float(np.mean(values)), "low": interval[0],
                  "high": interval[1], "n": len(values), "examples": len(values)}  # fmt: skip


def run(job, context):
    """All methods on the same clips of one task."""
    settings, k = context.settings, context.settings.draws
    tokenizer, joint, plain = (checkpoints.load(name, context.artifacts)[0] for name in MODELS)
    clips = split(settings.split).batch(range(settings.clips))
    found, where, draws, central = completed(job, context, clips)
    few = clips[: settings.decoded_clips]
    videos, truth = to_float(few.videos), few.paths.numpy()

    def error(paths):
        return mean_error(paths, truth, where[: len(truth)])

    found |= {
        f"joint, video of the medoid of {k}": error(decoded(joint, tokenizer, job, videos, None, central[: len(few)])),
        "plain, video of one sample": error(decoded(plain, tokenizer, job, videos, few.labels)),
        "tokenizer": error(interpolate_gaps(track_video(reconstructed(tokenizer, videos)).path)),
    }
    shares = within(draws[..., :2].numpy(), clips.paths.numpy(), where)
    calibrated = row_of(job, f"joint, {k} draws", "truth within the draws", shares, metrics.mean_interval(shares))
    return [*rows_of(job, found), calibrated]


def reconstructed(tokenizer, videos):
    """The upper bound of all decoded answers."""
    with bf16_autocast():
        return torch.cat([tokenizer.reconstruct(part) for part in videos.split(BATCH)])
