"""Videos <-> tokens: `magvit2_pytorch.VideoTokenizer`, with its pixels folded into channels.

16 x 64 x 64 RGB -> patches of 2 x 4 x 4 pixels -> 8 x 16 x 16 of 96 channels -> the library's causal encoder
-> 8 x 4 x 4 latents -> a quantizer -> 128 tokens. Other sizes of video and other layers give other grids.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from einops import rearrange
from magvit2_pytorch.magvit2_pytorch import SqueezeExcite, VideoTokenizer
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trajlib.data.checks import check_tokens, check_videos
from trajlib.data.measure import FOREGROUND_THRESHOLD
from trajlib.data.spec import VideoSpec, as_spec, check_number
from trajlib.tokenizer.convolution import use_fast_convolutions
from trajlib.tokenizer.quantizers import build_quantizer

FOLD = "b c (t p) (h q) (w r) -> b (c p q r) t h w"
UNFOLD = "b (c p q r) t h w -> b c (t p) (h q) (w r)"
LAYERS = (
    ("consecutive_residual", 1),  # at 8 x 16 x 16
    ("compress_space", 96),
    ("consecutive_residual", 1),  # at 8 x 8 x 8
    ("compress_space", 192),
    ("consecutive_residual", 2),  # at 8 x 4 x 4
)
FSQ_1000: Mapping[str, Any] = {"kind": "fsq", "levels": (8, 5, 5, 5)}


class FastELU(nn.Module):
    """torch's ELU, which takes a sixth of a training step on a CPU: exp(x) - 1 in place of the careful expm1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _ELU.apply(x)


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        slope = x.clamp(max=0).exp()  # 1 above zero
        ctx.save_for_backward(slope)
        return x.relu() + (slope - 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * ctx.saved_tensors[0]


def use_fast_elu(module: nn.Module) -> None:
    """Put `FastELU` wherever the library has an ELU."""
    for name, part in module.named_children():
        setattr(module, name, FastELU()) if isinstance(part, nn.ELU) else use_fast_elu(part)


def cell_frames(frames: int, steps: int) -> int:
    """Frames of a token where `steps` tokens follow one another in time; of an odd number, the first has one alone."""
    return (frames - 1) // (steps - 1) if frames % 2 and steps > 1 else frames // steps


def max_over_cells(values: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """(b, frames, h, w), none below 0 -> (b, *grid): the largest of each token's own pixels."""
    missing = cell_frames(values.shape[1], grid[0]) * grid[0] - values.shape[1]  # of a first token of one frame
    return F.adaptive_max_pool3d(F.pad(values, (0, 0, 0, 0, missing, 0)), tuple(grid))


class Tokenizer(nn.Module):
    """A video tokenizer. Decoding sees token indices and nothing else.

    `quantizer`: {"kind": a name in QUANTIZERS, its options}. `spec`: the videos, as a `VideoSpec` or its fields; an
    odd number of frames means 1 + the rest, and then `patch` folds 1 frame at a time. `layers` are VideoTokenizer's,
    `patch` the (frames, rows, columns) folded into channels, `io_kernel_size` the kernel of the first and the last
    convolution, `gate_bias` where residual branches start. `library`: VideoTokenizer's own arguments; with `dim_cond`
    and layers that take it, every method wants `cond=` (b, dim_cond) as well.

    Attributes: `spec`; `grid` (t', h', w'); `cell`, the pixels of a token (frames, rows, columns); `token_shape`, the
    grid and, with several codebooks, their number; `codebook_size`, `num_codebooks` and `levels` of the quantizer.
    ValueError for sizes that do not divide.
    """

    def __init__(
        self, quantizer: Mapping[str, Any] = FSQ_1000, dim: int = 64, layers: Sequence[Any] = LAYERS,
        patch: Sequence[int] = (2, 4, 4), io_kernel_size: Sequence[int] = (1, 3, 3), gate_bias: float = 0.0,
        spec: VideoSpec | Mapping[str, Any] = VideoSpec(), **library: Any,
    ):  # fmt: skip
        super().__init__()
        self.spec = as_spec(spec)
        self.config = {"quantizer": dict(quantizer), "dim": dim, "layers": layers, "patch": patch}
        self.config |= {"io_kernel_size": io_kernel_size, "gate_bias": gate_bias, "spec": asdict(self.spec)} | library
        self.encode_kwargs = {"video_contains_first_frame": self.spec.frames % 2 == 1}
        check_number("dim", dim, 1, whole=True)
        self.patch = dict(zip("pqr", patch, strict=True))
        self.net = VideoTokenizer(
            image_size=self.spec.size // patch[1], channels=3 * math.prod(patch), init_dim=dim,
            layers=tuple(layer if isinstance(layer, str) else tuple(layer) for layer in layers),
            input_conv_kernel_size=tuple(io_kernel_size), output_conv_kernel_size=tuple(io_kernel_size),
            use_fsq=True, fsq_levels=[3],  # stands in for our quantizer, which replaces it below
            perceptual_loss_weight=0, use_gan=False,  # else it downloads VGG16 here
            discr_kwargs={"dim": 8, "image_size": 16, "channels": 3, "max_dim": 8},  # it builds one even without a GAN
            **library,
        )  # fmt: skip
        del self.net.discr
        self.net.quantizers = build_quantizer(self.net.quantizers.dim, **quantizer)
        self.codebook_size, self.num_codebooks = self.quantizer.codebook_size, self.quantizer.num_codebooks
        self.levels = self.quantizer.levels
        use_fast_elu(self.net)
        use_fast_convolutions(self.net)
        for part in self.net.modules():
            if isinstance(part, nn.Conv3d):
                part.to(memory_format=torch.channels_last_3d)  # the layout that CPU kernels work in
            if isinstance(part, SqueezeExcite):
                # the library starts every residual branch shut, at sigmoid(-10), and training hardly opens it
                nn.init.constant_(part.net[-2].bias, gate_bias)
        self.grid = self._grid(patch, [layer[0] if not isinstance(layer, str) else layer for layer in layers])
        self.cell = (cell_frames(self.spec.frames, self.grid[0]), *(self.spec.size // n for n in self.grid[1:]))
        self.token_shape = self.grid + ((self.num_codebooks,) if self.num_codebooks > 1 else ())

    def _grid(self, patch: Sequence[int], kinds: Sequence[str]) -> tuple[int, int, int]:
        """(t', h', w') of the tokens; ValueError if frames or size do not divide."""
        frames, size, halving = self.spec.frames, self.spec.size, self.net.time_downsample_factor
        cell = patch[1] * 2 ** sum(kind == "compress_space" for kind in kinds)
        if size % cell or patch[1] != patch[2]:
            raise ValueError(f"a picture of {size} px does not divide into tokens of {cell} px: take another size.")
        if frames % patch[0]:
            raise ValueError(f"{frames} frames cannot be folded {patch[0]} at a time: take a patch of 1 frame.")
        first, rest = (1, frames - 1) if frames % 2 else (0, frames // patch[0])
        if rest % halving:
            raise ValueError(f"{frames} frames do not divide into tokens of {patch[0] * halving} frames: take others.")
        return first + rest // halving, size // cell, size // cell

    @property
    def quantizer(self) -> Any:
        """The `Quantizer` between encoder and decoder."""
        return self.net.quantizers

    def latents(self, videos: torch.Tensor, **cond: Any) -> torch.Tensor:
        """(b, 3, frames, size, size) in [0, 1] -> (b, c, t', h', w'): what the quantizer rounds."""
        inverted = 1 - videos  # white is 0, so that the causal padding in front of a clip is background
        folded = rearrange(inverted, FOLD, **self.patch)  # (b, 96, 8, 16, 16)
        z = self.net.encode(folded, **self.encode_kwargs, **cond)
        # the library builds a last LayerNorm and never calls it: its loop stops one layer short
        return self.net.encoder_layers[-1](z)

    def pixels(self, quantized: torch.Tensor, **cond: Any) -> torch.Tensor:
        """Quantized latents (b, c, t', h', w') -> (b, 3, frames, size, size), not yet clipped to [0, 1]."""
        inverted = self.net.decode(quantized, **self.encode_kwargs, **cond)
        return 1 - rearrange(inverted, UNFOLD, **self.patch)

    def forward(self, videos: torch.Tensor, **cond: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Round trip with gradients (straight through the rounding): videos -> recon, codes, the quantizer's loss."""
        z = self.latents(videos, **cond)
        darkest = max_over_cells((1 - videos).amax(1), z.shape[2:])
        quantized, codes, loss = self.quantizer(z, background=(darkest <= FOREGROUND_THRESHOLD).float())
        return self.pixels(quantized, **cond), codes, loss

    @torch.no_grad()
    def encode(self, videos: torch.Tensor, batch_size: int = 16, **cond: Any) -> torch.Tensor:
        """(b, 3, frames, size, size) float32 in [0, 1] -> tokens (b, *token_shape) int64 in 0 .. codebook_size - 1.

        ValueError for anything else. `batch_size` videos are encoded at a time.
        """
        check_videos(videos, self.spec)
        codes = [self.quantizer(self.latents(part, **own))[1].long() for part, own in _parts(videos, batch_size, cond)]
        return torch.cat(codes) if codes else videos.new_zeros((0, *self.token_shape), dtype=torch.long)

    @torch.no_grad()
    def decode(self, tokens: torch.Tensor, batch_size: int = 16, **cond: Any) -> torch.Tensor:
        """Tokens (b, *token_shape) -> (b, 3, frames, size, size) float32 in [0, 1]; ValueError for anything else."""
        check_tokens(tokens, self.token_shape, self.codebook_size)
        back, parts = self.quantizer.codes_to_latents, _parts(tokens, batch_size, cond)
        pixels = [self.pixels(back(part.long()), **own).float().clamp(0, 1) for part, own in parts]
        return torch.cat(pixels) if pixels else torch.zeros(0, *self.spec.shape, device=tokens.device)

    def reconstruct(self, videos: torch.Tensor, **cond: Any) -> torch.Tensor:
        """There and back: decode(encode(videos))."""
        return self.decode(self.encode(videos, **cond), **cond)


def _parts(values: torch.Tensor, size: int, cond: Mapping[str, torch.Tensor]) -> Iterator[tuple[torch.Tensor, dict]]:
    """`size` of the values at a time, and the conditions of these."""
    check_number("batch_size", size, 1, whole=True)
    for first in range(0, len(values), size):
        yield values[first : first + size], {name: value[first : first + size] for name, value in cond.items()}
