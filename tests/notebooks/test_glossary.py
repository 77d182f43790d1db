"""No word of the project's own where the field has a term: in code, notebooks, widgets, README, errors."""

import pytest
from glossary import is_checked, text_of, violations
from repository import ROOT, tracked


@pytest.mark.parametrize(
    "text",
    ["the films are decoded", "white paper", "an error of place", "what the model is told", "obeys its class",
     "INK = 3", "the planner", "one more arm", "by luck alone", "codec.decode(tokens)", "from trajlib import Codec",
     "beside it"],
)  # fmt: skip
def test_words_are_found(text):
    assert violations(text) != []


@pytest.mark.parametrize(
    "text",
    ["a film strip of 16 frames", "the paper's table 5", "in its place", "H.264 is a codec", "six digits",
     "tokens (b, t, h, w, books)", "a harmless sentence", "an alarm", "timestamps", "the link", "csv.writer(file)"],
)  # fmt: skip
def test_everyday_words_are_not(text):
    assert violations(text) == []


def test_every_tracked_text_uses_the_terms():
    files = [path for path in tracked() if is_checked(path, ROOT)]
    found = {str(path.relative_to(ROOT)): violations(text_of(path)) for path in files}
    lines = [f"{name}: {fault}" for name, faults in found.items() for fault in faults]
    assert lines == [], f"{len(lines)} words to replace"
