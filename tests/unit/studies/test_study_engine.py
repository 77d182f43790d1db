"""The engine of the studies: what is there is not run again, what goes wrong is a row, processes change nothing."""

import sys
import textwrap

import pandas as pd
import pytest

from trajlib.course import study

TOY = """
    from dataclasses import dataclass, field

    @dataclass(frozen=True)
    class Settings:
        power: int = 2
        grid: dict = field(default_factory=lambda: {"seeds": (0, 1)})

    FULL, SMOKE = Settings(), Settings(power=1, grid={"seeds": (0,)})
    COLUMNS = {"variant": str, "seed": int, "value": float, "count": int, "hits": str}
    KEYS = ("variant", "seed")
    OPTIONAL = ("online",)

    def jobs(settings):
        names = ("base", "two rows", "broken", "known", "online")
        return [{"variant": name, "seed": seed} for seed in settings.grid["seeds"] for name in names]

    def prepare(context):
        context.folder.mkdir(parents=True, exist_ok=True)
        with (context.folder / "ran").open("a") as file:
            file.write("".join(f"{job['variant']} {job['seed']}\\n" for job in context.jobs))

    def run(job, context):
        if job["variant"] == "broken" and not (context.folder / "fixed").exists():
            raise KeyError("no\\nkey")
        if job["variant"] == "known":
            return {"status": "TypeError: the library cannot"}
        row = {"value": (job["seed"] + 1 / 3) ** context.settings.power, "count": 7, "hits": "0012e5", "examples": 3}
        return [row, row | {"count": 8}] if job["variant"] == "two rows" else row
"""


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "toy_studies"
    folder.mkdir()
    (folder / "toy.py").write_text(textwrap.dedent(TOY))
    (folder / "tools.py").write_text("NOT_A_STUDY = True\n")
    yield folder
    sys.path.remove(str(folder.parent))


@pytest.fixture
def toy(toy_folder, monkeypatch, tmp_path):
    """The study's module; its table goes to a folder of the test's own."""
    monkeypatch.setattr(study, "STUDIES", toy_folder)
    monkeypatch.chdir(tmp_path)
    return study.load("toy")


def run(**kwargs):
    return study.run("toy", out="toy.csv", **{"jobs": 1} | kwargs)


def ran(tmp_path):
    return (tmp_path / "toy-files" / "ran").read_text().splitlines()


def test_studies_are_found_by_their_grid(toy):
    assert study.available() == ["toy"]
    with pytest.raises(study.StudyError, match=r"no study 'tools' .*; there are: toy\."):
        study.load("tools")


def test_rows_say_what_they_come_from_and_are_read_as_they_were_written(toy, tmp_path):
    frame = run()
    assert frame["variant"].tolist() == 2 * ["base", "two rows", "two rows", "broken", "known"]
    assert frame["seed"].tolist() == 5 * [0] + 5 * [1]
    first = frame.iloc[0]
    assert (first["value"], first["count"], first["hits"], first["examples"]) == (0.111111, 7, "0012e5", 3)
    assert first["status"] == "ok"
    assert first["digest"] == study.digest("toy", toy.FULL, {"variant": "base", "seed": 0})
    assert all(first[column] for column in ("date", *study.LIBRARIES))
    before = (tmp_path / "toy.csv").read_bytes()
    study._write(tmp_path / "again.csv", toy.COLUMNS | study.PROVENANCE,
                 frame.astype(object).to_dict("records"), list(frame["digest"].unique()))  # fmt: skip
    assert (tmp_path / "again.csv").read_bytes() == before
    left = {path.name for path in tmp_path.iterdir()} - {".toy.csv.lock"}  # which stays, unlocked
    assert left == {"again.csv", "toy-files", "toy.csv"}


