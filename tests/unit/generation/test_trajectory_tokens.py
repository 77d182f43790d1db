"""Trajectory tokens: what is lost, in which order they come, for any number of frames; the linear guess of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajlib.data.clips import split
from trajlib.data.spec import VideoSpec
from trajlib.generation.linear_guess import TIGHT, LinearGuess
from trajlib.generation.trajectory_tokens import TrajectoryTokens, augment_trajectories, inside_picture
from trajlib.zoo.joint_recipe import track_pool


@pytest.fixture(scope="module")
def trajectories():
    return track_pool(split("train"), 96)[0]


@pytest.fixture(scope="module")
def quantizer(trajectories):
    return TrajectoryTokens(16).fit(trajectories)


@pytest.mark.parametrize("frames", [5, 16, 24])
def test_the_transform_is_orthonormal(frames):
    transform = TrajectoryTokens(frames, (4, 4, 2)).transform
    torch.testing.assert_close(transform @ transform.T, torch.eye(frames), atol=1e-5, rtol=0)


def test_tokens_come_coarse_to_fine_and_each_once(quantizer):
    assert quantizer.frequency.diff().ge(0).all()
    pairs = list(zip(quantizer.frequency.tolist(), quantizer.axis.tolist(), strict=True))
    assert len(set(pairs)) == quantizer.n == 22
    assert [max(k for k, of in pairs if of == axis) + 1 for axis in range(3)] == [9, 9, 4]


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([8, 64, 256]))
def test_a_round_trip_is_off_by_half_a_level(trajectories, seed, levels):
    quantizer = TrajectoryTokens(16, levels=levels).fit(trajectories)
    drawn = (torch.rand(4, quantizer.n, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * quantizer.reach
    spectrum = torch.zeros(4, 16, 3)
    spectrum[:, quantizer.frequency, quantizer.axis] = quantizer.mean + drawn * quantizer.spread
    again = quantizer.decode(quantizer.encode(quantizer.transform.T @ spectrum))
    assert (quantizer.deviations(again) - drawn).abs().max() <= quantizer.reach / levels * 1.01 + 1e-4


def test_tokens_of_decoded_tokens_are_the_same(quantizer):
    tokens = torch.randint(quantizer.levels, (32, quantizer.n), generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.encode(quantizer.decode(tokens)), tokens)


def test_real_trajectories_lose_little(quantizer):
    others = track_pool(split("validation"), 64)[0]
    error = (quantizer.decode(quantizer.encode(others)) - others)[..., :2].norm(dim=-1)
    assert error.mean() < 0.25


def test_a_token_moves_the_whole_path_and_a_finer_one_less_often_the_mean(quantizer):
    tokens = torch.full((1, quantizer.n), quantizer.levels // 2)
    other = tokens.clone()
    other[0, 0] += 10  # x's mean
    moved = quantizer.decode(other) - quantizer.decode(tokens)
    assert moved[..., 0].std() < 1e-4 < moved[..., 0].abs().min()
    assert moved[..., 1:].abs().max() < 1e-4


@pytest.mark.parametrize("frames", [8, 12, 24])
def test_other_numbers_of_frames(frames):
    spec = VideoSpec(frames=frames)
    found = track_pool(split("train", spec=spec), 24)[0]
    quantizer = TrajectoryTokens(frames, (6, 6, 3)).fit(found)
    error = (quantizer.decode(quantizer.encode(found)) - found)[..., :2].norm(dim=-1)
    assert error.mean() < 0.6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 15, 3), r"\(2, 15, 3\); expected a float32 tensor of shape \(any, 16, 3\)"),
        (torch.zeros(16, 3), r"came as torch.float32 \(16, 3\)"),
        (torch.full((1, 16, 3), torch.nan), "NaN or infinity"),
    ],
)
def test_what_is_no_trajectory_is_refused(quantizer, wrong, message):
    with pytest.raises(ValueError, match=message):
        quantizer.encode(wrong)


def test_augmentations_stay_in_the_picture_keep_distances_and_are_reproducible(trajectories):
    torch.manual_seed(3)
    found = augment_trajectories(trajectories, 64)
    torch.manual_seed(3)
    assert torch.equal(found, augment_trajectories(trajectories, 64))
    assert inside_picture(found, 64).all()
    steps = [x[..., :2].diff(dim=1).norm(dim=-1).sort(1).values for x in (trajectories, found)]
    torch.testing.assert_close(*steps, atol=1e-3, rtol=0)
    assert not torch.equal(found, trajectories)


def test_a_dot_beyond_the_border_is_outside():
    path = torch.tensor([[31.5, 31.5, 3.0]]).repeat(1, 16, 1)
    path[0, 5, 0] = 2.4  # its left edge at -0.6
    assert not inside_picture(path, 64).item()
    path[0, 5, 0] = 2.6
    assert inside_picture(path, 64).item()


# ---- the linear guess ----


@pytest.fixture(scope="module")
def guess(quantizer, trajectories):
    rounding = (2 * quantizer.reach / quantizer.levels) ** 2 / 12
    return LinearGuess(quantizer.n, 16, rounding).fit(quantizer, trajectories)


def test_what_is_observed_whole_is_guessed_and_nothing_leaves_the_mean(quantizer, guess, trajectories):
    mean, covariance = guess.observe(trajectories[:8], torch.zeros(8, 16, dtype=torch.bool))
    assert ((mean - quantizer.deviations(trajectories[:8])) * quantizer.spread).abs().max() < 4 * TIGHT  # px
    assert (covariance.diagonal(dim1=1, dim2=2).sqrt() * quantizer.spread).max() < 1.5 * TIGHT
    nothing = torch.full((2, 16, 3), torch.nan)
    mean, covariance = guess.observe(nothing, torch.zeros(2, 16, dtype=torch.bool))
    torch.testing.assert_close(covariance[0], guess.own, atol=1e-2, rtol=0)
    assert mean.abs().max() < 1e-3


def test_the_guess_is_the_gaussians_conditional_mean(quantizer, guess, trajectories):
    """By hand for one clip: 4 observed frames, and three coarser tokens known up to their rounding."""
    dots, cut = trajectories[:1].clone(), torch.zeros(1, 16, dtype=torch.bool)
    dots[:, 4:] = torch.nan
    values = quantizer.values(quantizer.encode(trajectories[:1]))
    mean, spread = guess(guess.observe(dots, cut), values, 4)
    seen = torch.arange(12)
    joint = torch.cat([
        torch.cat([guess.covariance[seen][:, seen] + TIGHT**2 * torch.eye(12), guess.cross[:3, seen].T], 1),
        torch.cat([guess.cross[:3, seen], guess.own[:3, :3] + guess.rounding * torch.eye(3)], 1),
    ]).double()  # fmt: skip
    with_fourth = torch.cat([guess.cross[3, seen], guess.own[3, :3]]).double()
    known = torch.cat([dots.flatten()[seen] - guess.mean[seen], values[0, :3]]).double()
    gain = torch.linalg.solve(joint, with_fourth)
    assert mean[0, 3].item() == pytest.approx((gain @ known).item(), abs=0.02)
    variance = guess.own[3, 3] - gain @ with_fourth + guess.rounding
    assert spread[0, 3].item() ** 2 == pytest.approx(variance.item(), abs=1e-3)


def test_more_frames_narrow_the_guess_and_cut_dots_less(guess, trajectories):
    spreads = []
    for frames, are_cut in ((1, False), (4, True), (4, False), (8, False)):
        dots = trajectories[:4].clone()
        dots[:, frames:] = torch.nan
        covariance = guess.observe(dots, torch.full((4, 16), are_cut))[1]
        spreads.append(covariance.diagonal(dim1=1, dim2=2).sum().item())
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("counts", [(5,), (6, 2), (4, 4, 3, 3, 2)])
def test_the_counts_say_how_many_axes_there_are(counts):
    found = torch.randn(40, 8, len(counts), generator=torch.Generator().manual_seed(0)).cumsum(1)
    quantizer = TrajectoryTokens(8, counts, levels=64).fit(found)
    assert (quantizer.axes, quantizer.n) == (len(counts), sum(counts))
    tokens = quantizer.encode(found)
    assert quantizer.decode(tokens).shape == found.shape
    assert torch.equal(quantizer.encode(quantizer.decode(tokens)), tokens)
    with pytest.raises(ValueError, match=rf"expected a float32 tensor of shape \(any, 8, {len(counts)}\)"):
        quantizer.encode(found[..., :-1])


def test_one_trajectory_has_no_spread():
    with pytest.raises(ValueError, match=r"^the number of trajectories is 1; a whole number from 2 was expected\.$"):
        TrajectoryTokens(8).fit(torch.zeros(1, 8, 3))
