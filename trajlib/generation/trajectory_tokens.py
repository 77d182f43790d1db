"""Trajectories as tokens in the frequency domain, coarse to fine.

A trajectory (frames, 3) is x, y and radius of the dot in pixels, as `measure_dot` gives them. Its cosine transform in
time has few large coefficients, those of low frequency: a smooth path is a sum of a few slow waves. Each coefficient
that is kept is rounded to one of `levels`. So a trajectory is a short sequence of tokens, and each token narrows down
the whole path, where a token per frame would tell one position.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trajlib.data.checks import check_array, check_tokens
from trajlib.data.spec import check_number, check_numbers


class TrajectoryTokens(nn.Module):
    """Trajectories (b, frames, axes) in pixels <-> tokens (b, n) in 0 .. levels - 1, low frequencies first.

    `counts`: how many frequencies of each axis, such as x, y and radius, are kept. Levels are evenly spaced over
    `reach` standard deviations on either side of the mean, which `fit` measures. Attributes: `n`, `axes`, and
    `frequency` and `axis` (n,). ValueError for numbers out of range.
    """

    frequency: Tensor

    def __init__(self, frames: int, counts: Sequence[int] = (9, 9, 4), levels: int = 256, reach: float = 4.0):
        super().__init__()
        check_numbers("frames and levels", (frames, levels), 1, whole=True)
        check_number("reach", reach, 0, above=True)
        self.levels, self.reach, self.axes = levels, reach, len(check_numbers("counts", counts, 1, whole=True))
        pairs = sorted((k, axis) for axis, count in enumerate(counts) for k in range(min(count, frames)))
        self.n = len(pairs)
        time, k = torch.arange(frames) + 0.5, torch.arange(frames)[:, None]
        transform = torch.cos(math.pi * k * time / frames) * math.sqrt(2 / frames)  # orthonormal DCT-II
        transform[0] /= math.sqrt(2)
        self.transform = nn.Buffer(transform, persistent=False)
        self.frequency, self.axis = (nn.Buffer(x, persistent=False) for x in torch.tensor(pairs).T.contiguous())
        self.mean, self.spread = nn.Buffer(torch.zeros(self.n)), nn.Buffer(torch.ones(self.n))

    @torch.no_grad()
    def fit(self, trajectories: Tensor) -> "TrajectoryTokens":
        """Measure mean and standard deviation of each coefficient on trajectories (m, frames, axes), m from 2."""
        found = self.coefficients(trajectories)
        check_number("the number of trajectories", len(found), 2, whole=True)
        self.mean.copy_(found.mean(0))
        self.spread.copy_(found.std(0))
        return self

    @torch.autocast("cpu", enabled=False)  # bfloat16 has eight bits, and so has a token
    def coefficients(self, trajectories: Tensor) -> Tensor:
        """The cosine coefficients that are kept, (b, n). ValueError for another shape, NaN or infinity."""
        check_array("trajectories", trajectories, None, len(self.transform), self.axes, tensor=True)
        return (self.transform @ trajectories)[:, self.frequency, self.axis]

    def deviations(self, trajectories: Tensor) -> Tensor:
        """The coefficients in standard deviations from their mean, (b, n)."""
        return (self.coefficients(trajectories) - self.mean) / self.spread

    def values(self, tokens: Tensor) -> Tensor:
        """The middle of each token's level in standard deviations, of any shape."""
        return ((tokens + 0.5) / self.levels * 2 - 1) * self.reach

    def encode(self, trajectories: Tensor) -> Tensor:
        """Trajectories (b, frames, axes) -> tokens (b, n) int64. ValueError for another shape, NaN or infinity."""
        share = (self.deviations(trajectories) / self.reach + 1) / 2
        return (share * self.levels).floor().clamp(0, self.levels - 1).long()

    @torch.autocast("cpu", enabled=False)
    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (b, n) -> trajectories (b, frames, axes): the middle of each token's level."""
        check_tokens(tokens, (self.n,), self.levels)
        kept = self.mean + self.values(tokens) * self.spread
        spectrum = kept.new_zeros(len(tokens), len(self.transform), self.axes)
        spectrum[:, self.frequency, self.axis] = kept
        return self.transform.T @ spectrum


def inside_picture(trajectories: Tensor, size: int) -> Tensor:
    """Which trajectories (b, frames, 3) keep the whole dot in the picture, (b,) bool."""
    position, radius = trajectories.split([2, 1], -1)
    return ((position - radius >= -0.5) & (position + radius <= size - 0.5)).flatten(1).all(1)


def augment_trajectories(trajectories: Tensor, size: int) -> Tensor:
    """Trajectories (b, frames, 3), each flipped, transposed or reversed in time at random: 16 augmentations."""
    reverse, mirror, flip, transpose = torch.rand(4, len(trajectories), 1, 1) < 0.5
    x, y, radius = torch.where(reverse, trajectories.flip(1), trajectories).split(1, -1)
    x, y = torch.where(mirror, size - 1 - x, x), torch.where(flip, size - 1 - y, y)
    return torch.cat([torch.where(transpose, y, x), torch.where(transpose, x, y), radius], -1)
