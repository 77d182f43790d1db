"""Net 5: notebooks in real JupyterLab, in headless Chromium. Screenshots land in runs/screenshots.

To add a notebook: a fixture that yields `run("NN_name.ipynb")`, and tests that touch what it shows.
"""

import contextlib
import itertools
import os
import time
from pathlib import Path

import labdrive
import nbformat
import numpy as np
import pytest
from course_notebooks import write

from trajlib import course, pretrained
from trajlib.codes import Codec
from trajlib.config import profile
from trajlib.dataset import SEEDS, TrajectoryDataset, draw_nuisances

ROOT = Path(__file__).resolve().parents[1]
SHOTS = ROOT / "runs" / "screenshots"
pytestmark = pytest.mark.timeout(labdrive.OPEN_SECONDS * 2 + labdrive.RUN_SECONDS + 60)

DRAWN = """\
import io
import ipywidgets as W
from PIL import Image
def png(shade):
    file = io.BytesIO()
    Image.new("L", (80, 80), shade).save(file, "PNG")
    return file.getvalue()
picture = W.Image(value=png(0))
picture.add_class("studio")
shade, broken = W.IntSlider(max=255), W.IntSlider()
shade.observe(lambda change: setattr(picture, "value", png(change["new"])), "value")
broken.observe(lambda change: 1 / 0, "value")
W.VBox([shade, broken, picture])"""
ASKS = "from IPython.display import HTML\nHTML(\"<img src='https://example.org/x.png'>\")"


@pytest.fixture(scope="session")
def chromium():
    missing = "" if labdrive.chromium_path() else "no chromium here: apt-get install chromium, or name one in CHROME"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with labdrive.browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """The folder that JupyterLab shows: the course's notebooks without outputs, and small ones of our own."""
    root = tmp_path_factory.mktemp("lab")
    for notebook in course.NOTEBOOKS.glob(course.PATTERN):
        labdrive.bare_copy(notebook, root)
    write(root, "small", DRAWN)
    write(root, "asks", ASKS)
    return root


@pytest.fixture(scope="session")
def run(chromium, root, tmp_path_factory):
    """`with run(name) as notebook`: opened in a JupyterLab that serves all of these tests, all cells run."""

    @contextlib.contextmanager
    def opened(name: str):
        with labdrive.opened(chromium, url, name) as notebook:
            notebook.run_all()
            yield notebook

    with labdrive.lab(root, tmp_path_factory.mktemp("home")) as url:
        yield opened


# ---- 01: the trajectory studio ----


@pytest.fixture(scope="module")
def world(run):
    with run("01_data_generation.ipynb") as notebook:
        yield notebook


def test_01_runs_without_complaint(world):
    world.snapshot(SHOTS / "01_top.png")
    assert world.complaints() == []


def test_01_studio_follows_its_first_slider(world):
    world.snapshot(SHOTS / "01_studio_before.png", "img.studio")
    world.changes("img.studio", lambda: world.press(world.sliders.first, "ArrowRight"))
    world.snapshot(SHOTS / "01_studio_after.png", "img.studio")
    assert world.complaints() == []


def test_01_studio_follows_every_control(world):
    page = world.page
    for i in range(world.sliders.count()):
        if not world.sliders.nth(i).is_visible() or page.locator(".widget-slider").nth(i).locator("[disabled]").count():
            continue  # of no use to this class
        world.changes("img.studio", lambda i=i: world.press(world.sliders.nth(i), "ArrowRight"))
    family = page.locator(".widget-dropdown select")
    for name in ("linear", "circular", "parabolic", "helical"):
        world.changes("img.studio", lambda name=name: family.select_option(name))
    world.changes("img.studio", lambda: page.get_by_role("button", name="next clip").click())
    number = page.locator("input[type=number]").first
    world.changes("img.studio", lambda: (number.fill("12"), number.press("Enter")))
    assert world.complaints() == []


def test_01_player_plays_the_clip_of_the_sliders(world):
    film = '.tl-player canvas[data-film="film"]'
    world.snapshot(SHOTS / "01_player.png", ".tl-player")
    world.changes(film, lambda: world.press(world.page.locator(".tl-player .tl-frame"), "ArrowRight"))
    world.changes(film, lambda: world.page.get_by_role("button", name="next clip").click())
    seed = int(world.page.locator("input[type=number]").first.input_value())
    darkest = np.round(255 * np.array(draw_nuisances(np.random.default_rng([seed, 0])).colour))
    assert np.abs(world.pixels(film).reshape(-1, 3).min(0) - darkest).max() <= 1, "the dot has this clip's colour"
    assert world.complaints() == []


