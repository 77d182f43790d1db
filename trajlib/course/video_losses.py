"""The losses of a tokenizer of any videos: what each part is for, and when it is on.

The squared error always counts. More weight for the foreground makes sense only where there is a background;
features of a network and a discriminator (MAGVIT, arXiv 2212.05199, appendix B.1) sharpen what the squared error blurs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from trajlib.course.adversarial import Adversary, PerceptualLoss, perceptual_from_vgg
from trajlib.data.measure import FOREGROUND_THRESHOLD
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit

BACKGROUND_SHARE = 0.5  # of the pixels that are white, for a background to be there
PERCEPTUAL = ("frames", "vgg16")
ROTATION_STEPS = 300


@dataclass(frozen=True)
class Losses:
    """Which losses count. ValueError for an unknown network.

    `foreground`: weigh pixels that are not white 10 times; None: where at least half of the pixels are white.
    `perceptual`: None, "frames" (a network that is trained on the videos' own frames, without a download), or "vgg16"
    (trained on photographs; torchvision downloads it). `adversary`: a discriminator with the weights that MAGVIT
    publishes (0.1, and 10 for its gradient penalty); its state is not part of a checkpoint.
    """

    foreground: bool | None = None
    perceptual: str | None = None
    perceptual_weight: float = 0.1
    adversary: bool = False

    def __post_init__(self) -> None:
        if self.perceptual not in (None, *PERCEPTUAL):
            raise ValueError(f"perceptual is {self.perceptual!r}; it must be None, {' or '.join(PERCEPTUAL)}.")


def has_background(videos: torch.Tensor) -> bool:
    """Whether at least half of the pixels of videos (b, 3, t, h, w) in [0, 1] are white, as a background is here."""
    return ((1 - videos).amax(1) <= FOREGROUND_THRESHOLD).float().mean().item() >= BACKGROUND_SHARE


def training_loss(
    losses: Losses, model: Tokenizer, videos_fn: Callable[[int], torch.Tensor], log: Callable[[str], None] = print,
    seed: int = 0,
) -> Callable:  # fmt: skip
    """loss_fn(model, [videos]) for `fit`; `videos_fn(k)` gives batch k of training videos in [0, 1]."""
    foreground = has_background(videos_fn(0)) if losses.foreground is None else losses.foreground
    weights = {"foreground_weight": 10.0, "chroma_weight": 10.0} if foreground else {"foreground_weight": 1.0}
    features: nn.Module | None = None
    if losses.perceptual:
        vgg = losses.perceptual == "vgg16"
        features = perceptual_from_vgg() if vgg else perceptual_from_frames(videos_fn, seed=seed)
    adversary = Adversary(spec=model.spec) if losses.adversary else None
    parts = ["squared error", *["foreground 10 times"] * foreground]
    parts += [f"features of {losses.perceptual}"] * bool(features) + ["discriminator"] * bool(adversary)
    log(f"losses: {', '.join(parts)}")

    def loss_fn(model: Any, batch: list[torch.Tensor]) -> Any:
        (videos,) = batch
        recon, _, quantizer_loss = model(videos)
        loss, found = reconstruction_loss(recon, videos, quantizer_loss, **weights)
        if features is not None:
            distance = features.to(videos.device)(videos, recon.float())
            loss, found = loss + losses.perceptual_weight * distance, found | {"features": distance.detach()}
        if adversary is not None:
            found |= {"discriminator": adversary.learn(videos, recon)}
            loss = loss + adversary.generator_loss(recon, loss, model.net.conv_out.conv.weight)
        return loss, found

    return loss_fn


def perceptual_from_frames(
    videos_fn: Callable[[int], torch.Tensor], steps: int = ROTATION_STEPS, width: int = 24, seed: int = 0
) -> PerceptualLoss:
    """`PerceptualLoss` of a small network that is trained here, without labels, on frames of the videos.

    It learns by which of four quarter turns a frame was rotated (RotNet, Gidaris et al., arXiv 1803.07728), for which
    it must know shapes.
    """
    torch.manual_seed(seed)
    sizes = (3, width, 2 * width, 4 * width)
    stages = [
        nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.ReLU())
        for a, b in pairwise(sizes)
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * sizes[-1], 4))

    def batch_fn(step: int) -> list[torch.Tensor]:
        frames = videos_fn(step)[:, :, step % 4 :: 4].transpose(1, 2).flatten(0, 1)
        turns = torch.arange(len(frames)) % 4
        return [torch.stack([f.rot90(int(k), (1, 2)) for f, k in zip(frames, turns, strict=True)]), turns]

    def loss_fn(model: nn.Module, batch: list[torch.Tensor]) -> Any:
        logits = model(batch[0]).float()
        return F.cross_entropy(logits, batch[1]), {"accuracy": (logits.argmax(1) == batch[1]).float().mean()}

    network, _ = fit(nn.Sequential(*stages, head), loss_fn, batch_fn, steps=steps, lr=2e-3, seed=seed, log_lines=1)
    return PerceptualLoss(list(network)[:-1], one_frame)


def one_frame(videos: torch.Tensor) -> torch.Tensor:
    """The same random frame of all clips (b, 3, t, h, w): (b, 3, h, w)."""
    return videos[:, :, int(torch.randint(videos.shape[2], ()))]


__all__ = ["Losses", "has_background", "perceptual_from_frames", "training_loss"]
