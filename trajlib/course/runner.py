"""Run the notebooks headless, in order, and leave a folder of executed copies and a web site of them.

Everything a run needs is in its `Options`, the notebooks' folder included; the command line is `trajlib.course.cli`.
"""

import contextlib
import logging
import multiprocessing
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat

from trajlib import atomic
from trajlib.course import fingerprints, pictures, report, site
from trajlib.course.execute import Outcome, execute_notebook
from trajlib.course.kernel import HOME, THREADS, TRAINING_THREADS, check_environment, kernel_env
from trajlib.course.options import DEFAULTS, NOTEBOOKS, PATTERN, Options, UsageError, check_parameters, find_notebooks
from trajlib.course.results import compare_figures, made_by, read_results
from trajlib.course.workers import stop_with_parent
from trajlib.zoo import checkpoints, files, model_files

MARKER = ".trajlib-run"  # in a folder that a run made, and may overwrite
REPORT = "_report"  # the end of the name of the notebook that reads the others' figures
__all__ = ["DEFAULTS", "NOTEBOOKS", "PATTERN", "Options", "UsageError", "run_notebooks", "update_repository"]


def run_notebooks(
    options: Options, log: Callable[[str], None] = print, progress: Callable[[str], None] | None = None
) -> int:
    """Run the course; 0 if all is well, 1 if a notebook failed, a figure or a picture differs. UsageError if it cannot
    start.

    `log` receives the lines of the report, `progress` (for a terminal) a line that replaces the last one.
    """
    options = options.resolved()
    notebooks = find_notebooks(options.notebooks, options.only)
    for notebook in notebooks:
        check_parameters(notebook)
    check_environment(options.notebooks)
    with contextlib.ExitStack() as stack:
        results = prepare_folder(options, notebooks, stack)
        return _run(options, notebooks, results, log, progress)


def _run(
    options: Options,
    notebooks: list[Path],
    results: Path,
    log: Callable[[str], None],
    progress: Callable[[str], None] | None,
) -> int:
    models = ", ".join(checkpoints.names(options.artifacts)) or "none yet"
    log(f"{len(notebooks)} notebooks, profile {options.profile}, models in {options.artifacts}: {models}")
    start = time.monotonic()
    outcomes = _execute_all(notebooks, options, results, log, progress)
    failed, total = outcomes[-1].error, time.monotonic() - start
    summary = f"profile {options.profile}, {len(outcomes)} of {len(notebooks)} notebooks run, {_duration(total)}"
    if failed:
        log(f"FAILED: {outcomes[-1].notebook.name}, {failed}")
    code = 1 if failed else _check_or_update(options, outcomes, results, log)
    for warning in _write_site(options, notebooks, outcomes, summary):
        log(f"Site: {warning}")
    log(time_table(outcomes, total))
    log(f"Site: {options.out / 'site' / 'index.html'}")
    return code


def prepare_folder(options: Options, notebooks: list[Path], stack: contextlib.ExitStack) -> Path:
    """Make the run's folder, lock it until `stack` ends, and return the path of its results file.

    A whole run starts without figures, and its own artifacts folder starts empty; with `only`, those of earlier
    notebooks stay, since later ones need them. UsageError for a folder with files that no run made (it would be
    overwritten), in which another run is at work, or which cannot be written.
    """
    own = [Path(options.artifacts)] if options.own_artifacts and options.artifacts != "shipped" else []
    for folder in (options.out, *own):
        found = sorted(folder.iterdir()) if folder.exists() and not (folder / MARKER).exists() else []
        others = [path.name for path in found if str(path) != options.artifacts and path.suffix != ".lock"]
        if others:
            raise UsageError(f"{folder} has files that no run made, such as {others[0]}: name a new or empty folder.")
    try:
        stack.enter_context(atomic.locked(options.out / "run", timeout=0))
        if options.artifacts != "shipped":
            with atomic.locked(Path(options.artifacts) / "artifacts", free=atomic.FREE):
                pass  # it can be written
        for folder in (options.out, *own):
            if folder in own and not options.only:
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MARKER).touch()
        results = options.out / files.RESULTS
        if not options.only:
            results.unlink(missing_ok=True)
        for path in notebooks:
            (options.out / path.name).unlink(missing_ok=True)
        for left in (*options.out.glob(f"{HOME}*"), options.out / "figures", options.out / "site"):
            shutil.rmtree(left, ignore_errors=True)
        stack.callback(shutil.rmtree, options.out / "figures", ignore_errors=True)  # of notebooks that run together
    except TimeoutError:
        raise UsageError(f"Another run is writing to {options.out}: wait for it, or name another --out.") from None
    except OSError as error:
        raise UsageError(str(error)) from None
    return results


