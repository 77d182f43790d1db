"""One masked transformer over `[task][class] | observed track | trajectory tokens | video tokens`.

Any part but the prefix may be left out, so that short sequences without video train what is cheap. Without the
trajectory it is a plain `MaskedTransformer`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trajlib.data.spec import VideoSpec, as_spec
from trajlib.generation.linear_guess import LinearGuess
from trajlib.generation.masks import random_masks
from trajlib.generation.observed_track import dots_of
from trajlib.generation.trajectory_tokens import TrajectoryTokens
from trajlib.generation.transformer import MaskedTransformer

WAVES = 7  # octaves that embed a level
OCTAVES = 4  # that embed a dot's offset from a token's cell: down to a quarter of a cell
NEAR = 1.1  # cells: a position receives a dot no farther from its middle than this
RADIUS_UNIT = 0.8  # pixels of a picture of 64


class JointTransformer(MaskedTransformer):
    """`MaskedTransformer` with trajectory tokens.

    `trajectory`: arguments of `TrajectoryTokens`, for the three axes x, y and radius of one dot, which the video part
    and the observed track need. `spec`: the videos. All else as in `MaskedTransformer`.
    """

    def __init__(
        self, codebook_size: int, grid: Sequence[int], levels: Sequence[int] | None = None, num_classes: int = 4,
        dim: int = 128, depth: int = 4, heads: int = 4, dropout: float = 0.0, num_tasks: int | None = None,
        spec: VideoSpec | Mapping[str, Any] = VideoSpec(), trajectory: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        super().__init__(codebook_size, grid, levels, num_classes, dim, depth, heads, dropout, num_tasks)
        self.spec = as_spec(spec)
        self.config |= {"spec": vars(self.spec), "trajectory": dict(trajectory or {})}
        self.trajectory = coding = TrajectoryTokens(self.spec.frames, **(trajectory or {}))
        if coding.axes != 3:
            raise ValueError(f"trajectory has counts of {coding.axes} axes; three were expected: x, y and radius.")
        self.num_frequencies = int(coding.frequency.max()) + 1
        value = (torch.arange(coding.levels)[:, None] + 0.5) / coding.levels * 2 - 1
        angles = value * math.pi * 2.0 ** torch.arange(WAVES)
        self.register_buffer("level_waves", torch.cat([angles.sin(), angles.cos(), value], -1), persistent=False)
        self.level_embedding = nn.Embedding(coding.levels, dim)
        self.wave_projection = nn.Linear(2 * WAVES + 1, dim)  # so that near levels have near vectors
        self.level_scale = nn.Parameter(torch.ones(coding.n, dim))
        self.trajectory_positions = nn.Parameter(0.02 * torch.randn(coding.n, dim))
        self.trajectory_mask = nn.Parameter(0.02 * torch.randn(coding.n, dim))
        self.trajectory_output = nn.Linear(dim, (int(coding.axis.max()) + 1) * coding.levels)
        self.trajectory_bias = nn.Parameter(torch.zeros(coding.n, coding.levels))
        self.num_codebooks = math.prod(self.grid[3:])
        step = self.spec.frames // self.grid[0]  # frames of a token
        self.track_embedding = nn.Sequential(nn.Linear(step * 5, dim), nn.GELU(), nn.Linear(dim, dim))
        self.track_positions = nn.Parameter(0.02 * torch.randn(self.grid[0], dim))
        # where a track is observed, the linear guess of each token: as an embedding, and as a prior of its logits
        self.guess = LinearGuess(coding.n, self.spec.frames, (2 * coding.reach / coding.levels) ** 2 / 12)
        self.guess_scale, self.guess_projection = nn.Parameter(torch.zeros(coding.n, dim)), nn.Linear(2, dim)
        self.guess_weight = nn.Parameter(torch.ones(coding.n))
        per_frame = 1 + 2 + 4 * OCTAVES + 1
        self.offset_embedding = nn.Sequential(
            nn.Linear(step * per_frame, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )  # fmt: skip
        nn.init.normal_(self.level_embedding.weight, std=0.02)
        nn.init.zeros_(self.guess_projection.weight)
        nn.init.zeros_(self.guess_projection.bias)

    @torch.no_grad()
    def fit_trajectories(self, trajectories: Tensor) -> None:
        """Measure what normalizes the trajectory tokens, and what guesses them, on trajectories (m, frames, 3)."""
        self.trajectory.fit(trajectories)
        self.guess.fit(self.trajectory, trajectories)

    # ---- the trajectory part ----

    def trajectory_logits(
        self, tokens: Tensor, labels: Tensor | None = None, tasks: Tensor | None = None, track: Tensor | None = None,
        position: int | None = None, observed: tuple[Tensor, Tensor] | None = None, context: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Trajectory tokens (b, n) -> logits (b, n, levels): each token from those before it, coarse to fine.

        labels (b,), tasks (b,) as in `MaskedTransformer`; track (b, frames, 5), see `observed_track`. `position`: only
        this token's logits, (b, 1, levels), from `tokens[:, :position]`; the later ones are not read. `observed`: what
        `observe` makes of the track, if it is known already. `context` (b, k, dim): see `MaskedTransformer._hidden`.
        """
        prefix = [self.prefix(tokens, labels, tasks), *([] if context is None else [context])]
        x, attends = self._coarse_to_fine(tokens, position)
        asked = slice(None) if position is None else slice(position, position + 1)
        axis, prior = self.trajectory.axis[asked], torch.zeros(())
        if track is not None:
            steps = track.unflatten(1, (self.grid[0], -1)).flatten(2)
            with torch.autocast("cpu", enabled=False):  # bfloat16 would round positions by up to 0.2 px
                prefix.append(self.track_embedding(steps.float()) + self.track_positions)
            embedded, prior = self._guessed(observed or self.observe(track), tokens, asked)
            x = torch.cat([x[:, : -len(axis)], x[:, -len(axis) :] + embedded], 1)
        first = sum(part.shape[1] for part in prefix)
        attends = F.pad(attends, (first, 0), value=True)
        attends = torch.cat([F.pad(attends.new_ones(first, first), (0, x.shape[1])), attends])
        x = self.backbone(torch.cat([*prefix, x], 1), attn_mask=attends)
        with torch.autocast("cpu", enabled=False):  # 256 levels are finer than bfloat16
            out = self.trajectory_output(x[:, -len(axis) :].float()).unflatten(-1, (-1, self.trajectory.levels))
        return out[:, torch.arange(len(axis)), axis] + self.trajectory_bias[asked] + prior

    def observe(self, track: Tensor) -> tuple[Tensor, Tensor]:
        """What a track (b, frames, 5) tells linearly: mean (b, n) and covariance (b, n, n) of the coefficients."""
        return self.guess.observe(*dots_of(track, self.spec.size))

    def _guessed(self, observed: tuple[Tensor, Tensor], tokens: Tensor, asked: slice) -> tuple[Tensor, Tensor]:
        """The linear guess of the asked tokens: its embedding (b, m, dim), and its log-density (b, m, levels).

        The density has heavier tails than a Gaussian's, since trajectories are not Gaussian.
        """
        coding = self.trajectory
        mean, spread = (x[:, asked] for x in self.guess(observed, coding.values(tokens), asked.stop or coding.n))
        with torch.autocast("cpu", enabled=False):
            level = ((mean / coding.reach + 1) / 2 * coding.levels).long().clamp(0, coding.levels - 1)
            x = F.embedding(level, self._level_table()) * self.guess_scale[asked]
            x = x + self.guess_projection(torch.stack([spread.log(), mean / coding.reach], -1))
            distance = (coding.values(torch.arange(coding.levels)) - mean[..., None]) / spread[..., None]
            return x, self.guess_weight[asked, None] * -4 * (distance.square() / 8).log1p()

    def _level_table(self) -> Tensor:
        """Vectors of all levels (levels, dim)."""
        with torch.autocast("cpu", enabled=False):
            return self.level_embedding.weight + self.wave_projection(self.level_waves)

    def _coarse_to_fine(self, tokens: Tensor, position: int | None) -> tuple[Tensor, Tensor]:
        """The masks "everything finer than k" for all k at once: inputs (b, m, dim), and who attends to whom (m, m).

        First every frequency but the finest, observed; each attends to the coarser ones. Then for each token its own
        frequency once more, with this token and the later ones masked; it attends to the coarser frequencies and to
        itself. So training predicts each token from exactly what sampling has (compare VAR, arXiv 2404.02905).
        """
        coding, frequency = self.trajectory, self.trajectory.frequency
        own = F.embedding(tokens, self._level_table()) * self.level_scale + self.trajectory_positions
        masked = self.trajectory_mask + self.trajectory_positions
        observed = own.new_zeros(len(own), self.num_frequencies, own.shape[-1]).index_add(1, frequency, own)
        same = frequency[:, None] == frequency  # (n, n)
        order = torch.arange(coding.n, device=tokens.device)
        before = (same & (order < order[:, None])).to(own.dtype)
        queries = before @ own + (same.to(own.dtype) - before) @ masked
        k = torch.arange(self.num_frequencies - 1, device=tokens.device)
        if position is not None:  # finer frequencies may be left out
            k = k[: int(frequency[position])]
            queries, frequency = queries[:, position : position + 1], frequency[position : position + 1]
        all_frequencies = torch.cat([k, frequency])
        itself = torch.eye(len(all_frequencies), dtype=torch.bool, device=tokens.device)
        attends = F.pad(k < all_frequencies[:, None], (0, len(frequency))) | itself
        return torch.cat([observed[:, : len(k)], queries], 1), attends

    # ---- the video part, given a trajectory ----

    def offsets(self, trajectories: Tensor) -> Tensor:
        """Trajectories (b, frames, 3) in pixels -> the dot relative to each token's cell, (b, n, features).

        The same offset gives the same features in every cell, and for each codebook; a dot far away gives zeros and
        its radius. The first feature of each frame is 1 where the dot is near.
        """
        t, h, w = self.grid[:3]
        size, unit = self.spec.size, RADIUS_UNIT * self.spec.size / 64
        column, row = (size / n * (torch.arange(n, device=trajectories.device) + 0.5) - 0.5 for n in (w, h))
        x, y, radius = trajectories.unflatten(1, (t, -1))[..., None, None].unbind(3)  # (b, t, frames a step, 1, 1)
        offset = torch.stack(torch.broadcast_tensors((x - column) * w / size, (y - row[:, None]) * h / size), -1)
        near = (offset.abs() < NEAR).all(-1, keepdim=True)  # offsets are in cells
        angles = (offset[..., None] * (math.pi / 2 * 2.0 ** torch.arange(OCTAVES, device=offset.device))).flatten(-2)
        radius = (radius[..., None] / unit - 2.75).expand_as(near)
        found = torch.cat([torch.ones_like(radius), offset, angles.sin(), angles.cos()], -1) * near
        found = torch.cat([found, radius], -1).permute(0, 1, 3, 4, 2, 5).flatten(4).flatten(1, 3)
        return found.repeat_interleave(self.num_codebooks, 1)

    def video_logits(
        self, tokens: Tensor, offsets: Tensor, labels: Tensor | None = None, tasks: Tensor | None = None,
        kept: Tensor | None = None, select: Tensor | None = None, context: Tensor | None = None,
        table: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Logits of video tokens (b, k), mask_token where masked, given `offsets` (b, k, features).

        `kept` (b, k): which positions of the grid these are, None for all. `select`: a mask (b, k) or columns (j,)
        whose logits are wanted. `table`: `token_embedding()`, if it is known already.
        """
        table = self.token_embedding() if table is None else table
        x = self._hidden(tokens, labels, tasks, table, self.offset_embedding(offsets), kept, context)
        if select is not None:
            x = x[select] if select.dtype == torch.bool else x[:, select]
        return self._logits(x, table)


def nearest_positions(offsets: Tensor, count: int, frames: int, rng: torch.Generator | None = None) -> Tensor:
    """Which `count` positions of `offsets` (b, n, features) a sequence holds: those near the dot, then random ones.

    `frames`: frames of a token. Returns (b, count).
    """
    near = offsets.unflatten(-1, (frames, -1))[..., 0].sum(-1) > 0
    return (near + torch.rand(near.shape, generator=rng).to(near.device)).topk(count, 1).indices


# ---- losses ----


def trajectory_loss(
    model: JointTransformer, trajectories: Tensor, labels: Tensor, tasks: Tensor, track: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of every trajectory token given the coarser ones, in nats a token; and bits a trajectory.

    trajectories (b, frames, 3); labels, tasks (b,); track (b, frames, 5), what is observed.
    """
    tokens = model.trajectory.encode(trajectories)
    logits = model.trajectory_logits(tokens, labels, tasks, track).float()
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    return loss, loss.detach() * model.trajectory.n / math.log(2)


def video_loss(
    model: JointTransformer, tokens: Tensor, trajectories: Tensor, tasks: Tensor, count: int = 64
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of masked video tokens (b, *grid) given the trajectory, in nats; and bits a masked token.

    Each sequence holds `count` positions, for each codebook: those near the dot, and random ones. The rest is
    background.
    """
    tokens, offsets = tokens.flatten(1), model.offsets(trajectories)
    count = min(count * model.num_codebooks, tokens.shape[1])
    kept = nearest_positions(offsets, count, model.spec.frames // model.grid[0])
    rows = torch.arange(len(tokens))[:, None]
    tokens = tokens[rows, kept]
    masked = random_masks(*tokens.shape)
    given = tokens.masked_fill(masked, model.mask_token)
    logits = model.video_logits(given, offsets[rows, kept], None, tasks, kept, masked).float()
    loss = F.cross_entropy(logits, tokens[masked])
    return loss, loss.detach() / math.log(2)
