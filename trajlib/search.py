"""Tokens looked for, where an encoder or a writer has only guessed: a few gradient steps through the decoder.

An encoder that must say the codes of any clip at once says good ones, not the best; what it loses is the amortization
gap (Cremer et al., arXiv 1801.03558). Who has the time can search on from its guess, clip by clip, as learned image
codecs do (Campos et al., arXiv 1906.01223; Yang et al., arXiv 2006.04240). Tokenizer and tokens stay what they are.
"""

import torch
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ

from trajlib.metrics import INK

MOMENTUM = 0.5


@torch.enable_grad()
def refined(tokenizer, tokens, miss, steps=20, rate=0.3):
    """Tokens (b, 8, 4, 4) of which `miss(films (b, 3, 16, 64, 64) in [0, 1])` -> (b,) is less, and what it is for them.

    Of tokens whose own pixels hold ink in the film that they make; paper keeps its words. Each of FSQ's digits is moved
    against its gradient, which passes straight through the rounding: in a step, the digit of a clip that pulls most
    goes `rate` of the way to its neighbour, others less, with MOMENTUM. The best tokens met are kept, so nothing gets
    worse; where `miss` is not finite, nothing moves. ValueError if the tokenizer has no FSQ.
    """
    fsq = tokenizer.net.quantizers
    if not isinstance(fsq, FSQ):
        raise ValueError(f"a search moves the digits of FSQ, and this tokenizer has a {type(fsq).__name__}.")
    with torch.no_grad():
        ink = (1 - tokenizer.decode(tokens)).amax(1)
        free = (F.adaptive_max_pool3d(ink, tokenizer.grid) > INK)[..., None]
    top, half = fsq._levels - 1, fsq._levels // 2
    digits = fsq.indices_to_level_indices(tokens).float()  # (b, 8, 4, 4, d), in 0 .. top
    best, least = tokens.clone(), torch.full((len(tokens),), torch.inf, device=tokens.device)
    pull = torch.zeros_like(digits)
    for step in range(steps + 1):
        whole = digits.round().requires_grad_()
        codes = (whole - half) / half
        misses = miss(tokenizer.pixels(fsq.project_out(codes).movedim(-1, 1)).float().clamp(0, 1))
        better = misses.detach() < least
        least[better], best[better] = misses.detach()[better], fsq.codes_to_indices(codes.detach())[better].long()
        if step < steps:
            (slope,) = torch.autograd.grad(misses.nan_to_num(0, 0, 0).sum(), whole)
            slope = slope.nan_to_num() * free
            pull = MOMENTUM * pull + slope / slope.abs().amax((1, 2, 3, 4), keepdim=True).clamp_min(1e-12)
            digits = torch.minimum((digits - rate * pull).clamp(min=0), top)
    return best, least
