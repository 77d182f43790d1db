"""Run the notebooks headless, in order, and leave a folder of executed copies with an index page.

Everything a run needs is an argument of `run`, the notebooks' folder included; the command line is `trajlib.__main__`.
"""

import ast
import base64
import contextlib
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
import papermill as pm
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from PIL import Image, ImageSequence

from trajlib import pages, pretrained, report, stamps
from trajlib.config import PROFILES

DEFAULTS = {"PROFILE": "full", "ARTIFACTS": "shipped"}
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
PATTERN = "[0-9][0-9]_*.ipynb"
CELL_SECONDS = {"smoke": 600, "shipped": 1200, "training": 4 * 3600}  # the longest that one cell may take
START_SECONDS = 120
THREADS = "2"  # a sum's rounding depends on how many threads share it: the same number everywhere


class UsageError(ValueError):
    """What was asked for cannot be run; the message says what to ask for instead."""


@dataclass(frozen=True)
class Options:
    """One run. `artifacts` and `out` may be left open: see `settled`."""

    profile: str = "full"
    artifacts: str | None = None  # "shipped" or a folder
    only: tuple[str, ...] = ()  # beginnings of notebook names; empty: all
    out: Path | None = None
    update: bool = False  # write outputs and figures back into the repository
    notebooks: Path = NOTEBOOKS
    cell_seconds: float | None = None
    own_artifacts: bool = False  # nobody named a folder: the run's own, which a whole run empties first

    def settled(self) -> "Options":
        """With defaults filled in and folders absolute (kernels run in the notebooks' folder); UsageError if bad."""
        if self.profile not in PROFILES:
            raise UsageError(f"There is no profile {self.profile!r}: take {' or '.join(PROFILES)}.")
        if self.cell_seconds is not None and not self.cell_seconds > 0:
            raise UsageError(f"A cell needs time to run: {self.cell_seconds:g} seconds came, more than 0 are needed.")
        out = (self.out or Path("runs") / self.profile).resolve()
        artifacts = self.artifacts or ("shipped" if self.profile == "full" else str(out / "artifacts"))
        if self.profile == "smoke" and artifacts == "shipped":
            raise UsageError("The smoke profile trains its own tiny models: give it a folder, not the shipped weights.")
        if artifacts != "shipped":
            artifacts = str(Path(artifacts).resolve())
        for folder in (out, *([] if artifacts == "shipped" else [Path(artifacts)])):
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} is a file: a folder was expected.")
        if self.update and (self.profile, artifacts) != ("full", "shipped"):
            raise UsageError(
                "--update writes the report, so it goes with the full profile and the shipped weights only."
            )
        seconds = self.cell_seconds or CELL_SECONDS[_kind(self.profile, artifacts)]
        facts = {"artifacts": artifacts, "out": out, "notebooks": self.notebooks.resolve(), "cell_seconds": seconds}
        return replace(self, **facts, own_artifacts=self.own_artifacts or self.artifacts is None)

    def parameters(self) -> dict[str, str]:
        """What papermill is to inject: nothing when the notebooks' own values are meant."""
        asked = {"PROFILE": self.profile, "ARTIFACTS": self.artifacts}
        return {} if asked == DEFAULTS else asked


def _kind(profile: str, artifacts: str) -> str:
    return "smoke" if profile == "smoke" else "shipped" if artifacts == "shipped" else "training"


@dataclass
class Outcome:
    """What became of one notebook. `error` is empty when it ran to its end."""

    notebook: Path
    seconds: float
    error: str = ""


@dataclass
class Comparison:
    """The figures of a run against the shipped ones."""

    agree: int = 0
    differ: list[str] = field(default_factory=list)


# ---- before the run ----------------------------------------------------------------------------------------------


def chosen(notebooks: Path, only: tuple[str, ...] = ()) -> list[Path]:
    """The notebooks to run, in order: all, or those whose name begins with one of `only`."""
    found = sorted(notebooks.glob(PATTERN))
    if not found:
        raise UsageError(f"There is no notebook in {notebooks}: run this in a clone of the course.")
    for start in only:
        if not start or not any(p.stem.startswith(start) for p in found):
            raise UsageError(f"No notebook begins with {start!r}; there are {', '.join(p.stem for p in found)}.")
    return [p for p in found if not only or p.stem.startswith(only)]


