"""Classifiers and a tracker: a 3D CNN on pixels, and a small transformer on tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x_transformers import Encoder

from trajlib.data.checks import check_tokens, check_videos
from trajlib.data.spec import VideoSpec, as_spec
from trajlib.tokenizer.convolution import Conv3d
from trajlib.tokenizer.quantizers import level_indices


class Simple3DCNN(nn.Module):
    """Three 3D convolutions (16, 32, 64 channels) with pooling, then 128 units; about 1.1 M parameters."""

    def __init__(self, spec: VideoSpec | Mapping[str, Any] = VideoSpec(), num_classes: int = 4):
        super().__init__()
        self.spec = as_spec(spec)
        self.config = {"spec": asdict(self.spec), "num_classes": num_classes}
        widths = (3, 16, 32, 64)
        blocks = [  # pooling before ReLU: the two commute, and ReLU then costs an eighth
            layer
            for a, b in pairwise(widths)
            for layer in (Conv3d(a, b, 3, padding=1), nn.MaxPool3d(2, ceil_mode=True), nn.ReLU())
        ]
        self.features = nn.Sequential(*blocks, nn.Flatten())  # (b, 64, 2, 8, 8) -> (b, 8192)
        flat = widths[-1] * -(-self.spec.frames // 8) * (-(-self.spec.size // 8)) ** 2  # -(-n // 8): rounded up
        self.head = nn.Sequential(nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, num_classes))
        for layer in (*self.features, *self.head):
            if hasattr(layer, "weight"):  # He's initialization: with torch's, the signal of a small dot fades
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.features.to(memory_format=torch.channels_last_3d)  # the same numbers, a fifth faster on a CPU

    def forward(self, videos: Tensor) -> Tensor:
        """(b, 3, frames, size, size) in [0, 1] -> logits (b, num_classes); ValueError for anything else."""
        check_videos(videos, self.spec)
        return self.head(self.features(1 - videos))


class TokenBackbone(nn.Module):
    """Tokens (b, *grid) -> a vector for each time step (b, t, dim), and a linear `head` with `outputs` numbers.

    With `levels` (see `Quantizer.levels`) a token's vector is the sum of one for each level index: codes that share
    them share vectors, so fewer labels are needed. Without, each code has its own. The tokens of a time step are
    concatenated, never averaged: that would lose the position of the dot. The transformer runs over time.
    """

    def __init__(
        self, codebook_size: int, grid: Sequence[int], levels: Sequence[int] | None = None, outputs: int = 4,
        token_dim: int = 32, dim: int = 128, depth: int = 2, heads: int = 4, dropout: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        self.config = {"codebook_size": codebook_size, "grid": grid, "levels": levels, "token_dim": token_dim}
        self.config |= {"dim": dim, "depth": depth, "heads": heads, "dropout": dropout}
        self.grid, self.codebook_size = tuple(grid), codebook_size
        self.levels = tuple(levels or (codebook_size,))  # without levels, the index is the only one
        if prod(self.levels) != codebook_size:
            raise ValueError(f"levels {self.levels} make {prod(self.levels)} codes, not {codebook_size}.")
        self.register_buffer("first_row", torch.tensor([0, *self.levels[:-1]]).cumsum(0), persistent=False)
        wide = 2 * token_dim
        self.level_embedding = nn.Embedding(sum(self.levels), wide)
        self.token_mlp = nn.Sequential(nn.GELU(), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, token_dim))
        self.step_projection = nn.Sequential(nn.Linear(prod(self.grid[1:]) * token_dim, dim), nn.Dropout(dropout))
        self.time_embedding = nn.Parameter(0.02 * torch.randn(self.grid[0], dim))
        self.encoder = Encoder(
            dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, attn_flash=True, use_rmsnorm=True,
            attn_dropout=dropout, ff_dropout=dropout,
        )  # fmt: skip
        self.head = nn.Linear(dim, outputs)
        nn.init.normal_(self.level_embedding.weight, std=0.5)

    def features(self, tokens: Tensor) -> Tensor:
        """Tokens (b, *grid) -> (b, t, dim); ValueError for anything else."""
        check_tokens(tokens, self.grid, self.codebook_size)
        indices = level_indices(tokens.flatten(2).long(), self.levels) + self.first_row  # (b, t, h w, levels)
        vectors = self.token_mlp(self.level_embedding(indices).sum(-2))  # (b, t, h w, token_dim)
        return self.encoder(self.step_projection(vectors.flatten(2)) + self.time_embedding)


class TokenClassifier(TokenBackbone):
    """Tokens (b, *grid) -> logits (b, num_classes). `sizes`: see `TokenBackbone`."""

    def __init__(self, codebook_size: int, grid: Sequence[int], levels=None, num_classes: int = 4, **sizes):
        super().__init__(codebook_size, grid, levels, num_classes, **sizes)
        self.config["num_classes"] = num_classes

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.features(tokens).mean(1))


class TokenTracker(TokenBackbone):
    """Tokens (b, *grid) -> the dot (b, frames, 3): x, y, radius in pixels in each frame. It receives no class.

    `sizes`: see `TokenBackbone`. Of an odd number of frames the first time step has one.
    """

    def __init__(self, codebook_size: int, grid: Sequence[int], levels=None, spec=VideoSpec(), **sizes):
        self.spec = as_spec(spec)
        super().__init__(codebook_size, grid, levels, 3 * -(-self.spec.frames // grid[0]), **sizes)
        self.config["spec"] = asdict(self.spec)

    def forward(self, tokens: Tensor) -> Tensor:
        unit = self.spec.size / 4  # so that the network's own numbers are about 1
        x, y, radius = (unit * self.head(self.features(tokens))).unflatten(-1, (-1, 3)).flatten(1, 2).unbind(-1)
        return torch.stack([x + self.spec.centre, y + self.spec.centre, radius], -1)[:, -self.spec.frames :]


def tracking_loss(model, tokens: Tensor, dots: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Huber's loss in pixels, quadratic within one, to dots (b, t, 3); and {"px": mean distance of the centres}."""
    found = model(tokens).float()
    return F.huber_loss(found, dots), {"px": (found - dots)[..., :2].norm(dim=-1).mean()}


def classification_loss(model, inputs: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy in nats to labels (b,), and {"accuracy": share correct}."""
    logits = model(inputs).float()
    return F.cross_entropy(logits, labels), {"accuracy": (logits.argmax(-1) == labels).float().mean()}
