"""I3D, small: an Inception network is trained on single frames, then inflated into one for videos.

Carreira & Zisserman, arXiv 1705.07750. The network of single frames is an `I3D` whose videos have one frame: each of
its kernels becomes one for videos, repeated along time and divided by its length.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trajlib.data.checks import check_videos
from trajlib.data.measure import track_centroid
from trajlib.data.spec import VideoSpec, as_spec

WIDTHS = (16, 48, 64, 96, 128)  # channels of the stem and of the four modules


class Conv(nn.Module):
    """A convolution and ReLU on videos; a stride of 2 halves height, width and time. `still`: videos of one frame.

    In time a video is padded with its first and its last frame, so that a still video gives the same in all frames.
    `whole`: the kernel is as large as the feature map, (t, h, w).
    """

    def __init__(self, still: bool, inner: int, outer: int, size=1, stride=1, whole: Sequence[int] | None = None):
        super().__init__()
        edge = 0 if whole else size // 2
        self.time_padding = 0 if still else edge  # frames repeated at either end
        self.conv = nn.Conv3d(inner, outer, whole or (1 if still else size, size, size), stride, (0, edge, edge))
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)
        self.conv.to(memory_format=torch.channels_last_3d)  # faster on a CPU

    def forward(self, x):
        if self.time_padding:
            x = F.pad(x, (0, 0, 0, 0, self.time_padding, self.time_padding), mode="replicate")
        return F.relu(self.conv(x))


class Mixed(nn.Module):
    """An Inception module: four branches in parallel, with the widths of GoogLeNet's first (arXiv 1409.4842).

    GroupNorm where I3D has BatchNorm: `training.fit` averages weights, not batch statistics, and the statistics of a
    still video are those of its frame.
    """

    def __init__(self, still: bool, inner: int, outer: int):
        super().__init__()
        half, eighth = outer // 2, outer // 8
        branches = (
            [Conv(still, inner, outer // 4)],
            [Conv(still, inner, 3 * eighth), Conv(still, 3 * eighth, half, 3)],
            [Conv(still, inner, outer // 16), Conv(still, outer // 16, eighth, 5)],
            [nn.MaxPool3d(3, 1, 1), Conv(still, inner, eighth)],
        )
        self.branches = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.norm = nn.GroupNorm(8, outer)

    def forward(self, x):
        return self.norm(torch.cat([branch(x) for branch in self.branches], 1))


class I3D(nn.Module):
    """Videos (b, 3, frames, size, size) in [0, 1] -> logits (b, num_classes); about 0.4 M parameters.

    An Inception for photographs averages its last map over all positions. Here the dot's position is what there is to
    know: one convolution as large as the last map, 8 x 8 positions in few channels, reads them all. Inflated like the
    others, it averages over time at first, and may learn the order.
    """

    def __init__(
        self, num_classes: int = 4, spec: VideoSpec | Mapping[str, Any] = VideoSpec(),
        widths: Sequence[int] = WIDTHS, slim: int = 12, dim: int = 64,
    ):  # fmt: skip
        super().__init__()
        self.spec = as_spec(spec)
        self.config = {"num_classes": num_classes, "spec": asdict(self.spec)}
        self.config |= {"widths": widths, "slim": slim, "dim": dim}
        still, side = self.spec.frames == 1, -(-self.spec.size // 8)
        one, two, three, four = (Mixed(still, *pair) for pair in pairwise(widths))
        self.backbone = nn.Sequential(
            Conv(still, 3, widths[0], 5, stride=2),  # a video of 16 x 64 x 64 is now 8 x 32 x 32
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),  # 8 x 16 x 16: I3D's first pooling keeps all time steps
            one,
            two,
            nn.MaxPool3d(3, 2, 1),  # 4 x 8 x 8
            three,
            four,
            Conv(still, widths[-1], slim),
            Conv(still, slim, dim, whole=(-(-self.spec.frames // 4), side, side)),
            nn.Flatten(),
        )
        self.head = nn.Linear(dim, num_classes)

    def features(self, videos: Tensor) -> Tensor:
        """(b, dim): what the head receives, and Fréchet distances compare. ValueError for what is no such video."""
        check_videos(videos, self.spec)
        return self.backbone(1 - videos)  # the background is 0, like the padding around it

    def forward(self, videos: Tensor) -> Tensor:
        return self.head(self.features(videos))

    @torch.no_grad()
    def inflated(self, frames: int) -> "I3D":
        """This network of single frames for videos, head included: it gives a still video the outputs of its frame."""
        inflated = I3D(**self.config | {"spec": self.config["spec"] | {"frames": frames}})
        for weight, flat in zip(inflated.parameters(), self.parameters(), strict=True):
            weight.copy_(flat / weight.shape[2] if weight.ndim == 5 else flat)  # a kernel, or not
        return inflated

    def with_head(self, num_classes: int) -> "I3D":
        """A copy with a new, untrained head for so many classes."""
        other = copy.deepcopy(self)
        other.config = self.config | {"num_classes": num_classes}
        other.head = nn.Linear(self.head.in_features, num_classes)
        return other


def frame_scale(size: int = 64) -> tuple[Tensor, Tensor]:
    """Centre and unit (6,) of what a frame shows: the network's own numbers are (measured - centre) / unit, about 1.

    x, y, radius in pixels; how far red, green and blue of the dot are below white, in [0, 1].
    """
    middle = (size - 1) / 2
    return torch.tensor([middle, middle, 3.0, 0.7, 0.7, 0.7]), torch.tensor([size / 4, size / 4, 0.5, 0.25, 0.25, 0.25])


def measure_frame(frames: Tensor) -> Tensor:
    """What the network of frames learns, measured in the pixels of frames (b, 3, 1, h, w): (b, 6), see `frame_scale`.

    Whole discs on white are expected. The darkest pixel lies inside the dot and has its colour; the foreground
    intensity is the area times that darkness, which gives the radius.
    """
    position, intensity = track_centroid(frames)
    colour = (1 - frames).amax((-1, -2, -3))  # (b, 3)
    radius = (intensity / colour.mean(1, keepdim=True) / torch.pi).sqrt()  # (b, 1)
    return torch.cat([position[:, 0], radius, colour], 1)


def frame_loss(model, frames: Tensor, dots: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Huber's loss to dots (b, 6) in units of `frame_scale`; and {"px": mean distance of the centres}."""
    centre, unit = (numbers.to(dots.device) for numbers in frame_scale(frames.shape[-1]))
    found, true = model(frames).float(), (dots - centre) / unit
    return F.huber_loss(found, true), {"px": (unit * (found - true))[:, :2].norm(dim=1).mean()}
