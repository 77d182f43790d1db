"""What judges generated clips: numbers from films, from the paths in them, and from features. No model is known here.

Films are float tensors (n, 3, t, h, w) in [0, 1]. Paths are arrays (n, t, 2) of x, y in pixels, NaN without a dot.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import polynomial
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import adaptive_avg_pool2d

from trajlib import physics
from trajlib.metrics import follow_dot, shape_moments
from trajlib.render import SIZE

MIDDLE = (SIZE - 1) / 2
SLACK = 1.5  # how much further than any real clip a film may go: decoded dots are a little soft
STRAY = 0.25  # of a frame's ink may lie off its dot: decoders leave faint marks on the paper, a second dot is half
RIM = 0.75  # of the dot's darkness: a whole dot keeps off the border and covers at most half of a pixel there


class Seen(NamedTuple):
    """What is seen of the dot in n films; NaN where there is none."""

    path: np.ndarray  # (n, t, 2) pixels
    radius: np.ndarray  # (n, t) pixels, up to one factor for each clip: that of its colour
    faintest: np.ndarray  # (n,) ink of the frame that has least, over the clip's median frame
    stray: np.ndarray  # (n,) largest share of a frame's ink that lies two radii and more from its centre
    jump: np.ndarray  # (n,) longest step from frame to frame, pixels
    rim: np.ndarray  # (n,) darkest pixel along the picture's border, over the clip's darkest


def watch(videos):
    """Follow the dot: films (n, 3, t, h, w) -> `Seen`."""
    path, ink = follow_dot(videos)
    dark = (1 - videos).mean(1)  # (n, t, h, w)
    top = dark.amax((1, 2, 3))  # (n,)
    rim = torch.cat([dark[..., 0, :], dark[..., -1, :], dark[..., 0], dark[..., -1]], -1).amax((1, 2)) / top
    dark = dark * (dark > 0.1 * dark.amax((-1, -2), keepdim=True))
    reach = 2 * (ink / (torch.pi * top[:, None])).sqrt()  # (n, t) of a disc that has as much ink, twice the radius
    across, down = ((torch.arange(SIZE) - path[..., k, None]) ** 2 for k in (0, 1))  # (n, t, w), (n, t, h)
    off = across[..., None, :] + down[..., None] > reach[..., None, None] ** 2
    stray = ((dark * off).sum((-1, -2)) / dark.sum((-1, -2))).amax(1)
    radius = (ink / torch.pi).sqrt()
    faintest, jump = ink.amin(1) / ink.median(1).values, path.diff(dim=1).norm(dim=-1).amax(1)
    return Seen(*(part.numpy() for part in (path, radius, faintest, stray, jump, rim)))


def together(parts):
    """Tuples of arrays, such as `Seen`, of several batches -> one of all."""
    parts = list(parts)
    return type(parts[0])(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Judged(NamedTuple):
    """What geometry says of n films, each (n,) bool but the last two."""

    one_dot: np.ndarray  # a dot in every frame, and no second one
    no_leap: np.ndarray  # ... that goes on from frame to frame
    inside: np.ndarray  # ... and is nowhere cut by the picture's border
    best: np.ndarray  # (n,) the family that fits best, index into FAMILIES; -1 without one dot
    residual: np.ndarray  # (n, 4) pixels between the path and each family's fit; NaN without one dot


def by_physics(seen, real, noise):
    """`Judged`: the films `seen` beside `real` ones (`Seen` too), whose extremes, with `SLACK`, are what is normal.

    `noise`: how far off followed dots are, pixels (see `physics.fit_family`).
    """
    one_dot = (seen.faintest >= real.faintest.min() / SLACK) & (seen.stray <= STRAY)
    best, residual = np.full(len(one_dot), -1), np.full((len(one_dot), 4), np.nan)
    if one_dot.any():
        fits = physics.fit_families(seen.path[one_dot], seen.radius[one_dot], noise).values()
        best[one_dot] = np.argmin([fit.score for fit in fits], 0)
        residual[one_dot] = np.stack([fit.residual for fit in fits], 1)
    no_leap = one_dot & (seen.jump <= SLACK * real.jump.max())
    return Judged(one_dot, no_leap, one_dot & (seen.rim <= RIM), best, residual)


# ---- sets of clips ----


@torch.no_grad()
def examine(films, features):
    """All that the judges need of films that come some at a time: all at once are too many for the memory.

    {"seen": `Seen`, "features": what `features` makes of films, (n, d), "moments": long exposures' shapes, (n, 21)}.
    """
    seen, read, exposures = [], [], []
    for videos in films:
        seen.append(watch(videos))
        read.append(features(videos))
        dark = 1 - videos.mean(1)
        dark = dark * (dark > 0.1 * dark.amax((1, 2, 3), keepdim=True))  # decoded paper is not quite white
        exposures.append(adaptive_avg_pool2d(dark.mean(1), 32) + 1e-9)  # and no picture wholly
    moments = shape_moments(torch.cat(exposures).numpy())
    return {"seen": together(seen), "features": torch.cat(read).numpy(), "moments": moments}


def frechet_distance(a, b):
    """Between the Gaussians with the means and covariances of features (n, d) and (m, d): 0 if they are the same.

    Heusel et al., arXiv 1706.08500. Too few clips make it larger: compare only at the same n.
    """
    middle = ((a.mean(0) - b.mean(0)) ** 2).sum()
    one, two = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # trace of the root of a product: the sum of the roots of its eigenvalues, which are real and not negative
    roots = np.sqrt(np.linalg.eigvals(one @ two).real.clip(0)).sum()
    return float(middle + np.trace(one) + np.trace(two) - 2 * roots)


def covered(points, others, k=3):
    """(n,) bool: points (n, d) within reach of one of the `others` (m, d), which reach to their k-th neighbour.

    Kynkaanniemi et al., arXiv 1904.06991. Samples covered by real clips are *precision*, real clips covered by samples
    are *recall*.
    """
    reach = NearestNeighbors(n_neighbors=k).fit(others).kneighbors()[0][:, -1]  # itself is not its neighbour
    return (cdist(points, others) <= reach).any(1)


def jackknife(function, *sets, groups=10, seed=0):
    """95 % interval of function(*sets), each (n, ...): from its values when one of `groups` parts is left out.

    Unlike the bootstrap it repeats no clip; a repeated one is its own nearest neighbour.
    """
    rng = np.random.default_rng(seed)
    lots = [rng.permutation(len(some)) % groups for some in sets]
    values = [function(*(s[lot != g] for s, lot in zip(sets, lots, strict=True))) for g in range(groups)]
    error = np.sqrt((groups - 1) * np.var(values))
    value = function(*sets)
    return float(value - 1.96 * error), float(value + 1.96 * error)


def nearest(paths, known):
    """The known path that comes nearest to each: (n,) root mean square distance over the frames, pixels, and its index.

    Both (..., t, 2), without NaN.
    """
    flat = [np.asarray(x).reshape(len(x), -1) for x in (known, paths)]
    distance, index = NearestNeighbors(n_neighbors=1).fit(flat[0]).kneighbors(flat[1])
    return distance[:, 0] / np.sqrt(paths.shape[1]), index[:, 0]


# ---- what is hidden ----


def joined(paths):
    """Paths without gaps: straight lines over frames without a dot, held at the ends; no dot at all is the middle."""
    paths = np.array(paths, float)
    frames = np.arange(paths.shape[1])
    for path in paths:
        seen = np.isfinite(path).all(1)
        for axis in (0, 1):
            path[:, axis] = np.interp(frames, frames[seen], path[seen, axis]) if seen.any() else MIDDLE
    return paths


def extrapolate(paths, given, order):
    """Paths (n, t, 2), of which the first `given` frames count, carried on with constant position (order 0), velocity
    (1) or acceleration (2), from the last order + 1 of those frames or as many as there are.
    """
    known = paths[:, max(0, given - order - 1) : given]
    times = np.arange(1 - known.shape[1], 1)  # 0 is the last given frame
    later = np.arange(1, paths.shape[1] - given + 1)
    curve = polynomial.polyfit(times, known.swapaxes(0, 1).reshape(len(times), -1), len(times) - 1)
    values = polynomial.polyval(later, curve).reshape(len(paths), 2, -1)
    return np.concatenate([paths[:, :given], values.swapaxes(1, 2)], 1)


def oracle_forecast(paths, radii, given):
    """True paths (n, t, 2) carried on by the family that fits their first `given` frames, 6 or more, best.

    What geometry knows: it sees the dot's exact place and radius, and knows the four families.
    """
    times = np.linspace(0, 1, paths.shape[1])
    fits = list(physics.fit_families(paths[:, :given], radii[:, :given], times=times[:given]).values())
    best = np.argmin([fit.score for fit in fits], 0)
    return np.stack([_carried_on(fit, times[:given], times) for fit in fits])[best, np.arange(len(paths))]


def _carried_on(fit, times, later):
    """A fit's path at other times: (u, v, 1) / r is linear in the family's functions of time, see `physics`."""
    q = np.concatenate([fit.path, np.ones_like(fit.path[..., :1])], -1) / fit.radius[..., None]
    known, wanted = (physics.basis(fit.family, t, fit.turns) for t in (times, later))
    q = wanted @ (np.linalg.pinv(known) @ q)
    return q[..., :2] / q[..., 2:]


def mean_error(paths, truth, where):
    """Distance between paths and truth over the frames `where` (n, t), mean for each clip that has any: (m,) pixels."""
    away = np.linalg.norm(paths - truth, axis=-1) * where
    some = where.any(1)
    return away[some].sum(1) / where[some].sum(1)
