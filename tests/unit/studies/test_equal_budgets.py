"""Generators on equal budgets: the codes of trajectories lose nothing, the intervals are those of seeds and clips."""

import numpy as np
import pandas as pd
import pytest
import torch
from studies import equal_budgets as study

from trajlib.generation.joint import JointTransformer


@pytest.fixture(scope="module")
def trajectories():
    """Straight ways, (40, 16, 3), with radii of their own."""
    rng, time = torch.Generator().manual_seed(0), torch.linspace(0, 1, 16)[:, None]
    first, last = 10 + 44 * torch.rand(2, 40, 1, 2, generator=rng)
    radius = 2 + torch.rand(40, 1, 1, generator=rng).expand(-1, 16, -1)
    return torch.cat([first.lerp(last, time), radius], -1)


def coding(code, trajectories):
    counts, change = study.CODES[code]
    net = JointTransformer(2, (8, 4, 4), dim=32, depth=1, heads=2, trajectory={"counts": counts})
    net.trajectory.transform.copy_(change(net.trajectory.transform))
    return net.trajectory.fit(trajectories)


@pytest.mark.parametrize("code", study.CODES)
def test_every_code_keeps_the_trajectory(code, trajectories):
    tokens = coding(code, trajectories)
    assert code.startswith(str(tokens.n))
    off = (tokens.decode(tokens.encode(trajectories)) - trajectories).norm(dim=-1)
    assert off.mean() < 0.3  # px: rounding to 256 levels; 22 frequencies keep a straight way to that


def changed(code, trajectories, frame):
    """Which ranks, coarse to fine, have a token that changes with one frame of the path."""
    tokens, other = coding(code, trajectories), trajectories.clone()
    other[:, frame, :2] += 6
    differs = (tokens.encode(other) != tokens.encode(trajectories)).any(0)
    return set(tokens.frequency[differs].tolist())


def test_a_frame_is_in_all_frequencies_but_in_one_token_per_frame(trajectories):
    assert changed("48 tokens, one per frame", trajectories, 5) == {5}
    assert len(changed("48 tokens, coarse to fine", trajectories, 5)) > 12


def test_fine_to_coarse_is_the_same_code_in_reverse(trajectories):
    one, other = (coding(f"48 tokens, {way}", trajectories) for way in ("coarse to fine", "fine to coarse"))
    one, other = one.encode(trajectories).view(-1, 16, 3), other.encode(trajectories).view(-1, 16, 3)
    assert torch.equal(one, other.flip(1))


def test_methods_differ_in_what_they_read_not_in_size(context_of):
    grid = {"seeds": (0,), "clips": (1,), "trajectories": 1}
    context = context_of(study.Settings(8, 24, 2, 2, 4, 4, 2, {"dim": 32, "depth": 1, "heads": 2}, grid))
    rows = [study.run({"part": "clips", "method": name, "steps": 1, "seed": 0}, context)[0] for name in study.CLIPS]
    sizes = {row["method"]: row["parameters"] for row in rows}
    assert max(sizes.values()) < 1.4 * min(sizes.values())
    assert {row["examples"] for row in rows} == {2}  # clips


def test_the_interval_covers_seeds_and_clips():
    rows = [{"part": "clips", "method": "plain", "steps": 8, "seed": seed, "seconds": 2.0 + seed, "metric": "one dot",
             "value": value, "low": value - 0.03, "high": value + 0.03, "examples": 256}
            for seed, value in enumerate((0.5, 0.6, 0.7))]  # fmt: skip
    found = study.over_seeds(pd.DataFrame(rows), "one dot").iloc[0]
    half = np.hypot(4.302653 * 0.1 / np.sqrt(3), 0.03 / np.sqrt(3))  # Student's t with two degrees of freedom
    assert found["value"] == pytest.approx(0.6)
    assert found["high"] - found["value"] == pytest.approx(half, rel=1e-6)
    assert (found["seeds"], found["examples"], found["seconds"]) == (3, 256, 3.0)
    alone = study.over_seeds(pd.DataFrame(rows[:1]), "one dot").iloc[0]
    assert alone["high"] - alone["value"] == pytest.approx(0.03)  # one seed says nothing about seeds


def test_no_metric_no_rows():
    empty = pd.DataFrame(columns=["part", "method", "steps", "metric", "value", "low", "high", "examples", "seconds"])
    assert study.over_seeds(empty, "one dot").empty
