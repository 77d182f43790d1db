"""The main figures once more, on clips of the split "sealed": no training, choice or notebook has used them.

Test clips were looked at often, and what was chosen after a look favours them: methods, settings, even sentences. So
the figures that the report quotes are measured again on other clips of the same kind, once, with the last weights.
Samples of the generator have no split; they are drawn with a seed of their own. Some six minutes on two cores.
"""

import dataclasses
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm, t
from studies import generation, robustness, tasks
from studies.tokenizer_ablation import distortion

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.samples import check_physics
from trajlib.zoo import checkpoints

BATCH = 50
MODELS = ("tokenizer", "transformer", "simple_3dcnn", "i3d", "token_classifier", "token_tracker")
KEYS = ("part", "frames")
# "part" is a task with so many observed frames, or one of PARTS. 95 % intervals over clips; those of gains are widened
# as in the study `tasks`
COLUMNS = {"part": str, "frames": int, "method": str, "metric": str, "value": float, "low": float, "high": float,
           "n": int}  # fmt: skip
SHOWN = {  # what the report compares: method and metric, and its figure on the test split in the results file
    ("tokenizer", "PSNR (dB)"): "tokenizer psnr",
    ("tokenizer", "foreground PSNR (dB)"): "tokenizer foreground psnr",
    ("tokenizer", "localization error, median (px)"): "tokenizer position error median",
    ("tokenizer", "localization error, 99th percentile (px)"): "tokenizer position error p99",
    ("tokenizer", "dot present"): "tokenizer dot present",
    ("3D CNN", "accuracy"): "simple_3dcnn accuracy",
    ("I3D", "accuracy"): "i3d accuracy",
    ("transformer on tokens", "accuracy"): "token_classifier accuracy",
    ("tracker on tokens, equations", "accuracy"): "token_tracker accuracy",
    ("trajectory first", "class consistency"): "trajectory first physics agreement",
    ("trajectory first", "I3D agreement"): "trajectory first class agreement",
    ("trajectory first", "one dot"): "trajectory first dot present",
    ("trajectory first", "Frechet distance"): "trajectory first Frechet distance",
}
ANSWERS = (("joint, medoid of 16", "error (px)"), ("joint, mean of 16", "gain over linear-Gaussian (px)"))  # of tasks


@dataclass(frozen=True)
class Settings:
    clips: int = 500  # of the tokenizer and the tasks
    classified: int = 1000
    samples: int = 1000  # of the generator, and as many real clips for the Frechet distance
    seed: int = 7  # of the samples: the study `generation` has 0
    validation_clips: int = 128  # what is normal, and how exactly a dot is tracked
    draws: int = 16
    tracks: int = 12000
    split: str = "sealed"  # a smoke run leaves it sealed
    grid: dict = field(default_factory=lambda: {"parts": tuple(PARTS), "tasks": tasks.jobs(tasks.FULL)})


def jobs(settings):
    found = [{"part": part, "frames": 0} for part in settings.grid["parts"]]
    return found + [{"part": job["task"], "frames": job["frames"]} for job in settings.grid["tasks"]]


def run(job, context):
    """The rows of one part, or of one task."""
    return PARTS.get(job["part"], completion)(job, context)


def row_of(job, method, metric, value, interval, n):
    low, high = interval
    return job | {"method": method, "metric": metric, "value": float(value), "low": float(low), "high": float(high)} | {
        "n": n, "examples": n}  # fmt: skip


def share_of(job, method, metric, hits):
    """The row of a share: hits (n,) bool."""
    return row_of(job, method, metric, np.mean(hits), metrics.wilson(hits.sum(), len(hits)), len(hits))


