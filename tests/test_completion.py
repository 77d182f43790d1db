"""Ways held to what is seen of them: the seen part stays, nothing hidden is looked at, forecasts beat extrapolation."""

import numpy as np
import pytest
import torch

from trajlib import judge, pretrained
from trajlib.classifiers import seen_dot
from trajlib.completion import CUT, LENIENT, SLACK, complete, contradiction, finish_plans, plans_for, seen_part
from trajlib.config import TINY_LAYERS
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.planner import Planner, Writer
from trajlib.tasks import TASKS, hidden_frames, region
from trajlib.tokenizer import Tokenizer

LEVELS = (5, 5, 3)


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(24, seed=SEEDS["validation"]).batch()


@pytest.fixture(scope="module")
def videos(clips):
    return to_float(clips.videos)


@pytest.fixture(scope="module")
def planner(videos):
    torch.manual_seed(0)
    planner = Planner(dim=32, depth=1).eval()
    planner.start_from(seen_dot(videos))
    return planner


@pytest.mark.parametrize("task", TASKS)
def test_what_is_seen_is_the_dot_as_far_as_it_is_given(clips, videos, task):
    where = region(task, 4)
    seen, slack = seen_part(videos, where)
    whole, cut = (slack == SLACK).all(-1), slack[..., 0] == CUT  # (b, 16)
    off = (seen[..., :2] - clips.paths).norm(dim=-1)
    assert not (whole & hidden_frames(task, clips.paths, 4)).any(), "a dot whose middle is hidden is not seen whole"
    assert not whole.any() or off[whole].max() < 0.1  # px
    assert not cut.any() or off[cut].max() < CUT
    assert slack[cut][:, 2].isinf().all(), "of a cut dot no size is known"
    assert slack[~whole & ~cut].isinf().all()
    given_whole = where.flatten(1).all(1)
    assert whole[:, given_whole].all()


def test_no_hidden_pixel_is_looked_at(planner, videos):
    torch.manual_seed(0)
    writer = Writer(LEVELS, dim=32, depth=1, heads=2).eval()
    codec = Tokenizer(levels=LEVELS, dim=16, layers=TINY_LAYERS).eval()
    other = torch.rand(videos[:2].shape, generator=torch.Generator().manual_seed(0))
    for task in TASKS:
        changed = torch.where(region(task), videos[:2], other)
        one, two = (complete(planner, writer, codec, v, task, labels=[0, 1]) for v in (videos[:2], changed))
        assert torch.equal(one[0], two[0]), task
        assert torch.equal(one[1], two[1]), task
        assert one[1].shape == (2, 8, 4, 4)


def slack_of(known):
    """Frames known (b, 16) bool -> slack (b, 16, 3)."""
    return torch.where(known, SLACK, torch.inf)[..., None].repeat(1, 1, 3)


@pytest.mark.parametrize("frames", [[0], [0, 15], range(8), range(16)])
def test_a_plan_keeps_to_what_is_seen(planner, videos, frames):
    """Whatever the flow wants: this one has learnt nothing."""
    plans = seen_dot(videos)
    known = torch.zeros(len(plans), 16, dtype=torch.bool)
    known[:, list(frames)] = True
    found = finish_plans(planner, torch.where(known[..., None], plans, torch.nan), slack_of(known), steps=4, rounds=1)
    assert (found - plans)[known].abs().max() < 0.2  # px
    again, other = (finish_plans(planner, plans, slack_of(known), steps=4, rounds=1, seed=k) for k in (0, 1))
    assert torch.equal(found, again), "the rest is not looked at"
    assert not torch.equal(found, other)


def test_the_less_slack_the_nearer(planner, videos):
    plans = seen_dot(videos)
    off = []
    for slack in (0.05, 5.0, 500.0):
        known = torch.full(plans.shape, torch.inf)
        known[:, :4] = slack
        found = finish_plans(planner, plans, known, steps=4, rounds=1)
        off.append((found - plans)[:, :4, :2].norm(dim=-1).mean().item())
    assert off == sorted(off)
    assert off[0] < 0.1 < off[1] < off[2]


