"""Notebook 01: the trajectory studio."""

import labdrive
import numpy as np
import pytest
from labdrive import SHOTS

from trajlib.data.clips import draw_nuisances

pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]

STUDIO = ".tl-trajectory"


@pytest.fixture(scope="module")
def studio(run):
    with run("01_data_generation.ipynb") as notebook:
        yield notebook


def test_01_runs_without_complaint(studio):
    studio.snapshot(SHOTS / "01_top.png")
    assert studio.complaints() == []


def test_01_studio_follows_every_control(studio):
    page = studio.page
    studio.snapshot(SHOTS / "01_studio_before.png", "img.studio")
    sliders = page.locator(f"{STUDIO} .tl-sliders input[type=range]:enabled")
    for i in range(sliders.count()):
        studio.changes("img.studio", lambda i=i: studio.press(sliders.nth(i), "ArrowRight"))
    for name in ("linear", "circular", "parabolic", "helical"):
        studio.changes("img.studio", lambda name=name: page.locator(f"{STUDIO} .tl-family").select_option(name))
    studio.changes("img.studio", lambda: page.locator(f"{STUDIO} .tl-next").click())
    number = page.locator(f"{STUDIO} .tl-seed")
    studio.changes("img.studio", lambda: (number.fill("12"), number.press("Enter"), number.blur()))
    studio.snapshot(SHOTS / "01_studio_after.png", "img.studio")
    assert studio.complaints() == []


def test_01_player_plays_the_clip_of_the_sliders(studio):
    video = f'{STUDIO} canvas[data-video="video"]'
    studio.changes(video, lambda: studio.press(studio.page.locator(f"{STUDIO} .tl-frame"), "ArrowRight"))
    studio.changes(video, lambda: studio.page.locator(f"{STUDIO} .tl-next").click())
    seed = int(studio.page.locator(f"{STUDIO} .tl-seed").input_value())
    darkest = np.round(255 * np.array(draw_nuisances(np.random.default_rng([seed, 0])).colour))
    assert np.abs(studio.pixels(video).reshape(-1, 3).min(0) - darkest).max() <= 1, "the dot has this clip's colour"
    assert studio.complaints() == []


def test_a_notebook_that_is_opened_again_has_the_figure_in_place_of_the_studio(run):
    """The figure is in the notebook all the time, hidden while the studio is alive."""
    with run("studio.ipynb") as notebook:
        page = notebook.page
        page.wait_for_selector(STUDIO)
        assert not page.locator(".tl-twin img").is_visible()
        notebook.save()
        notebook.end_kernels()
        page.reload()
        page.wait_for_selector(".tl-twin img", timeout=labdrive.OPEN_SECONDS * 1000)
        shown = (
            "[...document.querySelectorAll('.jp-OutputArea-output')].filter(e => e.offsetParent).map(e => e.innerText)"
        )
        page.wait_for_function(f"() => {shown}.length === 1", timeout=labdrive.OPEN_SECONDS * 1000)
        notebook.snapshot(SHOTS / "opened_again.png", ".tl-twin")
        assert "Run All Above Selected Cell" in page.locator(".tl-twin").inner_text()
