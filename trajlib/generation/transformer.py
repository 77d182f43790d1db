"""The masked token transformer: it predicts all masked tokens at once from the others, the task and the class."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x_transformers import Encoder

from trajlib.data.checks import check_tokens
from trajlib.data.spec import check_numbers
from trajlib.generation.masks import commit_input, random_masks
from trajlib.generation.tasks import TASK_NUMBERS, TASKS
from trajlib.tokenizer.quantizers import LevelEmbedding


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each part is in the mode that it was in."""
    before = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


class TokenEmbedding(nn.Module):
    """The table of token vectors (codebook_size + extra, dim), for a codebook of any quantizer.

    With `levels` (see `Quantizer.levels`) a code's vector is the sum of its own and of one for each level index (see
    `LevelEmbedding`). `extra`: further tokens, such as the mask, without levels. ValueError if the levels don't
    multiply to the codebook's size.
    """

    def __init__(self, codebook_size: int, dim: int, levels: Sequence[int] | None = None, extra: int = 0):
        super().__init__()
        if levels and math.prod(levels) != codebook_size:
            raise ValueError(f"levels {tuple(levels)} make {math.prod(levels)} codes, not {codebook_size}.")
        self.index_embedding = nn.Embedding(codebook_size + extra, dim)
        self.level_embedding = LevelEmbedding(levels, dim) if levels else None
        nn.init.normal_(self.index_embedding.weight, std=0.02)
        if self.level_embedding is not None:
            nn.init.normal_(self.level_embedding.weight, std=0.02)

    def forward(self) -> Tensor:
        table = self.index_embedding.weight
        if self.level_embedding is None:
            return table
        of_levels = self.level_embedding()
        return table + F.pad(of_levels, (0, 0, 0, len(table) - len(of_levels)))


