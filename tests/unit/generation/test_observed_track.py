"""The observed track: pixels and trajectories give the same features, and no masked pixel is read."""

import pytest
import torch

from trajlib.data.clips import split
from trajlib.data.measure import measure_dot
from trajlib.data.video_files import to_float
from trajlib.generation.observed_track import (
    SCALE,
    dots_of,
    near_masked,
    observe_track,
    observe_trajectories,
    track_features,
)
from trajlib.generation.tasks import TASKS, region
from trajlib.zoo.joint_recipe import track_pool


@pytest.fixture(scope="module")
def clips():
    return to_float(split("validation").videos(range(24)))


@pytest.fixture(scope="module")
def pool():
    return track_pool(split("validation"), 24)


def test_the_pools_trajectories_are_those_measured_in_pixels(clips, pool):
    difference = (measure_dot(clips) - pool[0]).abs()
    assert difference[..., :2].max() < 0.1
    assert difference[..., 2].max() < 0.1


@pytest.mark.parametrize("task", list(TASKS))
def test_features_from_pixels_and_from_trajectories_agree(task, clips, pool):
    """Whole dots to 0.15 px; cut ones, whose edge is taken as a ramp, to half a pixel in nine of ten."""
    regions = region(task, frames=4)[None]
    trajectories, _, darkness = pool
    pixels = observe_track(clips, regions[0])
    simulated = observe_trajectories(trajectories, darkness, regions, torch.zeros(24, dtype=torch.long))
    assert (pixels[..., 3:] != simulated[..., 3:]).float().mean() < 0.03
    both = (pixels[..., 3] == 1) & (simulated[..., 3] == 1)
    difference = ((pixels - simulated)[..., :3] * torch.tensor(SCALE)).abs().amax(-1)[both]
    cut = pixels[..., 4][both] == 1
    whole, partial = difference[~cut & (simulated[..., 4][both] == 0)], difference[cut]
    assert whole.numel() == 0 or whole.quantile(0.99) < 0.15
    assert partial.numel() == 0 or partial.quantile(0.9) < 0.5


@pytest.mark.parametrize("task", list(TASKS))
def test_no_masked_pixel_is_read(task, clips):
    where = region(task, frames=4)
    noise = torch.rand(clips.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(observe_track(clips, where), observe_track(torch.where(where, clips, noise), where))


def test_each_trajectory_has_the_region_that_is_picked_for_it(pool):
    regions = torch.stack([region("OPC"), region("FP", frames=8), region("IPD")])
    trajectories, _, darkness = (x[:6] for x in pool)
    kinds = torch.tensor([0, 1, 2, 2, 1, 0])
    together = observe_trajectories(trajectories, darkness, regions, kinds)
    for k in range(3):
        some = kinds == k
        alone = observe_trajectories(
            trajectories[some], darkness[some], regions[k : k + 1], torch.zeros(2, dtype=torch.long)
        )
        torch.testing.assert_close(together[some], alone)
    assert together[1, :8, 3].all()
    assert not together[1, 8:, 3].any()


def test_features_become_dots_again():
    dots = torch.tensor([[[10.0, 20, 2.5], [torch.nan] * 3, [50.0, 60, 1.5]]])
    cut = torch.tensor([[False, True, True]])
    features = track_features(dots, cut, 64)
    assert features[0, 1].tolist() == [0] * 5  # what does not show cannot be cut
    again, cut_again = dots_of(features, 64)
    torch.testing.assert_close(again, dots, equal_nan=True, atol=1e-4, rtol=0)
    assert cut_again.tolist() == [[False, False, True]]


def test_neighbours_of_masked_pixels():
    where = torch.zeros(1, 5, 5, dtype=torch.bool)
    where[0, :, :3] = True
    assert torch.equal(near_masked(where) & where, torch.tensor([[False, False, True, False, False]] * 5)[None])
