"""Iterative parallel decoding: all tokens hidden, then some are kept, step by step (MaskGIT, MAGVIT)."""

import math

import torch

from trajlib import FAMILIES
from trajlib.masks import mask_ratio


def guided_logits(transformer, tokens, labels, guidance):
    """Unconditional + guidance x (conditional - unconditional): 0 ignores the class, 1 is the model as trained."""
    if guidance == 1:
        return transformer(tokens, labels)
    free = transformer(tokens, torch.full_like(labels, transformer.unconditional))
    if guidance == 0:
        return free
    return free + guidance * (transformer(tokens, labels) - free)


@torch.no_grad()
def decode_steps(transformer, labels, steps=12, guidance=1.5, temperature=1.0, choice=400.0, seed=0):
    """Yield the tokens (b, n) after each step, mask_token where still hidden; the last have none.

    Every hidden token is sampled (at `temperature`); its confidence is its log-probability plus Gumbel noise of weight
    `choice`, which falls to 0; the least sure, as many as the cosine schedule says, are hidden again. A mild `choice`
    keeps white paper first, the surest word there is, and no place is left for the dot: hence MAGVIT's strongest, 400.
    """
    labels = check_labels(labels)
    if steps < 1:
        raise ValueError(f"steps is {steps}; decoding needs at least one.")
    transformer.eval()
    n = math.prod(transformer.grid)
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(labels), n), transformer.mask_token)
    for step in range(1, steps + 1):
        hidden = tokens == transformer.mask_token
        log_p = (guided_logits(transformer, tokens, labels, guidance).float() / temperature).log_softmax(-1)
        drawn = (log_p + gumbel(log_p.shape, rng)).argmax(-1)  # the Gumbel trick: a sample of softmax
        tokens = torch.where(hidden, drawn, tokens)
        sure = log_p.gather(-1, drawn[..., None])[..., 0] + choice * (1 - step / steps) * gumbel(drawn.shape, rng)
        sure = sure.masked_fill(~hidden, torch.inf)  # what was kept stays
        count = math.floor(mask_ratio(step / steps) * n) if step < steps else 0
        again = sure.argsort(1)[:, :count]
        tokens = tokens.scatter(1, again, transformer.mask_token)
        yield tokens


def generate(transformer, labels, steps=12, guidance=1.5, seed=0, **kwargs):
    """New clips as tokens (b, 8, 4, 4) for `labels` (b,), indices into FAMILIES; the same seed gives the same tokens.

    `kwargs` go to `decode_steps`. Turn the tokens into a video with `tokenizer.decode`.
    """
    *_, tokens = decode_steps(transformer, labels, steps=steps, guidance=guidance, seed=seed, **kwargs)
    return tokens.unflatten(1, transformer.grid)


def gumbel(shape, rng):
    """Standard Gumbel noise from a generator: -log(-log(u))."""
    u = torch.rand(shape, generator=rng).clamp_min(1e-20)
    return -torch.log(-torch.log(u).clamp_max(-1e-20))


def check_labels(labels):
    """Class indices as an int64 tensor (b,), or a ValueError that says what they must be."""
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or labels.is_floating_point() or labels.numel() == 0:
        raise ValueError(f"labels came as {labels.dtype} {tuple(labels.shape)}; expected whole numbers of shape (b,).")
    if labels.min() < 0 or labels.max() >= len(FAMILIES):
        names = ", ".join(f"{i} {name}" for i, name in enumerate(FAMILIES))
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; the classes are {names}.")
    return labels.long()
