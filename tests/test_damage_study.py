"""Damaged clips: every reader sees the same ones, no answer is a wrong answer, and the table says what was counted."""

import numpy as np
import pytest
import torch

from trajlib import damage_study, metrics, physics, recipes
from trajlib.config import profile
from trajlib.damage_study import KINDS, READERS
from trajlib.dataset import SEEDS, TrajectoryDataset
from trajlib.render import Damage

CFG = profile("smoke")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the models that the study asks, hardly trained."""
    where = tmp_path_factory.mktemp("artifacts")
    for made in (recipes.tokenizer, recipes.simple_3dcnn, recipes.token_classifier, recipes.token_tracker):
        made(CFG, where)
    return where


@pytest.fixture(scope="module")
def rows(folder):
    return damage_study.study(CFG, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_strengths_rise_from_hardly_seen(kind):
    clean = TrajectoryDataset(1, seed=3)[0].video.astype(int)
    changed = [np.abs(TrajectoryDataset(1, seed=3, damage=damage_study.damage(kind, float(s)))[0].video - clean).mean()
               for s in KINDS[kind].strengths]  # fmt: skip
    assert changed == sorted(changed)
    assert changed[-1] > 0
    assert damage_study.damage(kind, 0.0) == Damage()


def test_a_reader_that_finds_nothing_is_wrong():
    scores = np.array([[0.1, 0.7, 0.1, 0.1], [np.nan] * 4, [1.0, 0, 0, 0]])
    assert damage_study.right(scores, [1, 0, 2]).tolist() == [True, False, False]
    white = torch.full((1, 3, 16, 64, 64), 255, dtype=torch.uint8)
    assert not damage_study.right(damage_study.by_equations(damage_study.inked, 0.02, white), [0]).any()
    assert not damage_study.right(damage_study.by_exposure(None, white), [0]).any()


def test_weights_are_shares_and_the_largest_is_the_best_family():
    clips = TrajectoryDataset(12, seed=3).batch()
    paths, radii = clips.paths.numpy().copy(), clips.radii.numpy()
    best = physics.best_family(paths, radii)
    paths[2, 5] = np.nan
    paths[7] = 31.5  # its equations have no solution
    shares = physics.weights(paths, radii)
    assert np.isnan(shares[[2, 7]]).all()
    others = np.delete(np.arange(12), [2, 7])
    np.testing.assert_allclose(shares[others].sum(1), 1)
    np.testing.assert_array_equal(shares[others].argmax(1), best[others])


def test_what_stands_still_is_not_followed():
    clean, crowded = (TrajectoryDataset(8, seed=3, damage=d).batch() for d in (None, Damage(distractors=3)))
    away = {way: (way(crowded.videos)[..., :2] - clean.paths).norm(dim=-1).nanmedian()
            for way in (damage_study.inked, damage_study.moved)}  # fmt: skip
    assert away[damage_study.moved] < 1 < away[damage_study.inked]


def test_training_damages_are_of_every_kind_within_the_ranges_and_the_same_for_both():
    drawn = [damage_study.draw_damage(np.random.default_rng(k)) for k in range(300)]
    for field, strengths, _ in KINDS.values():
        found = [value for spoilt in drawn if (value := getattr(spoilt, field))]
        assert len(found) > 10
        assert all(0 < value / strengths[-1] <= 1 for value in found)
    numbers = recipes.version_numbers(CFG.labelled_clips, CFG.versions, CFG.seed)
    first, again = (damage_study.damaged_examples(CFG, numbers) for _ in range(2))
    assert torch.equal(first(3, 1), again(3, 1))
    assert not torch.equal(first(3, 1), first(3, 0))


def test_a_study_is_written_and_read_back(folder, rows):
    conditions = 1 + sum(len(kind.strengths) for kind in KINDS.values())
    assert len(rows) == conditions * len(READERS)
    assert [row["reader"] for row in rows[: len(READERS)]] == list(READERS)
    assert (folder / damage_study.FILE).exists()
    for row in rows:
        assert row["kept"] <= row["hits"] <= row["n"] == CFG.damage_study["test_clips"]
        assert (row["low"], row["high"]) == pytest.approx(metrics.wilson(row["hits"], row["n"]), rel=1e-5)
        assert row["torch"] == torch.__version__.split("+")[0]
    assert damage_study.study(CFG, folder) == rows


def test_a_row_is_what_a_second_look_counts(folder, rows):
    asked = damage_study.readers(CFG, folder, folder / "damage")
    assert list(asked) == list(READERS)
    kind, strength = "distractors", 4.0
    clips = TrajectoryDataset(4, seed=SEEDS["test"], damage=damage_study.damage(kind, strength)).batch()
    hits = damage_study.ask(asked, recipes.tokenizer(CFG, folder)[0], clips)
    for name, found in hits.items():
        row = next(r for r in damage_study.curve(rows, kind, name) if r["strength"] == strength)
        assert row["hits"] == found.sum()


def test_what_is_lost_is_judged_clip_by_clip():
    clean = {"kind": "none", "strength": 0.0, "reader": "r", "hits": 90, "kept": 90, "n": 100}
    spoilt = clean | {"kind": "blur", "strength": 1.0, "hits": 80, "kept": 78}
    share, chance = damage_study.lost([clean, spoilt], "blur", "r", 1)
    assert share == 0.1
    assert chance == pytest.approx(0.013, abs=0.001)  # 12 lost and 2 won: a coin does so once in 77 times
    assert damage_study.lost([clean, clean | {"kind": "blur", "strength": 1.0}], "blur", "r", 1) == (0, 1)
