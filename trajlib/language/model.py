"""Sentences as one more part of the joint transformer's sequence, with low-rank adapters and its own weights frozen.

    [task][class] | words | trajectory | video

Any part but the prefix may be left out. A word is predicted from the parts that are there, a masked one from all others
or one from those before it; a trajectory, and a video along it, are predicted given words. A linear layer W of the
frozen transformer becomes W + B A with A (r, in) and B (out, r), which starts at 0 (LoRA, Hu et al. 2021, sec. 4.1):
so the model begins as the transformer that it was made from.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from trajlib.generation.joint import JointTransformer
from trajlib.generation.joint_sampling import nearest_positions
from trajlib.generation.observed_track import track_features
from trajlib.language.grammar import MAX_WORDS, NUMBERS, PAD, VOCABULARY

PACE = 4.0  # of a step from frame to frame, against a position, so that both are about 1


class LowRank(nn.Module):
    """A matrix (out, in) -> the same plus a product of rank `rank`."""

    def __init__(self, out: int, into: int, rank: int):
        super().__init__()
        self.down, self.up = nn.Linear(into, rank, bias=False), nn.Linear(rank, out, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up.weight @ self.down.weight


@dataclass(frozen=True)
class Reading:
    """What a sentence is about, as the model receives it; slice it like a tensor. No class, no slot is part of it."""

    trajectories: Tensor  # (b, frames, 3) px, as read from a clip
    tokens: Tensor | None = None  # (b, k) of the video; None: left out
    offsets: Tensor | None = None  # (b, k, features) of these from the dot
    kept: Tensor | None = None  # (b, k) their positions

    def __len__(self) -> int:
        return len(self.trajectories)

    def __getitem__(self, key: Any) -> "Reading":
        rest = (None if part is None else part[key] for part in (self.tokens, self.offsets, self.kept))
        return Reading(self.trajectories[key], *rest)


class LanguageModel(nn.Module):
    """A `JointTransformer` with words. Its `state_dict` holds what is its own: word vectors and adapters.

    `transformer`: copied and frozen; the one that came stays as it is. `rank`: of the adapters, one in every linear
    layer of the backbone.
    """

    def __init__(self, transformer: JointTransformer, rank: int = 24):
        super().__init__()
        self.config: dict[str, Any] = {"rank": rank}
        self.joint = copy.deepcopy(transformer).requires_grad_(False)
        for layer in [m for m in self.joint.backbone.modules() if isinstance(m, nn.Linear)]:
            parametrize.register_parametrization(layer, "weight", LowRank(layer.out_features, layer.in_features, rank))
        dim = self.joint.label_embedding.embedding_dim
        self.word_embedding = nn.Embedding(len(VOCABULARY), dim)
        self.word_positions = nn.Parameter(0.02 * torch.randn(MAX_WORDS, dim))
        self.word_output = nn.Linear(dim, len(VOCABULARY))
        steps, frames = transformer.grid[0], transformer.spec.frames
        self.motion_embedding = nn.Sequential(nn.Linear(frames // steps * 12, dim), nn.GELU(), nn.Linear(dim, dim))
        self.motion_positions = nn.Parameter(0.02 * torch.randn(steps, dim))
        nn.init.normal_(self.word_embedding.weight, std=0.02)
        self.own = [name for name, weight in self.named_parameters() if weight.requires_grad]
        self.register_state_dict_post_hook(_only_own)
        self.register_load_state_dict_post_hook(_forgive_frozen)

    def context(self, words: Tensor) -> Tensor:
        """Numbers of words (b, MAX_WORDS) -> the vectors of this part, (b, MAX_WORDS, dim)."""
        return self.word_embedding(words) + self.word_positions

    def reading(self, trajectories: Tensor, tokens: Tensor | None = None, positions: int = 32) -> Reading:
        """What sentences are read from: trajectories (b, frames, 3), and of tokens (b, *grid) those near the dot."""
        if tokens is None:
            return Reading(trajectories)
        offsets, rng = self.joint.offsets(trajectories), torch.Generator().manual_seed(0)
        count = min(positions, offsets.shape[1])
        kept = nearest_positions(offsets, count, self.joint.spec.frames // self.joint.grid[0], rng)
        rows = torch.arange(len(tokens))[:, None]
        return Reading(trajectories, tokens.flatten(1)[rows, kept], offsets[rows, kept], kept)

    def word_logits(self, words: Tensor, reading: Reading | None = None, causal: bool = False) -> Tensor:
        """Logits (b, MAX_WORDS, words of the vocabulary) of all words, MASK where masked.

        `reading`: None for no other part. `causal`: each word from those before it alone, and no word needs a mask.
        """
        parts = [self.joint.prefix(words), *([] if reading is None else self._parts(reading))]
        first, attends = sum(part.shape[1] for part in parts), None
        if causal:
            words = F.pad(words[:, :-1], (1, 0), value=NUMBERS[PAD])
            attends = torch.ones(first + MAX_WORDS, first + MAX_WORDS, dtype=torch.bool).tril()
            attends[:first, :first] = True
        x = self.joint.backbone(torch.cat([*parts, self.context(words)], 1), attn_mask=attends)
        with torch.autocast("cpu", enabled=False):
            return self.word_output(x[:, first:].float())

    def _parts(self, reading: Reading) -> list[Tensor]:
        """The vectors of motion, trajectory tokens and video tokens."""
        joint, dots = self.joint, reading.trajectories
        seen = track_features(dots, torch.zeros(dots.shape[:2], dtype=torch.bool), joint.spec.size)[..., :3]
        pace = PACE * torch.cat([seen[:, 1:] - seen[:, :-1], seen[:, -1:] - seen[:, -2:-1]], 1)
        features = torch.cat([seen, pace], -1)
        features = torch.cat([features, features.sin()], -1).unflatten(1, (joint.grid[0], -1)).flatten(2)
        with torch.autocast("cpu", enabled=False):  # bfloat16 would round positions
            parts = [self.motion_embedding(features.float()) + self.motion_positions]
        levels = joint.trajectory.encode(dots)
        own = F.embedding(levels, joint._level_table()) * joint.level_scale + joint.trajectory_positions
        empty = own.new_zeros(len(own), joint.num_frequencies, own.shape[-1])
        parts.append(empty.index_add(1, joint.trajectory.frequency, own))
        if reading.tokens is not None:
            video = F.embedding(reading.tokens, joint.token_embedding()) + joint.position_vectors()[reading.kept]
            parts.append(video + joint.offset_embedding(reading.offsets))
        return parts


def _only_own(model: LanguageModel, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix) and name.removeprefix(prefix) not in model.own]:
        del state[name]


def _forgive_frozen(model: LanguageModel, keys: Any) -> None:
    keys.missing_keys[:] = [name for name in keys.missing_keys if any(name.endswith(own) for own in model.own)]
