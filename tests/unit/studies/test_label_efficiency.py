"""The label-efficiency benchmark: the same clips for all methods, none of them a test clip."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import label_efficiency, label_methods, label_pair
from studies.label_efficiency import FULL, MODELS, SMOKE, curves, labelled, pack, unpack
from studies.label_methods import CLASSES, METHODS, permuted
from torch import nn

from trajlib.course import study
from trajlib.data.clips import split
from trajlib.evaluate import metrics

NETWORKS = [name for name, method in METHODS.items() if method.kind not in ("linear", "pair")]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A smoke run: (its table, {(method, labels): training clips that its network received})."""
    seen, job, training = {}, [None], [False]
    with pytest.MonkeyPatch.context() as patch:
        inputs, run, fit = label_efficiency.inputs, label_efficiency.run, label_efficiency.fit

        def watched(context, kind, name, index, which):
            assert not (name == "test" and training[0]), f"{job[0]} sees test clips in training"
            if name == "train":
                seen.setdefault(job[0], []).extend(index.tolist())
            return inputs(context, kind, name, index, which)

        def named(this, context):
            job[0] = this["method"], this["labels"]
            return run(this, context)

        def fitted(*args, **kwargs):
            training[0] = True
            found = fit(*args, **kwargs)
            training[0] = False
            return found

        patch.setattr(label_efficiency, "inputs", watched)
        patch.setattr(label_efficiency, "fit", fitted)
        patch.setattr(label_efficiency, "run", named)
        out = tmp_path_factory.mktemp("labels") / "labels.csv"
        return study.run("label_efficiency", smoke=True, jobs=1, out=out), seen


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_answers_come_back_as_they_were_packed(correct):
    assert unpack(pack(correct), len(correct)).tolist() == correct


@pytest.mark.slow
def test_every_method_comes_through(smoke):
    frame, _ = smoke
    assert (frame["status"] == "ok").all()
    for row in frame.itertuples():
        assert row.accuracy == pytest.approx(unpack(row.correct, row.tested).mean(), abs=1e-5)
        assert row.parameters > 0
        assert row.multiply_adds > 0
    found = curves(frame)
    assert list(found) == list(METHODS)
    assert all(hits.shape == (1, SMOKE.test_clips) for by in found.values() for hits in by.values())


@pytest.mark.slow
def test_networks_of_a_kind_see_the_same_clips_equally_often(smoke):
    frame, seen = smoke
    for kind in ("pixels", "tokens", "backbone"):
        names = [name for name in NETWORKS if METHODS[name].kind == kind]
        for labels in SMOKE.grid["network"]:
            found = [seen[name, labels] for name in names]
            assert all(clips == found[0] for clips in found)  # in the same order, too
            assert set(found[0]) <= set(labelled(SMOKE, labels, 0).tolist())
            assert set(frame[frame["method"].isin(names)]["examples"]) == {len(found[0])}


