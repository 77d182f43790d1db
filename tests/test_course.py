"""The runner, on small notebooks: good ones, and every way in which one can fail."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from course_notebooks import write
from PIL import Image

from trajlib import __main__, course, plots, pretrained, report, stamps
from trajlib.course import Options, UsageError

MAKES = """\
from trajlib.pretrained import record, results
record(ARTIFACTS, "square", 49.0, n=1, notebook="01", tolerance=0.5)
print(PROFILE, results(ARTIFACTS)["square"]["value"])"""
READS = """\
from trajlib.pretrained import results
print("read", results(ARTIFACTS)["square"]["value"])"""


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A shipped folder of our own: nothing here may touch the real one."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(pretrained, "SHIPPED", folder)
    return folder


def run(folder: Path, out: Path, **options) -> tuple[int, list[str]]:
    said: list[str] = []
    code = course.run(Options(notebooks=folder, out=out, cell_seconds=60, **options), say=said.append)
    return code, said


def text_of(notebook: Path) -> str:
    cells = nbformat.read(notebook, 4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


# ---- a good run ----


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Two notebooks, the smoke profile, an empty artifacts folder."""
    root = tmp_path_factory.mktemp("good")
    write(root / "notebooks", "01_makes", MAKES)
    write(root / "notebooks", "02_reads", READS, "1 + 1")
    (root / "out" / "artifacts").mkdir(parents=True)
    (root / "out" / "artifacts" / "stale").write_text("of an earlier run")
    code, said = run(root / "notebooks", root / "out", profile="smoke")
    return root, code, said


def test_a_good_run(smoke):
    root, code, said = smoke
    assert code == 0
    assert said[0].startswith("2 notebooks, profile smoke, models in ")
    assert said[0].endswith(": none yet")
    assert re.fullmatch(r"01_makes +\d+\.\d s  ok", said[1])
    assert re.fullmatch(r"02_reads +\d+\.\d s  ok", said[2])
    assert said[-1].startswith("Total ")
    assert len(said) == 4
    assert text_of(root / "out/01_makes.ipynb") == "smoke 49.0\n"
    assert text_of(root / "out/02_reads.ipynb") == "read 49.0\n"


def test_a_smoke_run_starts_with_an_empty_artifacts_folder(smoke):
    assert not (smoke[0] / "out/artifacts").exists()


def test_models_in_a_folder_that_was_named_are_kept(tmp_path):
    kept = tmp_path / "out" / "artifacts" / "model"
    kept.parent.mkdir(parents=True)
    kept.write_text("trained for hours")
    for profile in ("smoke", "full"):
        course.prepare(Options(profile, str(kept.parent), out=tmp_path / "out").settled())
        assert kept.read_text() == "trained for hours"


def test_a_run_leaves_the_notebooks_alone(smoke):
    assert text_of(smoke[0] / "notebooks/01_makes.ipynb") == ""
    assert sorted(p.name for p in (smoke[0] / "notebooks").iterdir()) == ["01_makes.ipynb", "02_reads.ipynb"]


def test_a_run_leaves_the_environment_alone(smoke):
    assert "TRAJLIB_RESULTS" not in os.environ


def test_executed_copies_hold_no_widget_state(smoke):
    assert "widgets" not in nbformat.read(smoke[0] / "out/01_makes.ipynb", 4).metadata


def test_the_index_lists_and_links_what_ran(smoke):
    root = smoke[0] / "out"
    page = (root / "index.html").read_text()
    assert page.count("<tr>") == 3
    assert "The title of 02_reads" in page
    links = re.findall('href="([^"]+)"', page)
    assert links == ["data:,", "01_makes.html", "01_makes.ipynb", "02_reads.html", "02_reads.ipynb"]
    assert all((root / link).exists() for link in links[1:])


def test_pages_ask_for_nothing(smoke):
    for page in (smoke[0] / "out").glob("*.html"):
        text = page.read_text()
        assert not re.search(
            r"<script[^>]+src=|<link[^>]+href=\"http|<img[^>]+src=\"(?!data:)|@import|url\(.?http", text
        )


