"""Dots become pictures: an exactly anti-aliased disc on white, drawn in its own small box.

Clean clips use `draw_discs` alone. `Corruption` adds what happens to real videos; every strength is off by default.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from trajlib.data.checks import check_array
from trajlib.data.spec import LARGEST, VideoSpec, check_number

MAX_DISTRACTORS = 8
SHARES = ("trail", "texture", "brightness", "contrast", "frame_drops")  # at most 1


@dataclass(frozen=True)
class Corruption:
    """Strengths of what corrupts a clip. All zero: the clean clip. ValueError for a strength out of its range."""

    trail: float = 0.0  # share of the dot that remains in the next frame, 0..1
    texture: float = 0.0  # amplitude of a smooth background pattern, 0..1
    distractors: int = 0  # further dots that stand still
    occlusion: float = 0.0  # width of a grey vertical bar, pixels
    noise: float = 0.0  # standard deviation of sensor noise, 0..1
    blur: float = 0.0  # standard deviation of a Gaussian, pixels
    brightness: float = 0.0  # added to every value, -1..1
    jitter: float = 0.0  # standard deviation of the camera's jitter, pixels
    contrast: float = 0.0  # share of contrast that is lost: each value moves that far towards middle grey, 0..1
    frame_drops: float = 0.0  # chance of each frame but the first to be lost, 0..1: the one before it is shown again

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = 1 if name in SHARES else MAX_DISTRACTORS if name == "distractors" else LARGEST
            check_number(name, value, -1 if name == "brightness" else 0, most, name == "distractors")


def area_below(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Area of the disc of `radius` about 0 that lies in X <= x, Y <= y. Arrays that broadcast; square pixels.

    The disc's half height at s is h(s) = sqrt(r^2 - s^2), and F its integral from -r. Over s <= x the strip reaches
    from -h(s) up to min(y, h(s)), and y cuts it where |s| < w = sqrt(r^2 - y^2).
    """

    def integral(s: np.ndarray) -> np.ndarray:
        return 0.5 * (s * np.sqrt(radius**2 - s**2) + radius**2 * np.arcsin(s / radius)) + 0.25 * np.pi * radius**2

    x, y = np.clip(x, -radius, radius), np.clip(y, -radius, radius)
    w = np.sqrt(radius**2 - y**2)
    # F rises, so F(min(x, w)) = min(F(x), F(w)): it is evaluated at the edges alone, never at each pixel
    at_x, at_left, at_right = integral(x), integral(-w), integral(w)
    cut = np.clip(at_x, at_left, at_right) - at_left + y * (np.clip(x, -w, w) + w)  # where y cuts the strip
    uncut = 2 * (np.minimum(at_x, at_left) + np.maximum(at_x, at_right) - at_right)  # where it does not
    return cut + np.where(y > 0, uncut, 0)


def coverage(centre: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def draw_discs(canvas: np.ndarray, centre: np.ndarray, radius: np.ndarray, colour: ArrayLike) -> None:
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


def render(
    centre: ArrayLike, radius: ArrayLike, colour: ArrayLike, spec: VideoSpec = VideoSpec(),
    corruption: Corruption | None = None, rng: np.random.Generator | None = None,
) -> np.ndarray:  # fmt: skip
    """A clip (3, n, size, size) uint8 from centre (n, 2) and radius (n,) in pixels, colour (3,) in [0, 1].

    A corrupted clip draws random numbers from `rng`, a numpy Generator. ValueError for shapes that do not fit, for a
    radius that is not positive, and for a corruption without rng.
    """
    rgb, middle = check_array("colour", colour, 3), check_array("centre", centre, None, 2)
    radii = check_array("radius", radius, len(middle))
    if not ((rgb >= 0) & (rgb <= 1)).all():
        raise ValueError(f"colour {rgb.tolist()} came; expected red, green, blue in [0, 1].")
    if not ((np.abs(middle) < 1e4).all() and ((radii > 0) & (radii < 1e4)).all() and len(radii)):  # NaN is neither
        raise ValueError("each dot needs a position and a radius above 0, below 10,000 px; what came has NaN or more.")
    if corruption is None or corruption == Corruption():
        canvas = np.full((3, len(middle), spec.size, spec.size), 255, np.uint8)
        draw_discs(canvas, middle, radii, rgb)
        return canvas
    if rng is None:
        raise ValueError("a corrupted clip draws random numbers: pass rng, a numpy Generator.")
    return _render_corrupted(middle, radii, rgb, spec.size, corruption, rng)


def _render_corrupted(
    centre: np.ndarray, radius: np.ndarray, colour: ArrayLike, size: int, corruption: Corruption,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    n = len(centre)
    canvas = np.full((3, n, size, size), 255, np.float32)
    # every random number is drawn whatever the strengths are: more noise is the same noise, stronger
    jitter = rng.normal(size=(n, 2))
    coarse = rng.uniform(size=(3, 9, 9))
    spots, bar = rng.uniform(6, size - 7, (MAX_DISTRACTORS, 2)), rng.uniform(size / 4, 3 * size / 4)
    grain, chance = rng.normal(size=canvas.shape), rng.uniform(size=n)
    centre, colour = centre + corruption.jitter * jitter, np.asarray(colour)

    if corruption.texture:
        # colour by colour: splines over four axes at once take 25 times as long
        pattern = np.stack([ndimage.zoom(layer, size / 9, order=3) for layer in coarse])[:, None]
        canvas -= 255 * corruption.texture * np.clip(pattern, 0, 1).astype(np.float32)
    for spot in spots[: corruption.distractors]:
        draw_discs(canvas, np.tile(spot, (n, 1)), np.full(n, radius.mean()), colour)
    for back in range(5 if corruption.trail else 0, 0, -1):  # older copies first, fainter
        earlier = np.maximum(np.arange(n) - back, 0)
        faded = corruption.trail**back
        draw_discs(canvas, centre[earlier], radius[earlier], faded * colour + (1 - faded))
    draw_discs(canvas, centre, radius, colour)
    if corruption.occlusion:
        canvas[..., np.abs(np.arange(size) - bar) <= corruption.occlusion / 2] = 127.5
    if corruption.blur:
        canvas = ndimage.gaussian_filter(canvas, (0, 0, corruption.blur, corruption.blur))
    if corruption.contrast:
        canvas += corruption.contrast * (127.5 - canvas)
    values = canvas + 255 * (corruption.noise * grain + corruption.brightness)
    # players repeat the last frame, noise and all, when one is lost: a blank frame would announce the loss
    shown = np.maximum.accumulate(np.where(chance < corruption.frame_drops, 0, np.arange(n)))
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)[:, shown]
