"""Notebook 10: the prompt box."""

import labdrive
import nbformat
import pytest
from labdrive import SHOTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]

BOX = ".tl-prompt"


@pytest.fixture(scope="module")
def box(run, root):
    """The box with the models that it needs: what lies between takes a minute, and the replay runs all of it."""
    nb = nbformat.read(root / "10_language.ipynb", 4)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    nb.cells = [*code[:3], next(cell for cell in code if "prompt_box(" in cell.source)]
    nbformat.write(nb, root / "10_the_prompt_box.ipynb")
    with run("10_the_prompt_box.ipynb") as notebook:
        yield notebook


def write(box, text):
    """Write a sentence and press Enter."""
    box.page.locator(f"{BOX} .tl-text").fill(text)
    box.answered(BOX, lambda: box.press(box.page.locator(f"{BOX} .tl-text"), "Enter"))


def video(box):
    """The video's middle frame; it plays after each sentence, and is stopped for this."""
    play = box.page.locator(f"{BOX} .tl-play")
    if "pause" in play.inner_text():
        play.click()
    box.page.locator(f"{BOX} .tl-frame").fill("8")
    return box.picture(f'{BOX} canvas[data-video="video"]')


def checked(box):
    """The checks as they are shown: ["✓ size: small", ...]."""
    return box.page.locator(f"{BOX} .tl-checks li").all_inner_texts()


def test_10_a_sentence_becomes_a_clip_with_a_check_for_each_slot(box):
    before = video(box)
    assert box.complaints() == []
    write(box, "a big blue ball follows a line to the left")
    found = checked(box)
    assert [text.split(":")[0][2:] for text in found] == ["size", "colour", "family", "heading"]
    assert all(text[0] in "✓✗" for text in found)
    assert box.page.locator(f"{BOX} .tl-summary").inner_text().endswith("of 4 slots fulfilled")
    assert video(box) != before
    box.page.locator(BOX).screenshot(path=SHOTS / "10_prompt_box.png")
    assert box.complaints() == []


def test_10_a_word_is_replaced_at_a_key_and_the_clip_follows(box):
    write(box, "a big blue ball follows a line to the left")
    before, chip = video(box), box.page.locator(f"{BOX} .tl-chip", has_text="to the left")
    box.answered(BOX, lambda: box.press(chip, "Enter"))
    assert box.page.locator(f"{BOX} .tl-text").input_value() == "a big blue ball follows a line to the right"
    assert video(box) != before
    box.answered(BOX, lambda: box.page.locator(f"{BOX} .tl-another").click())
    box.page.locator(f"{BOX} .tl-read").first.click()
    assert "“" in box.page.locator(f"{BOX} div.tl-read").inner_text()
    assert box.complaints() == []


def test_10_suggestions_compose_a_sentence(box):
    box.page.locator(f"{BOX} .tl-text").fill("")
    box.answered(BOX, lambda: box.page.locator(f"{BOX} .tl-text").press_sequentially("it"))
    for word in ("spirals", "rising"):
        button = box.page.locator(f"{BOX} .tl-word", has_text=word).first
        box.answered(BOX, lambda button=button: button.click())
    assert box.page.locator(f"{BOX} .tl-text").input_value() == "it spirals rising"
    box.answered(BOX, lambda: box.page.locator(f"{BOX} .tl-make").click())
    assert len(checked(box)) == 2
    assert box.complaints() == []


def test_10_an_unknown_word_is_named_and_the_clip_stays(box):
    write(box, "it spirals slowly")
    before = video(box)
    write(box, "it spirals slwly")
    message = box.page.locator(f"{BOX} .tl-error").inner_text()
    assert "unknown words: 'slwly' (nearest: slowly" in message
    assert video(box) == before
    write(box, "it spirals slowly")
    assert box.complaints() == []
