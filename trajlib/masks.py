"""Which tokens are hidden, and what stands in their place (MaskGIT, arXiv 2202.04200; COMMIT, arXiv 2212.05199)."""

import math

import numpy as np
import torch
from scipy.stats import qmc


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


def commit_input(tokens, condition, given, hidden, mask_token):
    """What the transformer sees of a clip in training, any shape (COMMIT, sec. 3.2, eq. 1).

    Not hidden: the true token. Hidden: the condition's token where the task gives pixels, else `mask_token`. A true
    token beside the border of what is given has seen pixels beyond it: to show it would tell the answer.
    """
    return torch.where(hidden, torch.where(given, condition, mask_token), tokens)


def halton_order(grid, seed=0):
    """All places of a grid in an order that is spread out at every length: (n,) indices into the flattened grid.

    The Halton sequence in bases 2, 3 and 5 (Besnier et al., arXiv 2503.17076), from a place that `seed` picks.
    """
    sequence = qmc.Halton(len(grid), scramble=False)
    found = {}  # a dict keeps the order in which places came first
    while len(found) < math.prod(grid):
        cells = (sequence.random(math.prod(grid)) * np.array(grid)).astype(int)
        found |= dict.fromkeys(np.ravel_multi_index(tuple(cells.T), grid).tolist())
    order = torch.tensor(list(found))
    return order.roll(int(torch.randint(len(order), (), generator=torch.Generator().manual_seed(seed))))
