"""Metrics against closed forms and independent implementations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trajlib.data import measure
from trajlib.data.clips import TrajectoryDataset
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(8, seed=2).batch()


@pytest.fixture(scope="module")
def videos(clips):
    return to_float(clips.videos)


@given(st.floats(0.001, 1.0))
@settings(max_examples=20, deadline=None)
def test_psnr_of_a_constant_error(error):
    videos = torch.zeros(2, 3, 2, 8, 8)
    assert metrics.psnr(videos, videos + error).tolist() == pytest.approx([-20 * math.log10(error)] * 2, abs=1e-3)


def test_psnr_is_of_each_clip_on_its_own():
    videos = torch.zeros(2, 3, 2, 8, 8)
    recon = videos.clone()
    recon[0] += 0.1
    recon[1] += 0.01
    assert metrics.psnr(videos, recon).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_psnr_of_some_pixels_is_that_of_a_clip_of_these_pixels():
    true, recon = torch.rand(2, 2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(metrics.psnr(true.flatten(1), recon.flatten(1)), metrics.psnr(true, recon))


def test_foreground_psnr_counts_the_dot_only(videos):
    white = (1 - videos).amax(1, keepdim=True) <= 0.02  # (b, 1, t, h, w)
    wrong_background = torch.where(white, torch.zeros(()), videos)
    assert torch.isinf(metrics.foreground_psnr(videos, wrong_background)).all()
    wrong_dot = torch.where(white, videos, videos - 0.1)
    assert metrics.foreground_psnr(videos, wrong_dot).tolist() == pytest.approx([20.0] * 8, abs=1e-3)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_psnr_by_hand(seed):
    true, recon = torch.rand(2, 2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    expected = [-10 * math.log10(error) for error in (recon - true).square().mean((1, 2, 3, 4)).tolist()]
    assert metrics.psnr(true, recon).tolist() == pytest.approx(expected, abs=1e-4)


def test_the_centroid_is_on_the_true_path(clips, videos):
    centres, intensity = measure.track_centroid(videos)
    assert centres.shape == (8, 16, 2)
    assert (centres - clips.paths).norm(dim=-1).max() < 0.05
    colour = (1 - videos).amax((2, 3, 4)).mean(1)  # (b,): the intensity of a pixel that is all dot
    assert (intensity / (torch.pi * clips.radii**2 * colour[:, None]) - 1).abs().max() < 0.05


@given(st.integers(-5, 5), st.integers(-5, 5))
@settings(max_examples=15, deadline=None)
def test_the_centroid_follows_a_shift(dx, dy):
    videos = torch.ones(1, 3, 1, 32, 32)
    videos[..., 14:18, 13:16] = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    before, _ = measure.track_centroid(videos)
    after, _ = measure.track_centroid(videos.roll((dy, dx), (-2, -1)))
    assert (after - before)[0, 0].tolist() == pytest.approx([dx, dy], abs=1e-4)


def test_haze_does_not_move_the_centroid_and_white_has_none(videos):
    haze = torch.rand(videos.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    there, _ = measure.track_centroid(videos)
    hazy, _ = measure.track_centroid(videos - haze)
    assert (there - hazy).norm(dim=-1).max() < 0.05
    centres, intensity = measure.track_centroid(torch.ones(1, 3, 2, 8, 8))
    assert centres.isnan().all()
    assert (intensity == 0).all()


def test_colour_error(videos):
    assert metrics.colour_error(videos, videos).max() < 1e-6
    grey = videos.mean(1, keepdim=True).expand_as(videos)
    assert (metrics.colour_error(videos, grey) > 0.01).all()
    assert metrics.colour_error(videos, 1 - 0.7 * (1 - videos)).max() < 0.02  # paler, of the same hue
    red, green = torch.ones(1, 3, 1, 8, 8), torch.ones(1, 3, 1, 8, 8)
    red[:, 1:, :, 3:5, 3:5] = 0  # it lacks green and blue
    green[:, ::2, :, 3:5, 3:5] = 0
    assert metrics.colour_error(red, green).item() == pytest.approx(0.5)
    assert metrics.colour_error(red, torch.ones_like(red)).isnan().all()


@given(st.integers(1, 64))
@settings(max_examples=20, deadline=None)
def test_usage_of_equally_frequent_tokens(k):
    usage = metrics.codebook_usage(torch.arange(k).repeat(3), 64)
    assert usage.used == k
    assert usage.perplexity == pytest.approx(k)
    assert usage.entropy == pytest.approx(math.log2(k), abs=1e-9)


def test_usage_of_unequal_tokens():
    usage = metrics.codebook_usage(torch.tensor([[0, 0], [0, 7]]), 10)
    assert usage.used == 2
    assert usage.entropy == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)


def test_wilson_of_37_in_40():
    """92.5 % of 40 clips."""
    assert metrics.wilson(37, 40) == pytest.approx((0.8014, 0.9742), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_by_its_formula(hits_of_n):
    hits, n = hits_of_n
    z, p = 1.959963984540054, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = metrics.wilson(hits, n)
    assert low == pytest.approx(max(0, middle - half), abs=1e-9)
    assert high == pytest.approx(min(1, middle + half), abs=1e-9)


def test_mean_interval():
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = metrics.mean_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert metrics.mean_interval(torch.tensor(values)) == (low, high)  # the same seed, the same interval


def test_moments_describe_the_shape_wherever_and_however_it_lies():
    """A drawn L is the same L after shifting, turning by right angles, mirroring and dimming; a bar is not."""
    pictures = np.zeros((5, 32, 32), np.float32)
    pictures[0, 5:15, 5:8] = pictures[0, 12:15, 5:12] = 1
    pictures[1] = np.roll(pictures[0], (9, 11), (0, 1))
    pictures[2], pictures[3] = np.rot90(pictures[0]), pictures[0].T
    pictures[4, 5:20, 5:8] = 1
    shape, *same, bar = metrics.shape_moments(pictures)
    assert shape.shape == (21,)
    assert all(np.allclose(shape, each, atol=1e-4) for each in same)
    assert not np.allclose(shape, bar, atol=1e-2)
    assert np.allclose(metrics.shape_moments(0.5 * pictures[:1])[0, :-2], shape[:-2], atol=1e-4)


def test_an_exposure_is_the_mean_of_frames_without_their_order(videos):
    moments = metrics.exposure(videos)
    assert moments.shape == (8, 21)
    pictures = (1 - videos).mean((1, 2)).unflatten(1, (32, 2)).unflatten(3, (32, 2)).mean((2, 4))  # (n, 32, 32)
    np.testing.assert_allclose(moments, metrics.shape_moments(pictures.numpy()), atol=1e-4)
    np.testing.assert_allclose(metrics.exposure(videos.flip(2)), moments, atol=1e-4)
    assert np.abs(moments[0] - moments[1]).max() > 0.1  # another path, other moments
    assert not np.allclose(metrics.exposure(videos[:, :, :8]), moments, atol=1e-2)  # half of a path


@pytest.mark.parametrize("kinds", [2, 4])
def test_the_gain_is_all_bits_if_the_features_hold_the_answer_and_none_if_not(kinds):
    rng = np.random.default_rng(0)
    clips = np.repeat(np.arange(200), 4)
    answers = rng.integers(kinds, size=len(clips))
    features = np.eye(kinds)[answers] + 0.01 * rng.normal(size=(len(clips), kinds))
    gain = metrics.information_gain(features, answers, clips)
    assert gain.shape == (200,)
    assert gain.mean() == pytest.approx(math.log2(kinds), abs=0.15)  # the prior keeps a twentieth
    assert metrics.information_gain(rng.normal(size=(len(clips), 3)), answers, clips).mean() < 0.02
    assert metrics.information_gain(np.zeros((len(clips), 1)), answers, clips).mean() == pytest.approx(0, abs=0.02)


def test_the_gain_is_held_out_by_clip():
    """A feature that only identifies the clip would give that clip's answer; the gain must not count it."""
    rng = np.random.default_rng(1)
    clips = np.repeat(np.arange(100), 30)
    answers = rng.integers(2, size=100)[clips]
    assert metrics.information_gain(clips[:, None].astype(float), answers, clips).mean() < 0.05


