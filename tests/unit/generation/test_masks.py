"""Which tokens are masked, what stands in their place, and the order in which they are unmasked."""

import itertools
import math

import numpy as np
import pytest
import torch

from trajlib.generation.masks import commit_input, halton_order, mask_ratio, random_masks


def test_the_schedule_falls_from_all_masked_to_none():
    assert mask_ratio(0) == 1
    assert mask_ratio(1) == pytest.approx(0, abs=1e-15)
    ratios = [mask_ratio(r) for r in np.linspace(0, 1, 50)]
    assert all(a > b for a, b in itertools.pairwise(ratios))
    assert mask_ratio(1 / 3) == pytest.approx(math.sqrt(3) / 2)  # cos 30 degrees
    assert mask_ratio(2 / 3) == pytest.approx(1 / 2)  # cos 60 degrees


@pytest.mark.parametrize("r", [-0.1, 1.1, math.nan])
def test_progress_outside_0_to_1_is_refused(r):
    with pytest.raises(ValueError, match=r"r is .*; a finite number from 0 to 1 was expected"):
        mask_ratio(r)


@pytest.mark.parametrize("n", [1, 2, 128])
def test_every_clip_masks_at_least_one_token_and_at_most_all(n):
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
    """P(ratio <= x) = 1 - (2/pi) acos(x): half of all clips mask more than cos 45 degrees."""
    share = random_masks(6_000, 128, torch.Generator().manual_seed(2)).float().mean(1)
    for x in (0.25, 0.5, math.cos(math.pi / 4), 0.9):
        expected = 1 - 2 / math.pi * math.acos(math.floor(x * 128) / 128)
        assert (share <= x).float().mean().item() == pytest.approx(expected, abs=0.025)


def test_every_position_is_masked_equally_often():
    often = random_masks(6_000, 16, torch.Generator().manual_seed(3)).float().mean(0)
    assert (often - often.mean()).abs().max() < 0.03


def test_a_seed_gives_its_masks():
    first, again, other = (random_masks(8, 128, torch.Generator().manual_seed(s)) for s in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---- COMMIT's input ----


def test_the_input_has_three_kinds_of_tokens():
    """All four cases: the position masked or not, observed or not."""
    masked, observed = torch.tensor([[False, False, True, True], [False, True, False, True]])
    tokens, condition = torch.tensor([10, 11, 12, 13]), torch.tensor([20, 21, 22, 23])
    seen = commit_input(tokens, condition, observed, masked, mask_token=99)
    assert seen.tolist() == [10, 11, 99, 23]  # true, true (though observed), MASK, the condition's


def test_the_input_is_made_position_by_position():
    rng = torch.Generator().manual_seed(0)
    tokens, condition = torch.randint(0, 50, (2, 3, 8, 4, 4), generator=rng)
    observed, masked = torch.rand(2, 3, 8, 4, 4, generator=rng) < 0.5
    seen = commit_input(tokens, condition, observed, masked, 50)
    assert seen.shape == tokens.shape
    for at in np.ndindex(*tokens.shape):
        expected = tokens[at] if not masked[at] else condition[at] if observed[at] else 50
        assert seen[at] == expected


# ---- Halton order ----


def mirrored(i, base):
    """The digits of i, mirrored at the point: the definition of the Halton sequence."""
    value, unit = 0.0, 1 / base
    while i:
        i, digit = divmod(i, base)
        value, unit = value + unit * digit, unit / base
    return value


def sequence_by_hand(grid):
    """Indices into the flattened grid, as the Halton points in bases 2, 3, 5 and 7 first reach them."""
    found, i = [], 0
    while len(found) < math.prod(grid):
        cell = [int(mirrored(i, base) * size) for base, size in zip((2, 3, 5, 7), grid, strict=False)]
        position, i = int(np.ravel_multi_index(cell, grid)), i + 1
        found += [position] if position not in found else []
    return found


@pytest.mark.parametrize("grid", [(8, 4, 4), (4, 4, 4), (2, 3, 5), (2, 3, 3, 2)])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_halton_order_is_the_halton_sequence_from_some_position_on(grid, seed):
    order, by_hand = halton_order(grid, seed).tolist(), sequence_by_hand(grid)
    assert sorted(order) == list(range(math.prod(grid)))  # every position once
    start = by_hand.index(order[0])
    assert order == by_hand[start:] + by_hand[:start]


def test_seeds_start_at_different_positions_and_are_repeatable():
    starts = [int(halton_order((8, 4, 4), seed)[0]) for seed in range(40)]
    assert len(set(starts)) > 25
    assert torch.equal(halton_order((8, 4, 4), 3), halton_order((8, 4, 4), 3))


def eighths(positions):
    """How many of the 2 x 2 x 2 eighths of a grid (8, 4, 4) some flat indices touch."""
    t, y, x = np.unravel_index(positions, (8, 4, 4))
    return len(set(zip(t // 4, y // 2, x // 2, strict=True)))


def test_halton_order_is_spread_out():
    """Its first 16 positions leave out one eighth at most, whatever the seed; a random order leaves out more."""
    rng = np.random.default_rng(0)
    halton = [halton_order((8, 4, 4), seed).numpy() for seed in range(150)]
    assert min(eighths(order[:16]) for order in halton) >= 7
    assert min(len(set(order[:16] // 16)) for order in halton) >= 6  # of 8 time steps
    chance = [rng.permutation(128) for _ in range(150)]
    assert min(eighths(order[:16]) for order in chance) < 7
    for first in (4, 8, 12):
        reached = [np.mean([eighths(order[:first]) for order in orders]) for orders in (halton, chance)]
        assert reached[0] > reached[1] + 0.2
