"""Crops come back where they were, slopes of known edges, a head that begins as the identity, how a table is read."""

import numpy as np
import pandas as pd
import pytest
import torch
from studies import realism
from studies.realism import SIDE

from trajlib.course import study
from trajlib.data.clips import TrajectoryDataset
from trajlib.data.measure import track_centroid
from trajlib.data.video_files import to_float


@pytest.fixture(scope="module")
def videos():
    return TrajectoryDataset(3, seed=1).batch().videos


def disc(x, y, radius, blur=1.0, size=32):
    """A black disc on white whose edge rises evenly over `blur` pixels, (1, 3, size, size)."""
    v, u = np.mgrid[:size, :size]
    dark = np.clip((radius - np.hypot(u - x, v - y)) / blur + 0.5, 0, 1)
    return torch.from_numpy(1 - dark).float().expand(1, 3, -1, -1)


# ---- crops ----


def test_frames_and_videos_are_the_same_pixels(videos):
    frames = realism.as_frames(videos)
    assert torch.equal(frames[16 + 3], videos[1, :, 3])
    assert torch.equal(realism.as_videos(frames, 3), videos)


@pytest.mark.parametrize(("x", "y"), [(10.3, 20.6), (16.0, 12.0)])
def test_a_crop_has_the_dot_in_its_middle(x, y):
    frame = disc(x, y, 3)
    corner = realism.corners(frame)
    assert torch.equal(realism.crop(frame, corner)[0], frame[0, :, corner[0, 1] :, corner[0, 0] :][:, :SIDE, :SIDE])
    centre = track_centroid(realism.crop(frame, corner).unsqueeze(2))[0].flatten()
    assert (centre - (SIDE - 1) / 2).abs().max() <= 0.5 + 1e-3


def test_a_crop_stays_in_the_picture():
    frames = torch.cat([disc(0, 31, 3), torch.ones(1, 3, 32, 32)])
    assert realism.corners(frames).tolist() == [[0, 16], [8, 8]]  # without a dot it is the middle


def test_what_is_pasted_is_there_and_nothing_else_changes(videos):
    frames = realism.as_frames(to_float(videos))
    corner = realism.corners(frames)
    assert torch.equal(realism.paste(realism.crop(frames, corner), frames, corner), frames)
    black = torch.zeros(len(frames), 3, SIDE, SIDE, requires_grad=True)
    pasted = realism.paste(black, frames, corner)
    assert torch.equal(realism.crop(pasted, corner), black)
    outside = realism.paste(realism.crop(frames, corner), pasted.detach(), corner)
    assert torch.equal(outside, frames)
    pasted.sum().backward()
    assert (black.grad == 1).all()


def test_each_crop_of_dots_is_about_its_own_dot(videos):
    moved = videos.roll(1, -1)  # by one pixel: the crops move with it
    assert torch.equal(realism.dots(moved), realism.dots(videos))


# ---- edges ----


@pytest.mark.parametrize("width", [4, 5, 10])
def test_an_even_edge_has_its_slope(width):
    dark = ((torch.arange(32.0) - 8) / width).clamp(0, 1)
    frame = (1 - dark).expand(1, 3, 32, 32)
    inner = 1 / width  # both ends of the ramp have half of it, by central differences
    expected = ((width - 1) * inner**2 + 2 * (inner / 2) ** 2) / ((width - 1) * inner + inner)
    assert realism.edge_steepness(frame).item() == pytest.approx(expected)
    assert realism.edge_steepness(frame.mT).item() == pytest.approx(expected)


def test_a_paler_or_softer_disc_has_less_steep_edges_and_a_larger_one_as_steep_ones():
    steepness = [realism.edge_steepness(disc(15.5, 15.5, 10, blur)).item() for blur in (1, 2, 4, 8)]
    assert steepness == sorted(steepness, reverse=True)
    assert steepness[-1] == pytest.approx(1 / 8, rel=0.1)
    one, large = disc(15.5, 15.5, 7, 4), disc(15.5, 15.5, 11, 4)
    assert realism.edge_steepness(large).item() == pytest.approx(realism.edge_steepness(one).item(), rel=0.02)
    assert realism.edge_steepness(0.5 + 0.5 * one).item() == pytest.approx(realism.edge_steepness(one).item() / 2)
    assert realism.edge_steepness(torch.ones(1, 3, 8, 8)).item() == 0


