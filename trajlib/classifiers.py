"""Readers of clips: a 3D CNN on pixels, and a small transformer on tokens that names the family or follows the dot."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from x_transformers import Encoder

from trajlib import FAMILIES
from trajlib.metrics import follow_dot
from trajlib.render import SIZE
from trajlib.tokenizer import check_tokens, check_videos


class Simple3DCNN(nn.Module):
    """The network of the experiment before us: 3 -> 16 -> 32 -> 64, pooling, 128, 4; about 1.1 M parameters."""

    def __init__(self):
        super().__init__()
        self.config = {}
        widths = (3, 16, 32, 64)
        blocks = [  # pooled, then rectified: the same numbers as drawn (the two commute) for an eighth of the work
            layer for a, b in pairwise(widths) for layer in (nn.Conv3d(a, b, 3, padding=1), nn.MaxPool3d(2), nn.ReLU())
        ]
        self.features = nn.Sequential(*blocks, nn.Flatten())  # (b, 64, 2, 8, 8) -> (b, 8192)
        self.head = nn.Sequential(nn.Linear(64 * 2 * 8 * 8, 128), nn.ReLU(), nn.Linear(128, len(FAMILIES)))
        for layer in (*self.features, *self.head):
            if hasattr(layer, "weight"):  # He's start: with torch's, the signal of a small dot fades on its way up
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.features.to(memory_format=torch.channels_last_3d)  # the same numbers, a fifth faster on a CPU

    def forward(self, videos):
        """(b, 3, 16, 64, 64) in [0, 1] -> logits (b, 4)."""
        check_videos(videos)
        return self.head(self.features(1 - videos))


class TokenReader(nn.Module):
    """Tokens (b, 8, 4, 4) -> a vector for each time step (b, 8, dim); `head` says what is made of them.

    Digits, not indices: codes that differ in one digit share the others, and few labels go further. The tokens of a
    time step are laid side by side, never averaged: where the dot is must not be lost. Time is a transformer's part.
    """

    answers = len(FAMILIES)

    def __init__(self, levels=(8, 5, 5, 5), grid=(8, 4, 4), token_dim=32, dim=128, depth=2, heads=4, dropout=0.1):
        super().__init__()
        self.config = {"levels": levels, "grid": grid, "token_dim": token_dim, "dim": dim, "depth": depth}
        self.config |= {"heads": heads, "dropout": dropout}
        self.grid, self.codebook_size = tuple(grid), math.prod(levels)
        starts = torch.tensor([0, *levels]).cumsum(0)  # where each digit's rows begin in the table
        self.register_buffer("first_row", starts[:-1], persistent=False)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("place_value", torch.tensor([1, *levels[:-1]]).cumprod(0), persistent=False)
        wide = 2 * token_dim
        self.digits = nn.Embedding(int(starts[-1]), wide)
        self.word = nn.Sequential(nn.GELU(), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, token_dim))
        self.step = nn.Sequential(nn.Linear(grid[1] * grid[2] * token_dim, dim), nn.Dropout(dropout))
        self.time = nn.Parameter(0.02 * torch.randn(grid[0], dim))
        self.trunk = Encoder(
            dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, attn_flash=True, use_rmsnorm=True,
            attn_dropout=dropout, ff_dropout=dropout,
        )  # fmt: skip
        self.head = nn.Linear(dim, self.answers)
        nn.init.normal_(self.digits.weight, std=0.5)

    def read(self, tokens):
        """(b, 8, dim), or a ValueError that says what came in place of tokens."""
        check_tokens(tokens, self.grid, self.codebook_size)
        digits = tokens.flatten(2)[..., None] // self.place_value % self.levels  # (b, 8, 16, 4)
        words = self.word(self.digits(digits + self.first_row).sum(-2))  # (b, 8, 16, token_dim)
        steps = self.step(words.flatten(2)) + self.time  # (b, 8, dim)
        return self.trunk(steps)


class TokenClassifier(TokenReader):
    """Tokens (b, 8, 4, 4) -> logits (b, 4)."""

    def forward(self, tokens):
        return self.head(self.read(tokens).mean(1))


class TokenTracker(TokenReader):
    """Tokens (b, 8, 4, 4) -> the dot (b, 16, 3): x, y, radius in pixels in each frame. It never hears of families."""

    answers = 2 * 3  # two frames in a time step
    middle, unit = (SIZE - 1) / 2, SIZE / 4  # so that the net's own numbers are about 1

    def forward(self, tokens):
        x, y, radius = (self.unit * self.head(self.read(tokens))).unflatten(-1, (-1, 3)).flatten(1, 2).unbind(-1)
        return torch.stack([x + self.middle, y + self.middle, radius], -1)


def seen_dot(videos):
    """What `TokenTracker` is to say of videos (b, 3, t, h, w), read off their pixels by `follow_dot`: (b, t, 3).

    The radius is that of a black disc with as much ink: a pale dot's is too small, by one factor in all its frames.
    """
    path, ink = follow_dot(videos)
    return torch.cat([path, (ink / torch.pi).sqrt()[..., None]], -1)


def tracking_loss(model, tokens, dots):
    """Huber's loss in pixels, quadratic within one; and {"px": mean distance of the centres}."""
    found = model(tokens).float()
    return F.huber_loss(found, dots), {"px": (found - dots)[..., :2].norm(dim=-1).mean()}


def classification_loss(model, inputs, labels):
    """Cross-entropy in nats, and {"accuracy": share right}."""
    logits = model(inputs).float()
    return F.cross_entropy(logits, labels), {"accuracy": (logits.argmax(-1) == labels).float().mean()}
