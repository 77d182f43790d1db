"""What a video is, and what is refused as one."""

import dataclasses

import numpy as np
import pytest
import torch

from trajlib.data.checks import check_labels, check_videos
from trajlib.data.spec import VideoSpec
from trajlib.data.video_files import to_float


def test_a_spec_gives_the_shape_and_the_centre_of_a_video():
    assert VideoSpec() == VideoSpec(frames=16, size=64, fps=8)
    assert VideoSpec(9, 32).shape == (3, 9, 32, 32)
    assert (VideoSpec(size=64).centre, VideoSpec(size=33).centre) == (31.5, 16)
    assert VideoSpec(np.int64(4), np.int32(8)) == VideoSpec(4, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        VideoSpec().size = 32


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": 0}, "frames is 0; a whole number from 1 was expected"),
        ({"frames": -4}, "frames is -4"),
        ({"frames": 16.0}, r"frames is 16\.0"),
        ({"frames": True}, "frames is True"),
        ({"size": "64"}, "size is '64'; a whole number from 1 was expected"),
        ({"size": None}, "size is None"),
        ({"fps": 0}, "fps is 0; a finite number above 0 was expected"),
        ({"fps": -8}, "fps is -8"),
        ({"fps": float("inf")}, "fps is inf"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": "8"}, "fps is '8'"),
        ({"fps": True}, "fps is True"),
    ],
)
def test_what_is_no_spec_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        VideoSpec(**changes)
    assert "\n" not in str(caught.value)


def test_videos_are_checked_against_their_spec():
    check_videos(torch.zeros(2, 3, 8, 32, 32), VideoSpec(8, 32))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 32, 32\); expected \(b, 3, 16, 64, 64\)"):
        check_videos(torch.zeros(2, 3, 8, 32, 32))


def test_bytes_become_floats():
    found = to_float(np.array([0, 51, 255], np.uint8))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize("came", [torch.zeros(2), torch.zeros(2).half(), torch.zeros(2, dtype=torch.int64), np.ones(2),
                                  torch.ones(2, dtype=torch.bool)], ids=lambda came: str(came.dtype))  # fmt: skip
def test_what_is_no_bytes_is_not_divided_by_255(came):
    with pytest.raises(
        ValueError, match=r"videos came as .*; uint8 in 0\.\.255 was expected: floats in \[0, 1\] need no"
    ):
        to_float(came)


def test_labels_of_other_classes():
    assert check_labels([0, 1], 2).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"labels run from 0 to 2; the classes are 0 \.\. 1\."):
        check_labels([0, 2], 2)
    with pytest.raises(ValueError, match=r"the classes are 0 still, 1 moving\."):
        check_labels([2], 2, ("still", "moving"))
