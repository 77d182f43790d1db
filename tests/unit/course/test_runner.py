"""The runner, on small notebooks: good ones, and every way in which one can fail."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from course_notebooks import write_notebook

from trajlib.course import fingerprints, kernel, report, results, runner, site
from trajlib.course.runner import Options, UsageError

pytestmark = pytest.mark.slow

MAKES = """\
from trajlib.course.results import record, results
record(ARTIFACTS, "square", 49.0, n=1, notebook="01", tolerance=0.5)
print(PROFILE, results(ARTIFACTS)["square"]["value"])"""
READS = """\
from trajlib.course.results import results
print("read", results(ARTIFACTS)["square"]["value"])"""


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A shipped folder of our own: nothing here may touch the real one."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr("trajlib.zoo.model_files.SHIPPED", folder)
    return folder


@pytest.fixture(autouse=True)
def pages(monkeypatch):
    """The pages of the last site; it is built for `smoke` alone, which comes before this."""
    built: list[site.Page] = []
    monkeypatch.setattr(site, "build", lambda out, pages, *more: built.__setitem__(slice(None), pages) or [])
    return built


def run(folder: Path, out: Path, **options) -> tuple[int, list[str]]:
    lines: list[str] = []
    code = runner.run_notebooks(Options(notebooks=folder, out=out, cell_seconds=60, **options), log=lines.append)
    return code, lines


def text_of(notebook: Path) -> str:
    cells = nbformat.read(notebook, 4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


# ---- a good run ----


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Two notebooks, the smoke profile, an empty artifacts folder."""
    root = tmp_path_factory.mktemp("good")
    write_notebook(root / "notebooks", "01_makes", MAKES)
    write_notebook(root / "notebooks", "02_reads", READS, "1 + 1")
    (root / "out" / "artifacts").mkdir(parents=True)
    for folder in (root / "out", root / "out" / "artifacts"):
        (folder / runner.MARKER).touch()
    (root / "out" / "artifacts" / "stale").write_text("of an earlier run")
    (root / "out" / ".kernel-of-a-killed-run").mkdir()
    (root / "out" / "site").mkdir()
    (root / "out" / "site" / "index.html").write_text("of an earlier run")
    code, lines = run(root / "notebooks", root / "out", profile="smoke")
    return root, code, lines


def test_a_good_run(smoke):
    root, code, lines = smoke
    assert code == 0
    assert lines[0].startswith("2 notebooks, profile smoke, models in ")
    assert lines[0].endswith(": none yet")
    assert re.fullmatch(r"01_makes +\d+\.\d s  ok", lines[1])
    assert re.fullmatch(r"02_reads +\d+\.\d s  ok", lines[2])
    assert re.match(r"notebook +time  slowest cell\n01_makes +\d+\.\d s  cell \d \(", lines[-2])
    assert re.search(r"\ntotal +\d+\.\d s$", lines[-2])
    assert lines[-1].startswith("Site: ")
    assert len(lines) == 5
    assert text_of(root / "out/01_makes.ipynb") == "smoke 49.0\n"
    assert text_of(root / "out/02_reads.ipynb") == "read 49.0\n"


def test_a_smoke_run_starts_with_an_empty_artifacts_folder(smoke):
    assert [path.name for path in (smoke[0] / "out/artifacts").iterdir()] == [runner.MARKER]


def test_what_a_killed_run_left_is_gone(smoke):
    assert list((smoke[0] / "out").glob(".kernel-*")) == []


def test_models_in_a_folder_that_was_named_are_kept(tmp_path):
    kept = tmp_path / "out" / "artifacts" / "model"
    kept.parent.mkdir(parents=True)
    kept.write_text("trained for hours")
    for profile in ("smoke", "full"):
        prepare(Options(profile, str(kept.parent), out=tmp_path / "out"))
        assert kept.read_text() == "trained for hours"


def prepare(options):
    with contextlib.ExitStack() as stack:
        return runner.prepare_folder(options.resolved(), [], stack)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mine", ["artifacts/mine.safetensors", "results.json", "01_makes.ipynb"])
