"""The sampling study: a job changes the setting that it names, and the default is part of each sweep."""

import inspect

import numpy as np
import pandas as pd
import pytest
from studies import sampling_settings
from studies.sampling_settings import DEFAULTS, FULL, choices, sweep

from trajlib.generation import joint_sampling, sampling


def parameters(*functions):
    return {name: p.default for function in functions for name, p in inspect.signature(function).parameters.items()}


def test_the_defaults_are_the_samplers_own():
    plain = parameters(sampling.parallel_decode, sampling.decode_steps, sampling.generate)
    plain["schedule"] = next(k for k, v in sampling_settings.SCHEDULES.items() if v is plain["schedule"])
    assert {name: plain[name] for name in DEFAULTS["plain_transformer"]} == DEFAULTS["plain_transformer"]
    joint = parameters(joint_sampling.sample_trajectories, joint_sampling.decode_video)
    assert {name: joint[name] for name in DEFAULTS["transformer"]} == DEFAULTS["transformer"]


def test_a_job_changes_one_setting():
    for job in sampling_settings.jobs(FULL):
        base = choices({"model": job["model"], "parameter": "default"})
        changed = {name for name, value in choices(job).items() if value != base[name]}
        name = job["parameter"]
        expected = {name} - {"default"}
        if name in sampling_settings.WITHOUT_RESAMPLING:
            expected |= {"resampling_steps"} | ({"order"} if name == "choice_temperature" else set())
        assert changed == expected


@pytest.mark.parametrize("schedule", sampling_settings.SCHEDULES.values())
def test_schedules_mask_everything_at_first_and_nothing_at_the_end(schedule):
    values = [schedule(r) for r in np.linspace(0, 1, 11)]
    assert values == sorted(values, reverse=True)
    assert (values[0], values[-1]) == (1, pytest.approx(0, abs=1e-12))


def test_sweeps_hold_the_default_in_its_place():
    frame = pd.DataFrame(sampling_settings.jobs(FULL))
    plain = "plain_transformer"
    assert sweep(frame, "transformer", "steps")["value"].tolist() == ["1", "4", "12", "32"]
    assert sweep(frame, plain, "order")["value"].tolist() == ["halton", "confidence"]
    assert sweep(frame, plain, "choice_temperature")["value"].astype(float).tolist() == [0, 4.5, 20]
    for model, name in (("transformer", "guidance"), ("transformer", "temperature"), (plain, "guidance")):
        values = sweep(frame, model, name)["value"].astype(float).tolist()
        assert values == sorted({*FULL.grid["models"][model][name], DEFAULTS[model][name]})


def test_variety_is_zero_for_equal_paths_and_in_pixels():
    paths = np.zeros((3, 16, 2))
    assert sampling_settings.variety(paths) == 0
    assert sampling_settings.variety(paths[:1]) == 0
    paths[1] += [3, 4]
    assert sampling_settings.variety(paths) == pytest.approx(10 / 3)
