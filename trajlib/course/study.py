"""The engine of the studies: a grid of jobs -> a CSV with provenance, resumable, in parallel.

A study is a file `notebooks/studies/NAME.py` with

    FULL, SMOKE          its settings, dataclasses that JSON can write; SMOKE takes seconds
    COLUMNS              {column: str, int or float}: the job's columns first, then what `run` measures
    KEYS                 the columns that tell one job from another
    jobs(settings)       the grid: a list of {column: value}, in the order in which they run
    run(job, context)    -> {column: value}, or a list of such rows, each with "examples": how many it has seen
    prepare(context)     optional: what all jobs need, made once before they start
    MODELS, OPTIONAL     optional: trained models that it takes; values of jobs that run only when `--only` names them

What a field `grid` of the settings holds, such as the seeds, may grow: the rows that are there still count.
"""

import contextlib
import dataclasses
import datetime
import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from safetensors import torch as safetensors
from tqdm import tqdm

from trajlib.atomic import locked, write_atomic
from trajlib.course.workers import stop_with_parent
from trajlib.zoo import files
from trajlib.zoo.checkpoints import ArtifactError

STUDIES = Path(__file__).resolve().parents[2] / "notebooks" / "studies"
LIBRARIES = ("torch", "magvit2-pytorch", "vector-quantize-pytorch")
PROVENANCE = {"examples": int} | dict.fromkeys(("status", "digest", "weights", "date", *LIBRARIES), str)
DTYPES = {str: "str", int: "Int64", float: "float64"}
FAILED = "failed: "  # begins the status of a job that is to be tried again
Row = dict[str, Any]


class StudyError(ValueError):
    """A study cannot be run or read as asked; the message says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What a job knows besides itself. Equal if profile, artifacts and folder are: caches may have it as their key."""

    settings: Any = dataclasses.field(compare=False)  # the study's FULL or SMOKE
    profile: str  # "full" or "smoke": the sizes of models that are trained because they are missing
    artifacts: str  # "shipped", or a folder of trained models
    weights: dict[str, str] = dataclasses.field(compare=False)  # the beginnings of the checksums of its MODELS
    folder: Path  # next to the CSV, for what jobs share; kept, so that a resumed study finds it
    jobs: tuple[Row, ...] = dataclasses.field(compare=False)  # those that are about to run

    def cached(self, name: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Tensors from the file of this name in the folder; made and stored if it is not there."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            write_atomic(path, safetensors.save({key: tensor.contiguous() for key, tensor in make().items()}))
        return safetensors.load_file(path)


def available(folder: Path | None = None) -> list[str]:
    """Names of the studies, sorted."""
    return sorted(path.stem for path in (folder or STUDIES).glob("*.py") if "\ndef jobs(" in path.read_text("utf-8"))


def load(name: str, folder: Path | None = None) -> ModuleType:
    """The study's module, whose helpers read its table. StudyError for an unknown name."""
    folder = folder or STUDIES
    if name not in available(folder):
        raise StudyError(
            f"There is no study {name!r} in {folder}; there are: {', '.join(available(folder)) or 'none'}."
        )
    if str(folder.parent) not in sys.path:  # the folder is a package: studies may import each other
        sys.path.insert(0, str(folder.parent))
    return importlib.import_module(f"{folder.name}.{name}")


def read(name: str, path: str | Path | None = None) -> pd.DataFrame:
    """The table of a study, the shipped one unless a file is named; what a failed job did not measure is missing.

    StudyError if there is none, or if its columns are others.
    """
    path = Path(path) if path else STUDIES / f"{name}.csv"
    columns = load(name).COLUMNS | PROVENANCE
    if not path.exists():
        raise StudyError(f"There is no table at {path}: `python -m trajlib study {name} --out {path}` makes it.")
    try:
        frame = pd.read_csv(path, dtype={column: DTYPES[kind] for column, kind in columns.items()})
    except (ValueError, OSError) as error:
        raise StudyError(
            f"{path} is no table of {name} ({' '.join(str(error).split())}): name another --out, or delete it."
        ) from None
    if list(frame) != list(columns):
        raise StudyError(f"{path} does not have the columns of {name}: name another --out, or delete it.")
    return frame


def summarize(frame: pd.DataFrame, by: str | list[str], column: str) -> pd.DataFrame:
    """Mean, least and greatest value of a column over the runs (usually seeds) of each group, in the table's order."""
    return frame.groupby(by, sort=False)[column].agg(["mean", "min", "max", "count"])


def digest(name: str, settings: Any, job: Row) -> str:
    """Sixteen hex digits that stand for a job and its settings."""
    facts = {key: value for key, value in dataclasses.asdict(settings).items() if key != "grid"}
    return files.digest([name, facts, job])


def run(name: str, only: Sequence[str] = (), smoke=False, jobs=2, out=None, artifacts="shipped") -> pd.DataFrame:
    """Run what the CSV `out` lacks, in `jobs` processes of one thread each, and return the whole table.

    `only`: values of the grid, such as names of variants; jobs that have one of them are run. `out` is the shipped
    table by default, or runs/NAME-smoke.csv. The file is replaced whole after each job. An exception
    in a job becomes its row's status. StudyError if no job has a value, or if `out` has rows of other settings.
    """
    module, profile = load(name), "smoke" if smoke else "full"
    settings = module.SMOKE if smoke else module.FULL
    out = Path(out or (Path("runs") / f"{name}-smoke.csv" if smoke else STUDIES / f"{name}.csv"))
    if jobs < 1 or out.is_dir():
        raise StudyError(f"{out} is a folder: name a CSV file." if out.is_dir() else f"--jobs is {jobs}: 1 or more.")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(out, timeout=0))
        except TimeoutError:
            raise StudyError(f"Another process is writing {out}: wait for it, or name another --out.") from None
        return _run(module, name, settings, profile, only, jobs, out, artifacts)


