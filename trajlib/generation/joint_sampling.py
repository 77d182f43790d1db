"""New clips and completed clips: the trajectory coarse to fine, then the video in parallel steps.

`generate` and `complete` take either kind of transformer: with a `JointTransformer` the trajectory comes first; with a
plain `MaskedTransformer` they are those of `sampling`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trajlib.data.checks import check_videos, generator
from trajlib.data.measure import track_centroid
from trajlib.data.spec import check_number, check_numbers
from trajlib.generation import sampling
from trajlib.generation.joint import JointTransformer, nearest_positions
from trajlib.generation.masks import halton_order
from trajlib.generation.observed_track import observe_track
from trajlib.generation.sampling import Labels, class_labels, draw, encode_condition
from trajlib.generation.tasks import TASK_NUMBERS, TASKS, check_task, region
from trajlib.generation.trajectory_tokens import inside_picture
from trajlib.generation.transformer import MaskedTransformer, evaluating
from trajlib.tokenizer.video_tokenizer import Tokenizer

# chosen on validation clips
GUIDANCE = 1.5
# of the trajectory tokens, coarse to fine: variety first, then precision
TEMPERATURE = (1.0,) * 6 + (0.3,) * 16
VIDEO_TEMPERATURE = 0.5
COMPLETION_TEMPERATURE = (0.5,)
POSITIONS = 64  # of the grid, the nearest to the dot, that are decoded in steps; the background follows in one
TRIES = 3  # a trajectory that leaves the picture is drawn again
MAX_CONTRADICTIONS = 4  # observed pixels, beyond the least, that may contradict a completed trajectory
DRAFTS = 4  # videos along one trajectory, of which one stays
SEED_STEP = 1_000_003  # between the seeds of drafts, which thus are those of no other batch


@torch.no_grad()
def sample_trajectories(
    transformer: JointTransformer, labels: Labels | None = None, n: int = 1, guidance: float = GUIDANCE,
    temperature: Sequence[float] = TEMPERATURE, seed: int = 0, task: str = "CG", track: Tensor | None = None,
    context: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Trajectories (b, frames, 3) in pixels for `labels` (b,), or `n` of no class; a seed gives its trajectories.

    `temperature`: of the tokens, coarse to fine; a shorter or longer sequence is stretched. `track` (b, frames, 5):
    what is observed, see `observed_track`. `context` (2, b, k, dim): vectors after the prefix, such as those of
    sentences, and the same of none, from which guidance leads away. ValueError for labels, a task or settings that
    are unknown.
    """
    n = n if track is None else len(track)
    classes = class_labels(transformer, labels, n if context is None else context.shape[1], track is not None)
    check_number("guidance", guidance)
    temperature = check_numbers("temperature", temperature, 0, above=True)
    tasks = torch.full_like(classes, TASK_NUMBERS[check_task(task)])
    rng, coding = generator(seed), transformer.trajectory
    temperatures = [temperature[k * len(temperature) // coding.n] for k in range(coding.n)]
    tokens, left = classes.new_zeros(len(classes), coding.n), torch.arange(len(classes), device=classes.device)
    with evaluating(transformer):
        for _ in range(TRIES):
            found, part = tokens[left], None if track is None else track[left]
            observed = None if part is None else transformer.observe(part)
            free = torch.full_like(classes[left], transformer.unconditional)
            for k in range(coding.n):
                given = (tasks[left], part, k, observed)
                words, without = (None, None) if context is None else context[:, left]
                logits = transformer.trajectory_logits(found, classes[left], *given, words)[:, 0].log_softmax(-1)
                if guidance != 1 and (labels is not None or context is not None):
                    unconditional = transformer.trajectory_logits(found, free, *given, without)[:, 0].log_softmax(-1)
                    logits = unconditional.lerp(logits, guidance)
                found[:, k] = draw((logits / temperatures[k]).softmax(-1), rng)
            tokens[left] = found
            left = left[~inside_picture(coding.decode(found), transformer.spec.size)]
            if len(left) == 0:
                break
    return coding.decode(tokens)


@torch.no_grad()
def decode_video(
    transformer: JointTransformer, trajectories: Tensor, condition: Tensor | None = None,
    observed: Tensor | None = None, seed: int = 0, steps: int = 12, resampling_steps: int = 16,
    temperature: float = VIDEO_TEMPERATURE, context: Tensor | None = None, **kwargs: Any,
) -> Tensor:  # fmt: skip
    """Video tokens (b, *grid) along trajectories (b, frames, 3) in pixels.

    First the positions nearest to the dot, in Halton order (see `parallel_decode`, which `kwargs` go to); then, in one
    step, the background. `condition` (b, *grid) gives tokens that are kept where `observed` (b, *grid) or (*grid) bool.
    `context` (b, k, dim): vectors after the prefix.
    """
    transformer.trajectory.encode(trajectories)  # a ValueError says what is wrong with them
    b, n = len(trajectories), math.prod(transformer.grid)
    rng, count = generator(seed), min(POSITIONS * transformer.num_codebooks, n)
    tokens, maskable = sampling.initial_tokens(transformer, b, condition, observed, refine=False)
    offsets = transformer.offsets(trajectories)
    kept = nearest_positions(offsets, count, transformer.spec.frames // transformer.grid[0], rng)
    rank = halton_order(transformer.grid, seed).argsort().to(kept.device)
    kept = kept.gather(1, rank[kept].argsort(1))  # (b, count), in Halton order
    rows = torch.arange(b, device=kept.device)[:, None]
    near, table = offsets[rows, kept], transformer.token_embedding()

    def logits_fn(tokens: Tensor, positions: Tensor) -> Tensor:
        with evaluating(transformer):
            return transformer.video_logits(tokens, near, kept=kept, select=positions, context=context, table=table)

    *_, part = sampling.parallel_decode(
        logits_fn, tokens[rows, kept], maskable[rows, kept], (count,), steps=steps, order="sequence",
        resampling_steps=resampling_steps, temperature=temperature, seed=seed, **kwargs,
    )  # fmt: skip
    tokens = tokens.scatter(1, kept, part)
    masked = tokens == transformer.mask_token
    if masked.any():
        with evaluating(transformer):
            logits = transformer.video_logits(tokens, offsets, select=masked, context=context, table=table).float()
        tokens[masked] = draw(logits.softmax(-1), rng)
    return tokens.unflatten(1, transformer.grid)


def trajectory_error(videos: Tensor, trajectories: Tensor) -> Tensor:
    """How far the dot in videos (b, 3, frames, s, s) is from trajectories (b, frames, 3), in pixels (b,).

    The root mean square over the frames, where a frame without a dot counts `s`, plus the largest share of a frame's
    darkness that is farther from the trajectory than three radii: a second dot.
    """
    along = torch.arange(videos.shape[-1], device=videos.device)
    x, y, radius = trajectories[..., None, None].unbind(2)
    dark = (1 - videos).mean(1)
    dark = dark * (dark > 0.1 * dark.amax((-1, -2), keepdim=True))
    astray = (dark * ((along - x) ** 2 + (along[:, None] - y) ** 2 > (3 * radius) ** 2)).sum((-1, -2))
    off = (track_centroid(videos)[0] - trajectories[..., :2]).norm(dim=-1).nan_to_num(nan=videos.shape[-1])
    return off.square().mean(1).sqrt() + (astray / dark.sum((-1, -2)).clamp_min(1e-6)).amax(1)


@torch.no_grad()
def best_draft(
    transformer: JointTransformer, tokenizer: Tokenizer, trajectories: Tensor, drafts: int = DRAFTS, seed: int = 0,
    **kwargs: Any,
) -> Tensor:  # fmt: skip
    """`decode_video` so often, with other seeds: of each clip the draft of least `trajectory_error`; (b, *grid).

    The first draft is that of `seed`. No class and no true trajectory takes part.
    """
    check_number("drafts", drafts, 1, 1000, whole=True)
    check_number("seed", seed, 0, whole=True)
    several = [decode_video(transformer, trajectories, seed=seed + k * SEED_STEP, **kwargs) for k in range(drafts)]
    off = torch.stack([trajectory_error(tokenizer.decode(tokens).float(), trajectories) for tokens in several])
    return torch.stack(several)[off.argmin(0), torch.arange(len(trajectories))]


def generate(
    transformer: MaskedTransformer, labels: Labels | None = None, seed: int = 0, n: int = 1,
    tokenizer: Tokenizer | None = None, **kwargs: Any,
) -> Tensor:  # fmt: skip
    """New clips as tokens (b, *grid) for `labels` (b,), class indices, or `n` without a class; a seed gives its tokens.

    With a `JointTransformer`: `guidance` goes to `sample_trajectories`, all else to `decode_video`, or to `best_draft`
    if a `tokenizer` is given: slower, and the dot follows its trajectory more closely. With a plain one, see
    `sampling.generate`. `tokenizer.decode` turns the tokens into videos. ValueError for unknown labels or settings.
    """
    if not isinstance(transformer, JointTransformer):
        if tokenizer is not None:
            raise ValueError("a tokenizer came, but a transformer without trajectories has no draft to choose by.")
        return sampling.generate(transformer, labels, seed=seed, n=n, **kwargs)
    trajectories = sample_trajectories(transformer, labels, n, kwargs.pop("guidance", GUIDANCE), seed=seed)
    if tokenizer is None:
        return decode_video(transformer, trajectories, seed=seed, **kwargs)
    return best_draft(transformer, tokenizer, trajectories, seed=seed, **kwargs)


# ---- completing what is observed ----


def complete_trajectories(
    transformer: JointTransformer, videos: Tensor, task: str, labels: Labels | None = None, frames: int = 1,
    draws: int = 16, seed: int = 0, temperature: Sequence[float] = COMPLETION_TEMPERATURE, **kwargs: Any,
) -> Tensor:  # fmt: skip
    """Draws (draws, b, frames, 3) of whole trajectories, given the pixels of `videos` that a task observes.

    `labels` (b,) are used by the tasks with a class. `kwargs` go to `sample_trajectories`.
    """
    check_videos(videos, transformer.spec)
    check_number("draws", draws, 1, 10_000, whole=True)
    track = observe_track(videos, region(task, transformer.spec, frames).to(videos.device)).repeat(draws, 1, 1)
    given = labels if TASKS[task].labelled else None
    classes = None if given is None else class_labels(transformer, given, len(videos), True).repeat(draws)
    kwargs |= {"seed": seed, "task": task, "track": track, "temperature": temperature}
    return sample_trajectories(transformer, classes, **kwargs).unflatten(0, (draws, -1))


def contradictions(trajectories: Tensor, videos: Tensor, region: Tensor) -> Tensor:
    """In how many observed pixels trajectories (b, frames, 3) and videos disagree on whether the dot is there, (b,).

    A frame whose observed pixels show no dot counts, too: the dot must then be in the masked part.
    """
    shown = torch.where(region, videos, 1.0)
    dark = 1 - shown.amin(1)
    foreground = dark > 0.5 * dark.amax((1, 2, 3))[:, None, None, None]
    x, y, radius = trajectories[..., None, None].unbind(2)
    along = torch.arange(videos.shape[-1], device=videos.device)
    dot = (along - x) ** 2 + (along[:, None] - y) ** 2 < radius**2
    return ((dot != foreground) & region).sum((1, 2, 3))


def medoid(draws: Tensor, contradicted: Tensor) -> Tensor:
    """Of draws (k, b, frames, 3) the one that has the least mean distance to the others, (b, frames, 3).

    Only draws contradicted (k, b) in at most MAX_CONTRADICTIONS pixels more than the least count. A medoid is a path
    that the model drew; the mean of several possible paths need not be one.
    """
    allowed = contradicted <= contradicted.amin(0) + MAX_CONTRADICTIONS
    distance = (draws[:, None] - draws)[..., :2].norm(dim=-1).mean(-1)  # (k, k, b) px
    best = (distance * allowed).sum(1).masked_fill(~allowed, torch.inf).argmin(0)
    return draws[best, torch.arange(draws.shape[1], device=draws.device)]


def complete(
    transformer: MaskedTransformer, tokenizer: Tokenizer, videos: Tensor, task: str, labels: Labels | None = None,
    frames: int = 1, draws: int = 16, seed: int = 0, **kwargs: Any,
) -> Tensor:  # fmt: skip
    """Whole clips as tokens (b, *grid) from the pixels of `videos` (b, 3, t, s, s) that a task observes.

    With a `JointTransformer`, the medoid of `draws` completed trajectories, then the video along it; tokens whose own
    pixels are all observed are kept, and `kwargs` go to `best_draft`. With a plain one, see `sampling.complete`.
    """
    if not isinstance(transformer, JointTransformer):
        return sampling.complete(transformer, tokenizer, videos, task, labels, frames, seed=seed, **kwargs)
    found = complete_trajectories(transformer, videos, task, labels, frames, draws, seed)
    seen = region(task, transformer.spec, frames).to(videos.device)
    against = torch.stack([contradictions(part, videos, seen) for part in found])
    condition = encode_condition(tokenizer, videos, task, frames)["condition"]
    whole = F.adaptive_max_pool3d((~seen)[None].float(), transformer.grid[:3])[0] == 0
    whole = whole.view(*whole.shape, *[1] * (len(transformer.grid) - 3)).expand(transformer.grid)
    kept = {"condition": condition, "observed": whole}
    return best_draft(transformer, tokenizer, medoid(found, against), seed=seed, **kept, **kwargs)
