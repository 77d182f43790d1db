"""What a tokenizer is trained on: a weighted squared error, the quantizer's loss, and the position of the dot.

Losses take videos and reconstructions; they never call a model.
"""

import torch
from torch.nn import functional as F

from trajlib.data.measure import FOREGROUND_THRESHOLD, track_centroid


def reconstruction_loss(
    recon: torch.Tensor, videos: torch.Tensor, quantizer_loss: torch.Tensor | float = 0.0, *,
    foreground_weight: float = 10.0, chroma_weight: float = 1.0, position_weight: float = 0.0,
    quantizer_weight: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:  # fmt: skip
    """Squared error of `recon` (b, 3, t, h, w) against `videos` in [0, 1], larger near the dot, plus the other losses.

    `foreground_weight`: 98 % of a clip is white, and white is easy. `chroma_weight` weighs what is left of the error
    when its mean over red, green and blue is taken away; 1 is the plain error. `position_weight` weighs
    `localization_error`, `quantizer_weight` the quantizer's loss.

    Returns the loss and {"mse": the plain mean squared error}, with a position weight also {"px"}.
    """
    error = recon.float() - videos
    grey = error.mean(1, keepdim=True)
    squared = grey**2 + chroma_weight * (error - grey) ** 2  # summed over the colours, with weight 1 this is error^2
    dark = (1 - videos).amax(1, keepdim=True)  # (b, 1, t, h, w)
    near = F.max_pool3d((dark > FOREGROUND_THRESHOLD).float(), (1, 5, 5), stride=1, padding=(0, 2, 2))
    loss = 10 * (squared * (1 + (foreground_weight - 1) * near)).mean() + quantizer_weight * quantizer_loss
    parts = {"mse": (error**2).mean().detach()}
    if not position_weight:
        return loss, parts
    distance = localization_error(recon.float().clamp(0, 1), videos)
    return loss + position_weight * distance, parts | {"px": distance.detach()}


def localization_error(recon: torch.Tensor, videos: torch.Tensor) -> torch.Tensor:
    """Mean distance in pixels between the dots of `recon` and `videos` (b, 3, t, h, w), a scalar with gradient.

    By `track_centroid`. A frame without foreground, in one or the other, counts 0: it has no position to move.
    """
    dark = [(1 - x).mean(1).amax((-1, -2)) > FOREGROUND_THRESHOLD for x in (recon, videos)]
    both = dark[0] & dark[1]  # (b, t)
    pair = [x.transpose(1, 2)[both].unsqueeze(2) for x in (recon, videos)]  # (k, 3, 1, h, w) each
    squared = (track_centroid(pair[0])[0] - track_centroid(pair[1])[0]).square().sum(-1)
    return (squared + 1e-4).sqrt().sum() / both.numel()  # 1e-4: a distance has no slope at 0