def test_only_keeps_what_earlier_notebooks_made(smoke, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(smoke[0] / "out", out)
    code, said = run(smoke[0] / "notebooks", out, profile="smoke", only=("02",))
    assert code == 0
    assert len(said) == 3
    assert text_of(out / "02_reads.ipynb") == "read 49.0\n"


def test_cells_are_counted_as_the_reader_sees_them(tmp_path):
    heard = []
    write(tmp_path / "nb", "02_reads", "1", "2")
    options = Options(notebooks=tmp_path / "nb", out=tmp_path / "out", profile="smoke")
    assert course.run(options, say=lambda line: None, live=heard.append) == 0
    assert heard == [f"02_reads  cell {n}/3" for n in (1, 2, 3)]


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
def test_a_failing_cell_is_named_and_stops_the_run(tmp_path, kind):
    source, message = FAILURES[kind]
    write(tmp_path / "nb", "01_fails", "1", source, "2")
    write(tmp_path / "nb", "02_never", "2")
    code, said = run(tmp_path / "nb", tmp_path / "out", profile="smoke")
    assert code == 1
    assert said[-2].startswith(f"FAILED: 01_fails.ipynb, {message}")
    assert len(said) == 4
    page = (tmp_path / "out/index.html").read_text()
    assert page.count('class="failed"') == 2
    assert "not run" in page
    assert (tmp_path / "out/01_fails.html").exists()
    assert not (tmp_path / "out/02_never.ipynb").exists()


def test_a_cell_that_hangs_is_stopped(tmp_path):
    write(tmp_path / "nb", "01_hangs", "import time\nwhile True: time.sleep(1)")
    said: list[str] = []
    options = Options(notebooks=tmp_path / "nb", out=tmp_path / "out", profile="smoke", cell_seconds=3)
    assert course.run(options, say=said.append) == 1
    assert said[-2] == "FAILED: 01_hangs.ipynb, cell 2 (import time): still running after 3 s, and stopped"


@pytest.mark.parametrize(
    "cell",
    ['PROFIL = "full"\nARTIFACTS = "shipped"', 'PROFILE = "full"', 'PROFILE = "smoke"\nARTIFACTS = "shipped"',
     'PROFILE = "full"\nARTIFACTS = str("shipped")', 'PROFILE = "full"\nARTIFACTS = "shipped"\nSTEPS = 3', None],
)  # fmt: skip
def test_other_parameters_are_refused_before_anything_runs(tmp_path, cell):
    write(tmp_path / "nb", "01_good", "1")
    write(tmp_path / "nb", "02_bad", "1", parameters=cell)
    with pytest.raises(UsageError, match=r"02_bad\.ipynb has the parameters .* must hold exactly PROFILE = \"full\""):
        run(tmp_path / "nb", tmp_path / "out", profile="smoke")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(smoke):
    with pytest.raises(UsageError, match="/proc/no cannot be made"):
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
    ],
)
def test_what_cannot_be_run(smoke, tmp_path, options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        run(smoke[0] / "notebooks", tmp_path / "out", **options)
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
        course.check_environment(tmp_path)


def test_another_trajlib_is_not_run_by_mistake(tmp_path):
    (tmp_path / "trajlib").mkdir()
    (tmp_path / "trajlib/__init__.py").touch()
    with pytest.raises(UsageError, match="would import another trajlib"):
        course.check_environment(tmp_path)


def test_the_kernel_is_this_python_whatever_is_registered(tmp_path, monkeypatch):
    decoy = tmp_path / "data/kernels/python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    write(tmp_path / "nb", "01_who", "import sys\nprint(sys.executable)")
    assert run(tmp_path / "nb", tmp_path / "out", profile="smoke")[0] == 0
    assert text_of(tmp_path / "out/01_who.ipynb").strip() == sys.executable


# ---- figures, and writing back ----


def test_figures_are_compared_with_the_shipped_ones(tmp_path, shipped):
    write(tmp_path / "nb", "01_makes", MAKES)
    code, said = run(tmp_path / "nb", tmp_path / "out")
    assert code == 1
    assert "Figures: 0 agree with the shipped ones, 1 do not." in said
    assert list(shipped.iterdir()) == []
    pretrained.record(shipped, "square", 49.3, n=1, notebook="01", tolerance=0.5)
    code, said = run(tmp_path / "nb", tmp_path / "out")
    assert code == 0
    assert "Figures: 1 agree with the shipped ones, 0 do not." in said


def entry(value, notebook="01", tolerance=None):
    return {"value": value, "notebook": notebook, "tolerance": tolerance}


@pytest.mark.parametrize(
    ("old", "new", "agree"),
    [
        (entry(30.0, tolerance=0.1), entry(30.09), True),
        (entry(30.0, tolerance=0.1), entry(30.11), False),
        (entry(30.0), entry(30.00001), True),
        (entry(30.0), entry(30.001), False),
        (entry(0.0), entry(1e-9), False),
        (entry("yes"), entry("yes"), True),
        (entry("yes"), entry("no"), False),
        (entry(True), entry(1), False),
        (entry(1.0), None, False),
        (None, entry(1.0), False),
        (entry(1.0, notebook="01_makes"), None, False),
    ],
)
def test_agreement(old, new, agree):
    shipped, fresh = ({"f": e} if e else {} for e in (old, new))
    compared = course.compare(shipped, fresh, ["01_makes"])
    assert (compared.agree, len(compared.differ)) == ((1, 0) if agree else (0, 1))


def test_figures_of_notebooks_that_did_not_run_are_left_out():
    compared = course.compare({"f": entry(1.0, notebook="02"), "g": entry(1.0)}, {"g": entry(1.0)}, ["01_makes"])
    assert (compared.agree, compared.differ) == (1, [])


def test_update_writes_clean_stamped_notebooks_and_merges_figures(tmp_path, shipped):
    folder = tmp_path / "nb"
    first = write(folder, "01_makes", MAKES)
    write(folder, "02_reads", READS, "import ipywidgets as W\nW.IntSlider()")
    for name, notebook in (("by hand", "study"), ("gone", "01"), ("square", "01")):
        pretrained.record(shipped, name, 1, n=1, notebook=notebook)
    code, said = run(folder, tmp_path / "out", update=True)
    assert code == 0
    assert "Updated 2 notebooks and 1 figures." in said
    assert {name: e["value"] for name, e in pretrained.results(shipped).items()} == {"by hand": 1, "square": 49.0}
    for path in sorted(folder.iterdir()):
        nb = nbformat.read(path, 4)
        code_cells = [c for c in nb.cells if c.cell_type == "code"]
        assert [c.execution_count for c in code_cells] == list(range(1, len(code_cells) + 1))
        assert nb.metadata["trajlib"] == stamps.stamp(nb)
        assert set(nb.metadata) == {"kernelspec", "language_info", "trajlib"}
        assert {tag for c in nb.cells for tag in c.metadata.get("tags", [])} == {"parameters"}
        assert all(set(c.metadata) <= {"tags"} for c in nb.cells)
        assert stamps.WIDGET not in path.read_text()
        assert [c["id"] for c in nb.cells] == [f"cell-{n}" for n in range(len(nb.cells))]
    assert text_of(first) == "full 49.0\n"

    before = {p: p.read_bytes() for p in folder.iterdir()}
    run(folder, tmp_path / "out", update=True)
    assert {p: p.read_bytes() for p in folder.iterdir()} == before, "two runs of the same thing differ"


def test_pictures_that_move_are_stored_in_256_colours():
    """Frames, their order, size and pace stay, colours nearly; what stands still is left as it is."""
    noise = torch.rand(2, 3, 16, 64, 64, generator=torch.Generator().manual_seed(0))
    videos = (1 - 0.05 * noise).clamp(0, 1)
    videos[:, :, torch.arange(16), 20, torch.arange(16) * 3] = 0  # a dot that moves
    moving = plots.moving_png(videos)
    found = course.in_256_colours(moving)
    assert len(found) < len(moving) / 2
    with Image.open(io.BytesIO(moving)) as a, Image.open(io.BytesIO(found)) as b:
        assert (a.size, a.n_frames, a.info["duration"], a.info["loop"]) == (
            b.size, b.n_frames, b.info["duration"], b.info["loop"],
        )  # fmt: skip
        for k in range(16):
            a.seek(k)
            b.seek(k)
            apart = np.abs(np.asarray(a.convert("RGB"), float) - np.asarray(b.convert("RGB"), float))
            assert apart.max() <= 16
    still = plots.figure(height=1)[0]._repr_png_()
    assert course.in_256_colours(still) == still


def test_update_fills_the_readme(tmp_path, shipped):
    folder = tmp_path / "nb"
    write(folder, "01_makes", MAKES)
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(["before", *report.MARKS, "after"]))
    assert run(folder, tmp_path / "out", update=True)[0] == 0
    text = readme.read_text()
    assert report.headline(pretrained.results(shipped)) in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter")


