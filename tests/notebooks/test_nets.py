"""Do the nets catch? Small notebooks with one fault each, and good ones that must pass."""

import base64
import io
from pathlib import Path

import nbformat
import nets
import pytest
from course_notebooks import write_notebook
from PIL import Image

from trajlib.course import options, runner
from trajlib.zoo import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LIMITS = {"cell_seconds": 60, "seconds": 400}  # where several things run at once, a kernel takes half a minute to start

TRAINS = """\
import torch
from trajlib.classify.readers import Simple3DCNN
from trajlib.zoo import checkpoints
def train():
    torch.manual_seed(0)
    print("small: no trained one in 'x'; training 3 steps")
    print("step     3/3  loss 0.1  (0.0 min, 0.0 to go)", flush=True)
    return Simple3DCNN(), {}
model, card = checkpoints.train_or_load("small", ARTIFACTS, train)
print(model.head[0].weight[0])"""
RECORDS = """\
from trajlib.course.results import record
record(ARTIFACTS, "a figure", {}, n=1, notebook="00")"""


@pytest.fixture
def executed(tmp_path):
    """`executed(source, ...)`: the folder of a smoke run of notebooks with these cells."""

    def execute(*sources: str) -> Path:
        for number, source in enumerate(sources):
            write_notebook(tmp_path / "nb", f"{number:02d}_small", source)
        wanted = options.Options(profile="smoke", notebooks=tmp_path / "nb", out=tmp_path / "out", cell_seconds=60)
        assert runner.run_notebooks(wanted, log=lambda line: None) == 0
        return tmp_path / "out"

    return execute


# ---- determinism ----


def test_a_run_is_repeated_with_the_models_that_it_trained(executed):
    out = executed(TRAINS, "print('second')", RECORDS.format(0.5))
    assert nets.repeat(out, **LIMITS) == ""


def test_unseeded_text_is_caught(executed):
    out = executed("print(1)", "import random\nprint(random.random())")
    assert "mismatch 'stdout'" in nets.repeat(out, **LIMITS)


def test_an_unseeded_figure_is_caught(executed):
    out = executed("import random\n" + RECORDS.format("random.random()"))
    assert nets.repeat(out, **LIMITS).startswith("a figure: ")


def test_notebooks_are_divided_into_groups_of_similar_duration(tmp_path):
    copies = []
    for number, seconds in enumerate((5, 1, 1, 2)):
        path = write_notebook(tmp_path, f"{number:02d}_x", "1")
        nb = nbformat.read(path, 4)
        nb.metadata["papermill"] = {"duration": seconds}
        nbformat.write(nb, path)
        copies.append(path)
    assert nets.balanced(copies, 2) == [copies[:1], copies[1:]]
    assert sorted(copy for group in nets.balanced(copies, 3) for copy in group) == copies


# ---- the replay ----


def lax(path: Path, tmp_path: Path, **limits) -> str:
    return nets.nbval([path], tmp_path / files.RESULTS, strict=False, **LIMITS | limits)


def claim(path: Path, *outputs) -> Path:
    """Store `outputs` as those of the last cell, and tag it as a claim."""
    nb = nbformat.read(path, 4)
    for count, cell in enumerate(nb.cells[1:], start=1):
        cell.execution_count = count
    nb.cells[-1].metadata["tags"] = ["nbval-check-output"]
    nb.cells[-1].outputs = list(outputs)
    nbformat.write(nb, path)
    return path


def printed(text: str):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def test_a_claim_that_holds_and_one_that_does_not(tmp_path):
    path = write_notebook(tmp_path, "01_claim", "x = 6 * 7", "print(x)")
    assert lax(claim(path, printed("42\n")), tmp_path) == ""
    assert "mismatch 'stdout'" in lax(claim(path, printed("41\n")), tmp_path)


def test_a_picture_that_differs_is_caught(tmp_path):
    draw = "from PIL import Image\nfrom IPython.display import display\ndisplay(Image.new('RGB', (9, 9), (0, 99, 0)))"
    path = write_notebook(tmp_path, "01_picture", draw)

    def picture(green: int):
        file = io.BytesIO()
        Image.new("RGB", (9, 9), (0, green, 0)).save(file, "PNG")
        data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "x"}
        return nbformat.v4.new_output("display_data", data=data)

    nb = nbformat.read(claim(path, picture(99)), 4)
    nb.cells[-1].metadata["tags"] = []  # pictures are compared in every cell, text in cells that are tagged
    nbformat.write(nb, path)
    assert lax(path, tmp_path) == ""
    nb.cells[-1].outputs = [picture(250)]
    nbformat.write(nb, path)
    assert "picture 1: differs by 50.3 of 255 shades" in lax(path, tmp_path)


def test_an_error_in_a_widget_is_caught(tmp_path):
    path = write_notebook(tmp_path, "01_widget", "import ipywidgets as W\nwith W.Output():\n    1 / 0")
    assert "ZeroDivisionError" in lax(path, tmp_path)


@pytest.mark.parametrize(
    "source",
    ["import time\ntime.sleep(600)", "import time\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    pass"],
)
def test_a_hang_is_caught_even_if_the_cell_swallows_the_interrupt(tmp_path, source):
    path = write_notebook(tmp_path, "01_hang", source, "1")
    assert lax(path, tmp_path, cell_seconds=3) != ""


def test_cells_that_did_not_run_are_missed():
    assert nets.count("passed", "..\n2 passed, 1 xpassed in 3 s") == 2
    assert nets.count("passed", "no tests ran in 0.1s") == 0
