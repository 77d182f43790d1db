"""The sealed split is measured by one study alone, and compared with the test split as two samples are."""

import re

import numpy as np
import pandas as pd
import pytest
from studies import overfitting, sealed, tasks

from trajlib.course import options
from trajlib.evaluate import metrics

PACKAGE = options.NOTEBOOKS.parent / "trajlib"
METHOD, METRIC = sealed.ANSWERS[0]


def test_nothing_else_opens_the_sealed_split():
    quoted = re.compile(r"[\"']sealed\\?[\"']")
    files = [*PACKAGE.rglob("*.py"), *options.NOTEBOOKS.rglob("*.py"), *options.NOTEBOOKS.glob("*.ipynb")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in files}
    opened = {
        name for name, text in texts.items() for _ in quoted.findall(re.sub(r"(read|load)\(.{0,2}sealed", "", text))
    }
    assert opened == {"clips.py", "sealed.py"}
    assert sealed.SMOKE.split == "validation"  # trying the study leaves it sealed


def row(value, half, part="FP", method=METHOD, metric=METRIC, n=500, **more):
    ends = {"value": value, "low": value - half, "high": value + half, "n": n}
    return {"part": part, "frames": 1, "method": method, "metric": metric} | ends | more


def tested(*rows):
    return pd.DataFrame(rows).rename(columns={"part": "task"})


def test_equal_figures_are_inside_and_do_not_differ():
    found = sealed.compare(pd.DataFrame([row(8.0, 0.4)]), {}, tested(row(8.0, 0.4)))
    assert found["inside"].tolist() == [True]
    assert found["p"].item() == pytest.approx(1)
    assert found["expected"].item() == pytest.approx(0.834, abs=1e-3)  # two samples of equal size


def test_figures_far_apart_differ_after_the_correction():
    rows = [row(8.0, 0.4, part=part) for part in ("FP", "FI", "OPC")]
    others = [row(value, 0.4, part=part) for value, part in zip((8.0, 8.5, 12.0), ("FP", "FI", "OPC"), strict=True)]
    found = sealed.compare(pd.DataFrame(rows), {}, tested(*others))
    assert found["inside"].tolist() == [True, False, False]
    assert (found["p"] < 0.05).tolist() == [False, False, True]


def test_a_figure_without_an_interval_takes_the_other_splits_error():
    figures = {"tokenizer position error p99": {"value": 0.6, "interval": None, "n": 1000}}
    metric = "localization error, 99th percentile (px)"
    frame = pd.DataFrame([row(0.66, 0.04, "reconstruction", "tokenizer", metric)])
    found = sealed.compare(frame, figures, tested(row(1, 1)))
    both = np.hypot(0.04, 0.04 / np.sqrt(2)) / 1.96
    assert found["p"].item() == pytest.approx(2 * (1 - sealed.norm.cdf(0.06 / both)), rel=1e-3)
    assert found["inside"].tolist() == [False]


def test_intervals_of_gains_are_known_to_be_wider():
    narrow, wide = (sealed.standard_error(row(0, 1), level) for level in (0.95, 1 - 0.05 / tasks.COMPARISONS))
    assert narrow == pytest.approx(1 / 1.960, abs=1e-3)
    assert wide == pytest.approx(1 / 2.807, abs=1e-3)


def test_the_table_prints_shares_in_per_cent():
    frame = pd.DataFrame([row(0.9, 0.02, "classification", "3D CNN", "accuracy", frames=0), row(8.0, 0.4)])
    figures = {"simple_3dcnn accuracy": {"value": 0.91, "interval": [0.89, 0.93], "n": 1000}}
    text = sealed.table(sealed.compare(frame, figures, tested(row(8.1, 0.4, n=250))))
    assert "| 3D CNN: accuracy, % | 91.0 (89.0 to 93.0), n = 1,000 | 90.0 (88.0 to 92.0), n = 500 | yes |" in text
    assert (
        "| FP from 1: medoid of 16, error (px) | 8.10 (7.70 to 8.50), n = 250 | 8.00 (7.60 to 8.40), n = 500 |" in text
    )


def test_a_task_is_better_if_the_whole_interval_is():
    rows = [row(0.5, half, part, "joint, mean of 16", "gain") for half, part in ((0.4, "FP"), (0.6, "FI"))]
    assert sealed.better(pd.DataFrame(rows), "gain") == sealed.better(tested(*rows), "gain") == ["FP"]


def test_the_interval_of_a_quantile_keeps_the_frames_of_a_clip_together():
    """Frames that are all alike tell no more than one."""
    one = np.random.default_rng(0).normal(size=(400, 1))
    assert sealed.quantile_interval(np.repeat(one, 16, 1), 0.5) == pytest.approx(sealed.quantile_interval(one, 0.5))
    low, high = sealed.quantile_interval(one, 0.5)
    assert (low, high) == pytest.approx(metrics.median_interval(one[:, 0]), abs=0.03)


def test_a_model_that_knows_its_training_clips_better_overfits():
    ends = [(("a", "training"), 1.0), (("a", "new"), 1.0), (("b", "training"), 1.0), (("b", "new"), 2.0)]
    rows = [{"model": model, "clips": clips, "metric": "x", "value": value, "low": value - 0.1, "high": value + 0.1}
            for (model, clips), value in ends]  # fmt: skip
    found = overfitting.compare(pd.DataFrame(rows))
    assert found["differs"].tolist() == [False, True]
    assert found["new"].tolist()[1] == pytest.approx((2.0, 1.9, 2.1))
