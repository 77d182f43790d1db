"""Watching a training changes nothing; its curve on known losses; shares keep the passes; the reading of a table."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_1samp
from studies import training_curves
from studies.training_curves import SHARES, SMOKE, Watched

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.zoo import recipes
from trajlib.zoo.config import RECIPES

TINY = replace(RECIPES["smoke"].simple_3dcnn, clips=8)
PROFILE = replace(RECIPES["smoke"], simple_3dcnn=replace(TINY, train=replace(TINY.train, steps=6, log_lines=2)))


def watched(folder, settings=SMOKE, profile=PROFILE, **options):
    """A run of the 3D CNN's recipe, and its batches of new clips."""
    run = Watched("simple_3dcnn", profile, folder, split("validation"), None, 0.0, settings=settings)
    recipes.simple_3dcnn.train(run)
    return replace(run, data=split("train"), new=run.batch_fns, batch_fns={}, **options)


def test_watching_changes_no_weight_and_leaves_no_file(tmp_path):
    plain, _ = recipes.simple_3dcnn.train(
        recipes.Run("simple_3dcnn", PROFILE, tmp_path / "plain", split("train"), None, 0)
    )
    model, _ = recipes.simple_3dcnn.train(watched(tmp_path / "watched"))
    for name, weight in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_the_new_loss_is_the_averaged_models_on_new_clips(tmp_path):
    run = watched(tmp_path)
    model, _ = recipes.simple_3dcnn.train(run)
    losses = []
    for k in range(SMOKE.batches):
        videos, labels = run.new[""](PROFILE.simple_3dcnn.train.steps - SMOKE.batches + k)
        losses.append(torch.nn.functional.cross_entropy(model(to_float(videos)), labels).item())
    assert [row["steps"] for row in run.rows] == [3, 6]
    assert run.rows[-1]["new"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert 0 < run.rows[0]["seconds"] < run.rows[1]["seconds"]
    known = to_float(split("train").videos(range(8)))
    assert not any(torch.equal(to_float(video), other) for video in videos for other in known)


def test_both_stages_of_a_model_are_one_curve(tmp_path):
    """i3d: single frames first. Steps, seconds and examples go on counting."""
    context = SimpleNamespace(settings=replace(SMOKE, clips=4), profile="smoke", artifacts="shipped")
    rows = training_curves.run({"model": "i3d", "seed": 0}, context)
    steps = {(row["stage"], row["steps"]): row["seconds"] for row in rows if row["metric"] == "loss"}
    assert list(steps) == [("frames", 2), ("frames", 4), ("main", 6), ("main", 8)]
    assert list(steps.values()) == sorted(steps.values())
    assert {row["metric"] for row in rows} == {"loss", "px"}  # no accuracy: it does not fall
    assert rows[-1]["examples"] == 4 * RECIPES["smoke"].frames.train.batch + 4 * RECIPES["smoke"].i3d.train.batch


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokenizer", "transformer", "plain_transformer", "autoregressive", "language"])
def test_every_other_recipe_can_be_watched(name, one_thread):
    settings = replace(SMOKE, clips=4, tracks=8, shares={name: 1.0 if name == "tokenizer" else 0.5})
    context = SimpleNamespace(settings=settings, profile="smoke", artifacts="shipped")
    rows = training_curves.run({"model": name, "seed": 0}, context)
    frame = pd.DataFrame(rows)
    assert np.isfinite(frame.drop(columns=["model", "stage", "metric"]).to_numpy(float)).all()
    assert training_curves.METRICS.get(name, "loss") in set(frame["metric"])
    assert frame["stage"].nunique() == (2 if name == "tokenizer" else 1)


@pytest.mark.parametrize("name", SHARES)
def test_a_clip_comes_up_as_often_as_in_the_whole_training(name):
    full, settings = RECIPES["full"], training_curves.FULL
    context = SimpleNamespace(settings=settings, profile="full")
    wanted = training_curves.chosen({"model": name, "seed": 3}, context)
    one, cfg = getattr(wanted, name), getattr(full, name)
    for size in ("clips", "tracks"):
        if hasattr(cfg, size):
            assert one.train.steps / getattr(one, size) == pytest.approx(cfg.train.steps / getattr(cfg, size), rel=0.01)
    assert one.train.steps == round(SHARES[name] * cfg.train.steps)
    assert (1 - one.train.ema) * one.train.steps == pytest.approx((1 - cfg.train.ema) * cfg.train.steps)
    assert one.train.steps // settings.points >= 2  # steps of a mean
    assert wanted.seed == 3
    others = [model for model in SHARES if model != name]
    assert all(getattr(wanted, other) == getattr(full, other) for other in others)


def test_a_curve_of_known_losses():
    def batches(*values):
        return pd.DataFrame({"loss": values, "accuracy": [0.0, 1.0]})

    points = [(4, 1.0, batches(3.0, 5.0)), (8, 2.0, batches(1.0, 3.0)), (12, 3.0, batches(2.0, 5.0))]
    history = {"loss": list(range(12, 0, -1)), "accuracy": 12 * [0.5]}
    rows = training_curves.curve(points, history, 3)
    assert [row["metric"] for row in rows] == 3 * ["loss"]
    assert [row["training"] for row in rows] == [10, 6, 2]  # of 11 10 9, 7 6 5, 3 2 1
    assert [row["new"] for row in rows] == [4, 2, 3.5]
    assert [row["rise"] for row in rows] == [0, -2, 1.5]  # above 4, 4 and 2
    assert rows[1]["rise_high"] == -2  # on the same batches: both fell by 2
    assert rows[2]["rise_low"] < 0


def test_intervals_are_students():
    values = np.random.default_rng(0).normal(size=9)
    found, expected = training_curves.interval("new", values), ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found["new_low"], found["new_high"]) == pytest.approx(tuple(expected))


def table(training, new, rise, model="i3d"):
    """Points of one stage, half an interval is 0.1; before them a stage whose losses do not count."""
    rows = [{"stage": "frames", "steps": 1, "training": 0.0, "new": 0.0, "rise": 0.0}]
    for k, (one, other) in enumerate(zip(training, new, strict=True)):
        rows.append({"stage": "main", "steps": 10 * (k + 1), "training": one, "new": other, "rise": rise})
    frame = pd.DataFrame(rows).assign(model=model, seed=0, share=0.1, seconds=5.0, metric="loss")
    for name in ("training", "new", "rise"):
        frame[f"{name}_low"], frame[f"{name}_high"] = frame[name] - 0.1, frame[name] + 0.1
    return frame


@pytest.mark.parametrize(
    ("training", "new", "rise", "since", "best"),
    [
        ([3, 2, 1], [3, 2, 1.5], -0.5, "improves to the end", 30),
        ([3, 2, 1], [3, 1.5, 2], 0.5, "worse, training falls", 20),
        ([3, 2, 1], [3, 1.5, 1.6], 0.05, "level, training falls", 20),
        ([3, 2, 1.9], [3, 1.5, 2], 0.5, "worse", 20),
    ],
)
def test_overfitting_is_a_new_loss_that_rises_while_training_falls(training, new, rise, since, best):
    row = training_curves.compare(table(training, new, rise)).iloc[0]
    assert (row["since"], row["best"], row["steps"]) == (since, best, 30)
    assert row["new"] == pytest.approx((new[-1], new[-1] - 0.1, new[-1] + 0.1))
    assert row["ended"] == training_curves.ended("i3d")["loss"]


@pytest.mark.parametrize("name", SHARES)
def test_every_model_has_an_end_to_compare_with(name):
    assert training_curves.ended(name)[training_curves.METRICS.get(name, "loss")] > 0
