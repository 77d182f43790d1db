"""Equations of motion: a fit on the truth finds the true ones, and the parameters mean what their names say."""

import numpy as np
import pytest
from studies import equations

from trajlib.data.clips import TrajectoryDataset
from trajlib.data.trajectories import FAMILIES
from trajlib.evaluate import physics


@pytest.fixture(scope="module")
def families():
    """{family: 60 tracks}."""
    return {f: [TrajectoryDataset(60, 31, (f,)).track(i) for i in range(60)] for f in FAMILIES}


def path_and_radius(tracks):
    return [np.stack([getattr(t, name) for t in tracks]) for name in ("path", "radius")]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_on_the_truth_finds_the_true_equation(families, family):
    tracks = families[family]
    fit = physics.fit_family(family, *path_and_radius(tracks))
    truth = np.stack([equations.true_equation(t) for t in tracks])
    np.testing.assert_allclose(fit.equation, truth, atol=0.05)  # radii of the dot; the search for turns ends somewhere
    found, true = equations.fitted_parameters(fit), equations.true_parameters(tracks)
    assert found.keys() == true.keys() <= equations.PARAMETERS.keys()
    for name, values in true.items():
        assert equations.score(name, found[name], values, values).mean() > 0.99, name


def test_every_parameter_is_one_of_some_family(families):
    assert set().union(*(equations.true_parameters(t) for t in families.values())) == set(equations.PARAMETERS)


def test_the_parameters_are_those_of_the_motions(families):
    for family in ("circular", "helical"):
        motions = [t.params.motion for t in families[family]]
        found = equations.true_parameters(families[family])
        assert found["turns"].tolist() == [m.turns for m in motions]
        scale = [(t.radius / t.params.dot_radius).mean() for t in families[family]]  # pixels a unit
        np.testing.assert_allclose(found["radius"], np.multiply(scale, [m.radius for m in motions]))
    assert equations.true_parameters(families["helical"])["handedness"].tolist() == [np.sign(m.pitch) for m in motions]
    for track, angle in zip(families["parabolic"], gravity_direction(families["parabolic"]), strict=True):
        bend = np.diff(track.path3d @ track.params.camera.rotation.T, 2, axis=0)[0, :2]
        assert abs(np.degrees(np.arctan2(*bend[::-1])) - angle) < 1e-6


def gravity_direction(tracks):
    return equations.true_parameters(tracks)["gravity, direction"]


@pytest.mark.parametrize(("clockwise", "sense"), [(True, 1), (False, -1)])
def test_the_sense_is_what_one_sees(clockwise, sense):
    a = 2 * np.pi * 0.9 * np.linspace(0, 1, 16) * (1 if clockwise else -1)  # v runs down: angles grow clockwise
    path = np.stack([31.5 + 9 * np.cos(a), 31.5 + 6 * np.sin(a)], -1)
    fit = physics.fit_family("circular", path, np.full(16, 3.0))
    found = equations.fitted_parameters(fit)
    assert found["sense"].tolist() == [sense]
    assert found["radius"][0] == pytest.approx(9, abs=0.01)  # the longer half axis
    assert found["turns"][0] == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pale_dot_that_measures_smaller_changes_nothing(families, family):
    path, radius = path_and_radius(families[family])
    black, pale = (equations.fitted_parameters(physics.fit_family(family, path, part * radius)) for part in (1, 0.7))
    for name, values in black.items():
        assert equations.score(name, pale[name], values, values).mean() > 0.999, name


def test_a_mirror_changes_the_handedness(families):
    path, radius = path_and_radius(families["helical"])
    handedness, mirrored = (
        equations.fitted_parameters(physics.fit_family("helical", p, radius))["handedness"]
        for p in (path, [63, 0] + [-1, 1] * path)
    )
    np.testing.assert_array_equal(mirrored, -handedness)


def test_a_dot_that_stands_still_is_no_error():
    for family in FAMILIES:
        equations.fitted_parameters(physics.fit_family(family, np.full((2, 16, 2), 20.0), np.full((2, 16), 3.0)))


def test_scores_are_1_for_the_truth_and_0_for_guessing():
    truth = 0.36 * np.arange(1000) - 179.82
    for name, kind in equations.PARAMETERS.items():
        values = np.sign(truth) if kind == "sign" else truth
        floor = np.full(1000, {"sign": 1.0, "angle": 20.0, "number": truth.mean()}[kind])
        assert equations.score(name, values, values, values).mean() == 1
        assert equations.score(name, floor, values, values).mean() == pytest.approx(0, abs=0.01)


def test_what_is_no_number_counts_as_a_guess():
    truth, bad = np.array([-1.0, 0, 1]), np.full(3, np.nan)
    assert equations.score("turns", bad, truth, truth).mean() == pytest.approx(0)
    assert equations.score("heading", bad, truth, truth).tolist() == [0, 0, 0]
    assert equations.score("handedness", bad, truth, truth).tolist() == [0, 0, 0]
    assert equations.score("turns", np.array([np.inf, 0, -np.inf]), truth, truth).tolist() == [
        pytest.approx(1 - 4 / (2 / 3)), 1, pytest.approx(1 - 4 / (2 / 3)),
    ]  # fmt: skip


def test_angles_go_round():
    assert equations.angle_error(np.array([179.0, -90]), np.array([-179.0, 90])).tolist() == [2, 180]