def test_linear_classifiers_learn_from_the_same_clips_as_networks(monkeypatch, context_of):
    fitted, offset = [], {"train": 0, "validation": 1000, "test": 2000}

    class Classifier:
        def fit(self, x, labels):
            fitted.append((x[:, 0].tolist(), labels.tolist()))
            return self

        def score(self, x, labels):
            assert x[:, 0].tolist() == [1000 + k for k in range(label_efficiency.checked(SMOKE, 8))]
            assert labels.tolist() == [k % CLASSES for k in range(len(x))]
            return 0

        def predict(self, x):
            return np.zeros(len(x), int)

    def numbers(name, context, part):  # each row is its own number
        return offset[part] + np.arange(label_methods.augmentations(SMOKE, part).numel())[:, None]

    monkeypatch.setattr(label_efficiency, "numbers", numbers)
    monkeypatch.setattr(label_efficiency, "clone", lambda classifier: Classifier())
    monkeypatch.setattr(label_efficiency, "cost_of_linear", lambda *args: {})
    chosen, count = labelled(SMOKE, 8, 3), SMOKE.augmentations
    label_efficiency.by_numbers(METHODS["linear on tokens"], context_of(SMOKE, MODELS), chosen, 3)
    rows, labels = fitted[0]
    assert rows == [clip * count + k for clip in chosen.tolist() for k in range(count)]
    assert labels == [row // count % CLASSES for row in rows]


def test_a_network_that_is_always_right_is_measured_so(monkeypatch):
    class Oracle(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, numbers):
            return nn.functional.one_hot(numbers % CLASSES, CLASSES).float()

    monkeypatch.setattr(label_efficiency, "inputs", lambda context, kind, name, index, which: index)
    found, _ = label_efficiency.predict(Oracle(), None, "pixels", "test", 37)
    assert found.tolist() == label_efficiency.classes(range(37)).tolist() == split("test").labels(range(37)).tolist()


def test_curves_are_paired_seed_by_seed():
    frame = study.read("label_efficiency")
    found = curves(frame)
    assert list(found) == list(METHODS)
    some = frame[(frame["method"] == "transformer on tokens") & (frame["labels"] == 160) & (frame["seed"] == 2)].iloc[0]
    assert (found["transformer on tokens"][160][2] == unpack(some["correct"], 2000)).all()
    without = frame.drop(frame.index[(frame["method"] == "bag of tokens") & (frame["seed"] == 1)])
    assert len(curves(without)["bag of tokens"][160]) == 1  # its seed 1 is missing, so those after have no partner


@pytest.mark.slow
def test_an_own_tokenizer_of_the_subset_sees_the_labelled_clips_alone_in_all_augmentations():
    chosen = labelled(SMOKE, 4, 1).tolist()
    every = {v.numpy().tobytes() for i in chosen for v in label_methods.videos("train", [i] * 96, range(96))}
    data = label_pair.Unlabelled(tuple(chosen))
    seen = [data.videos(range(k, k + 8)) for k in range(0, 4 * 96, 8)]
    assert {video.numpy().tobytes() for videos in seen for video in videos} == every
    assert len(every) == 4 * 96


def test_clips_without_labels_are_neither_labelled_nor_test_clips():
    first = SMOKE.clips
    unlabelled = label_pair.Unlabelled(first=first).videos(range(16))
    sets = [split("train").videos(range(first)), unlabelled, split("validation").videos(range(4)),
            split("test").videos(range(12))]  # fmt: skip
    everything = [video.numpy().tobytes() for videos in sets for video in videos]
    assert len(set(everything)) == len(everything)


def test_few_labels_are_among_many_and_seeds_differ():
    most = labelled(FULL, 6400, 0).tolist()
    assert sorted(most) == list(range(6400))
    assert labelled(FULL, 160, 0).tolist() == most[:160]
    assert labelled(FULL, 160, 1).tolist() != most[:160]
    assert [label_efficiency.checked(FULL, k) for k in (40, 6400)] == [40, 200]


def test_permuted_tokens_keep_their_positions_and_lose_the_class():
    """Each position states the class, so any of them gives it; after the permutation none does, nor all together."""
    n = 2000
    families = torch.arange(n) % 4
    tokens = families[:, None, None].expand(n, 3, 5).contiguous()
    moved = permuted(tokens)
    assert torch.equal(moved.sort(0).values, tokens.sort(0).values)
    assert torch.equal(moved, permuted(tokens))
    by_vote = [x.flatten(1).mode(1).values == families for x in (tokens, moved)]
    hot = [nn.functional.one_hot(x.flatten(1), 4).flatten(1).numpy() for x in (tokens, moved)]
    half, ridge = n // 2, label_methods.LINEAR["ridge"][4]
    shares = [ridge.fit(x[:half], families[:half]).score(x[half:], families[half:]) for x in hot]
    assert by_vote[0].all()
    assert shares[0] == 1
    for correct, count in ((by_vote[1].sum(), n), (round(shares[1] * half), half)):
        low, high = metrics.wilson(correct, count, 0.9999)
        assert low < 0.25 < high


def test_the_detection_loss_is_zero_for_the_true_dots_and_in_pixels():
    dots, centre = torch.rand(2, 16, 3) * 60, torch.tensor([31.5, 31.5, 0.0])

    def loss(found):
        return label_methods.detection_loss(lambda videos: ((found - centre) / 16).flatten(1), None, dots)

    assert loss(dots)[0].item() == pytest.approx(0, abs=1e-9)
    assert loss(dots + torch.tensor([3.0, 4.0, 0.0]))[1]["px"].item() == pytest.approx(5, rel=1e-4)


def test_the_grid_may_grow_and_settings_may_not():
    job = label_efficiency.jobs(FULL)[0]
    more = dataclasses.replace(FULL, grid={"linear": {80: 1}, "network": {80: 1}, "pair": {80: 1}})
    other = dataclasses.replace(FULL, checks=5)
    digests = [study.digest("label_efficiency", settings, job) for settings in (FULL, more, other)]
    assert digests[0] == digests[1] != digests[2]


def test_an_interval_over_seeds_holds_both_errors():
    """Equal seeds leave the error over clips; equal clips that over seeds, by Student's t."""
    some = np.arange(400) % 2 == 0
    mean, (low, high) = label_efficiency.over_seeds(np.stack([some] * 3))
    assert (mean, high - low) == pytest.approx((0.5, 2 * 1.96 * 0.5 / 20))
    seeds = np.stack([np.arange(400) < k for k in (100, 200, 300)])
    mean, (low, high) = label_efficiency.over_seeds(seeds)
    over_seeds, clips = 4.303 * 0.25 / np.sqrt(3), 1.96 * seeds.mean(0).std() / 20
    assert (mean, high - low) == pytest.approx((0.5, 2 * np.hypot(over_seeds, clips)), abs=1e-3)


def test_a_difference_of_methods_is_paired_by_seed_and_clip():
    one = np.stack([np.arange(400) < k for k in (100, 200, 300, 399)])
    mean, (low, high) = label_efficiency.over_seeds(one, one[:3])  # the seeds that both have
    assert (mean, low, high) == (0, 0, 0)
