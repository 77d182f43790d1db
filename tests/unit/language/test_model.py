"""A sentence in the joint transformer's sequence: adapters, what the model receives, sentences, and prompts."""

import numpy as np
import pytest
import torch

from trajlib.data.clips import split
from trajlib.data.slots import SLOTS, VALUES, as_slots, name_slots, true_measures
from trajlib.generation.joint import JointTransformer
from trajlib.generation.joint_sampling import decode_video, sample_trajectories
from trajlib.generation.tasks import TASK_NUMBERS
from trajlib.language import sentences
from trajlib.language.captions import DECIDING, mask_sentences, trajectory_slots, words_loss, write_captions
from trajlib.language.grammar import (
    HELD_OUT,
    MASK,
    MAX_WORDS,
    NUMBERS,
    PAD,
    SentenceError,
    decode_text,
    encode_text,
    parse,
)  # fmt: skip
from trajlib.language.model import LanguageModel, Reading
from trajlib.language.next_words import is_grammatical
from trajlib.zoo.language_recipe import described_tracks

GRID, CODES = (8, 4, 4), 60


@pytest.fixture(scope="module")
def joint():
    torch.manual_seed(0)
    model = JointTransformer(CODES, GRID, dim=32, depth=2, heads=2, trajectory={"counts": (4, 4, 2), "levels": 32})
    model.fit_trajectories(torch.rand(50, 16, 3) * 20 + 20)
    return model.eval()


@pytest.fixture(scope="module")
def model(joint):
    torch.manual_seed(1)
    return LanguageModel(joint, rank=4).eval()


@pytest.fixture(scope="module")
def reading(model):
    dots = torch.rand(6, 16, 3, generator=torch.Generator().manual_seed(2)) * 20 + 20
    return model.reading(dots, torch.randint(CODES, (6, *GRID), generator=torch.Generator().manual_seed(3)), 16)


# ---- adapters ----


def test_adapters_start_as_the_transformer_and_leave_it_alone(joint, model):
    tokens = torch.randint(32, (3, joint.trajectory.n))
    before = joint.trajectory_logits(tokens)
    assert torch.equal(model.joint.trajectory_logits(tokens), before)
    for name, weight in model.named_parameters():
        if "up" in name:
            weight.data.normal_(generator=torch.Generator().manual_seed(4))
    assert not torch.allclose(model.joint.trajectory_logits(tokens), before)
    assert torch.equal(joint.trajectory_logits(tokens), before)


def test_only_words_and_adapters_are_trained_and_stored(joint, model):
    state, trained = model.state_dict(), {name for name, w in model.named_parameters() if w.requires_grad}
    assert set(state) == trained
    assert not any(name.endswith("original") for name in trained)
    other = LanguageModel(joint, rank=4)
    other.load_state_dict(state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in state.items())
    with pytest.raises(RuntimeError, match="word_output"):
        other.load_state_dict({name: value for name, value in state.items() if name != "word_output.bias"})


def test_without_words_sampling_is_that_of_the_transformer(joint):
    plain = LanguageModel(joint, rank=4).eval()
    assert torch.equal(sample_trajectories(plain.joint, [0, 1], seed=3), sample_trajectories(joint, [0, 1], seed=3))
    path = sample_trajectories(joint, [0], seed=1)
    assert torch.equal(decode_video(plain.joint, path, seed=5), decode_video(joint, path, seed=5))


# ---- what the model receives ----


def test_a_causal_word_depends_on_those_before_it_only(model, reading):
    words = torch.randint(3, len(NUMBERS), (6, MAX_WORDS))
    changed = words.clone()
    changed[:, 10:] = NUMBERS["dot"]
    first, second = (model.word_logits(some, reading, causal=True) for some in (words, changed))
    torch.testing.assert_close(first[:, :11], second[:, :11])
    assert not torch.allclose(first[:, 11:], second[:, 11:])


def test_a_masked_word_is_not_read(model, reading):
    words = torch.randint(3, len(NUMBERS), (6, MAX_WORDS))
    words[:, 5] = NUMBERS[MASK]
    logits = model.word_logits(words, reading)
    assert logits.shape == (6, MAX_WORDS, len(NUMBERS))
    assert torch.equal(logits, model.word_logits(words.clone(), reading))


class Dots:
    """Stands for a tokenizer: a token of a time step decodes to where its dot is; an even sum to no dot at all."""

    def decode(self, tokens):
        videos = torch.ones(len(tokens), 3, 16, 64, 64)
        for video, steps in zip(videos, tokens.flatten(2).repeat_interleave(2, 1), strict=True):
            for t, step in enumerate(steps):
                x, y = (step[:2] % 50 + 5).tolist()
                video[:, t, y : y + 4, x : x + 4] = 0.0
        return torch.where((tokens.flatten(1).sum(1) % 2 == 0)[:, None, None, None, None], 1.0, videos)


def test_the_whole_input_is_tokens_and_what_they_decode_to(model, monkeypatch):
    """No truth enters: all that reaches the backbone follows from the tokens; labels and slots have no way in."""
    seen = []
    monkeypatch.setattr(model.joint.backbone, "forward", lambda x, **_: seen.append(x) or x)
    tokens = torch.randint(CODES, (4, *GRID))
    readings = [sentences.read_clip(model, Dots(), some) for some in (tokens, tokens.clone())]
    for reading in readings:
        sentences.answer(model, reading, "colour")
    assert torch.equal(seen[0], seen[1])  # a function of the tokens alone
    prefix = torch.stack([model.joint.task_embedding.weight[TASK_NUMBERS["CG"]], model.joint.label_embedding.weight[4]])
    torch.testing.assert_close(seen[0][:, :2], prefix.expand(4, -1, -1))  # generation's task, and no class
    assert set(vars(readings[0])) == {"trajectories", "tokens", "offsets", "kept"}


