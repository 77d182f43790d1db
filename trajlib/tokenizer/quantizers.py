"""Quantizers: latents -> one of a finite number of codes, and back. A tokenizer takes any of them.

A quantizer is an `nn.Module` that follows the protocol below. QUANTIZERS names those that a configuration may ask for;
to add one from outside, add an entry:

    QUANTIZERS["mine"] = MyQuantizer
    Tokenizer(quantizer={"kind": "mine", "size": 512})
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import vector_quantize_pytorch as library
from torch import Tensor, nn

from trajlib.data.checks import as_tensor, check_tokens
from trajlib.data.spec import check_numbers, describe

Quantized = tuple[Tensor, Tensor, Tensor]  # quantized latents, codes, loss


class Quantizer(Protocol):
    """What a tokenizer asks of its quantizer. It is built as `cls(dim=channels of the latents, **options)`."""

    codebook_size: int  # codes in one codebook
    num_codebooks: int  # indices for each position
    levels: tuple[int, ...] | None  # number of levels of each latent dimension, lowest first; None if a code has none

    def __call__(self, z: Tensor, background: Tensor | None = None) -> Quantized:
        """Latents (b, c, t, h, w) -> quantized latents (same shape), codes (b, t, h, w[, books]), loss (scalar).

        Gradients pass straight through. `background` (b, t, h, w) is 1 where a token's own pixels show background
        only, and 0 elsewhere; most quantizers ignore it.
        """

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        """Codes (b, t, h, w[, books]) -> quantized latents (b, c, t, h, w)."""


class FSQ(library.FSQ):
    """Finite scalar quantization (Mentzer et al., arXiv 2309.15505): each latent dimension is rounded to some levels.

    `code_l2_weight` draws the coordinates to their middle, so that what carries no information takes few codes;
    `background_code_weight` is added to it where a token's own pixels are background, so that the foreground is
    encoded in the tokens that contain it.
    """

    def __init__(
        self, dim: int, levels: Sequence[int], num_codebooks: int = 1, code_l2_weight: float = 5e-3,
        background_code_weight: float = 0.0,
    ):  # fmt: skip
        super().__init__(list(levels), dim=dim, num_codebooks=num_codebooks)
        self.levels = tuple(levels)
        self.code_l2_weight, self.background_code_weight = code_l2_weight, background_code_weight

    def forward(self, z: Tensor, background: Tensor | None = None) -> Quantized:
        quantized, codes = super().forward(z)
        coordinates = self.project_in(z.movedim(1, -1))  # before they are squashed and rounded
        weight = self.code_l2_weight + self.background_code_weight * (0.0 if background is None else background)
        return quantized, codes, (weight * coordinates.square().mean(-1)).mean()

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        return self.indices_to_codes(codes)


class LFQ(library.LFQ):
    """Lookup-free quantization (MAGVIT-v2, arXiv 2310.05737, sec. 3.1): each latent dimension becomes a sign.

    The weights are the paper's. The entropy is taken at `inv_temperature`: the library's tokenizer calls it at 100,
    where it has no gradient left. With `anneal_steps` its weight falls over the first steps from three times to once.
    """

    def __init__(
        self, dim: int, bits: int, num_codebooks: int = 1, entropy_weight: float = 0.1, commitment_weight: float = 0.25,
        diversity: float = 1.0, inv_temperature: float = 1.0, anneal_steps: int = 0,
    ):  # fmt: skip
        super().__init__(
            dim=dim, codebook_size=2**bits, num_codebooks=num_codebooks, entropy_loss_weight=entropy_weight,
            commitment_loss_weight=commitment_weight, diversity_gamma=diversity, soft_clamp_input_value=10.0,
        )  # fmt: skip
        self.levels = (2,) * bits
        self.inv_temperature, self.entropy_weight, self.anneal_steps = inv_temperature, entropy_weight, anneal_steps
        self.register_buffer("seen", torch.zeros(()), persistent=anneal_steps > 0)  # steps, for a training that resumes

    def forward(self, z: Tensor, background: Tensor | None = None) -> Quantized:
        if self.training and self.anneal_steps:
            left = max(0.0, 1 - self.seen.item() / self.anneal_steps)
            self.entropy_loss_weight = self.entropy_weight * (1 + 2 * left)
            self.seen += 1
        return super().forward(z, inv_temperature=self.inv_temperature)

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        return self.indices_to_codes(codes)


class VQ(library.VectorQuantize):
    """Vector quantization, as in MAGVIT (arXiv 2212.05199): the nearest of `size` learnt vectors.

    The codebook follows an exponential moving average of the latents; vectors that are hardly used restart from
    latents of the batch (VideoGPT, arXiv 2104.10157).
    """

    def __init__(
        self, dim: int, size: int, codebook_dim: int = 8, commitment_weight: float = 0.25, decay: float = 0.95
    ):
        super().__init__(
            dim, size, codebook_dim=codebook_dim, use_cosine_sim=True, commitment_weight=commitment_weight,
            threshold_ema_dead_code=0.1, decay=decay,
        )  # fmt: skip
        self.num_codebooks, self.levels = 1, None

    def forward(self, z: Tensor, background: Tensor | None = None) -> Quantized:
        quantized, codes, loss = super().forward(z.movedim(1, -1).flatten(1, 3))
        shape = (len(z), *z.shape[2:])
        return quantized.unflatten(1, shape[1:]).movedim(-1, 1), codes.view(shape), loss.sum()

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        return self.get_output_from_indices(codes.flatten(1)).unflatten(1, codes.shape[1:]).movedim(-1, 1)


QUANTIZERS: dict[str, Any] = {"fsq": FSQ, "lfq": LFQ, "vq": VQ}


def build_quantizer(dim: int, kind: str, **options: Any) -> Any:
    """The quantizer called `kind` for latents of `dim` channels; ValueError for an unknown name or option."""
    if not isinstance(kind, str) or kind not in QUANTIZERS:
        raise ValueError(f"quantizer {kind!r} is unknown; there are {', '.join(QUANTIZERS)}: add yours to QUANTIZERS.")
    try:
        return QUANTIZERS[kind](dim=dim, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:  # the library asserts
        raise ValueError(f"quantizer {kind!r} cannot be built with {options}: {error}.") from None


# ---- level indices: FSQ levels, LFQ bits ----


def _place_values(levels: Sequence[int]) -> list[int]:
    return [math.prod(levels[:k]) for k in range(len(levels))]


def level_indices(codes: Any, levels: Sequence[int]) -> Any:
    """Codes of any shape, NumPy or torch -> level indices (..., d), each in 0 .. levels - 1, the lowest digit first.

    int64, whatever type of integer came; ValueError for what is no code.
    """
    found, levels = as_tensor(codes), check_numbers("levels", levels, 1, whole=True)
    check_tokens(found, None, math.prod(levels), "codes")
    place, count = (torch.tensor(list(some), device=found.device) for some in (_place_values(levels), levels))
    indices = found.long()[..., None] // place % count  # 8 bits would not hold the place values
    return indices if isinstance(codes, Tensor) else indices.numpy()


def codes_from_levels(indices: Any, levels: Sequence[int]) -> Any:
    """The inverse of `level_indices`: (..., d) -> codes (...)."""
    found, levels = as_tensor(indices), check_numbers("levels", levels, 1, whole=True)
    check_tokens(found, None, max(levels), "level indices")
    if found.shape[-1:] != (len(levels),) or (found >= torch.tensor(levels, device=found.device)).any():
        raise ValueError(f"level indices came as {describe(found)}; expected (..., d), each below {tuple(levels)}.")
    codes = (found.long() * torch.tensor(_place_values(levels), device=found.device)).sum(-1)
    return codes if isinstance(indices, Tensor) else codes.numpy()


class LevelEmbedding(nn.Module):
    """Vectors of all codes of a codebook (n, dim), as sums of one vector for each of a code's level indices.

    Codes that differ in one level index share the other vectors, so a rare code is learnt along with frequent ones.
    """

    def __init__(self, levels: Sequence[int], dim: int, std: float = 0.02):
        super().__init__()
        first_row = torch.tensor([0, *levels[:-1]]).cumsum(0)
        rows = level_indices(torch.arange(math.prod(levels)), levels) + first_row  # (codes, d)
        self.rows = nn.Buffer(rows, persistent=False)
        self.weight = nn.Parameter(std * torch.randn(sum(levels), dim))

    def forward(self) -> Tensor:
        return nn.functional.embedding_bag(self.rows, self.weight, mode="sum")
