"""The mask studio in Python: masks, and the steps in which what they mask is predicted. No browser here."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_widget_models import KINDS, shown, tiny_transformer

from trajlib import plots
from trajlib.data.video_files import to_float
from trajlib.generation import tasks
from trajlib.generation.sampling import decode_steps, encode_condition, generate
from trajlib.generation.tasks import TASKS
from trajlib.widgets import mask_studio
from trajlib.widgets.base import video_bytes
from trajlib.widgets.mask_studio import Decoding, MaskStudio


@pytest.fixture
def make(transformer, tokenizer, clips):
    return lambda **settings: Decoding(transformer, tokenizer, clips, **{"steps": 5} | settings)


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_mask_and_its_condition(make, tokenizer, clips, task, frames):
    decoding = make(clip=3, task=task, frames=frames)
    np.testing.assert_array_equal(decoding.observed, tasks.observed_tokens(task, (8, 4, 4), frames).numpy())
    start = encode_condition(tokenizer, to_float(clips.videos[3:4]), task, frames)["condition"][0].numpy()
    first = decoding.steps[0]
    np.testing.assert_array_equal(first.tokens, np.where(decoding.observed, start, decoding.transformer.mask_token))
    assert set(decoding.states(0)[decoding.observed]) <= {"observed"}
    assert set(decoding.states(0)[~decoding.observed]) <= {"masked"}
    assert decoding.settings["label"] == clips.labels[3], "a clip brings its class"


@pytest.mark.parametrize("settings", [{"task": "FP"}, {"task": "CFP", "guidance": 2.0, "order": "confidence"}])
def test_decoding_is_the_packages_and_ends_with_no_masked_token(make, tokenizer, clips, settings):
    decoding = make(clip=1, frames=4, seed=3, label=2, **settings)
    tokens = decoding.decode()
    start = encode_condition(tokenizer, to_float(clips.videos[1:2]), settings["task"], 4)
    steps = list(decode_steps(decoding.transformer, [2], steps=5, seed=3, **start | settings))
    assert [r.tokens.ravel().tolist() for r in decoding.steps[1:]] == [step[0].tolist() for step in steps]
    assert (tokens < tokenizer.codebook_size).all()
    assert decoding.steps[-1].unmasked.all()
    assert set(decoding.states(5).ravel()) == {"unmasked", "refined"}


def test_what_is_unmasked_stays_and_so_does_its_confidence(make):
    decoding = make(task="IPC", order="confidence", steps=7)
    decoding.decode()
    for step, (now, later) in enumerate(itertools.pairwise(decoding.steps), start=1):
        np.testing.assert_array_equal(later.prediction[now.unmasked], now.tokens[now.unmasked])
        np.testing.assert_array_equal(later.log_p[now.unmasked], now.log_p[now.unmasked])
        np.testing.assert_array_equal(decoding.fresh(step), later.unmasked & ~now.unmasked)
        assert (later.log_p <= 0).all()
    assert np.isnan(decoding.steps[0].log_p).all()
    assert sum(decoding.fresh(step).sum() for step in range(1, 8)) == 128


def test_confidence_is_the_models_probability_of_the_token(make):
    """One step with all masked: by hand."""
    decoding = make(task="CG", label=1, guidance=1.0, steps=1)
    tokens = torch.from_numpy(decoding.decode()).flatten()
    masked = torch.full((1, 128), decoding.transformer.mask_token)
    with torch.no_grad():
        log_p = decoding.transformer(masked, torch.tensor([1]))[0].log_softmax(-1)
    np.testing.assert_allclose(decoding.steps[1].log_p.ravel(), log_p[range(128), tokens].numpy(), rtol=1e-4)


def test_resampling_follows_the_steps_and_marks_what_it_changes(make, tokenizer):
    decoding = make(task="CFP", label=2, seed=6, resampling_steps=9, temperature=2.0)
    tokens = decoding.decode()
    start = encode_condition(tokenizer, decoding.video, "CFP", 4)
    theirs = generate(decoding.transformer, [2], 5, seed=6, resampling_steps=9, temperature=2.0, **start)
    np.testing.assert_array_equal(tokens, theirs[0].numpy())
    assert (decoding.last, decoding.step_name(5), decoding.step_name(7)) == (14, "step 5", "resampling step 2")
    for step in range(6, 15):
        now, before = decoding.steps[step], decoding.steps[step - 1]
        np.testing.assert_array_equal(decoding.fresh(step), now.tokens != before.tokens)
        assert (now.log_p != before.log_p).sum() <= 16, "an eighth is drawn anew"
    assert any(decoding.fresh(step).any() for step in range(6, 15))


def test_a_seed_gives_its_tokens_and_slices_do_not_matter(make):
    whole, sliced, other = make(), make(), make(seed=1)
    sliced.begin()
    while sliced.running:
        sliced.work(1)
    np.testing.assert_array_equal(whole.decode(), sliced.steps[-1].tokens)
    assert (whole.steps[-1].tokens != other.decode()).any()


def test_class_and_guidance_count_where_the_task_tells_the_class(make):
    def decoded(**settings):
        return make(steps=3, seed=5, **settings).decode().tolist()

    assert decoded(task="CG", label=0, guidance=0) == decoded(task="CG", label=2, guidance=0)
    assert decoded(task="CG", label=0, guidance=20) != decoded(task="CG", label=2, guidance=20)
    assert decoded(task="FP", label=0, guidance=20) == decoded(task="FP", label=2, guidance=3)


def test_painting_observes_and_masks_cells(make):
    decoding = make(task="IPC")
    before = decoding.observed
    decoding.paint([[3, 1, 1], [3, 1, 2]], True)
    assert [*map(tuple, np.argwhere(decoding.observed != before))] == [(3, 1, 1), (3, 1, 2)]
    decoding.paint([[3, 1, 1], [3, 1, 2]], False)
    np.testing.assert_array_equal(decoding.observed, before)
    assert decoding.painted
    decoding.fill(True)
    assert decoding.observed.all()
    decoding.fill(False)
    assert not decoding.observed.any()
    decoding.unpaint()
    assert not decoding.painted
    np.testing.assert_array_equal(decoding.observed, before)
    decoding.paint([], True)
    decoding.set(seed=4)
    assert decoding.painted, "a seed leaves the mask alone"
    decoding.set(task="IPC")
    assert not decoding.painted


def test_a_painted_condition_depends_on_the_observed_pixels_alone(transformer, tokenizer, clips):
    forged = type(clips)(clips.videos.clone(), clips.labels, clips.paths, clips.radii)
    cells = [[0, 0, 0], [4, 2, 1], [7, 3, 3]]
    found = []
    for batch in (clips, forged):
        decoding = Decoding(transformer, tokenizer, batch)
        decoding.fill(False)
        decoding.paint(cells, True)
        assert decoding.region.sum() == 3 * 2 * 16 * 16
        np.testing.assert_array_equal(decoding.region.numpy()[::2, ::16, ::16], decoding.observed)
        forged.videos[0] = torch.where(decoding.region, clips.videos[0], 7)
        found.append(decoding)
    assert not torch.equal(found[0].video, found[1].video)
    torch.testing.assert_close(found[0].condition, found[1].condition, rtol=0, atol=0)
    np.testing.assert_array_equal(found[0].steps[0].tokens, found[1].steps[0].tokens)
    assert (found[0].condition[:, :, ~found[0].region] == 1).all()


def test_observed_tokens_that_are_kept_are_kept(make):
    decoding = make(task="IPC", refine=False, steps=6)
    decoding.decode()
    start = decoding.steps[0]
    for step, now in enumerate(decoding.steps):
        np.testing.assert_array_equal(now.tokens[decoding.observed], start.tokens[decoding.observed])
        assert not decoding.fresh(step)[decoding.observed].any()
    assert set(decoding.states(6)[decoding.observed]) == {"observed"}
    np.testing.assert_array_equal(np.isnan(decoding.steps[6].log_p), decoding.observed)
    left = [int((decoding.states(step) == "masked").sum()) for step in range(7)]
    assert left[0] == 32
    assert left[6] == 0
    assert 0 < left[3] < 32, "the schedule runs over what is masked, not over what is observed too"


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda d: d.set(steps=0), "steps is 0; it can be a whole number from 1 to 32."),
        (lambda d: d.set(steps=2.5), "steps is 2.5"),
        (lambda d: d.set(steps=None), "steps is None"),
        (lambda d: d.set(temperature=0), "temperature is 0; it can be any number from 0.1"),
        (lambda d: d.set(guidance=float("nan")), "guidance is nan"),
        (lambda d: d.set(clip=8), "clip is 8; it can be a whole number from 0 to 7."),
        (lambda d: d.set(task="XX"), "task is 'XX'; it can be FP, FI"),
        (lambda d: d.set(order="random"), "order is 'random'; it can be halton, confidence."),
        (lambda d: d.set(speed=1), "'speed' is no setting; there are clip, task"),
        (lambda d: d.paint([[8, 0, 0]], True), "the grid is"),
        (lambda d: d.paint([[0, -1, 0]], True), "the grid is"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence_and_changes_nothing(make, act, sentence):
    decoding = make()
    settings, steps = decoding.settings, decoding.steps
    with pytest.raises(ValueError, match=sentence) as found:
        act(decoding)
    assert "\n" not in str(found.value)
    assert (decoding.settings, decoding.steps) == (settings, steps)


def test_a_transformer_for_other_tokens_is_refused(transformer, pair_index, clips):
    with pytest.raises(ValueError, match="another tokenizer"):
        Decoding(transformer, pair_index.tokenizer, clips)


@pytest.mark.slow
def test_every_task_is_drawn(make):
    for task in TASKS:
        figure = make(task=task, steps=2, resampling_steps=2 * (task in ("FP", "CG"))).picture()
        shown = Image.open(io.BytesIO(figure._repr_png_()[0]))
        assert shown.width == 800
        assert len(np.unique(np.asarray(shown.convert("L")))) > 20


@pytest.fixture
def studio(make):
    decoding = make(clip=2)
    decoding.decode()
    return MaskStudio(decoding)


def test_the_studio_is_made_whole(studio):
    decoding, view = studio.decoding, studio.view
    assert studio.videos["prediction"] == video_bytes(decoding.video_after(5))
    assert studio.still["truth"] == video_bytes(decoding.clips.videos[2].numpy())
    assert (view["step"], view["last"], view["more"]) == (5, 5, False)
    assert view["observed"] == decoding.observed.tolist()
    assert view["tokens"]["text"] == [[[str(k) for k in r] for r in rows] for rows in decoding.steps[5].tokens.tolist()]
    veiled = np.frombuffer(studio.still["observed"], np.uint8).reshape(16, 64, 64, 3).transpose(3, 0, 1, 2)
    region = decoding.region.numpy()
    np.testing.assert_array_equal(veiled[:, region], decoding.clips.videos[2].numpy()[:, region])
    assert (veiled[:, ~region] == mask_studio.VEIL).all()
    assert len(studio.videos["difference"]) == 16 * 64 * 64


def test_the_studio_decodes_in_slices_and_steps_through(studio):
    studio.receive({"do": "set", "name": "steps", "value": 10})
    assert (studio.view["step"], studio.view["last"]) == (0, 0)
    assert "press decode" in studio.view["status"]
    masked = np.array(studio.view["tokens"]["state"]) == "masked"
    assert (np.array(studio.view["tokens"]["text"]) == "?").tolist() == masked.tolist()
    assert np.array(studio.view["confidence"]["value"]).tolist() == np.full((8, 4, 4), -1).tolist()
    studio.receive({"do": "decode"})
    slices = 1
    while studio.view["more"]:
        assert studio.view["step"] == studio.view["last"] == 4 * slices
        studio.receive({"do": "continue"})
        slices += 1
    assert (slices, studio.view["step"], studio.error) == (3, 10, None)
    last = studio.videos["prediction"]
    studio.receive({"do": "go", "step": 1})
    assert studio.view["step"] == 1
    assert studio.videos["prediction"] != last
    assert "?" in np.array(studio.view["tokens"]["text"])
    assert np.array(studio.view["confidence"]["value"]).min() >= 0
    assert "after step 1: " in studio.view["label"]
    studio.receive({"do": "go", "step": 11})
    assert "10 are done" in studio.view["error"]


def test_a_change_while_decoding_starts_anew(studio):
    studio.receive({"do": "set", "name": "steps", "value": 20})
    studio.receive({"do": "decode"})
    assert studio.view["more"]
    studio.receive({"do": "paint", "cells": [[7, 0, 0]], "observed": True})
    studio.receive({"do": "continue"})
    assert (studio.view["last"], studio.view["more"], studio.error) == (0, False, None)


def test_the_studio_does_what_a_click_asks(studio):
    observed = np.array(studio.view["observed"])
    studio.receive({"do": "paint", "cells": [[7, 0, 0], [7, 0, 1]], "observed": True})
    assert (np.array(studio.view["observed"]) != observed).sum() == 2
    assert studio.view["painted"]
    assert "a painted mask" in studio.view["summary"]
    studio.receive({"do": "fill", "observed": False})
    assert not np.array(studio.view["observed"]).any()
    assert "nothing to compare" in studio.view["captions"]["difference"]
    assert not any(studio.videos["difference"])
    studio.receive({"do": "unpaint"})
    assert studio.view["observed"] == observed.tolist()
    assert studio.view["used"] == {"frames": True, "label": False, "guidance": False}
    studio.receive({"do": "set", "name": "task", "value": "CG"})
    assert studio.view["used"] == {"frames": False, "label": True, "guidance": True}
    for choices in studio.fixed["choices"]["refine"], studio.fixed["choices"]["order"]:
        for value, _ in choices:
            studio.receive({"do": "set", "name": "refine" if isinstance(value, bool) else "order", "value": value})
            assert studio.error is None


def test_an_error_in_the_studio_is_a_sentence_and_nothing_waits(studio, monkeypatch):
    video = studio.videos["prediction"]
    studio.receive({"do": "set", "name": "seed", "value": -1})
    assert studio.view["error"] == "seed is -1; it can be a whole number from 0 to 2147483647."
    assert studio.videos["prediction"] == video
    studio.receive({"do": "set", "name": "steps", "value": 20})
    studio.receive({"do": "decode"})
    assert studio.view["more"]
    monkeypatch.setattr(studio.decoding.transformer, "_logits", None)
    studio.receive({"do": "continue"})
    assert studio.error is not None
    assert not studio.view["more"], "else the browser would ask for ever, and the sentence be gone at once"
    assert not studio.decoding.running


def test_mask_studio_opens_with_a_decoded_clip_and_has_its_figure(transformer, tokenizer, clips):
    studio = mask_studio.mask_studio(transformer, tokenizer, clips, task="CFP", label=3, steps=2)
    assert studio.step == studio.decoding.total
    assert isinstance(studio.figure(), plots.Picture)
    assert studio.decoding.settings["label"] == 3
    tokens = generate(transformer, [3], 2, **encode_condition(tokenizer, to_float(clips.videos[:1]), "CFP", 4))
    np.testing.assert_array_equal(studio.decoding.steps[-1].tokens, tokens[0].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_tokenizer_is_decoded_and_shown(clips, kind):
    tokenizer = KINDS[kind]()
    decoding = Decoding(tiny_transformer(tokenizer), tokenizer, clips, task="IPC", steps=3, resampling_steps=2)
    decoding.paint([[0, 0, 0]], False)
    studio = MaskStudio(decoding)
    text = np.array(studio.view["tokens"]["text"])
    assert text.shape == decoding.observed.shape == (8, 4, 4)
    np.testing.assert_array_equal(text == "?", ~decoding.observed)
    studio.receive({"do": "decode"})
    while studio.view["more"]:
        studio.receive({"do": "continue"})
    assert studio.error is None
    assert decoding.steps[-1].tokens.shape == tokenizer.token_shape
    names = [
        [["·".join(map(str, np.atleast_1d(k).tolist())) for k in row] for row in rows]
        for rows in decoding.steps[-1].tokens
    ]
    assert studio.view["tokens"]["text"] == names
    assert isinstance(decoding.picture(), plots.Picture)


def test_other_sizes_and_no_classes(small_index, clips):
    transformer = tiny_transformer(small_index.tokenizer, num_classes=0)
    videos = torch.from_numpy(small_index.videos)
    clips = type(clips)(videos, torch.zeros(len(videos), dtype=torch.long), clips.paths, clips.radii)
    decoding = Decoding(transformer, small_index.tokenizer, clips, frames=3, steps=2)
    assert decoding.limits["frames"] == (1, 7, 1)
    assert decoding.decode().shape == (4, 2, 2)
    studio = MaskStudio(decoding)
    assert shown(studio, "prediction").shape == (3, 8, 32, 32)
    assert isinstance(decoding.picture(), plots.Picture)
