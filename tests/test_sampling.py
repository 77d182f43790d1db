"""Iterative parallel decoding: what is decided stays, the rest follows the schedule, a seed gives its tokens."""

import itertools
import math

import pytest
import torch

from trajlib.masks import mask_ratio
from trajlib.sampling import check_labels, decode_steps, generate, guided_logits
from trajlib.transformer import MaskedTransformer

K = 50


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MaskedTransformer(K, dim=32, depth=1, heads=2).eval()


def test_tokens_come_in_the_grid_and_from_the_codebook(model):
    tokens = generate(model, [0, 1, 2, 3, 0], seed=3)
    assert tokens.shape == (5, 8, 4, 4)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < K


def test_a_seed_gives_its_tokens(model):
    first, again, other = (generate(model, [0, 1], seed=s) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_seed_does_not_touch_the_global_generator(model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    generate(model, [0], steps=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("steps", [1, 2, 12, 128])
def test_what_is_still_hidden_follows_the_cosine_schedule(model, steps):
    shown = list(decode_steps(model, [0, 1, 2], steps=steps))
    assert len(shown) == steps
    for step, tokens in enumerate(shown, start=1):
        due = 0 if step == steps else math.floor(mask_ratio(step / steps) * 128)
        assert ((tokens == model.mask_token).sum(1) == due).all()


def test_what_was_kept_never_changes(model):
    shown = list(decode_steps(model, [0, 1, 2], steps=12))
    for now, later in itertools.pairwise(shown):
        kept = now != model.mask_token
        assert torch.equal(now[kept], later[kept])


def test_guidance_0_is_without_class_and_1_with_it(model):
    tokens, labels = torch.randint(0, K, (2, 128)), torch.tensor([1, 2])
    with torch.no_grad():
        free, bound = model(tokens, torch.full_like(labels, model.unconditional)), model(tokens, labels)
        assert torch.equal(guided_logits(model, tokens, labels, 0), free)
        assert torch.equal(guided_logits(model, tokens, labels, 1), bound)
        assert torch.allclose(guided_logits(model, tokens, labels, 2), 2 * bound - free, atol=1e-5)
        half = guided_logits(model, tokens, labels, 0.5)
        assert torch.allclose(half, (free + bound) / 2, atol=1e-5)


def test_guidance_0_cannot_know_the_class(model):
    assert torch.equal(generate(model, [0, 0], guidance=0), generate(model, [3, 1], guidance=0))


class HalfSure(torch.nn.Module):
    """A transformer that knows the first 64 tokens of one clip, and of the rest nothing."""

    grid, mask_token, unconditional = (8, 4, 4), K, 4

    def forward(self, tokens, labels):
        wanted = torch.nn.functional.one_hot(torch.arange(128) % K, K)
        strength = 30.0 * (torch.arange(128) < 64)
        return (wanted * strength[:, None]).expand(len(tokens), -1, -1)


def test_the_surest_are_kept_first():
    """Without noise in the choice, no guess is kept while something known is still hidden."""
    for tokens in decode_steps(HalfSure(), [0, 0], steps=12, choice=0, guidance=1):
        known, guessed = (tokens != K)[:, :64], (tokens != K)[:, 64:]
        assert (known.all(1) | ~guessed.any(1)).all()
    assert torch.equal(tokens[:, :64], (torch.arange(64) % K).expand(2, -1))


def test_sampling_follows_the_models_probabilities():
    """One step from a model that says 3:1 for code 5 against code 9."""

    class Coin(torch.nn.Module):
        grid, mask_token, unconditional = (8, 4, 4), K, 4

        def forward(self, tokens, labels):
            logits = torch.full((len(tokens), 128, K), -1e9)
            logits[..., 5], logits[..., 9] = math.log(3), 0.0
            return logits

    tokens = generate(Coin(), [0] * 100, steps=1, guidance=1)
    assert set(tokens.unique().tolist()) == {5, 9}
    assert (tokens == 5).float().mean().item() == pytest.approx(0.75, abs=0.02)
    cold = generate(Coin(), [0] * 100, steps=1, guidance=1, temperature=0.25)
    assert (cold == 5).float().mean().item() == pytest.approx(81 / 82, abs=0.01)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([4], r"labels run from 4 to 4; the classes are 0 linear, 1 circular, 2 helical, 3 parabolic\."),
        ([-1, 0], "labels run from -1 to 0"),
        ([0.5], r"torch.float32 \(1,\); expected whole numbers of shape \(b,\)"),
        ([[0, 1]], r"expected whole numbers of shape \(b,\)"),
        (2, r"expected whole numbers of shape \(b,\)"),
        ([], r"expected whole numbers of shape \(b,\)"),
    ],
)
def test_bad_labels_get_one_sentence(model, labels, says):
    with pytest.raises(ValueError, match=says):
        generate(model, labels)


def test_no_step_is_no_decoding(model):
    with pytest.raises(ValueError, match="at least one"):
        generate(model, [0], steps=0)


def test_good_labels_come_as_int64():
    assert check_labels([0, 3]).dtype == torch.int64
    assert torch.equal(check_labels(torch.tensor([1, 2], dtype=torch.int32)), torch.tensor([1, 2]))