def check_parameters(notebook: Path) -> None:
    """UsageError unless `notebook` has the course's two parameters, literally: papermill only logs an unknown one."""
    try:
        found = pm.inspect_notebook(str(notebook))
    except Exception as error:
        raise UsageError(f"{notebook.name} cannot be read as a notebook ({_first_line(error)}): restore it.") from None
    came = {name: _literal(info["default"]) for name, info in found.items()}
    if came != DEFAULTS:
        wanted = ", ".join(f'{name} = "{value}"' for name, value in DEFAULTS.items())
        spelt = ", ".join(f"{name} = {info['default']}" for name, info in found.items()) or "none"
        raise UsageError(f"{notebook.name} has the parameters {spelt}; its parameters cell must hold exactly {wanted}.")


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def check_environment(cwd: Path) -> None:
    """UsageError unless a kernel of this Python, started where the notebooks lie, would find this very package."""
    script = "import ipykernel, trajlib; print(trajlib.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, timeout=120)
    here = str(Path(__file__).with_name("__init__.py"))
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise UsageError(f"A kernel of {sys.executable} lacks the course's packages ({last[0]}): {_INSTALL}")
    if Path(done.stdout.strip()).resolve() != Path(here).resolve():
        raise UsageError(
            f"A kernel of {sys.executable} would import another trajlib, {done.stdout.strip()}: {_INSTALL}"
        )


_INSTALL = f"run `{sys.executable} -m pip install -r requirements.txt` in the clone."


# ---- the kernels' surroundings -----------------------------------------------------------------------------------


def kernel_variables(results: Path) -> dict[str, str]:
    """Environment variables for notebook kernels: where figures go, and what makes two runs print the same."""
    return {
        "TRAJLIB_RESULTS": str(results),
        "OMP_NUM_THREADS": THREADS,
        "MKL_NUM_THREADS": THREADS,
        "OPENBLAS_NUM_THREADS": THREADS,
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's advice on frozen modules, on stderr
    }


def write_kernelspec(home: Path) -> None:
    """Under `home`, a kernel `python3` that is this interpreter, whatever kernels the user has registered."""
    spec = home / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-c", _LAUNCH, "-f", "{connection_file}", "--log-level=CRITICAL"]
    content = {"argv": argv, "display_name": "Python 3", "language": "python", "metadata": {"debugger": False}}
    (spec / "kernel.json").write_text(json.dumps(content), encoding="utf-8")


# A kernel that is told to end while its loop is busy leaves a task behind, and asyncio says so on stderr: no fault of
# the notebook. Everything else that asyncio reports is let through.
_LAUNCH = """
import logging
from ipykernel.kernelapp import launch_new_instance
logging.getLogger("asyncio").addFilter(lambda said: "Task was destroyed but it is pending" not in said.getMessage())
launch_new_instance()
"""


