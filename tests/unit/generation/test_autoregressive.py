"""The autoregressive transformer: it depends on what came before alone; its cache changes the time, not the tokens."""

import math

import pytest
import torch

from trajlib.generation.autoregressive import (
    AutoregressiveTransformer,
    autoregressive_loss,
    clip_bits,
    generate_autoregressive,
)
from trajlib.generation.transformer import MaskedTransformer, log_frequencies
from trajlib.zoo import checkpoints, recipes

LEVELS, GRID = (5, 5, 2), (8, 4, 4)
K = 50


@pytest.fixture(scope="module")
def model():
    """Untrained, and scaled up: its logits differ by several units, so that nothing is drawn by chance alone."""
    torch.manual_seed(0)
    model = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=2, heads=2).eval()
    with torch.no_grad():
        model.token_embedding.index_embedding.weight.mul_(20)
    return model


def clips(n=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, K, (n, *GRID), generator=rng), torch.arange(n) % 4


def logits(model, tokens, labels):
    with torch.no_grad():
        return model(tokens.flatten(1), labels)


# ---- what it depends on ----


def test_logits_for_every_token(model):
    assert logits(model, *clips()).shape == (4, 128, K)


@pytest.mark.parametrize("position", [0, 17, 126])
def test_a_token_changes_the_logits_after_it_alone(model, position):
    tokens, labels = clips()
    changed = tokens.flatten(1).clone()
    changed[:, position] = (changed[:, position] + 7) % K
    before, after = logits(model, tokens, labels), logits(model, changed, labels)
    assert torch.allclose(before[:, : position + 1], after[:, : position + 1], atol=1e-6)
    assert not torch.allclose(before[:, position + 1], after[:, position + 1], atol=1e-3)
    assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-3)


def test_the_class_changes_all_logits(model):
    tokens, labels = clips()
    conditional = logits(model, tokens, labels)
    for others in ((labels + 1) % 4, torch.full_like(labels, model.unconditional)):
        difference = (conditional - logits(model, tokens, others)).abs().amax(-1)
        assert difference.min() > 1e-4


def test_the_same_token_elsewhere_has_other_logits(model):
    same = logits(model, torch.full((1, 128), 3), torch.tensor([0]))[0]
    assert torch.pdist(same).min() > 1e-6


# ---- the cache ----


def test_step_by_step_the_logits_are_those_of_one_pass(model):
    tokens, labels = clips()
    at_once, tokens = logits(model, tokens, labels), tokens.flatten(1)
    new, table, cache = model.class_token(labels), model.token_embedding(), None
    for position in range(128):
        with torch.no_grad():
            step, cache = model.next_logits(new, table, cache)
        assert step.shape == (4, 1, K)
        assert torch.allclose(step[:, 0], at_once[:, position], atol=1e-4), position
        new = tokens[:, position : position + 1]


def test_several_tokens_at_a_time_are_the_same_to_the_cache(model):
    tokens, labels = clips()
    at_once, sequence = logits(model, tokens, labels), torch.cat([model.class_token(labels), tokens.flatten(1)], 1)
    with torch.no_grad():
        table = model.token_embedding()
        first, cache = model.next_logits(sequence[:, :50], table)
        second, _ = model.next_logits(sequence[:, 50:51], table, cache)
    assert torch.allclose(torch.cat([first, second], 1), at_once[:, :51], atol=1e-4)


@pytest.mark.parametrize("guidance", [0, 1, 2.5])
def test_without_the_cache_the_same_tokens(model, guidance):
    fast, slow = (generate_autoregressive(model, [0, 1, 3], guidance, seed=5, cache=cache) for cache in (True, False))
    assert torch.equal(fast, slow)


def test_with_the_cache_each_token_is_read_once(model, monkeypatch):
    read = []
    step = model.next_logits
    monkeypatch.setattr(model, "next_logits", lambda new, *rest: read.append(new.shape[1]) or step(new, *rest))
    generate_autoregressive(model, [0])
    assert read == [1] * 128
    read.clear()
    generate_autoregressive(model, [0], cache=False)
    assert read == list(range(1, 129))


# ---- drawing ----


def test_tokens_come_in_the_grid_and_from_the_codebook(model):
    tokens = generate_autoregressive(model, [0, 1, 2, 3, 0], seed=3)
    assert tokens.shape == (5, *GRID)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < K
    assert len(tokens.unique()) > 1


