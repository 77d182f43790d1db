"""I3D, small: an Inception network that learns from single frames, then inflated into one that reads clips.

Carreira & Zisserman, arXiv 1705.07750. `FrameInception` reads frames and `I3D` clips. They are one network in two or
three dimensions: each kernel of a frame becomes one of a film, repeated along time and divided by its length.
"""

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from trajlib.metrics import follow_dot
from trajlib.render import SIZE
from trajlib.tokenizer import check_videos

WIDTHS = (16, 48, 64, 96, 128)  # channels of the stem and of the four modules
# what a frame tells: x, y, radius in pixels, and how far red, green and blue of the dot are below paper, in [0, 1];
# the network counts from CENTRE in steps of UNIT, so that its own numbers are about 1
CENTRE = ((SIZE - 1) / 2, (SIZE - 1) / 2, 3.0, 0.7, 0.7, 0.7)
UNIT = (SIZE / 4, SIZE / 4, 0.5, 0.25, 0.25, 0.25)


class Conv(nn.Module):
    """A convolution and ReLU on frames or on films; a stride of 2 halves height and width, and time.

    A film goes on past its ends as its first and its last frame: where nothing moves, all frames give the same.
    `whole`: the kernel is as large as the map, (t, h, w), and covers it at once.
    """

    def __init__(self, film, inner, outer, size=1, stride=1, whole=None):
        super().__init__()
        edge = 0 if whole else size // 2
        self.beyond = edge if film else 0  # frames repeated at either end
        kernel, padding = whole or (size, size, size), (0, edge, edge)
        if film:
            self.conv = nn.Conv3d(inner, outer, kernel, stride, padding)
        else:
            self.conv = nn.Conv2d(inner, outer, kernel[1:], stride, padding[1:])
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)
        self.conv.to(memory_format=torch.channels_last_3d if film else torch.channels_last)  # faster on a CPU

    def forward(self, x):
        if self.beyond:
            x = F.pad(x, (0, 0, 0, 0, self.beyond, self.beyond), mode="replicate")
        return F.relu(self.conv(x))


def pool(film, stride, time_too=True):
    """The maximum of 3 x 3 places, and of 3 frames of a film unless `time_too` is False."""
    if not film:
        return nn.MaxPool2d(3, stride, 1)
    return nn.MaxPool3d(3, stride, 1) if time_too else nn.MaxPool3d((1, 3, 3), (1, stride, stride), (0, 1, 1))


