"""Parallel decoding: all tokens masked, then some unmasked in each step, then Gibbs resampling (MaskGIT, MAGVIT).

`parallel_decode` knows no model: it takes `logits_fn(tokens (b, n), positions (k,)) -> (b, k, codebook_size)`. Below it
stands what `MaskedTransformer` needs: `decode_steps`, `generate` and `complete`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trajlib.data.checks import check_labels, check_probabilities, check_tokens, check_videos, generator
from trajlib.data.spec import LARGEST, check_name, check_number, check_numbers, describe
from trajlib.generation.masks import halton_order, mask_ratio
from trajlib.generation.tasks import TASK_NUMBERS, TASKS, check_task, observed_tokens
from trajlib.generation.tasks import condition as condition_videos
from trajlib.generation.transformer import MaskedTransformer
from trajlib.tokenizer.video_tokenizer import Tokenizer

LogitsFn = Callable[[Tensor, Tensor], Tensor]  # tokens (b, n), positions (k,) -> logits (b, k, codebook_size)
Labels = Tensor | Sequence[int]

# chosen on validation clips, notebook 06
GUIDANCE = 1.0
RESAMPLING_STEPS = 16
RESAMPLE_TEMPERATURE = 0.3
ORDERS = ("halton", "confidence", "sequence")
GROUPS = 8  # Gibbs resampling draws one of so many groups of positions at a time


# ---- small parts ----


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model's weights are. Random numbers come from the CPU everywhere: a seed gives them on any device."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def draw(p: Tensor, rng: torch.Generator) -> Tensor:
    """One index for each distribution p (..., v), drawn by inverting the cumulative sum: (...)."""
    check_probabilities(p)
    cumulative = p.cumsum(-1)
    u = torch.rand(*cumulative.shape[:-1], 1, generator=rng).to(p.device) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, u, right=True)[..., 0].clamp_max(cumulative.shape[-1] - 1)


def gumbel(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Standard Gumbel noise: -log(-log(u)), u uniform."""
    u = torch.rand(tuple(shape), generator=rng).clamp_min(1e-20)
    return -torch.log(-torch.log(u).clamp_max(-1e-20))


def most_confident(confidence: Tensor, unmasked: Tensor, count: Tensor | int) -> Tensor:
    """(b, n) bool: the `count` positions of highest confidence (b, n), those already unmasked before all others."""
    return confidence.masked_fill(unmasked, torch.inf).argsort(1, descending=True).argsort(1) < count


def guided(conditional: LogitsFn, unconditional: LogitsFn, scale: float) -> LogitsFn:
    """Classifier-free guidance: unconditional + scale * (conditional - unconditional).

    0 ignores the condition, 1 is the model as trained; both need one pass instead of two.
    """
    if scale in (0, 1):
        return conditional if scale == 1 else unconditional
    return lambda tokens, positions: unconditional(tokens, positions).lerp(conditional(tokens, positions), scale)


def probabilities(logits_fn: LogitsFn, tokens: Tensor, positions: Tensor, temperature: float) -> Tensor:
    """Of all codes at `positions` (k,): (b, k, codebook_size)."""
    return (logits_fn(tokens, positions).float() / temperature).softmax(-1)


