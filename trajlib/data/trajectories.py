"""Four families of 3D curves in closed form.

A clip lasts one unit of time, t in [0, 1]; lengths are world units. Each family is one line of physics:

    linear     p(t) = origin + velocity t
    circular   p(t) = origin + cos(a) r + sin(a) (axis x r),        a = 2 pi turns t, r the radius vector
    helical    p(t) = the circle, carried along its axis: + axis pitch turns t
    parabolic  p(t) = origin + velocity t + 1/2 gravity t^2
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from trajlib.data.spec import LARGEST, check_name, check_numbers

FAMILIES = ("linear", "circular", "helical", "parabolic")
ZERO = (0.0, 0.0, 0.0)
IDENTITY = np.eye(3)
TURNS = (0.65, 1.1)  # revolutions per clip, the same for circles and helices
ADVANCE = (0.35, 0.9)  # of a helix: units along the axis per radian, over the radius
SHARPNESS = (5.0, 9.0)  # of a parabola: gravity over the speed across it
APEX = (0.35, 0.65)  # time of a parabola's turning point, as a share of the clip


@dataclass(frozen=True)
class Motion:
    """One moving point. A field that its family does not use is zero.

    `origin` is the start of a line or a parabola, and the centre of a circle or of a helix's first turn.
    """

    family: str
    origin: ArrayLike = ZERO  # (3,)
    velocity: ArrayLike = ZERO  # (3,) units per clip, at t = 0
    gravity: ArrayLike = ZERO  # (3,) units per clip^2; any direction, the world has no "down"
    axis: ArrayLike = ZERO  # (3,) unit vector; seen from its tip the dot runs counter-clockwise
    radius_vector: ArrayLike = ZERO  # (3,) from the centre to the dot at t = 0
    turns: float = 0.0  # revolutions per clip, positive
    pitch: float = 0.0  # advance along the axis per turn; > 0 is a right-handed helix, < 0 a left-handed one

    def __post_init__(self) -> None:
        check_name("family", self.family, FAMILIES)

    @property
    def radius(self) -> float:
        """Radius of the circle or helix, in units; 0 for the others."""
        return float(np.linalg.norm(self.radius_vector))

    def at(self, t: ArrayLike) -> np.ndarray:
        """Positions (..., 3) at times `t` (...), any shape; 0 is the first frame and 1 the last."""
        t = np.asarray(t, float)[..., None]
        p = np.asarray(self.origin) + np.asarray(self.velocity) * t + 0.5 * np.asarray(self.gravity) * t**2
        if self.turns:
            a, axis, vector = 2 * np.pi * self.turns * t, np.asarray(self.axis), np.asarray(self.radius_vector)
            p = p + np.cos(a) * vector + np.sin(a) * np.cross(axis, vector)
            p = p + axis * self.pitch * self.turns * t
        return p

    def moved(self, rotation: np.ndarray = IDENTITY, scale: float = 1.0, offset: ArrayLike = ZERO) -> "Motion":
        """The same motion after p -> scale * rotation @ p + offset. `rotation` is a proper (3, 3) rotation."""
        lengths = ("origin", "velocity", "gravity", "radius_vector")
        changed = {name: scale * (rotation @ np.asarray(getattr(self, name), float)) for name in lengths}
        changed["origin"] = changed["origin"] + np.asarray(offset)
        return replace(self, **changed, axis=rotation @ np.asarray(self.axis, float), pitch=scale * self.pitch)


def unit_motion(
    family: str, *, turns: float = 0.9, handedness: float = 1.0, advance: float = 0.6, sharpness: float = 7.0,
    apex: float = 0.5,
) -> Motion:  # fmt: skip
    """A motion of unit size about the origin, in a frame of its own; `Motion.moved` puts it into the world.

    The frame's z is the normal of the plane for circles and parabolas, and the axis for helices; a line runs along x.
    Each family uses some of the arguments: circles `turns`; helices also `handedness` (1 right, -1 left) and
    `advance`; parabolas `sharpness` and `apex`. The constants above give their meaning and range. ValueError for an
    unknown family, and for what is no finite number.
    """
    check_numbers("each number of a motion", (turns, handedness, advance, sharpness, apex), -LARGEST)
    if family == "linear":
        return Motion(family, velocity=np.array([1.0, 0, 0]), origin=np.array([-0.5, 0, 0]))
    if family == "parabolic":
        # x runs evenly; y = 1/2 sharpness (t - apex)^2 turns round at the apex
        start = np.array([-apex, 0.5 * sharpness * apex**2, 0])
        velocity, gravity = np.array([1.0, -sharpness * apex, 0]), np.array([0, sharpness, 0])
        return Motion(family, origin=start, velocity=velocity, gravity=gravity)
    pitch = handedness * 2 * np.pi * advance if family == "helical" else 0.0
    axis, radius_vector = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])
    origin = -0.5 * axis * pitch * turns
    return Motion(family, origin=origin, axis=axis, radius_vector=radius_vector, turns=turns, pitch=pitch)


def draw_motion(family: str, rng: np.random.Generator) -> Motion:
    """A random `unit_motion` of the family."""
    if family == "linear":
        return unit_motion(family)
    if family == "parabolic":
        return unit_motion(family, sharpness=rng.uniform(*SHARPNESS), apex=rng.uniform(*APEX))
    turns, handedness = rng.uniform(*TURNS), rng.choice([-1.0, 1.0])
    if family == "circular":
        return unit_motion(family, turns=turns)  # a circle turned over runs the other way: handedness is orientation
    return unit_motion(family, turns=turns, handedness=handedness, advance=rng.uniform(*ADVANCE))
