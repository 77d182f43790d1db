"""The course's notebooks: a smoke run from nothing (net 2), repeated (net 3), and the report replayed (net 4)."""

import re
import subprocess
import sys

import nbformat
import nets
import pytest

from trajlib.course import options, results
from trajlib.zoo import checkpoints, files

SECONDS = 3000  # a bound for what hangs: a CPU without bfloat16 takes four times as long as one with it
CELL_SECONDS = 900
NOTEBOOKS = sorted(options.NOTEBOOKS.glob(options.PATTERN))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 60)]


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """(folder, finished command) of `python -m trajlib run --profile smoke`, models trained into an empty folder."""
    out = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-m", "trajlib", "run", "--profile", "smoke", "--out", str(out)]
    return out, subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_smoke_run_from_nothing(smoke):
    out, done = smoke
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert len(re.findall(r"^\d\d_\w+ +\d+\.\d s  ok$", done.stdout, re.MULTILINE)) == len(NOTEBOOKS) > 0
    assert set(checkpoints.names()) <= set(checkpoints.names(out / "artifacts"))  # none was taken from the shipped ones
    assert results.results(out) != {}
    assert not re.search("^Site: .*WARNING", done.stdout, re.MULTILINE)


def test_smoke_run_prints_no_warnings(smoke):
    for copy in sorted(smoke[0].glob(options.PATTERN)):
        streams = [o for c in nbformat.read(copy, 4).cells for o in c.get("outputs", []) if o.output_type == "stream"]
        assert [o.text for o in streams if o.name == "stderr"] == [], copy.name


def test_smoke_run_again_gives_the_same(smoke):
    """Text and figures of all notebooks, with the models that the first run trained."""
    out, done = smoke
    assert done.returncode == 0, "the first run failed"
    assert nets.repeat(out, cell_seconds=CELL_SECONDS, seconds=SECONDS) == ""


def test_training_again_gives_the_same_weights(smoke, tmp_path):
    out, done = smoke
    assert done.returncode == 0, "the first run failed"
    assert nets.train_again(out / "artifacts", tmp_path, SECONDS) == ""


def test_report_replay(tmp_path):
    """Every committed cell runs with the shipped weights; tagged claims and all pictures come out as stored."""
    limits = {"cell_seconds": CELL_SECONDS, "seconds": SECONDS}
    fault, figures = nets.nbval_parallel(NOTEBOOKS, tmp_path, strict=False, **limits)
    assert fault == ""
    stems = [path.stem for path in NOTEBOOKS]
    agree, differ = results.compare_figures(results.read_results(checkpoints.SHIPPED / files.RESULTS), figures, stems)
    assert differ == []
    assert agree > 0
