"""The oracle finds every clip's family from its true path and radius, and noise costs accuracy gently."""

import numpy as np
import pytest

from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.data.trajectories import FAMILIES
from trajlib.evaluate import physics


@pytest.fixture(scope="module")
def tracks():
    data = TrajectoryDataset(600, seed=21)
    return [data.track(i) for i in range(len(data))]


@pytest.fixture(scope="module")
def truth(tracks):
    return [np.array([getattr(t, name) for t in tracks]) for name in ("path", "radius", "label")]


@pytest.fixture(scope="module")
def fits(truth):
    return physics.fit_families(*truth[:2])


def test_the_oracle_classifies_99_percent_of_true_paths(truth, fits):
    best = np.argmin([fit.score for fit in fits.values()], 0)
    assert (best == truth[2]).mean() >= 0.99


@pytest.mark.parametrize("family", FAMILIES)
def test_the_true_family_leaves_no_residual_and_others_do(truth, fits, family):
    own = truth[2] == FAMILIES.index(family)
    assert fits[family].residual[own].max() < 0.001
    richer = {"linear": ("helical", "parabolic"), "circular": ("helical",)}.get(family, ())  # these hold it as a case
    for other in set(FAMILIES) - {family, *richer}:
        assert fits[other].residual[own].min() > 0.02, f"{family} clips fit {other}"


def test_the_turns_are_found(tracks, truth, fits):
    for family in ("circular", "helical"):
        own = truth[2] == FAMILIES.index(family)
        turns = np.array([t.params.motion.turns for t in tracks])[own]
        np.testing.assert_allclose(fits[family].turns[own], turns, atol=0.002)


def test_the_fitted_radius_is_the_apparent_radius(truth, fits):
    for label, family in enumerate(FAMILIES):
        own = truth[2] == label
        np.testing.assert_allclose(fits[family].radius[own], truth[1][own], atol=0.01)


@pytest.mark.parametrize(("noise", "least"), [(0.05, 0.98), (0.2, 0.95), (1.0, 0.5)])
def test_noise_costs_accuracy_gently(truth, noise, least):
    path, radius, label = (values[:400] for values in truth)
    rng = np.random.default_rng(0)
    path, radius = path + noise * rng.normal(size=path.shape), radius + noise * rng.normal(size=radius.shape)
    assert (physics.best_family(path, np.maximum(radius, 0.3), noise=noise) == label).mean() >= least


def test_one_clip_is_a_batch_of_one(truth):
    path, radius, label = (a[5] for a in truth)
    assert physics.best_family(path, radius).tolist() == [label]


PATH, RADIUS = np.zeros((2, 16, 2)), np.ones((2, 16))


@pytest.mark.parametrize(
    ("path", "radius", "message"),
    [
        (PATH, RADIUS[:, :8], r"radius came as ndarray float64 \(2, 8\); expected numbers of shape \(2, 16\)"),
        (PATH[:, :4], RADIUS[:, :4], "4 frames came"),
        (PATH * np.nan, RADIUS, "NaN"),
        (PATH, 0 * RADIUS, "not positive"),
    ],
)
def test_bad_input_gets_one_sentence(path, radius, message):
    with pytest.raises(ValueError, match=message):
        physics.best_family(path, radius)


def test_a_dot_that_stands_still_is_no_error():
    assert physics.best_family(PATH + 20, RADIUS * 3).tolist() == [0, 0]  # the line of speed zero


def test_pictures_of_another_size(tracks):
    """A path in a picture of 32 pixels has the equation that the same path has in one of 64."""
    spec = VideoSpec(size=32)
    path = np.stack([t.path for t in tracks[:8]]) / 2
    path, radius = path + spec.centre - path.mean((0, 1)), np.stack([t.radius for t in tracks[:8]])
    small, large = (physics.fit_families(p, radius, spec=s) for p, s in ((path, spec), (path + 16, VideoSpec())))
    for family in FAMILIES:
        np.testing.assert_allclose(small[family].equation, large[family].equation, atol=1e-6)
        np.testing.assert_allclose(small[family].path, large[family].path - 16, atol=1e-6)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf"), "0.2", None, True])
def test_noise_is_a_number_from_0(noise):
    with pytest.raises(ValueError, match=r"^noise is .*; a finite number from 0 was expected\.$"):
        physics.fit_family("linear", PATH, RADIUS, noise)


@pytest.mark.parametrize("family", ["spiral", "Linear", "", None, 0, ["linear"]])
def test_another_family_is_refused_with_the_names_there_are(family):
    for fit in (lambda: physics.fit_family(family, PATH, RADIUS), lambda: physics.basis(family, np.linspace(0, 1, 8))):
        with pytest.raises(ValueError, match=r"^family is .*; it must be one of linear, .*, parabolic\.$"):
            fit()
