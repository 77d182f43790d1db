"""Which words may come next: the grammar as an automaton, for decoding that stays grammatical.

A state is the stage of the sentence, the slots that are named already, and what is left of the phrase that was begun.
"""

from collections.abc import Sequence
from functools import lru_cache

from trajlib.data.slots import SLOTS
from trajlib.language.grammar import ARTICLES, CANNOT, MAX_WORDS, MODIFIERS, NOUNS, PAD, PHRASES, PLAIN_VERBS

Open = tuple[str, frozenset[str], tuple[str, ...]]  # stage, slots that are named, what is left of a phrase


@lru_cache(maxsize=100_000)
def _continuations(stage: str, used: frozenset[str]) -> tuple[tuple[tuple[str, ...], str, frozenset[str]], ...]:
    """The phrases (words, next stage, slots then named) that may come after a stage."""

    def of(slot: str, before: str = "") -> list[tuple[tuple[str, ...], frozenset[str], str]]:
        return [
            ((*before.split(), *phrase.split()), used | {slot, value}, value)
            for value, phrases in PHRASES[slot].items()
            for phrase in phrases
        ]

    found: list[tuple[tuple[str, ...], str, frozenset[str]]] = []
    if stage in ("start", "after speed"):
        found += [((article,), "size", used) for article in ARTICLES]
        found += [(("it",), "verb", used | {"it"})] if stage == "start" else []
        found += [(words, "after speed", now) for words, now, _ in of("speed")] if stage == "start" else []
    if stage == "size":
        found += [(words, "colour", now) for words, now, _ in of("size")]
    if stage in ("size", "colour"):
        found += [(words, "noun", now) for words, now, _ in of("colour")]
    if stage in ("size", "colour", "noun"):
        found += [((noun,), "verb", used) for noun in NOUNS]
    if stage == "verb":
        found += [((verb,), "modifiers", used) for verb in PLAIN_VERBS]
        found += [(words, "modifiers", now) for words, now, _ in of("family")]
    if stage in ("modifiers", "more"):
        excluded = {slot for family, slots in CANNOT.items() if family in used for slot in slots}
        for slot in set(MODIFIERS) - used - excluded:
            found += [(words, "more", now) for words, now, _ in of(slot)]
            found += [(words, "last", now) for words, now, _ in of(slot, "and")] if stage == "more" else []
    if stage in ("modifiers", "more", "last") and "it" in used:
        found += [(words, "and colour", now) for words, now, _ in of("size", "and is")]
        found += [(words, "end", now) for words, now, _ in of("colour", "and is")]
    if stage == "and colour":
        found += [(words, "end", now) for words, now, _ in of("colour", "and")]
    return tuple(found)


@lru_cache(maxsize=100_000)
def _open(prefix: tuple[str, ...]) -> frozenset[Open]:
    """All ways in which the grammar can have come to `prefix`."""
    if not prefix:
        return frozenset({("start", frozenset(), ())})
    found: set[Open] = set()
    for stage, used, rest in _open(prefix[:-1]):
        options = [(rest, stage, used)] if rest else _continuations(stage, used)
        found |= {(after, now, words[1:]) for words, after, now in options if words[0] == prefix[-1]}
    return frozenset(found)


def _ends(state: Open) -> bool:
    stage, used, rest = state
    names = used & set(SLOTS)
    return not rest and stage in ("modifiers", "more", "last", "and colour", "end") and bool(names)


def next_words(prefix: Sequence[str]) -> set[str]:
    """The words with which a sentence that began with `prefix` can go on; PAD among them where it can end.

    A sentence fits into MAX_WORDS.
    """
    left, found = MAX_WORDS - len(prefix), set()
    for stage, used, rest in _open(tuple(prefix)):
        options = [(rest, stage, used)] if rest else _continuations(stage, used)
        found |= {words[0] for words, *_ in options if len(words) <= left}
        found |= {PAD} if _ends((stage, used, rest)) else set()
    return found


def is_grammatical(text: str) -> bool:
    """Whether the grammar can produce this very text; what is no text, it cannot."""
    words = text.split() if isinstance(text, str) else []
    return len(words) <= MAX_WORDS and any(map(_ends, _open(tuple(words))))
