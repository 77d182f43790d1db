"""The repository without its notebooks: budgets, imports, style, types, dependencies, the test command."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from repository import ROOT, tracked

from trajlib.course import options, results
from trajlib.zoo import checkpoints, files

# all: 25 for the course, 3 for a tokenizer of 2^18 codes to touch; one file: the tokenizer, 5.3 M weights in float16
MEGABYTES = {"weights": 28, "file": 12}
LINES = {"core": 4250, "core file": 300, "leaf file": 400}
LEAVES = ("widgets", "course")  # folders that the core does not import
BELOW = {  # what each folder of the core may import
    "data": {"data"},
    "tokenizer": {"data", "tokenizer"},
    "generation": {"data", "tokenizer", "generation"},
    "classify": {"data", "tokenizer", "classify"},
    "language": {"data", "tokenizer", "generation", "language"},
    "atomic": {"atomic"},
    "training": {"atomic", "training"},
    "evaluate": {"data", "evaluate"},
    "plots": {"data", "plots"},
}
BELOW["zoo"] = set(BELOW) | {"zoo"}
BELOW["widgets"] = set(BELOW) | {"widgets"}
BELOW["course"] = set(BELOW) | {"course"}
PACKAGE = sorted((ROOT / "trajlib").rglob("*.py"))


def parts(path: Path) -> tuple[str, ...]:
    """Folders and name of a module of the package, without the ending: ("data", "clips")."""
    return path.relative_to(ROOT / "trajlib").with_suffix("").parts


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def code_length(path: Path) -> int:
    """Lines of code: without docstrings, comments and empty lines, which are there for the reader."""
    text = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = [n.body[0] for n in ast.walk(ast.parse(text)) if isinstance(n, documented) and ast.get_docstring(n)]
    said = {number for node in docstrings for number in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate((line.strip() for line in text.splitlines()), start=1)
    return sum(bool(line) and not line.startswith("#") and number not in said for number, line in lines)


# ---- the package ----


def test_the_package_is_thin():
    core = [path for path in PACKAGE if parts(path)[0] not in (*LEAVES, "__main__")]
    leaves = [path for path in PACKAGE if parts(path)[0] in LEAVES]
    leaves += [*(ROOT / "trajlib/widgets").glob("*.js"), *(ROOT / "notebooks/studies").glob("*.py")]
    long = {str(path.relative_to(ROOT)): length(path) for path in core if length(path) > LINES["core file"]}
    long |= {str(path.relative_to(ROOT)): length(path) for path in leaves if length(path) > LINES["leaf file"]}
    assert long == {}
    assert sum(map(code_length, core)) <= LINES["core"]


def imported(path: Path) -> set[str]:
    """The parts of trajlib that a module imports, at any depth of its code: {"data", "zoo"}."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {name.split(".")[1] for name in found if name.startswith("trajlib.")}


def test_imports_run_one_way():
    against = []
    for path in PACKAGE:
        folder = parts(path)[0]
        if folder not in ("__init__", "__main__"):
            against += [
                f"{'/'.join(parts(path))} imports {other}" for other in imported(path) - BELOW.get(folder, set())
            ]
    assert against == []


def test_every_module_is_in_its_place():
    assert {parts(path)[0] for path in PACKAGE} <= set(BELOW) | {"__init__", "__main__"}


def test_nothing_is_unpickled():
    unpickling = re.compile(r"^\s*(import|from) pickle|\btorch\.load\(|allow_pickle\s*=\s*True", re.MULTILINE)
    notebooks = (ROOT / "notebooks").rglob("*.ipynb")
    assert [path.name for path in [*PACKAGE, *notebooks] if unpickling.search(path.read_text(encoding="utf-8"))] == []


