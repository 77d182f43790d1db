"""The prompt box in Python: a sentence, its clip, and the check of each slot. No browser here."""

import io
import json

import pytest
import torch
from PIL import Image

from trajlib import plots
from trajlib.generation.joint import JointTransformer
from trajlib.language.grammar import PHRASES, SentenceError, parse
from trajlib.language.model import LanguageModel
from trajlib.widgets import prompt_box
from trajlib.widgets.prompt_box import Prompt, PromptBox, phrases_of, suggestions


@pytest.fixture(scope="module")
def write(tokenizer):
    torch.manual_seed(0)
    sizes = tokenizer.codebook_size, tokenizer.grid, tokenizer.levels
    model = LanguageModel(JointTransformer(*sizes, dim=16, depth=1, heads=2), rank=2).eval()
    return lambda **settings: Prompt(tokenizer, model, **settings)


@pytest.fixture
def box(write):
    return PromptBox(write())


def test_a_sentence_gives_a_clip_and_a_check_for_each_slot(write):
    prompt = write(text="a big blue ball follows a line to the left")
    checks = prompt.made.checks
    assert {check.slot: check.asked for check in checks} == parse(prompt.text)
    assert all(check.fulfilled == (check.found == check.asked) for check in checks)
    assert prompt.made.video.shape == (3, 16, 64, 64)
    assert parse(prompt.made.caption)
    assert (write(text=prompt.text).made.video == prompt.made.video).all()


def test_phrases_and_what_may_come_next():
    found = phrases_of("a tiny dot moves in a circle for most of a turn")
    assert [(words, slot) for words, slot, _ in found] == [
        ("a", None), ("tiny", "size"), ("dot", None), ("moves in a circle", "family"), ("for most of a turn", "turns"),
    ]  # fmt: skip
    assert "circles" in suggestions("a red dot")
    assert suggestions("red circles") == suggestions("a purple dot") == []


@pytest.mark.parametrize("number", range(5))
def test_a_phrase_is_replaced_by_the_next_value_of_its_slot(write, number):
    prompt = write(text="a tiny dot moves in a circle for most of a turn")
    slot = phrases_of(prompt.text)[number][1]
    if slot is None:
        with pytest.raises(SentenceError, match="names nothing"):
            prompt.replaced(number)
        return
    before, after = parse(prompt.text), parse(prompt.replaced(number).text)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {slot}


def test_messages_change_the_box_and_an_error_keeps_the_clip(box):
    video = box.videos["video"]
    box.receive({"do": "write", "text": "the dot spirals slowly"})
    assert box.view["error"] == ""
    assert box.view["text"] == "the dot spirals slowly"
    assert [chip["slot"] for chip in box.view["chips"]] == ["", "", "family", "speed"]
    assert box.videos["video"] != video
    video = box.videos["video"]
    box.receive({"do": "write", "text": "the dot spirls"})
    assert "nearest: spirals" in box.view["error"]
    assert box.view["text"] == "the dot spirals slowly"
    assert box.videos["video"] == video
    box.receive({"do": "suggest", "text": "it"})
    assert "spirals" in box.view["suggestions"]
    box.receive({"do": "replace", "number": 3})
    assert parse(box.view["text"])["speed"] == "fast"
    box.receive({"do": "set", "name": "seed", "value": 4})
    assert box.view["settings"] == {"seed": 4}
    json.dumps(box.view, allow_nan=False)


def test_each_value_has_a_phrase_that_a_replacement_can_use():
    assert all(phrases for values in PHRASES.values() for phrases in values.values())


def test_the_static_twin_is_a_picture(write):
    given = write()
    box = prompt_box.prompt_box(given.tokenizer, given.model)
    assert isinstance(box, PromptBox)
    with Image.open(io.BytesIO(plots.png(box.figure()))) as picture:
        assert picture.width > 500
