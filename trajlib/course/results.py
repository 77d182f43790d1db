"""The figures that the report quotes: each with its interval, baseline and ceiling, in one JSON file.

A figure is {"value", "n", "interval", "baseline", "ceiling", "seed", "notebook", "unit", "tolerance"}, by name.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from trajlib.atomic import locked, write_atomic
from trajlib.data.checks import check_array
from trajlib.data.spec import check_number, describe
from trajlib.zoo.checkpoints import ArtifactError, folder, is_shipped
from trajlib.zoo.files import RESULTS, to_json

Figures = dict[str, dict[str, Any]]  # {name of a figure: its entry}


def record(
    artifacts: str | Path,
    name: str,
    value: float | int | bool | str,
    *,
    n: int,
    notebook: str,
    interval: tuple[float, float] | None = None,
    baseline: float | None = None,
    ceiling: float | None = None,
    seed: int | None = None,
    unit: str = "",
    tolerance: float | None = None,
    timing: bool = False,
) -> None:
    """Keep one figure of the report: its value, sample size `n`, 95 % interval, baseline, ceiling.

    `tolerance` is how far (absolute, in `unit`) the value may be off on another machine; without it, another machine
    must give the same value to six digits. `timing`: a clock gave it, and it is not compared. The figure goes to
    the file of `results_file`; a reader who steps through a notebook with the shipped weights has none, and changes no
    tracked file. ValueError unless every number is finite, the names are texts and
    the seed is a whole number from 0.
    """
    values = {"value": value, "interval": interval, "baseline": baseline, "ceiling": ceiling, "tolerance": tolerance}
    if value is None:
        raise ValueError(f"The figure {name!r} has no value: None came, a number or a string was expected.")
    if not isinstance(name, str) or not name or not isinstance(notebook, str):
        raise ValueError(f"name {describe(name)} and notebook {describe(notebook)} came; texts were expected.")
    if seed is not None:
        check_number("seed", seed, 0, whole=True)
    entry = {key: _plain(item, name, key) for key, item in values.items()}
    entry |= {"n": int(check_array("n", n)), "seed": seed, "notebook": notebook, "unit": unit} | (
        {"timing": True} if timing else {}
    )
    path = results_file(artifacts)
    if path is not None:
        with locked(path):
            write_atomic(path, to_json(read_results(path) | {name: entry}))


def results(artifacts: str | Path = "shipped") -> Figures:
    """Every figure there is, by name: the folder's results.json, overlaid with those of the run in progress."""
    under = read_results(folder(artifacts) / RESULTS)
    over = results_file(artifacts)
    return under | (read_results(over) if over else {})


def results_file(artifacts: str | Path) -> Path | None:
    """Where `record` writes: the file that TRAJLIB_RESULTS names (the runner sets it), else the artifacts' own.

    None for "shipped" outside the runner: the shipped file changes only with `python -m trajlib run --update`.
    """
    if os.environ.get("TRAJLIB_RESULTS"):
        return Path(os.environ["TRAJLIB_RESULTS"])
    return None if is_shipped(artifacts) else folder(artifacts) / RESULTS


def read_results(path: Path) -> Figures:
    """The figures in one file; none if it is not there. ArtifactError if it is not a file of results."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}): restore it, or delete it and run again.") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is not a file of results: a JSON object was expected. Delete it and run again.")
    return found


def compare_figures(shipped: Figures, fresh: Figures, stems: list[str]) -> tuple[int, list[str]]:
    """(number of figures that agree, what differs): `fresh` against `shipped`, as far as the notebooks `stems` make it.

    `stems` are file names without their ending. A figure that is on one side only differs.
    """
    agree, differ = 0, []
    for name in sorted(shipped.keys() | fresh.keys()):
        old, new = shipped.get(name), fresh.get(name)
        if new is None:
            if made_by(old, stems):
                differ.append(f"{name}: shipped as {old['value']}, but {old['notebook']} did not record it")
        elif old is None:
            differ.append(f"{name}: {new['value']} came, but nothing is shipped; run with --update")
        elif not old.get("timing") and not agrees(old["value"], new["value"], old.get("tolerance")):
            differ.append(f"{name}: {new['value']} came, {old['value']} ± {old.get('tolerance') or 0} is shipped")
        else:
            agree += 1
    return agree, differ


def agrees(old: Any, new: Any, tolerance: float | None) -> bool:
    """Within `tolerance`, absolute; without one, numbers agree to the six digits that are stored, all else exactly."""
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (old, new)):
        return type(old) is type(new) and old == new
    return abs(old - new) <= (2e-6 * abs(old) if tolerance is None else tolerance)


def made_by(entry: dict[str, Any], stems: list[str]) -> bool:
    """Whether one of the notebooks made `entry`, which may name the notebook in full or by its number."""
    return any(entry["notebook"] in (stem, stem.split("_")[0]) for stem in stems)


def _plain(value: Any, name: str, key: str) -> Any:
    """`value` as JSON holds it, floats to six significant digits; NaN and infinity are refused."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, name, key) for item in value]
    if hasattr(value, "item"):  # a NumPy or torch scalar
        value = value.item()
    if isinstance(value, bool | int):
        return value
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"The {key} of the figure {name!r} is {value!r}: a finite number was expected.")
    return float(f"{value:.6g}")
