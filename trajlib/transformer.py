"""The masked token transformer: hidden tokens are predicted from the visible ones and the class, all at once."""

import math

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F
from x_transformers import Encoder

from trajlib import FAMILIES
from trajlib.masks import random_masks


class MaskedTransformer(nn.Module):
    """Bidirectional transformer over the latent grid, with one prefix place for the class (MAGVIT, sec. 3.2).

    `mask_token` = codebook_size stands for a hidden token, and `unconditional` = number of classes for "no class".
    """

    def __init__(self, codebook_size, grid=(8, 4, 4), dim=160, depth=5, heads=5, dropout=0.0):
        super().__init__()
        self.config = {"codebook_size": codebook_size, "grid": grid, "dim": dim, "depth": depth, "heads": heads}
        self.config["dropout"] = dropout
        self.codebook_size, self.mask_token, self.unconditional = codebook_size, codebook_size, len(FAMILIES)
        self.grid = tuple(grid)
        self.tokens = nn.Embedding(codebook_size + 1, dim)
        self.labels = nn.Embedding(len(FAMILIES) + 1, dim)
        # one table per axis, added: 8 + 4 + 4 places, not 128
        self.places = nn.ParameterList(nn.Parameter(0.02 * torch.randn(size, dim)) for size in self.grid)
        self.trunk = Encoder(
            dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, attn_flash=True, use_rmsnorm=True,
            attn_dropout=dropout, ff_dropout=dropout,
        )  # fmt: skip
        self.bias = nn.Parameter(torch.zeros(math.prod(grid), codebook_size))  # see start_from
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.labels.weight, std=0.02)

    @torch.no_grad()
    def start_from(self, tokens, weight=20):
        """Begin with the tokens' frequencies (by place, smoothed by `weight` clips of the overall ones) as the guess.

        Learnt from zero, a bias of log 0.9 against log 0.001 takes AdamW thousands of steps.
        """
        n = len(self.bias)
        index = tokens.flatten(1) + self.codebook_size * torch.arange(n)
        count = torch.bincount(index.flatten(), minlength=self.bias.numel()).view_as(self.bias).float()
        overall = (count.sum(0) + 0.5) / (count.sum() + 0.5 * self.codebook_size)
        self.bias.copy_(((count + weight * overall) / (len(tokens) + weight)).log())

    def hidden(self, tokens, labels):
        """Tokens (b, n) with mask_token where hidden, labels (b,) -> features (b, n, dim)."""
        t, h, w = self.places
        places = rearrange(t[:, None, None] + h[:, None] + w, "t h w d -> (t h w) d")
        x = self.tokens(tokens) + places  # (b, n, dim)
        x = torch.cat([self.labels(labels)[:, None], x], 1)  # the class comes first: (b, 1 + n, dim)
        return self.trunk(x)[:, 1:]

    def forward(self, tokens, labels):
        """-> logits (b, n, codebook_size). The output weights are the input embedding, transposed."""
        return self.hidden(tokens, labels) @ self.tokens.weight[: self.codebook_size].T + self.bias


def masked_loss(model, tokens, labels, label_dropout=0.1):
    """Cross-entropy on hidden tokens, in nats per token; a share of the labels is dropped, for guidance later.

    Returns the loss and {"bits": the same in bits, "accuracy": share of hidden tokens guessed right}.
    """
    tokens = tokens.flatten(1)  # (b, 8, 4, 4) -> (b, 128)
    mask = random_masks(*tokens.shape).to(tokens.device)
    drop = (torch.rand(len(labels)) < label_dropout).to(labels.device)
    logits = model(tokens.masked_fill(mask, model.mask_token), labels.masked_fill(drop, model.unconditional))
    loss = F.cross_entropy(logits[mask].float(), tokens[mask])
    right = (logits[mask].argmax(-1) == tokens[mask]).float().mean()
    return loss, {"bits": loss.detach() / math.log(2), "accuracy": right}