def test_the_dot_is_read_where_the_decoded_clip_shows_it():
    """In the middle, with radius 0, where it shows none."""
    tokens = torch.full((2, *GRID), 20)
    tokens[1, 0, 0, 0] = 21  # an odd sum: the second clip has a dot
    joint = JointTransformer(CODES, GRID, dim=32, depth=1, heads=2)
    found = sentences.read_clip(LanguageModel(joint, rank=1), Dots(), tokens).trajectories
    middle = torch.tensor([31.5, 31.5, 0.0])
    torch.testing.assert_close(found[0], middle.expand(16, -1))
    torch.testing.assert_close(found[1, 2:, :2], torch.full((14, 2), 26.5))
    assert (found[1, :, 2] > 2).all()


def test_a_reading_is_sliced_like_a_tensor(reading):
    part = reading[2:4]
    assert len(part) == 2
    assert torch.equal(part.tokens, reading.tokens[2:4])
    assert Reading(reading.trajectories)[:1].tokens is None


# ---- what it is trained on ----


def test_slots_of_trajectories_are_those_of_the_tracks():
    data = split("train")
    trajectories, facts = described_tracks(data, 40)
    assert (
        trajectory_slots(trajectories, facts) == name_slots(true_measures([data.track(i) for i in range(40)]))
    ).all()


def test_training_captions_are_true_and_hold_no_held_out_pair():
    named = name_slots(true_measures([split("train").track(i) for i in range(60)]))
    rng, asked = np.random.default_rng(0), 0
    for _ in range(5):
        words, given = write_captions(named, rng, 0.3)
        for row, numbers, known in zip(named, words.tolist(), given.tolist(), strict=True):
            text = decode_text(numbers)
            if known:
                asked += 1
                assert text.split()[known - 1] == "?"
                continue
            slots = parse(text)
            assert slots.items() <= as_slots(row).items()
            assert not any(pair.items() <= slots.items() for pair in HELD_OUT)
    assert 50 < asked < 150


def test_masks_leave_a_question_and_the_loss_leaves_padding():
    words = torch.tensor([encode_text("what colour is it ? red"), encode_text("a dot circles")])
    torch.manual_seed(0)
    masked = torch.stack([mask_sentences(words, torch.tensor([5, 0])) for _ in range(20)])
    assert not masked[:, 0, :5].any()
    assert masked[:, 0, 5].any()
    logits = torch.zeros(2, MAX_WORDS, len(NUMBERS))
    logits[:, :, NUMBERS[PAD]] = 5.0
    alone = words_loss(logits, words, torch.ones_like(words, dtype=torch.bool))
    shifted = logits.clone()
    shifted[1, 10:, NUMBERS["red"]] = 9.0  # after the end
    assert torch.equal(alone, words_loss(shifted, words, torch.ones_like(words, dtype=torch.bool)))
    assert DECIDING[NUMBERS["red"]]
    assert not DECIDING[NUMBERS["dot"]]


# ---- sentences and clips ----


def test_constrained_sentences_are_grammatical_and_seeded(model, reading):
    texts, sure = sentences.write_sentences(model, reading)
    assert all(map(is_grammatical, texts))
    assert sure.shape == (6, MAX_WORDS)
    assert ((sure > 0) & (sure <= 1)).all()
    drawn = [sentences.write_sentences(model, reading, seed=seed)[0] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_answers_are_probabilities(model, reading):
    for slot in SLOTS:
        found = sentences.answer(model, reading, slot)
        assert found.shape == (6, len(VALUES[slot]))
        torch.testing.assert_close(found.sum(1), torch.ones(6))
    assert sentences.compare(model, reading, "speed").shape == (6,)
    assert sentences.log_answers(model, reading).shape == (6, 9, 6)
    assert (sentences.sentence_bits(model, ["a dot circles"] * 6, reading) > 0).all()


def test_prompts_are_seeded_and_checked(model):
    texts = ["a red dot circles", "it moves fast"]
    some = [sentences.generate_from_text(model, Dots(), texts, seed=seed) for seed in (0, 0, 1)]
    assert some[0].shape == (2, *GRID)
    assert torch.equal(some[0], some[1])
    assert not torch.equal(some[0], some[2])
    for text in ("a redd dot circles", "a dot follows a line clockwise", "a dot moves", ""):
        with pytest.raises(SentenceError):
            sentences.generate_from_text(model, Dots(), text)
    with pytest.raises(SentenceError, match="no sentence"):
        sentences.generate_from_text(model, Dots(), [])


def test_the_clip_stays_that_makes_its_sentence_likeliest_when_read_back(model):
    texts = ["a red dot circles", "it moves fast"]
    every = [sentences.generate_from_text(model, Dots(), texts, candidates=1, seed=seed) for seed in range(2)]
    assert torch.equal(every[0], sentences.generate_from_text(model, Dots(), texts, candidates=1, clips=4))
    several, kept = [texts[0]] * 3 + [texts[1]] * 3, torch.randint(CODES, (6, *GRID))
    reading = sentences.read_clip(model, Dots(), kept)
    bits = sentences.sentence_bits(model, several, reading).view(2, 3)
    found = sentences._likeliest(model, several, reading, kept, 3, 1)
    assert torch.equal(found, kept.unflatten(0, (2, 3))[[0, 1], bits.argmin(1)])
