"""Figures are figures whatever comes, and the studio answers its sliders without a browser."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from trajlib import FAMILIES, plots, trajectories
from trajlib.damage_study import Reader
from trajlib.dataset import SEEDS, TrajectoryDataset
from trajlib.render import Damage
from trajlib.widgets import DamageStudio, Scene, Studio, TrajectoryStudio, Trial


@pytest.fixture(scope="module")
def clips():
    world = TrajectoryDataset(8, seed=31)
    return [world[i] for i in range(8)]


def test_every_figure_is_a_small_png_of_the_page(clips):
    videos, labels = np.stack([c.video for c in clips]), [c.label for c in clips]
    figures = [
        plots.film_strip(videos[:2], titles=["one", "two"]),
        plots.contact_sheet(videos, labels),
        plots.contact_sheet(videos, columns=5),
        plots.curve3d_static(clips[0]),
        plots.shapes([trajectories.shape(family) for family in FAMILIES]),
        plots.paths2d(clips[:4]),
        plots.distributions({"radius": [c.radius.mean() for c in clips]}, labels),
        plots.accuracies({"a": 0.3}, {"a": (0.2, 0.4)}, 0.25, within=(0.2, 0.3)),
        plots.studio_picture(clips[3]),
        plots.damage_picture(videos[2], {"a": np.array([0.1, 0.2, 0.3, 0.4]), "b": np.full(4, np.nan)}, 2),
        plots.decoding({"condition": videos[0], "truth": videos[1]}, {"condition": np.full((8, 4, 4), "hidden")}),
    ]
    for figure in figures:
        shown = Image.open(io.BytesIO(figure._repr_png_()))
        assert shown.width == 800
        assert len(np.unique(np.asarray(shown.convert("L")))) > 20, "an empty figure"


def test_confusions_have_the_true_family_in_rows_each_of_a_hundred():
    table = np.diag([3, 4, 0, 2])
    table[0, 2] = 1  # a line taken for a helix
    (ax,) = plots.confusions({"trees": table}).axes
    written = {tuple(int(v) for v in text.get_position()): text.get_text() for text in ax.texts}  # by (column, row)
    assert written[2, 0] == "25"
    assert written[0, 0] == "75"
    assert written[0, 2] == "0"
    assert [written[column, 2] for column in range(4)] == ["0"] * 4  # a family of which there is none
    assert ax.images[0].get_array()[0].tolist() == [75, 0, 25, 0]
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("trees", "predicted", "true family, rows in %")
    for side in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [text.get_text() for text in side] == list(FAMILIES)


def test_confusions_say_what_their_sides_are():
    (ax,) = plots.confusions({"plans": np.eye(4, dtype=int)}, "best fit", "asked family").axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("best fit", "asked family, rows in %")


def test_chance_has_a_dotted_line_that_is_named_and_none_where_there_is_no_chance():
    drawn = [plots.accuracies({"a": 0.3}, {"a": (0.2, 0.4)}, chance, xlabel="clips, %").axes[0] for chance in (0.25, 0)]
    assert [sum(line.get_linestyle() == ":" for line in ax.lines) for ax in drawn] == [1, 0]
    assert [ax.get_xlabel() for ax in drawn] == ["clips, % (dotted: chance, 25 %)", "clips, %"]


def test_a_damage_picture_has_each_readers_shares_and_marks_the_true_family(clips):
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    figure = plots.damage_picture(clips[0].video, {"one": shares, "other": np.full(4, np.nan)}, 2)
    one, other = figure.axes[1:]
    assert [bar.get_width() for bar in one.patches] == pytest.approx(100 * shares)
    assert [bar.get_edgecolor()[3] for bar in one.patches] == [0, 0, 1, 0]
    assert [text.get_text() for text in one.get_yticklabels()] == [
        "true → " * (k == 2) + name for k, name in enumerate(FAMILIES)
    ]
    assert [bar.get_width() for bar in other.patches] == [0] * 4
    assert [text.get_text() for text in other.texts] == ["finds no dot"]
    assert len(one.texts) == 0


def test_videos_may_come_in_every_shape_they_have_here(clips):
    video = clips[0].video
    as_uint8 = plots.as_pictures(video)
    as_float = plots.as_pictures(torch.from_numpy(video)[None].float().div(255).requires_grad_())
    assert as_uint8.shape == (1, 16, 64, 64, 3)
    np.testing.assert_array_equal(as_uint8, as_float)


def test_a_video_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(16, 64, 64\) came; expected \(n, 3, frames, height, width\)"):
        plots.film_strip(np.zeros((16, 64, 64)))


def test_the_figure_to_turn_is_plain_and_always_the_same(clips):
    first, second = (plots.curve3d(clips[2]).to_json() for _ in range(2))
    assert first == second
    assert "uid" not in first


def test_a_scene_makes_the_datasets_clip():
    """A scene that copies a clip's motion and nuisances shows the same path, up to where it lies in the picture."""
    clip, kept = Scene(family="circular", turns=0.8, tilt=30, path_length=25).clip()
    assert kept
    assert clip.family == "circular"
    assert clip.params.motion.turns == 0.8
    assert np.linalg.norm(np.diff(clip.path, axis=0), axis=1).sum() == pytest.approx(25, rel=0.002)
    axis = clip.params.camera.rotation @ clip.params.motion.axis
    assert np.degrees(np.arccos(abs(axis[2]))) == pytest.approx(30)