# ---- 04: touch a token ----

EXPLORER, MAP, MORPH = ".tl-explorer", ".tl-map", ".tl-morph"


class Words:
    """What notebook 04 must show, computed here: the tokenizer and the clips are the same."""

    def __init__(self):
        self.codec = Codec(pretrained.load("tokenizer")[0])
        self.clips = TrajectoryDataset(profile("full").explored_clips, seed=SEEDS["validation"])

    def film(self, words):
        """Decoded words as (frames, 64, 64, 3)."""
        return self.codec.decode(words[None])[0].transpose(1, 2, 3, 0)


@pytest.fixture(scope="module")
def truth():
    return Words()


@pytest.fixture(scope="module")
def codes(run):
    with run("04_codebook_explorer.ipynb") as notebook:
        yield notebook


def words_of(notebook, truth, widget=EXPLORER):
    """The words that a widget's maps show: (8, 4, 4)."""
    texts = notebook.page.locator(f"{widget} canvas.tl-maps").get_attribute("data-words").split()
    return np.array([truth.codec.codebook.read(text) for text in texts]).reshape(truth.codec.grid)


def shown(notebook, widget, film):
    """(frame, pixels) of one film of a widget."""
    selector = f'{widget} canvas[data-film="{film}"]'
    return int(notebook.page.locator(selector).get_attribute("data-frame")), notebook.pixels(selector)


def check_film(notebook, truth):
    """The film on the screen is the decode, made here, of the words on the screen. Returns them."""
    words = words_of(notebook, truth)
    frame, pixels = shown(notebook, EXPLORER, "film")
    assert np.abs(pixels.astype(int) - truth.film(words)[frame]).max() <= 3
    return words


def cell_at(notebook, t, y, x):
    """Click a cell of the explorer's maps."""
    position = {"x": 2 + t * 122 + x * 28 + 14, "y": 20 + y * 28 + 14}
    notebook.answered(EXPLORER, lambda: notebook.page.locator(f"{EXPLORER} canvas.tl-maps").click(position=position))


def code_of(notebook):
    return notebook.page.locator(f"{EXPLORER} .tl-code").input_value()


def test_04_runs_without_complaint(codes):
    codes.snapshot(SHOTS / "04_top.png")
    codes.page.locator(EXPLORER).screenshot(path=SHOTS / "04_explorer_before.png")
    codes.page.locator(MAP).screenshot(path=SHOTS / "04_map_before.png")
    codes.page.locator(MORPH).screenshot(path=SHOTS / "04_morph_before.png")
    assert codes.complaints() == []


def test_04_shows_the_clip_and_the_decode_of_its_words(codes, truth):
    check_film(codes, truth)
    clip = int(codes.page.locator(f"{EXPLORER} .tl-clip").input_value())
    frame, pixels = shown(codes, EXPLORER, "clip")
    np.testing.assert_array_equal(pixels, truth.clips[clip].video[:, frame].transpose(1, 2, 0))


def test_04_click_and_keys_choose_a_token(codes, truth):
    spell, words = truth.codec.codebook.spell, words_of(codes, truth)
    cell_at(codes, 2, 1, 3)
    assert code_of(codes) == spell(words[2, 1, 3])
    assert shown(codes, EXPLORER, "clip")[0] == 2 * truth.codec.cell[0]
    keys = {
        "ArrowDown": (2, 2, 3),
        "ArrowLeft": (2, 2, 2),
        "PageDown": (3, 2, 2),
        "PageUp": (2, 2, 2),
        "ArrowUp": (2, 1, 2),
    }
    maps = codes.page.locator(f"{EXPLORER} canvas.tl-maps")
    for key, place in {**keys, "ArrowRight": (2, 1, 3)}.items():
        codes.answered(EXPLORER, lambda key=key: maps.press(key))
        assert code_of(codes) == spell(words[place]), key
        assert f"row {place[1]}, column {place[2]}" in maps.get_attribute("aria-label")
    film = codes.page.locator(f'{EXPLORER} canvas[data-film="film"]')
    codes.answered(EXPLORER, lambda: film.click(position={"x": 20, "y": 170}))
    assert code_of(codes) == spell(words[2, 3, 0])


