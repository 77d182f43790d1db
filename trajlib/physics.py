"""The oracle: which family a path obeys, by least squares, from the dot's place and apparent size alone.

A pinhole camera shows the point (X, Y, Z) at u = f X/Z + c, v = f Y/Z + c, with the apparent radius r = f R/Z. So

    q = (u, v, 1) / r

is the point itself up to a fixed affine map (which holds f, c, R and the camera's pose). Each family is linear in few
functions of time, and stays so under affine maps; hence neither the camera nor the dot's true size need be known:

    linear [1, t]   parabolic [1, t, t^2]   circular [1, cos wt, sin wt]   helical [1, t, cos wt, sin wt]

A fit finds q(t) = basis(t) @ coefficients such that u q3 - q1, v q3 - q2 and r q3 - 1 vanish, each times r, which makes
them residuals in pixels: linear least squares, with one search for w. No model has a part in this.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from trajlib import FAMILIES
from trajlib.render import SIZE
from trajlib.trajectories import TURNS

SEARCH = (TURNS[0] - 0.05, TURNS[1] + 0.05)  # turns per clip that are looked at
GRID = 13  # turns of the first look, evenly spaced
REFINEMENTS = 16  # golden sections after it, each 0.62 times as wide
GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Fit:
    """One family laid through n clips. `score` compares families: the lowest is the best."""

    family: str
    path: np.ndarray  # (n, t, 2) fitted, pixels
    radius: np.ndarray  # (n, t) fitted, pixels
    residual: np.ndarray  # (n,) root mean square distance between path and fitted path, pixels
    score: np.ndarray  # (n,) observations * log(mean square residual + noise^2) + parameters * log(observations)
    turns: np.ndarray | None  # (n,) revolutions per clip, of circles and helices
    equation: np.ndarray  # (n, k, 3) coefficients of q - (c, c, 0) / r, where c is the picture's middle


def basis(family, times, turns=None):
    """The family's functions of time, (n, t, k) for `turns` (n,), or (1, t, k) for families that do not turn."""
    t = np.asarray(times, float)[None]
    if family in ("linear", "parabolic"):
        columns = [np.ones_like(t), t] + ([t**2] if family == "parabolic" else [])
    else:
        a = 2 * np.pi * np.asarray(turns)[:, None] * t
        columns = [np.ones_like(a), np.cos(a), np.sin(a)] + ([t + 0 * a] if family == "helical" else [])
    return np.stack(columns, -1)


def _equations(path, radius, functions):
    """(n, 3t, 3k) and (n, 3t): residuals in pixels, linear in the coefficients of q1, q2, q3."""
    u, v, r = path[..., 0, None], path[..., 1, None], radius[..., None]
    g = r * functions
    zero = np.zeros_like(g)
    rows = [[-g, zero, u * g], [zero, -g, v * g], [zero, zero, r * g]]
    target = np.concatenate([np.zeros((len(path), 2 * radius.shape[1])), radius], 1)
    return np.concatenate([np.concatenate(row, -1) for row in rows], 1), target


def _mean_square(path, radius, functions):
    """(n,) mean square of the linear residuals in pixels, and the least squares solution (n, k, 3)."""
    matrix, target = _equations(path, radius, functions)
    q, triangle = np.linalg.qr(matrix)
    seen = np.einsum("nij,ni->nj", q, target)
    rest = target - np.einsum("nij,nj->ni", q, seen)
    solution = np.linalg.solve(triangle, seen[..., None])[..., 0]
    return (rest**2).mean(1), solution.reshape(len(path), 3, -1).transpose(0, 2, 1)


