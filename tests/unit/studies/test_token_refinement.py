"""Token refinement: never worse, only foreground tokens change, and the tokens of a decoded video are found again."""

import pytest
import torch
from studies.token_refinement import refine_tokens
from torch.nn import functional as F

from trajlib.data.clips import SPLIT_SEEDS, TrajectoryDataset
from trajlib.data.measure import FOREGROUND_THRESHOLD
from trajlib.data.video_files import to_float
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.zoo.checkpoints import load

pytestmark = pytest.mark.slow  # gradients of the shipped decoder


@pytest.fixture(scope="module")
def tokenizer():
    return load("tokenizer")[0]


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(3, seed=SPLIT_SEEDS["validation"]).batch().videos)


def squared_error(videos):
    return lambda recon: (recon - videos).square().flatten(1).mean(1)


def test_a_few_steps_bring_every_reconstruction_nearer_to_its_clip(tokenizer, videos):
    objective, tokens = squared_error(videos), tokenizer.encode(videos)
    before = objective(tokenizer.decode(tokens))
    found, values = refine_tokens(tokenizer, tokens, objective, steps=8)
    after = objective(tokenizer.decode(found))
    assert torch.allclose(values, after, rtol=1e-3)
    assert (after <= before * (1 + 1e-3)).all()
    assert after.mean() < 0.95 * before.mean()
    assert found.dtype == torch.int64
    assert not values.requires_grad


def test_background_keeps_its_tokens(tokenizer, videos):
    """Even with an objective that rewards darkness everywhere."""
    tokens = tokenizer.encode(videos)
    found, _ = refine_tokens(tokenizer, tokens, lambda recon: recon.flatten(1).mean(1), steps=4)
    foreground = F.adaptive_max_pool3d((1 - tokenizer.decode(tokens)).amax(1), tokenizer.grid) > FOREGROUND_THRESHOLD
    assert (found != tokens)[foreground].sum() > 20
    assert torch.equal(found[~foreground], tokens[~foreground])


def test_without_steps_the_tokens_come_back_with_their_objective(tokenizer, videos):
    tokens, objective = tokenizer.encode(videos), squared_error(videos)
    found, values = refine_tokens(tokenizer, tokens, objective, steps=0)
    assert torch.equal(found, tokens)
    assert torch.allclose(values, objective(tokenizer.decode(tokens)), rtol=1e-3)


def test_a_changed_token_is_found_again(tokenizer, videos):
    """The target is decoded from known tokens. With one level index off by one, a few steps find them again."""
    tokens = tokenizer.encode(videos)
    target = tokenizer.decode(tokens)
    dark = (
        F.adaptive_max_pool3d((1 - target).amax(1), tokenizer.grid).flatten(1).argmax(1)
    )  # the token with most foreground
    wrong = tokens.clone().flatten(1)
    picked = wrong[torch.arange(3), dark]
    first = tokenizer.levels[0]
    wrong[torch.arange(3), dark] = torch.where(picked % first == 0, picked + 1, picked - 1)  # the first level index
    found, values = refine_tokens(tokenizer, wrong.view_as(tokens), squared_error(target), steps=12)
    assert torch.equal(found, tokens)
    assert values.max() < 1e-8


def test_an_objective_that_is_not_finite_changes_nothing(tokenizer, videos):
    """One clip's objective is never finite: it keeps its tokens, and the others are as they would be without it."""
    tokens, known = tokenizer.encode(videos), torch.tensor([1.0, torch.nan, 1.0])
    found, values = refine_tokens(tokenizer, tokens, lambda recon: squared_error(videos)(recon) * known, steps=4)
    alone, _ = refine_tokens(tokenizer, tokens[::2], squared_error(videos[::2]), steps=4)
    assert torch.equal(found[1], tokens[1])
    assert values.isfinite().tolist() == [True, False, True]
    assert torch.equal(found[::2], alone)


def test_only_fsq_is_refined():
    layers = ("residual", ("compress_space", 8), ("compress_space", 8))
    tokenizer = Tokenizer({"kind": "lfq", "bits": 4}, dim=8, layers=layers)
    with pytest.raises(ValueError, match="FSQ's level indices, and this tokenizer has a LFQ"):
        refine_tokens(tokenizer, torch.zeros(1, 8, 4, 4, dtype=torch.long), squared_error(torch.ones(1, 3, 16, 64, 64)))
