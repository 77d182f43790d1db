"""The path studio in Python: trajectories, and the clips that are decoded along them. No browser here."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from trajlib import plots
from trajlib.data.render import render
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float
from trajlib.generation.joint import JointTransformer
from trajlib.generation.joint_sampling import decode_video, sample_trajectories
from trajlib.widgets import path_studio
from trajlib.widgets.base import video_bytes
from trajlib.widgets.path_studio import DrawnTrajectory, PathStudio


@pytest.fixture(scope="module")
def draw(tokenizer):
    torch.manual_seed(0)
    transformer = JointTransformer(
        tokenizer.codebook_size, tokenizer.grid, tokenizer.levels, dim=16, depth=1, heads=2
    ).eval()
    return lambda **settings: DrawnTrajectory(tokenizer, transformer, **settings)


@pytest.fixture
def paths(draw):
    return PathStudio(draw())


def test_the_trajectory_goes_along_the_stroke_in_equal_steps_however_fast_it_was_drawn(draw):
    corner = np.linspace(0, 1, 50)[:, None] ** 3 * [0, 30] + [40, 10]
    trajectory = draw(points=[[10, 10], [11, 10], [11, 10], *corner], radius=3).trajectory()
    gone = 4 * np.arange(16)
    np.testing.assert_allclose(
        trajectory, np.stack([(10 + gone).clip(max=40), 10 + (gone - 30).clip(0), 3 + 0 * gone], 1)
    )


@pytest.mark.parametrize("radius", [2.2, 3.6])
def test_the_whole_dot_stays_in_the_picture(draw, radius):
    trajectory = draw(points=[[-50, 30], [70, 80], [90, -9]], radius=radius).trajectory()
    video = render(trajectory[:, :2], trajectory[:, 2], (0, 0, 0))
    edges = np.concatenate([video[..., 0], video[..., -1], video[..., 0, :], video[..., -1, :]])
    assert edges.min() > 120, "half a pixel of background is kept round it"
    assert np.ptp(trajectory[:, 0]) == pytest.approx(63 - 2 * radius)
    assert np.ptp(np.linalg.norm(np.diff(trajectory[:6, :2], axis=0), axis=1)) < 1e-9


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"points": [[9, 9], [10, 9]]}, "The path is 1.0 px long, too short for a dot to follow: hold"),
        ({"points": [[9, 9]]}, "The path is 0.0 px long"),
        ({"points": [[-40, 70], [-20, 99]]}, "The path is 0.0 px long"),
        ({"points": []}, "points came as"),
        ({"points": [[0, 0], [30, np.nan]]}, "points came as .* all finite"),
        ({"radius": 5}, "radius is 5; it can be any number from 2.2 to 3.6."),
        ({"seed": 0.5}, "seed is 0.5; it can be a whole number from 0"),
        ({"family": "square"}, "family is 'square'; it can be linear, circular"),
    ],
)
def test_a_drawing_that_makes_no_sense_is_refused_in_a_sentence(draw, settings, sentence):
    with pytest.raises(ValueError, match=sentence) as found:
        draw(**settings).decode()
    assert "\n" not in str(found.value)


def test_a_transformer_for_other_tokens_is_refused(tokenizer):
    other = JointTransformer(9, tokenizer.grid, (3, 3), dim=16, depth=1, heads=2)
    with pytest.raises(ValueError, match="another tokenizer"):
        DrawnTrajectory(tokenizer, other)


def test_what_is_decoded_is_the_packages_and_depends_on_the_seed(draw, tokenizer):
    one = draw(seed=3)
    tokens = decode_video(one.transformer, torch.from_numpy(one.trajectory()[None]).float(), seed=3)
    np.testing.assert_array_equal(one.decode().tokens, tokens[0].numpy())
    np.testing.assert_array_equal(draw(seed=3).decode().tokens, one.followed.tokens)
    np.testing.assert_array_equal(one.followed.video, tokenizer.decode(tokens)[0].mul(255).round().byte())
    assert (draw(seed=4).decode().tokens != one.followed.tokens).any()


def test_a_sampled_trajectory_is_the_models(draw):
    drawing = draw(family="helical", seed=2)
    sampled = sample_trajectories(drawing.transformer, [2], seed=2)[0]
    np.testing.assert_array_equal(drawing.trajectory(), sampled.numpy())
    assert (draw(family="helical", seed=3).trajectory() != drawing.trajectory()).any()


def test_it_is_measured_how_far_the_dot_is_from_the_trajectory(draw, tokenizer, monkeypatch):
    """A video with the dot a pixel below the trajectory; frame 3 is empty, in frame 5 there is a speck."""
    drawing = draw(radius=3)
    x, y, radius = drawing.trajectory().T
    radius[5] = 0.7
    video = to_float(torch.from_numpy(render(np.stack([x, y + 1], 1), radius, (0, 0, 0))))
    video[:, 3] = 1
    monkeypatch.setattr(tokenizer, "decode", lambda tokens: video[None])
    followed = drawing.decode()
    assert np.flatnonzero(np.isnan(followed.errors)).tolist() == [3, 5]
    np.testing.assert_allclose(np.delete(followed.errors, [3, 5]), 1, atol=0.05)
    assert followed.summary() == "The dot is 1.0 px from the trajectory on average; 14 of 16 frames have a dot."
    video[:] = 1
    assert drawing.decode().summary() == "No frame of 16 has a dot."
    studio = PathStudio(drawing)
    assert studio.view["measured"] == [None] * 16
    json.dumps(studio.view, allow_nan=False)
    assert isinstance(drawing.picture(), plots.Picture)


@pytest.mark.slow
def test_the_path_studio_does_what_a_click_asks(paths, draw):
    assert paths.videos["video"] == video_bytes(draw().decode().video)
    stroke = [[10, 50], [30, 12], [50, 50]]
    paths.receive({"do": "set", "name": "radius", "value": 3})
    paths.receive({"do": "draw", "points": stroke})
    twin = draw(points=stroke, radius=3)
    assert paths.view["trajectory"] == twin.trajectory().round(2).tolist()
    assert paths.videos["video"] == video_bytes(twin.decode().video)
    assert (paths.view["stroke"], paths.view["used"]["radius"]) == (stroke, True)
    for family in FAMILIES:
        paths.receive({"do": "sample", "family": family})
        assert paths.error is None
        assert paths.videos["video"] == video_bytes(draw(family=family, radius=3).decode().video)
        assert (paths.view["stroke"], paths.view["used"]["radius"]) == (None, False)
        assert f"the sampled {family} trajectory" in paths.view["label"]
    paths.receive({"do": "set", "name": "seed", "value": 5})
    assert paths.view["trajectory"] == draw(family=FAMILIES[-1], seed=5).trajectory().round(2).tolist()
    paths.receive({"do": "draw", "points": stroke})
    assert paths.view["settings"] == {"radius": 3, "seed": 5, "family": None}


def test_an_error_leaves_the_last_good_path(paths, monkeypatch):
    video, trajectory, seed = paths.videos["video"], paths.view["trajectory"], paths.view["settings"]["seed"]
    for message in ({"do": "draw", "points": [[5, 5], [6, 6]]}, {"do": "set", "name": "radius", "value": None}):
        paths.receive(message)
        assert paths.view["error"] == str(paths.error) != ""
        assert (paths.videos["video"], paths.view["trajectory"]) == (video, trajectory)
    monkeypatch.setattr(paths.drawn.transformer, "video_logits", None)
    paths.receive({"do": "draw", "points": [[5, 5], [60, 6]]})
    assert paths.error is not None
    monkeypatch.undo()
    paths.receive({"do": "set", "name": "seed", "value": seed})
    assert (paths.view["error"], paths.videos["video"], paths.view["trajectory"]) == ("", video, trajectory)


def test_path_studio_has_its_figure(draw):
    theirs = draw()
    studio = path_studio.path_studio(theirs.tokenizer, theirs.transformer, seed=2)
    drawn = np.asarray(Image.open(io.BytesIO(studio.figure()._repr_png_()[0])).convert("L"))
    assert drawn.shape[1] == 800
    assert len(np.unique(drawn)) > 20
    assert studio.drawn.seed == 2
    assert tuple(studio.fixed["families"]) == FAMILIES
