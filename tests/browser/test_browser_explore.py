"""The studios' own page: layout, drawing by keys and by touch, errors. Widths are those that JupyterLab leaves."""

import labdrive
import pytest
from labdrive import SHOTS
from studiopage import Studio, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]

NAMES = ("trajectories", "tokens", "bits", "interpolation", "masks", "paths", "corruptions")
MARGIN = 24  # of the page, left and right
LARGE, SMALL = (
    (848, 679),
    (592, 579),
)  # what JupyterLab has for outputs, its file browser open, at 1280x800 and 1024x700
PAD = ".tl-path canvas.tl-pad"


@pytest.fixture(scope="module")
def address():
    with served() as address:
        yield address


@pytest.fixture
def opened(chromium, address):
    """`opened(name, ...)`: a studio, closed after the test."""
    studios = []

    def open_studio(name, **options):
        studios.append(Studio(chromium, address, name, **options))
        return studios[-1]

    yield open_studio
    for studio in studios:
        studio.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_studio_fits_the_screen_enlarges_no_picture_and_names_its_controls(opened, name):
    (width, height), (small, _) = LARGE, SMALL
    studio = opened(name, width=width + MARGIN, height=height)
    box = studio.page.locator(".tl").bounding_box()
    studio.page.screenshot(path=SHOTS / f"studio_{name}.png", full_page=True)
    assert box["height"] <= height
    sizes = "e => [...e.querySelectorAll('img.tl-picture')].map(i => [i.clientWidth, i.naturalWidth])"
    assert all(shown <= own for shown, own in studio.page.locator(".tl").evaluate(sizes))
    studio.page.set_viewport_size({"width": small + MARGIN, "height": height})
    studio.page.wait_for_timeout(500)
    studio.page.screenshot(path=SHOTS / f"studio_{name}_small.png", full_page=True)
    assert studio.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "all maps and videos are visible"
    unnamed = """e => [...e.querySelectorAll('input, select, button')].filter(c =>
        !(c.title && (c.textContent.trim() || c.getAttribute('aria-label')))).map(c => c.outerHTML)"""
    assert studio.page.locator(".tl").evaluate(unnamed) == []
    assert studio.complaints() == []


def test_maps_wrap_and_a_click_in_their_second_row_selects(opened):
    studio = opened("tokens", width=SMALL[0] + MARGIN)
    maps = studio.page.locator("canvas.tl-maps")
    studio.answered(".tl", lambda: maps.click(position={"x": 2 + 104 + 2 * 24 + 12, "y": 116 + 20 + 24 + 12}))
    assert "frames 10–11, row 1, column 2" in maps.get_attribute("aria-label")


def test_the_map_of_the_codebook_follows_the_clip_and_shows_its_effect_on_the_same_screen(opened):
    studio = opened("tokens", width=LARGE[0] + MARGIN, height=LARGE[1])
    page, maps = studio.page, studio.page.locator("canvas.tl-maps")
    before = maps.get_attribute("aria-label")
    clip = page.locator(".tl-clip")
    studio.answered(".tl", lambda: (clip.fill("9"), clip.press("Enter"), clip.blur()))
    assert maps.get_attribute("aria-label") != before, "the selection is the new clip's dot"
    assert page.locator(".tl-other").input_value() != "9"
    change = studio.picture('canvas[data-video="change"]')
    plane = page.locator(".tl-plane")
    studio.answered(".tl", lambda: plane.click(position={"x": 270, "y": 100}))
    assert page.locator(".tl-code").input_value() in plane.get_attribute("aria-label")
    assert studio.picture('canvas[data-video="change"]') != change
    assert all(page.locator(part).first.is_visible() for part in (".tl-plane", 'canvas[data-video="change"]'))
    assert studio.complaints() == []


def test_one_bit_of_eighteen_is_flipped(opened):
    studio = opened("bits", width=LARGE[0] + MARGIN, height=LARGE[1])
    code = studio.page.locator(".tl-code")
    before = code.input_value()
    steps = studio.page.locator(".tl-levels button")
    assert steps.count() == 18
    studio.answered(".tl", lambda: steps.nth(17).click())
    assert code.input_value() != before
    assert "1 of 128 tokens changed" in studio.page.locator(".tl").inner_text()
    assert studio.complaints() == []


