"""Fingerprints that tell whether a notebook's stored outputs are fresh, and the scrubbing of what a run leaves behind.

The runner stamps each committed notebook with what its outputs came from: its code cells, the code of the package's
modules that it imports, directly or through others (comments and docstrings aside), the shipped weights. The hygiene
test computes the same again, without running anything.
"""

import ast
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from trajlib import pretrained

PACKAGE = Path(__file__).resolve().parent
NOT_IN_OUTPUTS = {
    "__main__.py",
    "bench.py",
    "course.py",
    "pages.py",
    "stamps.py",
}  # no notebook imports them for its output
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "(controls: run this cell in JupyterLab to use them)"
STUDIES = {"commit_study.study(": "commit.csv", "ablations.study(": "ablations.csv"}
STUDIES |= {"damage_study.study(": "damage.csv", "contest.study(": "contest.csv"}  # what a notebook calls: its file


def digest(parts: list[str]) -> str:
    """Sixteen hex digits that stand for these texts, in this order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def code_without_words(source: str) -> str:
    """Python source normalised: no comments, no docstrings, no layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def source_stamp(nb: NotebookNode) -> str:
    """Of the code cells, in order."""
    return digest([cell.source for cell in nb.cells if cell.cell_type == "code"])


@functools.cache
def imported(source: str) -> set[str]:
    """What Python source imports from the package, anywhere in it, and the modules that it names in a text."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="trajlib"):
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(said)) | ast.alias(name=said) | ast.Constant(value=str(said)):
                names |= set(re.findall(r"^trajlib\.(\w+)", said))
    return names


def lib_stamp(package: Path = PACKAGE, source: str | None = None) -> str:
    """Of the package's code as far as it can change what a notebook shows: one with this source, or any."""
    texts = {p.stem: p.read_text(encoding="utf-8") for p in sorted(package.glob("*.py"))}
    found, reached = set(texts) if source is None else {"__init__"} | imported(source), set()
    while found := (found & texts.keys()) - reached:
        reached |= found
        found = {name for stem in found for name in imported(texts[stem])}
    stems = sorted(stem for stem in reached if f"{stem}.py" not in NOT_IN_OUTPUTS)
    return digest([text for stem in stems for text in (stem, code_without_words(texts[stem]))])


def weights_stamp(shipped: Path | None = None) -> str:
    """Of the shipped weights, by the checksums on their cards."""
    shipped = shipped or pretrained.SHIPPED
    cards = {name: json.loads((shipped / f"{name}.json").read_bytes()) for name in pretrained.names(shipped)}
    return digest([f"{name} {card.get('sha256')}" for name, card in cards.items()])


def results_stamp(shipped: Path | None = None) -> str:
    """Of the figures in the shipped results file."""
    return digest([json.dumps(pretrained.results(shipped or pretrained.SHIPPED), sort_keys=True)])


def stamp(nb: NotebookNode, profile: str = "full") -> dict[str, Any]:
    """What the outputs of `nb` come from; one that reads the results file or studies depends on these, too."""
    source = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
    python = re.sub(r"(?m)^\s*[%!].*$", "", source)  # a shell command or magic imports nothing from here
    marks = {"source": source_stamp(nb), "lib": lib_stamp(source=python)}
    marks |= {"weights": weights_stamp(), "profile": profile}
    if re.search(r"\bresults\(", source):
        marks["results"] = results_stamp()
    files = [pretrained.SHIPPED / file for call, file in STUDIES.items() if call in source]
    if files:
        marks["study"] = digest([file.read_text(encoding="utf-8") for file in files if file.exists()])
    return marks


def scrub(nb: NotebookNode) -> NotebookNode:
    """Drop, in place, what differs between two equal runs: times, papermill's notes, widget state and ids, versions."""
    nb.metadata.pop("papermill", None)
    nb.metadata.pop("widgets", None)
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    for cell in nb.cells:
        for key in ("execution", "papermill"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):  # a picture of controls that no kernel stands behind
                output["data"] = {"text/plain": WIDGET_NOTE}
    return nb
