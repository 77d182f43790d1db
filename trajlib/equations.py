"""The equation of a motion as the camera sees it, and the parameters that are read off it.

An equation is the table of coefficients (k, 3) of `physics.basis` for the point q = (u, v, 1) / r: lengths in radii of
the dot, the depth over the focal length, so that neither need be known. Of its parameters only those are kept that a
film can tell: angles are in the picture, lengths in pixels at the dot's mean depth. How the camera is turned against
the world no film says, nor does it say world units.
"""

import numpy as np

PARAMETERS = {  # what it is measured as: an "angle" in degrees, a "sign", or a "number"
    "path length": "number",  # pixels along the path in the picture, of every family
    "depth change": "number",  # log of the last depth over the first, of every family
    "heading": "angle",  # of a line, in the picture: 0 is to the right, 90 down
    "turns": "number",  # revolutions per clip, of circles and helices
    "radius": "number",  # pixels, of circles and helices
    "sense": "sign",  # of a circle in the picture: 1 runs clockwise
    "hand": "sign",  # of a helix: 1 is right-handed
    "gravity, direction": "angle",  # of a parabola, in the picture: 90 pulls down
    "gravity, size": "number",  # pixels per clip^2, in the picture
}


def true_equation(track):
    """The coefficients (k, 3) that `physics.fit_family` finds on the clip's true path and radius."""
    camera, motion = track.params.camera, track.params.motion
    seen = motion.moved(camera.rotation, offset=camera.translation)  # x right, y down, z into the picture
    rows = {
        "linear": [seen.origin, seen.velocity],
        "circular": [seen.origin, seen.spoke, np.cross(seen.axis, seen.spoke)],
        "parabolic": [seen.origin, seen.velocity, 0.5 * seen.gravity],
    }
    rows["helical"] = [*rows["circular"], seen.axis * seen.pitch * seen.turns]
    return np.stack(rows[motion.family]) * [1, 1, 1 / camera.focal] / track.params.dot_radius


def read(family, equation, path, radius, turns=None):
    """{name of `PARAMETERS`: its values (n,)} of n clips of one family, those that the family has.

    `equation` (n, k, 3); `path` (n, t, 2) and `radius` (n, t) in pixels are what it gives; `turns` (n,).
    """
    step = np.diff(path, axis=1)
    found = {"path length": np.linalg.norm(step, axis=-1).sum(1), "depth change": np.log(radius[:, 0] / radius[:, -1])}
    scale = radius.mean(1)  # pixels that a radius of the dot takes up
    if family == "linear":
        found["heading"] = _degrees(path[:, -1] - path[:, 0])
    elif family == "parabolic":
        pull = 2 * equation[:, 2, :2]
        found |= {"gravity, direction": _degrees(pull), "gravity, size": np.linalg.norm(pull, axis=-1) * scale}
    else:
        # seen from afar a circle is an ellipse whose longer half axis is the radius, however it is tilted
        half_axes = np.linalg.svd(equation[:, 1:3, :2], compute_uv=False)  # (n, 2), the longer first
        found |= {"turns": turns, "radius": half_axes[:, 0] * scale}
        if family == "circular":
            found["sense"] = np.sign(np.linalg.det(equation[:, 1:3, :2]))
        else:
            found["hand"] = np.sign(np.linalg.det(equation[:, 1:4]))  # the focal length, being positive, has no say
    return found


def read_fit(fit):
    """`read`, of a `physics.Fit`."""
    return read(fit.family, fit.equation, fit.path, fit.radius, fit.turns)


def read_tracks(tracks):
    """`read`, of the truth about clips of one family."""
    (family,) = {track.family for track in tracks}
    path, radius = (np.stack([getattr(track, name) for track in tracks]) for name in ("path", "radius"))
    turns = np.array([track.params.motion.turns for track in tracks])
    return read(family, np.stack([true_equation(track) for track in tracks]), path, radius, turns)


def _degrees(vectors):
    """Angles (n,) of vectors (n, 2) x, y."""
    return np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))


def score(name, guess, truth, known):
    """What each clip adds to a parameter's score, (n,): 1 is perfect, and guessing scores 0 in the mean.

    Numbers: the mean is R2, 1 - squared error / variance. Angles: 1 - error / 90 degrees. Signs: 1 right, -1 wrong.
    A number beyond those of `known` clips (m,) is moved to their edge, and where there is none their mean stands.
    """
    if PARAMETERS[name] == "angle":
        return 1 - angle_error(guess, truth) / 90
    if PARAMETERS[name] == "sign":
        return np.nan_to_num(guess) * truth
    guess = np.clip(np.where(np.isnan(guess), known.mean(), guess), known.min(), known.max())
    return 1 - (guess - truth) ** 2 / max(truth.var(), 1e-12)


def angle_error(guess, truth):
    """Degrees (n,) from 0 to 180 between angles; what is no angle is 90 off."""
    return np.nan_to_num(np.abs((guess - truth + 180) % 360 - 180), nan=90.0)
