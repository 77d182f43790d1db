"""Clips made from clips: augmentations keep pixels and family, crops keep the foreground."""

import pytest
import torch

from trajlib.data.augment import NUM_AUGMENTATIONS, augmented, foreground_crops
from trajlib.data.clips import TrajectoryDataset, VideoSpec, split
from trajlib.data.measure import track_centroid
from trajlib.data.video_files import to_float
from trajlib.evaluate import physics


def test_the_augmentations_of_a_clip_are_96_with_the_same_pixels():
    video = torch.from_numpy(TrajectoryDataset(3)[2].video)
    versions = [augmented(video, number) for number in range(NUM_AUGMENTATIONS)]
    assert torch.equal(versions[0], video)
    assert len({v.contiguous().numpy().tobytes() for v in versions}) == NUM_AUGMENTATIONS
    histogram = torch.bincount(video.flatten(), minlength=256)
    assert all(torch.equal(torch.bincount(v.flatten(), minlength=256), histogram) for v in versions)


@pytest.mark.parametrize("number", [-1, NUM_AUGMENTATIONS])
def test_no_97th_augmentation(number):
    with pytest.raises(ValueError, match="a whole number from 0 to 95"):
        augmented(torch.zeros(3, 16, 64, 64), number)


def test_every_augmentation_keeps_its_family():
    """The oracle tracks the dot in the augmented pixels, and still finds the clip's family."""
    clips = split("validation", 24).batch()
    videos = torch.cat([
        torch.stack([augmented(v, (7 * i + 13 * k) % NUM_AUGMENTATIONS) for i, v in enumerate(clips.videos)])
        for k in range(4)
    ])  # fmt: skip
    path, intensity = track_centroid(to_float(videos))
    found = torch.from_numpy(physics.best_family(path, intensity.sqrt(), noise=0.05))
    assert (found == clips.labels.repeat(4)).float().mean() > 0.95


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (VideoSpec(), {"frames": 4, "side": 32, "cell": 16}),
        (VideoSpec(8, 32), {"frames": 8, "side": 16, "cell": 8}),
    ],
)
def test_crops_are_parts_of_their_clips_with_the_dot_in_them(spec, size):
    videos = split("validation", 6, spec=spec).batch().videos
    crops = foreground_crops(videos, torch.Generator().manual_seed(0), **size)
    frames, side, cell = size.values()
    parts = videos.unflatten(2, (-1, frames)).transpose(1, 2).flatten(0, 1)
    assert crops.shape == (len(parts), 3, frames, side, side)
    assert crops.dtype == torch.uint8
    for part, crop in zip(parts, crops, strict=True):
        corners = range(0, spec.size - side + 1, cell)
        found = [
            (y, x) for y in corners for x in corners if torch.equal(part[..., y : y + side, x : x + side], crop)
        ]  # fmt: skip
        assert found, "not on the grid of tokens"
    whole, kept = ((255 - x.float()).sum((1, 2, 3, 4)) for x in (parts, crops))
    assert (kept / whole).median() > (0.99 if spec == VideoSpec() else 0.6)
    assert (kept / whole).min() > 0.2