def time_table(outcomes: list[Outcome], total: float) -> str:
    """Seconds of each notebook, its slowest cell, and the `total` seconds of the run."""
    width = max(len(outcome.notebook.stem) for outcome in outcomes)
    lines = [f"{'notebook':<{width}}      time  slowest cell"]
    lines += [f"{o.notebook.stem:<{width}} {o.seconds:7.1f} s  {o.slowest}".rstrip() for o in outcomes]
    return "\n".join([*lines, f"{'total':<{width}} {total:7.1f} s"])


def _execute_all(
    notebooks: list[Path],
    options: Options,
    results: Path,
    log: Callable[[str], None],
    progress: Callable[[str], None] | None,
) -> list[Outcome]:
    """Run the notebooks, `options.jobs` at a time, and the report last; stop at the first that fails."""
    width = max(len(p.stem) for p in notebooks)
    outcomes = []

    def finished(outcome: Outcome) -> bool:
        outcomes.append(outcome)
        name = outcome.notebook.stem
        log(f"{name:<{width}}  {outcome.seconds:7.1f} s  {'FAILED' if outcome.error else 'ok'}")
        return not outcome.error

    together = [p for p in notebooks if not p.stem.endswith(REPORT)] if options.jobs > 1 else []
    if len(together) > 1 and not _execute_together(together, options, results, finished):
        return sorted(outcomes, key=lambda outcome: (bool(outcome.error), outcome.notebook))
    for notebook in notebooks if len(together) < 2 else [p for p in notebooks if p not in together]:

        def on_cell(number: int, of: int, name: str = notebook.stem) -> None:
            if progress:
                progress(f"{name:<{width}}  cell {number}/{of}")

        if not finished(_execute_one(notebook, options, results, on_cell)):
            break
    return sorted(outcomes, key=lambda outcome: (bool(outcome.error), outcome.notebook))


def _execute_together(
    notebooks: list[Path], options: Options, results: Path, finished: Callable[[Outcome], bool]
) -> bool:
    """Each notebook in a process of its own with its own results file, merged at the end; False if one failed.

    What took longest when it was stored begins first, so that no process is left to run alone at the end.
    """
    took = {path: nbformat.read(path, 4).metadata.get("seconds", 0) for path in notebooks}
    places = {p: options.out / "figures" / f"{p.stem}.json" for p in sorted(notebooks, key=took.get, reverse=True)}
    ok = True
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn"), stop_with_parent) as pool:
        waiting = [pool.submit(_execute_one, notebook, options, place) for notebook, place in places.items()]
        for future in as_completed(waiting):
            if not future.cancelled() and not finished(future.result()):
                ok = False
                pool.shutdown(wait=False, cancel_futures=True)
    merged = read_results(results)
    for place in places.values():
        merged |= read_results(place)
    if merged:
        atomic.write_atomic(results, files.to_json(merged))
    return ok


def _execute_one(
    notebook: Path, options: Options, results: Path, on_cell: Callable[[int, int], None] = lambda number, of: None
) -> Outcome:
    logging.getLogger("papermill").setLevel(logging.CRITICAL + 1)  # the log of the run says what papermill's would
    with kernel_env(results, TRAINING_THREADS if options.trains else THREADS):
        return execute_notebook(notebook, options.out / notebook.name, options, on_cell)


