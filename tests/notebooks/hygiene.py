"""What is wrong with a committed notebook, read from its JSON alone: nothing is run."""

import ast
import re
import statistics
import tempfile
from itertools import groupby
from pathlib import Path

import nbformat

from trajlib.course import fingerprints, options

ROOT = Path(__file__).resolve().parents[2]
KILOBYTES = 400
CODE_CELLS = 40
WORDS = 2500  # in markdown cells
CELL_LINES = 40
MEDIAN_LINES = 12
CODE_CELLS_IN_A_ROW = 2
HOME = re.compile(r"/(?:home|Users|root)/\w|[A-Z]:\\\\Users")
FORBIDDEN = {  # in code cells: pattern and why not
    r"\bFigureWidget\b": "FigureWidget weighs 5 MB and kills other widgets",
    r"\binteract(?:ive)?\(|\bOutput\(": "interact and Output stall headless runs and hide exceptions",
    r"PROFILE\s*[!=]=|if PROFILE\b": "profiles differ in trajlib/course/profiles.py, never in a cell",
    r"\bplt\.show\(|\.savefig\(": "a figure is what its cell returns",
    r"^\s*[!%]": "shell and magic commands belong in the README",
    r"\btqdm\b": "no progress bar in stored outputs",
}


def faults(path: Path) -> list[str]:
    """Every fault of the notebook at `path`, one short sentence each."""
    nb = nbformat.read(path, 4)
    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        return [f"not valid: {error.message}"]
    return [*_shape(path, nb), *_metadata(nb), *_parameters(nb), *_outputs(nb), *_words(path, nb), *_freshness(nb)]


def code_cells(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def count_words(nb: nbformat.NotebookNode) -> int:
    """The number of words in the markdown cells; formulas, links' targets and table rules are not counted."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|</?[a-z][^>]*>", " ", text, flags=re.DOTALL)
    return sum(any(c.isalnum() for c in word) for word in text.split())


def _shape(path, nb):
    """Name, sizes, rhythm."""
    if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name):
        yield "its name is not NN_words_in_lower_case.ipynb"
    if path.stat().st_size > KILOBYTES * 1000:
        yield f"{path.stat().st_size / 1000:.0f} kB, more than {KILOBYTES}"
    if nb.cells[0].cell_type != "markdown" or not nb.cells[0].source.startswith("# "):
        yield "it does not begin with its title"
    lines = [len(cell.source.splitlines()) for cell in code_cells(nb)]
    if len(lines) > CODE_CELLS:
        yield f"{len(lines)} code cells, more than {CODE_CELLS}"
    if (words := count_words(nb)) > WORDS:
        yield f"{words} words, more than {WORDS}"
    if max(lines) > CELL_LINES:
        yield f"a code cell of {max(lines)} lines, more than {CELL_LINES}"
    if statistics.median(lines) > MEDIAN_LINES:
        yield f"its code cells have a median of {statistics.median(lines)} lines, more than {MEDIAN_LINES}"
    runs = [len(list(group)) for kind, group in groupby(nb.cells, lambda c: c.cell_type) if kind == "code"]
    if max(runs) > CODE_CELLS_IN_A_ROW:
        yield f"{max(runs)} code cells in a row: a sentence belongs between them"


def _metadata(nb):
    """What tools leave behind."""
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not python3"
    for key in ("widgets", "papermill", "jupytext"):
        if key in nb.metadata:
            yield f"{key} in its metadata"
    if any(key in cell.metadata for cell in nb.cells for key in ("papermill", "execution")):
        yield "times of a run in its cells' metadata"


def _parameters(nb):
    """One parameters cell, two literals, nothing injected."""
    cells = [cell for cell in code_cells(nb) if "parameters" in tags(cell)]
    if len(cells) != 1:
        yield f"{len(cells)} cells are tagged parameters, one is needed"
    elif _literals(cells[0].source) != list(options.DEFAULTS.items()):
        yield f"its parameters cell does not hold exactly {options.DEFAULTS}"
    if any("injected-parameters" in tags(cell) for cell in nb.cells):
        yield "a cell that papermill injected"


def _literals(source: str) -> list[tuple[str, object]] | None:
    """(name, value) of each statement when all are `NAME = literal`, else None."""
    try:
        return [(node.targets[0].id, ast.literal_eval(node.value)) for node in ast.parse(source).body]
    except (AttributeError, ValueError, SyntaxError):
        return None


def _outputs(nb):
    """Executed once, from top to bottom, without warnings; at least one output that the replay compares."""
    cells = code_cells(nb)
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        yield f"its cells were not executed 1..{len(cells)}"
    outputs = [output for cell in cells for output in cell.outputs]
    if any(o.output_type == "error" for o in outputs):
        yield "an error in its outputs"
    if any(o.get("name") == "stderr" for o in outputs):
        yield "stderr in its outputs"
    if any(fingerprints.WIDGET in o.get("data", {}) for o in outputs):
        yield "a stored widget view: it does not work without a kernel"
    if not any(cell.outputs for cell in cells if "nbval-check-output" in tags(cell)):
        yield "no cell with outputs is tagged nbval-check-output: the replay would compare nothing"


def _words(path, nb):
    """What may be in no cell and no printed text."""
    code = "\n".join(cell.source for cell in code_cells(nb))
    for pattern, why in FORBIDDEN.items():
        if re.search(pattern, code, re.MULTILINE):
            yield why
    here = [str(folder) for folder in (ROOT, Path.home(), tempfile.gettempdir()) if len(str(folder)) > 2]
    text = "\n".join([*(cell.source for cell in nb.cells), *_printed(nb)])
    if HOME.search(text) or any(f"{folder}/" in text for folder in here):
        yield "a path of one machine"
    if re.search(r"!\[[^\]]*\]\(https?:|<img[^>]+src=.https?:", text):
        yield "a picture from the network"


def _printed(nb):
    """The texts among the outputs; pictures left out."""
    for cell in code_cells(nb):
        for output in cell.outputs:
            yield output.get("text", "")
            yield from (value for mime, value in output.get("data", {}).items() if mime.startswith("text/"))


def _freshness(nb):
    """The stored fingerprint, computed again."""
    came, due = nb.metadata.get("trajlib", {}), fingerprints.fingerprint(nb)
    stale = sorted(key for key in due.keys() | came.keys() if came.get(key) != due.get(key))
    if stale:
        yield f"its outputs are stale ({', '.join(stale)} changed): python -m trajlib run --update"
