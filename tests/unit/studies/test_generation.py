"""Measures of sets of clips on cases with a known answer: Gaussians, toy sets; and extrapolated paths."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from studies import generation, tasks

from trajlib.data.clips import TrajectoryDataset
from trajlib.data.video_files import to_float
from trajlib.evaluate.samples import track_video

FRAMES = np.arange(16)


def line(x, y, dx=0.0, dy=0.0):
    return np.stack([x + dx * FRAMES, y + dy * FRAMES], 1)


@pytest.mark.parametrize("d", [1, 3])
def test_frechet_distance_is_the_closed_form(d):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, d)) @ rng.normal(size=(d, d)), 1.5 + 2 * rng.normal(size=(300, d))
    one, two = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    closed = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert generation.frechet_distance(a, b) == pytest.approx(closed, rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    """Means 3 apart, standard deviations 1 and 2 in each of two directions: 9 + 2 (2 - 1)^2."""
    rng = np.random.default_rng(1)
    raw, shift = rng.normal(size=(500, 2)), np.array([3.0, 0.0])
    white = (raw - raw.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    assert generation.frechet_distance(white, 2 * white + shift) == pytest.approx(11, rel=1e-9)
    assert generation.frechet_distance(white, white) == pytest.approx(0, abs=1e-9)
    assert generation.frechet_distance(white, white[::-1] + shift) == pytest.approx(9, rel=1e-9)


def test_precision_and_recall_on_toy_sets():
    """Real points 0, 1, ..., 9 on a line: with k = 1 each reaches 1 to both sides."""
    real = np.arange(10.0)[:, None]
    made = np.array([[0.5], [4.2], [10.9], [11.1], [50.0]])
    assert generation.manifold_membership(made, real, k=1).tolist() == [True, True, False, False, False]
    assert generation.manifold_membership(np.array([[10.0]]), real, k=1).tolist() == [True]
    pair = np.array([[0.0], [0.5]])  # samples of one kind only: precise, and nearly all is missed
    assert generation.manifold_membership(pair, real, k=1).all()
    assert generation.manifold_membership(real, pair, k=1).tolist() == [True, True] + 8 * [False]


def test_the_jackknife_gives_the_error_of_a_mean():
    values = np.random.default_rng(2).normal(size=1000)
    low, high = generation.jackknife(np.mean, values, groups=50)
    error = values.std() / np.sqrt(len(values))
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=1e-6)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.25)


def test_videos_in_batches_are_examined_as_if_at_once():
    clips = TrajectoryDataset(60, seed=31).batch()
    videos = to_float(clips.videos)
    whole, parts = (
        generation.examine(((v, 0.0) for v in videos.split(n)), lambda x: x.mean((2, 3, 4))) for n in (60, 25)
    )
    assert np.allclose(whole["features"], videos.mean((2, 3, 4)))
    assert whole["moments"].shape == (60, 21)
    assert np.abs(whole["tracks"].path - clips.paths.numpy()).max() < 0.1  # px
    for name in ("features", "moments", "appearance"):
        assert np.allclose(whole[name], parts[name], atol=1e-5)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(whole["tracks"], parts["tracks"], strict=True))


@pytest.mark.parametrize(
    ("order", "observed", "acceleration"), [(0, 1, None), (1, 2, 0.0), (1, 8, 0.0), (2, 3, 0.3), (2, 8, 0.3)]
)
def test_extrapolation_is_exact_where_its_law_holds(order, observed, acceleration):
    path = np.stack([line(5, 7), line(40, 9)]) if acceleration is None else np.stack([line(5, 7, 1.5, -0.5)] * 2)
    path[1, :, 1] += 0.5 * (acceleration or 0) * FRAMES**2
    edited = path.copy()
    edited[:, observed:] = np.nan  # nothing later may count
    np.testing.assert_allclose(tasks.extrapolate(edited, observed, order), path, atol=1e-8)


def test_extrapolation_falls_back_on_what_so_few_frames_allow():
    path = np.stack([line(5, 7, 1.5, -0.5)])
    np.testing.assert_array_equal(tasks.extrapolate(path, 1, 2), tasks.extrapolate(path, 1, 0))
    np.testing.assert_array_equal(tasks.extrapolate(path, 2, 2), tasks.extrapolate(path, 2, 1))
    np.testing.assert_array_equal(tasks.extrapolate(path, 1, 0)[0], np.tile(path[0, 0], (16, 1)))


def test_a_copied_clip_is_not_new_in_whatever_augmentation():
    clips = TrajectoryDataset(6, seed=31).batch()
    known, tracks = clips.paths.numpy(), track_video(to_float(clips.videos[[5, 3]]))
    for path in (known[[5, 3]], 63 - known[[5, 3]], known[[5, 3], ::-1]):  # turned by half a turn; backwards
        distance = generation.nearest_known(tracks._replace(path=path), known, 64)
        np.testing.assert_allclose(distance, 0, atol=1e-4)
    moved = tracks._replace(path=known[:1] + np.array([3.0, 4.0]))  # 5 px in every frame
    assert generation.nearest_known(moved, known[:1], 64) == pytest.approx([5.0], rel=1e-4)


def test_batches_are_measured_as_one():
    videos = to_float(TrajectoryDataset(6, seed=31).batch().videos)
    found = generation.examine(((part, 0.0) for part in videos.split(4)), lambda x: x.mean((2, 3, 4)))
    for one, other in zip(found["tracks"], track_video(videos), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert (found["features"].shape, len(found["seconds"])) == ((6, 3), 2)
