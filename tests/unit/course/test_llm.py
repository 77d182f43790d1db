"""A causal language model in the prompt's place: the path works with a tiny random GPT-2 (no weights are fetched)."""

import pytest
import torch

from trajlib.course.llm import few_shot_prompt, llm_answer, token_string
from trajlib.language.grammar import QUESTIONS


def clip(seed):
    return torch.randint(4375, (8, 4, 4), generator=torch.Generator().manual_seed(seed))


def encode(text):
    """One number a character."""
    return [ord(letter) % 256 for letter in text]


@pytest.fixture(scope="module")
def gpt2():
    transformers = pytest.importorskip("transformers", reason="pip install trajlib[llm]")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=256, n_positions=2048, n_embd=16, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


def test_the_prompt_holds_tokens_and_the_answers_of_other_clips_only():
    text = few_shot_prompt("speed", [(clip(0), "fast"), (clip(1), "slow")], clip(2))
    assert text.endswith(f"{token_string(clip(2))}\nhow fast is it?")
    assert text.split(token_string(clip(2)))[1] == "\nhow fast is it?"


@pytest.mark.slow  # importing the library takes seconds
def test_answers_are_probabilities_and_depend_on_the_tokens(gpt2):
    first, again, other = (llm_answer(gpt2, encode, "colour", [(clip(0), "red")], clip(k)) for k in (1, 1, 2))
    assert first.shape == (len(QUESTIONS["colour"][1]),)
    assert first.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_a_prompt_that_is_too_long_is_an_error(gpt2):
    with pytest.raises(ValueError, match="give fewer examples"):
        llm_answer(gpt2, encode, "speed", [(clip(k), "fast") for k in range(6)], clip(9))