class MaskedTransformer(nn.Module):
    """A bidirectional transformer over the token grid, after two prefix tokens: task and class (MAGVIT, sec. 3.2).

    `grid`: `tokenizer.token_shape`, 3 axes or 4 with codebooks. `levels`: the quantizer's, or None. `num_classes` may
    be 0. `num_tasks`: the first so many of TASKS; by default those there are now. The index `mask_token`
    (= codebook_size) stands for a masked token, and `unconditional` (= num_classes) for "no class". ValueError for
    sizes that are no positive whole numbers.
    """

    def __init__(
        self, codebook_size: int, grid: Sequence[int], levels: Sequence[int] | None = None, num_classes: int = 4,
        dim: int = 160, depth: int = 6, heads: int = 5, dropout: float = 0.0, num_tasks: int | None = None,
    ):  # fmt: skip
        super().__init__()
        check_numbers("dim, depth or heads", (dim, depth, heads), 1, whole=True)
        self.num_tasks = num_tasks = len(TASKS) if num_tasks is None else num_tasks
        self.config = {"codebook_size": codebook_size, "grid": grid, "levels": levels, "num_classes": num_classes}
        self.config |= {"dim": dim, "depth": depth, "heads": heads, "dropout": dropout, "num_tasks": num_tasks}
        self.codebook_size = self.mask_token = codebook_size
        self.num_classes = self.unconditional = num_classes
        self.grid = check_numbers("grid", grid, 1, whole=True)
        self.token_embedding = TokenEmbedding(codebook_size, dim, levels, extra=1)
        self.label_embedding = nn.Embedding(num_classes + 1, dim)
        self.task_embedding = nn.Embedding(num_tasks, dim)
        # one table an axis, added: 8 + 4 + 4 rows, not 128
        self.position_embeddings = nn.ParameterList(nn.Parameter(0.02 * torch.randn(n, dim)) for n in self.grid)
        # no flash attention: for 130 tokens on a CPU its gradient takes a third of a training step
        self.backbone = Encoder(
            dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, use_rmsnorm=True,
            attn_dropout=dropout, ff_dropout=dropout,
        )  # fmt: skip
        self.output_bias = nn.Parameter(torch.zeros(codebook_size))  # see init_output_bias
        nn.init.normal_(self.label_embedding.weight, std=0.02)
        nn.init.normal_(self.task_embedding.weight, std=0.02)

    @torch.no_grad()
    def init_output_bias(self, tokens: Tensor) -> None:
        """Start from the tokens' log-frequencies: a bias learned from zero takes thousands of steps."""
        self.output_bias.copy_(log_frequencies(tokens, self.codebook_size))

    def forward(
        self, tokens: Tensor, labels: Tensor | None = None, tasks: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Tokens (b, n), mask_token where masked -> logits (b, n, codebook_size), or (b, k, ...) of `positions` (k,).

        labels (b,), None for no class; tasks (b,), see TASK_NUMBERS, None for class-conditional generation. The output
        weights are the token vectors, transposed.
        """
        table = self.token_embedding()  # (codebook_size + 1, dim)
        return self._logits(self._hidden(tokens, labels, tasks, table), table, positions)

    def features(self, tokens: Tensor, labels: Tensor | None = None, tasks: Tensor | None = None) -> Tensor:
        """The hidden vectors (b, n, dim) that the logits come from; arguments as in `forward`."""
        return self._hidden(tokens, labels, tasks, self.token_embedding())

    @torch.no_grad()
    def logits_fn(self, labels: Tensor | None = None, tasks: Tensor | None = None) -> Callable:
        """`forward` in eval mode for sampling: (tokens, positions) -> logits, for weights that stay as they are.

        The token vectors are computed once; tokens that are the same tensor as last time, for other positions, cost
        only the logits.
        """
        table, last, hidden = self.token_embedding(), None, None

        def logits(tokens: Tensor, positions: Tensor) -> Tensor:
            nonlocal last, hidden
            if tokens is not last:
                with evaluating(self):
                    last, hidden = tokens, self._hidden(tokens, labels, tasks, table)
            return self._logits(hidden, table, positions)

        return logits

    def prefix(self, tokens: Tensor, labels: Tensor | None = None, tasks: Tensor | None = None) -> Tensor:
        """Vectors of task and class (b, 2, dim); None: class-conditional generation, no class. tokens (b, n)."""
        labels = torch.full_like(tokens[:, 0], self.unconditional) if labels is None else labels
        tasks = torch.full_like(labels, TASK_NUMBERS["CG"]) if tasks is None else tasks
        return torch.stack([self.task_embedding(tasks), self.label_embedding(labels)], 1)

    def _hidden(
        self, tokens: Tensor, labels: Tensor | None, tasks: Tensor | None, table: Tensor, extra: Tensor | float = 0,
        kept: Tensor | None = None, context: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """`extra`: what is added to each token's vector, (b, n, dim); `kept` (b, n): positions of these tokens.

        `context` (b, k, dim): further vectors after the prefix, such as those of a sentence.
        """
        where, prefix = self.position_vectors(), self.prefix(tokens, labels, tasks)
        x = F.embedding(tokens, table) + (where if kept is None else where[kept]) + extra
        prefix = prefix if context is None else torch.cat([prefix, context], 1)
        return self.backbone(torch.cat([prefix, x], 1))[:, prefix.shape[1] :]

    def position_vectors(self) -> Tensor:
        """The vectors of all positions of the grid, (n, dim)."""
        where = self.position_embeddings[0]
        for axis in list(self.position_embeddings)[1:]:
            where = where.unsqueeze(-2) + axis
        return where.flatten(0, -2)

    def _logits(self, x: Tensor, table: Tensor, positions: Tensor | None = None) -> Tensor:
        return (x if positions is None else x[:, positions]) @ table[: self.codebook_size].T + self.output_bias


def log_frequencies(tokens: Tensor, codebook_size: int) -> Tensor:
    """Log-frequency of each code among tokens of any shape, (codebook_size,); each code counts half an extra time."""
    check_tokens(tokens, None, codebook_size)
    count = torch.bincount(tokens.flatten(), minlength=codebook_size) + 0.5
    return (count / count.sum()).log()


def drop_labels(labels: Tensor, unconditional: int, share: float = 0.1) -> Tensor:
    """Labels (b,) with a random share replaced by "no class", for guidance later."""
    return labels.masked_fill((torch.rand(len(labels)) < share).to(labels.device), unconditional)


def commit_loss(
    model: MaskedTransformer, tokens: Tensor, labels: Tensor | None, tasks: Tensor, conditions: Tensor,
    observed: Tensor, label_dropout: float = 0.1, parts: Sequence[str] = ("refine", "mask", "recons"),
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """COMMIT's loss: cross-entropy over all tokens, in nats a token (MAGVIT, sec. 3.2, eq. 2).

    tokens and conditions (b, *grid), observed (b, *grid) bool, see `commit_input`; labels (b,), None without classes.
    Tasks without a class receive none, and neither does a share `label_dropout` of the others, for guidance later.
    `parts`: which of the three count.

    Returns the loss and {"refine", "mask", "recons": bits a token of each part, "accuracy": of the mask part}.
    """
    tokens, conditions, observed = (x.flatten(1) for x in (tokens, conditions, observed))
    masked = random_masks(*tokens.shape).to(tokens.device)
    if labels is not None:
        labelled = torch.tensor([task.labelled for task in TASKS.values()], device=tokens.device)[tasks]
        labels = drop_labels(labels, model.unconditional, label_dropout).masked_fill(~labelled, model.unconditional)
    logits = model(commit_input(tokens, conditions, observed, masked, model.mask_token), labels, tasks).float()
    cost = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
    kinds = {"refine": masked & observed, "mask": masked & ~observed, "recons": ~masked}
    counted = torch.stack([kinds[name] for name in parts]).any(0)
    bits = cost.detach() / math.log(2)
    figures = {name: (bits * kind).sum() / kind.sum().clamp_min(1) for name, kind in kinds.items()}
    correct = (logits.argmax(-1) == tokens) & kinds["mask"]
    figures["accuracy"] = correct.sum() / kinds["mask"].sum().clamp_min(1)
    return (cost * counted).sum() / counted.sum(), figures
