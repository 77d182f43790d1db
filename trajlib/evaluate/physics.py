"""The oracle: which family of motions fits a path best, by least squares on the dot's position and apparent radius.

A pinhole camera shows the point (X, Y, Z) at u = f X/Z + c, v = f Y/Z + c, with the apparent radius r = f R/Z. So

    q = (u, v, 1) / r

is the point itself up to a fixed affine map (which contains f, c, R and the camera's pose). Each family is linear in a
few functions of time, and stays so under affine maps; hence neither the camera nor the dot's true size need be known:

    linear [1, t]   parabolic [1, t, t^2]   circular [1, cos wt, sin wt]   helical [1, t, cos wt, sin wt]

A fit finds q(t) = basis(t) @ coefficients such that u q3 - q1, v q3 - q2 and r q3 - 1 vanish, each times r, which makes
them residuals in pixels: linear least squares, with a one-dimensional search for w. No model takes part.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from trajlib.data.checks import check_array
from trajlib.data.spec import VideoSpec, check_name, check_number
from trajlib.data.trajectories import FAMILIES, TURNS

SEARCH = (TURNS[0] - 0.05, TURNS[1] + 0.05)  # range of the turns per clip
GRID = 13  # turns tried first, evenly spaced
REFINEMENTS = 16  # golden sections after that, each 0.62 times as wide
GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Fit:
    """One family fitted to n clips. `score` (BIC) compares families: the lowest is the best."""

    family: str
    path: np.ndarray  # (n, t, 2) fitted, pixels
    radius: np.ndarray  # (n, t) fitted, pixels
    residual: np.ndarray  # (n,) root mean square distance between path and fitted path, pixels
    score: np.ndarray  # (n,) observations * log(mean square residual + noise^2) + parameters * log(observations)
    turns: np.ndarray | None  # (n,) revolutions per clip, of circles and helices
    equation: np.ndarray  # (n, k, 3) coefficients of q - (c, c, 0) / r, where c is the picture's middle


def basis(family: str, times: ArrayLike, turns: ArrayLike | None = None) -> np.ndarray:
    """The family's functions of time: (n, t, k) for `turns` (n,); (1, t, k) for families that do not turn.

    ValueError for an unknown family.
    """
    check_name("family", family, FAMILIES)
    t = np.asarray(times, float)[None]
    if family in ("linear", "parabolic"):
        columns = [np.ones_like(t), t] + ([t**2] if family == "parabolic" else [])
    else:
        a = 2 * np.pi * np.asarray(turns)[:, None] * t
        columns = [np.ones_like(a), np.cos(a), np.sin(a)] + ([t + 0 * a] if family == "helical" else [])
    return np.stack(columns, -1)


def _least_squares(path: np.ndarray, radius: np.ndarray, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean square of the linear residuals in pixels, (n,), and the coefficients (n, k, 3) that minimize it."""
    u, v, r = path[..., 0, None], path[..., 1, None], radius[..., None]
    g = r * functions
    zero = np.zeros_like(g)
    rows = [[-g, zero, u * g], [zero, -g, v * g], [zero, zero, r * g]]  # of the coefficients of q1, q2, q3
    target = np.concatenate([np.zeros((len(path), 2 * radius.shape[1])), radius], 1)  # (n, 3 t)
    q, triangle = np.linalg.qr(np.concatenate([np.concatenate(row, -1) for row in rows], 1))
    projected = np.einsum("nij,ni->nj", q, target)
    rest = target - np.einsum("nij,nj->ni", q, projected)
    solution = np.linalg.solve(triangle, projected[..., None])[..., 0]
    return (rest**2).mean(1), solution.reshape(len(path), 3, -1).transpose(0, 2, 1)


def _search_turns(family: str, path: np.ndarray, radius: np.ndarray, times: ArrayLike) -> np.ndarray:
    """(n,) turns of the smallest residual: a grid, then golden sections about its best point, all clips at once."""

    def loss(turns: np.ndarray) -> np.ndarray:
        return _least_squares(path, radius, basis(family, times, turns))[0]

    grid = np.linspace(*SEARCH, GRID)
    first = grid[np.argmin([loss(np.full(len(path), turns)) for turns in grid], 0)]
    low, high = first - (grid[1] - grid[0]), first + (grid[1] - grid[0])
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(REFINEMENTS):
        down = at_left < at_right  # the minimum lies left of `right`
        low, high = np.where(down, low, left), np.where(down, right, high)
        fresh = np.where(down, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        at_fresh = loss(fresh)
        left, right = np.where(down, fresh, right), np.where(down, left, fresh)
        at_left, at_right = np.where(down, at_fresh, at_right), np.where(down, at_left, at_fresh)
    return (low + high) / 2


def _checked(path: ArrayLike, radius: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Path (n, t, 2) and radius (n, t) as float64; one clip becomes a batch of one."""
    if np.ndim(path) == 2:
        path, radius = np.asarray(path)[None], np.asarray(radius)[None]
    found = check_array("path", path, None, None, 2)
    apparent = check_array("radius", radius, *found.shape[:2])
    if found.shape[1] < 6:
        raise ValueError(f"{found.shape[1]} frames came; at least 6 are needed to tell the families apart.")
    if not (apparent > 0).all():
        raise ValueError("radius has numbers that are not positive: leave such clips out.")
    return found, apparent


def fit_family(
    family: str, path: ArrayLike, radius: ArrayLike, noise: float = 0.02, spec: VideoSpec = VideoSpec()
) -> Fit:
    """Fit one family to path (n, t, 2) and radius (n, t), both in pixels of a picture of `spec.size`.

    `noise`: standard deviation of the measured positions in pixels; a smaller residual counts no more. Frames are
    evenly spaced in time. ValueError for an unknown family, fewer than 6 frames, values that are not finite, or such a
    noise.
    """
    path, radius = _checked(path, radius)
    check_number("noise", noise, 0)
    times = np.linspace(0, 1, path.shape[1])
    centred = path - spec.centre
    turns = _search_turns(family, centred, radius, times) if family in ("circular", "helical") else None
    functions = basis(family, times, turns)
    functions = np.broadcast_to(functions, (*radius.shape, functions.shape[-1]))
    mean_square, solution = _least_squares(centred, radius, functions)
    q = functions @ solution  # (n, t, 3)
    fitted = q[..., :2] / q[..., 2:] + spec.centre
    count, parameters = 3 * path.shape[1], 3 * functions.shape[-1] + (turns is not None)
    score = count * np.log(mean_square + noise**2) + parameters * np.log(count)
    residual = np.sqrt(((fitted - path) ** 2).sum(-1).mean(1))
    return Fit(family, fitted, 1 / q[..., 2], residual, score, turns, solution)


def fit_families(path: ArrayLike, radius: ArrayLike, noise: float = 0.02, **options: Any) -> dict[str, Fit]:
    """Every family fitted to the clips; arguments as in `fit_family`."""
    return {family: fit_family(family, path, radius, noise, **options) for family in FAMILIES}


def best_family(path: ArrayLike, radius: ArrayLike, noise: float = 0.02, **options: Any) -> np.ndarray:
    """(n,) index into FAMILIES of the family with the lowest score; arguments as in `fit_family`."""
    return np.argmin([fit.score for fit in fit_families(path, radius, noise, **options).values()], 0)
