"""Four families of 3D curves in closed form.

A clip lasts one unit of time, t in [0, 1]; lengths are world units. Each family is one line of physics:

    linear     p(t) = origin + velocity t
    circular   p(t) = origin + cos(a) spoke + sin(a) (axis x spoke),        a = 2 pi turns t
    helical    p(t) = the circle, carried along its axis: + axis pitch turns t
    parabolic  p(t) = origin + velocity t + 1/2 gravity t^2
"""

from dataclasses import dataclass, replace

import numpy as np

from trajlib import FAMILIES

ZERO = (0.0, 0.0, 0.0)
UNTURNED = np.eye(3)


@dataclass(frozen=True)
class Motion:
    """One moving point. A field that its family has no use for is zero.

    `origin` is where a line or a parabola starts, and the centre of a circle or of a helix's first turn.
    """

    family: str
    origin: np.ndarray = ZERO  # (3,)
    velocity: np.ndarray = ZERO  # (3,) units per clip, at t = 0
    gravity: np.ndarray = ZERO  # (3,) units per clip^2; any direction, the world has no "down"
    axis: np.ndarray = ZERO  # (3,) unit vector; seen from its tip the dot runs counter-clockwise
    spoke: np.ndarray = ZERO  # (3,) from the centre to the dot at t = 0; its length is the radius
    turns: float = 0.0  # revolutions per clip, positive
    pitch: float = 0.0  # advance along the axis per turn; > 0 is a right-handed helix, < 0 a left-handed one

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}; it must be one of {', '.join(FAMILIES)}.")

    @property
    def radius(self):
        """Radius of the circle or helix, in units; 0 for the others."""
        return float(np.linalg.norm(self.spoke))

    def at(self, t):
        """Positions (..., 3) at times `t` (...), any shape; 0 is the first frame and 1 the last."""
        t = np.asarray(t, float)[..., None]
        p = self.origin + self.velocity * t + 0.5 * np.asarray(self.gravity) * t**2
        if self.turns:
            a = 2 * np.pi * self.turns * t
            p = p + np.cos(a) * self.spoke + np.sin(a) * np.cross(self.axis, self.spoke)
            p = p + np.asarray(self.axis) * self.pitch * self.turns * t
        return p

    def moved(self, rotation=UNTURNED, scale=1.0, offset=ZERO):
        """The same motion after p -> scale * rotation @ p + offset. `rotation` is a proper (3, 3) rotation."""

        def turn(v):
            return rotation @ np.asarray(v, float)

        return replace(
            self,
            origin=scale * turn(self.origin) + offset,
            velocity=scale * turn(self.velocity),
            gravity=scale * turn(self.gravity),
            axis=turn(self.axis),
            spoke=scale * turn(self.spoke),
            pitch=scale * self.pitch,
        )


TURNS = (0.65, 1.1)  # revolutions per clip, the same for circles and helices
ADVANCE = (0.35, 0.9)  # of a helix: units along the axis per radian, over the radius
SHARPNESS = (5.0, 9.0)  # of a parabola: gravity over the speed across it
APEX = (0.35, 0.65)  # when a parabola turns round, as a share of the clip


def shape(family, *, turns=0.9, hand=1.0, advance=0.6, sharpness=7.0, apex=0.5):
    """A motion of unit size about the origin, in a frame of its own; `moved` puts it into the world.

    The frame's z is the normal of the plane for circles and parabolas, and the axis for helices; a line runs along x.
    A family takes what it has a use for: circles `turns`; helices also `hand` (1 right, -1 left) and `advance`;
    parabolas `sharpness` and `apex`. The constants above say what each means and how far it goes.
    """
    if family == "linear":
        return Motion(family, velocity=np.array([1.0, 0, 0]), origin=np.array([-0.5, 0, 0]))
    if family == "parabolic":
        # x runs evenly; y = 1/2 sharpness (t - apex)^2 turns round at the apex
        start = np.array([-apex, 0.5 * sharpness * apex**2, 0])
        velocity, gravity = np.array([1.0, -sharpness * apex, 0]), np.array([0, sharpness, 0])
        return Motion(family, origin=start, velocity=velocity, gravity=gravity)
    pitch = hand * 2 * np.pi * advance if family == "helical" else 0.0
    axis, spoke = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])
    return Motion(family, origin=-0.5 * axis * pitch * turns, axis=axis, spoke=spoke, turns=turns, pitch=pitch)


def draw(family, rng):
    """A random `shape` of the family."""
    if family == "linear":
        return shape(family)
    if family == "parabolic":
        return shape(family, sharpness=rng.uniform(*SHARPNESS), apex=rng.uniform(*APEX))
    turns, hand = rng.uniform(*TURNS), rng.choice([-1.0, 1.0])
    if family == "circular":
        return shape(family, turns=turns)  # turned over, a circle runs the other way: its orientation is its hand
    return shape(family, turns=turns, hand=hand, advance=rng.uniform(*ADVANCE))