@pytest.mark.parametrize("only", [(), ("01",)])
def test_a_folder_with_files_that_no_run_made_is_refused_and_stays(tmp_path, mine, only):
    (tmp_path / mine).parent.mkdir(exist_ok=True)
    (tmp_path / mine).write_text("my own")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="has files that no run made, such as"):
        prepare(Options("smoke", out=tmp_path, only=only))
    assert contents(tmp_path) == before


def test_notebooks_are_no_folder_for_their_copies(tmp_path):
    write_notebook(tmp_path, "01_good", "1")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"has files that no run made, such as 01_good\.ipynb"):
        run(tmp_path, tmp_path, profile="smoke")
    assert contents(tmp_path) == before


def test_one_run_at_a_time_in_a_folder(tmp_path):
    options = Options("smoke", out=tmp_path / "out").resolved()
    with contextlib.ExitStack() as stack:
        runner.prepare_folder(options, [], stack)
        (tmp_path / "out/artifacts/model").write_text("trained for hours")
        with pytest.raises(UsageError, match="Another run is writing to"):
            prepare(options)
        assert (tmp_path / "out/artifacts/model").exists()
    prepare(options)
    assert not (tmp_path / "out/artifacts/model").exists()


@pytest.mark.parametrize("folder", [Path(__file__) / "no", Path("/proc/no")])
def test_artifacts_that_cannot_be_written_are_refused_before_anything_runs(tmp_path, folder):
    with pytest.raises(UsageError, match="cannot be written"):
        prepare(Options("full", str(folder), out=tmp_path / "out"))


