"""Fingerprints of notebooks, and the removal of metadata that differs between two equal runs.

A fingerprint covers the notebook's own code cells and the weights that it loads, no more: whether the package still
computes the same is shown by the replay, which runs every notebook and compares text, figures and pictures.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from trajlib.zoo import checkpoints, model_files

WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "(controls: in JupyterLab, menu Run, Run All Above Selected Cell, then run this cell)"
TWIN = "tl-twin"  # marks the page that a studio leaves for JupyterLab, next to the same figure as a picture


def digest(parts: list[str]) -> str:
    """The first 16 hex digits of the SHA-256 of these texts, in this order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def source_fingerprint(nb: NotebookNode) -> str:
    """The digest of the code cells, in order."""
    return digest([cell.source for cell in nb.cells if cell.cell_type == "code"])


def weights_fingerprint(nb: NotebookNode, shipped: Path | None = None) -> str:
    """The digest of the weights that the code cells load, as `recipes.NAME(...)` or by "NAME": their cards' checksums.

    `shipped` is the folder of the cards, by default the package's own.
    """
    shipped = shipped or model_files.SHIPPED
    code = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
    loaded = [
        name for name in checkpoints.names(shipped) if re.search(rf"""\brecipes\.{name}\b|["']{name}["']""", code)
    ]
    cards = {name: json.loads((shipped / f"{name}.json").read_bytes()) for name in loaded}
    return digest([f"{name} {card.get('sha256')}" for name, card in cards.items()])


def fingerprint(nb: NotebookNode, profile: str = "full") -> dict[str, Any]:
    """What the outputs of `nb` depend on: {"source": its code cells, "weights": those that it loads, "profile"}."""
    return {"source": source_fingerprint(nb), "weights": weights_fingerprint(nb), "profile": profile}


def strip_metadata(nb: NotebookNode) -> NotebookNode:
    """Drop, in place, what differs between two equal runs: times, papermill's keys, widget state and ids, versions."""
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
            if WIDGET in output.get("data", {}):  # controls do not work without a kernel
                output["data"] = {"text/plain": WIDGET_NOTE}
            if TWIN in output.get("data", {}).get("text/html", ""):
                del output["data"]["text/html"]
                if "image/png" not in output["data"]:  # no more than the note, which the controls leave, too
                    output["data"] = {}
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
    return nb