@contextlib.contextmanager
def surroundings(results: Path) -> Iterator[None]:
    """Kernels started inside get `kernel_variables`, this interpreter, their own IPython profile, inline figures."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="trajlib-") as home:
        write_kernelspec(Path(home))
        os.environ.update(kernel_variables(results), JUPYTER_PATH=home, IPYTHONDIR=str(Path(home) / "ipython"))
        os.environ.pop("MPLBACKEND", None)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


# ---- one notebook ------------------------------------------------------------------------------------------------


def run_notebook(notebook: Path, copy: Path, options: Options, on_cell: Callable[[int, int], None]) -> Outcome:
    """Execute `notebook` into `copy`; `on_cell(number, of)` hears of each code cell as it starts."""
    start = time.monotonic()
    reached = _Reached(on_cell)
    papermill_engines.register("trajlib", reached.engine())
    error = ""
    try:
        nb = pm.execute_notebook(
            str(notebook), str(copy), parameters=options.parameters(), engine_name="trajlib", kernel_name="python3",
            progress_bar=False, start_timeout=START_SECONDS, execution_timeout=options.cell_seconds,
            cwd=str(notebook.parent),
        )  # fmt: skip
        error = _hidden_error(nb)
        nb.metadata.pop("widgets", None)  # ids of this run, and up to megabytes: only the search above needs it
        nbformat.write(nb, copy)
    except PapermillExecutionError as failed:
        error = _spell(reached.number, failed.source, f"{failed.ename}: {_first_line(failed.evalue)}")
    except CellTimeoutError:
        error = _spell(reached.number, reached.source, f"still running after {options.cell_seconds:g} s, and stopped")
    except DeadKernelError:
        error = _spell(reached.number, reached.source, "the kernel died (out of memory, or a crash in compiled code)")
    except RuntimeError as failed:  # a kernel that never answered
        error = f"the kernel did not start: {_first_line(failed)}"
    return Outcome(notebook, time.monotonic() - start, error)


class _Reached:
    """How far execution has come, counted in code cells as the reader sees them: papermill's own cell left out."""

    def __init__(self, on_cell: Callable[[int, int], None]):
        self.on_cell, self.number, self.source = on_cell, 0, ""

    def engine(self) -> type[NBClientEngine]:
        """papermill's engine, telling us of each cell that starts."""
        reached = self

        class Engine(NBClientEngine):
            @classmethod
            def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
                begin = nb_man.cell_start

                def cell_start(cell, cell_index=None, **more):
                    reached.starts(cell, nb_man.nb)
                    return begin(cell, cell_index, **more)

                nb_man.cell_start = cell_start
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

        return Engine

    def starts(self, cell: nbformat.NotebookNode, nb: nbformat.NotebookNode) -> None:
        if _is_readers(cell):
            self.number, self.source = self.number + 1, cell.source
            self.on_cell(self.number, sum(map(_is_readers, nb.cells)))


def _is_readers(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])


def _hidden_error(nb: nbformat.NotebookNode) -> str:
    """An exception inside an Output widget (`with out:`, `interact`) fails no cell: it is in the widgets' state."""
    state = nb.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for model, content in state.items():
        for output in content["state"].get("outputs") or ():
            if output.get("output_type") == "error":
                what = f"{output['ename']}: {_first_line(output['evalue'])}, inside a widget"
                return _spell(*_cell_that_shows(nb, model, state), what)
    return ""


def _cell_that_shows(nb: nbformat.NotebookNode, model: str, state: dict[str, Any]) -> tuple[int, str]:
    """(number, source) of the code cell whose widget holds `model`, at any depth; (0, "") when none does."""
    for number, cell in enumerate(filter(_is_readers, nb.cells), start=1):
        seen = {output.get("data", {}).get(stamps.WIDGET, {}).get("model_id") for output in cell.outputs}
        todo = list(seen)
        while todo:
            below = re.findall(r"IPY_MODEL_(\w+)", json.dumps(state.get(todo.pop(), {})))
            todo += [b for b in below if b not in seen]
            seen.update(below)
        if model in seen:
            return number, cell.source
    return 0, ""


def _spell(number: int, source: str, what: str) -> str:
    return f"cell {number} ({_first_line(source) or 'empty'}): {what}"


def _first_line(text: object) -> str:
    lines = str(text).strip().splitlines()
    return lines[0].strip() if lines else ""


# ---- the run -----------------------------------------------------------------------------------------------------


def run(options: Options, say: Callable[[str], None] = print, live: Callable[[str], None] | None = None) -> int:
    """Run the course; 0 when all is well, 1 when a notebook failed or a figure differs. UsageError before any work.

    `say` gets the lines of the report, `live` (for a terminal) a line that replaces the last: "03_x  cell 7/31".
    """
    options = options.settled()
    notebooks = chosen(options.notebooks, options.only)
    for notebook in notebooks:
        check_parameters(notebook)
    check_environment(options.notebooks)
    results = prepare(options)
    models = ", ".join(pretrained.names(options.artifacts)) or "none yet"
    say(f"{len(notebooks)} notebooks, profile {options.profile}, models in {options.artifacts}: {models}")
    outcomes = _run_all(notebooks, options, results, say, live)
    failed = outcomes[-1].error
    total = sum(outcome.seconds for outcome in outcomes)
    summary = f"profile {options.profile}, {len(outcomes)} of {len(notebooks)} notebooks run, {_clock(total)}"
    _write_pages(options, notebooks, outcomes, summary)
    if failed:
        say(f"FAILED: {outcomes[-1].notebook.name}, {failed}")
    code = 1 if failed else _settle_results(options, notebooks, results, say)
    say(f"Total {_clock(total)}. Index: {options.out / 'index.html'}")
    return code