def test_a_failing_update_writes_nothing(tmp_path, shipped):
    folder = tmp_path / "nb"
    write(folder, "01_makes", MAKES)
    write(folder, "02_fails", "1 / 0")
    before = {p: p.read_bytes() for p in folder.iterdir()}
    assert run(folder, tmp_path / "out", update=True)[0] == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert list(shipped.iterdir()) == []


# ---- stamps ----


def test_words_do_not_change_the_stamp_of_code_and_code_does():
    plain = "def f(x):\n    return x + 1\n"
    worded = '"""A module."""\n\ndef f(x):  # adds\n    """Add one."""\n\n    return (x + 1)\n'
    assert stamps.code_without_words(plain) == stamps.code_without_words(worded)
    assert stamps.code_without_words(plain) != stamps.code_without_words(worded.replace("+", "-"))
    assert stamps.code_without_words('def f():\n    """Only words."""') == "def f():\n    pass"


def test_each_part_of_a_stamp_notices_its_own_change(tmp_path, shipped):
    nb = nbformat.read(write(tmp_path, "01_a", "print(1)"), 4)
    before = stamps.stamp(nb)
    assert "results" not in before
    nb.cells[0].source = "other words"
    assert stamps.stamp(nb) == before
    nb.cells[-1].source = "print(results('shipped'))"
    after = stamps.stamp(nb)
    assert after["source"] != before["source"]
    pretrained.record(shipped, "psnr", 30, n=1, notebook="01")
    assert stamps.stamp(nb)["results"] != after["results"]
    (shipped / "tokenizer.json").write_text('{"sha256": "abc"}')
    assert stamps.stamp(nb)["weights"] != after["weights"]


