"""Small notebooks for testing what runs, checks and publishes notebooks."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = 'PROFILE = "full"\nARTIFACTS = "shipped"'


def write_notebook(folder: Path, name: str, *cells: str, parameters: str | None = PARAMETERS) -> Path:
    """Write `folder`/`name`.ipynb: a title, a parameters cell unless None, then code `cells`; ids are positions."""
    parts = [new_markdown_cell(f"# The title of {name}")]
    if parameters is not None:
        parts.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    parts += [new_code_cell(source) for source in cells]
    for number, cell in enumerate(parts):
        cell["id"] = f"cell-{number}"
    nb = new_notebook(cells=parts)
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"