def test_a_path_is_drawn_by_keys(opened):
    studio = opened("paths")
    pad = studio.page.locator(PAD)
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown"):
        studio.press(pad, key)
    assert "pen down at (48, 40)" in studio.page.locator(".tl-keys").inner_text()
    studio.answered(".tl", lambda: studio.press(pad, "Space"))
    assert "16 dots from (32, 32) to (48, 40)" in pad.get_attribute("aria-label")
    label = pad.get_attribute("aria-label")
    for key in ("Enter", "Shift+ArrowLeft", "Escape", "Tab"):
        studio.press(pad, key) if key != "Tab" else studio.page.keyboard.press(key)
    assert pad.get_attribute("aria-label") == label, "Escape discards"
    assert studio.complaints() == []


def swipe(studio, selector, *points):
    """Drag a finger over an element along `points`, shares of its width and height."""
    studio.page.locator(selector).scroll_into_view_if_needed()
    box, client = studio.page.locator(selector).bounding_box(), studio.page.context.new_cdp_session(studio.page)
    for i, (x, y) in enumerate(points):
        at = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}]
        client.send("Input.dispatchTouchEvent", {"type": "touchMove" if i else "touchStart", "touchPoints": at})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_finger_draws_a_path_and_paints_a_mask(opened):
    paths = opened("paths", has_touch=True)
    paths.answered(".tl", lambda: swipe(paths, PAD, (0.2, 0.2), (0.5, 0.8), (0.8, 0.2)))
    assert "16 dots from (12, 12) to (51, 12)" in paths.page.locator(PAD).get_attribute("aria-label")
    masks = opened("masks", has_touch=True)
    mask = masks.page.locator("canvas.tl-mask")
    before = mask.get_attribute("data-tokens").split(" ")
    masks.answered(".tl", lambda: swipe(masks, "canvas.tl-mask", (0.02, 0.29), (0.045, 0.29), (0.07, 0.29)))
    after = mask.get_attribute("data-tokens").split(" ")
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [0, 1, 2]
    assert paths.complaints() == masks.complaints() == []


def test_an_error_moves_nothing(opened):
    studio = opened("paths", width=LARGE[0] + MARGIN)
    pad = studio.page.locator(PAD)
    before = pad.bounding_box()
    studio.answered(".tl", lambda: pad.click(position={"x": 50, "y": 50}))
    assert "hold the button" in studio.page.locator(".tl-error").inner_text()
    assert pad.bounding_box() == before
    studio.answered(".tl", lambda: swipe_by_mouse(studio))
    assert studio.complaints() == []


def swipe_by_mouse(studio):
    box, mouse = studio.page.locator(PAD).bounding_box(), studio.page.mouse
    mouse.move(box["x"] + 100, box["y"] + 100)
    mouse.down()
    mouse.move(box["x"] + 220, box["y"] + 160, steps=5)
    mouse.up()


def test_interpolation_opens_on_a_frame_with_a_dot(opened):
    studio = opened("interpolation")
    for video in ("a", "through", "b"):
        assert studio.pixels(f'canvas[data-video="{video}"]').min() < 128, f"no dot in {video}"


def test_dark_theme(opened):
    studio = opened("tokens", color_scheme="dark")
    studio.page.screenshot(path=SHOTS / "studio_tokens_dark.png", full_page=True)
    colours = studio.page.locator(".tl").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    )
    text, background = (sum(map(int, colour[4:-1].split(","))) for colour in colours)
    assert text > 500 > 200 > background


def test_a_server_that_ended_says_so(chromium):
    with served() as address:
        studio = Studio(chromium, address, "trajectories")
    studio.page.wait_for_selector("main > div > [role=alert]")
    assert "python -m trajlib explore" in studio.page.locator("main > div > [role=alert]").inner_text()
    studio.close()