def test_style():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_types():
    command = [sys.executable, "-m", "mypy", "--no-incremental", "--cache-dir", "/dev/null"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_installed_wheel_works_from_any_folder(tmp_path):
    """Built from what git tracks, unpacked into a folder, and used from another one: data and weights are in it."""
    source, wheels, target = (tmp_path / name for name in ("source", "wheels", "target"))
    for path in tracked():
        if path.parts[len(ROOT.parts)] == "trajlib" or path.parent == ROOT:
            copy = source / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wheel = next(wheels.glob("trajlib-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    script = f"""
import sys
sys.path.insert(0, {str(target)!r})
import trajlib
assert trajlib.__file__.startswith({str(target)!r}), trajlib.__file__
from trajlib import VideoFolder, VideoSpec, load
model, card = load("tokenizer")
print(type(model).__name__, card["class"])
from trajlib.widgets import base
from pathlib import Path
print(sum(1 for _ in Path(base.__file__).parent.glob("*.js")) > 0)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Tokenizer Tokenizer\nTrue\n"


# ---- the weights and figures ----


def test_shipped_models_are_small_and_complete():
    shipped = list(checkpoints.SHIPPED.iterdir())
    assert checkpoints.names() != []
    assert sum(path.stat().st_size for path in shipped) <= MEGABYTES["weights"] * 1e6
    expected = {f"{name}.{end}" for name in checkpoints.names() for end in ("json", "safetensors")}
    assert {path.name for path in shipped} == expected | {files.RESULTS}


@pytest.mark.parametrize("name", checkpoints.names())
def test_a_shipped_model_loads(name):
    assert not checkpoints.load(name)[0].training


def test_shipped_figures_are_complete():
    figures = results.results()
    assert figures != {}
    keys = {"value", "n", "interval", "baseline", "ceiling", "seed", "notebook", "unit", "tolerance"}
    assert {name: set(entry) for name, entry in figures.items() if set(entry) - {"timing"} != keys} == {}


# ---- the rest of the repository ----


def test_no_large_file_and_no_notebook_elsewhere():
    found = tracked()
    assert [path.name for path in found if path.stat().st_size > MEGABYTES["file"] * 1e6] == []
    assert [path for path in found if path.suffix == ".ipynb" and path.parent != options.NOTEBOOKS] == []


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def pins() -> dict[str, str]:
    return dict(re.match(r"([a-z0-9-]+)==([\w.]+)", line).groups() for line in requirements() if "==" in line)


def test_every_requirement_is_pinned_and_has_its_reason():
    for line in requirements():
        assert re.fullmatch(r"([a-z0-9-]+==[\w.]+|\./\.opencv-headless|-e \.) +# \S.*", line), line


def test_what_is_installed_is_what_is_pinned():
    assert {name: importlib.metadata.version(name).split("+")[0] for name in pins()} == pins()


def test_dependencies_of_the_package_are_pinned():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = text[text.index("[project]") : text.index("[tool.setuptools.packages.find]")]
    declared = re.findall(r'"([a-z0-9-]+)(?:[<>=][^"]*)?"', project[project.index("dependencies") :])
    assert sorted(set(declared) - pins().keys()) == []


def test_conda_takes_its_versions_from_the_same_list():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "- -r requirements.txt" in text
    assert re.findall(r"^ *- +(?:pip: *)?(\S.*=.*)$", text, re.MULTILINE) == ["python=3.11"]


def test_ci_runs_the_command_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"<!-- test -->\n```bash\n(.+)\n```", readme)[1]
    assert command.endswith("-m pytest")
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert re.search(r"<!-- run -->\n```bash\n(.+)\n```", readme)[1].endswith("-m trajlib run")


def test_opencv_needs_no_window_system():
    """`opencv-python` is our empty stand-in; cv2 comes from the headless wheel, which links no libGL and no X11."""
    stand_in = importlib.metadata.distribution("opencv-python")
    assert [str(f) for f in stand_in.files if str(f).startswith("cv2")] == []
    headless = importlib.metadata.distribution("opencv-python-headless")
    assert stand_in.version == headless.version
    library = next(Path(cv2.__file__).parent.glob("cv2*.so"))
    assert Path(headless.locate_file("cv2")) == library.parent
    if shutil.which("ldd"):
        linked = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
        assert re.findall(r"libGL|libX11|libgthread|not found", linked) == []