def test_clips_may_be_seen_in_different_frames(planner, videos):
    plans = seen_dot(videos)[:2]
    known = torch.stack([torch.arange(16) < 4, torch.arange(16) > 11])
    found = finish_plans(planner, plans, slack_of(known), steps=4, rounds=1)
    assert (found - plans)[known].abs().max() < 0.2


def test_plans_are_held_in_full_precision_wherever_they_are_asked_for(planner, videos):
    seen = seen_part(videos, region("IPC"))
    plainly = finish_plans(planner, *seen, steps=4, rounds=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(finish_plans(planner, *seen, steps=4, rounds=1), plainly)
    assert plainly.isfinite().all()


def test_given_pixels_contradict_a_plan_that_leads_elsewhere(videos):
    plans = seen_dot(videos)
    for task in ("FP", "OPC", "IPC"):
        where = region(task, 8)
        true, other = contradiction(plans, videos, where), contradiction(plans.roll(1, 0), videos, where)
        assert (true <= other).all()
        assert true.sum() < 0.3 * other.sum()
    assert (contradiction(plans, videos, torch.zeros(16, 64, 64, dtype=torch.bool)) == 0).all()


@pytest.mark.parametrize("task", ["FP", "IPC"])  # of one frame little is contradicted, of a frame's rim much
def test_the_plan_that_is_taken_is_allowed_and_in_the_middle(planner, videos, task):
    where, draws = region(task), 5
    taken = plans_for(planner, videos, where, draws=draws, seed=1)
    drawn = [finish_plans(planner, *seen_part(videos, where), seed=draws + k) for k in range(draws)]
    against = [contradiction(plans, videos, where).tolist() for plans in drawn]
    for clip in range(len(videos)):
        least = min(row[clip] for row in against)
        allowed = [plans[clip] for plans, row in zip(drawn, against, strict=True) if row[clip] <= least + LENIENT]
        far = [sum((one - other)[:, :2].norm(dim=-1).mean() for other in allowed) for one in allowed]
        assert torch.equal(taken[clip], allowed[int(np.argmin(far))])


def test_a_plan_in_the_middle_is_nearer_to_the_truth_than_the_first_draw(clips, videos):
    """The shipped planner, asked how clips go on after four frames."""
    flow, where = pretrained.load("planner")[0], region("FP", 4)
    found = [plans_for(flow, videos, where, draws=draws) for draws in (1, 8)]
    one, middle = ((plans[..., :2] - clips.paths).norm(dim=-1)[:, 4:].mean() for plans in found)
    assert middle < 0.95 * one


@pytest.mark.parametrize(
    ("seen", "slack", "says"),
    [
        (torch.zeros(2, 16, 2), torch.ones(2, 16, 2), "expected"),
        (torch.zeros(2, 16, 3), torch.ones(1, 16, 3), "expected"),
        (torch.zeros(2, 16, 3), torch.zeros(2, 16, 3), "above 0"),
        (torch.full((2, 16, 3), torch.nan), torch.ones(2, 16, 3), "NaN"),
    ],
)
def test_what_cannot_be_finished_is_said(planner, seen, slack, says):
    with pytest.raises(ValueError, match=says):
        finish_plans(planner, seen, slack)


def test_the_shipped_planner_forecasts_better_than_any_extrapolation(clips, videos):
    """From 8 frames, without a class; from the same frames carried on at constant acceleration."""
    flow, truth = pretrained.load("planner")[0], clips.paths.numpy()
    ahead = finish_plans(flow, *seen_part(videos, region("FP", 8)))[:, 8:, :2].numpy()
    guess = judge.extrapolate(truth, 8, 2)[:, 8:].clip(0, 63)
    ours, trivial = (np.linalg.norm(path - truth[:, 8:], axis=-1).mean() for path in (ahead, guess))
    assert ours < 0.7 * trivial
    assert ours < 3  # px
