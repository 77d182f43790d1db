"""Net 5: notebooks in real JupyterLab, in headless Chromium. Screenshots land in runs/screenshots.

To add a notebook: a fixture that yields `run("NN_name.ipynb")`, and tests that touch what it shows.
"""

import contextlib
import os
from pathlib import Path

import labdrive
import pytest
from course_notebooks import write

from trajlib import course

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
