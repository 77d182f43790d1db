"""A second kind of clips, made of the course's parts: a darker and a lighter dot pass each other on white.

The darker dot moves as the only dot of the course's clip of the same split and number, and its motion is the class.
The lighter one is a distractor: its family is drawn without looking at the class, and its motion is drawn until the
two dots touch, in at most half of the frames and neither in the first nor in the last. Both are seen by one camera; in
each frame the nearer one covers the other.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from studies.robustness import corruption_of
from torch import Tensor

from trajlib.data.clips import SPLIT_SEEDS, Nuisances, Track, draw_nuisances, orient, project_track, split
from trajlib.data.render import draw_discs
from trajlib.data.spec import VideoSpec
from trajlib.data.trajectories import FAMILIES, draw_motion

SHADES = ([0.6, 0.15], [1.0, 0.35]), ([0.6, 0.7], [0.8, 0.85])  # saturation and value, least and greatest, of each dot
HUES = (0.25, 0.75)  # turns of the colour circle between the dots
OFFSET = 3.0  # px, at most, along x and along y, between the dots where they are to meet
COVERED = 0.3  # a pixel that a dot covers less than this is not counted


@dataclass(frozen=True)
class Dots:
    """A `VideoDataset`: the clips of a split with `count` dots. One: the course's own clips. Two: see above.

    `corruption`: a kind of the study `robustness` and its strength. Of "noise", "darkness" and "frame drops".
    """

    name: str = "train"
    count: int = 2
    corruption: tuple[str, float] = ("none", 0.0)
    spec: VideoSpec = VideoSpec()

    num_classes = len(FAMILIES)

    def __len__(self) -> int:
        return 10**9

    def tracks(self, i: int) -> list[Track]:
        """The dots of clip i without its pixels; the first one's motion is the class."""
        first = split(self.name, spec=self.spec).track(i)
        if self.count == 1:
            return [first]
        rng = np.random.default_rng([SPLIT_SEEDS[self.name], i, 3])
        hue = rng.uniform() + np.array([0, rng.uniform(*HUES)])
        colours = [colorsys.hsv_to_rgb(h % 1, *rng.uniform(*shade)) for h, shade in zip(hue, SHADES, strict=True)]
        family = FAMILIES[rng.integers(len(FAMILIES))]
        first = replace(first, params=replace(first.params, colour=colours[0]))
        while True:
            camera = {"focal": first.params.camera.focal, "view": first.params.camera.rotation}
            nuisances = replace(draw_nuisances(rng, self.spec), colour=colours[1], **camera)
            other = passing(first, family, nuisances, rng, self.spec)
            touch = touching(first, other)
            if touch.any() and not touch[[0, -1]].any() and touch.sum() <= self.spec.frames // 2:
                return [first, other]

    def video(self, i: int) -> np.ndarray:
        """Clip i, (3, frames, size, size) uint8."""
        tracks, canvas = self.tracks(i), np.full(self.spec.shape, 255, np.uint8)
        depth = np.stack([track.params.camera.project(track.path3d)[1] for track in tracks])  # (dots, frames)
        for drawn in np.argsort(-depth, 0):  # in each frame the farthest dot first
            for k, track in enumerate(tracks):
                if len(frames := np.flatnonzero(drawn == k)):
                    part = canvas[:, frames]
                    draw_discs(part, track.path[frames], track.radius[frames], track.params.colour)
                    canvas[:, frames] = part
        rng = np.random.default_rng([SPLIT_SEEDS[self.name], i, 4])
        return corrupted(canvas, *self.corruption, rng)

    def videos(self, indices: Sequence[int]) -> Tensor:
        """uint8 (b, 3, frames, size, size)."""
        return torch.from_numpy(np.stack([self.video(int(i)) for i in indices]))

    def labels(self, indices: Sequence[int]) -> Tensor:
        """int64 (b,): indices into FAMILIES."""
        return split(self.name).labels(indices)

    def trajectories(self, indices: Sequence[int]) -> Tensor:
        """x, y and radius in pixels of each dot, (b, dots, frames, 3)."""
        clips = [[np.column_stack([track.path, track.radius]) for track in self.tracks(int(i))] for i in indices]
        return torch.tensor(np.array(clips)).float()

    def colours(self, indices: Sequence[int]) -> Tensor:
        """Red, green and blue of each dot in [0, 1], (b, dots, 3)."""
        return torch.tensor([[track.params.colour for track in self.tracks(int(i))] for i in indices])


def passing(first: Track, family: str, nuisances: Nuisances, rng: np.random.Generator, spec: VideoSpec) -> Track:
    """A dot that is to meet the first one, OFFSET apart, in a frame of the middle half of the clip.

    The picture's border may keep it away.
    """
    motion = orient(draw_motion(family, rng), nuisances.foreshortening, rng, max(16, spec.frames))
    meets, offset = rng.integers(spec.frames // 4, 3 * spec.frames // 4), rng.uniform(-OFFSET, OFFSET, 2)
    found = project_track(motion, nuisances, spec)
    middle = nuisances.middle + first.path[meets] + offset * spec.size / 64 - found.path[meets]
    return project_track(motion, replace(nuisances, middle=middle), spec)


def touching(first: Track, other: Track) -> np.ndarray:
    """In which frames the two discs overlap, (frames,) bool."""
    return np.linalg.norm(first.path - other.path, axis=-1) < first.radius + other.radius


def corrupted(video: np.ndarray, kind: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A clip (3, n, h, w) uint8 with noise, darkness or frame drops as the course's `Corruption` has them."""
    if (corruption := corruption_of(kind, strength)) is None:
        return video
    grain, chance = rng.normal(size=video.shape), rng.uniform(size=video.shape[1])
    values = video + 255 * (corruption.noise * grain + corruption.brightness)
    shown = np.maximum.accumulate(np.where(chance < corruption.frame_drops, 0, np.arange(video.shape[1])))
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)[:, shown]


def coverage(videos: Tensor, colours: Tensor) -> Tensor:
    """The share of each pixel that each dot covers, (b, dots, t, h, w), by its colour alone; below COVERED it is 0.

    videos (b, 3, t, h, w) in [0, 1], colours (b, dots, 3). A pixel's darkness is a sum of the dots' darkness, each
    times its share: least squares find the shares.
    """
    shares = torch.linalg.pinv((1 - colours.float()).mT)  # (b, dots, 3)
    found = torch.einsum("bkc,bcthw->bkthw", shares, 1 - videos)
    return found * (found > COVERED)


def locate(covered: Tensor) -> tuple[Tensor, Tensor]:
    """Centroid in pixels (b, dots, t, 2), NaN without a dot, and area in pixels (b, dots, t), of `coverage`."""
    area, along = covered.sum((-1, -2)), torch.arange(covered.shape[-1]).float()
    centre = torch.stack([(covered.sum(-2) * along).sum(-1), (covered.sum(-1) * along).sum(-1)], -1)
    return centre / area[..., None], area
