"""Notebooks executed again by nbval, with the cases closed in which it passes what it should not.

nbval passes a notebook that was never run, and after a time-out it may end with exit code 0 (cells "xpassed"). So a run
is good only if pytest reports success *and* exactly as many cells passed as there were to run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from trajlib.course import options, results
from trajlib.course.kernel import kernel_env, kernel_variables
from trajlib.zoo import checkpoints, files

HERE = Path(__file__).parent
SANITIZE = HERE / "sanitize.cfg"
PROCESSES = 2


def nbval(notebooks: list[Path], results_file: Path, *, strict: bool, cell_seconds: int, seconds: int) -> str:
    """Run `notebooks` in order and compare their text: every cell if `strict`, else those tagged as claims, and then
    the pictures of all cells, too. Figures go to `results_file`. Returns what differs, "" if nothing does."""
    command = [
        sys.executable, "-m", "pytest", "--nbval" if strict else "--nbval-lax", *map(str, notebooks), "-q", "-rfExX",
        "--nbval-kernel-name", "python3", "--nbval-sanitize-with", str(SANITIZE),
        "--nbval-cell-timeout", str(cell_seconds), "--timeout", str(cell_seconds + 60),
        "-p", "no:cacheprovider", "-o", "addopts=", "-o", "xfail_strict=true", "--rootdir", str(HERE),
        "-p", "nbval_plugin",
    ]  # fmt: skip
    with kernel_env(results_file, threads=1):
        paths = [str(options.NOTEBOOKS), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}  # copies elsewhere import the studies, too
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False, cwd=HERE, env=env
            )
        except subprocess.TimeoutExpired as late:
            return f"nbval was still running after {seconds} s:\n{late.stdout!r}"
    output = done.stdout + done.stderr
    if done.returncode != 0:
        return output
    due, passed = sum(map(cells_to_run, notebooks)), count("passed", output)
    return "" if passed == due else f"{passed} cells passed, {due} were to run:\n{output}"


def count(word: str, output: str) -> int:
    """The number before `word` in pytest's last line; 0 if it is not there."""
    found = re.search(rf"(\d+) {word}\b", output.strip().splitlines()[-1])
    return int(found[1]) if found else 0


def cells_to_run(notebook: Path) -> int:
    """Code cells of `notebook` that no tag lets nbval skip."""
    cells = nbformat.read(notebook, 4).cells
    return sum(c.cell_type == "code" and "nbval-skip" not in c.metadata.get("tags", []) for c in cells)


def nbval_parallel(
    notebooks: list[Path], folder: Path, *, strict: bool, cell_seconds: int, seconds: int, figures: Path | None = None
) -> tuple[str, results.Figures]:
    """`nbval` in as many processes as `PROCESSES`, of one thread each: (what differs, the figures that they recorded).

    Each process has its own results file in `folder`, which begins as a copy of `figures`.
    """
    groups = [group for group in balanced(notebooks, PROCESSES) if group]
    places = [folder / f"process-{k}" / files.RESULTS for k in range(len(groups))]
    for place in places:
        place.parent.mkdir(parents=True)
        if figures and figures.exists():
            shutil.copy(figures, place)

    def run(group: list[Path], place: Path) -> str:
        facts = [str(place), str(int(strict)), str(cell_seconds), str(seconds)]
        command = [sys.executable, str(Path(__file__)), *facts, *map(str, group)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
        return (done.stdout + done.stderr).strip()

    with ThreadPoolExecutor(PROCESSES) as pool:
        faults = [fault for fault in pool.map(run, groups, places) if fault]
    recorded: results.Figures = {}
    for place, group in zip(places, groups, strict=True):
        stems = [path.stem for path in group]
        recorded |= {name: e for name, e in results.read_results(place).items() if results.made_by(e, stems)}
    return "\n".join(faults), recorded


def repeat(out: Path, *, cell_seconds: int, seconds: int) -> str:
    """Run the notebooks of the smoke run in `out` again and compare text and figures; "" if all is equal.

    The models that the first run trained are loaded this time (see sanitize.cfg): whether training repeats itself is
    what `train_again` shows.
    """
    copies, first = sorted(out.glob(options.PATTERN)), out / files.RESULTS
    limits = {"cell_seconds": cell_seconds, "seconds": seconds}
    fault, figures = nbval_parallel(copies, out / "repeat", strict=True, figures=first, **limits)
    differ = results.compare_figures(results.read_results(first), figures, [copy.stem for copy in copies])[1]
    return "\n".join(filter(None, [fault, *differ]))


def train_again(artifacts: Path, folder: Path, seconds: int) -> str:
    """Train the smoke models of `artifacts` a second time, into `folder`: "" if all weights are the same."""
    script = (
        "import sys\nfrom trajlib.zoo import joint_recipe, language_recipe, recipes\n"
        "for name in sys.argv[2:]:\n"
        "    module = next(m for m in (recipes, joint_recipe, language_recipe) if hasattr(m, name))\n"
        "    getattr(module, name)(sys.argv[1], 'smoke')"
    )
    names = list(checksums(artifacts))
    command = [sys.executable, "-c", script, str(folder), *names]
    env = os.environ | kernel_variables(folder / files.RESULTS, threads=1)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=env)
    if done.returncode != 0:
        return done.stdout + done.stderr
    first, second = checksums(artifacts), checksums(folder)
    return "" if first == second else f"training twice gave different weights: {first}, then {second}"


def balanced(copies: list[Path], groups: int) -> list[list[Path]]:
    """The notebooks in so many groups of similar duration, by the seconds that papermill stored in them."""
    seconds = {copy: nbformat.read(copy, 4).metadata.get("papermill", {}).get("duration") or 0 for copy in copies}
    found: list[list[Path]] = [[] for _ in range(groups)]
    for copy in sorted(copies, key=seconds.get, reverse=True):
        min(found, key=lambda group: sum(seconds[c] for c in group)).append(copy)
    return [sorted(group) for group in found]


def checksums(artifacts: Path) -> dict[str, str]:
    """The sha256 of each trained model in the folder, by name."""
    cards = {name: json.loads((artifacts / f"{name}.json").read_bytes()) for name in checkpoints.names(artifacts)}
    return {name: card["sha256"] for name, card in cards.items()}


if __name__ == "__main__":  # nets.py RESULTS STRICT CELL_SECONDS SECONDS NOTEBOOK ...: prints what differs
    place, strict, cell, limit, *group = sys.argv[1:]
    limits = {"cell_seconds": int(cell), "seconds": int(limit)}
    print(nbval([Path(g) for g in group], Path(place), strict=strict == "1", **limits))
