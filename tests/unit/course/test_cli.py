"""The command line: exit codes, one sentence for each mistake, and help."""

import io
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from course_notebooks import write_notebook

from trajlib.course import cli, options


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "trajlib", *args], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
def test_the_command_line_runs_and_fails_by_its_exit_code(tmp_path):
    write_notebook(tmp_path / "nb", "01_good", "print(1)")
    write_notebook(tmp_path / "nb", "02_bad", "1 / 0")
    done = command("run", "--profile", "smoke", "--notebooks", "nb", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "FAILED: 02_bad.ipynb, cell 2 (1 / 0): ZeroDivisionError: division by zero" in done.stdout
    assert "\r" not in done.stdout
    good = command("run", "--profile", "smoke", "--notebooks", "nb", "--only", "01", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert (tmp_path / "runs/smoke/site/index.html").exists()


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--profile", "quick"],
        ["run", "--only", "77"],
        ["run", "--nonsense"],
        ["walk"],
        [],
        ["run", "--only"],
        ["study", "nothing_of_this_name"],
        ["study", "x", "--jobs", "0"],
        ["run", "--out", ""],
        ["run", "--out", "a\0b"],
        ["run", "--artifacts", "a\0b", "--profile", "smoke"],
        ["run", "--artifacts", ""],
        ["run", "--cell-seconds", "inf"],
        ["study", "tokenizer_ablation", "--out", "no_table.txt"],
        ["study", "tokenizer_ablation", "--out", "no_table.txt/x.csv"],
        ["bench", "--json", "a\0b"],
    ],
)
def test_a_bad_command_gets_one_sentence(tmp_path, capsys, monkeypatch, args):
    write_notebook(tmp_path / "nb", "01_good")
    (tmp_path / "no_table.txt").write_text("one\ntwo, three\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "NOTEBOOKS", tmp_path / "nb")
    try:
        code = cli.main(args)
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    assert code == 2
    assert output.out == ""
    assert len(output.err.strip().splitlines()) == 1
    assert output.err.startswith("python -m trajlib")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("run", ("profile", "artifacts", "only", "out", "update", "cell-seconds")),
        ("study", ("only", "smoke", "jobs", "out", "artifacts")),
        ("bench", ("seconds", "profile", "json")),
        ("explore", ("port", "no-browser")),
    ],
)
def test_help_names_every_option(capsys, command, options):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert [option for option in options if f"--{option}" not in text] == []


def test_study_passes_its_arguments_on(monkeypatch):
    calls = []
    monkeypatch.setattr("trajlib.course.study.main", lambda *args: calls.append(args) or 0)
    assert cli.main(["study", "x", "--only", "a", "b", "--smoke", "--jobs", "3", "--out", "x.csv"]) == 0
    assert calls == [("x", ("a", "b"), True, 3, Path("x.csv"), "shipped")]


def test_an_unexpected_error_is_one_sentence(capsys, monkeypatch):
    def broken(*args):
        raise LookupError("two\nlines")

    monkeypatch.setattr("trajlib.course.study.main", broken)
    assert cli.main(["study", "x"]) == 2
    assert capsys.readouterr().err == "python -m trajlib study: LookupError: two lines\n"


def test_a_console_that_cannot_print_everything_is_no_error(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr("trajlib.course.study.main", lambda *args: print("30 ± 1") or 0)
    assert cli.main(["study", "x"]) == 0
    out.flush()
    assert out.buffer.getvalue() == b"30 ? 1\n"


def test_the_handler_of_sigterm_is_given_back(monkeypatch):
    """Inside, SIGTERM raises: `finally` and context managers tidy up; a caller's own handler comes back."""
    steps = []

    def study(*args):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            steps.append("tidied up")

    monkeypatch.setattr("trajlib.course.study.main", study)
    before = signal.signal(signal.SIGTERM, lambda *_: steps.append("the caller's"))
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main(["study", "x"])
        assert stop.value.code == 143
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps == ["tidied up", "the caller's"]


def test_the_command_line_works_in_a_thread(monkeypatch):
    monkeypatch.setattr("trajlib.course.study.main", lambda *args: 0)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cli.main, ["study", "x"]).result() == 0


TRAIN = ("train", "--videos", "videos", "--out", "never")
REFUSED = {
    "cell is 0; a whole number from 1 was expected": (*TRAIN, "--cell", "0,0"),
    "minutes is nan; a finite number above 0": (*TRAIN, "--minutes", "nan"),
    "minutes is -1.0; a finite number above 0": (*TRAIN, "--minutes", "-1"),
    "dim is 0; a whole number from 1 was expected": (*TRAIN, "--dim", "0"),
    "seed is -1; a whole number from 0 was expected": (*TRAIN, "--seed", "-1"),
    "file is a file; a folder for the run was expected": ("train", "--videos", "videos", "--out", "file"),
    "there is no window of 16 frames in videos: add videos": TRAIN,
    "'' came, the name of a file or folder is needed": ("train", "--videos", "", "--out", "never"),
    "videos cannot be written: name a file in a folder": ("tokenize", "file", "-o", "videos"),
    "file/x.mp4 cannot be written: name a file in a folder": ("detokenize", "file", "-o", "file/x.mp4"),
    "file/x cannot be written: name a file in a folder": ("complete", "file", "-o", "file/x"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_done_is_said_in_one_line(sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "file").write_bytes(b"")
    try:
        code = cli.main(list(REFUSED[sentence]))
    except SystemExit as error:
        code = error.code
    assert code == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said
    assert not list(tmp_path.glob("never/*.json"))
