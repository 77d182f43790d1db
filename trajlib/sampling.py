"""Iterative parallel decoding for COMMIT's tasks: all hidden, then some are settled, step by step (MaskGIT, MAGVIT)."""

import math
import zlib

import numpy as np
import torch
from torch import nn

from trajlib import FAMILIES
from trajlib.masks import halton_order, mask_ratio
from trajlib.tasks import NUMBERS, TASKS, check, condition, given_tokens
from trajlib.tokenizer import WHOLE, check_videos

# chosen on validation clips, notebook 06
GUIDANCE = 1.0
CORRECTIONS = 16
COOL = 0.3


def guided_logits(transformer, tokens, labels, guidance, tasks=None, only=None):
    """Unconditional + guidance x (conditional - unconditional): 0 ignores the class, 1 is the model as trained."""
    if guidance == 1:
        return transformer(tokens, labels, tasks, only)
    free = transformer(tokens, torch.full_like(labels, transformer.unconditional), tasks, only)
    if guidance == 0:
        return free
    return free.lerp(transformer(tokens, labels, tasks, only), guidance)


@torch.no_grad()
def decode_steps(
    transformer, labels, steps=12, guidance=GUIDANCE, seed=0, task="CG", start=None, given=None, refine=True,
    order="halton", temperature=1.0, choice=4.5, corrections=0, watch=None,
):  # fmt: skip
    """Yield the tokens (b, n) after each step and each correction, mask_token where still hidden.

    `start` (b, 8, 4, 4) and `given` (b, 8, 4, 4) or (8, 4, 4) bool: a condition's tokens and where they count, see
    `commit_start`; without, nothing is given. Given tokens are written anew in their turn, unless `refine` is False.

    In each step tokens are drawn (at `temperature`) and settled, as many as the cosine schedule says. `order` says
    which. "halton": the next places of a spread-out order, whatever is drawn there. "confidence" (MaskGIT, MAGVIT):
    those whose log-probability is highest of all that were drawn, plus Gumbel noise of weight `choice` that falls to 0.
    White paper is the surest word there is, so the latter settles much paper before it settles any dot.

    Tokens of one step are drawn without knowing of each other, and do not always agree. So in each of the `corrections`
    that follow, an eighth of the places, spread out, is hidden once more and drawn anew in view of all the others, at a
    temperature of COOL: Gibbs sampling, cooled. (Lezama et al., arXiv 2209.04439, learn which tokens to take back.)

    `watch(settled, guess, log_p)` hears of each step what is settled, the likeliest word for what is not, and the
    log-probability of each, (b, n): of a settled one when it was drawn, for afterwards the model sees it; NaN if it
    never was. It costs a pass a step, and changes nothing.
    """
    labels = check_labels(labels)
    if steps < 1:
        raise ValueError(f"steps is {steps}; decoding needs at least one.")
    if order not in ("halton", "confidence"):
        raise ValueError(f"order is {order!r}; it must be 'halton' or 'confidence'.")
    check_strengths(guidance, temperature)
    if (start is None) != (given is None):
        came, lacking = ("given", "start") if start is None else ("start", "given")
        raise ValueError(f"{came} came without {lacking}; a condition is both: commit_start makes them.")
    tasks = torch.full_like(labels, NUMBERS[check(task)])
    if not TASKS[task].labelled:
        labels, guidance = torch.full_like(labels, transformer.unconditional), 1
    transformer.eval()
    n = math.prod(transformer.grid)
    rng = torch.Generator().manual_seed(seed)
    hidden = torch.full((len(labels), n), transformer.mask_token)
    settled = torch.zeros_like(hidden, dtype=torch.bool)
    if start is not None:
        given = given.expand_as(start).flatten(1)
        hidden, settled = torch.where(given, start.flatten(1), hidden), given & (not refine)
    rank = torch.empty(n).scatter(0, halton_order(transformer.grid, seed), -torch.arange(n).float()).expand_as(hidden)
    tokens, writable, sure = hidden, ~settled, torch.full(hidden.shape, torch.nan)
    n_open = writable.sum(1, keepdim=True).double()  # the schedule runs over what is to be written

    def words(only, guidance, temperature):
        """Probabilities of all words at the places `only` (k,): (b, k, codebook_size)."""
        return (guided_logits(transformer, tokens, labels, guidance, tasks, only).float() / temperature).softmax(-1)

    def drawn(places, guidance, temperature):
        """Tokens with `places` (b, n) drawn, and the log-probabilities of what was drawn there."""
        only = places.any(0).nonzero()[:, 0]  # the words' scores are a good part of the work
        p = words(only, guidance, temperature)
        found = draw(p, rng)  # (b, k)
        log_p = p.gather(-1, found[..., None])[..., 0].log()
        found = torch.where(places, tokens.index_copy(1, only, found), tokens)
        return found, torch.zeros(tokens.shape).index_copy(1, only, log_p)

    def show():
        if watch is not None:
            p, likeliest = words(torch.arange(n), guidance, temperature).max(-1)
            watch(settled, torch.where(settled, tokens, likeliest), torch.where(settled, sure, p.log()))

    for step in range(1, steps + 1):
        count = n - ((mask_ratio(step / steps) * n_open).floor() if step < steps else 0)  # settled after this step
        if order == "halton":  # whose turn it is does not hang on what is drawn
            due = surest(rank, settled, count)
            found, log_p = drawn(due & ~settled, guidance, temperature)
        else:
            found, log_p = drawn(~settled, guidance, temperature)
            due = surest(log_p + choice * (1 - step / steps) * gumbel(log_p.shape, rng), settled, count)
        new = due & ~settled
        tokens, sure, settled = torch.where(new, found, tokens), torch.where(new, log_p, sure), due
        show()
        yield tokens
    for k in range(corrections):
        part = halton_order(transformer.grid, seed + 1 + k // 8).chunk(8)[k % 8]
        places = torch.zeros_like(settled).index_fill(1, part, True) & writable
        tokens = torch.where(places, hidden, tokens)  # MASK, or what the condition says there
        tokens, log_p = drawn(places, min(guidance, 1), COOL)
        sure = torch.where(places, log_p, sure)
        show()
        yield tokens


def surest(sure, settled, count):
    """(b, n) bool: the `count` places of the highest `sure` (b, n), and before all what is settled."""
    return sure.masked_fill(settled, torch.inf).argsort(1, descending=True).argsort(1) < count


def generate(transformer, labels, steps=12, guidance=GUIDANCE, seed=0, corrections=CORRECTIONS, **kwargs):
    """New clips as tokens (b, 8, 4, 4) for `labels` (b,), indices into FAMILIES; the same seed gives the same tokens.

    `kwargs` go to `decode_steps`: a task with its condition, the order. Turn the tokens into a video with
    `tokenizer.decode`.
    """
    settings = {"steps": steps, "guidance": guidance, "seed": seed, "corrections": corrections}
    *_, tokens = decode_steps(transformer, labels, **settings, **kwargs)
    return tokens.unflatten(1, transformer.grid)


class Samples(nn.Module):
    """Clips that a transformer wrote, kept as their tokens (n, 8, 4, 4), class `k % 4` in the k-th place.

    A module, so that they are stored, checked and found like anything else that takes minutes to make. Most tokens are
    paper: zlib packs them into a quarter of what two bytes a token would take.
    """

    def __init__(self, n, grid, size):
        super().__init__()
        self.config = {"n": n, "grid": grid, "size": size}
        self.register_buffer("packed", torch.zeros(size, dtype=torch.uint8))
        self.register_buffer("labels", torch.arange(n) % len(FAMILIES), persistent=False)

    @classmethod
    def of(cls, tokens):
        """Tokens (n, 8, 4, 4) below 32,768, packed."""
        packed = np.frombuffer(zlib.compress(tokens.numpy().astype("<i2").tobytes(), 9), np.uint8)
        kept = cls(len(tokens), tuple(tokens.shape[1:]), len(packed))
        kept.packed.copy_(torch.from_numpy(packed.copy()))
        return kept

    @property
    def tokens(self):
        """(n, 8, 4, 4) int64."""
        words = np.frombuffer(zlib.decompress(self.packed.numpy().tobytes()), "<i2").astype(np.int64)
        return torch.from_numpy(words).view(-1, *self.config["grid"])


@torch.no_grad()
def commit_start(tokenizer, videos, task, frames=1):
    """What decoding starts from: {"task", "start", "given"} for `decode_steps`, from the given pixels of `videos`."""
    check_videos(videos)  # here, for not every condition keeps what is wrong with them
    start = tokenizer.encode(condition(videos, task, frames))
    return {"task": task, "start": start, "given": given_tokens(task, frames, tokenizer.grid)}


def complete(transformer, tokenizer, videos, task, labels=None, frames=1, **kwargs):
    """Videos (b, 3, 16, 64, 64), of which a task gives some pixels -> tokens (b, 8, 4, 4) of whole clips."""
    labels = torch.zeros(len(videos), dtype=torch.long) if labels is None else labels
    return generate(transformer, labels, **commit_start(tokenizer, videos, task, frames), **kwargs)


def draw(p, rng):
    """Probabilities (..., n) -> one of the n, by its probability, (...): where a dart hits the bar of them all."""
    bar = p.cumsum(-1)
    dart = torch.rand(*bar.shape[:-1], 1, generator=rng) * bar[..., -1:]
    return torch.searchsorted(bar, dart, right=True)[..., 0].clamp_max(bar.shape[-1] - 1)


def gumbel(shape, rng):
    """Standard Gumbel noise from a generator: -log(-log(u))."""
    u = torch.rand(shape, generator=rng).clamp_min(1e-20)
    return -torch.log(-torch.log(u).clamp_max(-1e-20))


def check_labels(labels):
    """Class indices as an int64 tensor (b,), or a ValueError that says what they must be."""
    names = ", ".join(f"{i} {name}" for i, name in enumerate(FAMILIES))
    try:
        labels = torch.as_tensor(labels)
        came = f"{labels.dtype} {tuple(labels.shape)}"
    except (TypeError, ValueError, RuntimeError):  # torch's, about names, None, or numbers of too many digits
        labels, came = torch.empty(0), type(labels).__name__
    if labels.ndim != 1 or labels.dtype not in WHOLE or labels.numel() == 0:
        raise ValueError(f"labels came as {came}; expected whole numbers of shape (b,), int64: {names}.")
    if labels.min() < 0 or labels.max() >= len(FAMILIES):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; the classes are {names}.")
    return labels.long()


def check_strengths(guidance, temperature):
    """ValueError unless words can be drawn with these; NaN would draw the codebook's last word everywhere."""
    try:
        finite, above = math.isfinite(guidance), temperature > 0  # NaN is not above 0, either
    except TypeError:
        raise ValueError(f"guidance is {guidance!r}, temperature {temperature!r}; numbers were expected.") from None
    if not finite:
        raise ValueError(f"guidance is {guidance}; it must be a finite number.")
    if not above:
        raise ValueError(f"temperature is {temperature}; it must be above 0.")