def reconstruction(job, context):
    """The tokenizer, by the measures of notebook 03: whole grey levels, all frames of all clips."""
    net, data, parts = checkpoints.load("tokenizer", context.artifacts)[0], split(context.settings.split), []
    for index in torch.arange(context.settings.clips).split(BATCH):
        clips = data.batch(index.tolist())
        videos = to_float(clips.videos)
        parts.append(distortion(net.decode(net.encode(videos)).mul(255).round() / 255, videos, clips.paths))
    found = {key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}
    rows, n = [], context.settings.clips
    for name, key in {"PSNR (dB)": "psnr", "foreground PSNR (dB)": "foreground_psnr"}.items():
        rows.append(row_of(job, "tokenizer", name, found[key].mean(), metrics.mean_interval(found[key]), n))
    for name, q in {"median": 0.5, "99th percentile": 0.99}.items():
        value, interval = np.quantile(found["error"], q), quantile_interval(found["error"], q)
        rows.append(row_of(job, "tokenizer", f"localization error, {name} (px)", value, interval, n))
    return [*rows, share_of(job, "tokenizer", "dot present", found["present"].all(1))]


def quantile_interval(values, q, resamples=1000, seed=0):
    """Bootstrap 95 % interval over clips of a quantile of all values (n, t): frames of a clip stay together."""
    rng = np.random.default_rng(seed)
    found = [np.quantile(values[rng.integers(len(values), size=len(values))], q) for _ in range(resamples)]
    return np.quantile(found, (0.025, 0.975))


def classification(job, context):
    """Four methods on the same clips."""
    load, held = partial(checkpoints.load, artifacts=context.artifacts), context.settings.validation_clips
    tokenizer, track = load("tokenizer")[0], partial(robustness.by_tracker, load("token_tracker")[0])
    held = split("validation").batch(range(held))
    noise = robustness.tracking_noise(track, tokenizer.encode(to_float(held.videos)), held.paths)
    names = {"3D CNN": "simple_3dcnn", "I3D": "i3d", "transformer on tokens": "token_classifier"}
    found = {
        name: robustness.Method("token" in model, partial(robustness.by_network, load(model)[0]))
        for name, model in names.items()
    }
    found["tracker on tokens, equations"] = robustness.Method(True, partial(robustness.by_equations, track, noise))
    clips = split(context.settings.split).batch(range(context.settings.classified))
    return [share_of(job, name, "accuracy", hits) for name, hits in robustness.ask(found, tokenizer, clips).items()]


def generated(job, context):
    """Fresh samples; their features are compared with those of sealed clips."""
    settings, i3d = context.settings, checkpoints.load("i3d", context.artifacts)[0]
    sizes = generation.Settings(clips=settings.samples, validation_clips=settings.validation_clips)
    own, data = dataclasses.replace(context, settings=sizes), split(settings.split)
    labels = data.labels(range(settings.samples))
    found = generation.examine(generation.sampled("joint", labels, settings.seed, own), i3d.features)
    real = ((to_float(data.videos(part.tolist())), 0.0) for part in torch.arange(settings.samples).split(BATCH))
    pair = found["features"].astype(float), generation.examine(real, i3d.features)["features"].astype(float)
    normal = generation.limits(own)
    checked = check_physics(found["tracks"], normal["normal"], normal["noise"])
    with torch.no_grad():
        named = i3d.head(torch.from_numpy(found["features"])).argmax(-1)
    shares = {"class consistency": checked.best == labels.numpy(), "one dot": checked.one_dot}
    shares["I3D agreement"] = (named == labels).numpy()
    distance = generation.frechet_distance(*pair), generation.jackknife(generation.frechet_distance, *pair)
    return [
        *(share_of(job, "trajectory first", metric, hits) for metric, hits in shares.items()),
        row_of(job, "trajectory first", "Frechet distance", *distance, settings.samples),
    ]


def completion(job, context):
    """The answers to one task that need no video, as in the study `tasks`."""
    settings = context.settings
    own = tasks.Settings(clips=settings.clips, draws=settings.draws, tracks=settings.tracks)
    task, clips = {"task": job["part"], "frames": job["frames"]}, split(settings.split).batch(range(settings.clips))
    found, *_ = tasks.completed(task, dataclasses.replace(context, settings=own), clips)
    return [job | row for row in tasks.rows_of({}, found)]


PARTS = {"reconstruction": reconstruction, "classification": classification, "generation": generated}
FULL = Settings()
SMOKE = Settings(8, 8, 8, 7, 16, 4, 48, "validation", {"parts": tuple(PARTS), "tasks": [{"task": "IPD", "frames": 1}]})


