"""Metrics of generated videos: tracks, physics, masked frames. No model is known here.

Videos are float tensors (n, 3, t, h, w) in [0, 1]. Paths are arrays (n, t, 2) of x, y in pixels, NaN without a dot.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from trajlib.data.checks import check_array
from trajlib.data.measure import track_centroid
from trajlib.data.spec import VideoSpec
from trajlib.evaluate import physics

TOLERANCE = 1.5  # how far a video may exceed the extremes of real clips: decoded dots are a little soft
# at most so much of a frame's intensity off the dot: decoders leave faint marks, a second dot is a half
MAX_OFF_OBJECT_MASS = 0.25
# at most so much of the dot's darkness on the border: there a whole dot covers at most half of a pixel
MAX_BORDER_CONTACT = 0.75


class TrackStats(NamedTuple):
    """The dot as measured in n videos; NaN where there is none."""

    path: np.ndarray  # (n, t, 2) pixels
    radius: np.ndarray  # (n, t) pixels, up to one factor for each clip: that of its colour
    min_foreground: np.ndarray  # (n,) smallest foreground intensity of a frame, over the clip's median frame
    off_object_mass: np.ndarray  # (n,) largest share of a frame's intensity two radii and more from its centroid
    jump: np.ndarray  # (n,) longest step from frame to frame, pixels
    border_contact: np.ndarray  # (n,) darkest pixel along the picture's border, over the clip's darkest


def track_video(videos: Tensor) -> TrackStats:
    """Track the dot through videos (n, 3, t, h, w)."""
    path, intensity = track_centroid(videos)
    dark = (1 - videos).mean(1)  # (n, t, h, w)
    top = dark.amax((1, 2, 3))  # (n,)
    border_contact = torch.cat([dark[..., 0, :], dark[..., -1, :], dark[..., 0], dark[..., -1]], -1).amax((1, 2)) / top
    dark = dark * (dark > 0.1 * dark.amax((-1, -2), keepdim=True))
    reach = 2 * (intensity / (torch.pi * top[:, None])).sqrt()  # (n, t): twice the radius of a disc of this intensity
    h, w = dark.shape[-2:]
    across, down = (torch.arange(w) - path[..., :1]) ** 2, (torch.arange(h) - path[..., 1:]) ** 2
    off = across[..., None, :] + down[..., None] > reach[..., None, None] ** 2
    off_object_mass = ((dark * off).sum((-1, -2)) / dark.sum((-1, -2))).amax(1)
    radius = (intensity / torch.pi).sqrt()
    min_foreground = intensity.amin(1) / intensity.median(1).values
    jump = path.diff(dim=1).norm(dim=-1).amax(1)
    return TrackStats(*(part.numpy() for part in (path, radius, min_foreground, off_object_mass, jump, border_contact)))


class PhysicsCheck(NamedTuple):
    """Geometric checks of n videos."""

    one_dot: np.ndarray  # (n,) bool: a dot in every frame, and no second one
    no_jump: np.ndarray  # (n,) bool: ... that moves no further from frame to frame than real ones
    inside: np.ndarray  # (n,) bool: ... that the picture's border cuts nowhere
    best: np.ndarray  # (n,) the family that fits best, index into FAMILIES; -1 without one dot
    residual: np.ndarray  # (n, 4) pixels between the path and each family's fit; NaN without one dot


def check_physics(tracks: TrackStats, real: TrackStats, noise: float, spec: VideoSpec = VideoSpec()) -> PhysicsCheck:
    """Check videos against real ones: the extremes of `real`, times TOLERANCE, are what is normal.

    `noise`: standard deviation of tracked positions, pixels (see `physics.fit_family`).
    """
    one_dot = tracks.min_foreground >= real.min_foreground.min() / TOLERANCE
    one_dot &= tracks.off_object_mass <= MAX_OFF_OBJECT_MASS
    best, residual = np.full(len(one_dot), -1), np.full((len(one_dot), 4), np.nan)
    if one_dot.any():
        fits = physics.fit_families(tracks.path[one_dot], tracks.radius[one_dot], noise, spec=spec).values()
        best[one_dot] = np.argmin([fit.score for fit in fits], 0)
        residual[one_dot] = np.stack([fit.residual for fit in fits], 1)
    no_jump = one_dot & (tracks.jump <= TOLERANCE * real.jump.max())
    return PhysicsCheck(one_dot, no_jump, one_dot & (tracks.border_contact <= MAX_BORDER_CONTACT), best, residual)


# ---- paths ----


def interpolate_gaps(paths: ArrayLike, spec: VideoSpec = VideoSpec()) -> np.ndarray:
    """Paths without NaN: linear over frames without a dot, constant at the ends, the picture's middle without any.

    `paths` (n, t, 2) in pixels. ValueError for another shape.
    """
    found = check_array("paths", paths, None, None, 2, finite=False).copy()
    frames = np.arange(found.shape[1])
    for path in found:
        present = np.isfinite(path).all(1)
        for axis in (0, 1):
            path[:, axis] = np.interp(frames, frames[present], path[present, axis]) if present.any() else spec.centre
    return found


def mean_error(paths: np.ndarray, truth: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Distance in pixels between paths and truth (n, t, 2), mean over the frames `where` (n, t) bool: (m,).

    Clips without such a frame are left out.
    """
    distance = np.linalg.norm(paths - truth, axis=-1) * where
    some = where.any(1)
    return distance[some].sum(1) / where[some].sum(1)