def test_a_job_that_fails_is_a_row_with_its_error_and_is_tried_again(toy, tmp_path, capsys):
    assert study.main("toy", jobs=1, out="toy.csv") == 1
    assert "toy: 10 rows, 2 failed\nfailed: KeyError: 'no\\nkey'" in capsys.readouterr().out
    frame = study.read("toy", "toy.csv")
    broken = frame[frame["variant"] == "broken"]
    assert broken["status"].str.startswith("failed: KeyError").all()
    assert broken["value"].isna().all()
    (tmp_path / "toy-files" / "fixed").touch()
    first = ran(tmp_path)
    run(only=["known"])
    assert len(study.read("toy", "toy.csv")) == 10  # a failed row stays until its job's turn comes
    assert study.main("toy", jobs=1, out="toy.csv") == 0
    assert ran(tmp_path)[len(first) :] == ["broken 0", "broken 1"]  # what the study itself calls an error is done
    assert run()["status"].value_counts().to_dict() == {"ok": 8, "TypeError: the library cannot": 2}


def test_what_is_there_is_not_run_again_and_the_grid_may_grow(toy, monkeypatch, tmp_path):
    run(only=["base"])
    run(only=["base", "known"])
    assert ran(tmp_path) == ["base 0", "base 1", "known 0", "known 1"]
    monkeypatch.setattr(toy, "FULL", toy.Settings(grid={"seeds": (0, 1, 2)}))
    assert run(only=["base"])["seed"].tolist() == [0, 0, 1, 1, 2]
    assert ran(tmp_path)[4:] == ["base 2"]


def test_only_chooses_and_what_is_optional_waits_for_it(toy):
    assert run(only=["online", "base"])["variant"].tolist() == 2 * ["base", "online"]
    assert run(only=["1"])["seed"].tolist().count(1) == 6
    with pytest.raises(study.StudyError, match=r"No job has bass; there are: 0, 1, base, broken"):
        run(only=["bass"])


def test_rows_of_other_settings_are_refused_in_one_sentence(toy, capsys):
    run(only=["base"])
    assert study.main("toy", smoke=True, out="toy.csv", jobs=1) == 2
    error = capsys.readouterr().err
    assert "toy.csv has rows of other settings, such as ('base', 0): name another --out, or delete it." in error
    assert error.count("\n") == 1


def test_files_and_numbers_that_will_not_do_get_one_sentence(toy, tmp_path, capsys):
    with pytest.raises(study.StudyError, match=r"There is no table at none.csv: `python -m trajlib study toy"):
        study.read("toy", "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(study.StudyError, match="does not have the columns of toy"):
        study.read("toy", "other.csv")
    assert study.main("toy", out=tmp_path) == 2
    assert study.main("toy", jobs=0, out="toy.csv") == 2
    assert study.main("fairy") == 2
    said = capsys.readouterr().err.splitlines()
    assert [next(word for word in ("folder", "--jobs is 0", "no study") if word in line) for line in said]


def test_an_interruption_keeps_the_rows_that_came(toy, monkeypatch):
    whole = toy.run

    def stopped(job, context):
        if job["seed"] == 1:
            raise KeyboardInterrupt
        return whole(job, context)

    monkeypatch.setattr(toy, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(only=["base"])
    assert study.read("toy", "toy.csv")["seed"].tolist() == [0]


def test_a_smoke_run_has_its_own_settings_and_place(toy, tmp_path):
    frame = study.run("toy", only=["base"], smoke=True, jobs=1)
    assert frame["value"].tolist() == [0.333333]
    assert (tmp_path / "runs" / "toy-smoke.csv").exists()


def test_a_summary_keeps_the_order_of_the_table(toy):
    found = study.summarize(run(only=["two rows", "base"]), "variant", "value")
    assert list(found.index) == ["base", "two rows"]
    assert found.loc["base"].tolist() == pytest.approx([(1 / 9 + 16 / 9) / 2, 1 / 9, 16 / 9, 2], rel=1e-5)


@pytest.mark.slow
def test_processes_give_what_one_gives(toy):
    one, two = run(), study.run("toy", out="two.csv", jobs=2)
    pd.testing.assert_frame_equal(one, two)
