"""Fingerprints that tell whether a notebook's stored outputs are fresh, and the scrubbing of what a run leaves behind.

The runner stamps each committed notebook with what its outputs came from: its code cells, the package's code (comments
and docstrings aside), the shipped weights. The hygiene test computes the same again, without running anything.
"""

import ast
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


def lib_stamp(package: Path = PACKAGE) -> str:
    """Of the package's code, as far as it can change what a notebook shows."""
    files = [p for p in sorted(package.glob("*.py")) if p.name not in NOT_IN_OUTPUTS]
    return digest([text for p in files for text in (p.name, code_without_words(p.read_text(encoding="utf-8")))])


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
    marks = {"source": source_stamp(nb), "lib": lib_stamp(), "weights": weights_stamp(), "profile": profile}
    if any(cell.cell_type == "code" and re.search(r"\bresults\(", cell.source) for cell in nb.cells):
        marks["results"] = results_stamp()
    source = "".join(cell.source for cell in nb.cells if cell.cell_type == "code")
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