def prepare(options: Options) -> Path:
    """Make the run's folder and return the place of its results file.

    A whole run starts without figures, and its own artifacts folder starts empty; with `only`, those of earlier
    notebooks stay, since the later ones stand on them.
    """
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{options.out} cannot be made ({error.strerror}): name another folder.") from None
    results = options.out / pretrained.RESULTS
    if not options.only:
        results.unlink(missing_ok=True)
        if options.own_artifacts and options.artifacts != "shipped":
            shutil.rmtree(options.artifacts, ignore_errors=True)
    return results


def _run_all(
    notebooks: list[Path],
    options: Options,
    results: Path,
    say: Callable[[str], None],
    live: Callable[[str], None] | None,
) -> list[Outcome]:
    """Run one after the other; stop at the first that fails."""
    logging.getLogger("papermill").setLevel(logging.CRITICAL + 1)  # what it logs, the lines below say
    width = max(len(p.stem) for p in notebooks)
    outcomes = []
    with surroundings(results):
        for notebook in notebooks:

            def on_cell(number: int, of: int, name: str = notebook.stem) -> None:
                if live:
                    live(f"{name:<{width}}  cell {number}/{of}")

            outcome = run_notebook(notebook, options.out / notebook.name, options, on_cell)
            outcomes.append(outcome)
            say(f"{notebook.stem:<{width}}  {outcome.seconds:7.1f} s  {'FAILED' if outcome.error else 'ok'}")
            if outcome.error:
                break
    return outcomes


def _write_pages(options: Options, notebooks: list[Path], outcomes: list[Outcome], summary: str) -> None:
    """A page for each executed copy, and the index."""
    done = {outcome.notebook: outcome for outcome in outcomes}
    rows = []
    for notebook in notebooks:
        page = options.out / f"{notebook.stem}.html"
        outcome = done.get(notebook)
        copy = options.out / notebook.name
        if not outcome:  # what an earlier run left in the same folder
            copy.unlink(missing_ok=True)
        page.unlink(missing_ok=True)
        if copy.exists():
            pages.write_page(copy, page, notebook.parent)
        status = "not run" if not outcome else f"failed: {outcome.error}" if outcome.error else "ok"
        time_ = f"{outcome.seconds:.1f} s" if outcome else ""
        rows.append({"name": notebook.stem, "title": pages.title_of(notebook), "time": time_, "status": status})
    pages.write_index(options.out, "The course, executed", summary, rows)


def _settle_results(options: Options, notebooks: list[Path], results: Path, say: Callable[[str], None]) -> int:
    """After a good run: write back, or compare with what is shipped; nothing to compare with for other runs."""
    if options.artifacts != "shipped":
        return 0
    stems = [p.stem for p in notebooks]
    fresh = _own_results(results)
    if options.only:  # the file may hold figures of earlier runs
        fresh = {name: entry for name, entry in fresh.items() if _made_by(entry, stems)}
    if options.update:
        update(options, notebooks, fresh)
        say(f"Updated {len(notebooks)} notebooks and {len(fresh)} figures.")
        return 0
    compared = compare(_own_results(pretrained.SHIPPED / pretrained.RESULTS), fresh, stems)
    say(f"Figures: {compared.agree} agree with the shipped ones, {len(compared.differ)} do not.")
    for line in compared.differ:
        say(f"  {line}")
    return 1 if compared.differ else 0


def _own_results(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_bytes()) if path.exists() else {}


