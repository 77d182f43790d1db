"""The shared figures, and the studios of sliders, which answer without a browser."""

import io
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from trajlib import plots
from trajlib.data.clips import SPLIT_SEEDS, TrajectoryDataset, VideoSpec
from trajlib.data.render import Corruption
from trajlib.data.trajectories import FAMILIES
from trajlib.widgets import base
from trajlib.widgets.base import SliderStudio, video_bytes
from trajlib.widgets.corruption_studio import CorruptionStudio, CorruptionView, corruption_picture
from trajlib.widgets.trajectory_studio import TrajectoryStudio, TrajectoryView, draw_path, overview


@pytest.fixture(scope="module")
def eight_clips():
    dataset = TrajectoryDataset(8, seed=31)
    return [dataset[i] for i in range(8)]


@pytest.mark.slow
def test_every_figure_is_a_small_png_of_the_page(eight_clips):
    videos, labels = np.stack([c.video for c in eight_clips]), [c.label for c in eight_clips]
    figures = [
        plots.film_strip(videos[:2], titles=["one", "two"]),
        plots.contact_sheet(videos, labels),
        plots.contact_sheet(videos, columns=5),
        plots.accuracies({"a": 0.3}, {"a": (0.2, 0.4)}, 0.25, within=(0.2, 0.3)),
        overview(eight_clips[3]),
        corruption_picture(videos[2], {"a": np.array([0.1, 0.2, 0.3, 0.4]), "b": np.full(4, np.nan)}, 2),
        plots.decoding_steps({"condition": videos[0], "truth": videos[1]}, {"condition": np.full((8, 4, 4), "masked")}),
    ]
    for figure in figures:
        shown = Image.open(io.BytesIO(figure._repr_png_()[0]))
        assert shown.width in (510, 800)
        assert len(np.unique(np.asarray(shown.convert("L")))) > 20, "an empty figure"


def test_chance_has_a_dotted_line_that_is_named_and_none_where_there_is_no_chance():
    drawn = [plots.accuracies({"a": 0.3}, {"a": (0.2, 0.4)}, chance, xlabel="clips, %").axes[0] for chance in (0.25, 0)]
    assert [sum(line.get_linestyle() == ":" for line in ax.lines) for ax in drawn] == [1, 0]
    assert [ax.get_xlabel() for ax in drawn] == ["clips, % (dotted: chance, 25 %)", "clips, %"]


def test_a_corruption_picture_has_each_readers_probabilities_and_marks_the_true_class(eight_clips):
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    figure = corruption_picture(eight_clips[0].video, {"one": shares, "other": np.full(4, np.nan)}, 2)
    one, other = figure.axes[1:]
    assert [bar.get_width() for bar in one.patches] == pytest.approx(100 * shares)
    assert [bar.get_edgecolor()[3] for bar in one.patches] == [0, 0, 1, 0]
    assert [text.get_text() for text in one.get_yticklabels()] == [
        "true → " * (k == 2) + name for k, name in enumerate(FAMILIES)
    ]
    assert [bar.get_width() for bar in other.patches] == [0] * 4
    assert [text.get_text() for text in other.texts] == ["finds no dot"]
    assert len(one.texts) == 0


@pytest.mark.parametrize("compact", [True, False])
def test_tick_labels_of_neighbouring_panels_stay_apart(eight_clips, compact):
    names = ("3D CNN (pixels)", "I3D (pixels)", "token classifier", "fitted equations")
    fig = corruption_picture(eight_clips[0].video, {name: np.full(4, 0.25) for name in names}, 2, compact)
    fig.canvas.draw()
    boxes = [label.get_window_extent() for ax in fig.axes[1:] for label in ax.get_xticklabels()]
    assert len(boxes) == 12
    assert all(right.x0 - left.x1 >= 5 for left, right in pairwise(boxes))  # pixels


def test_videos_may_come_in_every_shape_they_have_here(eight_clips):
    video = eight_clips[0].video
    as_uint8 = plots.as_pictures(video)
    as_float = plots.as_pictures(torch.from_numpy(video)[None].float().div(255).requires_grad_())
    assert as_uint8.shape == (1, 16, 64, 64, 3)
    np.testing.assert_array_equal(as_uint8, as_float)


def test_a_video_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(16, 64, 64\) came; expected \(n, 3, frames, height, width\)"):
        plots.film_strip(np.zeros((16, 64, 64)))


