"""Where the dot is, measured in pixels alone. Videos are float tensors (b, 3, t, h, w) in [0, 1], white is 1."""

import torch

from trajlib.data.checks import check_pixels
from trajlib.data.spec import check_number

FOREGROUND_THRESHOLD = 0.02  # a pixel darker than white by more than this belongs to the foreground


def track_centroid(videos: torch.Tensor, threshold: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroid of the foreground in each frame: positions (b, t, 2) x, y in pixels, and foreground intensity (b, t).

    The intensity is the sum of 1 - value over the frame. Pixels below `threshold` of the frame's darkest do not count.
    A frame without foreground has position NaN. ValueError for what is no video.
    """
    check_pixels(videos)
    check_number("threshold", threshold, 0, 1)
    dark = (1 - videos).mean(1)  # (b, t, h, w)
    dark = dark * (dark > threshold * dark.amax((-1, -2), keepdim=True)) * (dark > FOREGROUND_THRESHOLD)
    total = dark.sum((-1, -2))
    x, y = torch.arange(dark.shape[-1]).to(dark), torch.arange(dark.shape[-2]).to(dark)
    centre = torch.stack([(dark.sum(-2) * x).sum(-1), (dark.sum(-1) * y).sum(-1)], -1) / total[..., None]
    return centre, total


def measure_dot(videos: torch.Tensor) -> torch.Tensor:
    """x, y and radius in pixels of the dot in each frame, (b, t, 3); NaN without foreground.

    The radius is that of a black disc with the same foreground intensity: a pale dot's is too small, by one factor in
    all its frames.
    """
    position, intensity = track_centroid(videos)
    return torch.cat([position, (intensity / torch.pi).sqrt()[..., None]], -1)