def _run(module, name, settings, profile, only, jobs, out, artifacts) -> pd.DataFrame:
    keys = module.KEYS
    grid = {digest(name, settings, job): job for job in module.jobs(settings)}
    chosen = _chosen(grid, keys, only, getattr(module, "OPTIONAL", ()))
    rows = read(name, out).astype(object).to_dict("records") if out.exists() else []
    taken = {tuple(job[key] for key in keys) for job in grid.values()}
    others = [job for row in rows if row["digest"] not in grid and (job := tuple(row[key] for key in keys)) in taken]
    if others:
        raise StudyError(f"{out} has rows of other settings, such as {others[0]}: name another --out, or delete it.")
    done = {row["digest"] for row in rows if not str(row["status"]).startswith(FAILED)}
    todo = {key: job for key, job in chosen.items() if key not in done}
    rows = [row for row in rows if row["digest"] not in todo]
    weights = {model: _trained(model, str(artifacts), profile) for model in getattr(module, "MODELS", ()) if todo}
    own, date = out.with_name(f"{out.stem}-files"), datetime.date.today().isoformat()
    context = Context(settings, profile, str(artifacts), weights, own, tuple(todo.values()))
    facts = {"weights": " ".join(f"{model}:{mark}" for model, mark in weights.items()), "date": date}
    facts |= {library: version(library) for library in LIBRARIES}
    if todo and hasattr(module, "prepare"):
        module.prepare(context)
    for key, found in tqdm(_results(name, context, todo, jobs), name, total=len(todo), disable=None):
        rows += [{"status": "ok"} | row | facts | {"digest": key} for row in found]
        _write(out, module.COLUMNS | PROVENANCE, rows, list(grid))
    return read(name, out)


def main(name: str, *args: Any, **options: Any) -> int:
    """`run`, as `python -m trajlib study NAME`: 0 if all is well, 1 if a job failed, 2 if it cannot run as asked."""
    try:
        status = run(name, *args, **options)["status"]
    except (StudyError, ArtifactError, OSError) as error:
        print(f"python -m trajlib study: {error}", file=sys.stderr)
        return 2
    failed = status[status.str.startswith(FAILED)]
    print("\n".join([f"{name}: {len(status)} rows, {len(failed)} failed", *failed.unique()]))
    return int(len(failed) > 0)


def _chosen(grid: dict[str, Row], keys: Sequence[str], only: Sequence[str], optional: Sequence[str]) -> dict[str, Row]:
    """The jobs that `only` names; without it, all that are not optional."""
    values = {key: {str(job[column]) for column in keys} for key, job in grid.items()}
    known = set().union(*values.values())
    if unknown := set(only) - known:
        raise StudyError(f"No job has {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}.")
    return {key: job for key, job in grid.items()
            if (values[key] & set(only) if only else not values[key] & set(optional))}  # fmt: skip


def _trained(model: str, artifacts: str, profile: str) -> str:
    """The beginning of a trained model's checksum; one that is missing is trained now."""
    for name in ("recipes", "joint_recipe", "language_recipe"):  # slow to import, and whoever reads a table needs none
        if recipe := getattr(importlib.import_module(f"trajlib.zoo.{name}"), model, None):
            return recipe(artifacts=artifacts, profile=profile)[1]["sha256"][:8]
    raise StudyError(f"There is no recipe for {model}.")


def _write(out: Path, columns: dict[str, type], rows: list[Row], order: list[str]) -> None:
    """All rows, in the order of the grid; those of jobs outside of it come last."""
    rank = {key: number for number, key in enumerate(order)}
    frame = pd.DataFrame(sorted(rows, key=lambda row: rank.get(row["digest"], len(rank)))).reindex(columns=[*columns])
    frame = frame.astype({column: DTYPES[kind] for column, kind in columns.items()})
    write_atomic(out, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())


def _run_job(name: str, folder: Path, job: Row, context: Context) -> list[Row]:
    """The rows of one job; whatever goes wrong becomes its status."""
    try:
        found = load(name, folder).run(job, context)
    except Exception as error:  # of any kind: a row of the table, and the next job's turn
        found = {"status": " ".join(f"{FAILED}{type(error).__name__}: {error}".split())[:200]}
    return [job | row for row in (found if isinstance(found, list) else [found])]


def _start_worker() -> None:
    stop_with_parent()
    torch.set_num_threads(1)


def _results(name: str, context: Context, todo: dict[str, Row], jobs: int) -> Iterator[tuple[str, list[Row]]]:
    """(digest, rows) of each job, as it is done."""
    if jobs == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from ((key, _run_job(name, STUDIES, job, context)) for key, job in todo.items())
        finally:
            torch.set_num_threads(threads)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # numerical libraries read it when a process starts
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker)
    try:
        waiting = {pool.submit(_run_job, name, STUDIES, job, context): key for key, job in todo.items()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