def _search_turns(family, path, radius, times):
    """(n,) turns of the least residual: a grid, then golden sections about its best point, all clips at once."""

    def loss(turns):
        return _mean_square(path, radius, basis(family, times, turns))[0]

    grid = np.linspace(*SEARCH, GRID)
    first = grid[np.argmin([loss(np.full(len(path), turns)) for turns in grid], 0)]
    low, high = first - (grid[1] - grid[0]), first + (grid[1] - grid[0])
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(REFINEMENTS):
        down = at_left < at_right  # where the valley lies left of `right`
        low, high = np.where(down, low, left), np.where(down, right, high)
        fresh = np.where(down, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        at_fresh = loss(fresh)
        left, right = np.where(down, fresh, right), np.where(down, left, fresh)
        at_left, at_right = np.where(down, at_fresh, at_right), np.where(down, at_left, at_fresh)
    return (low + high) / 2


def _checked(path, radius):
    """Path (n, t, 2) and radius (n, t) as float64, one clip becoming a batch of one."""
    path, radius = np.asarray(path, float), np.asarray(radius, float)
    if path.ndim == 2:
        path, radius = path[None], radius[None]
    if path.ndim != 3 or path.shape[2] != 2 or radius.shape != path.shape[:2]:
        raise ValueError(f"path {path.shape} and radius {radius.shape} came; expected (n, frames, 2) and (n, frames).")
    if path.shape[1] < 6:
        raise ValueError(f"{path.shape[1]} frames came; telling the families apart takes at least 6.")
    if not (np.isfinite(path).all() and np.isfinite(radius).all() and (radius > 0).all()):
        raise ValueError(
            "the path or the radius has NaN, infinity or a radius that is not positive: leave such clips out."
        )
    return path, radius


def fit_family(family, path, radius, noise=0.02, times=None):
    """Lay one family through path (n, t, 2) and radius (n, t), both in pixels -> `Fit`.

    `noise`: pixels below which a residual means nothing. `times`: when the frames were taken; default evenly, 0 to 1.
    """
    path, radius = _checked(path, radius)
    times = np.linspace(0, 1, path.shape[1]) if times is None else times
    middle = (SIZE - 1) / 2
    centred = path - middle
    turns = _search_turns(family, centred, radius, times) if family in ("circular", "helical") else None
    functions = np.broadcast_to(
        basis(family, times, turns), (*radius.shape, basis(family, times, np.ones(1)).shape[-1])
    )
    mean_square, solution = _mean_square(centred, radius, functions)
    q = functions @ solution  # (n, t, 3)
    fitted = q[..., :2] / q[..., 2:] + middle
    count, parameters = 3 * path.shape[1], 3 * functions.shape[-1] + (turns is not None)
    score = count * np.log(mean_square + noise**2) + parameters * np.log(count)
    residual = np.sqrt(((fitted - path) ** 2).sum(-1).mean(1))
    return Fit(family, fitted, 1 / q[..., 2], residual, score, turns, solution)


def fit_families(path, radius, noise=0.02, times=None):
    """Every family laid through the clips: {family: `Fit`}."""
    return {family: fit_family(family, path, radius, noise, times) for family in FAMILIES}


def best_family(path, radius, noise=0.02, times=None):
    """(n,) index into FAMILIES of the family of the lowest score."""
    return np.argmin([fit.score for fit in fit_families(path, radius, noise, times).values()], 0)


def weights(path, radius, noise=0.02, times=None):
    """(n, 4) how the families share the belief, exp(-score / 2) over their sum; NaN where a frame has no dot.

    The score is Schwarz's criterion (BIC), so these are a posterior's first terms. The likeliest is `best_family`'s.
    A dot that stays where it is, as a bar does that hides it, fits all families: NaN, too.
    """
    path, radius = np.asarray(path, float), np.asarray(radius, float)
    whole = np.isfinite(path).all((1, 2)) & np.isfinite(radius).all(1) & (radius > 0).all(1)
    whole &= (np.ptp(path, axis=1) > 1e-6).all(1)
    shares = np.full((len(path), len(FAMILIES)), np.nan)
    if whole.any():
        fits = fit_families(path[whole], radius[whole], noise, times).values()
        shares[whole] = softmax(np.stack([-fit.score / 2 for fit in fits], 1), axis=1)
    return shares
