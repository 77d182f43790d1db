"""Notebook 07: the path studio; 08: the corruption studio."""

import labdrive
import nbformat
import pytest
from labdrive import SHOTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]

PATHS, CORRUPTION = ".tl-path", ".tl-corruption"


@pytest.fixture(scope="module")
def studio(run, root):
    """The notebook as far as its studio: what comes after takes minutes, and the replay runs all of it."""
    nb = nbformat.read(root / "07_conditional_tasks.ipynb", 4)
    studio = next(i for i, cell in enumerate(nb.cells) if "path_studio(" in cell.source)
    nb.cells = nb.cells[: studio + 1]
    nbformat.write(nb, root / "07_as_far_as_the_studio.ipynb")
    with run("07_as_far_as_the_studio.ipynb") as notebook:
        yield notebook


def video_of_path(notebook):
    """The video's middle frame; it plays after each stroke, and is stopped for this."""
    play = notebook.page.locator(f"{PATHS} .tl-play")
    if "pause" in play.inner_text():
        play.click()
    notebook.page.locator(f"{PATHS} .tl-frame").fill("8")
    return notebook.picture(f'{PATHS} canvas[data-video="video"]')


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


def test_07_runs_without_complaint(studio):
    studio.page.locator(PATHS).screenshot(path=SHOTS / "07_path_before.png")
    assert studio.complaints() == []
    assert "of 16 frames" in studio.page.locator(f"{PATHS} .tl-summary").inner_text()


def test_07_a_stroke_becomes_a_video(studio):
    page = studio.page
    before, pad = video_of_path(studio), studio.picture(f"{PATHS} canvas.tl-pad")
    studio.answered(PATHS, lambda: drag(studio, (0.2, 0.2), (0.5, 0.8), (0.8, 0.2)))
    assert "pause" in page.locator(f"{PATHS} .tl-play").inner_text(), "it plays at once"
    label = page.locator(f"{PATHS} canvas.tl-pad").get_attribute("aria-label")
    assert "16 dots from (12, 12) to (51, 12)" in label
    summary = page.locator(f"{PATHS} .tl-summary").inner_text()
    assert "of 16 frames" in summary
    assert summary in label
    video = video_of_path(studio)
    assert video != before
    assert studio.picture(f"{PATHS} canvas.tl-pad") != pad
    page.locator(PATHS).screenshot(path=SHOTS / "07_path_drawn.png")
    studio.answered(PATHS, lambda: page.locator(f"{PATHS} .tl-another").click())
    assert video_of_path(studio) != video
    assert studio.complaints() == []


def test_07_the_model_samples_at_a_key(studio):
    page, family = studio.page, studio.page.locator(f"{PATHS} .tl-family")
    videos = []
    for name in ("linear", "circular", "helical", "parabolic"):
        if family.input_value() != name:
            studio.press(family, name[0])  # a select takes the first letter
        assert family.input_value() == name
        studio.answered(PATHS, lambda: studio.press(page.locator(f"{PATHS} .tl-sample"), "Enter"))
        assert f"the sampled {name} trajectory" in page.locator(f"{PATHS} canvas.tl-pad").get_attribute("aria-label")
        videos.append(video_of_path(studio))
    assert len(set(videos)) == 4
    assert page.locator(f"{PATHS} .tl-radius").is_disabled()
    page.locator(PATHS).screenshot(path=SHOTS / "07_path_studio.png")
    assert studio.complaints() == []


def test_07_a_click_is_no_path(studio):
    page = studio.page
    studio.answered(PATHS, lambda: drag(studio, (0.3, 0.3), (0.7, 0.6)))
    video, pad = video_of_path(studio), studio.picture(f"{PATHS} canvas.tl-pad")
    studio.answered(PATHS, lambda: page.locator(f"{PATHS} canvas.tl-pad").click(position={"x": 50, "y": 50}))
    assert "hold the button" in page.locator(f"{PATHS} .tl-error").inner_text()
    assert video_of_path(studio) == video
    assert studio.picture(f"{PATHS} canvas.tl-pad") == pad
    studio.answered(PATHS, lambda: drag(studio, (0.3, 0.3), (0.7, 0.6)))
    assert studio.complaints() == []


# ---- 08: the corruption studio ----


@pytest.fixture(scope="module")
def corruptions(run):
    with run("08_classification.ipynb") as notebook:
        yield notebook


def test_08_studio_follows_every_slider_and_forgets_them(corruptions):
    clean = corruptions.steady_picture("img.studio")
    corruptions.snapshot(SHOTS / "08_studio_before.png", "img.studio")
    sliders = corruptions.page.locator(f"{CORRUPTION} input[type=range]")
    for i in range(sliders.count()):
        corruptions.changes("img.studio", lambda i=i: corruptions.press(sliders.nth(i), "End"))
    corruptions.snapshot(SHOTS / "08_studio_after.png", "img.studio")
    corruptions.changes("img.studio", lambda: corruptions.page.locator(f"{CORRUPTION} .tl-clean").click())
    assert corruptions.steady_picture("img.studio") == clean
    assert corruptions.complaints() == []


def test_08_studio_shows_other_clips_and_classes(corruptions):
    page = corruptions.page
    corruptions.changes("img.studio", lambda: page.locator(f"{CORRUPTION} .tl-next").click())
    family = page.locator(f"{CORRUPTION} .tl-family")
    for name in ("linear", "circular", "parabolic", "helical"):
        corruptions.changes("img.studio", lambda name=name: family.select_option(name))
        assert page.locator(".studio-note").inner_text().startswith("correct: ")
    assert corruptions.complaints() == []
