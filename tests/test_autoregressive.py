"""The autoregressive decoder: it sees what came before and nothing else; its cache changes the time, not the tokens."""

import math

import pytest
import torch

from trajlib import pretrained, recipes
from trajlib.autoregressive import Autoregressive, autoregressive_loss, clip_bits, generate
from trajlib.config import PROFILES, profile
from trajlib.dataset import SEEDS
from trajlib.transformer import MaskedTransformer, frequencies

LEVELS, GRID = (5, 5, 2), (8, 4, 4)
K = 50


@pytest.fixture(scope="module")
def model():
    """Untrained, and loud: its logits differ by several units, so that nothing is drawn by chance alone."""
    torch.manual_seed(0)
    model = Autoregressive(LEVELS, GRID, dim=32, depth=2, heads=2).eval()
    with torch.no_grad():
        model.words.own.weight.mul_(20)
    return model


def clips(n=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, K, (n, *GRID), generator=rng), torch.arange(n) % 4


def logits(model, tokens, labels):
    with torch.no_grad():
        return model(tokens.flatten(1), labels)


# ---- what it sees ----


def test_logits_for_every_token(model):
    assert logits(model, *clips()).shape == (4, 128, K)


@pytest.mark.parametrize("place", [0, 17, 126])
def test_a_token_is_seen_by_those_after_it_alone(model, place):
    tokens, labels = clips()
    changed = tokens.flatten(1).clone()
    changed[:, place] = (changed[:, place] + 7) % K
    before, after = logits(model, tokens, labels), logits(model, changed, labels)
    assert torch.allclose(before[:, : place + 1], after[:, : place + 1], atol=1e-6)
    assert not torch.allclose(before[:, place + 1], after[:, place + 1], atol=1e-3)
    assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-3)


def test_the_class_is_seen_by_all(model):
    tokens, labels = clips()
    told = logits(model, tokens, labels)
    for others in ((labels + 1) % 4, torch.full_like(labels, model.unconditional)):
        apart = (told - logits(model, tokens, others)).abs().amax(-1)
        assert apart.min() > 1e-4


def test_the_same_token_elsewhere_is_another_thing(model):
    same = logits(model, torch.full((1, 128), 3), torch.tensor([0]))[0]
    assert torch.pdist(same).min() > 1e-6


# ---- the cache ----


def test_step_by_step_it_says_what_it_says_at_once(model):
    tokens, labels = clips()
    at_once, tokens = logits(model, tokens, labels), tokens.flatten(1)
    words, table, cache = model.start(labels), model.words(), None
    for place in range(128):
        with torch.no_grad():
            step, cache = model.following(words, table, cache)
        assert step.shape == (4, 1, K)
        assert torch.allclose(step[:, 0], at_once[:, place], atol=1e-4), place
        words = tokens[:, place : place + 1]


def test_several_words_at_a_time_are_the_same_to_the_cache(model):
    tokens, labels = clips()
    at_once, words = logits(model, tokens, labels), torch.cat([model.start(labels), tokens.flatten(1)], 1)
    with torch.no_grad():
        table = model.words()
        first, cache = model.following(words[:, :50], table)
        second, _ = model.following(words[:, 50:51], table, cache)
    assert torch.allclose(torch.cat([first, second], 1), at_once[:, :51], atol=1e-4)


@pytest.mark.parametrize("guidance", [0, 1, 2.5])
def test_without_the_cache_the_same_tokens(model, guidance):
    fast, slow = (generate(model, [0, 1, 3], guidance, seed=5, cache=cache) for cache in (True, False))
    assert torch.equal(fast, slow)


def test_with_the_cache_each_word_is_read_once(model, monkeypatch):
    read = []
    follow = model.following
    monkeypatch.setattr(model, "following", lambda words, *rest: read.append(words.shape[1]) or follow(words, *rest))
    generate(model, [0])
    assert read == [1] * 128
    read.clear()
    generate(model, [0], cache=False)
    assert read == list(range(1, 129))


# ---- drawing ----


def test_tokens_come_in_the_grid_and_from_the_codebook(model):
    tokens = generate(model, [0, 1, 2, 3, 0], seed=3)
    assert tokens.shape == (5, *GRID)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < K
    assert len(tokens.unique()) > 1