def test_a_full_disk_is_noticed_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(UsageError, match="has 1 MB left, 200 MB are needed"):
        prepare(Options("smoke", out=tmp_path / "out"))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads the processes from /proc")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("profile", "number"), [("full", signal.SIGKILL), ("full", signal.SIGTERM), ("smoke", signal.SIGTERM)]
)
def test_a_run_that_is_ended_leaves_no_kernel(tmp_path, number, profile):
    code = "import os\nprint(os.getpid())\nopen({!r}, 'w').write(str(os.getpid()))\nimport time\ntime.sleep(600)"
    for name in ("01", "02"):
        write_notebook(tmp_path / "nb", f"{name}_sleeps", code.format(str(tmp_path / name)))
    command = [sys.executable, "-m", "trajlib", "run", "--notebooks", str(tmp_path / "nb"), "--profile", profile]
    started = subprocess.Popen([*command, "--out", "out"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    kernels = [tmp_path / name for name in (("01", "02") if profile == "full" else ("01",))]

    def eventually(true):
        for _ in range(600):
            if true():
                return True
            time.sleep(0.2)
        return False

    try:
        assert eventually(lambda: all(path.exists() and path.read_text() for path in kernels))
    finally:
        started.send_signal(number)
        started.wait(60)
    for path in kernels:
        process = Path("/proc") / path.read_text()
        assert eventually(lambda process=process: not process.exists()), path.name
    if number == signal.SIGTERM:  # then the run tidies up itself
        assert started.returncode == 143
        assert list((tmp_path / "out").rglob(".kernel-*")) == []


def test_a_run_leaves_the_notebooks_alone(smoke):
    assert text_of(smoke[0] / "notebooks/01_makes.ipynb") == ""
    assert sorted(p.name for p in (smoke[0] / "notebooks").iterdir()) == ["01_makes.ipynb", "02_reads.ipynb"]


def test_a_run_leaves_the_environment_alone(smoke):
    assert "TRAJLIB_RESULTS" not in os.environ


def test_executed_copies_hold_no_widget_state(smoke):
    assert "widgets" not in nbformat.read(smoke[0] / "out/01_makes.ipynb", 4).metadata


def test_a_run_leaves_a_site_of_what_it_ran(smoke):
    page = (smoke[0] / "out/site/index.html").read_text()
    assert "profile smoke, 2 of 2 notebooks run" in page
    assert re.search(r'href="02_reads.html"[^/]*The title of 02_reads', page)
    assert "read 49.0" in (smoke[0] / "out/site/02_reads.html").read_text()


def test_only_keeps_what_earlier_notebooks_made(smoke, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(smoke[0] / "out", out)
    code, lines = run(smoke[0] / "notebooks", out, profile="smoke", only=("02",))
    assert code == 0
    assert len(lines) == 4
    assert text_of(out / "02_reads.ipynb") == "read 49.0\n"


def test_cells_are_counted_as_the_reader_sees_them(tmp_path):
    shown = []
    write_notebook(tmp_path / "nb", "02_reads", "1", "2")
    options = Options(notebooks=tmp_path / "nb", out=tmp_path / "out", profile="smoke")
    assert runner.run_notebooks(options, log=lambda line: None, progress=shown.append) == 0
    assert shown == [f"02_reads  cell {n}/3" for n in (1, 2, 3)]


def test_notebooks_run_together_and_the_report_reads_their_figures(tmp_path, shipped):
    more = MAKES.replace("square", "cube").replace("01", "02")
    write_notebook(tmp_path / "nb", "01_makes", MAKES)
    write_notebook(tmp_path / "nb", "02_makes_more", more)
    write_notebook(tmp_path / "nb", "12_report", READS, READS.replace("square", "cube"))
    for name, notebook in (("square", "01"), ("cube", "02")):
        results.record(shipped, name, 49.0, n=1, notebook=notebook)
    code, lines = run(tmp_path / "nb", tmp_path / "out", jobs=2)
    assert code == 0
    assert text_of(tmp_path / "out/12_report.ipynb") == "read 49.0\nread 49.0\n"
    assert set(results.read_results(tmp_path / "out/results.json")) == {"square", "cube"}
    assert "Figures: 2 agree with the shipped ones, 0 do not." in lines
    assert lines[3].startswith("12_report")


def test_a_failure_among_notebooks_that_run_together(tmp_path, shipped):
    write_notebook(tmp_path / "nb", "01_fails", "1 / 0")
    for number in range(2, 6):
        write_notebook(tmp_path / "nb", f"0{number}_works", "import time\ntime.sleep(2)")
    write_notebook(tmp_path / "nb", "12_report", "1")
    code, lines = run(tmp_path / "nb", tmp_path / "out", jobs=2)
    assert code == 1
    assert any(line.startswith("FAILED: 01_fails.ipynb, cell 2 (1 / 0): ZeroDivisionError") for line in lines)
    assert not (tmp_path / "out/12_report.ipynb").exists()


# ---- runs that fail ----


FAILURES = {
    "error": ("x = 1\nraise ValueError('no such\\nluck')", "cell 3 (x = 1): ValueError: no such"),
    "exit": ("import os  # out of memory\nos._exit(1)", "cell 3 (import os  # out of memory): the kernel died"),
    "slider": (
        "import ipywidgets as W\ns = W.IntSlider()\ns.observe(lambda c: 1 / 0, 'value')\ns.value = 3",
        "cell 3 (import ipywidgets as W): ZeroDivisionError: division by zero",
    ),
    "output": (
        "import ipywidgets as W\nout = W.Output()\nwith out:\n    1 / 0\nW.HBox([W.VBox([out])])",
        "cell 3 (import ipywidgets as W): ZeroDivisionError: division by zero, inside a widget",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failing_cell_is_named_and_stops_the_run(tmp_path, kind, pages):
    source, message = FAILURES[kind]
    write_notebook(tmp_path / "nb", "01_fails", "1", source, "2")
    write_notebook(tmp_path / "nb", "02_never", "2")
    code, lines = run(tmp_path / "nb", tmp_path / "out", profile="smoke")
    assert code == 1
    assert lines[-3].startswith(f"FAILED: 01_fails.ipynb, {message}")
    assert len(lines) == 5
    assert [page.notebook.parent.name for page in pages] == ["out", "nb"]
    assert pages[0].run.startswith("failed: `cell 3")
    assert pages[1].run == "not run, as stored"
    executed = nbformat.read(tmp_path / "out/01_fails.ipynb", 4).cells
    shown = [c.execution_count for c in executed if c.cell_type == "code" and source == c.source]
    assert shown in ([[3]] if kind != "exit" else [[3], [None]])  # whether a kernel that dies has sent its count
    assert "In [4]" not in (tmp_path / "out/01_fails.ipynb").read_text()
    assert not (tmp_path / "out/02_never.ipynb").exists()


def test_a_cell_that_hangs_is_stopped(tmp_path):
    write_notebook(tmp_path / "nb", "01_hangs", "import time\nwhile True: time.sleep(1)")
    lines: list[str] = []
    options = Options(notebooks=tmp_path / "nb", out=tmp_path / "out", profile="smoke", cell_seconds=3)
    assert runner.run_notebooks(options, log=lines.append) == 1
    assert lines[-3] == "FAILED: 01_hangs.ipynb, cell 2 (import time): still running after 3 s, stopped"


@pytest.mark.parametrize(
    "cell",
    ['PROFIL = "full"\nARTIFACTS = "shipped"', 'PROFILE = "full"', 'PROFILE = "smoke"\nARTIFACTS = "shipped"',
     'PROFILE = "full"\nARTIFACTS = str("shipped")', 'PROFILE = "full"\nARTIFACTS = "shipped"\nSTEPS = 3', None],
)  # fmt: skip
def test_other_parameters_are_refused_before_anything_runs(tmp_path, cell):
    write_notebook(tmp_path / "nb", "01_good", "1")
    write_notebook(tmp_path / "nb", "02_bad", "1", parameters=cell)
    with pytest.raises(UsageError, match=r"02_bad\.ipynb has the parameters .* must hold exactly PROFILE = \"full\""):
        run(tmp_path / "nb", tmp_path / "out", profile="smoke")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(smoke):
    with pytest.raises(UsageError, match="/proc/no cannot be written"):
        run(smoke[0] / "notebooks", Path("/proc/no"))


def test_a_file_that_is_no_notebook(tmp_path):
    (tmp_path / "01_bad.ipynb").write_text("{")
    with pytest.raises(UsageError, match="cannot be read as a notebook"):
        run(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "quick"}, "no profile 'quick': take full or smoke"),
        ({"only": ("07",)}, "No notebook begins with '07'; there are 01_makes, 02_reads"),
        ({"only": ("",)}, "No notebook begins with ''"),
        ({"profile": "smoke", "artifacts": "shipped"}, "give it a folder"),
        ({"profile": "smoke", "update": True}, "--update writes the report"),
        ({"artifacts": "my_run", "update": True}, "--update writes the report"),
        ({"artifacts": __file__}, "is a file"),
        ({"jobs": 0}, "--jobs is 0"),
        ({"cell_seconds": float("inf")}, "--cell-seconds is inf"),
        ({"cell_seconds": float("nan")}, "--cell-seconds is nan"),
        ({"profile": "smoke", "jobs": 2}, "--jobs goes with the shipped weights only"),
    ],
)
def test_what_cannot_be_run(smoke, tmp_path, options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        runner.run_notebooks(Options(notebooks=smoke[0] / "notebooks", out=tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_not_a_good_run(tmp_path):
    with pytest.raises(UsageError, match="There is no notebook in"):
        run(tmp_path, tmp_path / "out")


def test_a_kernel_without_the_package(tmp_path, monkeypatch):
    """A Python that has ipykernel and no trajlib, as when the clone was never installed."""
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\nexec {sys.executable} -I -c \"import ipykernel; raise ImportError('trajlib')\"\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(UsageError, match=r"lacks the course's packages \(ImportError: trajlib\): run .* pip install"):
        kernel.check_environment(tmp_path)


def test_another_trajlib_is_not_run_by_mistake(tmp_path):
    (tmp_path / "trajlib").mkdir()
    (tmp_path / "trajlib/__init__.py").touch()
    with pytest.raises(UsageError, match="would import another trajlib"):
        kernel.check_environment(tmp_path)


def test_the_kernel_is_this_python_whatever_is_registered(tmp_path, monkeypatch):
    decoy = tmp_path / "data/kernels/python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    write_notebook(tmp_path / "nb", "01_who", "import sys\nprint(sys.executable)")
    assert run(tmp_path / "nb", tmp_path / "out", profile="smoke")[0] == 0
    assert text_of(tmp_path / "out/01_who.ipynb").strip() == sys.executable


# ---- figures, and writing back ----


def test_figures_are_compared_with_the_shipped_ones(tmp_path, shipped):
    write_notebook(tmp_path / "nb", "01_makes", MAKES)
    code, lines = run(tmp_path / "nb", tmp_path / "out")
    assert code == 1
    assert "Figures: 0 agree with the shipped ones, 1 do not." in lines
    assert list(shipped.iterdir()) == []
    results.record(shipped, "square", 49.3, n=1, notebook="01", tolerance=0.5)
    code, lines = run(tmp_path / "nb", tmp_path / "out")
    assert code == 0
    assert "Figures: 1 agree with the shipped ones, 0 do not." in lines


def test_update_writes_clean_notebooks_and_merges_figures(tmp_path, shipped):
    folder = tmp_path / "nb"
    first = write_notebook(folder, "01_makes", MAKES)
    write_notebook(folder, "02_reads", READS, "import ipywidgets as W\nW.IntSlider()")
    for name, notebook in (("by hand", "study"), ("gone", "01"), ("square", "01")):
        results.record(shipped, name, 1, n=1, notebook=notebook)
    code, lines = run(folder, tmp_path / "out", update=True, jobs=1)  # 02 reads what 01 records
    assert code == 0
    assert "Updated 2 notebooks and 1 figures." in lines
    assert {name: e["value"] for name, e in results.results(shipped).items()} == {"by hand": 1, "square": 49.0}
    for path in sorted(folder.iterdir()):
        nb = nbformat.read(path, 4)
        code_cells = [c for c in nb.cells if c.cell_type == "code"]
        assert [c.execution_count for c in code_cells] == list(range(1, len(code_cells) + 1))
        assert nb.metadata["trajlib"] == fingerprints.fingerprint(nb)
        assert nb.metadata["seconds"] > 0
        assert set(nb.metadata) == {"kernelspec", "language_info", "trajlib", "seconds"}
        assert {tag for c in nb.cells for tag in c.metadata.get("tags", [])} == {"parameters"}
        assert all(set(c.metadata) <= {"tags"} for c in nb.cells)
        assert fingerprints.WIDGET not in path.read_text()
        assert [c["id"] for c in nb.cells] == [f"cell-{n}" for n in range(len(nb.cells))]
    assert text_of(first) == "full 49.0\n"

    before = {p: p.read_bytes() for p in folder.iterdir()}
    run(folder, tmp_path / "out", update=True)
    assert {p: p.read_bytes() for p in folder.iterdir()} == before, "two runs of the same thing differ"


def test_update_fills_the_readme(tmp_path, shipped):
    folder = tmp_path / "nb"
    write_notebook(folder, "01_makes", MAKES)
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(["before", *report.MARKS, "after"]))
    assert run(folder, tmp_path / "out", update=True)[0] == 0
    text = readme.read_text()
    assert report.summary(results.results(shipped), "notebooks/") in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter")


def test_a_failing_update_writes_nothing(tmp_path, shipped):
    folder = tmp_path / "nb"
    write_notebook(folder, "01_makes", MAKES)
    write_notebook(folder, "02_fails", "1 / 0")
    before = {p: p.read_bytes() for p in folder.iterdir()}
    assert run(folder, tmp_path / "out", update=True)[0] == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert list(shipped.iterdir()) == []