def test_a_seed_gives_its_tokens_and_touches_no_other_generator(model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (generate_autoregressive(model, [0, 1], seed=s) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_guidance_0_is_without_class(model):
    free = generate_autoregressive(model, [3, 2], guidance=0)
    assert torch.equal(free, generate_autoregressive(model, n=2))
    assert not torch.equal(free, generate_autoregressive(model, [3, 2]))


def test_a_model_without_levels_and_classes():
    torch.manual_seed(0)
    model = AutoregressiveTransformer(K, (2, 2, 2, 3), num_classes=0, dim=16, depth=1, heads=2)
    tokens = generate_autoregressive(model, n=3)
    assert tokens.shape == (3, 2, 2, 2, 3)
    assert clip_bits(model, tokens).shape == (3,)
    assert autoregressive_loss(model, tokens)[1]["bits"].item() == pytest.approx(math.log2(K), rel=0.2)
    with pytest.raises(ValueError, match=r"^labels came, but this transformer has no classes"):
        generate_autoregressive(model, [0])


def test_guidance_of_almost_one_is_the_model_as_trained(model):
    assert torch.equal(
        generate_autoregressive(model, [0, 1], guidance=1), generate_autoregressive(model, [0, 1], guidance=1 + 1e-9)
    )


def test_at_a_low_temperature_it_takes_the_likeliest_token_each_time(model):
    tokens = generate_autoregressive(model, [2], temperature=1e-6).flatten(1)
    assert torch.equal(logits(model, tokens, torch.tensor([2])).argmax(-1), tokens)


def test_tokens_are_drawn_with_the_models_probabilities():
    """All logits are the bias: 6,400 draws have its probabilities, to within four standard deviations."""
    model = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2)
    with torch.no_grad():
        model.token_embedding.index_embedding.weight.zero_()
        model.token_embedding.level_embedding.weight.zero_()
        model.output_bias.copy_(torch.linspace(0, 3, K))
    p = model.output_bias.softmax(-1)
    tokens = generate_autoregressive(model, [0] * 50, seed=2)
    share = torch.bincount(tokens.flatten(), minlength=K) / tokens.numel()
    assert ((share - p).abs() < 4 * (p * (1 - p) / tokens.numel()).sqrt()).all()


@pytest.mark.parametrize("labels", [[4], [-1], [0.5], []])
def test_bad_labels(model, labels):
    with pytest.raises(ValueError, match="labels"):
        generate_autoregressive(model, labels)


@pytest.mark.parametrize("temperature", [0, math.nan])
def test_bad_temperature(model, temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}; a finite number above 0 was expected"):
        generate_autoregressive(model, [0], temperature=temperature)


def test_bad_guidance(model):
    with pytest.raises(ValueError, match="guidance is nan; a finite number was expected"):
        generate_autoregressive(model, [0], guidance=math.nan)


# ---- training ----


def test_the_loss_is_the_cross_entropy_of_all_tokens(model):
    tokens, labels = clips(3)
    with torch.no_grad():
        loss, parts = autoregressive_loss(model, tokens, labels, label_dropout=0)
    log_p, flat = logits(model, tokens, labels).log_softmax(-1), tokens.flatten(1)
    by_hand = torch.stack([-log_p[b, i, flat[b, i]] for b in range(3) for i in range(128)]).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert parts["bits"].item() == pytest.approx(by_hand.item() / math.log(2), rel=1e-5)


def test_the_bits_of_clips_are_the_loss_added_up(model):
    tokens, labels = clips(5)
    with torch.no_grad():
        mean = autoregressive_loss(model, tokens, labels, label_dropout=0)[1]["bits"].item()
    bits = clip_bits(model, tokens, labels, batch_size=2)
    assert bits.shape == (5,)
    assert bits.mean().item() == pytest.approx(128 * mean, rel=1e-5)
    with torch.no_grad():
        free = autoregressive_loss(model, tokens, labels, label_dropout=1)[1]["bits"].item()
    assert clip_bits(model, tokens).mean().item() == pytest.approx(128 * free, rel=1e-5)
    assert not torch.allclose(clip_bits(model, tokens), bits)


def test_labels_are_dropped_as_often_as_asked(model, monkeypatch):
    tokens, labels = clips(400)
    received = []
    monkeypatch.setattr(model, "forward", lambda tokens, labels: received.append(labels) or torch.zeros(400, 128, K))
    for share in (0.0, 0.1, 1.0):
        torch.manual_seed(0)
        _, parts = autoregressive_loss(model, tokens, labels, label_dropout=share)
        dropped = received[-1] == model.unconditional
        assert dropped.float().mean().item() == pytest.approx(share, abs=0.05)
        assert torch.equal(received[-1][~dropped], labels[~dropped])
        assert parts["bits"].item() == pytest.approx(math.log2(K), rel=1e-6)  # of uniform predictions


def test_the_loss_reaches_every_weight():
    model = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2)
    autoregressive_loss(model, *clips(32), label_dropout=0.5)[0].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_it_starts_from_the_frequencies():
    """From 3 of 4 tokens that are 5, the others 9, before any training."""
    torch.manual_seed(0)
    model = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2)
    tokens = torch.full((400, *GRID), 9)
    tokens[:300] = 5
    model.init_output_bias(tokens)
    assert torch.equal(model.output_bias, log_frequencies(tokens, K))
    p = model.output_bias.softmax(-1)
    assert p[5].item() == pytest.approx(0.75, abs=0.01)
    assert p[9].item() == pytest.approx(0.25, abs=0.01)
    assert (p > 0).all()


