"""Notebooks run again by nbval, with the ways closed in which it passes what it should not.

nbval passes a notebook that was never run, and after a time-out it may end with exit code 0 (cells "xpassed"). So a run
is good only when pytest says so *and* exactly as many cells passed as there were to run.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from trajlib import course, pretrained

SANITIZE = Path(__file__).with_name("sanitize.cfg")


def nbval(notebooks: list[Path], results: Path, *, strict: bool, cell_seconds: int, seconds: int) -> str:
    """Run `notebooks` in order and compare what they print: every cell if `strict`, else those tagged as claims.

    Figures go to `results`. Returns what went wrong, empty when nothing did.
    """
    command = [
        sys.executable, "-m", "pytest", "--nbval" if strict else "--nbval-lax", *map(str, notebooks), "-q", "-rfExX",
        "--nbval-kernel-name", "python3", "--nbval-sanitize-with", str(SANITIZE),
        "--nbval-cell-timeout", str(cell_seconds), "--timeout", str(cell_seconds + 60),
        "-p", "no:cacheprovider", "-o", "addopts=", "-o", "xfail_strict=true",
    ]  # fmt: skip
    with course.surroundings(results):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
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
    """Code cells of `notebook` that no tag tells nbval to skip."""
    cells = nbformat.read(notebook, 4).cells
    return sum(c.cell_type == "code" and "nbval-skip" not in c.metadata.get("tags", []) for c in cells)


def again(out: Path, *, cell_seconds: int, seconds: int) -> str:
    """Repeat the smoke run that wrote `out`, training included, and compare everything it made; "" when all is equal.

    The copies carry the folder of their artifacts in their injected cell. The first run's artifacts and figures are
    moved aside, so that the same folder is empty again, the same models are trained, and the same text is printed.
    """
    first = out / "first"
    first.mkdir()
    for name in ("artifacts", pretrained.RESULTS):
        if (out / name).exists():
            shutil.move(out / name, first / name)
    copies = sorted(out.glob(course.PATTERN))
    fault = nbval(copies, out / pretrained.RESULTS, strict=True, cell_seconds=cell_seconds, seconds=seconds)
    if fault:
        return fault
    weights = [checksums(folder / "artifacts") for folder in (first, out)]
    if weights[0] != weights[1]:
        return f"training twice gave different weights: {weights[0]}, then {weights[1]}"
    figures = [read_figures(folder / pretrained.RESULTS) for folder in (first, out)]
    return "\n".join(course.compare(*figures, [copy.stem for copy in copies]).differ)


def checksums(artifacts: Path) -> dict[str, str]:
    """The sha256 of each model in the folder, by name."""
    return {
        name: json.loads((artifacts / f"{name}.json").read_bytes())["sha256"] for name in pretrained.names(artifacts)
    }


def read_figures(path: Path) -> dict:
    return json.loads(path.read_bytes()) if path.exists() else {}
