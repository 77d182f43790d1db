"""Sentences about a clip: a compositional grammar over its slots, its closed vocabulary, and back from text to slots.

    a [size] [colour] dot VERB MODIFIERS                   "a small red dot circles clockwise coming closer"
    MODIFIER a [size] [colour] dot VERB MODIFIERS          "slowly a big dot follows a line"
    it VERB MODIFIERS [and is size [and colour]]           "it spirals to the right and is blue"
    QUESTION ? ANSWER                                      "which way does it turn ? clockwise"

Each slot that is named has several phrasings; which slots are named, and in which order, varies. See `data.slots` for
what a slot means.
"""

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from trajlib.data.clips import as_indices
from trajlib.data.slots import SLOTS, VALUES
from trajlib.data.spec import check_name, check_number, describe

MAX_WORDS = 24
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "family": {
        "linear": ("moves straight", "flies straight", "follows a line"),
        "circular": ("circles", "follows a circle", "moves in a circle"),
        "helical": ("spirals", "follows a helix", "moves in a spiral"),
        "parabolic": ("follows a parabola", "moves in an arc", "flies in an arc"),
    },
    "heading": {"left": ("to the left", "leftwards"), "right": ("to the right", "rightwards")},
    "vertical": {"rising": ("rising", "upwards"), "falling": ("falling", "downwards")},
    "rotation": {
        "counterclockwise": ("counterclockwise", "turning counterclockwise"),
        "clockwise": ("clockwise", "turning clockwise"),
    },
    "turns": {"most": ("for most of a turn", "not quite around"), "full": ("for a full turn", "once around")},
    "depth": {"receding": ("receding", "going away"), "approaching": ("approaching", "coming closer")},
    "speed": {"slow": ("slowly", "without haste"), "fast": ("fast", "quickly")},
    "size": {"small": ("small", "tiny"), "large": ("large", "big")},
    "colour": {"red": ("red",), "yellow": ("yellow",), "green": ("green",), "cyan": ("cyan", "turquoise"),
               "blue": ("blue",), "magenta": ("magenta", "pink")},
}  # fmt: skip
ADJECTIVES = ("size", "colour")
MODIFIERS = ("heading", "vertical", "rotation", "turns", "depth", "speed")
PLAIN_VERBS, ARTICLES, NOUNS = ("moves", "flies", "travels"), ("a", "the"), ("dot", "ball")
QUESTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # slot: phrasings, and answers in VALUES' order
    "family": (("what path does it follow",), ("line", "circle", "helix", "parabola")),
    "heading": (("which way does it head", "does it move to the left or to the right"), ("left", "right")),
    "vertical": (("does it rise or fall",), ("rising", "falling")),
    "rotation": (("which way does it turn",), ("counterclockwise", "clockwise")),
    "turns": (("how far around does it go",), ("most", "full")),
    "depth": (("does it come closer",), ("no", "yes")),
    "speed": (("how fast is it", "is it fast or slow"), ("slow", "fast")),
    "size": (("how large is it", "is it small or large"), ("small", "large")),
    "colour": (("what colour is it",), VALUES["colour"]),
}
HELD_OUT = (  # pairs of values that no sentence of the training names together
    {"family": "helical", "depth": "receding"},
    {"family": "parabolic", "colour": "green"},
    {"colour": "blue", "rotation": "clockwise"},
    {"size": "small", "speed": "fast"},
    {"heading": "left", "vertical": "rising"},
)
# what a value excludes: a line does not turn, and only circles and helices make turns
CANNOT = {"linear": ("rotation", "turns"), "parabolic": ("turns",)}
FILLERS = {*ARTICLES, *NOUNS, *PLAIN_VERBS, "it", "is", "and", "an"}
PAD, MASK = "<pad>", "<mask>"


_TEXTS = [*FILLERS, *(text for values in PHRASES.values() for phrases in values.values() for text in phrases)]
_TEXTS += [text for questions, answers in QUESTIONS.values() for text in (*questions, *answers)]
VOCABULARY = (PAD, MASK, "?", *sorted(set(" ".join(_TEXTS).split())))
NUMBERS = {word: number for number, word in enumerate(VOCABULARY)}
MEANINGS = {  # phrase: (slot, value)
    tuple(phrase.split()): (slot, value)
    for slot, values in PHRASES.items()
    for value, phrases in values.items()
    for phrase in phrases
}
LONGEST = max(map(len, MEANINGS))


class SentenceError(ValueError):
    """A sentence that cannot be read; the message says why, and what would do."""


