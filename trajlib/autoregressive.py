"""An autoregressive decoder over the same tokens: one word after another, each from all those before it.

It is what MAGVIT's parallel decoding is measured against, and the entropy model of `trajlib.coder`. A clip is the
sequence [class word, token 0 ... token 127], tokens in raster order (t, y, x).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from x_transformers import Decoder, TransformerWrapper

from trajlib import FAMILIES
from trajlib.sampling import check_labels, check_strengths, draw
from trajlib.transformer import Words, frequencies


class Autoregressive(nn.Module):
    """x-transformers' decoder, as wide and as deep as `MaskedTransformer`, with its key-value cache.

    Vocabulary: the codebook's words from 0 on, the classes from codebook_size on, "no class" (`unconditional`, counted
    from there), and `more` words for whatever is to be read or written beside the video one day.
    """

    def __init__(self, levels, grid=(8, 4, 4), dim=160, depth=6, heads=5, dropout=0.0, more=0):
        super().__init__()
        self.config = {"levels": levels, "grid": grid, "dim": dim, "depth": depth, "heads": heads}
        self.config |= {"dropout": dropout, "more": more}
        self.codebook_size = math.prod(levels)
        self.unconditional = len(FAMILIES)
        self.grid, n = tuple(grid), math.prod(grid)
        self.words = Words(levels, dim, more=len(FAMILIES) + 1 + more)
        # `following` hands both ends of the network the same table of words: the embedding is tied to the output.
        # Where a token stands is learnt, place by place; how far back another one is comes from the rotation
        self.net = TransformerWrapper(
            num_tokens=len(self.words.own.weight), max_seq_len=n + 1, token_emb=F.embedding, to_logits=F.linear,
            attn_layers=Decoder(
                dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, attn_flash=True, use_rmsnorm=True,
                rotary_pos_emb=True, rotary_emb_dim=dim // heads, disable_abs_pos_emb=False, verbose=False,
                attn_dropout=dropout, ff_dropout=dropout,
            ),
        )  # fmt: skip
        rotation = self.net.attn_layers.rotary_pos_emb
        speeds = rotation.inv_freq
        del rotation.inv_freq  # constants: stored with the weights, they would be rounded to float16
        rotation.register_buffer("inv_freq", speeds, persistent=False)
        self.bias = nn.Parameter(torch.zeros(self.codebook_size))  # see start_from

    @torch.no_grad()
    def start_from(self, tokens):
        """Begin with the tokens' frequencies as the guess, as `MaskedTransformer.start_from` does."""
        self.bias.copy_(frequencies(tokens, self.codebook_size))

    def forward(self, tokens, labels):
        """Tokens (b, n), labels (b,) -> logits (b, n, codebook_size) of each from the class and those before it."""
        return self.following(torch.cat([self.start(labels), tokens[:, :-1]], 1), self.words())[0]

    def start(self, labels):
        """Labels (b,) -> the words (b, 1) that a clip begins with."""
        return self.codebook_size + labels[:, None]

    def following(self, words, table, cache=None):
        """Words (b, m), which come after those in the cache -> logits (b, m, codebook_size) of what follows each.

        `table` is `self.words()`, which costs as much as a step and stays the same for all. Returns the logits and the
        cache for the next call. What follows is a token of the video: other words get no share of the probability.
        """
        logits, cache = self.net(
            words, cache=cache, input_not_include_cache=True, return_intermediates=True,
            token_emb_kwargs={"weight": table}, to_logits_kwargs={"weight": table},
        )  # fmt: skip
        return logits[..., : self.codebook_size] + self.bias, cache


def autoregressive_loss(model, tokens, labels, label_dropout=0.1):
    """Cross-entropy of every token given the class and the tokens before it, in nats a token; tokens (b, 8, 4, 4).

    A share `label_dropout` of the clips is told no class, for guidance later. Returns the loss and {"bits": a token}.
    """
    dropped = (torch.rand(len(labels)) < label_dropout).to(labels.device)
    tokens, labels = tokens.flatten(1), labels.masked_fill(dropped, model.unconditional)
    loss = F.cross_entropy(model(tokens, labels).float().flatten(0, 1), tokens.flatten())
    return loss, {"bits": loss.detach() / math.log(2)}


@torch.no_grad()
def clip_bits(model, tokens, labels=None, batch_size=32):
    """-log2 of the probability of whole clips (b, 8, 4, 4), in bits a clip (b,); without labels, as of no class."""
    labels = torch.full((len(tokens),), model.unconditional) if labels is None else check_labels(labels)
    found = []
    for part, told in zip(tokens.flatten(1).split(batch_size), labels.split(batch_size), strict=True):
        log_p = model(part, told).float().log_softmax(-1).gather(-1, part[..., None])
        found.append(-log_p.sum((1, 2)) / math.log(2))
    return torch.cat(found)


@torch.no_grad()
def generate(model, labels, guidance=1.0, temperature=1.0, seed=0, cache=True):
    """New clips as tokens (b, 8, 4, 4) for `labels` (b,), drawn one after another; the same seed gives the same tokens.

    `guidance` as in `trajlib.sampling.guided_logits`. Without the cache each step reads again all that was written: the
    same tokens, for many times the work.
    """
    labels = check_labels(labels)
    check_strengths(guidance, temperature)
    model.eval()
    rng = torch.Generator().manual_seed(seed)
    free = torch.full_like(labels, model.unconditional)
    told = {0: [free], 1: [labels]}.get(guidance, [labels, free])  # once, or twice side by side
    words, table, past, tokens = model.start(torch.cat(told)), model.words(), None, []
    for _ in range(math.prod(model.grid)):
        logits, found = model.following(words, table, past)
        logits = logits[:, -1].unflatten(0, (len(told), -1))  # (1 or 2, b, codebook_size)
        logits = logits[-1] + guidance * (logits[0] - logits[-1])
        tokens.append(draw((logits / temperature).softmax(-1), rng))
        new = tokens[-1].repeat(len(told))[:, None]
        words, past = (new, found) if cache else (torch.cat([words, new], 1), None)
    return torch.stack(tokens, 1).unflatten(1, model.grid)
