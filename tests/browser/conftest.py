"""A browser and a JupyterLab that serve all of these tests.

To add a notebook: a fixture that yields `run("NN_name.ipynb")`, and tests that use what it shows.
"""

import contextlib
import os
import shutil

import labdrive
import pytest
from course_notebooks import write_notebook

from trajlib.course import options

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
    """The folder that JupyterLab shows: the course's notebooks without outputs, their studies, and small ones."""
    root = tmp_path_factory.mktemp("lab")
    without = shutil.ignore_patterns("__pycache__", "*-files")
    shutil.copytree(options.NOTEBOOKS / "studies", root / "studies", ignore=without)
    for notebook in options.NOTEBOOKS.glob(options.PATTERN):
        labdrive.bare_copy(notebook, root)
    write_notebook(root, "small", DRAWN)
    write_notebook(root, "asks", ASKS)
    write_notebook(root, "studio", "from trajlib.widgets.trajectory_studio import TrajectoryStudio\nTrajectoryStudio()")
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
