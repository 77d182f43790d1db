"""What a run was asked to do, checked before anything runs."""

import argparse
import ast
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PROFILES = ("full", "smoke")
DEFAULTS = {"PROFILE": "full", "ARTIFACTS": "shipped"}  # the two parameters of every notebook
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
PATTERN = "[0-9][0-9]_*.ipynb"
SMOKE_SHIPPED = "The smoke profile trains its own tiny models: give it a folder, not the shipped weights."
CELL_SECONDS = {"smoke": 600, "shipped": 1200, "training": 4 * 3600}  # the longest that one cell may take


class UsageError(ValueError):
    """The run cannot start as requested; the message says what to request instead."""


@dataclass(frozen=True)
class Options:
    """One run. `artifacts` and `out` may be left open: see `resolved`."""

    profile: str = "full"
    artifacts: str | None = None  # "shipped" or a folder
    only: tuple[str, ...] = ()  # beginnings of notebook names; empty: all
    out: Path | None = None
    update: bool = False  # write outputs and figures back into the repository
    notebooks: Path = NOTEBOOKS
    cell_seconds: float | None = None
    jobs: int | None = None  # notebooks that run at the same time
    own_artifacts: bool = False  # nobody named a folder: the run's own, which a whole run empties first

    def resolved(self) -> "Options":
        """With defaults filled in and folders absolute (kernels run in the notebooks' folder); UsageError if bad."""
        from trajlib.zoo import checkpoints  # slow to import, and not needed by other commands

        if self.profile not in PROFILES:
            raise UsageError(f"There is no profile {self.profile!r}: take {' or '.join(PROFILES)}.")
        if self.cell_seconds is not None and not 0 < self.cell_seconds <= 1e6:
            raise UsageError(f"--cell-seconds is {self.cell_seconds:g}: a number above 0, at most a million.")
        out = (self.out or Path("runs") / self.profile).resolve()
        artifacts = self.artifacts or ("shipped" if self.profile == "full" else str(out / "artifacts"))
        artifacts = "shipped" if checkpoints.is_shipped(artifacts) else str(checkpoints.folder(artifacts).resolve())
        if self.profile == "smoke" and artifacts == "shipped":
            raise UsageError(SMOKE_SHIPPED)
        for folder in (out, *([] if artifacts == "shipped" else [Path(artifacts)])):
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} is a file: a folder was expected.")
        if self.update and (self.profile, artifacts) != ("full", "shipped"):
            raise UsageError(
                "--update writes the report, so it goes with the full profile and the shipped weights only."
            )
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs is {self.jobs}: 1 or more was expected.")
        if (self.jobs or 1) > 1 and artifacts != "shipped":
            raise UsageError("--jobs goes with the shipped weights only: notebooks that train models run in order.")
        kind = "smoke" if self.profile == "smoke" else "shipped" if artifacts == "shipped" else "training"
        return replace(
            self, artifacts=artifacts, out=out, notebooks=self.notebooks.resolve(),
            cell_seconds=self.cell_seconds or CELL_SECONDS[kind],
            jobs=self.jobs or (2 if artifacts == "shipped" else 1),
            own_artifacts=self.own_artifacts or self.artifacts is None,
        )  # fmt: skip

    @property
    def trains(self) -> bool:
        """Whether models of full size may be trained."""
        return self.profile == "full" and self.artifacts != "shipped"

    def parameters(self) -> dict[str, str]:
        """The parameters that papermill injects: none if they equal the notebooks' own values."""
        requested = {"PROFILE": self.profile, "ARTIFACTS": str(self.artifacts)}
        return {} if requested == DEFAULTS else requested


def as_path(text: str) -> Path:
    """The file or folder that an argument of the command line names."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} came, the name of a file or folder is needed")
    return Path(text)


def find_notebooks(folder: Path, only: tuple[str, ...] = ()) -> list[Path]:
    """The notebooks to run, in order: all, or those whose name begins with one of `only`."""
    found = sorted(folder.glob(PATTERN))
    if not found:
        raise UsageError(f"There is no notebook in {folder}: run this in a clone of the course.")
    for start in only:
        if not start or not any(p.stem.startswith(start) for p in found):
            raise UsageError(f"No notebook begins with {start!r}; there are {', '.join(p.stem for p in found)}.")
    return [p for p in found if not only or p.stem.startswith(only)]


def check_parameters(notebook: Path) -> None:
    """UsageError unless `notebook` has the course's two parameters, literally: papermill only logs an unknown one."""
    import papermill as pm  # slow to import, and not needed by other commands

    try:
        found = pm.inspect_notebook(str(notebook))
    except Exception as error:
        raise UsageError(f"{notebook.name} cannot be read as a notebook ({first_line(error)}): restore it.") from None
    if {name: _literal(info["default"]) for name, info in found.items()} != DEFAULTS:
        wanted = ", ".join(f'{name} = "{value}"' for name, value in DEFAULTS.items())
        came = ", ".join(f"{name} = {info['default']}" for name, info in found.items()) or "none"
        raise UsageError(f"{notebook.name} has the parameters {came}; its parameters cell must hold exactly {wanted}.")


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def first_line(text: object) -> str:
    """The first line of a message, or "" if it is empty."""
    lines = str(text).strip().splitlines()
    return lines[0].strip() if lines else ""