# ---- the networks ----


def test_the_head_starts_as_the_identity_and_moves(videos):
    torch.manual_seed(0)
    head = realism.Head()
    assert torch.equal(realism.finished(head, videos), videos)
    crops = realism.dots(videos)
    assert torch.equal(head(crops), crops)
    (head(crops) - 0.5).square().mean().backward()
    assert head.last.bias.grad.abs().sum() > 0
    assert realism.finished(None, videos) is videos


def test_a_heads_output_is_a_picture():
    head = realism.Head()
    torch.nn.init.constant_(head.last.bias, 2.0)
    assert torch.equal(head(torch.rand(2, 3, SIDE, SIDE)), torch.ones(2, 3, SIDE, SIDE))


def test_a_head_changes_the_crop_alone(videos):
    head = realism.Head()
    torch.nn.init.constant_(head.last.bias, -1.0)  # black crops
    found = realism.as_frames(realism.finished(head, videos))
    corner = realism.corners(realism.as_frames(to_float(videos)))
    assert (realism.crop(found, corner) == 0).all()
    assert (found == 0).all(1).sum() == len(found) * SIDE**2


def test_the_classifier_gives_one_logit_a_crop():
    assert realism.new_classifier()(torch.rand(5, 3, SIDE, SIDE)).shape == (5, 1)


def test_each_variant_adds_to_its_reference():
    assert list(realism.REFERENCE) == [job["variant"] for job in realism.jobs(realism.FULL)][:7]
    assert set(realism.REFERENCE.values()) - {""} <= set(realism.REFERENCE)
    assert set(realism.ADVERSARIES) == {"GAN", "both", "GAN, penalty 10", "GAN, no penalty"}
    penalties = {name: (realism.ADVERSARY | change)["penalty"] for name, change in realism.ADVERSARIES.items()}
    assert penalties["GAN, penalty 10"] > penalties["GAN"] == penalties["both"] > penalties["GAN, no penalty"] == 0


# ---- the table and the sheet ----


def test_the_interval_covers_seeds_and_clips():
    rows = [("GAN", "PSNR (dB)", value, value - 0.3, value + 0.3) for value in (1.0, 2.0, 3.0)]
    rows += [("tokenizer", "PSNR (dB)", 5.0, 4.0, 6.0), ("GAN", "hinge loss", 2.0, np.nan, np.nan)]
    frame = pd.DataFrame(rows, columns=["variant", "metric", "value", "low", "high"])
    found = realism.over_seeds(frame)
    half = np.hypot(0.3, 4.302653 / np.sqrt(3))  # Student's t of two degrees of freedom; the standard deviation is 1
    assert found.loc["GAN", "PSNR (dB)"].tolist() == pytest.approx([2.0, 2 - half, 2 + half, 3])
    assert found.loc["tokenizer", "PSNR (dB)"].tolist() == pytest.approx([5.0, 4.0, 6.0, 1])
    assert found.loc["GAN", "hinge loss"].tolist() == [2.0, 2.0, 2.0, 1]


def test_the_shipped_sheet_shows_test_clips():
    sheet = realism.read_sheet(study.STUDIES / "realism.png")
    assert sheet.shape == (realism.FULL.shown, 1 + len(realism.SHOWN), SIDE, SIDE, 3)
    assert len(np.unique(sheet.reshape(-1, sheet.shape[1], SIDE**2 * 3), axis=0)) > 1
    clips = realism.split("test").batch(range(realism.FULL.shown)).videos
    frames = realism.as_frames(clips)[8::16].numpy()
    for crop, frame in zip(sheet[:, 0], frames, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(frame, (SIDE, SIDE), axis=(1, 2))
        assert (windows == crop.transpose(2, 0, 1)[:, None, None]).all((0, 3, 4)).any()