def test_a_path_is_drawn_at_its_size(eight_clips):
    _, ax = plots.figure()
    draw_path(ax, eight_clips[1])
    np.testing.assert_array_equal([circle.center for circle in ax.patches], eight_clips[1].path)
    assert [circle.radius for circle in ax.patches] == eight_clips[1].radius.tolist()
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 63.5), (63.5, -0.5))


def test_a_view_makes_the_datasets_clip():
    """A view that copies a clip's motion and nuisances shows the same path, up to where it lies in the picture."""
    clip, kept = TrajectoryView(family="circular", turns=0.8, tilt=30, path_length=25).clip()
    assert kept
    assert clip.family == "circular"
    assert clip.params.motion.turns == 0.8
    assert np.linalg.norm(np.diff(clip.path, axis=0), axis=1).sum() == pytest.approx(25, rel=0.002)
    axis = clip.params.camera.rotation @ clip.params.motion.axis
    assert np.degrees(np.arccos(abs(axis[2]))) == pytest.approx(30)


def test_a_view_says_when_the_dataset_leaves_it_out():
    for family, tilt, left_out in (("circular", 85, True), ("helical", 10, True), ("linear", 85, False)):
        view = TrajectoryView(family=family, tilt=tilt)
        assert ("leaves it out" in view.note(*view.clip())) == left_out


def moved(studio, name):
    """Another value that the control can have."""
    _, _, kind = next(rest for key, *rest in studio.fixed["controls"] if key == name)
    if isinstance(kind[0], str):
        return studio.values[name] + 1 if kind[0] == "number" else next(k for k in kind if k != studio.values[name])
    low, high, step = kind
    return studio.values[name] + 5 * step if studio.values[name] + 5 * step <= high else low


@pytest.mark.slow
def test_the_studio_answers_every_control():
    studio = TrajectoryStudio(TrajectoryView(family="helical"))
    for name in studio.values:
        if name in studio.view["off"] or name == "family":
            continue
        before = studio.picture
        studio.receive({"do": "set", "name": name, "value": moved(studio, name)})
        assert studio.picture != before, f"{name} changes nothing"
        assert studio.error is None
    before = studio.picture
    studio.receive({"do": "next"})
    assert studio.picture != before


@pytest.mark.parametrize("family", FAMILIES)
def test_every_corner_of_the_studio_makes_a_picture(family):
    studio = TrajectoryStudio(TrajectoryView(family=family))
    sliders = {name: kind for name, *_, kind in studio.fixed["controls"] if not isinstance(kind[0], str)}
    for edge in (0, 1):
        studio.set(**{name: kind[edge] for name, kind in sliders.items()})


def test_sliders_without_a_meaning_are_off():
    assert set(TrajectoryStudio(TrajectoryView(family="parabolic")).view["off"]) == {"turns", "advance"}


def weighed(x):
    """One number for each clip or its tokens (b, ...), in which every position counts differently: (b, 1)."""
    flat = x.double().flatten(1)
    return flat @ torch.linspace(1, 2, flat.shape[1]).double()[:, None]


class Encoder:
    """A stand-in for the tokenizer: one token a clip."""

    spec = VideoSpec()

    def encode(self, videos):
        return (1000 * weighed(videos)).long()


def probabilities_of(x):
    """Probabilities (b, 4) that depend on every part of x."""
    return torch.cat([weighed(x) + k for k in range(4)], 1).sin().softmax(1).numpy()


class Reader(NamedTuple):
    """A stand-in for a classifier."""

    tokens: bool
    scores: Callable


@pytest.fixture
def corruption_studio():
    nothing = Reader(False, lambda videos: np.full((len(videos), 4), np.nan))
    readers = {
        "pixels": Reader(False, probabilities_of),
        "tokens": Reader(True, probabilities_of),
        "equations": nothing,
    }
    return CorruptionStudio(CorruptionView(Encoder(), readers))


@pytest.mark.slow
def test_the_corruption_studio_has_a_slider_for_each_corruption_and_answers_it(corruption_studio):
    studio = corruption_studio
    assert {*studio.values} - {"family", "clip"} == {*vars(Corruption())}
    clean, found = studio.picture, studio.settings.probabilities(studio.settings.video())
    highest = {name: kind[1] for name, *_, kind in studio.fixed["controls"]}
    for name in vars(Corruption()):
        studio.receive({"do": "set", "name": name, "value": highest[name]})
        assert studio.picture != clean, f"{name} changes nothing"
        assert studio.error is None
        now = studio.settings.probabilities(studio.settings.video())
        assert all((now[reader] != found[reader]).any() for reader in ("pixels", "tokens")), name
        studio.receive({"do": "clean"})
        assert studio.picture == clean
        assert studio.settings.corruption == Corruption()


