"""Net 1: the committed files, read and not run. And does the net catch: one fault each, in a notebook that is good."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import nbformat
import pytest
from course_notebooks import write
from hygiene import FORBIDDEN, ROOT, faults

from trajlib import course, pretrained, stamps

NOTEBOOKS = sorted(course.NOTEBOOKS.rglob("*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if ".ipynb_checkpoints" not in path.parts]
MEGABYTES = {"notebooks": 3, "weights": 25, "file": 12}  # one file: the tokenizer, 5.3 M weights in float16


# ---- the notebooks ----


def test_there_are_notebooks_and_the_runner_finds_each():
    assert NOTEBOOKS != []
    assert sorted(course.NOTEBOOKS.glob(course.PATTERN)) == NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    assert faults(path) == []


def test_all_notebooks_together_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= MEGABYTES["notebooks"] * 1e6


# ---- does the net catch? ----


@pytest.fixture
def good(tmp_path):
    """A notebook without a fault."""
    path = write(tmp_path, "01_good", "print(6 * 7)", "from trajlib import render")
    nb = nbformat.read(path, 4)
    nb.cells.insert(2, nbformat.v4.new_markdown_cell("A sentence."))
    for count, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    nb.cells[3].metadata["tags"] = ["nbval-check-output"]
    nb.cells[3].outputs = [nbformat.v4.new_output("stream", name="stdout", text="42\n")]
    return save(nb, path)


def save(nb, path: Path, fresh: bool = True) -> Path:
    if fresh:
        nb.metadata["trajlib"] = stamps.stamp(nb)
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
    "widget view": lambda nb: output(nb, "display_data", data={stamps.WIDGET: {"model_id": "x"}}),
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
    assert "lib, profile, source, weights" in faults(save(nb, good, fresh=False))[0]


# ---- the weights and figures ----


def test_shipped_models_load_and_are_small():
    assert pretrained.names() != []
    for name in pretrained.names():
        assert not pretrained.load(name)[0].training
    files = list(pretrained.SHIPPED.iterdir())
    assert sum(path.stat().st_size for path in files) <= MEGABYTES["weights"] * 1e6
    expected = {f"{name}.{end}" for name in pretrained.names() for end in ("json", "safetensors")}
    assert {path.name for path in files} - {pretrained.RESULTS, *stamps.STUDIES.values()} == expected


def test_shipped_figures_say_what_they_stand_on():
    figures = pretrained.results()
    assert figures != {}
    keys = {"value", "n", "interval", "baseline", "ceiling", "seed", "notebook", "unit", "tolerance"}
    assert {name: set(entry) for name, entry in figures.items() if set(entry) != keys} == {}


# ---- the repository ----


def test_style():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def tracked() -> list[Path]:
    """The files in git; a copy without git has none to check."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_large_file_and_no_stray_notebook_in_git():
    files = tracked()
    assert [p.name for p in files if p.stat().st_size > MEGABYTES["file"] * 1e6] == []
    assert [p for p in files if p.suffix == ".ipynb" and p.parent != course.NOTEBOOKS] == []


def test_nothing_is_unpickled():
    unpickling = re.compile(r"^\s*(import|from) pickle|\btorch\.load\(|allow_pickle\s*=\s*True", re.MULTILINE)
    files = [*(ROOT / "trajlib").glob("*.py"), *NOTEBOOKS]
    assert [path.name for path in files if unpickling.search(path.read_text())] == []


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_every_requirement_is_pinned_and_has_its_reason():
    for line in requirements():
        assert re.fullmatch(r"([a-z0-9-]+==[\w.]+|\./\.opencv-headless|-e \.) +# \S.*", line), line


def test_what_is_installed_is_what_is_pinned():
    pins = dict(re.match(r"([a-z0-9-]+)==([\w.]+)", line).groups() for line in requirements() if "==" in line)
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in pins}
    assert installed == pins


def test_conda_takes_its_versions_from_the_same_list():
    text = (ROOT / "environment.yml").read_text()
    assert "- -r requirements.txt" in text
    assert re.findall(r"^ *- +(?:pip: *)?(\S.*=.*)$", text, re.MULTILINE) == ["python=3.11"]


def test_ci_runs_the_command_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"<!-- test -->\n```bash\n(.+)\n```", readme)[1]
    assert command.endswith("-m pytest")
    assert command in (ROOT / ".ci/run").read_text().splitlines()
    assert re.search(r"<!-- run -->\n```bash\n(.+)\n```", readme)[1].endswith("-m trajlib run")


def test_opencv_needs_no_window_system():
    """`opencv-python` is our empty stand-in; cv2 comes from the headless wheel, which links no libGL and no X11."""
    stand_in = importlib.metadata.distribution("opencv-python")
    assert [str(f) for f in stand_in.files if str(f).startswith("cv2")] == []
    headless = importlib.metadata.distribution("opencv-python-headless")
    assert stand_in.version == headless.version
    library = next(Path(cv2.__file__).parent.glob("cv2*.so"))
    assert Path(headless.locate_file("cv2")) == library.parent
    if shutil.which("ldd"):
        linked = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
        assert re.findall(r"libGL|libX11|libgthread|not found", linked) == []
