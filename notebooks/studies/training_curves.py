"""Training curves of every model: the loss of its training, and the same loss on new clips.

The shipped trainings kept no history. So each recipe runs again, next to the shipped models that it needs: the same
sizes, losses and batches, in a share of its steps (`SHARES`). The learning rate runs through its whole schedule in
them, the average reaches back over the same share of them, and of the recipe's clips the same share is taken, so each
comes up as often as in the whole training. Fewer steps end higher than the shipped training: see `ended`.

"training": mean over the last steps, of the current weights, with dropout. "new": mean over batches of validation
clips, the same ones at every point, of the averaged weights, without dropout; so it may lie below. While the tokenizer
trains on crops about the dot, 60 % of its first stage, "training" is their loss; new clips are always whole.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from studies.sealed import student_half

from trajlib.data.clips import split
from trajlib.training.loop import fit
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints, joint_recipe, language_recipe, recipes
from trajlib.zoo.config import RECIPES

SHARES = {  # of the whole training's steps and clips: at most five minutes each, on one core without bfloat16
    "tokenizer": 0.02, "transformer": 0.03, "plain_transformer": 0.02, "autoregressive": 0.03, "simple_3dcnn": 0.1,
    "i3d": 0.1, "token_classifier": 0.2, "token_tracker": 0.1, "language": 0.04,
}  # fmt: skip
METRICS = {"transformer": "trajectory"}  # what stands for a model, if not its "loss": that is not in its card
MODELS = ("tokenizer", "transformer", "token_tracker")  # that others need
KEYS = ("model", "seed")
# steps: counted over the stages of a model; seconds: CPU seconds of training so far, with clips that a step renders;
# rise: of the new loss above its least value before, on the same batches; 95 % intervals over steps or batches
COLUMNS = {"model": str, "seed": int, "stage": str, "steps": int, "share": float, "seconds": float, "metric": str}
COLUMNS |= {f"{name}{end}": float for name in ("training", "new", "rise") for end in ("", "_low", "_high")}
COLUMNS["n"] = int  # new clips, or what else the model learns from


@dataclass(frozen=True)
class Settings:
    clips: int = 256  # validation clips, the batches' source
    tracks: int = 2000  # validation tracks, for the models that learn trajectories
    batches: int = 8  # of new clips at each point
    points: int = 10  # of each stage
    window: int = 20  # training steps of a mean, at most
    shares: dict = field(default_factory=lambda: SHARES)
    grid: dict = field(default_factory=lambda: {"seeds": (0,), "models": tuple(SHARES)})


FULL = Settings()
SMOKE = Settings(16, 32, 2, 2, 4, dict.fromkeys(SHARES, 0.5), {"seeds": (0,), "models": ("i3d", "token_tracker")})


def jobs(settings):
    return [{"model": model, "seed": seed} for seed in settings.grid["seeds"] for model in settings.grid["models"]]


def recipe_of(name: str) -> Callable:
    """The recipe of a model, wherever it stands."""
    return next(getattr(module, name) for module in (recipes, joint_recipe, language_recipe) if hasattr(module, name))


def chosen(job, context):
    """All recipes of a job: the profile's; its own, and that of the frames that I3D begins with, shortened."""
    base, share, points = RECIPES[context.profile], context.settings.shares[job["model"]], context.settings.points

    def shortened(cfg):
        trains = {name: getattr(cfg, name) for name in ("train", "position") if hasattr(cfg, name)}
        found = {k: replace(v.shortened(max(1, round(share * v.steps))), log_lines=points) for k, v in trains.items()}
        found |= {name: round(share * getattr(cfg, name)) for name in ("clips", "tracks") if hasattr(cfg, name)}
        return replace(cfg, **found | ({"validation_clips": 1} if "position" in trains else {}))  # not kept

    own = {name: shortened(getattr(base, name)) for name in (job["model"], "frames")}
    return replace(base, **own, seed=job["seed"])


def run(job, context):
    """The rows of one model: it is trained."""
    settings, recipe, wanted = context.settings, recipe_of(job["model"]), chosen(job, context)
    cfg = getattr(wanted, job["model"])
    few = {name: getattr(settings, name) for name in ("clips", "tracks") if hasattr(cfg, name)}
    new = Watched(job["model"], replace(wanted, **{job["model"]: replace(cfg, **few)}), context.artifacts,
                  split("validation"), None, time.time(), settings=settings)  # fmt: skip
    recipe.train(new)
    watched = replace(new, recipes=wanted, data=split("train"), new=new.batch_fns, batch_fns={}, rows=[])
    recipe.train(watched)
    return [job | {"share": settings.shares[job["model"]]} | row for row in watched.rows]


