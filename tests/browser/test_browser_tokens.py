"""Notebook 04: the token explorer with its map of the codebook, and the interpolation studio."""

import time

import labdrive
import numpy as np
import pytest
from labdrive import SHOTS

from trajlib.course.profiles import settings
from trajlib.data.clips import split
from trajlib.widgets.token_index import TokenIndex
from trajlib.zoo import checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]

EXPLORER, INTERPOLATION = ":nth-match(.tl-explorer, 1)", ".tl-interpolation"  # a second explorer shows bits


class Expected:
    """What notebook 04 must show, computed here: the tokenizer and the clips are the same."""

    def __init__(self):
        self.clips = split("validation", settings("04", "full").clips)
        self.index = TokenIndex(checkpoints.load("tokenizer")[0], self.clips.batch(range(16)))

    def video(self, tokens):
        """Decoded tokens as (frames, 64, 64, 3)."""
        return self.index.decode(tokens[None])[0].transpose(1, 2, 3, 0)


@pytest.fixture(scope="module")
def expected():
    return Expected()


@pytest.fixture(scope="module")
def codes(run):
    with run("04_codebook_explorer.ipynb") as notebook:
        yield notebook


def tokens_of(notebook, expected, widget=EXPLORER):
    """The tokens that a widget's maps show: (8, 4, 4)."""
    texts = notebook.page.locator(f"{widget} canvas.tl-maps").get_attribute("data-tokens").split()
    return np.array([expected.index.parse(text) for text in texts]).reshape(expected.index.grid)


def shown(notebook, widget, video):
    """(frame, pixels) of one video of a widget."""
    selector = f'{widget} canvas[data-video="{video}"]'
    return int(notebook.page.locator(selector).get_attribute("data-frame")), notebook.pixels(selector)


def check_video(notebook, expected):
    """The video on the screen is the decode, made here, of the tokens on the screen. Returns them."""
    tokens = tokens_of(notebook, expected)
    frame, pixels = shown(notebook, EXPLORER, "decoded")
    assert np.abs(pixels.astype(int) - expected.video(tokens)[frame]).max() <= 3
    return tokens


def cell_at(notebook, t, y, x):
    """Click a cell of the explorer's maps."""
    position = {"x": 2 + t * 104 + x * 24 + 12, "y": 20 + y * 24 + 12}
    notebook.answered(EXPLORER, lambda: notebook.page.locator(f"{EXPLORER} canvas.tl-maps").click(position=position))


def code_of(notebook):
    return notebook.page.locator(f"{EXPLORER} .tl-code").input_value()


def test_04_runs_without_complaint(codes):
    codes.snapshot(SHOTS / "04_top.png")
    codes.page.locator(EXPLORER).screenshot(path=SHOTS / "04_explorer_before.png")
    codes.page.locator(INTERPOLATION).screenshot(path=SHOTS / "04_interpolation_before.png")
    assert codes.complaints() == []


def test_04_shows_the_clip_and_the_decode_of_its_tokens(codes, expected):
    check_video(codes, expected)
    clip = int(codes.page.locator(f"{EXPLORER} .tl-clip").input_value())
    frame, pixels = shown(codes, EXPLORER, "clip")
    np.testing.assert_array_equal(pixels, expected.clips[clip].video[:, frame].transpose(1, 2, 0))


def test_04_click_and_keys_choose_a_token(codes, expected):
    name, tokens = expected.index.name, tokens_of(codes, expected)
    cell_at(codes, 2, 1, 3)
    assert code_of(codes) == name(tokens[2, 1, 3])
    assert shown(codes, EXPLORER, "clip")[0] == 2 * expected.index.cell[0]
    keys = {
        "ArrowDown": (2, 2, 3),
        "ArrowLeft": (2, 2, 2),
        "PageDown": (3, 2, 2),
        "PageUp": (2, 2, 2),
        "ArrowUp": (2, 1, 2),
    }
    maps = codes.page.locator(f"{EXPLORER} canvas.tl-maps")
    for key, position in {**keys, "ArrowRight": (2, 1, 3)}.items():
        codes.answered(EXPLORER, lambda key=key: maps.press(key))
        assert code_of(codes) == name(tokens[position]), key
        assert f"row {position[1]}, column {position[2]}" in maps.get_attribute("aria-label")
    video = codes.page.locator(f'{EXPLORER} canvas[data-video="decoded"]')
    codes.answered(EXPLORER, lambda: video.click(position={"x": 14, "y": 118}))
    assert code_of(codes) == name(tokens[2, 3, 0])


