"""Which tokens are hidden: the schedule of masked training and decoding (MaskGIT, arXiv 2202.04200)."""

import math

import torch


def mask_ratio(r):
    """The cosine schedule gamma(r): share of tokens hidden at progress r in [0, 1]; gamma(0) = 1, gamma(1) = 0."""
    if not 0 <= r <= 1:
        raise ValueError(f"r is {r}; progress runs from 0 to 1.")
    return math.cos(0.5 * math.pi * r)


def random_masks(batch, n, generator=None):
    """Training masks (batch, n), True = hidden: each clip draws r, hides a share gamma(r), at least one."""
    r = torch.rand(batch, generator=generator)
    count = torch.ceil(torch.cos(0.5 * math.pi * r) * n).clamp(1, n)
    rank = torch.rand(batch, n, generator=generator).argsort(1).argsort(1)
    return rank < count[:, None]
