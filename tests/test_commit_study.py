"""COMMIT's parts, one at a time: each arm trains what it says, and every row says what it was made of."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from trajlib import commit_study, recipes, transformer
from trajlib.config import profile
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.tasks import hidden_frames, region

CFG = dataclasses.replace(profile("smoke"), commit_study=profile("smoke").commit_study | {"clips": 24})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a tokenizer that has hardly been trained."""
    where = tmp_path_factory.mktemp("artifacts")
    recipes.tokenizer(CFG, where)
    return where


@pytest.mark.parametrize("task", commit_study.ASKED)
def test_hidden_frames_are_those_whose_dot_is_not_given(task):
    paths = TrajectoryDataset(5, seed=3).batch().paths
    hidden = hidden_frames(task, paths)
    assert hidden.shape == (5, 16)
    for clip, frame in [(0, 0), (1, 7), (4, 15)]:
        x, y = (round(v) for v in paths[clip, frame].tolist())
        assert bool(hidden[clip, frame]) != bool(region(task)[frame, y, x])


@pytest.mark.parametrize("task", commit_study.ASKED)
def test_only_hidden_frames_count_and_no_dot_is_a_guess_at_the_middle(task, monkeypatch):
    clips = TrajectoryDataset(6, seed=SEEDS["test"]).batch()
    hidden, truth = hidden_frames(task, clips.paths), to_float(clips.videos)
    monkeypatch.setattr(commit_study, "commit_start", lambda codec, videos, task: {})
    monkeypatch.setattr(commit_study, "generate", lambda model, labels, **settings: None)

    def error(films):
        return commit_study.hidden_error(None, SimpleNamespace(decode=lambda tokens: films), task, 6, refine=True)

    assert error(truth) < 0.1
    blank = torch.ones_like(truth)
    middle = (clips.paths - 31.5).norm(dim=-1)[hidden].mean().item()
    assert error(blank) == pytest.approx(middle, rel=1e-4)
    part = hidden[:, None, :, None, None]
    assert error(torch.where(part, blank, truth)) == pytest.approx(middle, rel=1e-4)  # what is shown is not asked for
    assert error(torch.where(part, truth, blank)) < 0.1


def test_the_first_arm_never_sees_a_condition_and_the_others_do(folder, monkeypatch):
    seen = {}

    def spy(model, tokens, labels, tasks, conditions, given, parts):
        seen.setdefault(tuple(parts), []).append(given.any().item())
        return transformer.commit_loss(model, tokens, labels, tasks, conditions, given, parts=parts)

    monkeypatch.setattr(commit_study, "commit_loss", spy)
    codec, _ = recipes.tokenizer(CFG, folder)
    examples = recipes.encode_conditions(codec, 24)
    names = list(commit_study.ARMS)
    for name in (names[0], names[3]):
        row = commit_study.run_arm(name, 0, CFG, codec, examples)
        assert all(0 <= row[task] <= 64 * 2**0.5 for task in commit_study.ASKED)
        assert row["error"] == pytest.approx(sum(row[task] for task in commit_study.ASKED) / len(commit_study.ASKED))
    assert not any(seen[("mask",)])
    assert all(seen[("mask", "recons", "refine")])


def test_a_study_is_written_and_read_back(folder):
    rows = commit_study.study(CFG, folder)
    assert [row["arm"] for row in rows] == list(commit_study.ARMS)
    assert (folder / commit_study.FILE).exists()
    assert all(row["bits"] > 0 and row["torch"] == torch.__version__.split("+")[0] for row in rows)
    assert commit_study.study(CFG, folder) == rows
