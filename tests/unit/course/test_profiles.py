"""The settings of the notebooks: small, checked when built, and tiny in smoke."""

from dataclasses import fields

import papermill as pm
import pytest
import torch
from course_notebooks import write_notebook
from papermill.exceptions import PapermillExecutionError

from trajlib.course import options
from trajlib.course.kernel import kernel_env
from trajlib.course.profiles import SETTINGS, DataGeneration, check_session, limit_threads, settings


def test_every_notebook_has_settings_of_at_most_twelve_fields():
    numbers = {path.name[:2] for path in options.NOTEBOOKS.glob(options.PATTERN)}
    assert numbers == set(SETTINGS)
    for by_profile in SETTINGS.values():
        assert set(by_profile) == set(options.PROFILES)
        assert len({type(value) for value in by_profile.values()}) == 1
        assert len(fields(by_profile["full"])) <= 12


def test_smoke_is_nowhere_larger():
    for number in SETTINGS:
        full, smoke = settings(number, "full"), settings(number, "smoke")
        sizes = [field.name for field in fields(full) if field.type in ("int", int) and field.name != "seed"]
        assert [name for name in sizes if getattr(smoke, name) > getattr(full, name)] == []


def test_unknown_names_get_one_sentence():
    with pytest.raises(ValueError, match=r"^There are no settings for notebook '14'; there are 00, 01, .*\.$"):
        settings("14", "full")
    with pytest.raises(ValueError, match=r"^PROFILE is 'quick'; it must be one of 'full', 'smoke'\.$"):
        settings("01", "quick")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None])
def test_sizes_are_whole_numbers_above_0(value):
    with pytest.raises(ValueError, match=r"clips of DataGeneration is .*: a whole number of 1 or more was expected"):
        DataGeneration(clips=value)


def test_seeds_may_be_0_and_not_negative():
    assert DataGeneration(seed=0).seed == 0
    with pytest.raises(ValueError, match="seed of DataGeneration is -1"):
        DataGeneration(seed=-1)


# ---- in a notebook ----


@pytest.mark.parametrize("wrong", ["PROFIL = 'smoke'", "profile = 'smoke'", "PROFILE = 'smoke'\nSTEPS = 3"])
def test_a_parameter_that_no_notebook_has_is_refused(wrong):
    name = wrong.splitlines()[-1].split()[0]
    with pytest.raises(
        options.UsageError, match=f"^There is no parameter {name}: a notebook has PROFILE and ARTIFACTS"
    ):
        check_session("full", {"In": ["", "x = 1", f"# Parameters\n{wrong}\n"]})
    check_session("full", {"In": ["", wrong]})  # by hand, in a cell of the reader's own


def test_smoke_with_the_shipped_weights_is_refused_by_the_same_sentence_everywhere():
    check_session("smoke", {"ARTIFACTS": "my_run"})
    for refused in (
        lambda: check_session("smoke", {"ARTIFACTS": "shipped"}),
        lambda: options.Options("smoke", "shipped").resolved(),
    ):
        with pytest.raises(options.UsageError, match=r"^The smoke profile trains its own tiny models: give it"):
            refused()


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{"PROFIL": "smoke"}, {"PROFILE": "smoke"}, {}], ids=str)
def test_papermill_fails_where_the_command_line_does(tmp_path, parameters):
    cell = "from trajlib.course.profiles import settings\nsettings('01', PROFILE)"
    notebook = write_notebook(tmp_path, "01_any", cell)
    copy = str(tmp_path / "out.ipynb")
    with kernel_env(tmp_path / "results.json"):
        run = {"parameters": parameters, "progress_bar": False, "kernel_name": "python3", "execution_timeout": 200}
        if not parameters:
            pm.execute_notebook(str(notebook), copy, **run)
            return
        with pytest.raises(
            PapermillExecutionError, match=r"There is no parameter PROFIL|The smoke profile trains its own"
        ):
            pm.execute_notebook(str(notebook), copy, **run)


def test_one_thread_unless_the_environment_says_otherwise(monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    limit_threads()
    assert set_to == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads()
    assert set_to == [1]
