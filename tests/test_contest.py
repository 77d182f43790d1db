"""The contest: the same clips for all contenders, none of them a test clip; what was run is not run again."""

import dataclasses
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import Inline
from torch import nn

from trajlib import FAMILIES, __main__, contenders, contest, metrics
from trajlib.ablations import StudyError
from trajlib.config import profile
from trajlib.contenders import ARMS, Shelf, dealt, pixels
from trajlib.transformer import MaskedTransformer

CFG = profile("smoke")
NETWORKS = [name for name in ARMS if ARMS[name].kind not in ("linear", "pair")]


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    monkeypatch.setattr(contest, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(contest.stamps, "lib_stamp", lambda: "0123456789abcdef")  # the real one takes half a second


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of every contender: (its file, rows, {(arm, labels): training clips that its network was shown})."""
    out, shown, run, learning = tmp_path_factory.mktemp("contest") / contest.FILE, {}, [None], [False]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contest, "ProcessPoolExecutor", Inline)
        see, run_arm, fit = contest.see, contest.run_arm, contest.fit

        def watched(shelf, kind, split, index, turns):
            assert not (split == "test" and learning[0]), f"{run[0]} looks at test clips while it learns"
            if split == "train" and not isinstance(index, slice):
                shown.setdefault(run[0], []).extend(index.tolist())
            return see(shelf, kind, split, index, turns)

        def named(name, labels, seed, shelf):
            run[0] = (name, labels)
            return run_arm(name, labels, seed, shelf)

        def fitted(*args, **kwargs):
            learning[0] = True
            found = fit(*args, **kwargs)
            learning[0] = False
            return found

        patch.setattr(contest, "see", watched)
        patch.setattr(contest, "fit", fitted)
        patch.setattr(contest, "run_arm", named)
        rows = contest.run(CFG, out.parent, out, say=lambda line: None)
    return out, rows, shown


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_hits_come_back_as_they_were_packed(hits):
    assert contest.unpack(contest.pack(hits), len(hits)).tolist() == hits


def test_every_contender_comes_through(whole):
    out, rows, _ = whole
    pairs, few = [name for name in ARMS if ARMS[name].kind == "pair"], CFG.contest["pair"]["labels"]
    due = [(name, k) for name in ARMS for k in (few if name in pairs else CFG.contest["sizes"])]
    assert sorted((row["arm"], row["labels"]) for row in rows) == sorted(due)
    for row in rows:
        assert row["accuracy"] == pytest.approx(contest.unpack(row["hits"], row["tested"]).mean())
        assert row["parameters"] > 0
        assert row["multiply_adds"] > 0
    again = contest.read(out)
    assert [(row["arm"], row["labels"]) for row in again] == due
    hits = {(row["arm"], row["labels"]): row["hits"] for row in rows}
    assert all(row["hits"] == hits[row["arm"], row["labels"]] for row in again)
    curves = contest.curves(again)
    assert all(hits.shape == (1, CFG.contest["test_clips"]) for sizes in curves.values() for hits in sizes.values())


def test_networks_of_a_kind_see_the_same_clips_equally_often(whole):
    _, rows, shown = whole
    for kind in ("pixels", "tokens", "trunk"):
        for labels in CFG.contest["sizes"]:
            found = [shown[name, labels] for name in NETWORKS if ARMS[name].kind == kind]
            assert all(clips == found[0] for clips in found)  # in the same order, too
            assert set(found[0]) <= set(contest.labelled(CFG, labels, 0).tolist())
            assert {row["clips"] for row in rows if ARMS[row["arm"]].kind == kind} == {len(found[0])}


def test_linear_readers_learn_from_the_same_clips_as_networks(monkeypatch):
    learnt = []

    class Reader:
        def fit(self, x, labels):
            learnt.append((x[:, 0].tolist(), labels.tolist()))
            return self

        def score(self, x, labels):
            assert x[:, 0].tolist() == [offset["validation"] + k for k in range(contest.looked_at(CFG, 8))]
            assert labels.tolist() == [k % len(FAMILIES) for k in range(len(x))]
            return 0

        def predict(self, x):
            return np.zeros(len(x), int)

    offset = {"train": 0, "validation": 1000, "test": 2000}

    def rows(arm, shelf, split):  # each row is its own number
        n = shelf.turns(split).numel()
        return offset[split] + np.arange(n)[:, None]

    monkeypatch.setattr(contest, "numbers", rows)
    monkeypatch.setattr(contest, "clone", lambda reader: Reader())
    monkeypatch.setattr(contest, "source_of_numbers", lambda *args: ())
    monkeypatch.setattr(contest, "cost_of_numbers", lambda *args: {})
    chosen, versions = contest.labelled(CFG, 8, 3), CFG.contest["versions"]
    contest.by_numbers(ARMS["linear on codes"], Shelf(CFG, "", None), chosen, 3)
    rows, labels = learnt[0]
    assert rows == [clip * versions + k for clip in chosen.tolist() for k in range(versions)]
    assert labels == [row // versions % len(FAMILIES) for row in rows]


def test_a_network_that_is_always_right_is_said_to_be(monkeypatch):
    class Knows(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, numbers):
            return nn.functional.one_hot(numbers % len(FAMILIES), len(FAMILIES)).float()

    monkeypatch.setattr(contest, "see", lambda shelf, kind, split, index, turns: index)
    found, _ = contest.predict(Knows(), None, "pixels", "test", 37)
    assert found.tolist() == contest.families(range(37)).tolist()


def test_contenders_are_paired_seed_by_seed():
    told = [("bag of tokens", 2, [0, 1]), ("bag of tokens", 0, [1, 1]), ("long exposure", 1, [1, 0]),
            ("long exposure", 0, [0, 0])]  # fmt: skip
    rows = [
        {"arm": arm, "seed": seed, "labels": 8, "hits": contest.pack(hits), "tested": 2} for arm, seed, hits in told
    ]
    found = contest.curves(rows)
    assert found["bag of tokens"][8].tolist() == [[True, True]]  # its seed 1 is missing, so 2 has no partner yet
    assert found["long exposure"][8].tolist() == [[False, False], [True, False]]


def test_a_pair_of_the_few_sees_the_labelled_clips_alone_in_all_their_versions():
    shelf, chosen = Shelf(CFG, "", None), contest.labelled(CFG, 4, 1)
    due = {v.numpy().tobytes() for i in chosen for v in contenders.films("train", [i] * 96, range(96))}
    few = contest.shown(shelf, ARMS["dot read, tokenizer of the few"], chosen)
    seen = [few(range(k, k + 8)) for k in range(0, 4 * 96, 8)]
    assert {video.numpy().tobytes() for videos in seen for video in videos} == due
    assert len(due) == 4 * 96
    assert torch.equal(few([5]), few([5]))


def test_a_pair_of_the_many_sees_no_labelled_clip():
    shelf = Shelf(CFG, "", None)
    many = contest.shown(shelf, ARMS["dot read, tokenizer as small"], contest.labelled(CFG, 4, 1))
    n = shelf.sizes["train"]
    labelled = {video.numpy().tobytes() for video in contenders.films("train", range(n), [0] * n)}
    assert not labelled & {video.numpy().tobytes() for video in many(range(16))}


def test_few_labels_are_among_many_and_seeds_differ():
    cfg = profile("full")
    most = contest.labelled(cfg, 6400, 0).tolist()
    assert sorted(most) == list(range(6400))
    assert contest.labelled(cfg, 160, 0).tolist() == most[:160]
    assert contest.labelled(cfg, 160, 1).tolist() != most[:160]
    assert contest.looked_at(cfg, 40) == 40  # nobody may look at more labels than there are to learn from
    assert contest.looked_at(cfg, 6400) == cfg.contest["validation_clips"]


def test_no_test_clip_is_in_any_training_set():
    taught = CFG.contest["taught"]
    sizes = Shelf(CFG, "", None).sizes
    sizes["train"] += taught["steps"] * taught["batch"]  # what the networks with help were shown comes after the pool
    seen = {}
    for split, n in sizes.items():
        videos = pixels(split, range(n), [0] * n)
        seen[split] = {video.numpy().tobytes() for video in videos}
        assert len(seen[split]) == n
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_the_world_deals_families_out_in_turn():
    world = contenders.TrajectoryDataset(12, seed=2)
    assert [world.track(i).label for i in range(12)] == contenders.families(range(12)).tolist()


def test_a_study_is_taken_up_and_extended(whole, tmp_path, monkeypatch):
    out, rows, _ = whole
    (tmp_path / out.name).write_bytes(out.read_bytes())
    ran = []

    def run_arm(name, labels, seed, shelf):
        ForkingPickler.dumps(shelf)  # it goes to other processes
        ran.append((name, labels, seed))
        return next(row for row in rows if row["arm"] == name) | {"labels": labels, "seed": seed}

    monkeypatch.setattr(contest, "run_arm", run_arm)
    quiet = {"only": ("bag of tokens", "3D CNN, plain"), "say": lambda line: None}
    contest.run(CFG, out.parent, tmp_path / out.name, **quiet)
    assert ran == []
    more = dataclasses.replace(CFG, contest=CFG.contest | {"seeds": (0, 1), "sizes": (4, 8)})
    contest.run(more, out.parent, tmp_path / out.name, **quiet)
    assert sorted(ran) == sorted((name, *run) for name in quiet["only"] for run in [(4, 0), (4, 1), (8, 1)])
    assert len(contest.read(tmp_path / out.name)) == len(rows) + len(ran)
    other = dataclasses.replace(CFG, contest=CFG.contest | {"steps": {"pixels": 3, "tokens": 2, "trunk": 2}})
    with pytest.raises(StudyError, match="another budget"):
        contest.run(other, out.parent, tmp_path / out.name, **quiet)


def test_what_cannot_be_run_is_said(tmp_path, capsys):
    with pytest.raises(StudyError, match="no arm 4D CNN; there are: 3D CNN, plain"):
        contest.plan(CFG, ["4D CNN"])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match="not a study"):
        contest.read(tmp_path / "other.csv")
    assert __main__.main(["ablate", "--contest", "--profile", "smoke", "--steps", "3"]) == 2
    assert "--steps is not for --contest" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        __main__.main(["ablate", "--contest", "--commit"])


def test_swapped_tokens_keep_their_places_and_lose_the_family():
    """Every place says the family, so any of them gives it; after the deal none does, nor all of them together."""
    n = 2000
    families = torch.arange(n) % 4
    tokens = families[:, None, None].expand(n, 3, 5).contiguous()
    swapped = dealt(tokens)
    assert torch.equal(swapped.sort(0).values, tokens.sort(0).values)
    assert torch.equal(swapped, dealt(tokens))
    by_vote = [x.flatten(1).mode(1).values == families for x in (tokens, swapped)]
    assert by_vote[0].all()
    low, high = metrics.wilson(by_vote[1].sum(), n, 0.9999)
    assert low < 0.25 < high
    hot = [nn.functional.one_hot(x.flatten(1), 4).flatten(1).numpy() for x in (tokens, swapped)]
    half = n // 2
    shares = [contest.LINEAR["ridge"][4].fit(x[:half], families[:half]).score(x[half:], families[half:]) for x in hot]
    assert shares[0] == 1
    low, high = metrics.wilson(round(shares[1] * half), half, 0.9999)
    assert low < 0.25 < high


def test_multiply_adds_of_a_layer():
    assert contest.multiply_adds(lambda: nn.Linear(3, 5)(torch.zeros(1, 3))) == 15
    conv = nn.Conv3d(2, 4, 3, padding=1)
    assert contest.multiply_adds(lambda: conv(torch.zeros(1, 2, 4, 5, 6))) == 4 * 5 * 6 * 27 * 2 * 4


def test_the_loss_of_one_who_follows_the_dot_exactly_is_zero():
    dots = torch.rand(2, 16, 3) * 60
    middle = torch.tensor([31.5, 31.5, 0.0])
    loss, parts = contenders.following_loss(lambda videos: ((dots - middle) / 16).flatten(1), None, dots)
    assert loss.item() == pytest.approx(0, abs=1e-9)
    off = dots + torch.tensor([3.0, 4.0, 0.0])
    _, parts = contenders.following_loss(lambda videos: ((off - middle) / 16).flatten(1), None, dots)
    assert parts["px"].item() == pytest.approx(5, rel=1e-4)


def test_words_are_guessed_from_the_features():
    torch.manual_seed(0)
    net = MaskedTransformer((3, 2), (2, 2, 2), dim=16, depth=1, heads=2).eval()
    tokens, labels = torch.randint(7, (3, 8)), torch.tensor([0, 3, 4])
    with torch.no_grad():
        features = net.features(tokens, labels)
        assert features.shape == (3, 8, 16)
        assert torch.allclose(features @ net.words()[:-1].T + net.bias, net(tokens, labels), atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 359), st.integers(-9, 9))
def test_the_shape_of_a_path_does_not_hang_on_where_it_lies(seed, degrees, shift):
    angle = np.radians(degrees)
    path = np.random.default_rng(seed).normal(size=(2, 16, 2)).cumsum(1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert metrics.path_shape(path).shape == (2, 39)
    assert metrics.path_shape(path @ turn.T + shift) == pytest.approx(metrics.path_shape(path), abs=1e-6)
