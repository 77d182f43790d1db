"""Corrupted clips: all methods see the same ones, no answer is a wrong answer, and the table says what was counted."""

import numpy as np
import pandas as pd
import pytest
import torch
from studies import robustness
from studies.robustness import KINDS, METHODS, SMOKE

from trajlib.course import study
from trajlib.data.clips import TrajectoryDataset, split
from trajlib.data.render import Corruption
from trajlib.evaluate import metrics
from trajlib.zoo.batches import draw_augmentations


@pytest.mark.parametrize("kind", KINDS)
def test_strengths_rise_from_hardly_visible(kind):
    clean = split("validation").videos([0]).int()
    changed = [
        (split("validation", corruption=robustness.corruption_of(kind, float(s))).videos([0]) - clean).abs().sum()
        for s in KINDS[kind].strengths
    ]
    assert changed == sorted(changed)
    assert changed[-1] > 0
    assert robustness.corruption_of(kind, 0.0) is None


def test_a_method_that_finds_nothing_is_wrong():
    scores = np.array([[0.1, 0.7, 0.1, 0.1], [np.nan] * 4, [1.0, 0, 0, 0]])
    assert robustness.correct(scores, [1, 0, 2]).tolist() == [True, False, False]
    white = torch.full((1, 3, 16, 64, 64), 255, dtype=torch.uint8)
    assert not robustness.correct(robustness.by_equations(robustness.by_centroid, 0.02, white), [0]).any()
    assert not robustness.correct(robustness.by_exposure(None, white), [0]).any()


def test_family_weights_are_a_posterior_and_nan_where_there_is_nothing_to_fit():
    data = TrajectoryDataset(40, seed=21)
    tracks = [data.track(i) for i in range(40)]
    path, radius, label = (np.array([getattr(t, name) for t in tracks]) for name in ("path", "radius", "label"))
    path[0, 3], path[1] = np.nan, 20
    weights = robustness.family_weights(path, radius)
    assert np.isnan(weights[:2]).all()
    np.testing.assert_allclose(weights[2:].sum(1), 1)
    assert (weights[2:].argmax(1) == label[2:]).mean() > 0.95


def test_what_stands_still_is_not_tracked():
    clean, crowded = (split("validation", corruption=c).batch(range(8)) for c in (None, Corruption(distractors=3)))
    centroid, moving = (
        (track(crowded.videos)[..., :2] - clean.paths).norm(dim=-1).nanmedian()
        for track in (robustness.by_centroid, robustness.by_moving_centroid)
    )
    assert moving < 1 < centroid


def test_training_corruptions_are_of_every_kind_within_the_ranges_and_reproducible():
    drawn = [robustness.draw_corruption(np.random.default_rng(k)) for k in range(300)]
    for field, strengths, _ in KINDS.values():
        found = [value for corruption in drawn if (value := getattr(corruption, field))]
        assert len(found) > 10
        assert all(0 < value / strengths[-1] <= 1 for value in found)
    numbers = draw_augmentations(8, 2, 0)
    first, again, other = (robustness.corrupted_example(numbers, 3, c) for c in (1, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_a_row_is_what_a_second_look_counts(context_of):
    context = context_of(SMOKE, robustness.MODELS)
    rows = robustness.run({"corruption": "distractors", "strength": 4.0}, context)
    assert [row["method"] for row in rows] == list(METHODS)
    found, codec, clean = robustness.loaded(context)
    data = split("test", corruption=Corruption(distractors=4)).batch(range(SMOKE.test_clips))
    for row, (name, hits) in zip(rows, robustness.ask(found, codec, data).items(), strict=True):
        assert (row["correct"], row["kept"]) == (hits.sum(), (hits & clean[name]).sum())
        assert (row["low"], row["high"]) == metrics.wilson(hits.sum(), SMOKE.test_clips)


def test_losses_are_tested_clip_by_clip():
    clean = {"corruption": "none", "strength": 0.0, "method": "m", "correct": 90, "kept": 90, "examples": 100}
    worse = clean | {"corruption": "blur", "strength": 1.0, "correct": 80, "kept": 78}
    share, p = robustness.lost(pd.DataFrame([clean, worse]), "blur", "m", 1)
    assert share == 0.1
    assert p == pytest.approx(0.013, abs=0.001)  # 12 lost and 2 won: by chance once in 77 times
    assert robustness.lost(pd.DataFrame([clean, worse | clean | {"corruption": "blur"}]), "blur", "m", 1) == (0, 1)


def test_a_curve_runs_from_the_clean_clips_to_the_strongest():
    found = robustness.curve(study.read("robustness"), "darkness", METHODS[0])
    assert found["strength"].tolist() == [0, *KINDS["darkness"].strengths]


CLEAN = {"corruption": "none", "strength": 0.0, "method": "a", "correct": 300, "kept": 300, "examples": 400}
BLURRED = CLEAN | {"corruption": "blur", "strength": 1.0, "correct": 200, "kept": 180}


def test_the_share_of_its_lead_that_a_method_keeps():
    share, drawn = robustness.kept_share(pd.DataFrame([CLEAN, BLURRED]), "blur", "a", 1)
    assert share == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))
    assert drawn.mean() == pytest.approx(share, abs=0.01)
    # by the delta method: 180 clips stay correct, 120 are lost, 20 become correct, 80 are wrong both times
    error = np.sqrt(np.var(np.repeat([1 - share, -share, 1, 0], [180, 120, 20, 80])) / 400) / 0.5
    assert drawn.std() == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize(("correct", "kept", "sign"), [(200, 180, 0), (208, 186, 0), (290, 285, 1), (120, 110, -1)])
def test_one_method_keeps_more_than_another_if_the_interval_says_so(correct, kept, sign):
    other = [row | {"method": "b"} for row in (CLEAN, BLURRED)]
    frame = pd.DataFrame([CLEAN, BLURRED | {"correct": correct, "kept": kept}, *other])
    (gap, one), (same, wide) = (robustness.kept_more(frame, "blur", "a", "b", 1, k) for k in (1, 9))
    assert gap == same == pytest.approx((correct - 200) / 200)
    assert wide[0] < one[0] < gap < one[1] < wide[1]
    assert (wide[0] > 0) - (wide[1] < 0) == sign