def test_a_scene_says_when_the_set_would_not_show_it_so():
    assert "keeps it out" in Scene(family="circular", tilt=85).note()
    assert "keeps it out" in Scene(family="helical", tilt=10).note()
    assert "keeps it out" not in Scene(family="linear", tilt=85).note()


def test_the_studio_answers_every_control():
    studio = TrajectoryStudio(Scene(family="helical"))
    for name, control in studio.controls.items():
        if control.disabled or name == "family":
            continue
        before = studio.image.value
        control.value = control.value + (1 if name == "seed" else getattr(control, "step", 1) * 5)
        assert studio.image.value != before, f"{name} changes nothing"
        assert studio.error is None
    before = studio.image.value
    studio.next.click()
    assert studio.image.value != before


@pytest.mark.parametrize("family", FAMILIES)
def test_every_corner_of_the_studio_makes_a_picture(family):
    studio = TrajectoryStudio(Scene(family=family))
    sliders = {name: c for name, c in studio.controls.items() if hasattr(c, "min") and name != "seed"}
    for edge in ("min", "max"):
        studio.set(**{name: getattr(control, edge) for name, control in sliders.items()})


def test_sliders_without_a_meaning_are_off():
    studio = TrajectoryStudio(Scene(family="parabolic"))
    off = {name for name, control in studio.controls.items() if control.disabled}
    assert off == {"turns", "advance"}


def weighed(seen):
    """One number for each clip or its tokens (b, ...), in which every place counts differently: (b, 1)."""
    flat = seen.double().flatten(1)
    return flat @ torch.linspace(1, 2, flat.shape[1]).double()[:, None]


class Encoder:
    """A stand-in for the tokenizer: one token a clip."""

    def encode(self, videos):
        return (1000 * weighed(videos)).long()


def shares_of(seen):
    """Probabilities (b, 4) that move with whatever is seen."""
    return torch.cat([weighed(seen) + k for k in range(4)], 1).sin().softmax(1).numpy()


@pytest.fixture
def damage_studio():
    nothing = Reader(False, lambda videos: np.full((len(videos), 4), np.nan))
    readers = {"pixels": Reader(False, shares_of), "tokens": Reader(True, shares_of), "equations": nothing}
    return DamageStudio(Trial(Encoder(), readers))


def test_the_damage_studio_has_a_slider_for_each_damage_and_answers_it(damage_studio):
    studio = damage_studio
    assert {*studio.controls} - {"family", "clip"} == {*vars(Damage())}
    clean, said = studio.image.value, studio.trial.said(studio.trial.video())
    for name in vars(Damage()):
        slider = studio.controls[name]
        slider.value = slider.max
        assert studio.image.value != clean, f"{name} changes nothing"
        assert studio.error is None
        now = studio.trial.said(studio.trial.video())
        assert all((now[reader] != said[reader]).any() for reader in ("pixels", "tokens")), name
        studio.clean.click()
        assert studio.image.value == clean
        assert studio.trial.damage == Damage()


def test_the_damage_studio_goes_to_other_clips_and_says_who_is_right(damage_studio):
    studio = damage_studio
    before = studio.image.value
    studio.next.click()
    assert studio.controls["clip"].value == 1
    assert studio.image.value != before
    for family in FAMILIES:
        studio.controls["family"].value = family
        said = studio.trial.said(studio.trial.video())
        right = [name for name, shares in said.items() if FAMILIES[np.nan_to_num(shares).argmax()] == family]
        assert studio.note.value == f"right: {', '.join(r for r in right if r != 'equations') or 'nobody'}"


def test_the_damage_studio_damages_as_the_dataset_does(damage_studio):
    damage_studio.set(family="circular", clip=3, noise=0.2, distractors=4)
    damage = Damage(noise=0.2, distractors=4)
    truth = TrajectoryDataset(4, seed=SEEDS["validation"], families=("circular",), damage=damage)[3].video
    np.testing.assert_array_equal(damage_studio.trial.video(), truth)


def test_an_error_is_shown_and_kept_and_goes_away():
    import ipywidgets as W

    studio = Studio({"x": W.IntSlider(1, min=0, max=5)}, lambda x: (f"{1 / x}".encode(), "fine"))
    studio.controls["x"].value = 0
    assert isinstance(studio.error, ZeroDivisionError)
    assert 'role="alert"' in studio.note.value
    assert studio.image.value == b"1.0"
    studio.controls["x"].value = 2
    assert (studio.error, studio.note.value, studio.image.value) == (None, "fine", b"0.5")
    with pytest.raises(ZeroDivisionError):
        studio.set(x=0)


def test_a_studio_whose_first_picture_fails_fails_its_cell():
    with pytest.raises(ZeroDivisionError):
        Studio({}, lambda: 1 / 0)
