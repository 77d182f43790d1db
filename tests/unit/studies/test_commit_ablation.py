"""COMMIT's parts, one at a time: each variant trains what it says, and errors are of masked frames alone."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from studies import commit_ablation
from studies.commit_ablation import EVALUATED, SMOKE, VARIANTS

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.generation import transformer
from trajlib.generation.tasks import masked_frames


@pytest.mark.parametrize("task", EVALUATED)
def test_only_masked_frames_count_and_no_dot_is_a_guess_at_the_middle(task, monkeypatch):
    clips = split("test").batch(range(6))
    masked, truth = masked_frames(task, clips.paths), to_float(clips.videos)
    monkeypatch.setattr(commit_ablation, "encode_condition", lambda video_tokenizer, videos, task: {})
    monkeypatch.setattr(commit_ablation, "generate", lambda model, labels, **settings: None)

    def error(videos):
        video_tokenizer = SimpleNamespace(decode=lambda tokens: videos)
        return commit_ablation.masked_error(None, video_tokenizer, task, 6, refine=True)

    blank, part = torch.ones_like(truth), masked[:, None, :, None, None]
    middle = (clips.paths - 31.5).norm(dim=-1)[masked].mean().item()
    assert error(truth) < 0.1
    assert error(blank) == pytest.approx(middle, rel=1e-4)
    assert error(torch.where(part, blank, truth)) == pytest.approx(middle, rel=1e-4)
    assert error(torch.where(part, truth, blank)) < 0.1


@pytest.mark.slow
def test_the_first_variant_never_sees_a_condition_and_the_others_do(monkeypatch, context_of):
    seen = {}

    def spy(model, tokens, labels, tasks, conditions, observed, parts):
        seen.setdefault(tuple(parts), []).append(observed.any().item())
        return transformer.commit_loss(model, tokens, labels, tasks, conditions, observed, parts=parts)

    monkeypatch.setattr(commit_ablation, "commit_loss", spy)
    context, names = context_of(dataclasses.replace(SMOKE, steps=3)), list(VARIANTS)
    for name in (names[0], names[3]):
        row = commit_ablation.run({"variant": name, "seed": 0}, context)
        assert all(0 <= row[task] <= 64 * 2**0.5 for task in EVALUATED)
        assert row["error"] == pytest.approx(sum(row[task] for task in EVALUATED) / len(EVALUATED))
    assert not any(seen[("mask",)])
    assert all(seen[("mask", "recons", "refine")])
