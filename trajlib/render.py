"""Dots become pictures: an exactly anti-aliased disc on white, drawn in its own small box.

Clean clips use `draw_discs` alone. `Damage` adds what the world does to real videos; every strength is off by default.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SIZE, FRAMES = 64, 16
SPOTS = 8  # places for distractors


@dataclass(frozen=True)
class Damage:
    """Strengths of what spoils a clip. All zero: the clean clip."""

    trail: float = 0.0  # share of the dot left over in the next frame, 0..1
    texture: float = 0.0  # amplitude of a smooth background pattern, 0..1
    distractors: int = 0  # further dots that stand still
    occluder: float = 0.0  # width of a grey vertical bar, pixels
    noise: float = 0.0  # standard deviation of sensor noise, 0..1
    blur: float = 0.0  # standard deviation of a Gaussian, pixels
    brightness: float = 0.0  # added to every value, -1..1
    shake: float = 0.0  # standard deviation of the camera's jitter, pixels
    contrast: float = 0.0  # share of the way that every value goes to middle grey, 0..1
    drops: float = 0.0  # chance of each frame but the first to be lost, 0..1: the one before it is shown again

    def __post_init__(self):
        for name, value in vars(self).items():
            if name != "brightness" and value < 0:
                raise ValueError(f"{name} is {value}; a strength is 0 (off) or more.")
        for name in ("contrast", "drops"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share is at most 1.")
        if self.distractors > SPOTS:
            raise ValueError(f"distractors is {self.distractors}; there can be at most {SPOTS}.")


def area_below(x, y, radius):
    """Area of the disc of `radius` about 0 that lies in X <= x, Y <= y. Arrays that broadcast; square pixels.

    The disc's half height at s is h(s) = sqrt(r^2 - s^2), and F its integral from -r. Over s <= x the strip reaches
    from -h(s) up to min(y, h(s)), and y cuts it where |s| < w = sqrt(r^2 - y^2).
    """

    def integral(s):
        return 0.5 * (s * np.sqrt(radius**2 - s**2) + radius**2 * np.arcsin(s / radius)) + 0.25 * np.pi * radius**2

    x, y = np.clip(x, -radius, radius), np.clip(y, -radius, radius)
    w = np.sqrt(radius**2 - y**2)
    # F rises, so F(min(x, w)) = min(F(x), F(w)): it is taken of the edges alone, never of each pixel
    at_x, at_left, at_right = integral(x), integral(-w), integral(w)
    cut = np.clip(at_x, at_left, at_right) - at_left + y * (np.clip(x, -w, w) + w)  # where y cuts the strip
    whole = 2 * (np.minimum(at_x, at_left) + np.maximum(at_x, at_right) - at_right)  # where it does not
    return cut + np.where(y > 0, whole, 0)


def coverage(centre, radius):
    """The exact share of each pixel that each disc covers, in the discs' own boxes.

    centre (n, 2) and radius (n,) in pixels -> alpha (n, b, b) in [0, 1], rows (n, b), columns (n, b).
    """
    half = int(np.ceil(radius.max() + 0.5))
    middle = np.rint(centre).astype(int)
    edges = np.arange(-half, half + 2) - 0.5  # pixel k spans k - 1/2 .. k + 1/2
    x, y = ((middle[:, i, None] + edges) - centre[:, i, None] for i in (0, 1))
    corner = area_below(x[:, None, :], y[:, :, None], radius[:, None, None])  # (n, b + 1, b + 1)
    alpha = np.diff(np.diff(corner, axis=1), axis=2)
    span = np.arange(-half, half + 1)
    return np.clip(alpha, 0, 1), middle[:, 1:] + span, middle[:, :1] + span


def draw_discs(canvas, centre, radius, colour):
    """Paint one disc into each frame of `canvas` (3, n, h, w), values 0..255, uint8 or float, in place.

    Only the disc's box is touched; what falls outside the picture is cut off.
    """
    alpha, rows, columns = coverage(centre, radius)
    height, width = canvas.shape[2:]
    alpha = alpha * ((rows >= 0) & (rows < height))[:, :, None] * ((columns >= 0) & (columns < width))[:, None, :]
    frame, row, column = np.nonzero(alpha)
    a, where = alpha[frame, row, column], (slice(None), frame, rows[frame, row], columns[frame, column])
    painted = (1 - a) * canvas[where] + a * 255 * np.asarray(colour)[:, None]
    canvas[where] = np.rint(painted) if canvas.dtype == np.uint8 else painted


def render(centre, radius, colour, damage=None, rng=None):
    """A clip (3, n, 64, 64) uint8 from centre (n, 2) and radius (n,) in pixels, colour (3,) in [0, 1]."""
    centre, radius = np.asarray(centre, float), np.asarray(radius, float)
    if centre.ndim != 2 or centre.shape != (len(radius), 2):
        raise ValueError(f"centre {centre.shape} and radius {radius.shape} came; expected (n, 2) and (n,).")
    if not (np.isfinite(centre).all() and np.isfinite(radius).all() and (radius > 0).all()):
        raise ValueError("a dot needs a finite place and a radius above 0; what came has NaN, infinity or less.")
    if damage is None or damage == Damage():
        canvas = np.full((3, len(centre), SIZE, SIZE), 255, np.uint8)
        draw_discs(canvas, centre, radius, colour)
        return canvas
    if rng is None:
        raise ValueError("a damaged clip draws random numbers: pass rng, a numpy Generator.")
    return _render_damaged(centre, radius, colour, damage, rng)


def _render_damaged(centre, radius, colour, damage, rng):
    n = len(centre)
    canvas = np.full((3, n, SIZE, SIZE), 255, np.float32)
    # every random number is drawn whatever the strengths are: more noise is the same noise, stronger
    jitter = rng.normal(size=(n, 2))
    coarse = rng.uniform(size=(3, 9, 9))
    spots, bar, grain = rng.uniform(6, SIZE - 7, (SPOTS, 2)), rng.uniform(16, 48), rng.normal(size=canvas.shape)
    luck = rng.uniform(size=n)
    centre, colour = centre + damage.shake * jitter, np.asarray(colour)

    if damage.texture:
        # colour by colour: splines over four axes at once take 25 times as long
        pattern = np.stack([ndimage.zoom(layer, SIZE / 9, order=3) for layer in coarse])[:, None]
        canvas -= 255 * damage.texture * np.clip(pattern, 0, 1).astype(np.float32)
    for spot in spots[: damage.distractors]:
        draw_discs(canvas, np.tile(spot, (n, 1)), np.full(n, radius.mean()), colour)
    for back in range(5 if damage.trail else 0, 0, -1):  # older ghosts first, fainter
        ghost = np.maximum(np.arange(n) - back, 0)
        faded = damage.trail**back
        draw_discs(canvas, centre[ghost], radius[ghost], faded * colour + (1 - faded))
    draw_discs(canvas, centre, radius, colour)
    if damage.occluder:
        canvas[..., np.abs(np.arange(SIZE) - bar) <= damage.occluder / 2] = 127.5
    if damage.blur:
        canvas = ndimage.gaussian_filter(canvas, (0, 0, damage.blur, damage.blur))
    if damage.contrast:
        canvas += damage.contrast * (127.5 - canvas)
    spoilt = canvas + 255 * (damage.noise * grain + damage.brightness)
    # a lost frame, and the noise on it, is seen twice, as players do it: a blank one would announce itself
    shown = np.maximum.accumulate(np.where(luck < damage.drops, 0, np.arange(n)))
    return np.rint(np.clip(spoilt, 0, 255)).astype(np.uint8)[:, shown]