def test_the_package_stamp_leaves_out_what_only_runs_notebooks(tmp_path):
    (tmp_path / "render.py").write_text("a = 1")
    before = stamps.lib_stamp(tmp_path)
    (tmp_path / "course.py").write_text("b = 1")
    assert stamps.lib_stamp(tmp_path) == before
    (tmp_path / "render.py").write_text("a = 2")
    assert stamps.lib_stamp(tmp_path) != before


@pytest.mark.parametrize(
    "source",
    [
        "from trajlib import plots",
        "from trajlib.plots import strip",
        "import trajlib.plots",
        "def later():\n    from trajlib import FAMILIES, plots",
        'REGISTRY = {"Film": "trajlib.plots"}',
    ],
)
def test_a_notebooks_stamp_hangs_on_what_it_imports_directly_or_not(tmp_path, source):
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "plots.py").write_text("from trajlib.render import draw")
    (tmp_path / "render.py").write_text("a = 1")
    (tmp_path / "claims.py").write_text("from trajlib import plots")
    before = stamps.lib_stamp(tmp_path, source)
    (tmp_path / "claims.py").write_text("b = 1")
    assert stamps.lib_stamp(tmp_path, source) == before
    (tmp_path / "render.py").write_text("a = 2")
    assert stamps.lib_stamp(tmp_path, source) != before


# ---- the command line ----


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "trajlib", *args], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )


def test_the_command_line_runs_and_fails_by_its_exit_code(tmp_path):
    write(tmp_path / "nb", "01_good", "print(1)")
    write(tmp_path / "nb", "02_bad", "1 / 0")
    done = command("run", "--profile", "smoke", "--notebooks", "nb", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "FAILED: 02_bad.ipynb, cell 2 (1 / 0): ZeroDivisionError: division by zero" in done.stdout
    assert "\r" not in done.stdout
    good = command("run", "--profile", "smoke", "--notebooks", "nb", "--only", "01", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert (tmp_path / "runs/smoke/index.html").exists()


@pytest.mark.parametrize(
    "args",
    [["run", "--profile", "quick"], ["run", "--only", "77"], ["run", "--nonsense"], ["walk"], [], ["run", "--only"]],
)
def test_a_bad_command_gets_one_sentence(tmp_path, capsys, monkeypatch, args):
    write(tmp_path / "nb", "01_good")
    monkeypatch.setattr(course, "NOTEBOOKS", tmp_path / "nb")
    try:
        code = __main__.main(args)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("python -m trajlib")


def test_help_tells_of_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(["run", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{word}" in text for word in ("profile", "artifacts", "only", "out", "update", "cell-seconds"))
