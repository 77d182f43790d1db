"""Trajectories of one or several dots as tokens, coarse to fine or frame by frame, and a small model for either.

`TrajectoryTokens` knows one dot: x, y and radius. So each dot has one of its own, and a model's step is a frequency, or
a frame, with the tokens of all dots. Both kinds of tokens have as many levels.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x_transformers import Decoder

from trajlib.generation.trajectory_tokens import TrajectoryTokens, augment_trajectories

WAVES = 7  # octaves that embed a level, as in `JointTransformer`
KINDS = {"coarse to fine": (9, 9, 4), "frame by frame": None}  # frequencies of x, y, radius; None: frames


def augment(trajectories: Tensor, size: int) -> Tensor:
    """Trajectories (b, dots, frames, 3), each flipped, transposed or reversed: all dots of a clip alike."""
    state, found = torch.get_rng_state(), []
    for dot in trajectories.unbind(1):
        torch.set_rng_state(state)
        found.append(augment_trajectories(dot, size))
    return torch.stack(found, 1)


class PathTokens(nn.Module):
    """Trajectories (b, dots, frames, 3) in pixels <-> tokens (b, steps, 3 dots); `used` (steps, 3 dots) bool."""

    def __init__(self, kind: str, dots: int, frames: int = 16, levels: int = 256):
        super().__init__()
        counts = KINDS[kind]
        self.codings = nn.ModuleList(TrajectoryTokens(frames, counts or (frames,) * 3, levels) for _ in range(dots))
        if counts is None:  # no transform: a "frequency" is a frame
            for coding in self.codings:
                coding.transform.copy_(torch.eye(frames))
        self.levels, one = levels, self.codings[0]
        self.index = one.frequency, one.axis
        used = torch.zeros(int(one.frequency.max()) + 1, 3, dtype=torch.bool)
        used[self.index] = True
        self.register_buffer("used", used.repeat(1, dots))

    def fit(self, trajectories: Tensor) -> "PathTokens":
        """Measure what normalizes the tokens on trajectories (m, dots, frames, 3)."""
        for coding, dot in zip(self.codings, trajectories.unbind(1), strict=True):
            coding.fit(dot)
        return self

    def encode(self, trajectories: Tensor) -> Tensor:
        tokens = torch.zeros(len(trajectories), *self.used.shape, dtype=torch.long)
        for k, (coding, dot) in enumerate(zip(self.codings, trajectories.unbind(1), strict=True)):
            tokens[:, self.index[0], self.index[1] + 3 * k] = coding.encode(dot)
        return tokens

    def decode(self, tokens: Tensor) -> Tensor:
        found = [c.decode(tokens[:, self.index[0], self.index[1] + 3 * k]) for k, c in enumerate(self.codings)]
        return torch.stack(found, 1)


class PathModel(nn.Module):
    """Logits of tokens (b, steps, axes), each from the class, all earlier steps, and the axes before it in its own."""

    def __init__(self, coding: PathTokens, classes: int = 4, dim: int = 96, depth: int = 3, heads: int = 3):
        super().__init__()
        self.coding, (steps, axes), levels = coding, coding.used.shape, coding.levels
        value = (torch.arange(levels)[:, None] + 0.5) / levels * 2 - 1
        angles = value * math.pi * 2.0 ** torch.arange(WAVES)
        self.register_buffer("waves", torch.cat([angles.sin(), angles.cos(), value], -1), persistent=False)
        self.token_embedding = nn.Linear(2 * WAVES + 1, axes * dim)  # near levels have near vectors
        self.label_embedding = nn.Embedding(classes, dim)
        self.steps = nn.Parameter(0.02 * torch.randn(steps, dim))
        self.axes = nn.Parameter(0.02 * torch.randn(steps, axes, dim))
        self.decoder = Decoder(dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, use_rmsnorm=True)
        self.head = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, levels))
        self.bias = nn.Parameter(torch.zeros(steps, axes, levels))

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors of tokens (b, steps, axes), (b, steps, axes, dim); of those that are not used, zeros."""
        table = self.token_embedding(self.waves).unflatten(-1, (tokens.shape[-1], -1))  # (levels, axes, dim)
        return table[tokens, torch.arange(tokens.shape[-1])] * self.coding.used[: tokens.shape[1], :, None]

    def states(self, own: Tensor, labels: Tensor) -> Tensor:
        """What is known before each step, (b, steps, dim), of vectors (b, steps, axes, dim)."""
        x = torch.cat([self.label_embedding(labels)[:, None], own.sum(2)[:, :-1]], 1)
        return self.decoder(x + self.steps[: x.shape[1]])

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """tokens (b, steps, axes), labels (b,) -> logits (b, steps, axes, levels)."""
        own = self.embed(tokens)
        return self.head(self.states(own, labels)[:, :, None] + own.cumsum(2) - own + self.axes) + self.bias

    def bits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Of each trajectory's tokens given its class, (b,)."""
        nats = F.cross_entropy(self(tokens, labels).flatten(0, 2).float(), tokens.flatten(), reduction="none")
        return (nats.view(tokens.shape) * self.coding.used).sum((1, 2)) / math.log(2)

    @torch.no_grad()
    def sample(self, labels: Tensor, seed: int, temperature: float = 1.0) -> Tensor:
        """Trajectories (b, dots, frames, 3) of these classes."""
        rng = torch.Generator().manual_seed(seed)
        tokens = torch.zeros(len(labels), *self.coding.used.shape, dtype=torch.long)
        for step, used in enumerate(self.coding.used):
            state = self.states(self.embed(tokens[:, : step + 1]), labels)[:, -1]
            for axis in used.nonzero()[:, 0].tolist():
                before = self.embed(tokens[:, : step + 1])[:, -1, :axis].sum(1)
                logits = self.head(state + before + self.axes[step, axis]) + self.bias[step, axis]
                drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=rng)
                tokens[:, step, axis] = drawn[:, 0]
        return self.coding.decode(tokens)


def path_loss(model: PathModel, tokens: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Nats a token, and bits a trajectory."""
    bits = model.bits(tokens, labels).mean()
    return bits * math.log(2) / model.coding.used.sum(), {"bits": bits.detach()}


def independent_bits(coding: PathTokens, known: Tensor, tokens: Tensor) -> Tensor:
    """Bits of tokens (b, steps, axes), each by its own frequency among `known` (m, steps, axes) alone: (b,)."""
    total = torch.zeros(len(tokens))
    for place in coding.used.nonzero().tolist():
        seen, asked = (x[:, place[0], place[1]] for x in (known, tokens))
        counts = torch.bincount(seen, minlength=coding.levels) + 1.0
        total -= (counts / counts.sum())[asked].log2()
    return total
