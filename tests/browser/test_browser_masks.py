"""Notebook 05: the mask studio."""

import itertools

import labdrive
import pytest
from labdrive import SHOTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]

MASKS = ".tl-masks"


@pytest.fixture(scope="module")
def studio(run):
    with run("05_masked_transformer.ipynb") as notebook:
        yield notebook


def kept_tokens(notebook, part):
    """What the studio's maps show: "mask" ("?" where masked), "tokens" or "confidence"; in order, 128 of them."""
    return notebook.page.locator(f"{MASKS} canvas.tl-{part}").get_attribute("data-tokens").split(" ")


def cell_of_mask(t, y, x):
    return {"x": 2 + t * 88 + x * 20 + 10, "y": 20 + y * 20 + 10}


def do(notebook, name, value=None):
    """Press the studio's button `name`, or choose or fill its control."""
    control = notebook.page.locator(f"{MASKS} .tl-{name}")
    if value is None:
        return notebook.answered(MASKS, control.click)
    if control.input_value() == str(value):
        return None  # the browser would send nothing
    if control.evaluate("e => e.tagName") == "SELECT":
        return notebook.answered(MASKS, lambda: control.select_option(value))
    return notebook.answered(MASKS, lambda: (control.fill(str(value)), control.press("Enter"), control.blur()))


def test_05_runs_without_complaint(studio):
    studio.page.locator(MASKS).screenshot(path=SHOTS / "05_masks_before.png")
    assert studio.complaints() == []
    assert "?" not in kept_tokens(studio, "tokens"), "it opens with a clip that is decoded to its end"


def test_05_a_task_brings_its_mask(studio):
    page, video = studio.page, f'{MASKS} canvas[data-video="observed"]'
    for task, count in {
        "OPV": 64,
        "CG": 128,
        "FP": 96,
        "IPC": 32,
    }.items():  # FP: 4 frames are observed, of tokens 2 of 8
        studio.changes(video, lambda task=task: do(studio, "task", task))
        assert kept_tokens(studio, "mask").count("?") == count
        assert kept_tokens(studio, "tokens").count("?") == count
        assert page.locator(f"{MASKS} .tl-label").is_disabled() == (task != "CG")
        assert page.locator(f"{MASKS} .tl-frames").is_disabled() == (task != "FP")
    assert studio.complaints() == []


def test_05_a_mask_is_painted_by_click_drag_and_keys(studio):
    page = studio.page
    do(studio, "task", "IPC")
    mask = page.locator(f"{MASKS} canvas.tl-mask")
    mask.scroll_into_view_if_needed()
    assert kept_tokens(studio, "mask")[4 * 16 + 1 * 4 + 1] == "?"
    shows = f'{MASKS} canvas[data-video="observed"]'
    page.locator(f"{MASKS} .tl-frame").fill("8")
    inside = cell_of_mask(4, 1, 1)
    studio.changes(shows, lambda: studio.answered(MASKS, lambda: mask.click(position=inside)))
    assert kept_tokens(studio, "mask")[4 * 16 + 1 * 4 + 1] == ""
    assert kept_tokens(studio, "tokens")[4 * 16 + 1 * 4 + 1] != "?"
    box = mask.bounding_box()
    first, last = ({k: box[k] + v for k, v in cell_of_mask(0, 0, x).items()} for x in (0, 3))

    def drag():
        page.mouse.move(**first)
        page.mouse.down()
        page.mouse.move(**last, steps=12)
        page.mouse.up()

    studio.answered(MASKS, drag)
    assert kept_tokens(studio, "mask")[:5] == ["?", "?", "?", "?", ""]
    studio.answered(MASKS, lambda: mask.click(position=cell_of_mask(2, 0, 0)))
    mask.press("ArrowRight")
    mask.press("ArrowRight")
    assert "frames from 4, row 0, column 2, observed" in mask.get_attribute("aria-label")
    studio.answered(MASKS, lambda: mask.press("Space"))
    assert kept_tokens(studio, "mask")[32:36] == ["?", "", "?", ""]
    studio.page.locator(MASKS).screenshot(path=SHOTS / "05_masks_painted.png")
    do(studio, "none")
    assert set(kept_tokens(studio, "mask")) == {"?"}
    do(studio, "all")
    assert set(kept_tokens(studio, "mask")) == {""}
    do(studio, "unpaint")
    assert kept_tokens(studio, "mask").count("?") == 32
    assert studio.complaints() == []


def test_05_decodes_and_steps_through(studio):
    page = studio.page
    do(studio, "task", "IPC")
    do(studio, "resampling_steps", 8)
    do(studio, "decode")
    assert "done in 12 steps and 8 resampling steps" in page.locator(f"{MASKS} .tl-status").inner_text()
    assert "resampling step 8 (20 of 20)" in page.locator(MASKS).inner_text()
    do(studio, "resampling_steps", 0)
    studio.answered(MASKS, lambda: page.locator(f"{MASKS} canvas.tl-mask").click(position=cell_of_mask(5, 1, 1)))
    assert page.locator(f"{MASKS} .tl-step").is_disabled()
    prediction = f'{MASKS} canvas[data-video="prediction"]'
    pictures = [f"{MASKS} canvas.tl-{part}" for part in ("tokens", "confidence")]
    before = [studio.picture(selector) for selector in pictures]
    do(studio, "decode")
    assert "done in 12 steps" in page.locator(f"{MASKS} .tl-status").inner_text()
    assert all(studio.picture(selector) != old for selector, old in zip(pictures, before, strict=True))
    result, tokens = studio.picture(prediction), kept_tokens(studio, "tokens")
    assert "?" not in tokens
    left = []
    for _ in range(12):
        do(studio, "back")
        left.append(kept_tokens(studio, "tokens").count("?"))
    assert left == sorted(left)
    assert left[-1] == 31, "one of the 32 was painted as observed"
    assert page.locator(f"{MASKS} .tl-back").is_disabled()
    slider = page.locator(f"{MASKS} .tl-step")
    studio.answered(MASKS, lambda: slider.press("End"))
    assert studio.picture(prediction) == result
    assert kept_tokens(studio, "tokens") == tokens
    studio.answered(MASKS, lambda: slider.press("ArrowLeft"))
    do(studio, "on")
    assert kept_tokens(studio, "tokens") == tokens
    studio.page.locator(MASKS).screenshot(path=SHOTS / "05_masks_decoded.png")
    assert studio.complaints() == []


def test_05_a_seed_gives_its_tokens_and_other_settings_others(studio):
    found = []
    for name, value in {"seed": 5, "order": "confidence", "temperature": 2, "steps": 3, "refine": "false"}.items():
        do(studio, name, value)
        do(studio, "decode")
        found.append(kept_tokens(studio, "tokens"))
    assert all(a != b for a, b in itertools.pairwise(found))
    do(studio, "decode")
    assert kept_tokens(studio, "tokens") == found[-1]
    do(studio, "task", "CG")
    do(studio, "guidance", 0)
    found = []
    for label in ("0", "2"):
        do(studio, "label", label)
        do(studio, "decode")
        found.append(kept_tokens(studio, "tokens"))
    assert found[0] == found[1], "guidance 0 ignores the class"
    assert studio.complaints() == []


def test_05_a_mistake_is_shown_and_forgotten(studio):
    do(studio, "steps", 99)
    sentence = "steps is 99; it can be a whole number from 1 to 32."
    assert studio.page.locator(f"{MASKS} .tl-error").inner_text() == sentence
    do(studio, "steps", 8)
    assert studio.complaints() == []