def _write_site(options: Options, notebooks: list[Path], outcomes: list[Outcome], summary: str) -> list[str]:
    """A page for each notebook: its executed copy, or the notebook as it is stored where this run has none."""
    done = {outcome.notebook: outcome for outcome in outcomes}
    pages = []
    for notebook in find_notebooks(options.notebooks):
        outcome, copy = done.get(notebook), options.out / notebook.name
        if not outcome:
            pages.append(site.Page(notebook, "not run, as stored"))
            continue
        error = outcome.error.replace("`", "'")
        run = f"failed: `{error}`" if error else f"{outcome.seconds:.0f} s"
        pages.append(site.Page(copy if copy.exists() else notebook, run))
    readme = options.notebooks.parent / "README.md"
    return site.build(options.out / "site", pages, summary, readme, options.notebooks)


def _check_or_update(options: Options, outcomes: list[Outcome], results: Path, log: Callable[[str], None]) -> int:
    """After a good run with the shipped weights: compare figures and pictures with the repository's, or store them."""
    if options.artifacts != "shipped":
        return 0
    notebooks = [outcome.notebook for outcome in outcomes]
    stems = [p.stem for p in notebooks]
    fresh = read_results(results)
    if options.only:  # the file may hold figures of earlier runs
        fresh = {name: entry for name, entry in fresh.items() if made_by(entry, stems)}
    if options.update:
        update_repository(options, outcomes, fresh)
        log(f"Updated {len(notebooks)} notebooks and {len(fresh)} figures.")
        return 0
    agree, differ = compare_figures(read_results(model_files.SHIPPED / files.RESULTS), fresh, stems)
    log(f"Figures: {agree} agree with the shipped ones, {len(differ)} do not.")
    came, apart = 0, []
    for notebook in notebooks:
        stored, executed = (nbformat.read(path, 4) for path in (notebook, options.out / notebook.name))
        if "trajlib" in stored.metadata:  # its outputs were stored by `update_repository`
            count, faults = pictures.compare_notebooks(stored, executed)
            came, apart = came + count, apart + [f"{notebook.stem}, {fault}" for fault in faults]
    log(f"Pictures: {came} agree with the stored ones, {len(apart)} do not.")
    for line in differ + apart:
        log(f"  {line}")
    return 1 if differ + apart else 0


def update_repository(options: Options, outcomes: list[Outcome], fresh: dict[str, dict]) -> None:
    """Write the run's figures, outputs and fingerprints into the repository, without what differs between two runs."""
    path = model_files.SHIPPED / files.RESULTS
    stems = [outcome.notebook.stem for outcome in outcomes]
    kept = {name: entry for name, entry in read_results(path).items() if not made_by(entry, stems)}
    atomic.write_atomic(path, files.to_json(kept | fresh))
    for notebook, took in ((outcome.notebook, round(outcome.core_seconds)) for outcome in outcomes):
        nb = pictures.quantize_png(fingerprints.strip_metadata(nbformat.read(options.out / notebook.name, 4)))
        nb.metadata["trajlib"] = fingerprints.fingerprint(nb, options.profile)
        before = nbformat.read(notebook, 4).metadata.get("seconds", 0)
        nb.metadata["seconds"] = before if abs(took - before) <= max(5, before / 4) and before else took
        nb.cells[0].source = report.fill_seconds(nb.cells[0].source, nb.metadata["seconds"])
        atomic.write_atomic(notebook, (nbformat.writes(nb).rstrip("\n") + "\n").encode())
        for picture in report.overviews(nb):
            atomic.write_atomic(options.notebooks / "overview.png", picture)
    readme = options.notebooks.parent / "README.md"
    if readme.exists() and report.MARKS[0] in readme.read_text(encoding="utf-8"):
        atomic.write_atomic(readme, report.fill(readme.read_text(encoding="utf-8")).encode())


def _duration(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s" if seconds >= 60 else f"{seconds:.1f} s"