@pytest.mark.slow
def test_it_learns_that_a_token_repeats_the_one_a_frame_before():
    """Random first frames, repeated: from log2 K bits a token down to little more than the eighth that is news."""
    torch.manual_seed(0)
    model = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=2, heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = torch.Generator().manual_seed(0)
    for step in range(300):
        tokens = torch.randint(0, K, (16, 1, 4, 4), generator=rng).expand(-1, *GRID)
        loss, parts = autoregressive_loss(model, tokens, torch.zeros(16, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 0:
            assert parts["bits"] > math.log2(K) - 0.1
    assert parts["bits"] < math.log2(K) / 8 + 0.5


# ---- as a part of the course ----


def test_it_is_as_large_as_the_masked_transformer():
    size, other = (
        sum(p.numel() for p in kind(4375, GRID, (7, 5, 5, 5, 5)).parameters())
        for kind in (AutoregressiveTransformer, MaskedTransformer)
    )
    assert size == pytest.approx(other, rel=0.05)
    assert size <= 6e6


def test_both_ends_share_one_table(model):
    assert [name for name, p in model.named_parameters() if p.shape[0] >= K and p.ndim == 2 and "net" not in name] == [
        "token_embedding.index_embedding.weight"
    ]


def test_extra_tokens_can_come_first():
    torch.manual_seed(0)
    model = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2, extra=100).eval()
    table = model.token_embedding()
    assert len(table) == model.net.num_tokens == K + 4 + 1 + 100
    logits_of_extra, cache = model.next_logits(
        torch.tensor([[K + 5, K + 104]]), table
    )  # two tokens of text, then a class
    assert logits_of_extra.shape == (1, 2, K)
    then, _ = model.next_logits(model.class_token(torch.tensor([1])), table, cache)
    alone, _ = model.next_logits(model.class_token(torch.tensor([1])), table)
    assert not torch.allclose(then, alone, atol=1e-4)
    assert generate_autoregressive(model, [0]).max() < K


def test_the_config_builds_the_same_model_again_and_float16_keeps_the_positions(model, tmp_path):
    checkpoints.save(model, {}, "autoregressive", tmp_path)
    again = checkpoints.load("autoregressive", tmp_path)[0]
    assert torch.equal(logits(again, *clips()), logits(model, *clips()))
    checkpoints.save(model, {}, "half", tmp_path, dtype=torch.float16)
    rotation = checkpoints.load("half", tmp_path)[0].net.attn_layers.rotary_pos_emb
    assert torch.equal(rotation.inv_freq, model.net.attn_layers.rotary_pos_emb.inv_freq)


@pytest.mark.slow
def test_the_recipe_trains_it_once(tmp_path, capsys):
    model, card = recipes.autoregressive(tmp_path, "smoke")
    assert "autoregressive: trained here and saved" in capsys.readouterr().out
    assert set(card["figures"]) == {"loss", "bits"}
    again, _ = recipes.autoregressive(tmp_path, "smoke")
    assert capsys.readouterr().out.startswith("autoregressive: loaded")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    tokenizer = checkpoints.load("tokenizer", tmp_path)[0]
    assert model.codebook_size == tokenizer.codebook_size
    assert tokenizer.decode(generate_autoregressive(model, [0])).shape == (1, 3, 16, 64, 64)
