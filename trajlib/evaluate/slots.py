"""The slots of a video, measured in its pixels by the tracker and the fitted equations; no model takes part."""

import numpy as np
from torch import Tensor

from trajlib.data.checks import check_pixels
from trajlib.data.measure import measure_dot
from trajlib.data.slots import hue_of, measure_slots
from trajlib.evaluate import physics

CORE = 12  # pixels of the dot's middle, which it covers whole
NOISE = 0.2  # pixels, of tracked positions


def dot_colour(videos: Tensor) -> Tensor:
    """Mean RGB of the dot's darkest pixels, (b, 3), of videos (b, 3, t, h, w) in [0, 1]; a median over the frames."""
    check_pixels(videos)
    pixels = (1 - videos).transpose(1, 2).flatten(3)  # (b, t, 3, h w)
    darkest = pixels.mean(2, keepdim=True).topk(CORE, -1).indices.expand(-1, -1, 3, -1)
    return 1 - pixels.gather(-1, darkest).mean(-1).median(1).values


def read_slots(videos: Tensor, noise: float = NOISE) -> np.ndarray:
    """Measures of the slots of videos (b, 3, t, s, s) in [0, 1], (b, 9); see `data.slots`. NaN without a dot.

    All but the colour are those of the motion that fits the tracked dot best: a fit averages the tracker's errors out.
    """
    dots, colour, size = measure_dot(videos).double().numpy(), dot_colour(videos).double(), videos.shape[-1]
    dots[..., 2] /= (1 - colour).mean(1).clamp_min(1e-3).sqrt().numpy()[:, None]  # a pale dot measures too small
    measures = np.full((len(videos), 9), np.nan)
    usable = np.isfinite(dots).all((1, 2)) & (np.ptp(dots[..., :2], axis=1) > 1e-6).all(1)
    if usable.any():
        path, radius = dots[usable, :, :2], dots[usable, :, 2]
        fits = list(physics.fit_families(path, radius, noise).values())
        family = np.argmin([fit.score for fit in fits], 0)
        turns = np.choose(family, [np.zeros(len(family)) if fit.turns is None else fit.turns for fit in fits])
        path, radius = (np.stack([getattr(f, k) for f in fits])[family, range(len(family))] for k in ("path", "radius"))
        radius = radius.clip(1e-3)  # a fit of a poor track may end behind the camera
        measures[usable] = measure_slots(path, radius, hue_of(colour[usable], 0), family, turns, size)
    return measures