def test_median_interval_is_of_ranks():
    values = np.arange(401) / 400
    assert metrics.median_interval(values) == pytest.approx((0.5 - 0.98 / 401**0.5, 0.5 + 0.98 / 401**0.5))
    assert metrics.median_interval([7.0]) == (7.0, 7.0)
    spans = [metrics.median_interval(sample) for sample in np.random.default_rng(0).normal(size=(400, 60))]
    assert np.mean([low <= 0 <= high for low, high in spans]) == pytest.approx(0.95, abs=0.03)


def test_entropy_of_known_frequencies():
    assert metrics.entropy(np.array([3, 3, 3])) == 0
    assert metrics.entropy(np.arange(16) % 8) == pytest.approx(3)
    assert metrics.entropy(np.array([0, 0, 1, 2])) == pytest.approx(1.5)


def test_sectors_go_round_once():
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False) + 0.1
    vectors = np.stack([np.cos(angle), np.sin(angle)], 1)
    assert metrics.sectors(vectors).tolist() == list(range(8))
    assert metrics.sectors(100 * vectors, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert metrics.sectors(np.array([[1.0, -1e-17], [0.0, 0.0]])).tolist() == [0, 0]  # just below the x axis; no vector


def test_holm_is_worked_by_hand():
    """Four comparisons: the least p counts fourfold, the next threefold; none is less than one before it."""
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.9, 0.6]) == pytest.approx([1, 1])
    assert metrics.holm([0.02]) == pytest.approx([0.02])


def test_pixels_of_255_have_no_centroid():
    with pytest.raises(ValueError, match=r"^videos run from 255 to 255; expected \[0, 1\]: divide"):
        measure.track_centroid(torch.full((1, 3, 2, 8, 8), 255.0))
    with pytest.raises(ValueError, match=r"^videos came as torch\.uint8 \(1, 3, 2, 8, 8\); expected a float tensor"):
        measure.track_centroid(torch.zeros(1, 3, 2, 8, 8, dtype=torch.uint8))