def test_04_keys_held_down_end_at_the_last(codes, expected):
    """Choices come faster than answers: those between are left out, the last one is not."""
    cell_at(codes, 0, 0, 0)
    maps = codes.page.locator(f"{EXPLORER} canvas.tl-maps")
    for _ in range(12):
        maps.press("ArrowRight")
    codes.answered(EXPLORER, lambda: maps.press("ArrowDown"))
    assert code_of(codes) == expected.index.name(tokens_of(codes, expected)[3, 1, 0])


def test_04_surgery_paints_the_decode_and_takes_it_back(codes, expected):
    page, index = codes.page, expected.index
    cell_at(codes, 3, 1, 1)
    original = check_video(codes, expected)

    def click(selector, times=1):
        codes.answered(EXPLORER, lambda: page.locator(f"{EXPLORER} {selector}").first.click(), times)
        return check_video(codes, expected)

    top = index.levels[0] - 1
    up = index.level_indices(original[3, 1, 1])[0] < top
    stepped = click(f'[data-level="0{"+" if up or top == 1 else "-"}"]')
    assert [*map(tuple, np.argwhere(stepped != original))] == [(3, 1, 1)]
    moved = index.level_indices(stepped[3, 1, 1]) - index.level_indices(original[3, 1, 1])
    assert np.abs(moved).tolist() == [1] + [0] * (len(index.levels) - 1)
    page.locator(f"{EXPLORER} .tl-code").fill(index.name(index.size // 3))
    codes.answered(EXPLORER, lambda: page.locator(f"{EXPLORER} .tl-code").press("Enter"))
    assert check_video(codes, expected)[3, 1, 1] == index.size // 3
    page.locator(f"{EXPLORER} .tl-code").fill(index.name(1))
    assert click(".tl-put")[3, 1, 1] == 1
    other = expected.index.encode(expected.clips[4].video[None])[0]
    page.locator(f"{EXPLORER} .tl-other").fill("4")
    assert click(".tl-take")[3, 1, 1] == other[3, 1, 1]
    frame = click(".tl-take-frame")
    assert (frame[3] == other[3]).mean() > 0.9  # a batch of one may round a token another way
    page.locator(EXPLORER).screenshot(path=SHOTS / "04_explorer_after.png")
    click(".tl-undo")
    np.testing.assert_array_equal(click(".tl-reset"), original)
    assert page.locator(f"{EXPLORER} .tl-reset").is_disabled()
    assert codes.complaints() == []


def test_04_galleries_lead_to_a_clip_and_put_a_code(codes, expected):
    cell_at(codes, 3, 1, 1)
    before = code_of(codes)
    items = codes.page.locator(f"{EXPLORER} .tl-items")
    codes.page.locator(f"{EXPLORER} .tl-tab-facts").click()
    codes.answered(EXPLORER, lambda: items.nth(0).locator("button").last.click())
    assert code_of(codes) == before, "a similar patch has the same code"
    check_video(codes, expected)
    codes.page.locator(f"{EXPLORER} .tl-tab-similar").click()
    for row in (1, 2):
        button = items.nth(row).locator("button").nth(1)
        code = button.get_attribute("data-code")
        codes.answered(EXPLORER, button.click)
        assert code_of(codes) == code != before
        check_video(codes, expected)
        codes.answered(EXPLORER, lambda: codes.page.locator(f"{EXPLORER} .tl-reset").click())


def test_04_videos_play_in_step(codes):
    page, names = codes.page, ("clip", "decoded", "error", "change")
    slider = page.locator(f"{EXPLORER} .tl-frame")
    slider.fill("9")
    assert {shown(codes, EXPLORER, name)[0] for name in names} == {9}
    play = page.locator(f"{EXPLORER} .tl-play")
    play.click()
    page.wait_for_function("s => s.value === '2'", arg=slider.element_handle(), timeout=20_000)
    play.click()
    frames = {shown(codes, EXPLORER, name)[0] for name in names}
    assert len(frames) == 1
    time.sleep(0.5)
    assert {shown(codes, EXPLORER, name)[0] for name in names} == frames, "paused"


def test_04_another_clip(codes, expected):
    number = codes.page.locator(f"{EXPLORER} .tl-clip")
    codes.answered(EXPLORER, lambda: (number.fill("7"), number.press("Enter"), number.blur()))
    frame, pixels = shown(codes, EXPLORER, "clip")
    np.testing.assert_array_equal(pixels, expected.clips[7].video[:, frame].transpose(1, 2, 0))
    check_video(codes, expected)


def test_04_a_mistake_is_shown_and_forgotten(codes):
    code = codes.page.locator(f"{EXPLORER} .tl-code")
    code.fill("many")
    codes.answered(EXPLORER, lambda: code.press("Enter"))
    assert codes.complaints() == [codes.page.locator(f"{EXPLORER} .tl-error").inner_text()]
    assert "is not a token; expected" in codes.complaints()[0]
    code.blur()
    cell_at(codes, 1, 1, 1)
    assert codes.complaints() == []


def test_04_map_lays_out_colours_hovers_and_puts(codes, expected):
    page, plane = codes.page, codes.page.locator(f"{EXPLORER} .tl-plane")
    page.locator(f"{EXPLORER} .tl-tab-map").click()
    for kind in ("layout", "colouring"):
        choice = page.locator(f"{EXPLORER} .tl-{kind}")
        for value in choice.locator("option").all_inner_texts()[::-1]:
            if value != choice.input_value():
                codes.changes(f"{EXPLORER} .tl-plane", lambda choice=choice, value=value: choice.select_option(value))
    plane.hover(position={"x": 270, "y": 100})
    plane.press("ArrowRight")
    before = codes.picture(f"{EXPLORER} .tl-zoom")
    plane.press("ArrowLeft")
    note = plane.get_attribute("aria-label")
    assert codes.picture(f"{EXPLORER} .tl-zoom") != before
    codes.answered(EXPLORER, lambda: plane.press("Enter"))
    assert f"token {code_of(codes)}\n" in note
    check_video(codes, expected)
    codes.answered(EXPLORER, lambda: plane.click(position={"x": 200, "y": 90}))
    assert f"token {code_of(codes)}\n" in plane.get_attribute("aria-label")
    check_video(codes, expected)
    page.locator(EXPLORER).screenshot(path=SHOTS / "04_map_after.png")
    assert codes.complaints() == []


def test_04_interpolation_goes_every_way(codes, expected):
    page = codes.page
    slider, method_box = page.locator(f"{INTERPOLATION} .tl-step"), page.locator(f"{INTERPOLATION} .tl-method")
    for method in [option.get_attribute("value") for option in method_box.locator("option").all()]:
        if method_box.input_value() != method:
            codes.answered(INTERPOLATION, lambda method=method: method_box.select_option(method))
        for key in ("ArrowRight", "PageDown", "End", "Home", "PageUp"):
            codes.answered(INTERPOLATION, lambda key=key: slider.press(key))
            tokens = tokens_of(codes, expected, INTERPOLATION)
            frame, pixels = shown(codes, INTERPOLATION, "through")
            assert np.abs(pixels.astype(int) - expected.video(tokens)[frame]).max() <= 3
        page.locator(INTERPOLATION).screenshot(path=SHOTS / f"04_interpolation_{method}.png")
    first = page.locator(f"{INTERPOLATION} .tl-a")
    codes.answered(INTERPOLATION, lambda: (first.fill("9"), first.press("Enter"), first.blur()))
    frame, pixels = shown(codes, INTERPOLATION, "a")
    np.testing.assert_array_equal(pixels, expected.clips[9].video[:, frame].transpose(1, 2, 0))
    assert codes.complaints() == []