def compare(shipped: dict[str, Any], fresh: dict[str, Any], stems: list[str]) -> Comparison:
    """Each figure of `fresh`, and each shipped one that the notebooks `stems` should have made, against the other."""
    compared = Comparison()
    for name in sorted(shipped.keys() | fresh.keys()):
        old, new = shipped.get(name), fresh.get(name)
        if new is None:
            if _made_by(old, stems):
                compared.differ.append(f"{name}: shipped as {old['value']}, but {old['notebook']} did not record it")
        elif old is None:
            compared.differ.append(f"{name}: {new['value']} came, but nothing is shipped; run with --update")
        elif not agrees(old["value"], new["value"], old.get("tolerance")):
            compared.differ.append(
                f"{name}: {new['value']} came, {old['value']} ± {old.get('tolerance') or 0} is shipped"
            )
        else:
            compared.agree += 1
    return compared


def agrees(old: Any, new: Any, tolerance: float | None) -> bool:
    """Within `tolerance`, absolute; without one, numbers agree to the six digits that are stored, all else exactly."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (old, new))
    if not numbers:
        return type(old) is type(new) and old == new
    return abs(old - new) <= (2e-6 * abs(old) if tolerance is None else tolerance)


def _made_by(entry: dict[str, Any], stems: list[str]) -> bool:
    """Whether one of the notebooks made `entry`; it may name the notebook in full or by its number."""
    return any(entry["notebook"] in (stem, stem.split("_")[0]) for stem in stems)


def update(options: Options, notebooks: list[Path], fresh: dict[str, Any]) -> None:
    """Put the run's figures and outputs where the repository keeps them, scrubbed and stamped."""
    path = pretrained.SHIPPED / pretrained.RESULTS
    stems = [p.stem for p in notebooks]
    kept = {name: entry for name, entry in _own_results(path).items() if not _made_by(entry, stems)}
    pretrained.write_atomic(path, pretrained.to_json(kept | fresh))
    for notebook in notebooks:  # after the figures: a stamp may cover them
        nb = lighten(stamps.scrub(nbformat.read(options.out / notebook.name, 4)))
        nb.metadata["trajlib"] = stamps.stamp(nb, options.profile)
        pretrained.write_atomic(notebook, (nbformat.writes(nb).rstrip("\n") + "\n").encode())
        _write_overview(nb, options.notebooks / "overview.png")
    readme = options.notebooks.parent / "README.md"
    if readme.exists() and report.MARKS[0] in readme.read_text(encoding="utf-8"):
        pretrained.write_atomic(readme, report.fill(readme.read_text(encoding="utf-8")).encode())


def lighten(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Store, in place, pictures that move in 256 colours, as those that stand still are: a quarter of the bytes."""
    for data in (output.get("data", {}) for cell in nb.cells for output in cell.get("outputs", [])):
        picture = base64.b64decode(data.get("image/png", ""))
        if picture and (light := in_256_colours(picture)) != picture:
            data["image/png"] = base64.b64encode(light).decode()
    return nb


def in_256_colours(picture: bytes) -> bytes:
    """An animated PNG with one palette for all its frames; any other PNG as it is."""
    with Image.open(io.BytesIO(picture)) as film:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
        if len(frames) == 1:
            return picture
        timing = {"duration": film.info["duration"], "loop": film.info["loop"]}
    tall = Image.new("RGB", (film.width, film.height * len(frames)))
    for k, frame in enumerate(frames):
        tall.paste(frame, (0, k * film.height))
    palette, flat = tall.quantize(256, dither=Image.Dither.NONE), {"dither": Image.Dither.NONE}
    first, *rest = [frame.quantize(palette=palette, **flat) for frame in frames]
    file = io.BytesIO()
    first.save(file, "PNG", save_all=True, append_images=rest, optimize=True, **timing)
    return file.getvalue()


def _write_overview(nb: nbformat.NotebookNode, file: Path) -> None:
    """The figure of the cell tagged `overview`, if `nb` has one, as the picture that the README shows."""
    for picture in report.overviews(nb):
        pretrained.write_atomic(file, picture)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s" if seconds >= 60 else f"{seconds:.1f} s"