@pytest.mark.slow
def test_the_corruption_studio_goes_to_other_clips_and_says_who_is_correct(corruption_studio):
    studio = corruption_studio
    before = studio.picture
    studio.receive({"do": "next"})
    assert studio.view["values"]["clip"] == 1
    assert studio.picture != before
    for family in FAMILIES:
        studio.set(family=family)
        found = studio.settings.probabilities(studio.settings.video())
        correct = [name for name in ("pixels", "tokens") if FAMILIES[found[name].argmax()] == family]
        assert studio.view["note"].startswith(f"correct: {', '.join(correct) or 'none'}; ")
        assert studio.view["note"].endswith("finds no dot: equations")


def test_the_corruption_studio_corrupts_as_the_dataset_does(corruption_studio):
    corruption_studio.set(family="circular", clip=3, noise=0.2, distractors=4)
    corruption = Corruption(noise=0.2, distractors=4)
    truth = TrajectoryDataset(4, seed=SPLIT_SEEDS["validation"], families=("circular",), corruption=corruption)[3].video
    np.testing.assert_array_equal(corruption_studio.settings.video(), truth)


class Inverse(SliderStudio):
    """A studio that fails at zero."""

    def __init__(self, x=1):
        super().__init__("inverse", {"x": (x, "a number", "what is inverted", (0, 5, 1))}, {}, [], 1, 1)

    def draw(self, values):
        1 / values["x"]
        return plots.figure()[0], f"x is {values['x']}", [], {}, {}


def test_an_error_is_shown_and_kept_and_goes_away():
    studio = Inverse()
    picture = studio.picture
    studio.receive({"do": "set", "name": "x", "value": 0})
    assert isinstance(studio.error, ZeroDivisionError)
    assert studio.view["error"] == "division by zero"
    assert (studio.picture, studio.values) == (picture, {"x": 1})
    studio.receive({"do": "set", "name": "x", "value": 2})
    assert (studio.error, studio.view["note"]) == (None, "x is 2")
    with pytest.raises(ZeroDivisionError):
        studio.set(x=0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"x": 9}, "x is 9; it can be a whole number from 0 to 5"),
        ({"x": None}, "x is None; it can be"),
        ({"y": 1}, "y: no such control; there are x"),
    ],
)
def test_a_value_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Inverse().set(**values)


def test_a_studio_whose_first_picture_fails_fails_its_cell():
    with pytest.raises(ZeroDivisionError):
        Inverse(0)


def test_the_trajectory_studio_plays_the_clip_of_its_sliders():
    studio = TrajectoryStudio()
    studio.set(family="linear", dot_radius=0.5)
    assert studio.videos["video"] == video_bytes(studio.settings.clip()[0].video)


def test_every_control_has_a_tooltip_and_a_picture_no_wider_than_its_place():
    studio = TrajectoryStudio()
    assert all(hint not in ("", label) for _, label, hint, _ in studio.fixed["controls"])
    assert Image.open(io.BytesIO(studio.picture)).width <= 520, "the width that slider_studio.js gives it"


def test_a_studio_leaves_its_figure_for_a_notebook_that_is_opened_again(monkeypatch):
    outputs = []
    monkeypatch.setattr(base, "display", lambda data, **more: outputs.append(data))
    TrajectoryStudio()._ipython_display_()
    figure, widget = outputs
    assert figure["image/png"] in figure["text/html"]
    assert 'alt="path in the picture, px' in figure["text/html"]
    assert "Run All Above" in figure["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in widget


def test_a_studio_without_a_figure_leaves_a_sentence(monkeypatch, corruption_studio):
    outputs = []
    monkeypatch.setattr(base, "display", lambda data, **more: outputs.append(data))
    corruption_studio._ipython_display_()
    assert set(outputs[0]) == {"text/plain", "text/html"}
    assert "Run All Above" in outputs[0]["text/plain"]


def test_a_view_of_other_sizes():
    view = TrajectoryView(family="circular", path_length=17, dot_radius=0.34, spec=VideoSpec(frames=8, size=32))
    assert view.clip()[0].video.shape == (3, 8, 32, 32)
    assert TrajectoryStudio(view).fixed["size"] == 32
