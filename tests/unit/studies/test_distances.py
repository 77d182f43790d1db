"""Distances on cases with a known answer; faults that change what they are to change; the reading of a small table."""

import re
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from studies import distances

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.evaluate.samples import track_video

FIRST = 2000


def tracked(name, strength, n=12):
    """Paths (n, t, 2) in pixels."""
    return track_video(torch.cat([videos for videos, _ in distances.batches(FIRST, n, name, strength)])).path


def test_a_dot_moves_by_so_much_in_its_direction():
    path = np.stack([3.0 * np.arange(16), np.zeros(16)], 1)[None]  # 3 px a frame to the right
    velocity, acceleration = distances.motion_histograms(path).reshape(2, 4, 8)
    assert velocity.sum(1).tolist() == [9, 12, 12, 12]  # the first frame has none before it
    assert (velocity > 0).sum(0).tolist() == [0, 0, 0, 0, 4, 0, 0, 0]
    assert acceleration.sum() == pytest.approx(3)  # it starts to move
    back = distances.motion_histograms(-path).reshape(2, 4, 8)
    assert back[0].sum(1).tolist() == [9, 12, 12, 12]
    assert not (back[0] * velocity).any()


def test_a_histogram_does_not_depend_on_where_the_dot_is():
    path = np.cumsum(np.random.default_rng(0).normal(size=(5, 16, 2)), 1)
    found = distances.motion_histograms(path)
    assert found.shape == (5, 64)
    np.testing.assert_allclose(distances.motion_histograms(path + 20), found)


def test_the_kernel_distance_compares_second_moments_without_bias():
    """For kernel (x.y / d)^2 it is the squared distance of mean outer products, over d^2."""
    rng, (_, function) = np.random.default_rng(0), distances.DISTANCES["kernel, I3D"]
    a, b = rng.normal(size=(4000, 2)), [2.0, 1.0] * rng.normal(size=(4000, 2))  # moments diag(1, 1), diag(4, 1)
    assert function(a, b) == pytest.approx(9 / 4, rel=0.1)
    small = [function(*rng.normal(size=(2, 20, 2))) for _ in range(300)]
    assert abs(np.mean(small)) < 3 * np.std(small) / np.sqrt(300)


@pytest.mark.parametrize("name", [name for name, (kind, _) in distances.FAULTS.items() if kind == "content"])
def test_faults_of_content_change_the_dot_but_not_where_it_is(name):
    strength = distances.FAULTS[name][1][0]
    assert not np.array_equal(distances.clip(FIRST, name, strength), distances.clip(FIRST, "real", 0))
    np.testing.assert_allclose(tracked(name, strength), tracked("real", 0), atol=0.1)


