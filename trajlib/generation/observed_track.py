"""The observed track: what the observed pixels of a task show of the dot's trajectory.

Features of a frame, (b, frames, 5): x, y and radius as measured, normalized, 0 where no dot shows; whether a dot
shows; whether it touches masked pixels, so that it may continue there. Only observed pixels are read.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from trajlib.data.measure import FOREGROUND_THRESHOLD, measure_dot

SCALE = (12.0, 12.0, 0.8)  # pixels of a picture of 64 that become 1
RADIUS = 2.2  # pixels of a picture of 64 that become 0
REACH = 6  # pixels from a dot's centre within which it is looked at


def near_masked(region: Tensor) -> Tensor:
    """Pixels of `region` (..., h, w) bool with a masked pixel among their neighbours."""
    flat = (~region).float().flatten(0, -3)[:, None]
    return (F.max_pool2d(flat, 3, 1, 1) > 0)[:, 0].view(region.shape)


def _scale(like: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What becomes 0, and what becomes 1 of x, y and radius, (3,) each, in pixels of a picture of this size."""
    return like.new_tensor([(size - 1) / 2, (size - 1) / 2, RADIUS * size / 64]), like.new_tensor(SCALE) * size / 64


def track_features(dots: Tensor, cut: Tensor, size: int) -> Tensor:
    """Dots (b, frames, 3) in pixels, NaN where none shows, and which are cut (b, frames) bool -> (b, frames, 5)."""
    shows = dots.isfinite().all(-1, keepdim=True)
    middle, unit = _scale(dots, size)
    numbers = torch.where(shows, (dots - middle) / unit, 0.0)
    return torch.cat([numbers, shows.float(), (cut[..., None] & shows).float()], -1)


def dots_of(track: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The inverse of `track_features`: dots (b, frames, 3), NaN where none shows, and which are cut (b, frames)."""
    middle, unit = _scale(track, size)
    return torch.where(track[..., 3:4] > 0, track[..., :3] * unit + middle, torch.nan), track[..., 4] > 0


def observe_track(videos: Tensor, region: Tensor) -> Tensor:
    """Features (b, frames, 5) of the observed pixels of videos (b, 3, frames, h, w); `region` (frames, h, w) bool."""
    shown = torch.where(region, videos, 1.0)
    foreground = (1 - shown).amax(1) > FOREGROUND_THRESHOLD
    cut = (foreground & near_masked(region)).flatten(2).any(-1)
    return track_features(measure_dot(shown), cut, videos.shape[-1])


def observe_trajectories(trajectories: Tensor, darkness: Tensor, regions: Tensor, kinds: Tensor) -> Tensor:
    """The same without pixels, for training: trajectories (b, frames, 3) of dots with mean `darkness` (b,) in [0, 1].

    `regions` (k, frames, h, w) bool, of which `kinds` (b,) picks one for each. The share of a pixel that a disc covers
    is taken as a linear ramp at its edge.
    """
    frames, size = regions.shape[1], regions.shape[-1]
    middle = trajectories[..., :2].round()  # (b, frames, 2)
    span = torch.arange(-REACH, REACH + 1)
    x, y = (middle[..., k, None].long() + span for k in (0, 1))  # (b, frames, patch)
    radius = trajectories[..., 2] / darkness.sqrt()[:, None]
    dx, dy = x - trajectories[..., 0, None], y - trajectories[..., 1, None]
    distance = (dx[..., None, :].square() + dy[..., :, None].square()).sqrt()  # (b, frames, patch, patch): y, x
    share = (radius[..., None, None] + 0.5 - distance).clamp(0, 1)
    index = (kinds[:, None] * frames + torch.arange(frames))[..., None, None] * size * size
    index = index + y.clamp(0, size - 1)[..., :, None] * size + x.clamp(0, size - 1)[..., None, :]
    visible = share * regions.flatten()[index]
    intensity = visible.sum((-1, -2))
    position = [(visible * z).sum((-1, -2)) / intensity for z in (x[..., None, :], y[..., :, None])]
    dots = torch.stack([*position, (intensity * darkness[:, None] / torch.pi).sqrt()], -1)
    shows = (visible.amax((-1, -2)) * darkness[:, None] > FOREGROUND_THRESHOLD)[..., None]
    dark = visible * darkness[:, None, None, None] > FOREGROUND_THRESHOLD
    cut = (dark & near_masked(regions).flatten()[index]).flatten(2).any(-1)
    return track_features(torch.where(shows, dots, torch.nan), cut, size)
