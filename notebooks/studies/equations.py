"""The equation of a motion as the camera sees it, and the parameters that it gives.

An equation is the table of coefficients (k, 3) of `physics.basis` for the point q = (u, v, 1) / r: lengths in radii of
the dot, depth over the focal length, so that neither need be known. The parameters are those that a video determines:
angles in the picture, lengths in pixels at the dot's mean depth. It does not determine the camera's rotation against
the world, nor world units.
"""

from collections.abc import Sequence

import numpy as np

from trajlib.data.clips import Track
from trajlib.evaluate.physics import Fit

PARAMETERS = {  # how each is compared: an "angle" in degrees, a "sign", or a "number"
    "path length": "number",  # pixels along the path in the picture, of every family
    "depth change": "number",  # log of the last depth over the first, of every family
    "heading": "angle",  # of a line, in the picture: 0 is to the right, 90 down
    "turns": "number",  # revolutions per clip, of circles and helices
    "radius": "number",  # pixels, of circles and helices
    "sense": "sign",  # of a circle in the picture: 1 runs clockwise
    "handedness": "sign",  # of a helix: 1 is right-handed
    "gravity, direction": "angle",  # of a parabola, in the picture: 90 pulls down
    "gravity, size": "number",  # pixels per clip^2, in the picture
}


def true_equation(track: Track) -> np.ndarray:
    """The coefficients (k, 3) that `physics.fit_family` finds on the clip's true path and radius."""
    camera, motion = track.params.camera, track.params.motion
    seen = motion.moved(camera.rotation, offset=camera.translation)  # x right, y down, z into the picture
    if motion.family == "linear":
        rows = [seen.origin, seen.velocity]
    elif motion.family == "parabolic":
        rows = [seen.origin, seen.velocity, 0.5 * np.asarray(seen.gravity)]
    else:
        rows = [seen.origin, seen.radius_vector, np.cross(np.asarray(seen.axis), np.asarray(seen.radius_vector))]
        rows += [np.asarray(seen.axis) * seen.pitch * seen.turns] if motion.family == "helical" else []
    return np.stack(rows) * [1, 1, 1 / camera.focal] / track.params.dot_radius


def parameters_of(
    family: str, equation: np.ndarray, path: np.ndarray, radius: np.ndarray, turns: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """{name in PARAMETERS: its values (n,)} of n clips of one family, for those that the family has.

    `equation` (n, k, 3), and the path (n, t, 2) and radius (n, t) in pixels that it gives; `turns` (n,).
    """
    step = np.diff(path, axis=1)
    ends = np.maximum(radius[:, [0, -1]], 1e-3)  # a fit of a poor track may end behind the camera
    found = {"path length": np.linalg.norm(step, axis=-1).sum(1), "depth change": np.log(ends[:, 0] / ends[:, 1])}
    scale = radius.mean(1)  # pixels for one radius of the dot
    if family == "linear":
        return found | {"heading": _degrees(path[:, -1] - path[:, 0])}
    if family == "parabolic":
        gravity = 2 * equation[:, 2, :2]
        return found | {
            "gravity, direction": _degrees(gravity),
            "gravity, size": np.linalg.norm(gravity, axis=-1) * scale,
        }
    # seen from afar a circle is an ellipse whose longer half axis is the radius, however it is tilted
    half_axes = np.linalg.svd(equation[:, 1:3, :2], compute_uv=False)  # (n, 2), the longer first
    found |= {"turns": np.asarray(turns), "radius": half_axes[:, 0] * scale}
    if family == "circular":
        return found | {"sense": np.sign(np.linalg.det(equation[:, 1:3, :2]))}
    return found | {"handedness": np.sign(np.linalg.det(equation[:, 1:4]))}  # a positive focal length changes no sign


def fitted_parameters(fit: Fit) -> dict[str, np.ndarray]:
    """`parameters_of` a fit."""
    return parameters_of(fit.family, fit.equation, fit.path, fit.radius, fit.turns)


def true_parameters(tracks: Sequence[Track]) -> dict[str, np.ndarray]:
    """`parameters_of` clips of one family, from the truth about them."""
    (family,) = {track.family for track in tracks}
    path, radius = (np.stack([getattr(track, name) for track in tracks]) for name in ("path", "radius"))
    turns = np.array([track.params.motion.turns for track in tracks])
    return parameters_of(family, np.stack([true_equation(track) for track in tracks]), path, radius, turns)


def _degrees(vectors: np.ndarray) -> np.ndarray:
    """Angles (n,) of vectors (n, 2) x, y."""
    return np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))


def score(name: str, guess: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What each clip adds to the score of a parameter, (n,): 1 is perfect, and guessing scores 0 in the mean.

    Numbers: the mean is R2, 1 - squared error / variance. Angles: 1 - error / 90 degrees. Signs: 1 right, -1 wrong.
    A number outside the range of `known` clips (m,) is clipped to it; NaN counts as their mean.
    """
    if PARAMETERS[name] == "angle":
        return 1 - angle_error(guess, truth) / 90
    if PARAMETERS[name] == "sign":
        return np.nan_to_num(guess) * truth
    guess = np.clip(np.where(np.isnan(guess), known.mean(), guess), known.min(), known.max())
    return 1 - (guess - truth) ** 2 / max(truth.var(), 1e-12)


def angle_error(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Degrees (n,) from 0 to 180 between angles; NaN counts as 90."""
    return np.nan_to_num(np.abs((guess - truth + 180) % 360 - 180), nan=90.0)
