"""Tokens looked for through the decoder: never worse, ink alone moves, and a known film's tokens are found again."""

import pytest
import torch
from torch.nn import functional as F

from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.metrics import INK
from trajlib.pretrained import load
from trajlib.search import refined
from trajlib.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load("tokenizer")[0]


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(3, seed=SEEDS["validation"]).batch().videos)


def squared_error(videos):
    return lambda films: (films - videos).square().flatten(1).mean(1)


def test_a_few_steps_bring_every_film_nearer_to_its_clip(tokenizer, videos):
    miss, tokens = squared_error(videos), tokenizer.encode(videos)
    before = miss(tokenizer.decode(tokens))
    found, said = refined(tokenizer, tokens, miss, steps=8)
    after = miss(tokenizer.decode(found))
    assert torch.allclose(said, after, rtol=1e-3)
    assert (after <= before * (1 + 1e-3)).all()
    assert after.mean() < 0.95 * before.mean()
    assert found.dtype == torch.int64
    assert not said.requires_grad


def test_paper_keeps_its_words(tokenizer, videos):
    """Even where all is done to have ink everywhere."""
    tokens = tokenizer.encode(videos)
    found, _ = refined(tokenizer, tokens, lambda films: films.flatten(1).mean(1), steps=4)
    ink = F.adaptive_max_pool3d((1 - tokenizer.decode(tokens)).amax(1), tokenizer.grid) > INK
    assert (found != tokens)[ink].sum() > 20
    assert torch.equal(found[~ink], tokens[~ink])


def test_without_steps_the_tokens_come_back_with_what_they_miss(tokenizer, videos):
    tokens, miss = tokenizer.encode(videos), squared_error(videos)
    found, said = refined(tokenizer, tokens, miss, steps=0)
    assert torch.equal(found, tokens)
    assert torch.allclose(said, miss(tokenizer.decode(tokens)), rtol=1e-3)


def test_a_misspelt_film_is_mended(tokenizer, videos):
    """A film whose tokens are known: with one digit of one token off by one, a few steps find them again."""
    tokens = tokenizer.encode(videos)
    film = tokenizer.decode(tokens)
    dark = F.adaptive_max_pool3d((1 - film).amax(1), tokenizer.grid).flatten(1).argmax(1)  # the token with most ink
    wrong = tokens.clone().flatten(1)
    picked = wrong[torch.arange(3), dark]
    first = tokenizer.config["levels"][0]
    wrong[torch.arange(3), dark] = torch.where(picked % first == 0, picked + 1, picked - 1)  # the first digit
    found, said = refined(tokenizer, wrong.view_as(tokens), squared_error(film), steps=12)
    assert torch.equal(found, tokens)
    assert said.max() < 1e-8


def test_what_cannot_be_told_moves_nothing(tokenizer, videos):
    """One clip's miss is never finite: it keeps its tokens, and the others are as they would be without it."""
    tokens, known = tokenizer.encode(videos), torch.tensor([1.0, torch.nan, 1.0])
    found, said = refined(tokenizer, tokens, lambda films: squared_error(videos)(films) * known, steps=4)
    alone, _ = refined(tokenizer, tokens[::2], squared_error(videos[::2]), steps=4)
    assert torch.equal(found[1], tokens[1])
    assert said.isfinite().tolist() == [True, False, True]
    assert torch.equal(found[::2], alone)


def test_signs_are_not_searched():
    codec = Tokenizer(dim=8, layers=(("residual"), ("compress_space", 8), ("compress_space", 8)), lfq_bits=4)
    with pytest.raises(ValueError, match="digits of FSQ"):
        refined(codec, torch.zeros(1, 8, 4, 4, dtype=torch.long), squared_error(torch.ones(1, 3, 16, 64, 64)))