def resample(
    logits_fn: LogitsFn, tokens: Tensor, selected: Tensor, temperature: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the tokens (b, n) again where `selected` (b, n): the new tokens, and their log-probabilities (b, n)."""
    positions = selected.any(0).nonzero()[:, 0]  # the logits are a good part of the work: only those that are needed
    if not len(positions):
        return tokens, torch.zeros(tokens.shape, device=tokens.device)
    p = probabilities(logits_fn, tokens, positions, temperature)
    drawn = draw(p, rng)  # (b, k)
    log_p = p.gather(-1, drawn[..., None])[..., 0].log()
    tokens = torch.where(selected, tokens.index_copy(1, positions, drawn), tokens)
    return tokens, log_p.new_zeros(tokens.shape).index_copy(1, positions, log_p)


# ---- the sampler ----


@torch.no_grad()
def parallel_decode(
    logits_fn: LogitsFn, tokens: Tensor, maskable: Tensor, grid: Sequence[int], *, steps: int = 12,
    schedule: Callable[[float], float] = mask_ratio, order: str = "halton", temperature: float = 1.0,
    choice_temperature: float = 4.5, resampling_steps: int = 0, resample_temperature: float = RESAMPLE_TEMPERATURE,
    resample_logits_fn: LogitsFn | None = None, seed: int = 0, callback: Callable | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """Yield the tokens (b, n) after each of `steps` steps and each of `resampling_steps` Gibbs resampling steps.

    `tokens` (b, n): what the model receives before anything is decoded, mask tokens or a condition's. `maskable` (b, n)
    bool: the tokens to decode; the others stay. `grid`: n tokens as (t, h, w) or (t, h, w, codebooks).

    In each step tokens are drawn at `temperature` and as many are unmasked as `schedule(progress)` says, the share
    still masked. `order` says which. "halton": the next positions of `halton_order`, whatever is drawn there.
    "sequence": as the tokens stand. "confidence" (MaskGIT): the highest log-probability plus Gumbel noise, whose
    scale falls from `choice_temperature` to 0. Background tokens are the most confident ones: this order unmasks much
    background before any object.

    Tokens of one step are drawn independently and do not always agree. Each Gibbs step masks an eighth of the
    positions, spread out, and draws them at `resample_temperature` given all others, from `resample_logits_fn` (by
    default `logits_fn`). Lezama et al. (arXiv 2209.04439) learn which tokens to mask again.

    `callback(unmasked, guess, log_p)` receives after each step, (b, n) each: which tokens are unmasked, these and the
    likeliest codes elsewhere, and their log-probabilities: of an unmasked token that at which it was drawn, NaN if it
    never was. It costs one pass a step and changes nothing. ValueError for steps, an order or a temperature unknown.
    """
    check_number("steps", steps, 1, 10_000, whole=True)
    check_number("resampling_steps", resampling_steps, 0, 10_000, whole=True)
    check_name("order", order, ORDERS)
    check_number("temperature", temperature, 0, above=True)
    check_number("resample_temperature", resample_temperature, 0, above=True)
    grid = check_numbers("grid", grid, 1, whole=True)
    check_tokens(tokens, (math.prod(grid),), LARGEST)
    if getattr(maskable, "dtype", None) != torch.bool or maskable.shape != tokens.shape:
        raise ValueError(f"maskable came as {describe(maskable)}; expected torch.bool {tuple(tokens.shape)}.")
    tokens, n = tokens.long(), tokens.shape[1]
    rng, initial, unmasked = generator(seed), tokens, ~maskable
    log_p = torch.full(tokens.shape, torch.nan, device=tokens.device)
    n_maskable = maskable.sum(1, keepdim=True).double()  # the schedule runs over the tokens to decode
    everywhere = torch.arange(n, device=tokens.device)
    first = everywhere if order == "sequence" else halton_order(grid, seed).to(tokens.device)
    rank = log_p.new_empty(n).scatter(0, first, -everywhere.float()).expand_as(tokens)

    def report() -> None:
        if callback is not None:
            p, likeliest = probabilities(logits_fn, tokens, everywhere, temperature).max(-1)
            callback(unmasked, torch.where(unmasked, tokens, likeliest), torch.where(unmasked, log_p, p.log()))

    for step in range(1, steps + 1):
        count = n - ((schedule(step / steps) * n_maskable).floor() if step < steps else 0)  # unmasked after this step
        if order != "confidence":  # does not depend on what is drawn: draw no more than is needed
            then = most_confident(rank, unmasked, count)
            drawn, drawn_log_p = resample(logits_fn, tokens, then & ~unmasked, temperature, rng)
        else:
            drawn, drawn_log_p = resample(logits_fn, tokens, ~unmasked, temperature, rng)
            noise = choice_temperature * (1 - step / steps) * gumbel(log_p.shape, rng).to(log_p.device)
            then = most_confident(drawn_log_p + noise, unmasked, count)
        new, unmasked = then & ~unmasked, then
        tokens, log_p = torch.where(new, drawn, tokens), torch.where(new, drawn_log_p, log_p)
        report()
        yield tokens
    for k in range(resampling_steps):
        spread = first if order == "sequence" else halton_order(grid, seed + 1 + k // GROUPS).to(tokens.device)
        group = spread[k % GROUPS :: GROUPS] if order == "sequence" else spread.tensor_split(GROUPS)[k % GROUPS]
        selected = torch.zeros_like(maskable).index_fill(1, group, True) & maskable
        masked = torch.where(selected, initial, tokens)
        tokens, drawn_log_p = resample(resample_logits_fn or logits_fn, masked, selected, resample_temperature, rng)
        log_p = torch.where(selected, drawn_log_p, log_p)
        report()
        yield tokens


# ---- with a masked transformer ----


def class_labels(transformer: Any, labels: Labels | None, n: int, each: bool = False) -> Tensor:
    """Checked labels (b,), or `n` times "no class" for None; ValueError for what is not a class of the transformer.

    `each`: there are `n` clips, and a label for each of them is expected.
    """
    if labels is None:
        check_number("n", n, 0, 10**9, whole=True)
        return torch.full((n,), transformer.unconditional, device=device_of(transformer))
    if not transformer.num_classes:
        raise ValueError("labels came, but this transformer has no classes: leave them out and say n=.")
    found = check_labels(labels, transformer.num_classes)
    if each and len(found) != n:
        raise ValueError(f"{len(found)} labels came for {n} clips; one label for each was expected.")
    return found.to(device_of(transformer))


def initial_tokens(
    transformer: MaskedTransformer, n: int, condition: Tensor | None = None, observed: Tensor | None = None,
    refine: bool = True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What decoding of `n` clips starts from: tokens (n, length) and which are decoded, (n, length) bool.

    `condition` (n, *grid) gives the tokens where `observed`, (n, *grid) or (*grid) bool; the others are masked. Without
    `refine` observed tokens stay as they are. ValueError for what is no condition, one with mask tokens included.
    """
    if (condition is None) != (observed is None):
        came, lacking = ("observed", "condition") if condition is None else ("condition", "observed")
        raise ValueError(f"{came} came without {lacking}; encode_condition makes both.")
    tokens = torch.full((n, math.prod(transformer.grid)), transformer.mask_token, device=device_of(transformer))
    if condition is None or observed is None:
        return tokens, torch.ones_like(tokens, dtype=torch.bool)
    check_tokens(condition, transformer.grid, transformer.mask_token, "condition")
    shapes = (tuple(condition.shape), tuple(transformer.grid))
    if len(condition) != n or getattr(observed, "dtype", None) != torch.bool or observed.shape not in shapes:
        came = f"condition of {len(condition)} clips and observed {describe(observed)} came"
        raise ValueError(f"{came}; expected {n} clips, and torch.bool of {shapes[0]} or {shapes[1]}.")
    observed, condition = (x.to(tokens.device) for x in (observed.expand_as(condition), condition))
    observed = observed.flatten(1)
    return torch.where(observed, condition.flatten(1), tokens), ~observed | refine


def decode_steps(
    transformer: MaskedTransformer, labels: Labels | None = None, steps: int = 12, guidance: float = GUIDANCE,
    seed: int = 0, resampling_steps: int = 0, task: str = "CG", condition: Tensor | None = None,
    observed: Tensor | None = None, refine: bool = True, n: int = 1, **kwargs: Any,
) -> Iterator[Tensor]:  # fmt: skip
    """`parallel_decode` with a `MaskedTransformer`: yield the tokens (b, length) after each step.

    labels (b,): class indices; None for no class, then `n` clips, or as many as the condition has. A task without
    classes ignores labels and guidance. `condition`, `observed`: see `encode_condition`. Observed tokens are decoded
    again in their turn, unless `refine` is False. Gibbs resampling uses a guidance of at most 1. `kwargs` go to
    `parallel_decode`.
    """
    check_number("guidance", guidance)
    if TASK_NUMBERS[check_task(task)] >= transformer.num_tasks:
        raise ValueError(f"task {task!r} was added after this transformer was built: it must be trained with it.")
    if condition is None and task != "CG":
        raise ValueError(f"task {task!r} completes what it observes, and nothing came: encode_condition makes it.")
    classes = class_labels(transformer, labels, [*getattr(condition, "shape", ()), n][0])  # no tensor: refused below
    free = torch.full_like(classes, transformer.unconditional)
    if not TASKS[task].labelled or labels is None:
        classes, guidance = free, 1
    numbers = torch.full_like(classes, TASK_NUMBERS[task])
    tokens, maskable = initial_tokens(transformer, len(classes), condition, observed, refine)
    both = transformer.logits_fn(classes, numbers), transformer.logits_fn(free, numbers)
    main, resampling = (guided(*both, scale) for scale in (guidance, min(guidance, 1)))
    kwargs |= {"steps": steps, "seed": seed, "resampling_steps": resampling_steps, "resample_logits_fn": resampling}
    return parallel_decode(main, tokens, maskable, transformer.grid, **kwargs)


def generate(
    transformer: MaskedTransformer, labels: Labels | None = None, steps: int = 12, guidance: float = GUIDANCE,
    seed: int = 0, resampling_steps: int = RESAMPLING_STEPS, **kwargs: Any,
) -> Tensor:  # fmt: skip
    """New clips as tokens (b, *grid) for `labels` (b,), class indices, or without classes; a seed gives its tokens.

    `kwargs` go to `decode_steps`: a task with its condition, the order, `n` without labels. `tokenizer.decode` turns
    the tokens into videos. ValueError for labels, a task or settings that are unknown.
    """
    *_, tokens = decode_steps(transformer, labels, steps, guidance, seed, resampling_steps, **kwargs)
    return tokens.unflatten(1, transformer.grid)


@torch.no_grad()
def encode_condition(tokenizer: Tokenizer, videos: Tensor, task: str, frames: int = 1) -> dict[str, Any]:
    """{"task", "condition", "observed"} for `decode_steps`, from the observed pixels of `videos` (b, 3, t, s, s)."""
    check_videos(videos, tokenizer.spec)  # here, since not every condition keeps what is wrong with them
    tokens = tokenizer.encode(condition_videos(videos, task, frames))
    observed = observed_tokens(task, tokenizer.token_shape, frames, tokenizer.spec).to(tokens.device)
    return {"task": task, "condition": tokens, "observed": observed}


def complete(
    transformer: MaskedTransformer, tokenizer: Tokenizer, videos: Tensor, task: str, labels: Labels | None = None,
    frames: int = 1, **kwargs: Any,
) -> Tensor:  # fmt: skip
    """Whole clips as tokens (b, *grid) from the pixels of `videos` (b, 3, t, s, s) that a task observes.

    `labels` (b,) for the tasks with a class, else None. `frames`: how many are observed, where a task observes the
    first ones. `kwargs` go to `generate`.
    """
    return generate(transformer, labels, **encode_condition(tokenizer, videos, task, frames), **kwargs)