def test_a_seed_gives_its_tokens_and_touches_no_other_generator(model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (generate(model, [0, 1], seed=s) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_guidance_0_is_without_class(model):
    assert torch.equal(generate(model, [0, 1], guidance=0), generate(model, [3, 2], guidance=0))
    assert not torch.equal(generate(model, [0, 1]), generate(model, [3, 2]))


def test_guidance_of_almost_one_is_the_model_as_trained(model):
    assert torch.equal(generate(model, [0, 1], guidance=1), generate(model, [0, 1], guidance=1 + 1e-9))


def test_a_cold_one_takes_the_likeliest_token_each_time(model):
    tokens = generate(model, [2], temperature=1e-6).flatten(1)
    assert torch.equal(logits(model, tokens, torch.tensor([2])).argmax(-1), tokens)


def test_tokens_are_drawn_as_often_as_the_model_says():
    """All logits are the bias: 6,400 draws have its probabilities, to within four standard deviations."""
    model = Autoregressive(LEVELS, GRID, dim=32, depth=1, heads=2)
    with torch.no_grad():
        model.words.own.weight.zero_()
        model.words.digits.weight.zero_()
        model.bias.copy_(torch.linspace(0, 3, K))
    p = model.bias.softmax(-1)
    tokens = generate(model, [0] * 50, seed=2)
    share = torch.bincount(tokens.flatten(), minlength=K) / tokens.numel()
    assert ((share - p).abs() < 4 * (p * (1 - p) / tokens.numel()).sqrt()).all()


@pytest.mark.parametrize("labels", [[4], [-1], [0.5], []])
def test_bad_labels(model, labels):
    with pytest.raises(ValueError, match="labels"):
        generate(model, labels)


@pytest.mark.parametrize("temperature", [0, math.nan])
def test_bad_temperature(model, temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}; it must be above 0"):
        generate(model, [0], temperature=temperature)


def test_bad_guidance(model):
    with pytest.raises(ValueError, match="guidance is nan; it must be a finite number"):
        generate(model, [0], guidance=math.nan)


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
    told = []
    monkeypatch.setattr(model, "forward", lambda tokens, labels: told.append(labels) or torch.zeros(400, 128, K))
    for share in (0.0, 0.1, 1.0):
        torch.manual_seed(0)
        _, parts = autoregressive_loss(model, tokens, labels, label_dropout=share)
        dropped = told[-1] == model.unconditional
        assert dropped.float().mean().item() == pytest.approx(share, abs=0.05)
        assert torch.equal(told[-1][~dropped], labels[~dropped])
        assert parts["bits"].item() == pytest.approx(math.log2(K), rel=1e-6)  # who knows nothing pays for K


def test_the_loss_reaches_every_weight():
    model = Autoregressive(LEVELS, GRID, dim=32, depth=1, heads=2)
    autoregressive_loss(model, *clips(32), label_dropout=0.5)[0].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_it_starts_from_the_frequencies():
    """It has seen 3 of 4 tokens be 5 and the others 9, and not one clip."""
    torch.manual_seed(0)
    model = Autoregressive(LEVELS, GRID, dim=32, depth=1, heads=2)
    tokens = torch.full((400, *GRID), 9)
    tokens[:300] = 5
    model.start_from(tokens)
    assert torch.equal(model.bias, frequencies(tokens, K))
    p = model.bias.softmax(-1)
    assert p[5].item() == pytest.approx(0.75, abs=0.01)
    assert p[9].item() == pytest.approx(0.25, abs=0.01)
    assert (p > 0).all()


def test_it_learns_that_a_token_repeats_the_one_a_frame_before():
    """Random first frames, repeated: from log2 K bits a token down to little more than the eighth that is news."""
    torch.manual_seed(0)
    model = Autoregressive(LEVELS, GRID, dim=32, depth=2, heads=2)
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
    levels = profile("full").tokenizer["levels"]
    size, other = (
        sum(p.numel() for p in kind(levels, GRID).parameters()) for kind in (Autoregressive, MaskedTransformer)
    )
    assert size == pytest.approx(other, rel=0.05)
    assert size <= 6e6


def test_both_ends_share_one_table_of_words(model):
    assert [name for name, p in model.named_parameters() if p.shape[0] >= K and p.ndim == 2 and "net" not in name] == [
        "words.own.weight"
    ]


def test_words_of_language_can_join():
    torch.manual_seed(0)
    model = Autoregressive(LEVELS, GRID, dim=32, depth=1, heads=2, more=100).eval()
    table = model.words()
    assert len(table) == model.net.num_tokens == K + 4 + 1 + 100
    said, cache = model.following(torch.tensor([[K + 5, K + 104]]), table)  # two words of text, and then a class
    assert said.shape == (1, 2, K)
    then, _ = model.following(model.start(torch.tensor([1])), table, cache)
    alone, _ = model.following(model.start(torch.tensor([1])), table)
    assert not torch.allclose(then, alone, atol=1e-4)
    assert generate(model, [0]).max() < K


def test_the_config_builds_the_same_model_again_and_float16_keeps_the_places(model, tmp_path):
    pretrained.save(model, {}, "autoregressive", tmp_path)
    again = pretrained.load("autoregressive", tmp_path)[0]
    assert torch.equal(logits(again, *clips()), logits(model, *clips()))
    pretrained.save(model, {}, "half", tmp_path, dtype=torch.float16)
    rotation = pretrained.load("half", tmp_path)[0].net.attn_layers.rotary_pos_emb
    assert torch.equal(rotation.inv_freq, model.net.attn_layers.rotary_pos_emb.inv_freq)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_builds_it(name):
    cfg = profile(name)
    model = Autoregressive(cfg.tokenizer.get("levels", LEVELS), GRID, **cfg.autoregressive)
    assert logits(model, *clips()).shape == (4, 128, model.codebook_size)


def test_the_recipe_trains_it_once_on_the_training_world(tmp_path, capsys):
    cfg = profile("smoke")
    model, card = recipes.autoregressive(cfg, tmp_path)
    assert "autoregressive: trained here and saved" in capsys.readouterr().out
    assert card["data"] == f"tokens of {cfg.transformer_clips} clips of world {SEEDS['train']}"
    assert set(card["figures"]) == {"loss", "bits"}
    again, _ = recipes.autoregressive(cfg, tmp_path)
    assert capsys.readouterr().out.startswith("autoregressive: loaded")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    codec = pretrained.load("tokenizer", tmp_path)[0]
    assert model.codebook_size == codec.codebook_size
    assert codec.decode(generate(model, [0])).shape == (1, 3, 16, 64, 64)
