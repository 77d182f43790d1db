"""Which tokens are hidden: the schedule's ends, and the share that training hides on average."""

import itertools
import math

import numpy as np
import pytest
import torch

from trajlib.masks import mask_ratio, random_masks


def test_the_schedule_falls_from_all_hidden_to_none():
    assert mask_ratio(0) == 1
    assert mask_ratio(1) == pytest.approx(0, abs=1e-15)
    ratios = [mask_ratio(r) for r in np.linspace(0, 1, 50)]
    assert all(a > b for a, b in itertools.pairwise(ratios))
    assert mask_ratio(1 / 3) == pytest.approx(math.sqrt(3) / 2)  # cos 30 degrees
    assert mask_ratio(2 / 3) == pytest.approx(1 / 2)  # cos 60 degrees


@pytest.mark.parametrize("r", [-0.1, 1.1, math.nan])
def test_progress_outside_0_to_1_is_refused(r):
    with pytest.raises(ValueError, match="progress runs from 0 to 1"):
        mask_ratio(r)


@pytest.mark.parametrize("n", [1, 2, 128])
def test_every_clip_hides_at_least_one_token_and_at_most_all(n):
    masks = random_masks(2000, n, torch.Generator().manual_seed(0))
    assert masks.shape == (2000, n)
    assert masks.dtype == torch.bool
    assert masks.sum(1).min() >= 1
    assert masks.sum(1).max() <= n


def test_the_mean_ratio_is_two_over_pi_not_three_quarters():
    """E[cos(pi r / 2)] = 2/pi for even r; rounding up adds half a token; 6,000 draws tell 0.64 from 0.75 easily."""
    share = random_masks(6_000, 128, torch.Generator().manual_seed(1)).float().mean(1)
    error = share.std() / math.sqrt(len(share))
    assert abs(share.mean() - (2 / math.pi + 0.5 / 128)) < 4 * error
    assert share.mean() < 0.66


def test_the_ratio_has_the_cosine_schedules_distribution():
    """P(ratio <= x) = 1 - (2/pi) acos(x): half of all clips hide more than cos 45 degrees."""
    share = random_masks(6_000, 128, torch.Generator().manual_seed(2)).float().mean(1)
    for x in (0.25, 0.5, math.cos(math.pi / 4), 0.9):
        expected = 1 - 2 / math.pi * math.acos(math.floor(x * 128) / 128)
        assert (share <= x).float().mean().item() == pytest.approx(expected, abs=0.025)


def test_every_place_is_hidden_equally_often():
    often = random_masks(6_000, 16, torch.Generator().manual_seed(3)).float().mean(0)
    assert (often - often.mean()).abs().max() < 0.03


def test_a_seed_gives_its_masks():
    first, again, other = (random_masks(8, 128, torch.Generator().manual_seed(s)) for s in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