class Mixed(nn.Module):
    """Inception's module: four ways to look, side by side, in the shares of GoogLeNet's first (arXiv 1409.4842).

    GroupNorm where I3D has BatchNorm: `training.fit` averages weights, not a batch's statistics, and where nothing
    moves the statistics of a film are those of its frame.
    """

    def __init__(self, film, inner, outer):
        super().__init__()
        half, eighth = outer // 2, outer // 8
        ways = (
            [Conv(film, inner, outer // 4)],
            [Conv(film, inner, 3 * eighth), Conv(film, 3 * eighth, half, 3)],
            [Conv(film, inner, outer // 16), Conv(film, outer // 16, eighth, 5)],
            [pool(film, 1), Conv(film, inner, eighth)],
        )
        self.ways = nn.ModuleList(nn.Sequential(*way) for way in ways)
        self.norm = nn.GroupNorm(8, outer)

    def forward(self, x):
        return self.norm(torch.cat([way(x) for way in self.ways], 1))


class Inception(nn.Module):
    """What `FrameInception` and `I3D` share; `film` says which of the two it is.

    The Inception of photographs averages its last map over all places, since a cat is a cat anywhere. Here *where* the
    dot is is what there is to know, and what the 3D CNN beside it flattens and reads. So the last map keeps its 8 x 8
    places, in few channels, and one layer reads them all. That layer is a convolution as large as the map, and is
    inflated like the others: at first it averages over time, as I3D does, and then it may learn what comes when.
    """

    film: bool
    check: Callable  # of what comes: a ValueError says what is wrong with it

    def __init__(self, answers, widths=WIDTHS, slim=12, dim=64):
        super().__init__()
        self.config = {"answers": answers, "widths": widths, "slim": slim, "dim": dim}
        film = self.film
        one, two, three, four = (Mixed(film, *pair) for pair in pairwise(widths))
        self.trunk = nn.Sequential(
            Conv(film, 3, widths[0], 5, stride=2),  # a film of 16 x 64 x 64 is now 8 x 32 x 32
            pool(film, 2, time_too=False),  # 8 x 16 x 16: I3D's first pooling leaves time alone
            one,
            two,
            pool(film, 2),  # 4 x 8 x 8
            three,
            four,
            Conv(film, widths[-1], slim),
            Conv(film, slim, dim, whole=(4, 8, 8)),
            nn.Flatten(),
        )
        self.head = nn.Linear(dim, answers)

    def features(self, x):
        """What the head reads: frames or clips in [0, 1] -> (b, dim)."""
        self.check(x)
        return self.trunk(1 - x)  # paper is 0, like the padding about it

    def forward(self, x):
        return self.head(self.features(x))

    def with_head(self, answers):
        """A copy with a new head, not yet trained, that gives so many answers."""
        other = copy.deepcopy(self)
        other.config = self.config | {"answers": answers}
        other.head = nn.Linear(self.head.in_features, answers)
        return other


class FrameInception(Inception):
    """Frames (b, 3, 64, 64) in [0, 1] -> answers (b, 6): see CENTRE and UNIT, and `seen_in_frame`."""

    film = False

    def __init__(self, answers=6, **sizes):
        super().__init__(answers, **sizes)

    def check(self, x):
        if isinstance(x, torch.Tensor) and x.ndim != 4:
            raise ValueError(f"frames came with shape {tuple(x.shape)}; expected (b, 3, {SIZE}, {SIZE}).")
        check_videos(x[:, :, None] if isinstance(x, torch.Tensor) else x, frames=1)


class I3D(Inception):
    """Clips (b, 3, 16, 64, 64) in [0, 1] -> logits (b, 4); about 0.4 M parameters.

    `features` (b, 64), what the head reads, serve Frechet distances between sets of clips.
    """

    film = True

    def __init__(self, answers=4, **sizes):
        super().__init__(answers, **sizes)

    def check(self, x):
        check_videos(x)

    @classmethod
    @torch.no_grad()
    def inflated(cls, net):
        """A `FrameInception` as it reads films, head and all: a film of one frame over and over gets that frame's
        answers.
        """
        film, flat = cls(**net.config), net.state_dict()
        for name, weight in film.state_dict().items():
            deep = weight.ndim > flat[name].ndim  # a kernel
            weight.copy_(flat[name].unsqueeze(2) / weight.shape[2] if deep else flat[name])
        return film


def seen_in_frame(frames):
    """What `FrameInception` is to say of frames (b, 3, h, w), read off their pixels: (b, 6), units as in CENTRE.

    Whole discs on paper are expected. The darkest pixel lies inside the dot and has its colour; the ink of a dot is its
    area times how dark that is, and so gives the radius.
    """
    place, ink = follow_dot(frames[:, :, None])
    colour = (1 - frames).amax((-1, -2))  # (b, 3)
    radius = (ink / colour.mean(1, keepdim=True) / torch.pi).sqrt()  # (b, 1)
    return torch.cat([place[:, 0], radius, colour], 1)


def frame_loss(model, frames, dots):
    """Huber's loss in the network's own units against `dots` (b, 6); and {"px": mean distance of the centres}."""
    centre, unit = (torch.tensor(numbers, device=dots.device) for numbers in (CENTRE, UNIT))
    found, true = model(frames).float(), (dots - centre) / unit
    return F.huber_loss(found, true), {"px": (unit * (found - true))[:, :2].norm(dim=1).mean()}
