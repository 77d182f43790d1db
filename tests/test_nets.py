"""Do the nets catch? Small notebooks with one fault each, and good ones that must pass."""

from pathlib import Path

import nbformat
import nets
import pytest
from course_notebooks import write

from trajlib import course

TRAINS = """\
import torch
from trajlib import pretrained
from trajlib.pretrained import record
torch.manual_seed(0)
path = pretrained.folder(ARTIFACTS) / "weights"
print("loaded" if path.exists() else "trained")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_bytes(torch.rand(3).numpy().tobytes())
record(ARTIFACTS, "first weight", torch.rand(1), n=1, notebook="01")"""


@pytest.fixture
def executed(tmp_path):
    """`executed(source, ...)`: the folder of a smoke run of notebooks with these cells."""

    def execute(*sources: str) -> Path:
        for number, source in enumerate(sources):
            write(tmp_path / "nb", f"{number:02d}_small", source)
        options = course.Options(profile="smoke", notebooks=tmp_path / "nb", out=tmp_path / "out", cell_seconds=60)
        assert course.run(options, say=lambda line: None) == 0
        return tmp_path / "out"

    return execute


def again(out: Path) -> str:
    return nets.again(out, cell_seconds=20, seconds=120)


def test_a_run_that_trains_is_repeated_from_nothing(executed):
    out = executed(TRAINS, "print('second')")
    assert again(out) == ""
    assert (out / "first/artifacts/weights").read_bytes() == (out / "artifacts/weights").read_bytes()


def test_an_unseeded_print_is_caught(executed):
    assert "mismatch 'stdout'" in again(executed("import random\nprint(random.random())"))


def test_an_unseeded_figure_is_caught(executed):
    source = "import random\nfrom trajlib.pretrained import record\n"
    out = executed(source + "record(ARTIFACTS, 'luck', random.random(), n=1, notebook='00')")
    assert again(out).startswith("luck: ")


def lax(path: Path, tmp_path: Path, **options) -> str:
    return nets.nbval([path], tmp_path / "r.json", strict=False, **({"cell_seconds": 20, "seconds": 120} | options))


def claim(path: Path, printed: str) -> Path:
    """Store `printed` as the output of the last cell, and tag it as a claim."""
    nb = nbformat.read(path, 4)
    for count, cell in enumerate(nb.cells[1:], start=1):
        cell.execution_count = count
    nb.cells[-1].metadata["tags"] = ["nbval-check-output"]
    nb.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed)]
    nbformat.write(nb, path)
    return path


def test_a_claim_that_holds_and_one_that_does_not(tmp_path):
    path = write(tmp_path, "01_claim", "x = 6 * 7", "print(x)")
    assert lax(claim(path, "42\n"), tmp_path) == ""
    assert "mismatch 'stdout'" in lax(claim(path, "41\n"), tmp_path)


def test_an_error_in_a_widget_is_caught(tmp_path):
    path = write(tmp_path, "01_widget", "import ipywidgets as W\nwith W.Output():\n    1 / 0")
    assert "ZeroDivisionError" in lax(path, tmp_path)


@pytest.mark.parametrize(
    "source",
    ["import time\ntime.sleep(600)", "import time\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    pass"],
)
def test_a_hang_is_caught_even_if_the_cell_swallows_the_interrupt(tmp_path, source):
    path = write(tmp_path, "01_hang", source, "1")
    assert lax(path, tmp_path, cell_seconds=3) != ""


def test_cells_that_did_not_run_are_missed():
    assert nets.count("passed", "..\n2 passed, 1 xpassed in 3 s") == 2
    assert nets.count("passed", "no tests ran in 0.1s") == 0