# ---- text and numbers ----


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation. SentenceError for words outside of the vocabulary."""
    if not isinstance(text, str):
        raise SentenceError(f"text came as {type(text).__name__}; a sentence was expected.")
    found = re.findall(r"[^\s.,;!?]+|\?", text.lower())
    unknown = [word for word in dict.fromkeys(found) if word not in NUMBERS or word in (PAD, MASK)]
    if unknown:
        near = {word: difflib.get_close_matches(word, VOCABULARY[3:], 3, 0.5) for word in unknown}
        said = [f"{word!r} (nearest: {', '.join(some)})" if some else f"{word!r}" for word, some in near.items()]
        raise SentenceError(f"unknown words: {'; '.join(said)}. The vocabulary has {len(VOCABULARY) - 2} words.")
    if len(found) > MAX_WORDS:
        raise SentenceError(f"{len(found)} words came; a sentence has at most {MAX_WORDS}.")
    return found


def encode_text(text: str) -> list[int]:
    """MAX_WORDS numbers of words, padded. SentenceError as in `split_words`."""
    found = [NUMBERS[word] for word in split_words(text)]
    return found + [NUMBERS[PAD]] * (MAX_WORDS - len(found))


def decode_text(numbers: Sequence[int]) -> str:
    """The words up to the first padding. ValueError or IndexError for what are no numbers of words."""
    words = [VOCABULARY[number] for number in as_indices(numbers, len(VOCABULARY), "word {} of a vocabulary")]
    return " ".join(words[: words.index(PAD)] if PAD in words else words)


def parse(text: str) -> dict[str, str]:
    """The slots that a sentence names, {slot: value}, in their order in the text.

    Any order of phrases is read. SentenceError for unknown words (the nearest known ones are named), words that make
    no phrase, values that contradict each other, and a sentence that names nothing.
    """
    found: dict[str, str] = {}
    words, at = split_words(text), 0
    while at < len(words):
        for length in range(min(LONGEST, len(words) - at), 0, -1):
            meaning = MEANINGS.get(tuple(words[at : at + length]))
            if meaning:
                slot, value = meaning
                if found.get(slot, value) != value:
                    raise SentenceError(f"{text!r} contradicts itself: {slot} is both {found[slot]} and {value}.")
                found[slot] = value
                break
        else:
            length = 1
            if words[at] not in FILLERS:
                some = [" ".join(phrase) for phrase in MEANINGS if words[at] in phrase]
                raise SentenceError(f"{words[at]!r} makes no phrase here; it is part of: {', '.join(some) or 'none'}.")
        at += length
    if not found:
        raise SentenceError(f"{text!r} says nothing about a clip; name one of: {', '.join(SLOTS)}.")
    check_slots(found)
    return found


def check_slots(slots: Mapping[str, str], some: bool = False) -> None:
    """SentenceError for no dict, an unknown slot or value, or for values that exclude each other.

    `some`: for an empty one, too.
    """
    if not isinstance(slots, Mapping):
        raise SentenceError(f"slots came as {describe(slots)}; a dict {{slot: value}} was expected.")
    for slot, value in slots.items():
        if value not in VALUES.get(slot, ()):
            expected = ", ".join(VALUES.get(slot, SLOTS))
            raise SentenceError(f"{slot} is {value!r}; expected one of {expected}.")
    for slot in CANNOT.get(slots.get("family", ""), ()):
        if slot in slots:
            raise SentenceError(f"a {slots['family']} path has no {slot}, and {slots[slot]!r} came: leave one out.")
    if some and not slots:
        raise SentenceError(f"no slots came; name one of: {', '.join(SLOTS)}.")


def is_held_out(slots: Mapping[str, str]) -> bool:
    """Whether these slots hold a pair of HELD_OUT. SentenceError as `check_slots`."""
    check_slots(slots)
    return any(pair.items() <= slots.items() for pair in HELD_OUT)


# ---- sentences from slots ----


def sentence(slots: Mapping[str, str], rng: np.random.Generator, shortest: bool = False) -> str:
    """A random sentence of at most MAX_WORDS words that names exactly these slots. SentenceError as `check_slots`.

    `shortest`: of each slot its shortest phrasing.
    """
    check_slots(slots, some=True)

    def phrase(slot: str) -> str:
        options = PHRASES[slot][slots[slot]]
        return min(options, key=lambda some: some.count(" ")) if shortest else options[rng.integers(len(options))]

    verb = phrase("family") if "family" in slots else PLAIN_VERBS[rng.integers(3)]
    adjectives = [phrase(slot) for slot in ADJECTIVES if slot in slots]
    order = [slot for slot in MODIFIERS if slot in slots]
    rng.shuffle(order)
    pattern, joined = rng.random(), rng.random() < 0.5
    article = [ARTICLES[rng.integers(2)], *adjectives, NOUNS[rng.integers(2)]]
    first = []
    if pattern < 0.3:
        article, adjectives = ["it"], ["and is " + " and ".join(adjectives)] if adjectives else []
    else:
        adjectives = []
        if pattern > 0.8 and order and order[0] == "speed":
            first = [phrase(order.pop(0))]
    modifiers = [phrase(slot) for slot in order]
    if joined and len(modifiers) > 1:
        modifiers.insert(-1, "and")
    text = " ".join([*first, *article, verb, *modifiers, *adjectives])
    return text if text.count(" ") < MAX_WORDS else sentence(slots, rng, True)


def caption(slots: Mapping[str, str], rng: np.random.Generator, share: float | None = None) -> str:
    """A random caption of a clip with these slots: some of them, never a pair of HELD_OUT together.

    `share`: the chance that a slot is named; None draws it between 0.3 and 1 first, again each time.
    """
    check_slots(slots, some=True)
    share = rng.uniform(0.3, 1) if share is None else share
    check_number("share", share, 0, 1)
    named = [slot for slot in slots if rng.random() < share] or [list(slots)[rng.integers(len(slots))]]
    kept = {slot: slots[slot] for slot in named}
    for pair in HELD_OUT:
        if pair.items() <= kept.items():
            del kept[list(pair)[rng.integers(2)]]
    return sentence(kept, rng)


def question(slot: str, rng: np.random.Generator) -> str:
    """A random question for a slot, with its question mark. ValueError for an unknown slot."""
    check_name("slot", slot, SLOTS)
    options = QUESTIONS[slot][0]
    return f"{options[rng.integers(len(options))]} ?"
