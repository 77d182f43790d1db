"""Execute one notebook into a copy, and report which cell failed and why."""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill as pm
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG

from trajlib.course.fingerprints import WIDGET
from trajlib.course.options import Options, first_line

START_SECONDS = 120
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"


@dataclass
class Outcome:
    """The result of one notebook. `error` is empty if it ran to its end; `slowest` is "12.3 s, cell 7 (x = 1)"."""

    notebook: Path
    seconds: float
    error: str = ""
    slowest: str = ""
    core_seconds: float = 0.0  # of processors: other programs do not lengthen them, so notebooks keep these


def execute_notebook(
    notebook: Path, copy: Path, options: Options, on_cell: Callable[[int, int], None] = lambda number, of: None
) -> Outcome:
    """Execute `notebook` into `copy`; `on_cell(number, of)` is called as each code cell starts."""
    start, used = time.monotonic(), _kernel_seconds()
    progress = _Progress(on_cell)
    papermill_engines.register("trajlib", progress.engine())
    error = slowest = ""
    try:
        nb = pm.execute_notebook(
            str(notebook), str(copy), parameters=options.parameters(), engine_name="trajlib", kernel_name="python3",
            progress_bar=False, start_timeout=START_SECONDS, execution_timeout=options.cell_seconds,
            cwd=str(notebook.parent),
        )  # fmt: skip
        error, slowest = _widget_error(nb), _slowest_cell(nb)
        nb.metadata.pop("widgets", None)  # ids of this run, and up to megabytes: only the search above needs it
        nbformat.write(nb, copy)
    except PapermillExecutionError as failed:
        error = _describe(progress.number, failed.source, f"{failed.ename}: {first_line(failed.evalue)}")
    except CellTimeoutError:
        error = _describe(progress.number, progress.source, f"still running after {options.cell_seconds:g} s, stopped")
    except DeadKernelError:
        reason = "the kernel died (out of memory, or a crash in compiled code)"
        error = _describe(progress.number, progress.source, reason)
    except RuntimeError as failed:  # a kernel that never answered
        error = f"the kernel did not start: {first_line(failed)}"
    if copy.exists():
        _number_cells(copy, progress.number)
    return Outcome(notebook, time.monotonic() - start, error, slowest, _kernel_seconds() - used)


def _kernel_seconds() -> float:
    """Processor seconds of the kernels that have ended; 0 on Windows, which does not count them."""
    times = os.times()
    return times.children_user + times.children_system


def _number_cells(copy: Path, failed: int) -> None:
    """Number the cells of an executed copy as the notebook itself does: the cell that papermill injects has none."""
    nb = nbformat.read(copy, 4)
    for number, cell in enumerate(filter(_is_visible_code, nb.cells), start=1):
        for part in (cell, *cell.outputs):
            if part.get("execution_count"):
                part["execution_count"] = number
    for cell in nb.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["execution_count"] = None
        if ERROR_MARKER_TAG in cell.metadata.get("tags", []):  # papermill's link to the cell that failed
            cell["source"] = re.sub(r"In \[\d+\]", f"In [{failed}]", cell.source)
    nbformat.write(nb, copy)


class _Progress:
    """Counts code cells as the reader sees them: the cell that papermill injects is left out."""

    def __init__(self, on_cell: Callable[[int, int], None]):
        self.on_cell, self.number, self.source = on_cell, 0, ""

    def engine(self) -> type[NBClientEngine]:
        """papermill's engine, reporting each cell that starts."""
        progress = self

        class Engine(NBClientEngine):
            @classmethod
            def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
                begin = nb_man.cell_start

                def cell_start(cell, cell_index=None, **more):
                    progress.start_cell(cell, nb_man.nb)
                    return begin(cell, cell_index, **more)

                nb_man.cell_start = cell_start
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

        return Engine

    def start_cell(self, cell: nbformat.NotebookNode, nb: nbformat.NotebookNode) -> None:
        if _is_visible_code(cell):
            self.number, self.source = self.number + 1, cell.source
            self.on_cell(self.number, sum(map(_is_visible_code, nb.cells)))


def _is_visible_code(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])


def _slowest_cell(nb: nbformat.NotebookNode) -> str:
    """The longest of the cells' durations, which papermill keeps in their metadata."""
    cells = list(enumerate(filter(_is_visible_code, nb.cells), start=1))
    times = [(cell.metadata.get("papermill", {}).get("duration") or 0, number, cell.source) for number, cell in cells]
    if not times:
        return ""
    seconds, number, source = max(times)
    return _describe(number, source, f"{seconds:.1f} s")


def _widget_error(nb: nbformat.NotebookNode) -> str:
    """An exception inside an Output widget (`with out:`, `interact`) fails no cell: it is in the widgets' state."""
    state = nb.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for model, content in state.items():
        for output in content["state"].get("outputs") or ():
            if output.get("output_type") == "error":
                reason = f"{output['ename']}: {first_line(output['evalue'])}, inside a widget"
                return _describe(*_cell_that_shows(nb, model, state), reason)
    return ""


def _cell_that_shows(nb: nbformat.NotebookNode, model: str, state: dict[str, Any]) -> tuple[int, str]:
    """(number, source) of the code cell whose widget holds `model`, at any depth; (0, "") if none does."""
    for number, cell in enumerate(filter(_is_visible_code, nb.cells), start=1):
        seen = {output.get("data", {}).get(WIDGET, {}).get("model_id") for output in cell.outputs}
        todo = list(seen)
        while todo:
            below = re.findall(r"IPY_MODEL_(\w+)", json.dumps(state.get(todo.pop(), {})))
            todo += [b for b in below if b not in seen]
            seen.update(below)
        if model in seen:
            return number, cell.source
    return 0, ""


def _describe(number: int, source: str, what: str) -> str:
    return f"cell {number} ({first_line(source) or 'empty'}): {what}"
