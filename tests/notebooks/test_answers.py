"""Answers to exercises that are given as code run at the end of their notebook, and what they assert holds."""

import re
from pathlib import Path

import nbformat
import pytest

from trajlib.course import options, runner


def answers(path: Path) -> list[str]:
    """The blocks of Python in the folded answers of a notebook."""
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details>.*?</details>", text, re.DOTALL)
    return re.findall(r"```python\n(.*?)```", "\n".join(folded), re.DOTALL)


WITH_CODE = [path for path in sorted(options.NOTEBOOKS.glob(options.PATTERN)) if answers(path)]


def test_answers_are_found():
    assert "11_your_own_videos" in [path.stem for path in WITH_CODE]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.stem)
def test_answers_run_after_their_notebook(path, tmp_path):
    nb, folder = nbformat.read(path, 4), tmp_path / "notebooks"
    nb.cells += [nbformat.v4.new_code_cell(block) for block in answers(path)]
    folder.mkdir()
    nbformat.write(nb, folder / path.name)
    said: list[str] = []
    whole = options.Options(profile="smoke", out=tmp_path / "out", notebooks=folder)
    assert runner.run_notebooks(whole, said.append) == 0, "\n".join(said)
