"""The course's notebooks: a smoke run from nothing (net 2), repeated (net 3), and the report replayed (net 4)."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import nets
import pytest

from trajlib import course, pretrained

SMOKE_SECONDS = 3000  # a bound for what hangs: a CPU without bfloat16 takes four times as long as one with it
CELL_SECONDS = 900
NOTEBOOKS = sorted(course.NOTEBOOKS.glob(course.PATTERN))


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """(folder, finished command) of `python -m trajlib run --profile smoke`, models trained into an empty folder."""
    out = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-m", "trajlib", "run", "--profile", "smoke", "--out", str(out)]
    return out, subprocess.run(command, capture_output=True, text=True, timeout=SMOKE_SECONDS, check=False)


@pytest.mark.timeout(SMOKE_SECONDS + 60)
def test_smoke_run_from_nothing(smoke):
    out, done = smoke
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert len(re.findall(r"^\d\d_\w+ +\d+\.\d s  ok$", done.stdout, re.MULTILINE)) == len(NOTEBOOKS) > 0
    assert set(pretrained.names()) <= set(pretrained.names(out / "artifacts"))  # none was taken from the shipped ones
    assert pretrained.results(out) != {}


def test_smoke_run_complains_of_nothing(smoke):
    for copy in sorted(smoke[0].glob(course.PATTERN)):
        streams = [o for c in nbformat.read(copy, 4).cells for o in c.get("outputs", []) if o.output_type == "stream"]
        assert [o.text for o in streams if o.name == "stderr"] == [], copy.name


def test_smoke_pages_ask_for_nothing(smoke):
    for page in sorted(smoke[0].glob("*.html")):
        asks = re.findall(
            r"<script[^>]+src=[^>]+|<link[^>]+href=\"http[^>]+|<img[^>]+src=\"(?!data:)[^>]+", page.read_text()
        )
        assert asks == [], page.name


@pytest.mark.timeout(SMOKE_SECONDS + 60)
def test_smoke_run_again_gives_the_same(smoke):
    out, done = smoke
    assert done.returncode == 0, "the first run failed"
    assert nets.again(out, cell_seconds=CELL_SECONDS, seconds=SMOKE_SECONDS) == ""


@pytest.mark.timeout(SMOKE_SECONDS + 60)
def test_report_replay(tmp_path):
    """Every committed cell runs with the shipped weights, and every tagged claim comes out as stored."""
    results: Path = tmp_path / pretrained.RESULTS
    fault = nets.nbval(NOTEBOOKS, results, strict=False, cell_seconds=CELL_SECONDS, seconds=SMOKE_SECONDS)
    assert fault == ""
    stems = [path.stem for path in NOTEBOOKS]
    compared = course.compare(
        nets.read_figures(pretrained.SHIPPED / pretrained.RESULTS), nets.read_figures(results), stems
    )
    assert compared.differ == []
    assert compared.agree > 0
