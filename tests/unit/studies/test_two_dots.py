"""Two dots that pass each other, tokens of their trajectories, and the verdicts of a small table."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from studies import path_models, two_dots
from studies.passing_dots import SHADES, Dots, corrupted, coverage, locate, touching
from studies.path_models import PathModel, PathTokens

from trajlib.data.clips import split
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float

N = 40


@pytest.fixture(scope="module")
def tracks():
    return [Dots("validation").tracks(i) for i in range(N)]


# ---- the clips ----


def test_one_dot_is_the_courses_clip():
    indices = [0, 1, 17]
    np.testing.assert_array_equal(Dots("test", 1).videos(indices), split("test").videos(indices))
    np.testing.assert_array_equal(Dots("test", 2).labels(indices), split("test").labels(indices))


def test_a_clip_depends_on_split_and_index_alone():
    data = Dots("validation")
    np.testing.assert_array_equal(data.videos([3, 1])[1], data.videos([1])[0])
    assert not np.array_equal(data.video(1), Dots("test").video(1))
    assert data.videos([0]).dtype == torch.uint8
    assert data.videos([0]).shape == (1, *data.spec.shape)


def test_the_class_is_the_motion_of_the_darker_dot_which_moves_as_in_the_courses_clip(tracks):
    for i, (first, other) in enumerate(tracks):
        assert first.label == i % len(FAMILIES)
        np.testing.assert_array_equal(first.path, split("validation").track(i).path)
        assert np.mean(first.params.colour) < np.mean(other.params.colour) - 0.04
        assert other.params.camera.focal == first.params.camera.focal


def test_any_two_shades_differ_in_darkness():
    """The mean of red, green and blue is value (1 - saturation k), k from 1/3 (yellow) to 2/3 (red)."""
    dark, light = (np.array(shade) for shade in SHADES)
    assert dark[1, 1] * (1 - dark[0, 0] / 3) < light[0, 1] * (1 - light[1, 0] * 2 / 3)


def test_dots_are_apart_then_touch_then_are_apart(tracks):
    touch = np.array([touching(*pair) for pair in tracks])
    assert touch.any(1).all()
    assert not touch[:, [0, -1]].any()
    assert touch.sum(1).max() <= 8


def test_the_other_dot_does_not_depend_on_the_class():
    pairs = np.array([[track.label for track in Dots("train").tracks(i)] for i in range(160)])
    counts = np.array([np.bincount(pairs[pairs[:, 0] == k, 1], minlength=4) for k in range(4)])
    assert (((counts - 10) ** 2) / 10).sum() < 30.6  # chi-square with 15 degrees of freedom, p = 0.01


def test_the_nearer_dot_covers_the_other(tracks):
    seen = set()
    for i, pair in enumerate(tracks):
        depth = np.stack([track.params.camera.project(track.path3d)[1] for track in pair])
        distance = np.linalg.norm(pair[0].path - pair[1].path, axis=1)
        for frame in np.flatnonzero(distance < pair[1].radius - 0.8)[:1]:
            nearer = int(depth[:, frame].argmin())
            x, y = np.rint(pair[nearer].path[frame]).astype(int)
            found = Dots("validation").video(i)[:, frame, y, x] / 255
            np.testing.assert_allclose(found, pair[nearer].params.colour, atol=0.01)
            seen.add(nearer)
    assert seen == {0, 1}


def test_dots_are_located_by_their_colour(tracks):
    data = Dots("validation")
    centre, area = locate(coverage(to_float(data.videos(range(N))), data.colours(range(N))))
    true = data.trajectories(range(N))
    apart = ~torch.tensor(np.array([touching(*pair) for pair in tracks]))[:, None].expand(N, 2, 16)
    assert (centre - true[..., :2]).norm(dim=-1)[apart].max() < 0.25
    np.testing.assert_allclose(area[apart], torch.pi * true[..., 2][apart] ** 2, rtol=0.2)


def test_a_dot_that_is_not_there_has_no_place():
    white, colours = torch.ones(1, 3, 2, 8, 8), torch.tensor([[[0.1, 0.2, 0.1], [0.8, 0.3, 0.3]]])
    centre, area = locate(coverage(white, colours))
    assert centre.isnan().all()
    assert not area.any()


def test_corruptions_are_as_strong_as_they_say():
    video, rng = np.full((3, 16, 32, 32), 128, np.uint8), np.random.default_rng(0)
    video[:] += np.arange(16, dtype=np.uint8)[:, None, None]
    assert corrupted(video, "none", 0.0, rng) is video
    assert np.ptp(corrupted(video, "darkness", -0.1, rng).astype(int) - video) <= 1
    noisy = corrupted(video, "noise", 0.1, rng).astype(float) - video
    assert np.std(noisy) == pytest.approx(25.5, rel=0.05)
    dropped = corrupted(video, "frame drops", 0.5, rng)[0, :, 0, 0].astype(int)
    assert dropped[0] == 128
    assert set(np.diff(dropped)) > {0}
    assert set(dropped) < set(range(128, 144))


# ---- trajectories as tokens ----


def random_paths(n=30, dots=2, frames=16):
    walk = torch.randn(n, dots, frames, 3, generator=torch.Generator().manual_seed(0)).cumsum(2)
    return walk + torch.tensor([32.0, 32.0, 3.0])


def test_dots_are_augmented_alike():
    paths = random_paths()
    torch.manual_seed(3)
    found = path_models.augment(paths, 64)
    distance = [(x[:, 0] - x[:, 1])[..., :2].norm(dim=-1) for x in (paths, found)]
    torch.testing.assert_close(*(x.sort(-1).values for x in distance))
    assert not torch.equal(paths, found)


@pytest.mark.parametrize("dots", [1, 2])
def test_tokens_of_a_dot_are_those_of_trajectory_tokens(dots):
    paths = random_paths(dots=dots)
    coding = PathTokens("coarse to fine", dots).fit(paths)
    tokens = coding.encode(paths)
    assert tokens.shape == (30, 9, 3 * dots)
    assert coding.used.sum() == 22 * dots
    for k, one in enumerate(coding.codings):
        own = coding.used[:, 3 * k : 3 * k + 3]
        assert torch.equal(tokens[:, :, 3 * k : 3 * k + 3][:, own], one.encode(paths[:, k]))


def test_frame_by_frame_each_number_is_off_by_half_a_level_at_most():
    paths = random_paths()
    coding = PathTokens("frame by frame", 2).fit(paths)
    tokens = coding.encode(paths)
    assert tokens.shape == (30, 16, 6)
    assert coding.used.all()
    error = (coding.decode(tokens) - paths).abs()
    spread = paths.std(0)  # levels reach over 8 standard deviations
    assert (error <= spread * 4 / 256 + 1e-4).all()


@pytest.fixture
def small():
    torch.manual_seed(0)
    model = PathModel(PathTokens("frame by frame", 1, frames=2, levels=3), 4, dim=16, depth=1, heads=2).eval()
    torch.nn.init.normal_(model.bias)
    return model


def test_probabilities_of_all_trajectories_sum_to_one(small):
    every = torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 2, 3)
    with torch.no_grad():
        assert (2 ** -small.bits(every, torch.ones(len(every), dtype=torch.long))).sum() == pytest.approx(1, abs=1e-4)


def test_samples_come_as_often_as_their_bits_say(small):
    n, every = 6000, torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 2, 3)
    with torch.no_grad():
        p = 2 ** -small.bits(every, torch.full((len(every),), 2))
    tokens = small.coding.encode(small.sample(torch.full((n,), 2), seed=0))
    found = torch.bincount((tokens.flatten(1) * 3 ** torch.arange(5, -1, -1)).sum(1), minlength=len(every)) / n
    assert (found - p).abs().sum() < 1.5 * ((p * (1 - p) / n).sqrt() * 0.8).sum()  # mean deviation of frequencies


def test_independent_tokens_cost_their_entropy():
    coding = PathTokens("coarse to fine", 1)
    known = torch.zeros(10_000, 9, 3, dtype=torch.long)
    known[::2] = 1  # one bit each; what never occurred counts as once
    bits = path_models.independent_bits(coding, known, known[:4])
    np.testing.assert_allclose(bits, 22, rtol=0.05)


def test_touching_trajectories_and_their_class():
    data = Dots("validation")
    paths, labels = data.trajectories(range(12)), data.labels(range(12))
    assert two_dots.touch(paths).all()
    assert two_dots.moves_as(paths[:, 0], labels, 0.02).all()
    assert not two_dots.touch(paths + torch.tensor([[0.0], [64.0]])[..., None] * torch.tensor([1.0, 0, 0])).any()


# ---- reading the table ----


def table(values):
    """{(data, method, metric): values of the seeds} -> a table with half an interval of 0.1."""
    rows = [
        dict(zip(("data", "method", "metric"), key, strict=True)) | {"seed": seed, "value": value}
        | {"low": value - 0.1, "high": value + 0.1}
        for key, found in values.items()
        for seed, value in enumerate(found)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_several_trainings_have_students_interval_and_one_that_of_its_clips():
    frame = table({("one dot", "a", "x"): [0.5, 0.6, 0.7], ("one dot", "b", "x"): [0.2, 0.2, 0.2]})
    value, low, high, n = two_dots.evaluate(frame, "one dot", {("a", "x"): 1, ("b", "x"): -1})
    assert (value, n) == (pytest.approx(0.4), 3)
    assert high - low == pytest.approx(2 * 4.3027 * 0.1 / np.sqrt(3), rel=1e-3)
    frame = frame[(frame["method"] == "a") | (frame["seed"] == 0)]
    value, low, high, n = two_dots.evaluate(frame, "one dot", {("a", "x"): 1, ("b", "x"): -1})
    assert (value, n, high - low) == (pytest.approx(0.3), 1, pytest.approx(0.2 * np.sqrt(2), rel=1e-3))


@pytest.mark.parametrize(
    ("one", "two", "below", "expected"),
    [
        ((1, 0.5, 1.5), (2, 1.5, 2.5), False, "holds"),
        ((1, 0.5, 1.5), (0, -0.5, 0.5), False, "undecided"),
        ((1, 0.5, 1.5), (-1, -2, -0.5), False, "does not hold"),
        ((1, -0.5, 1.5), (2, 1.5, 2.5), False, "not shown with one dot"),
        ((-1, -2, -0.5), (-3, -4, -2), True, "holds"),
        ((-1, -2, -0.5), (1, 0.5, 2), True, "does not hold"),
    ],
)
def test_a_verdict_follows_from_both_intervals(one, two, below, expected):
    assert two_dots.verdict(one, two, two_dots.Finding({}, below=below)) == expected
