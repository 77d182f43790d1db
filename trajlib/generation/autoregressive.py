"""An autoregressive transformer over the same tokens: each token is predicted from all those before it.

It is the AR baseline of parallel decoding, and the entropy model of a range coder (notebook 03). A clip is the
sequence [class token, token 0, token 1, ...] in raster order of the grid.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x_transformers import Decoder, TransformerWrapper

from trajlib.data.checks import check_tokens, generator
from trajlib.data.spec import check_number
from trajlib.generation.sampling import Labels, class_labels, draw
from trajlib.generation.transformer import TokenEmbedding, drop_labels, evaluating, log_frequencies


class AutoregressiveTransformer(nn.Module):
    """x-transformers' decoder, as wide and as deep as `MaskedTransformer`, with its key-value cache.

    Vocabulary: the codes from 0 on, the classes from codebook_size on, then "no class" (`unconditional`, counted from
    there), then `extra` tokens for other uses, such as text. `grid`, `levels`, `num_classes` as in `MaskedTransformer`.
    """

    def __init__(
        self, codebook_size: int, grid: Sequence[int], levels: Sequence[int] | None = None, num_classes: int = 4,
        dim: int = 160, depth: int = 6, heads: int = 5, dropout: float = 0.0, extra: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.config = {"codebook_size": codebook_size, "grid": grid, "levels": levels, "num_classes": num_classes}
        self.config |= {"dim": dim, "depth": depth, "heads": heads, "dropout": dropout, "extra": extra}
        self.codebook_size = codebook_size
        self.num_classes = self.unconditional = num_classes
        self.grid = tuple(grid)
        self.token_embedding = TokenEmbedding(codebook_size, dim, levels, extra=num_classes + 1 + extra)
        # `next_logits` gives both ends of the network the same table of vectors: the embedding is tied to the output.
        # Absolute positions are learned; the distance to another token comes from the rotary embedding
        self.net = TransformerWrapper(
            num_tokens=codebook_size + num_classes + 1 + extra, max_seq_len=math.prod(grid) + 1,
            token_emb=F.embedding, to_logits=F.linear,
            attn_layers=Decoder(
                dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, attn_flash=True, use_rmsnorm=True,
                rotary_pos_emb=True, rotary_emb_dim=dim // heads, disable_abs_pos_emb=False, verbose=False,
                attn_dropout=dropout, ff_dropout=dropout,
            ),
        )  # fmt: skip
        rotation = self.net.attn_layers.rotary_pos_emb
        frequencies = rotation.inv_freq
        del rotation.inv_freq  # constants: stored with the weights, they would be rounded to float16
        rotation.register_buffer("inv_freq", frequencies, persistent=False)
        self.output_bias = nn.Parameter(torch.zeros(codebook_size))  # see init_output_bias

    @torch.no_grad()
    def init_output_bias(self, tokens: Tensor) -> None:
        """Start from the tokens' log-frequencies, as `MaskedTransformer.init_output_bias` does."""
        self.output_bias.copy_(log_frequencies(tokens, self.codebook_size))

    def forward(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """Tokens (b, n), labels (b,) or None -> logits (b, n, codebook_size) given the class and the tokens before."""
        labels = torch.full_like(tokens[:, 0], self.unconditional) if labels is None else labels
        sequence = torch.cat([self.class_token(labels), tokens[:, :-1]], 1)
        return self.next_logits(sequence, self.token_embedding())[0]

    def class_token(self, labels: Tensor) -> Tensor:
        """Labels (b,) -> the token (b, 1) that a clip begins with."""
        return self.codebook_size + labels[:, None]

    def next_logits(self, tokens: Tensor, table: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Tokens (b, m) that follow those in the cache -> logits (b, m, codebook_size) of what comes next, new cache.

        `table` is `self.token_embedding()`: computing it costs as much as a step. Only video tokens are predicted.
        """
        logits, cache = self.net(
            tokens, cache=cache, input_not_include_cache=True, return_intermediates=True,
            token_emb_kwargs={"weight": table}, to_logits_kwargs={"weight": table},
        )  # fmt: skip
        return logits[..., : self.codebook_size] + self.output_bias, cache


def autoregressive_loss(
    model: AutoregressiveTransformer, tokens: Tensor, labels: Tensor | None = None, label_dropout: float = 0.1
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of every token given the class and the tokens before it, in nats a token; tokens (b, *grid).

    A share `label_dropout` of the clips receives no class, for guidance later. Returns the loss and {"bits": a token}.
    """
    tokens = tokens.flatten(1)
    labels = None if labels is None else drop_labels(labels, model.unconditional, label_dropout)
    loss = F.cross_entropy(model(tokens, labels).float().flatten(0, 1), tokens.flatten())
    return loss, {"bits": loss.detach() / math.log(2)}


@torch.no_grad()
def clip_bits(
    model: AutoregressiveTransformer, tokens: Tensor, labels: Labels | None = None, batch_size: int = 32
) -> Tensor:
    """-log2 of the probability of whole clips (b, *grid) given their class or none: bits a clip, (b,)."""
    check_tokens(tokens, model.grid, model.codebook_size)
    check_number("batch_size", batch_size, 1, whole=True)
    found, classes = [], class_labels(model, labels, len(tokens), True)
    for part, some in zip(tokens.flatten(1).split(batch_size), classes.split(batch_size), strict=True):
        log_p = model(part, some).float().log_softmax(-1).gather(-1, part[..., None])
        found.append(-log_p.sum((1, 2)) / math.log(2))
    return torch.cat(found)


@torch.no_grad()
def generate_autoregressive(
    model: AutoregressiveTransformer, labels: Labels | None = None, guidance: float = 1.0, temperature: float = 1.0,
    seed: int = 0, cache: bool = True, n: int = 1,
) -> Tensor:  # fmt: skip
    """New clips as tokens (b, *grid), drawn one after another, for `labels` (b,), or `n` clips of no class.

    The same seed gives the same tokens. `guidance` as in `sampling.guided`. Without the cache each step reads all
    tokens again: the same result for many times the work. ValueError for unknown labels, guidance or temperature.
    """
    check_number("guidance", guidance)
    check_number("temperature", temperature, 0, above=True)
    conditional = class_labels(model, labels, n)
    free, guidance = torch.full_like(conditional, model.unconditional), 0 if labels is None else guidance
    rng = generator(seed)
    passes: dict[float, list[Tensor]] = {0: [free], 1: [conditional]}
    classes = passes.get(guidance, [conditional, free])  # one pass, or two in one batch
    new, table, past, tokens = model.class_token(torch.cat(classes)), model.token_embedding(), None, []
    for _ in range(math.prod(model.grid)):
        with evaluating(model):
            logits, found = model.next_logits(new, table, past)
        logits = logits[:, -1].unflatten(0, (len(classes), -1))  # (1 or 2, b, codebook_size)
        logits = logits[-1] + guidance * (logits[0] - logits[-1])
        tokens.append(draw((logits / temperature).softmax(-1), rng))
        drawn = tokens[-1].repeat(len(classes))[:, None]
        new, past = (drawn, found) if cache else (torch.cat([new, drawn], 1), None)
    return torch.stack(tokens, 1).unflatten(1, model.grid)
