"""Slots of a clip, sentences that name them, and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajlib.data import slots as slots_of
from trajlib.data.clips import split
from trajlib.data.slots import SLOTS, VALUES
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float
from trajlib.evaluate.slots import read_slots
from trajlib.language import grammar
from trajlib.language.grammar import PAD, SentenceError, caption, parse, sentence
from trajlib.language.next_words import is_grammatical, next_words


@st.composite
def slot_sets(draw):
    """Some slots with values that can hold together."""
    chosen = draw(st.lists(st.sampled_from(SLOTS), unique=True, min_size=1))
    found = {slot: draw(st.sampled_from(VALUES[slot])) for slot in chosen}
    excluded = grammar.CANNOT.get(found.get("family", ""), ())
    return {slot: value for slot, value in found.items() if slot not in excluded}


# ---- slots ----


def path_of(points, frames=16):
    """Measures of a path through `points`, radius 3, red, linear."""
    at = np.linspace(0, len(points) - 1, frames)
    path = np.stack([np.interp(at, range(len(points)), axis) for axis in np.array(points, float).T], 1)[None]
    return slots_of.measure_slots(path, np.full((1, frames), 3.0), [0.0], [0], [0.0])


def test_a_slot_is_what_the_camera_sees():
    named = slots_of.as_slots(slots_of.name_slots(path_of([(10, 50), (50, 20)]))[0])
    assert named == {"family": "linear", "heading": "right", "vertical": "rising", "speed": "fast", "colour": "red"}
    square = [(20, 20), (40, 20), (40, 40), (20, 40)]  # right, down, left: clockwise where y runs down
    assert slots_of.as_slots(slots_of.name_slots(path_of(square))[0])["rotation"] == "clockwise"
    assert slots_of.as_slots(slots_of.name_slots(path_of(square[::-1]))[0])["rotation"] == "counterclockwise"


def test_a_borderline_slot_has_no_name():
    measures = path_of([(20, 20), (23.9, 20)])
    assert "heading" not in slots_of.as_slots(slots_of.name_slots(measures)[0])
    assert slots_of.as_slots(slots_of.name_slots(measures, clear=False)[0])["heading"] == "right"
    hues = np.repeat(measures, 3, 0)
    hues[:, SLOTS.index("colour")] = 15, 16, np.nan
    assert [slots_of.as_slots(row).get("colour") for row in slots_of.name_slots(hues)] == ["red", None, None]


def test_measures_do_not_depend_on_the_size_of_the_picture():
    path, radius = np.random.default_rng(0).uniform(20, 40, (5, 16, 2)), np.full((5, 16), 3.0)
    small = slots_of.measure_slots(path, radius, np.zeros(5), np.ones(5), np.ones(5))
    large = slots_of.measure_slots(2 * path, 2 * radius, np.zeros(5), np.ones(5), np.ones(5), size=128)
    np.testing.assert_allclose(small, large)


def test_slots_read_from_pixels_are_the_true_ones():
    data = split("validation")
    true = slots_of.true_measures([data.track(i) for i in range(24)])
    read = read_slots(to_float(data.videos(range(24))))
    named = slots_of.name_slots(true)
    assert ((slots_of.name_slots(read, clear=False) == named) | (named < 0)).all()
    assert {slot for row in named for slot in slots_of.as_slots(row)} == set(SLOTS)


def test_a_video_without_a_dot_has_no_slots():
    assert np.isnan(read_slots(torch.ones(2, 3, 16, 64, 64))).all()


# ---- sentences ----


@given(slot_sets(), st.integers(0, 10**6))
def test_a_sentence_is_parsed_back_to_its_slots(slots, seed):
    text = sentence(slots, np.random.default_rng(seed))
    assert parse(text) == slots
    assert is_grammatical(text), text
    assert grammar.decode_text(grammar.encode_text(text)) == text


@given(slot_sets(), st.integers(0, 10**6))
def test_each_word_of_a_sentence_is_one_that_may_come_next(slots, seed):
    words = sentence(slots, np.random.default_rng(seed)).split()
    for k in range(len(words)):
        assert words[k] in next_words(words[:k]), words[:k]
    assert PAD in next_words(words)


@given(st.integers(0, 10**6))
def test_whatever_the_grammar_allows_can_be_parsed(seed):
    rng, words = np.random.default_rng(seed), []
    while (word := rng.choice(sorted(next_words(words)))) != PAD:
        words.append(str(word))
    assert len(words) <= grammar.MAX_WORDS
    assert is_grammatical(" ".join(words))
    assert parse(" ".join(words)) != {}


def test_sentences_vary():
    slots = {"family": "helical", "speed": "slow", "depth": "receding", "size": "large"}
    rng = np.random.default_rng(0)
    texts = {sentence(slots, rng) for _ in range(300)}
    assert len(texts) > 150
    assert len({tuple(parse(text)) for text in texts}) >= 5  # orders


@given(slot_sets(), st.integers(0, 10**6))
def test_no_caption_names_a_held_out_pair(slots, seed):
    named = parse(caption(slots, np.random.default_rng(seed)))
    assert named.items() <= slots.items()
    assert not grammar.is_held_out(named)


def test_held_out_pairs_are_possible_and_would_come_otherwise():
    for pair in grammar.HELD_OUT:
        assert len(pair) == 2
        assert grammar.is_held_out(parse(sentence(pair, np.random.default_rng(0))))


def test_captions_name_each_slot_and_leave_each_out():
    slots = {"family": "circular", "heading": "right", "rotation": "clockwise", "colour": "red"}
    rng = np.random.default_rng(1)
    named = [set(parse(caption(slots, rng))) for _ in range(200)]
    for slot in slots:
        assert 0.2 < np.mean([slot in some for some in named]) < 0.95


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a purpel dot circles", r"unknown words: 'purpel' \(nearest: .*\)"),
        ("a dot moves clockwies", r"nearest: clockwise"),
        ("a dot moves fast and slowly", "contradicts itself: speed is both fast and slow"),
        ("a small big dot moves", "size is both small and large"),
        ("a dot follows a line clockwise", "a linear path has no rotation"),
        ("it moves in an arc once around", "a parabolic path has no turns"),
        ("a dot moves", "says nothing about a clip"),
        ("", "says nothing about a clip"),
        ("a dot moves quite", "'quite' makes no phrase here; it is part of: not quite around"),
        ("fast " * 25, "25 words came; a sentence has at most 24"),
        ("<mask> red", "unknown words"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_why(text, why):
    with pytest.raises(SentenceError, match=why):
        parse(text)


@pytest.mark.parametrize("slots", [{}, {"colour": "brown"}, {"shape": "round"}, {"family": "linear", "turns": "full"}])
def test_slots_that_cannot_be_are_an_error(slots):
    with pytest.raises(SentenceError):
        sentence(slots, np.random.default_rng(0))


def test_text_outside_of_the_grammar_is_not_grammatical():
    for text in ("red a dot circles", "a dot circles and", "it circles and is", "a red red dot circles", "a dot moves"):
        assert not is_grammatical(text), text


def test_questions_have_an_answer_for_each_value():
    for slot, (phrasings, answers) in grammar.QUESTIONS.items():
        assert len(answers) == len(VALUES[slot])
        assert all(len(f"{text} ? {max(answers, key=len)}".split()) <= grammar.MAX_WORDS for text in phrasings)
    assert set(grammar.QUESTIONS) == set(SLOTS)
    assert len(FAMILIES) == len(grammar.QUESTIONS["family"][1])
