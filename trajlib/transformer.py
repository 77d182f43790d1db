"""The masked token transformer: hidden tokens from the visible ones, the task and the class, all at once."""

import math

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F
from x_transformers import Encoder

from trajlib import FAMILIES
from trajlib.masks import commit_input, random_masks
from trajlib.tasks import NUMBERS, TASKS


class Words(nn.Module):
    """Vectors of an FSQ codebook's words (n, dim): one of its own, and one for each digit it is spelt with.

    Words that differ in one digit share the others, so a rare one is no stranger. `more`: further words without digits.
    """

    def __init__(self, levels, dim, more=0):
        super().__init__()
        size = math.prod(levels)
        values = torch.tensor([1, *levels[:-1]]).cumprod(0)
        first_row = torch.tensor([0, *levels[:-1]]).cumsum(0)
        rows = torch.arange(size)[:, None] // values % torch.tensor(levels) + first_row  # (size, digits)
        self.register_buffer("rows", rows, persistent=False)
        self.own = nn.Embedding(size + more, dim)
        self.digits = nn.Embedding(sum(levels), dim)
        nn.init.normal_(self.own.weight, std=0.02)
        nn.init.normal_(self.digits.weight, std=0.02)

    def forward(self):
        spelt = F.embedding_bag(self.rows, self.digits.weight, mode="sum")
        return self.own.weight + F.pad(spelt, (0, 0, 0, len(self.own.weight) - len(spelt)))


class MaskedTransformer(nn.Module):
    """Bidirectional transformer over the latent grid, after two prefix places: task and class (MAGVIT, sec. 3.2).

    `mask_token` = codebook_size stands for a hidden token, and `unconditional` = number of classes for "no class".
    """

    def __init__(self, levels, grid=(8, 4, 4), dim=160, depth=6, heads=5, dropout=0.0):
        super().__init__()
        self.config = {"levels": levels, "grid": grid, "dim": dim, "depth": depth, "heads": heads}
        self.config["dropout"] = dropout
        self.codebook_size = self.mask_token = math.prod(levels)
        self.unconditional = len(FAMILIES)
        self.grid = tuple(grid)
        self.words = Words(levels, dim, more=1)
        self.labels = nn.Embedding(len(FAMILIES) + 1, dim)
        self.tasks = nn.Embedding(len(TASKS), dim)
        # one table per axis, added: 8 + 4 + 4 places, not 128
        self.places = nn.ParameterList(nn.Parameter(0.02 * torch.randn(size, dim)) for size in self.grid)
        # no flash attention: for 130 tokens on a CPU its gradient takes a third of a training step
        self.trunk = Encoder(
            dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, use_rmsnorm=True,
            attn_dropout=dropout, ff_dropout=dropout,
        )  # fmt: skip
        self.bias = nn.Parameter(torch.zeros(self.codebook_size))  # see start_from
        nn.init.normal_(self.labels.weight, std=0.02)
        nn.init.normal_(self.tasks.weight, std=0.02)

    @torch.no_grad()
    def start_from(self, tokens):
        """Begin with the tokens' frequencies as the guess: a bias learnt from zero takes thousands of steps."""
        self.bias.copy_(frequencies(tokens, self.codebook_size))

    def features(self, tokens, labels, tasks=None):
        """What the words are guessed from: tokens (b, n), labels and tasks as in `forward` -> (b, n, dim)."""
        return self._read(tokens, labels, tasks, self.words())

    def forward(self, tokens, labels, tasks=None, only=None):
        """Tokens (b, n) with mask_token where hidden, labels and tasks (b,) -> logits (b, n, codebook_size).

        Without `tasks`, class-conditional generation. The output weights are the input vectors, transposed. `only`:
        the places (k,) whose logits are wanted, (b, k, codebook_size).
        """
        words = self.words()  # (codebook_size + 1, dim)
        x = self._read(tokens, labels, tasks, words)
        return (x if only is None else x[:, only]) @ words[:-1].T + self.bias

    def _read(self, tokens, labels, tasks, words, told=0):
        """`told`: what each place hears beside its token, (b, n, dim)."""
        tasks = torch.full_like(labels, NUMBERS["CG"]) if tasks is None else tasks
        t, h, w = self.places
        places = rearrange(t[:, None, None] + h[:, None] + w, "t h w d -> (t h w) d")
        prefix = torch.stack([self.tasks(tasks), self.labels(labels)], 1)  # (b, 2, dim)
        x = torch.cat([prefix, F.embedding(tokens, words) + places + told], 1)  # (b, 2 + n, dim)
        return self.trunk(x)[:, 2:]


def frequencies(tokens, codebook_size):
    """Log-frequency of each word among tokens of any shape, (codebook_size,); one that never came counts half."""
    count = torch.bincount(tokens.flatten(), minlength=codebook_size) + 0.5
    return (count / count.sum()).log()


def commit_loss(model, tokens, labels, tasks, conditions, given, label_dropout=0.1, parts=("refine", "mask", "recons")):
    """COMMIT's loss: cross-entropy over all tokens, in nats a token (MAGVIT, sec. 3.2, eq. 2).

    tokens and conditions (b, 8, 4, 4), given (b, 8, 4, 4) bool; see `commit_input`. Tasks without a class are told
    none, and so is a share `label_dropout` of the others, for guidance later. `parts`: which of the three count.

    Returns the loss and {"refine", "mask", "recons": bits a token of each part, "accuracy": of the mask part}.
    """
    tokens, conditions, given = (x.flatten(1) for x in (tokens, conditions, given))
    hidden = random_masks(*tokens.shape).to(tokens.device)
    labelled = torch.tensor([task.labelled for task in TASKS.values()], device=tokens.device)[tasks]
    told = labelled & (torch.rand(len(labels)) >= label_dropout).to(labels.device)
    seen = commit_input(tokens, conditions, given, hidden, model.mask_token)
    logits = model(seen, labels.masked_fill(~told, model.unconditional), tasks).float()
    cost = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
    kinds = {"refine": hidden & given, "mask": hidden & ~given, "recons": ~hidden}
    counted = sum(kinds[name] for name in parts)
    bits = cost.detach() / math.log(2)
    figures = {name: (bits * kind).sum() / kind.sum().clamp_min(1) for name, kind in kinds.items()}
    right = (logits.argmax(-1) == tokens) & kinds["mask"]
    figures["accuracy"] = right.sum() / kinds["mask"].sum().clamp_min(1)
    return (cost * counted).sum() / counted.sum(), figures
