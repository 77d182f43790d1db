"""A causal language model of `transformers`, given a clip as a short token string in its prompt, few-shot.

The prompt holds tokens of clips and their answers, and the tokens of the clip that is asked about: no truth about it.
Any model that `transformers` loads, from disk or online; `pip install trajlib[llm]`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trajlib.data.slots import SLOTS, VALUES
from trajlib.data.spec import check_name
from trajlib.language.grammar import QUESTIONS


def token_string(tokens: Tensor) -> str:
    """The tokens of a clip (any shape) as text: "417 3071 12 ...", in the order of the grid."""
    return " ".join(str(token) for token in tokens.flatten().tolist())


def few_shot_prompt(slot: str, examples: Sequence[tuple[Tensor, str]], tokens: Tensor) -> str:
    """The text that a language model continues: (tokens, answer) of other clips, then the tokens of the asked one.

    ValueError for an unknown slot.
    """
    check_name("slot", slot, SLOTS)
    question = f"{QUESTIONS[slot][0][0]}?"
    known = [f"clip: {token_string(seen)}\n{question} {answer}\n\n" for seen, answer in examples]
    return "".join([*known, f"clip: {token_string(tokens)}\n{question}"])


@torch.no_grad()
def llm_answer(
    model: Any, encode: Callable[[str], Sequence[int]], slot: str, examples: Sequence[tuple[Tensor, str]],
    tokens: Tensor,
) -> Tensor:  # fmt: skip
    """Probabilities (values,) of a slot's answers, in the order of VALUES[slot], for a clip's tokens.

    `model`: a causal model of `transformers`; `encode`: its tokenizer's, text -> numbers. The answers' likelihoods
    after the prompt, normalized. ValueError if the prompt is longer than the model's context.
    """
    prompt = list(encode(few_shot_prompt(slot, examples, tokens)))
    scores = []
    for answer in QUESTIONS[slot][1][: len(VALUES[slot])]:
        after = list(encode(f" {answer}"))
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit and len(prompt) + len(after) > limit:
            came = f"the prompt has {len(prompt) + len(after):,} tokens and the model's context {limit:,}"
            raise ValueError(f"{came}: give fewer examples.")
        logits = model(torch.tensor([[*prompt, *after]])).logits[0, len(prompt) - 1 : -1]
        scores.append(logits.log_softmax(-1).gather(1, torch.tensor(after)[:, None]).sum())
    return torch.stack(scores).softmax(0)
