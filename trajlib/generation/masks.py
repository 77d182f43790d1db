"""Which tokens are masked, what stands in their place, and in which order they are unmasked.

MaskGIT (arXiv 2202.04200), COMMIT (MAGVIT, arXiv 2212.05199), Halton scheduler (arXiv 2503.17076).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from trajlib.data.checks import generator
from trajlib.data.spec import check_number, check_numbers


def mask_ratio(r: float) -> float:
    """MaskGIT's cosine schedule: the share of tokens masked at progress r in [0, 1], from 1 down to 0."""
    check_number("r", r, 0, 1)
    return math.cos(0.5 * math.pi * r)


def random_masks(batch: int, n: int, generator: torch.Generator | None = None) -> Tensor:
    """Training masks (batch, n), True = masked: each clip draws r and masks a share `mask_ratio(r)`, at least one."""
    r = torch.rand(batch, generator=generator)
    count = torch.ceil(torch.cos(0.5 * math.pi * r) * n).clamp(1, n)
    rank = torch.rand(batch, n, generator=generator).argsort(1).argsort(1)
    return rank < count[:, None]


def commit_input(tokens: Tensor, condition: Tensor, observed: Tensor, masked: Tensor, mask_token: int) -> Tensor:
    """What the transformer receives for a clip in training, in any shape (MAGVIT, sec. 3.2, eq. 1).

    Not masked: the true token. Masked: the condition's token where it is observed, `mask_token` elsewhere. A true
    token at the border of the observed region has seen pixels beyond it, so the condition's token replaces it.
    """
    return torch.where(masked, torch.where(observed, condition, mask_token), tokens)


def halton_order(grid: Sequence[int], seed: int = 0) -> Tensor:
    """All positions of a grid, (n,) indices into the flattened grid, spread out evenly at every length.

    The Halton sequence in the first prime bases, one an axis (Besnier et al., arXiv 2503.17076); `seed` picks where it
    starts. ValueError for a grid or a seed that is none.
    """
    grid = check_numbers("grid", grid, 1, whole=True)
    check_number("the size of the grid", math.prod(grid), 1, 10**7, whole=True)
    sequence = qmc.Halton(len(grid), scramble=False)
    found: dict[int, None] = {}  # a dict keeps the order in which positions first came
    while len(found) < math.prod(grid):
        cells = (sequence.random(math.prod(grid)) * np.array(grid)).astype(int)
        found |= dict.fromkeys(np.ravel_multi_index(tuple(cells.T), grid).tolist())
    order = torch.tensor(list(found))
    return order.roll(int(torch.randint(len(order), (), generator=generator(seed))))