def test_faults_of_motion_are_as_strong_as_they_say():
    real = tracked("real", 0)
    assert np.std(tracked("jitter", 1.0) - real) == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(tracked("time reversed", 1.0), real[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(tracked("frozen", 4)[:, 11:], real[:, 11:12].repeat(5, 1), atol=1e-4)
    shuffled = tracked("shuffled frames", 4)
    assert np.abs(shuffled - real).max() > 1
    windows = (np.sort(path.reshape(-1, 4, 4, 2)[..., 0]) for path in (shuffled, real))
    np.testing.assert_allclose(*windows, atol=1e-4)  # in each window the same frames


def test_a_class_mix_shows_lines_of_the_same_look():
    videos = np.stack([distances.clip(FIRST + i, "class mix", 1.0) for i in range(4)])
    lines = split("test", families=("linear",)).videos(range(FIRST, FIRST + 4)).numpy()
    np.testing.assert_array_equal(videos, lines)
    path = track_video(to_float(torch.from_numpy(videos))).path
    straight = np.linalg.norm(path[:, -1] - path[:, 0], axis=-1) / np.linalg.norm(np.diff(path, axis=1), axis=-1).sum(1)
    assert straight.min() > 0.98


def test_more_clips_have_a_fault_if_its_share_is_larger():
    changed = [
        [not np.array_equal(distances.clip(i, "time reversed", share), distances.clip(i, "real", 0)) for i in range(40)]
        for share in (0.25, 0.5, 1.0)
    ]
    assert all(np.less_equal(*pair).all() for pair in pairwise(changed))
    assert 0 < sum(changed[0]) < sum(changed[1]) < sum(changed[2]) == 40


def table(values):
    """{(source, kind, strength): one value of every distance} -> a table; half an interval is 2."""
    names = [*distances.DISTANCES, "physics"]
    rows = [
        {"source": source, "kind": kind, "strength": strength, "distance": name, "value": value}
        | {"low": value - 2, "high": value + 2, "n": 100}
        for (source, kind, strength), value in values.items()
        for name in names
    ]
    return pd.DataFrame(rows)


def test_changes_are_measured_from_as_many_real_clips():
    frame = table({("real", "size", 100.0): 10, ("blur", "content", 1.0): 12, ("frozen", "motion", 4.0): 30})
    found = distances.compare(frame).query("distance == 'physics'").set_index("source")
    assert found["change"].to_dict() == {"blur": 1, "frozen": 10}
    assert found["noticed"].to_dict() == {"blur": False, "frozen": True}
    assert distances.motion_over_content(table({("real", "size", 100.0): 10, ("blur", "content", 1.0): 9} | {
        ("larger dot", "content", 1.3): 13, ("frozen", "motion", 4.0): 30, ("jitter", "motion", 1.0): 10,
    })).loc["physics"].to_dict() == {"ratio": 5.0, "low": pytest.approx(0, abs=1e-9), "high": 10.0}  # fmt: skip


def test_agreement_is_a_rank_correlation():
    frame = table({(name, "generator", 0.0): value for name, value in zip("abcd", (4, 1, 3, 2), strict=True)})
    assert distances.agreement(frame).tolist() == pytest.approx([1.0] * len(distances.DISTANCES))
    frame.loc[frame["distance"] == "physics", "value"] *= -1
    assert distances.agreement(frame).tolist() == pytest.approx([-1.0] * len(distances.DISTANCES))


# ---- FVD, with a stand-in for the standard file ----


class Detector(torch.nn.Module):
    """Called as the I3D of StyleGAN-V; its features are the colours of the first 132 positions, and four zeros."""

    def __init__(self, dim: int = 400):
        super().__init__()
        self.dim = dim

    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert rescale & resize & return_features
        assert x.dtype == torch.uint8
        return torch.nn.functional.pad(x.float().flatten(2)[:, :, :132].flatten(1), [0, self.dim - 396])


class Classifier(torch.nn.Module):
    def forward(self, x):
        return x


def scripted(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch prefers a newer format, in which the file is not
        torch.jit.save(torch.jit.script(module), str(path))
    return path


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return scripted(Detector(), tmp_path_factory.mktemp("detector") / "i3d_torchscript.pt")


def videos_of(n, seed, frames=10):
    return torch.rand(n, 3, frames, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_the_standard_network_receives_bytes_and_its_batches_do_not_matter(detector):
    videos = videos_of(7, 0)
    found = distances.standard_features(videos, detector)
    assert found.shape == (7, 400)
    np.testing.assert_array_equal(found[:, :132], (255 * videos).round()[:, 0].flatten(1)[:, :132])
    np.testing.assert_array_equal(distances.standard_features(videos, detector, batch=2), found)


def test_fvd_is_the_frechet_distance_of_these_features(detector):
    one, other = videos_of(30, 1), 0.5 * videos_of(40, 2)
    features = [distances.standard_features(part, detector) for part in (one, other)]
    assert distances.standard_fvd(one, other, detector) == pytest.approx(distances.frechet_distance(*features))
    assert distances.standard_fvd(one, other, detector) > 1e5
    assert distances.standard_fvd(one, one, detector) == pytest.approx(0, abs=10)  # eigenvalues of 0 come out as 1e-6


WRONG = {
    "missing": (lambda path: path, "There is no file at"),
    "a folder": (lambda path: path.mkdir() or path, "There is no file at"),
    "text": (lambda path: path.write_text("<html>") and path, "does not work as StyleGAN-V's .*not a ZIP"),
    "weights alone": (lambda path: torch.save({}, path) or path, "does not work as StyleGAN-V's"),
    "called otherwise": (lambda path: scripted(Classifier(), path), r"does not work as StyleGAN-V's .*argument"),
    "other features": (lambda path: scripted(Detector(1024), path), r"it gives \(2, 1024\) features"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_file_is_one_sentence(name, tmp_path):
    make, sentence = WRONG[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        distances.standard_features(videos_of(2, 0), make(tmp_path / "i3d.pt"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("videos", "sentence"),
    [
        (videos_of(2, 0, frames=9), "with 10 frames or more; (2, 3, 9, 6, 6) came"),
        (videos_of(2, 0).transpose(1, 2), "(n, 3, t, h, w) with 10 frames or more; (2, 10, 3, 6, 6) came"),
        (videos_of(0, 0), "(0, 3, 10, 6, 6) came"),
        (255 * videos_of(2, 0), "FVD takes videos in [0, 1]; torch.float32"),
        (videos_of(2, 0).byte(), "FVD takes videos in [0, 1]; torch.uint8"),
        (videos_of(2, 0).numpy(), "ndarray came"),
    ],
)
def test_other_videos_are_one_sentence(videos, sentence, detector):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        distances.standard_features(videos, detector)
    assert "\n" not in str(caught.value)


def test_one_video_has_no_covariance(detector):
    with pytest.raises(ValueError, match="sets of two videos or more; 1 and 2 came"):
        distances.standard_fvd(videos_of(1, 0), videos_of(2, 0), detector)