# ---- reading the table ----


def compare(frame, figures, tested) -> pd.DataFrame:
    """A row for each figure that both splits have: columns part, frames, method, metric; value, low, high, n, and the
    same with `test_` before; `inside`, whether the test split's value lies in the sealed split's interval; `expected`,
    how probable that is if only the clips differ; `p` of that hypothesis, after Holm's correction.

    `frame` is this study's table, `figures` are those of the results file, `tested` is the table of the study `tasks`.
    Where the test split's figure has no interval, its error is the sealed split's, scaled to as many clips.
    """
    tested = tested.set_index(["task", "frames", "method", "metric"])[["value", "low", "high", "n"]]
    found = []
    for row in frame.to_dict("records"):
        pair, key = (row["method"], row["metric"]), (row["part"], row["frames"], row["method"], row["metric"])
        if SHOWN.get(pair) in figures:
            entry = figures[SHOWN[pair]]
            low, high = entry["interval"] or (np.nan, np.nan)
            other = {"value": entry["value"], "low": low, "high": high, "n": entry["n"]}
        elif pair in ANSWERS and key in tested.index:
            other = tested.loc[key].to_dict()
        else:
            continue
        level = 1 - 0.05 / (tasks.COMPARISONS if pair[1].startswith("gain") else 1)
        error, other_error = standard_error(row, level), standard_error(other, level)
        if np.isnan(other_error):
            other_error = error * np.sqrt(row["n"] / other["n"])
        both = max(np.hypot(error, other_error), 1e-12)
        row["inside"] = row["low"] <= other["value"] <= row["high"]
        row["expected"] = 2 * norm.cdf((row["high"] - row["low"]) / 2 / both) - 1
        row["p"] = 2 * norm.sf(abs(row["value"] - other["value"]) / both)
        found.append(row | {f"test_{name}": value for name, value in other.items()})
    frame = pd.DataFrame(found)
    return frame.assign(p=metrics.holm(frame["p"].to_numpy()))


def student_half(values) -> float:
    """Half of the 95 % interval of the mean of few values (n,), by Student's t; 0 for a single one."""
    values = np.asarray(values, float)
    n = len(values)
    return float(t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0


def standard_error(row, level=0.95):
    """Half of a row's interval, as standard errors of a normal distribution."""
    return (row["high"] - row["low"]) / (2 * norm.ppf((1 + level) / 2))


def table(compared) -> str:
    """The comparison in Markdown; shares in per cent."""
    lines = [
        "| figure | test split | sealed split | test value in the sealed interval | p, corrected by Holm |",
        "|---|--:|--:|---|--:|",
    ]
    for row in compared.to_dict("records"):
        share = not any(unit in row["metric"] for unit in ("(px)", "(dB)", "distance"))
        scale, places = (100, 1) if share else (1, 1 if "distance" in row["metric"] else 2)
        name = f"{row['method']}: {row['metric']}{', %' * share}"
        if row["frames"]:
            name = f"{row['part']} from {row['frames']}: {row['method'].removeprefix('joint, ')}, {row['metric']}"
        cells = [name]
        for some in ("test_", ""):
            value, low, high = (f"{scale * row[some + end]:.{places}f}" for end in ("value", "low", "high"))
            interval = "" if np.isnan(row[f"{some}low"]) else f" ({low} to {high})"
            cells.append(f"{value}{interval}, n = {row[some + 'n']:,.0f}")
        lines.append(f"| {' | '.join(cells)} | {'yes' if row['inside'] else 'no'} | {row['p']:.2g} |")
    return "\n".join(lines)


def better(frame, metric, method="joint, mean of 16") -> list[str]:
    """Tasks from one frame in which a method has a gain over a baseline whose widened interval lies above 0."""
    task = "task" if "task" in frame else "part"
    rows = frame[(frame["metric"] == metric) & (frame["method"] == method) & (frame["frames"] == 1)]
    return rows.loc[rows["low"] > 0, task].tolist()
