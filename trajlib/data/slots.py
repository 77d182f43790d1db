"""What can be said about a clip: nine slots, each with a measure that the camera sees, and a name for its extremes.

A slot is named only where its measure is clear: between the two thresholds lies a dead zone without a name. Lengths
in pixels hold for pictures of 64 pixels; other sizes scale them.

    family     the shape of the path: FAMILIES
    heading    net displacement to the right, px                         left <= -4, right >= 4
    vertical   net displacement downwards, px                            rising <= -4, falling >= 4
    rotation   sum of the turns from step to step, degrees               counterclockwise <= -100, clockwise >= 100
    turns      revolutions of a circle or helix                          most <= 0.78, full >= 0.95
    depth      log of the apparent radius, last over first quarter       receding <= -0.1, approaching >= 0.1
    speed      length of the path in the picture, px a clip              slow <= 23, fast >= 31
    size       mean apparent radius, px                                  small <= 2.6, large >= 3.15
    colour     hue, within 15 degrees of red 0, yellow 60, green 120, cyan 180, blue 240, magenta 300, where the
               largest of red, green and blue exceeds the least by 0.25 or more
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from trajlib.data.checks import check_array
from trajlib.data.clips import Track
from trajlib.data.spec import check_number
from trajlib.data.trajectories import FAMILIES

TURNING = tuple(FAMILIES.index(family) for family in ("circular", "helical"))  # the families that make turns
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")
HUE_STEP, HUE_REACH = 60, 15  # degrees between two colours; from a colour to where its name ends
CHROMA = 0.25  # largest of red, green and blue less the least: a colour with less is too dark for a name
LIMITS = {  # slot: (value of a small measure, of a large one, threshold of the first, of the second)
    "heading": ("left", "right", -4.0, 4.0),
    "vertical": ("rising", "falling", -4.0, 4.0),
    "rotation": ("counterclockwise", "clockwise", -100.0, 100.0),
    "turns": ("most", "full", 0.78, 0.95),
    "depth": ("receding", "approaching", -0.1, 0.1),
    "speed": ("slow", "fast", 23.0, 31.0),
    "size": ("small", "large", 2.6, 3.15),
}
VALUES = {"family": FAMILIES} | {slot: limits[:2] for slot, limits in LIMITS.items()} | {"colour": COLOURS}
SLOTS = tuple(VALUES)


def measure_slots(
    path: ArrayLike, radius: ArrayLike, hue: ArrayLike, family: ArrayLike, turns: ArrayLike, size: int = 64
) -> np.ndarray:
    """The measures (n, 9), in the order of SLOTS: family (n,) index and hue (n,) degrees as they came, the rest above.

    path (n, t, 2) and radius (n, t) in pixels; turns (n,) of circles and helices, NaN is stored for other families.
    """
    unit = size / 64
    path, radius, family = np.asarray(path, float) / unit, np.asarray(radius, float) / unit, np.asarray(family)
    steps = np.diff(path, axis=1)
    angle = np.arctan2(steps[..., 1], steps[..., 0])
    turning = np.degrees((np.diff(angle, axis=1) + np.pi) % (2 * np.pi) - np.pi).sum(1)  # y runs down: > 0 clockwise
    quarter = max(1, radius.shape[1] // 4)
    net = path[:, -1] - path[:, 0]
    depth = np.log(radius[:, -quarter:].mean(1) / radius[:, :quarter].mean(1))
    turns = np.where(np.isin(family, TURNING), np.asarray(turns, float), np.nan)
    length = np.hypot(*steps.transpose(2, 0, 1)).sum(1)
    columns = (family, net[:, 0], net[:, 1], turning, turns, depth, length, radius.mean(1), hue)
    return np.stack([np.asarray(column, float) for column in columns], 1)


def name_slots(measures: np.ndarray, clear: bool = True) -> np.ndarray:
    """Measures (n, 9) -> index into VALUES[slot] for each slot, (n, 9) int64; -1 where the slot has no name.

    Not `clear`: the dead zones have names, too, those of the nearer side. A measure that is NaN never has a name.
    """
    named = np.full(measures.shape, -1)
    for k, slot in enumerate(SLOTS):
        measure, known = measures[:, k], np.isfinite(measures[:, k])
        if slot == "family":
            named[known, k] = measure[known]
        elif slot == "colour":
            off = (measure + HUE_STEP / 2) % HUE_STEP - HUE_STEP / 2
            known &= (np.abs(off) <= HUE_REACH) | (not clear)
            named[known, k] = np.rint(measure[known] / HUE_STEP) % len(COLOURS)
        else:
            *_, low, high = LIMITS[slot]
            low, high = (low, high) if clear else ((low + high) / 2,) * 2
            named[known & (measure <= low), k], named[known & (measure >= high), k] = 0, 1
    return named


def hue_of(colours: ArrayLike, chroma: float = CHROMA) -> np.ndarray:
    """RGB (n, 3) -> hue in degrees, (n,); NaN for a colour of less than `chroma`. ValueError for other shapes."""
    rgb = check_array("colours", colours, None, 3, finite=False).clip(0, 1)
    check_number("chroma", chroma, 0, 1)
    hue = [360 * colorsys.rgb_to_hsv(*colour)[0] for colour in rgb]
    return np.where(np.ptp(rgb, axis=1) < chroma, np.nan, hue)


def true_measures(tracks: Sequence[Track], size: int = 64) -> np.ndarray:
    """`measure_slots` of true tracks: (n, 9)."""
    path, radius = (np.stack([getattr(track, name) for track in tracks]) for name in ("path", "radius"))
    hue, turns = hue_of([track.params.colour for track in tracks]), [track.params.motion.turns for track in tracks]
    return measure_slots(path, radius, hue, [track.label for track in tracks], turns, size)


def as_slots(named: Sequence[int]) -> dict[str, str]:
    """One row of `name_slots` as {slot: value}, without the slots that have no name."""
    return {slot: VALUES[slot][k] for slot, k in zip(SLOTS, named, strict=True) if k >= 0}