def test_04_keys_held_down_end_at_the_last(codes, truth):
    """Choices come faster than answers: those between are left out, the last one is not."""
    cell_at(codes, 0, 0, 0)
    maps = codes.page.locator(f"{EXPLORER} canvas.tl-maps")
    for _ in range(12):
        maps.press("ArrowRight")
    codes.answered(EXPLORER, lambda: maps.press("ArrowDown"))
    assert code_of(codes) == truth.codec.codebook.spell(words_of(codes, truth)[3, 1, 0])


def test_04_surgery_paints_the_decode_and_takes_it_back(codes, truth):
    page, book = codes.page, truth.codec.codebook
    cell_at(codes, 3, 1, 1)
    original = check_film(codes, truth)

    def click(selector, times=1):
        codes.answered(EXPLORER, lambda: page.locator(f"{EXPLORER} {selector}").first.click(), times)
        return check_film(codes, truth)

    top = book.steps[0] - 1
    up = book.digits(original[3, 1, 1])[0] < top
    stepped = click(f'[data-digit="0{"+" if up or top == 1 else "-"}"]')
    assert [*map(tuple, np.argwhere(stepped != original))] == [(3, 1, 1)]
    moved = book.digits(stepped[3, 1, 1]) - book.digits(original[3, 1, 1])
    assert np.abs(moved).tolist() == [1] + [0] * (len(book.steps) - 1)
    page.locator(f"{EXPLORER} .tl-code").fill(book.spell(book.size // 3))
    codes.answered(EXPLORER, lambda: page.locator(f"{EXPLORER} .tl-code").press("Enter"))
    assert check_film(codes, truth)[3, 1, 1] == book.size // 3
    page.locator(f"{EXPLORER} .tl-code").fill(book.spell(1))
    assert click(".tl-put")[3, 1, 1] == 1
    other = truth.codec.encode(truth.clips[4].video[None])[0]
    page.locator(f"{EXPLORER} .tl-other").fill("4")
    assert click(".tl-take")[3, 1, 1] == other[3, 1, 1]
    frame = click(".tl-take-frame")
    assert (frame[3] == other[3]).mean() > 0.9  # a batch of one may round a word another way
    page.locator(EXPLORER).screenshot(path=SHOTS / "04_explorer_after.png")
    click(".tl-undo")
    np.testing.assert_array_equal(click(".tl-reset"), original)
    assert page.locator(f"{EXPLORER} .tl-reset").is_disabled()
    assert codes.complaints() == []


def test_04_galleries_lead_to_a_clip_and_put_a_code(codes, truth):
    cell_at(codes, 3, 1, 1)
    before = code_of(codes)
    items = codes.page.locator(f"{EXPLORER} .tl-items")
    codes.answered(EXPLORER, lambda: items.nth(0).locator("button").last.click())
    assert code_of(codes) == before, "a look-alike has the same code"
    check_film(codes, truth)
    for row in (1, 2):
        button = items.nth(row).locator("button").nth(1)
        code = button.get_attribute("data-code")
        codes.answered(EXPLORER, button.click)
        assert code_of(codes) == code != before
        check_film(codes, truth)
        codes.answered(EXPLORER, lambda: codes.page.locator(f"{EXPLORER} .tl-reset").click())


def test_04_films_play_in_step(codes):
    page, names = codes.page, ("clip", "film", "error", "change")
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


def test_04_another_clip(codes, truth):
    number = codes.page.locator(f"{EXPLORER} .tl-clip")
    codes.answered(EXPLORER, lambda: (number.fill("7"), number.press("Enter"), number.blur()))
    frame, pixels = shown(codes, EXPLORER, "clip")
    np.testing.assert_array_equal(pixels, truth.clips[7].video[:, frame].transpose(1, 2, 0))
    check_film(codes, truth)


def test_04_a_mistake_is_shown_and_forgotten(codes):
    code = codes.page.locator(f"{EXPLORER} .tl-code")
    code.fill("many")
    codes.answered(EXPLORER, lambda: code.press("Enter"))
    assert codes.complaints() == [codes.page.locator(f"{EXPLORER} .tl-error").inner_text()]
    assert "is not a code; expected" in codes.complaints()[0]
    code.blur()
    cell_at(codes, 1, 1, 1)
    assert codes.complaints() == []


def test_04_map_lays_out_colours_hovers_and_sends(codes, truth):
    page, plane = codes.page, codes.page.locator(f"{MAP} .tl-plane")
    for kind in ("layout", "tint"):
        choice = page.locator(f"{MAP} .tl-{kind}")
        for value in choice.locator("option").all_inner_texts()[::-1]:
            if value != choice.input_value():
                codes.changes(f"{MAP} .tl-plane", lambda choice=choice, value=value: choice.select_option(value))
    plane.hover(position={"x": 330, "y": 230})
    plane.press("ArrowRight")
    before = codes.picture(f"{MAP} .tl-zoom")
    plane.press("ArrowLeft")
    note = page.locator(f"{MAP} .tl-plane").get_attribute("aria-label")
    assert codes.picture(f"{MAP} .tl-zoom") != before
    sequence = int(page.locator(EXPLORER).get_attribute("data-seq"))
    codes.answered(MAP, lambda: plane.press("Enter"))
    page.wait_for_function(
        "([e, n]) => Number(e.dataset.seq) > n", arg=[page.locator(EXPLORER).element_handle(), sequence]
    )
    assert f"code {code_of(codes)}\n" in note
    check_film(codes, truth)
    page.locator(MAP).screenshot(path=SHOTS / "04_map_after.png")
    codes.answered(MAP, lambda: plane.click(position={"x": 300, "y": 200}), 0)
    codes.answered(MAP, lambda: page.locator(f"{MAP} .tl-send").click())
    assert codes.complaints() == []


def test_04_morph_goes_every_way(codes, truth):
    page = codes.page
    slider, way = page.locator(f"{MORPH} .tl-step"), page.locator(f"{MORPH} .tl-method")
    for method in [option.get_attribute("value") for option in way.locator("option").all()]:
        if way.input_value() != method:
            codes.answered(MORPH, lambda method=method: way.select_option(method))
        for key in ("ArrowRight", "PageDown", "End", "Home", "PageUp"):
            codes.answered(MORPH, lambda key=key: slider.press(key))
            words = words_of(codes, truth, MORPH)
            frame, pixels = shown(codes, MORPH, "through")
            assert np.abs(pixels.astype(int) - truth.film(words)[frame]).max() <= 3
        page.locator(MORPH).screenshot(path=SHOTS / f"04_morph_{method}.png")
    first = page.locator(f"{MORPH} .tl-a")
    codes.answered(MORPH, lambda: (first.fill("9"), first.press("Enter"), first.blur()))
    frame, pixels = shown(codes, MORPH, "a")
    np.testing.assert_array_equal(pixels, truth.clips[9].video[:, frame].transpose(1, 2, 0))
    assert codes.complaints() == []


def test_04_latency_is_measured(codes):
    """Milliseconds from a click to the new picture, into runs/screenshots/latency.txt: a measurement, not a test."""
    page, lines = codes.page, []
    digit = page.locator(f"{EXPLORER} .tl-digit").first.locator("button")

    def step(i):
        digit.nth(-(i % 2)).click()

    cell_at(codes, 3, 1, 1)
    acts = {
        "choose a token": lambda i: page.locator(f"{EXPLORER} canvas.tl-maps").press(
            "ArrowLeft" if i % 2 else "ArrowRight"
        )
    }
    acts["change a token, decode"] = step
    for name, act in acts.items():
        took = sorted(codes.answered(EXPLORER, lambda act=act, i=i: act(i)) for i in range(21))
        lines.append(f"{name:26s} median {took[10]:5.0f} ms, 95th percentile {took[19]:5.0f} ms, n = {len(took)}")
    (SHOTS / "latency.txt").write_text("\n".join(lines) + "\n")
    print(*lines, sep="\n")
    assert codes.complaints() == []


# ---- 05: the mask studio ----

MASKS = ".tl-masks"


@pytest.fixture(scope="module")
def written(run):
    with run("05_masked_transformer.ipynb") as notebook:
        yield notebook


def kept_words(notebook, part):
    """What the studio's maps say: "mask" ("?" where hidden), "tokens" or "sure"; in order, 128 of them."""
    return notebook.page.locator(f"{MASKS} canvas.tl-{part}").get_attribute("data-words").split(" ")


def cell_of_mask(t, y, x):
    return {"x": 2 + t * 122 + x * 28 + 14, "y": 20 + y * 28 + 14}


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


def test_05_runs_without_complaint(written):
    written.page.locator(MASKS).screenshot(path=SHOTS / "05_masks_before.png")
    assert written.complaints() == []
    assert "?" not in kept_words(written, "tokens"), "it opens with a clip that is written to its end"


def test_05_a_task_brings_its_mask(written):
    page, film = written.page, f'{MASKS} canvas[data-film="given"]'
    for task, count in {"OPV": 64, "CG": 128, "FP": 96, "IPC": 32}.items():  # FP: 4 frames are given, of tokens 2 of 8
        written.changes(film, lambda task=task: do(written, "task", task))
        assert kept_words(written, "mask").count("?") == count
        assert kept_words(written, "tokens").count("?") == count
        assert page.locator(f"{MASKS} .tl-label").is_disabled() == (task != "CG")
        assert page.locator(f"{MASKS} .tl-frames").is_disabled() == (task != "FP")
    assert written.complaints() == []


def test_05_a_mask_is_painted_by_click_drag_and_keys(written):
    page = written.page
    do(written, "task", "IPC")
    mask = page.locator(f"{MASKS} canvas.tl-mask")
    mask.scroll_into_view_if_needed()
    assert kept_words(written, "mask")[4 * 16 + 1 * 4 + 1] == "?"
    shows = f'{MASKS} canvas[data-film="given"]'
    page.locator(f"{MASKS} .tl-frame").fill("8")
    inside = cell_of_mask(4, 1, 1)
    written.changes(shows, lambda: written.answered(MASKS, lambda: mask.click(position=inside)))
    assert kept_words(written, "mask")[4 * 16 + 1 * 4 + 1] == ""
    assert kept_words(written, "tokens")[4 * 16 + 1 * 4 + 1] != "?"
    box = mask.bounding_box()
    first, last = ({k: box[k] + v for k, v in cell_of_mask(0, 0, x).items()} for x in (0, 3))

    def drag():
        page.mouse.move(**first)
        page.mouse.down()
        page.mouse.move(**last, steps=12)
        page.mouse.up()

    written.answered(MASKS, drag)
    assert kept_words(written, "mask")[:5] == ["?", "?", "?", "?", ""]
    written.answered(MASKS, lambda: mask.click(position=cell_of_mask(2, 0, 0)))
    mask.press("ArrowRight")
    mask.press("ArrowRight")
    assert "frames from 4, row 0, column 2, given" in mask.get_attribute("aria-label")
    written.answered(MASKS, lambda: mask.press("Space"))
    assert kept_words(written, "mask")[32:36] == ["?", "", "?", ""]
    written.page.locator(MASKS).screenshot(path=SHOTS / "05_masks_painted.png")
    do(written, "none")
    assert set(kept_words(written, "mask")) == {"?"}
    do(written, "all")
    assert set(kept_words(written, "mask")) == {""}
    do(written, "unpaint")
    assert kept_words(written, "mask").count("?") == 32
    assert written.complaints() == []


def test_05_decodes_and_steps_through(written):
    page = written.page
    do(written, "task", "IPC")
    do(written, "corrections", 8)
    do(written, "decode")
    assert "done in 12 steps and 8 corrections" in page.locator(f"{MASKS} .tl-status").inner_text()
    assert "correction 8 (20 of 20)" in page.locator(MASKS).inner_text()
    do(written, "corrections", 0)
    written.answered(MASKS, lambda: page.locator(f"{MASKS} canvas.tl-mask").click(position=cell_of_mask(5, 1, 1)))
    assert page.locator(f"{MASKS} .tl-step").is_disabled()
    guess = f'{MASKS} canvas[data-film="guess"]'
    pictures = [f"{MASKS} canvas.tl-{part}" for part in ("tokens", "sure")]
    before = [written.picture(selector) for selector in pictures]
    do(written, "decode")
    assert "done in 12 steps" in page.locator(f"{MASKS} .tl-status").inner_text()
    assert all(written.picture(selector) != old for selector, old in zip(pictures, before, strict=True))
    result, tokens = written.picture(guess), kept_words(written, "tokens")
    assert "?" not in tokens
    left = []
    for _ in range(12):
        do(written, "back")
        left.append(kept_words(written, "tokens").count("?"))
    assert left == sorted(left)
    assert left[-1] == 31, "one of the 32 was painted as given"
    assert page.locator(f"{MASKS} .tl-back").is_disabled()
    slider = page.locator(f"{MASKS} .tl-step")
    written.answered(MASKS, lambda: slider.press("End"))
    assert written.picture(guess) == result
    assert kept_words(written, "tokens") == tokens
    written.answered(MASKS, lambda: slider.press("ArrowLeft"))
    do(written, "on")
    assert kept_words(written, "tokens") == tokens
    written.page.locator(MASKS).screenshot(path=SHOTS / "05_masks_decoded.png")
    assert written.complaints() == []


def test_05_a_seed_gives_its_tokens_and_other_settings_others(written):
    found = []
    for name, value in {"seed": 5, "order": "confidence", "temperature": 2, "steps": 3, "refine": "false"}.items():
        do(written, name, value)
        do(written, "decode")
        found.append(kept_words(written, "tokens"))
    assert all(a != b for a, b in itertools.pairwise(found))
    do(written, "decode")
    assert kept_words(written, "tokens") == found[-1]
    do(written, "task", "CG")
    do(written, "guidance", 0)
    found = []
    for label in ("0", "2"):
        do(written, "label", label)
        do(written, "decode")
        found.append(kept_words(written, "tokens"))
    assert found[0] == found[1], "guidance 0 does not listen"
    assert written.complaints() == []


def test_05_a_mistake_is_shown_and_forgotten(written):
    do(written, "steps", 99)
    sentence = "steps is 99; it can be a whole number from 1 to 32."
    assert written.page.locator(f"{MASKS} .tl-error").inner_text() == sentence
    do(written, "steps", 8)
    assert written.complaints() == []


# ---- 06: the path studio ----

PATHS = ".tl-path"


@pytest.fixture(scope="module")
def planned(run, root):
    """The notebook as far as its studio: what comes after takes minutes, and the replay runs all of it."""
    nb = nbformat.read(root / "06_planning.ipynb", 4)
    studio = next(i for i, cell in enumerate(nb.cells) if "path_studio(" in cell.source)
    nb.cells = nb.cells[: studio + 1]
    nbformat.write(nb, root / "06_as_far_as_the_studio.ipynb")
    with run("06_as_far_as_the_studio.ipynb") as notebook:
        yield notebook


def film_of_path(notebook):
    """The film's middle frame; it plays after each stroke, and is stopped for this."""
    play = notebook.page.locator(f"{PATHS} .tl-play")
    if "pause" in play.inner_text():
        play.click()
    notebook.page.locator(f"{PATHS} .tl-frame").fill("8")
    return notebook.picture(f'{PATHS} canvas[data-film="film"]')


def drag(notebook, *points):
    """Drag the mouse over the pad along `points`, shares of its width and height."""
    pad, mouse = notebook.page.locator(f"{PATHS} canvas.tl-pad"), notebook.page.mouse
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    for i, (x, y) in enumerate(points):
        mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
        if i == 0:
            mouse.down()
    mouse.up()


def test_06_planning_runs_without_complaint(planned):
    planned.page.locator(PATHS).screenshot(path=SHOTS / "06_path_before.png")
    assert planned.complaints() == []
    assert "of 16 frames" in planned.page.locator(f"{PATHS} .tl-said").inner_text()


def test_06_a_stroke_becomes_a_film(planned):
    page = planned.page
    before, pad = film_of_path(planned), planned.picture(f"{PATHS} canvas.tl-pad")
    planned.answered(PATHS, lambda: drag(planned, (0.2, 0.2), (0.5, 0.8), (0.8, 0.2)))
    assert "pause" in page.locator(f"{PATHS} .tl-play").inner_text(), "it plays at once"
    label = page.locator(f"{PATHS} canvas.tl-pad").get_attribute("aria-label")
    assert "16 dots from (12, 12) to (51, 12)" in label
    said = page.locator(f"{PATHS} .tl-said").inner_text()
    assert "of 16 frames" in said
    assert said in label
    film = film_of_path(planned)
    assert film != before
    assert planned.picture(f"{PATHS} canvas.tl-pad") != pad
    page.locator(PATHS).screenshot(path=SHOTS / "06_path_drawn.png")
    planned.answered(PATHS, lambda: page.locator(f"{PATHS} .tl-another").click())
    assert film_of_path(planned) != film
    assert planned.complaints() == []


def test_06_the_planner_draws_at_a_key(planned):
    page, family = planned.page, planned.page.locator(f"{PATHS} .tl-family")
    films = []
    for name in ("linear", "circular", "helical", "parabolic"):
        if family.input_value() != name:
            planned.press(family, name[0])  # a select takes the first letter
        assert family.input_value() == name
        planned.answered(PATHS, lambda: planned.press(page.locator(f"{PATHS} .tl-plan"), "Enter"))
        assert f"the planner's {name} path" in page.locator(f"{PATHS} canvas.tl-pad").get_attribute("aria-label")
        films.append(film_of_path(planned))
    assert len(set(films)) == 4
    assert page.locator(f"{PATHS} .tl-radius").is_disabled()
    page.locator(PATHS).screenshot(path=SHOTS / "06_path_planned.png")
    assert planned.complaints() == []


def test_06_a_click_is_no_path(planned):
    page = planned.page
    planned.answered(PATHS, lambda: drag(planned, (0.3, 0.3), (0.7, 0.6)))
    film, pad = film_of_path(planned), planned.picture(f"{PATHS} canvas.tl-pad")
    planned.answered(PATHS, lambda: page.locator(f"{PATHS} canvas.tl-pad").click(position={"x": 50, "y": 50}))
    assert "hold the button" in page.locator(f"{PATHS} .tl-error").inner_text()
    assert film_of_path(planned) == film
    assert planned.picture(f"{PATHS} canvas.tl-pad") == pad
    planned.answered(PATHS, lambda: drag(planned, (0.3, 0.3), (0.7, 0.6)))
    assert planned.complaints() == []


# ---- 07: the damage studio ----


@pytest.fixture(scope="module")
def damaged(run):
    with run("07_classification.ipynb") as notebook:
        yield notebook


def test_07_studio_follows_every_slider_and_forgets_them(damaged):
    clean = damaged.settled("img.studio")
    damaged.snapshot(SHOTS / "07_studio_before.png", "img.studio")
    for i in range(damaged.sliders.count()):
        damaged.changes("img.studio", lambda i=i: damaged.press(damaged.sliders.nth(i), "End"))
    damaged.snapshot(SHOTS / "07_studio_after.png", "img.studio")
    damaged.changes("img.studio", lambda: damaged.page.get_by_role("button", name="no damage").click())
    assert damaged.settled("img.studio") == clean
    assert damaged.complaints() == []


def test_07_studio_shows_other_clips_and_classes(damaged):
    page = damaged.page
    damaged.changes("img.studio", lambda: page.get_by_role("button", name="next clip").click())
    family = page.locator(".widget-dropdown select")
    for name in ("linear", "circular", "parabolic", "helical"):
        damaged.changes("img.studio", lambda name=name: family.select_option(name))
        assert page.locator(".studio-note").inner_text().startswith("right: ")
    assert damaged.complaints() == []


# ---- does the driver see what it should? ----


def test_driver_sees_a_picture_change_a_picture_stay_and_a_silent_error(run):
    with run("small.ipynb") as notebook:
        assert notebook.cells == 2
        notebook.changes("img.studio", lambda: notebook.press(notebook.sliders.nth(0), "PageUp"))
        assert notebook.complaints() == []
        with pytest.raises(AssertionError, match="did not change"):
            notebook.changes("img.studio", lambda: notebook.press(notebook.sliders.nth(1), "ArrowRight"), seconds=2)
        assert len(notebook.complaints()) == 1
        assert "ZeroDivisionError" in notebook.complaints()[0]


def test_driver_sees_a_request_to_another_machine(run):
    with run("asks.ipynb") as notebook:
        assert notebook.complaints() == ["https://example.org/x.png"]