@dataclass(frozen=True)
class Watched(recipes.Run):
    """A run of a recipe that keeps its losses, not its model.

    `new`: the batches of the same recipe on new clips, for each part. Without them nothing is trained: the run's own
    batches are put into `batch_fns`.
    """

    settings: Settings = FULL
    new: dict[str, Callable] = field(default_factory=dict)
    batch_fns: dict[str, Callable] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)

    def needs(self, recipe):
        """The model of another recipe, as the artifacts have it."""
        model, card = checkpoints.load(recipe.__name__, self.artifacts)
        self.trained_on[recipe.__name__] = card["sha256"]
        return model

    def fit(self, model, loss_fn, batch_fn, data, part="", train=None):
        """As `Run.fit`, without checkpoint."""
        train, settings = train or self.cfg.train, self.settings
        self.batch_fns[part] = batch_fn
        if not self.new:
            return model, {"figures": {}, "curve": {}}
        batches, points, watching = [], [], 0.0
        for k in range(settings.batches):  # the last ones: a tokenizer's first are crops
            torch.manual_seed(k)
            batches.append(self.new[part](train.steps - settings.batches + k))

        @torch.no_grad()
        def watch(step, average):
            nonlocal watching
            stopped, found = time.process_time(), []
            for k, batch in enumerate(batches):
                torch.manual_seed(k)  # the same masks at every point
                with bf16_autocast() if train.bf16 else nullcontext():
                    loss, figures = loss_fn(average, *batch)
                found.append({"loss": loss.item()} | {name: value.item() for name, value in figures.items()})
            points.append((step, stopped - began - watching, pd.DataFrame(found)))
            watching += time.process_time() - stopped

        began = time.process_time()
        model, history = fit(
            model, lambda m, b: loss_fn(m, *b), batch_fn, **train.options, seed=self.recipes.seed, callback=watch
        )
        facts = {"stage": part.strip(".") or "main", "n": settings.batches * train.batch}
        before = {name: self.rows[-1][name] if self.rows else 0 for name in ("steps", "seconds", "examples")}
        for row in curve(points, history, min(settings.window, train.steps // settings.points)):
            row["examples"] = row["steps"] * train.batch
            self.rows.append(row | facts | {name: row[name] + count for name, count in before.items()})
        return model, {"figures": {}, "curve": {}}


def curve(points, history, window):
    """Rows of one training: of points (step, seconds, figures of each batch of new clips), and {figure: its values}.

    A training mean is over the last `window` steps.
    """
    rows = []
    for metric in [name for name in history if name != "accuracy"]:
        least = points[0][2][metric]
        for step, seconds, found in points:
            values = found[metric]
            last = history[metric][max(0, step - window) : step]
            row = {"steps": step, "seconds": seconds, "metric": metric} | interval("training", last)
            rows.append(row | interval("new", values) | interval("rise", values - least))
            least = min(least, values, key=np.mean)
    return rows


def interval(name, values):
    """{column: value} of a mean with its 95 % interval by Student's t; values (n,), two or more."""
    values = np.asarray(values, float)
    half = student_half(values)
    return {name: values.mean(), f"{name}_low": values.mean() - half, f"{name}_high": values.mean() + half}


# ---- reading the table ----


def ended(model: str) -> dict[str, float]:
    """{metric: mean over its last 50 steps} of the shipped training, from the card."""
    return json.loads((checkpoints.SHIPPED / f"{model}.json").read_bytes())["figures"]


def compare(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each model and seed: where its last stage ended, and what has happened since new clips were best.

    `training`, `new`: (value, low, high) at the end; `ended`: the shipped training's, missing if its card does not say.
    `best`: the step at which the loss on new clips is least. `since`: "improves to the end" if that is the last
    point. Else "worse" if new clips are significantly worse at the end than there, on the same batches, and "level" if
    not; with "training falls" if the training loss's interval at the end lies below that at `best`.
    """
    found = []
    for (model, seed), rows in frame.groupby(["model", "seed"], sort=False):
        metric = METRICS.get(model, "loss")
        rows = rows[(rows["metric"] == metric) & (rows["stage"] == rows["stage"].iloc[-1])]
        best, last = rows.loc[rows["new"].idxmin()], rows.iloc[-1]
        since = "worse" if last["rise_low"] > 0 else "level"
        since += ", training falls" * bool(last["training_high"] < best["training_low"])
        row = {"model": model, "seed": seed, "metric": metric, "share": last["share"], "steps": last["steps"]}
        row |= {"seconds": last["seconds"], "ended": ended(model).get(metric, np.nan), "best": best["steps"]}
        row |= {name: tuple(last[[name, f"{name}_low", f"{name}_high"]]) for name in ("training", "new")}
        found.append(row | {"since": "improves to the end" if best["steps"] == last["steps"] else since})
    return pd.DataFrame(found)
