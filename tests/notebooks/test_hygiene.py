"""Net 1: the committed notebooks, read and not run. And does the net catch: one fault each, in a good notebook."""

from pathlib import Path

import nbformat
import pytest
from course_notebooks import write_notebook
from hygiene import FORBIDDEN, ROOT, faults

from trajlib.course import fingerprints, options

NOTEBOOKS = sorted(options.NOTEBOOKS.rglob("*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if ".ipynb_checkpoints" not in path.parts]
MEGABYTES = 3.4


# ---- the notebooks ----


def test_there_are_notebooks_and_the_runner_finds_each():
    assert NOTEBOOKS != []
    assert sorted(options.NOTEBOOKS.glob(options.PATTERN)) == NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    assert faults(path) == []


def test_notebooks_are_numbered_without_gaps_and_doubles():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(14))


def test_all_notebooks_together_are_small():
    assert sum(stored_size(path) for path in NOTEBOOKS) <= MEGABYTES * 1e6


def stored_size(path: Path) -> int:
    """Bytes of the notebook as a run stores it: JupyterLab writes more about the kernel into what it saves."""
    return len(nbformat.writes(fingerprints.strip_metadata(nbformat.read(path, 4))).encode())


def test_saving_a_notebook_in_jupyterlab_changes_no_size(good):
    before = stored_size(good)
    nb = nbformat.read(good, 4)
    nb.metadata["language_info"] = {"name": "python", "version": "3.11.2", "codemirror_mode": {"name": "ipython"}}
    nb.metadata["widgets"] = {"state": {}}
    nbformat.write(nb, good)
    assert stored_size(good) == before


# ---- does the net catch? ----


@pytest.fixture
def good(tmp_path):
    """A notebook without a fault."""
    path = write_notebook(tmp_path, "01_good", "print(6 * 7)", "from trajlib import render")
    nb = nbformat.read(path, 4)
    nb.cells.insert(2, nbformat.v4.new_markdown_cell("A sentence."))
    for count, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    nb.cells[3].metadata["tags"] = ["nbval-check-output"]
    nb.cells[3].outputs = [nbformat.v4.new_output("stream", name="stdout", text="42\n")]
    return save(nb, path)


def save(nb, path: Path, fresh: bool = True) -> Path:
    if fresh:
        nb.metadata["trajlib"] = fingerprints.fingerprint(nb)
    nbformat.write(nb, path)
    return path


def code(nb, source: str, at: int = 3):
    nb.cells[at].source = source


def output(nb, kind: str, **content):
    nb.cells[4].outputs = [nbformat.v4.new_output(kind, **content)]


FAULTS = {
    "not executed 1..3": lambda nb: nb.cells[4].update(execution_count=None),
    "executed 1..3": lambda nb: nb.cells[4].update(execution_count=7),
    "stderr": lambda nb: output(nb, "stream", name="stderr", text="careful"),
    "an error": lambda nb: output(nb, "error", ename="ValueError", evalue="", traceback=[]),
    "widget view": lambda nb: output(nb, "display_data", data={fingerprints.WIDGET: {"model_id": "x"}}),
    "compare nothing": lambda nb: nb.cells[3].metadata.pop("tags"),
    "widgets in its metadata": lambda nb: nb.metadata.update(widgets={}),
    "papermill in its metadata": lambda nb: nb.metadata.update(papermill={}),
    "jupytext in its metadata": lambda nb: nb.metadata.update(jupytext={"formats": "ipynb,py"}),
    "times of a run": lambda nb: nb.cells[3].metadata.update(execution={}),
    "kernel is not python3": lambda nb: nb.metadata.kernelspec.update(name="my-venv"),
    "0 cells are tagged": lambda nb: nb.cells[1].metadata.pop("tags"),
    "2 cells are tagged": lambda nb: nb.cells[4].metadata.update(tags=["parameters"]),
    "injected": lambda nb: nb.cells[4].metadata.update(tags=["injected-parameters"]),
    "does not hold exactly": lambda nb: code(nb, 'PROFILE = "smoke"\nARTIFACTS = "shipped"', at=1),
    "parameters cell does not": lambda nb: code(nb, 'PROFILE = "full"\nARTIFACTS = "shipped"\nN = 3', at=1),
    "hold exactly": lambda nb: code(nb, 'PROFILE = "full"\nARTIFACTS = str("shipped")', at=1),
    "begin with its title": lambda nb: nb.cells.pop(0),
    "41 lines": lambda nb: code(nb, "\n".join(["x = 1"] * 41)),
    "41 code cells": lambda nb: nb.cells.extend(
        cell for _ in range(38) for cell in (nbformat.v4.new_markdown_cell("x"), nbformat.v4.new_code_cell("x"))
    ),
    "2502 words": lambda nb: code(nb, "word " * 2498, at=2),
    "a median of 13": lambda nb: [code(nb, "\n".join(["x = 1"] * 13), at) for at in (3, 4)],
    "3 code cells in a row": lambda nb: nb.cells.pop(2),
    "kB, more than 400": lambda nb: output(nb, "stream", name="stdout", text="x" * 400_000),
    "a path of one machine": lambda nb: output(nb, "stream", name="stdout", text=f"{ROOT}/notebooks"),
    "of one machine": lambda nb: code(nb, "open('/home/ada/x')"),
    "a picture from the network": lambda nb: code(nb, "![x](https://example.org/x.png)", at=2),
    FORBIDDEN[r"\bFigureWidget\b"]: lambda nb: code(nb, "go.FigureWidget()"),
    "interact and Output": lambda nb: code(nb, "W.interact(f, x=3)"),
    "and Output stall": lambda nb: code(nb, "with W.Output():\n    pass"),
    "profiles differ": lambda nb: code(nb, "n = 3 if PROFILE == 'smoke' else 9"),
    "a figure is what": lambda nb: code(nb, "plt.show()"),
    "shell and magic": lambda nb: code(nb, "%matplotlib inline"),
    "no progress bar": lambda nb: code(nb, "from tqdm.auto import tqdm"),
}


def test_a_good_notebook_has_no_fault(good):
    assert faults(good) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(good, fault):
    nb = nbformat.read(good, 4)
    FAULTS[fault](nb)
    found = faults(save(nb, good))
    assert any(fault in sentence for sentence in found), found


def test_a_name_that_the_runner_would_pass_over(good):
    other = good.rename(good.with_name("1-Intro.ipynb"))
    assert faults(other) == ["its name is not NN_words_in_lower_case.ipynb"]


def test_stale_outputs_are_found(good):
    nb = nbformat.read(good, 4)
    code(nb, "print(42)")
    assert faults(save(nb, good, fresh=False)) == [
        "its outputs are stale (source changed): python -m trajlib run --update"
    ]
    del nb.metadata["trajlib"]
    assert "profile, source, weights" in faults(save(nb, good, fresh=False))[0]
