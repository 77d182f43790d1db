"""The judges of generated clips, on cases whose answer is known: Gaussians, toy sets, exact paths, spoilt films."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from trajlib import FAMILIES, judge
from trajlib.dataset import TrajectoryDataset, to_float
from trajlib.render import render

FRAMES = np.arange(16)


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(60, seed=31).batch()


@pytest.fixture(scope="module")
def videos(clips):
    return to_float(clips.videos)


@pytest.fixture(scope="module")
def normal(videos):
    return judge.watch(videos[:40])


def film(path, radius=3.0):
    """A film (1, 3, 16, 64, 64) of a red dot along `path` (16, 2)."""
    return to_float(torch.from_numpy(render(path, np.full(len(path), radius), (0.8, 0.1, 0.1))))[None]


def line(x, y, dx=0.0, dy=0.0):
    return np.stack([x + dx * FRAMES, y + dy * FRAMES], 1)


# ---- films ----


def test_a_real_dot_is_followed(clips, normal):
    assert np.linalg.norm(normal.path - clips.paths[:40].numpy(), axis=-1).max() < 0.2
    size = normal.radius / clips.radii[:40].numpy()  # one factor a clip: its colour's
    assert (size.std(1) / size.mean(1)).max() < 0.02


def test_real_clips_pass_and_geometry_knows_them(clips, videos, normal):
    judged = judge.by_physics(judge.watch(videos[40:]), normal, 0.05)
    labels = clips.labels[40:].numpy()
    for name in ("one_dot", "no_leap", "inside"):
        assert getattr(judged, name).mean() >= 0.95, name
    assert (judged.best == labels).mean() >= 0.9
    assert np.median(judged.residual[np.arange(20), labels]) < 0.1


def test_a_frame_without_a_dot_is_found(videos, normal):
    spoilt = videos[:20].clone()
    spoilt[:, :, 7] = 1
    judged = judge.by_physics(judge.watch(spoilt), normal, 0.05)
    assert not judged.one_dot.any()
    assert not judged.no_leap.any()
    assert not judged.inside.any()
    assert (judged.best == -1).all()
    assert np.isnan(judged.residual).all()


def test_a_film_without_any_dot_is_found(normal):
    judged = judge.by_physics(judge.watch(torch.ones(2, 3, 16, 64, 64)), normal, 0.05)
    assert not judged.one_dot.any()


def test_two_dots_are_found_and_one_large_dot_is_none(normal):
    one, other = film(line(20, 20, 0.5)), film(line(20, 40, 0.5))
    judged = judge.by_physics(judge.watch(torch.cat([one, torch.minimum(one, other)])), normal, 0.05)
    assert judged.one_dot.tolist() == [True, False]
    assert judge.watch(film(line(30, 30), radius=6.0)).stray[0] == 0  # size alone is none
    assert judge.watch(one).stray[0] == 0
    assert judge.watch(torch.minimum(one, other)).stray[0] > 0.7  # the centre of the two lies between them
    assert judge.watch(torch.minimum(one, film(line(20, 55, 0.5)))).stray[0] == pytest.approx(1, abs=0.01)


def test_a_faint_mark_on_the_paper_is_no_second_dot(normal):
    one, mark = film(line(20, 20, 0.5)), torch.zeros(1, 3, 16, 64, 64)
    mark[..., 40:44, 40:44] = 0.15
    seen = judge.watch((one - mark).clamp_min(0))
    assert 0 < seen.stray[0] < judge.STRAY
    assert judge.by_physics(seen, normal, 0.05).one_dot.all()


def test_a_leap_is_found(normal):
    path = line(10, 10, 1.0, 1.0)
    path[8:] += 25
    judged = judge.by_physics(judge.watch(film(path)), normal, 0.05)
    assert judged.one_dot.tolist() == [True]
    assert judged.no_leap.tolist() == [False]
    assert judge.watch(film(path)).jump[0] == pytest.approx(26 * np.sqrt(2), abs=0.1)


def test_a_dot_cut_by_the_border_is_found(normal):
    """It touches the border whole, half a pixel away, and one pixel further it is cut."""
    whole, cut = film(line(3.0, 20, 0, 1.0)), film(line(2.0, 20, 0, 1.0))
    judged = judge.by_physics(judge.watch(torch.cat([whole, cut])), normal, 0.05)
    assert judged.inside.tolist() == [True, False]
    for films in (cut.flip(-1), cut.transpose(-1, -2), cut.transpose(-1, -2).flip(-2)):
        assert judge.watch(films).rim[0] > judge.RIM  # at each of the four sides


def test_batches_are_put_together(videos):
    at_once = judge.watch(videos[:10])
    for one, other in zip(judge.together([judge.watch(part) for part in videos[:10].split(4)]), at_once, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


# ---- sets ----


@pytest.mark.parametrize("d", [1, 3])
def test_frechet_distance_is_the_closed_form(d):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, d)) @ rng.normal(size=(d, d)), 1.5 + 2 * rng.normal(size=(300, d))
    one, two = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    closed = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert judge.frechet_distance(a, b) == pytest.approx(closed, rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    """Means 3 apart, standard deviations 1 and 2 in each of two directions: 9 + 2 (2 - 1)^2."""
    rng = np.random.default_rng(1)
    raw, shift = rng.normal(size=(500, 2)), np.array([3.0, 0.0])
    white = (raw - raw.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    assert judge.frechet_distance(white, 2 * white + shift) == pytest.approx(11, rel=1e-9)
    assert judge.frechet_distance(white, white) == pytest.approx(0, abs=1e-9)
    assert judge.frechet_distance(white, white[::-1] + shift) == pytest.approx(9, rel=1e-9)


def test_precision_and_recall_on_toy_sets():
    """Real points 0, 1, ..., 9 on a line: with k = 1 each reaches 1 to both sides."""
    real = np.arange(10.0)[:, None]
    made = np.array([[0.5], [4.2], [10.9], [11.1], [50.0]])
    assert judge.covered(made, real, k=1).tolist() == [True, True, False, False, False]
    assert judge.covered(np.array([[10.0]]), real, k=1).tolist() == [True]
    pair = np.array([[0.0], [0.5]])  # samples that know one place only: precise, and nearly all is missed
    assert judge.covered(pair, real, k=1).all()
    assert judge.covered(real, pair, k=1).tolist() == [True, True] + 8 * [False]


def test_the_jackknife_knows_the_error_of_a_mean():
    values = np.random.default_rng(2).normal(size=1000)
    low, high = judge.jackknife(np.mean, values, groups=50)
    error = values.std() / np.sqrt(len(values))
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=1e-6)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.25)


def test_a_copied_clip_is_not_new(clips):
    paths = clips.paths.numpy()
    distance, index = judge.nearest(paths[[7, 3]], paths)
    np.testing.assert_allclose(distance, 0, atol=1e-6)
    assert index.tolist() == [7, 3]
    moved = paths[:1] + np.array([3.0, 4.0])  # 5 px in every frame
    assert judge.nearest(moved, paths[:1])[0] == pytest.approx([5.0], rel=1e-5)


# ---- what is hidden ----


def test_gaps_are_joined_by_straight_lines_and_ends_are_held():
    path = np.stack([line(0, 10, 2.0, 1.0)] * 3)
    path[0, [0, 1, 5, 6, 15]] = np.nan
    path[1] = np.nan
    found = judge.joined(path)
    np.testing.assert_allclose(found[0, 2:15], line(0, 10, 2.0, 1.0)[2:15])
    np.testing.assert_allclose(found[0, [0, 1, 15]], [[4, 12], [4, 12], [28, 24]])
    np.testing.assert_allclose(found[1], 31.5)
    np.testing.assert_array_equal(found[2], path[2])
    assert np.isnan(path[1]).all()  # what came is left as it was


@pytest.mark.parametrize(
    ("order", "given", "acceleration"), [(0, 1, None), (1, 2, 0.0), (1, 8, 0.0), (2, 3, 0.3), (2, 8, 0.3)]
)
def test_extrapolation_is_exact_where_its_law_holds(order, given, acceleration):
    path = np.stack([line(5, 7), line(40, 9)]) if acceleration is None else np.stack([line(5, 7, 1.5, -0.5)] * 2)
    path[1, :, 1] += 0.5 * (acceleration or 0) * FRAMES**2
    spoilt = path.copy()
    spoilt[:, given:] = np.nan  # nothing later may count
    np.testing.assert_allclose(judge.extrapolate(spoilt, given, order), path, atol=1e-8)


def test_extrapolation_falls_back_on_what_so_few_frames_allow():
    path = np.stack([line(5, 7, 1.5, -0.5)])
    np.testing.assert_array_equal(judge.extrapolate(path, 1, 2), judge.extrapolate(path, 1, 0))
    np.testing.assert_array_equal(judge.extrapolate(path, 2, 2), judge.extrapolate(path, 2, 1))
    np.testing.assert_array_equal(judge.extrapolate(path, 1, 0)[0], np.tile(path[0, 0], (16, 1)))


def test_the_oracle_goes_on_as_the_true_path_does():
    """From 8 of 16 frames, less than half a turn: exact for nearly all, and better than any extrapolation."""
    world = TrajectoryDataset(200, seed=32)
    tracks = [world.track(i) for i in range(200)]
    paths, radii = (np.array([getattr(track, name) for track in tracks]) for name in ("path", "radius"))
    found = judge.oracle_forecast(paths, radii, 8)
    assert found.shape == paths.shape
    away = np.linalg.norm(found - paths, axis=-1)[:, 8:].mean(1)
    assert np.median(away) < 0.1
    simple = [np.linalg.norm(judge.extrapolate(paths, 8, k) - paths, axis=-1)[:, 8:].mean(1) for k in (0, 1, 2)]
    assert np.median(away) < min(np.median(some) for some in simple) / 10
    linear = [track.family == FAMILIES[0] for track in tracks]
    assert away[linear].max() < 0.5


def test_errors_count_where_they_should():
    truth, where = np.zeros((3, 16, 2)), np.zeros((3, 16), bool)
    where[0, :4], where[2, 5] = True, True
    paths = truth + np.array([3.0, 4.0])
    paths[1], paths[2, 5] = 100, (0, 2)
    np.testing.assert_allclose(judge.mean_error(paths, truth, where), [5, 2])


def test_films_that_come_in_parts_are_examined_as_if_at_once(clips, videos):
    whole, parts = (judge.examine(videos.split(n), lambda films: films.mean((2, 3, 4))) for n in (60, 25))
    assert np.allclose(whole["features"], videos.mean((2, 3, 4)))
    assert whole["moments"].shape == (60, 21)
    assert np.abs(whole["seen"].path - clips.paths.numpy()).max() < 0.1  # px
    for name in ("features", "moments"):
        assert np.allclose(whole[name], parts[name], atol=1e-5)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(whole["seen"], parts["seen"], strict=True))
