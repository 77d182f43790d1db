"""Metrics of generated clips on cases with a known answer: Gaussians, toy sets, exact paths, edited videos."""

import numpy as np
import pytest
import torch

from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.data.render import render
from trajlib.data.video_files import to_float
from trajlib.evaluate import samples

FRAMES = np.arange(16)


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(60, seed=31).batch()


@pytest.fixture(scope="module")
def videos(clips):
    return to_float(clips.videos)


@pytest.fixture(scope="module")
def normal(videos):
    return samples.track_video(videos[:40])


def dot_video(path, radius=3.0):
    """A video (1, 3, 16, 64, 64) of a red dot along `path` (16, 2)."""
    return to_float(torch.from_numpy(render(path, np.full(len(path), radius), (0.8, 0.1, 0.1))))[None]


def line(x, y, dx=0.0, dy=0.0):
    return np.stack([x + dx * FRAMES, y + dy * FRAMES], 1)


# ---- videos ----


def test_a_real_dot_is_tracked(clips, normal):
    assert np.linalg.norm(normal.path - clips.paths[:40].numpy(), axis=-1).max() < 0.2
    size = normal.radius / clips.radii[:40].numpy()  # one factor a clip: its colour's
    assert (size.std(1) / size.mean(1)).max() < 0.02


def test_real_clips_pass_and_the_oracle_classifies_them(clips, videos, normal):
    checked = samples.check_physics(samples.track_video(videos[40:]), normal, 0.05)
    labels = clips.labels[40:].numpy()
    for name in ("one_dot", "no_jump", "inside"):
        assert getattr(checked, name).mean() >= 0.95, name
    assert (checked.best == labels).mean() >= 0.9
    assert np.median(checked.residual[np.arange(20), labels]) < 0.1


def test_a_frame_without_a_dot_is_found(videos, normal):
    edited = videos[:20].clone()
    edited[:, :, 7] = 1
    checked = samples.check_physics(samples.track_video(edited), normal, 0.05)
    assert not checked.one_dot.any()
    assert not checked.no_jump.any()
    assert not checked.inside.any()
    assert (checked.best == -1).all()
    assert np.isnan(checked.residual).all()


def test_a_video_without_any_dot_is_found(normal):
    checked = samples.check_physics(samples.track_video(torch.ones(2, 3, 16, 64, 64)), normal, 0.05)
    assert not checked.one_dot.any()


def test_two_dots_are_found_and_one_large_dot_is_none(normal):
    one, other = dot_video(line(20, 20, 0.5)), dot_video(line(20, 40, 0.5))
    checked = samples.check_physics(samples.track_video(torch.cat([one, torch.minimum(one, other)])), normal, 0.05)
    assert checked.one_dot.tolist() == [True, False]
    assert samples.track_video(dot_video(line(30, 30), radius=6.0)).off_object_mass[0] == 0  # size alone is none
    assert samples.track_video(one).off_object_mass[0] == 0
    assert (
        samples.track_video(torch.minimum(one, other)).off_object_mass[0] > 0.7
    )  # the centre of the two lies between them
    assert samples.track_video(torch.minimum(one, dot_video(line(20, 55, 0.5)))).off_object_mass[0] == pytest.approx(
        1, abs=0.01
    )


def test_a_faint_mark_on_the_background_is_no_second_dot(normal):
    one, mark = dot_video(line(20, 20, 0.5)), torch.zeros(1, 3, 16, 64, 64)
    mark[..., 40:44, 40:44] = 0.15
    tracks = samples.track_video((one - mark).clamp_min(0))
    assert 0 < tracks.off_object_mass[0] < samples.MAX_OFF_OBJECT_MASS
    assert samples.check_physics(tracks, normal, 0.05).one_dot.all()


def test_a_jump_is_found(normal):
    path = line(10, 10, 1.0, 1.0)
    path[8:] += 25
    checked = samples.check_physics(samples.track_video(dot_video(path)), normal, 0.05)
    assert checked.one_dot.tolist() == [True]
    assert checked.no_jump.tolist() == [False]
    assert samples.track_video(dot_video(path)).jump[0] == pytest.approx(26 * np.sqrt(2), abs=0.1)


def test_a_dot_cut_by_the_border_is_found(normal):
    """It touches the border whole, half a pixel away, and one pixel further it is cut."""
    whole, cut = dot_video(line(3.0, 20, 0, 1.0)), dot_video(line(2.0, 20, 0, 1.0))
    checked = samples.check_physics(samples.track_video(torch.cat([whole, cut])), normal, 0.05)
    assert checked.inside.tolist() == [True, False]
    for cut_video in (cut.flip(-1), cut.transpose(-1, -2), cut.transpose(-1, -2).flip(-2)):
        assert (
            samples.track_video(cut_video).border_contact[0] > samples.MAX_BORDER_CONTACT
        )  # at each of the four sides


# ---- paths ----


def test_gaps_are_joined_by_straight_lines_and_ends_are_held():
    path = np.stack([line(0, 10, 2.0, 1.0)] * 3)
    path[0, [0, 1, 5, 6, 15]] = np.nan
    path[1] = np.nan
    found = samples.interpolate_gaps(path)
    np.testing.assert_allclose(found[0, 2:15], line(0, 10, 2.0, 1.0)[2:15])
    np.testing.assert_allclose(found[0, [0, 1, 15]], [[4, 12], [4, 12], [28, 24]])
    np.testing.assert_allclose(found[1], 31.5)
    np.testing.assert_array_equal(found[2], path[2])
    assert np.isnan(path[1]).all()  # what came is left as it was


def test_errors_count_where_they_should():
    truth, where = np.zeros((3, 16, 2)), np.zeros((3, 16), bool)
    where[0, :4], where[2, 5] = True, True
    paths = truth + np.array([3.0, 4.0])
    paths[1], paths[2, 5] = 100, (0, 2)
    np.testing.assert_allclose(samples.mean_error(paths, truth, where), [5, 2])


def test_videos_of_another_size_are_tracked_and_checked():
    spec = VideoSpec(frames=10, size=32)
    batch = TrajectoryDataset(24, seed=33, spec=spec).batch()
    tracks = samples.track_video(to_float(batch.videos))
    assert np.abs(tracks.path - batch.paths.numpy()).max() < 0.2  # px
    checked = samples.check_physics(tracks, tracks, 0.05, spec)
    assert (checked.best == batch.labels.numpy()).mean() > 0.8
    assert (samples.interpolate_gaps(np.full((1, 10, 2), np.nan), spec) == 15.5).all()
