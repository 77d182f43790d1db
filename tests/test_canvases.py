"""The explorer's canvases in Python: every message a browser can send, and what is sent back. No browser here."""

import io
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from trajlib import FAMILIES, plots, tasks, widgets
from trajlib.codes import Codec, Corpus, Surgery
from trajlib.config import TINY_LAYERS
from trajlib.dataset import TrajectoryDataset, to_float
from trajlib.planner import Planner, Writer, draw_plans
from trajlib.render import render
from trajlib.sampling import commit_start, decode_steps, generate
from trajlib.tasks import TASKS
from trajlib.tokenizer import Tokenizer
from trajlib.transformer import MaskedTransformer
from trajlib.widgets import (
    CodeMap,
    Decoding,
    Drawing,
    FilmPlayer,
    MaskStudio,
    MorphStudio,
    PathStudio,
    TokenExplorer,
    TrajectoryStudio,
    code_tints,
    film_bytes,
)


@pytest.fixture(scope="module")
def corpus():
    torch.manual_seed(0)
    tokenizer = Tokenizer(levels=(4, 3), dim=8, layers=TINY_LAYERS).eval()
    return Corpus(Codec(tokenizer), TrajectoryDataset(8, seed=43).batch())


@pytest.fixture
def explorer(corpus):
    return TokenExplorer(corpus, 2, (3, 1, 2))


def painted(explorer):
    """The film that the browser has, as (3, 16, 64, 64)."""
    return np.frombuffer(explorer.films["film"], np.uint8).reshape(16, 64, 64, 3).transpose(3, 0, 1, 2)


def test_explorer_is_made_whole(explorer, corpus):
    """What the constructor sends is enough for the first picture: messages that come later may be lost."""
    assert explorer.still["clip"] == film_bytes(corpus.films[2])
    np.testing.assert_array_equal(painted(explorer), corpus.codec.decode(corpus.words[2:3])[0])
    assert explorer.view["selected"] == [3, 1, 2]
    assert explorer.view["text"] == [[[str(w) for w in row] for row in rows] for rows in corpus.words[2].tolist()]
    items = sum(len(row["items"]) for row in explorer.view["galleries"])
    assert len(explorer.patches) == items * 2 * 16 * 16 * 3 > 0
    assert len(explorer.films["change"]) == len(explorer.films["error"]) == 16 * 64 * 64


MESSAGES = [
    ({"do": "replace", "word": 7}, lambda s: s.replace(7)),
    ({"do": "put", "code": "11"}, lambda s: s.replace(11)),
    ({"do": "step", "digit": 1, "by": 1}, lambda s: s.step(1)),
    ({"do": "take", "clip": 5}, lambda s: s.take(5)),
    ({"do": "take_frame", "clip": 5}, lambda s: s.take_frame(5)),
    ({"do": "choose", "clip": 6}, lambda s: s.choose(6)),
    ({"do": "select", "t": 7, "y": 0, "x": 3}, lambda s: s.select(7, 0, 3)),
    ({"do": "visit", "clip": 4, "t": 1, "y": 2, "x": 3}, lambda s: (s.choose(4), s.select(1, 2, 3))),
]


@pytest.mark.parametrize(("message", "same"), MESSAGES, ids=[message["do"] for message, _ in MESSAGES])
def test_explorer_does_what_a_click_asks(explorer, corpus, message, same):
    twin = Surgery(corpus, 2)
    twin.select(3, 1, 2)
    same(twin)
    before = explorer.view["seq"]
    explorer.hear(message)
    assert explorer.error is None
    assert explorer.view["seq"] == before + 1
    assert explorer.view["code"] == corpus.codebook.spell(twin.word)
    np.testing.assert_array_equal(np.array(explorer.view["changed"]), twin.changed)
    np.testing.assert_array_equal(painted(explorer), twin.film)


def test_explorer_takes_back(explorer):
    first = explorer.films["film"]
    explorer.hear({"do": "replace", "word": 3})
    explorer.hear({"do": "take_frame", "clip": 1})
    assert explorer.view["history"] == 2
    explorer.hear({"do": "undo"})
    explorer.hear({"do": "reset"})
    assert explorer.view["history"] == 0
    assert explorer.films["film"] == first
    assert "nothing is changed yet" in explorer.view["field"]


def test_every_item_of_the_galleries_can_be_clicked(explorer, corpus):
    for row in explorer.view["galleries"]:
        for item in row["items"]:
            explorer.hear(item["message"])
            assert explorer.error is None
            if item["message"]["do"] == "replace":
                assert explorer.surgery.word == item["message"]["word"]
            else:
                assert explorer.view["clip"] == item["message"]["clip"]


@pytest.mark.parametrize(
    "message",
    [{"do": "put", "code": "many"}, {"do": "put", "code": "12"}, {"do": "choose", "clip": 99}, {"do": "dance"}, {}],
)
def test_an_error_is_answered_shown_and_forgotten(explorer, message):
    film = explorer.films["film"]
    explorer.hear(message)
    assert explorer.error is not None
    assert explorer.view["error"] == str(explorer.error) != ""
    assert explorer.view["seq"] == 1, "the browser waits for an answer"
    assert explorer.films["film"] == film
    explorer.hear({"do": "select", "t": 0, "y": 0, "x": 0})
    assert explorer.view["error"] == ""


def test_a_word_that_no_clip_has_is_shown_all_the_same(explorer, corpus):
    unused = next((w for w in range(corpus.codebook.size) if corpus.row(w) is None), None)
    assert unused is not None
    explorer.put(unused)
    assert explorer.error is None
    assert explorer.view["facts"] == ["No clip here has it."]


def test_code_map_sends_what_is_clicked(corpus):
    sent = []
    code_map = CodeMap(corpus, {"steps": corpus.cube()}, code_tints(corpus), pick=sent.append)
    code_map.hear({"do": "pick", "row": 1})
    assert sent == [int(corpus.used[1])]
    assert code_map.view["row"] == 1
    u = len(corpus.used)
    layout = code_map.fixed["layouts"]["steps"]
    assert len(layout["x"]) == len(layout["y"]) == len(code_map.fixed["notes"]) == u
    assert all(0 <= value <= 1 for value in layout["x"] + layout["y"])
    for tint in code_map.fixed["tints"].values():
        assert len(tint["value"]) == u
        assert min(tint["value"]) >= -1
        assert max(tint["value"]) < len(code_map.fixed["luts"][tint["lut"]])


def test_code_map_shows_the_most_frequent_and_their_patches(corpus):
    code_map = CodeMap(corpus, {"steps": corpus.cube()}, code_tints(corpus), most=3)
    assert sorted(corpus.counts[code_map.rows])[::-1] == sorted(corpus.counts)[::-1][:3]
    sheet = np.asarray(Image.open(io.BytesIO(code_map.fixed["sheet"])))
    first = corpus.patches[code_map.rows[1]].transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(sheet[:16, 33:49], first[0])
    np.testing.assert_array_equal(sheet[:16, 50:66], first[1])


def test_morph_ranks_in_slices_and_then_shows(corpus):
    studio = MorphStudio(corpus, 0, 3, steps=8)
    studio.hear({"do": "use", "method": "tokens"})
    assert studio.view["more"]
    slices = 0
    while studio.view["more"]:
        assert "ranking tokens" in studio.view["status"]
        studio.hear({"do": "continue"})
        slices += 1
    assert slices == -(-len(studio.morph.places) // 8)
    for step in (2, 8):
        studio.hear({"do": "go", "step": step})
        assert studio.films["through"] == film_bytes(studio.morph.film("tokens", step))
        assert studio.films["fade"] == film_bytes(studio.morph.cross_fade(step))
    studio.hear({"do": "choose", "a": 5, "b": 5})
    assert studio.error is None
    assert studio.still["a"] == studio.still["b"] == film_bytes(corpus.films[5])


# ---- masks, and how what they hide is written ----


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(8, seed=43).batch()


@pytest.fixture(scope="module")
def transformer(corpus):
    torch.manual_seed(0)
    return MaskedTransformer(corpus.codebook.levels, corpus.codec.grid, dim=16, depth=1, heads=2).eval()


@pytest.fixture
def make(transformer, corpus, clips):
    return lambda **settings: Decoding(transformer, corpus.codec.tokenizer, clips, **{"steps": 5} | settings)


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_its_cells_and_its_condition(make, corpus, clips, task, frames):
    decoding = make(clip=3, task=task, frames=frames)
    np.testing.assert_array_equal(decoding.given, tasks.given_tokens(task, frames).numpy())
    start = commit_start(corpus.codec.tokenizer, to_float(clips.videos[3:4]), task, frames)["start"][0].numpy()
    first = decoding.rounds[0]
    np.testing.assert_array_equal(first.tokens, np.where(decoding.given, start, decoding.transformer.mask_token))
    assert set(decoding.kinds(0)[decoding.given]) <= {"given"}
    assert set(decoding.kinds(0)[~decoding.given]) <= {"hidden"}
    assert decoding.settings["label"] == clips.labels[3], "a clip brings its class"


@pytest.mark.parametrize("settings", [{"task": "FP"}, {"task": "CFP", "guidance": 2.0, "order": "confidence"}])
def test_decoding_is_the_packages_and_ends_with_no_hidden_token(make, corpus, clips, settings):
    decoding = make(clip=1, frames=4, seed=3, label=2, **settings)
    tokens = decoding.decode()
    start = commit_start(corpus.codec.tokenizer, to_float(clips.videos[1:2]), settings["task"], 4)
    steps = list(decode_steps(decoding.transformer, [2], steps=5, seed=3, **start | settings))
    assert [r.tokens.ravel().tolist() for r in decoding.rounds[1:]] == [step[0].tolist() for step in steps]
    assert (tokens < corpus.codebook.size).all()
    assert decoding.rounds[-1].settled.all()
    assert set(decoding.kinds(5).ravel()) == {"settled", "refined"}


def test_what_is_settled_stays_and_so_does_how_sure_it_was(make):
    decoding = make(task="IPC", order="confidence", steps=7)
    decoding.decode()
    for step, (now, later) in enumerate(itertools.pairwise(decoding.rounds), start=1):
        np.testing.assert_array_equal(later.guess[now.settled], now.tokens[now.settled])
        np.testing.assert_array_equal(later.sure[now.settled], now.sure[now.settled])
        np.testing.assert_array_equal(decoding.fresh(step), later.settled & ~now.settled)
        assert (later.sure <= 0).all()
    assert np.isnan(decoding.rounds[0].sure).all()
    assert sum(decoding.fresh(step).sum() for step in range(1, 8)) == 128


def test_how_sure_is_the_models_probability_of_the_word(make):
    """One step with all hidden: by hand."""
    decoding = make(task="CG", label=1, guidance=1.0, steps=1)
    tokens = torch.from_numpy(decoding.decode()).flatten()
    hidden = torch.full((1, 128), decoding.transformer.mask_token)
    with torch.no_grad():
        log_p = decoding.transformer(hidden, torch.tensor([1]))[0].log_softmax(-1)
    np.testing.assert_allclose(decoding.rounds[1].sure.ravel(), log_p[range(128), tokens].numpy(), rtol=1e-4)


def test_corrections_follow_the_steps_and_mark_what_they_change(make):
    decoding = make(task="CFP", label=2, seed=6, corrections=9, temperature=2.0)
    tokens = decoding.decode()
    start = commit_start(decoding.codec.tokenizer, decoding.video, "CFP", 4)
    theirs = generate(decoding.transformer, [2], 5, seed=6, corrections=9, temperature=2.0, **start)
    np.testing.assert_array_equal(tokens, theirs[0].numpy())
    assert (decoding.last, decoding.called(5), decoding.called(7)) == (14, "step 5", "correction 2")
    for step in range(6, 15):
        now, before = decoding.rounds[step], decoding.rounds[step - 1]
        np.testing.assert_array_equal(decoding.fresh(step), now.tokens != before.tokens)
        assert (now.sure != before.sure).sum() <= 16, "an eighth is drawn anew"
    assert any(decoding.fresh(step).any() for step in range(6, 15))


def test_a_seed_gives_its_tokens_and_slices_do_not_matter(make):
    whole, sliced, other = make(), make(), make(seed=1)
    sliced.begin()
    while sliced.running:
        sliced.work(1)
    np.testing.assert_array_equal(whole.decode(), sliced.rounds[-1].tokens)
    assert (whole.rounds[-1].tokens != other.decode()).any()


def test_class_and_guidance_count_where_the_task_tells_the_class(make):
    def written(**settings):
        return make(steps=3, seed=5, **settings).decode().tolist()

    assert written(task="CG", label=0, guidance=0) == written(task="CG", label=2, guidance=0)
    assert written(task="CG", label=0, guidance=20) != written(task="CG", label=2, guidance=20)
    assert written(task="FP", label=0, guidance=20) == written(task="FP", label=2, guidance=3)


def test_painting_gives_and_hides_cells(make):
    decoding = make(task="IPC")
    before = decoding.given
    decoding.paint([[3, 1, 1], [3, 1, 2]], True)
    assert [*map(tuple, np.argwhere(decoding.given != before))] == [(3, 1, 1), (3, 1, 2)]
    decoding.paint([[3, 1, 1], [3, 1, 2]], False)
    np.testing.assert_array_equal(decoding.given, before)
    assert decoding.painted
    decoding.fill(True)
    assert decoding.given.all()
    decoding.fill(False)
    assert not decoding.given.any()
    decoding.unpaint()
    assert not decoding.painted
    np.testing.assert_array_equal(decoding.given, before)
    decoding.paint([], True)
    decoding.set(seed=4)
    assert decoding.painted, "a seed leaves the mask alone"
    decoding.set(task="IPC")
    assert not decoding.painted


def test_a_painted_condition_depends_on_the_given_pixels_alone(transformer, corpus, clips):
    forged = type(clips)(clips.videos.clone(), clips.labels, clips.paths, clips.radii)
    cells = [[0, 0, 0], [4, 2, 1], [7, 3, 3]]
    found = []
    for batch in (clips, forged):
        decoding = Decoding(transformer, corpus.codec.tokenizer, batch)
        decoding.fill(False)
        decoding.paint(cells, True)
        assert decoding.region.sum() == 3 * 2 * 16 * 16
        np.testing.assert_array_equal(decoding.region.numpy()[::2, ::16, ::16], decoding.given)
        forged.videos[0] = torch.where(decoding.region, clips.videos[0], 7)
        found.append(decoding)
    assert not torch.equal(found[0].video, found[1].video)
    torch.testing.assert_close(found[0].condition, found[1].condition, rtol=0, atol=0)
    np.testing.assert_array_equal(found[0].rounds[0].tokens, found[1].rounds[0].tokens)
    assert (found[0].condition[:, :, ~found[0].region] == 1).all()


def test_given_tokens_that_are_kept_are_kept(make):
    decoding = make(task="IPC", refine=False, steps=6)
    decoding.decode()
    start = decoding.rounds[0]
    for step, now in enumerate(decoding.rounds):
        np.testing.assert_array_equal(now.tokens[decoding.given], start.tokens[decoding.given])
        assert not decoding.fresh(step)[decoding.given].any()
    assert set(decoding.kinds(6)[decoding.given]) == {"given"}
    np.testing.assert_array_equal(np.isnan(decoding.rounds[6].sure), decoding.given)
    left = [int((decoding.kinds(step) == "hidden").sum()) for step in range(7)]
    assert left[0] == 32
    assert left[6] == 0
    assert 0 < left[3] < 32, "the schedule runs over what is hidden, not over what is given too"


@pytest.mark.parametrize(
    ("act", "words"),
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
def test_what_makes_no_sense_is_refused_in_a_sentence_and_changes_nothing(make, act, words):
    decoding = make()
    settings, rounds = decoding.settings, decoding.rounds
    with pytest.raises(ValueError, match=words) as found:
        act(decoding)
    assert "\n" not in str(found.value)
    assert (decoding.settings, decoding.rounds) == (settings, rounds)


def test_a_transformer_for_other_tokens_is_refused(corpus, clips):
    stranger = MaskedTransformer((3, 3), corpus.codec.grid, dim=16, depth=1, heads=2)
    with pytest.raises(ValueError, match="another tokenizer"):
        Decoding(stranger, corpus.codec.tokenizer, clips)


def test_every_task_is_drawn(make):
    for task in TASKS:
        figure = make(task=task, steps=2, corrections=2 * (task in ("FP", "CG"))).picture()
        shown = Image.open(io.BytesIO(figure._repr_png_()))
        assert shown.width == 800
        assert len(np.unique(np.asarray(shown.convert("L")))) > 20


@pytest.fixture
def studio(make):
    decoding = make(clip=2)
    decoding.decode()
    return MaskStudio(decoding)


def test_the_studio_is_made_whole(studio):
    decoding, view = studio.decoding, studio.view
    assert studio.films["guess"] == film_bytes(decoding.codec.decode(decoding.rounds[5].tokens[None])[0])
    assert studio.still["truth"] == film_bytes(decoding.clips.videos[2].numpy())
    assert (view["step"], view["last"], view["more"]) == (5, 5, False)
    assert view["given"] == decoding.given.tolist()
    assert view["tokens"]["text"] == decoding.codec.codebook.spell_all(decoding.rounds[5].tokens)
    veiled = np.frombuffer(studio.still["given"], np.uint8).reshape(16, 64, 64, 3).transpose(3, 0, 1, 2)
    region = decoding.region.numpy()
    np.testing.assert_array_equal(veiled[:, region], decoding.clips.videos[2].numpy()[:, region])
    assert (veiled[:, ~region] == widgets.VEIL).all()
    assert len(studio.films["difference"]) == 16 * 64 * 64


def test_the_studio_decodes_in_slices_and_steps_through(studio):
    studio.hear({"do": "set", "name": "steps", "value": 10})
    assert (studio.view["step"], studio.view["last"]) == (0, 0)
    assert "press decode" in studio.view["status"]
    hidden = np.array(studio.view["tokens"]["kind"]) == "hidden"
    assert (np.array(studio.view["tokens"]["text"]) == "?").tolist() == hidden.tolist()
    assert np.array(studio.view["sure"]["value"]).tolist() == np.full((8, 4, 4), -1).tolist()
    studio.hear({"do": "decode"})
    slices = 1
    while studio.view["more"]:
        assert studio.view["step"] == studio.view["last"] == 4 * slices
        studio.hear({"do": "continue"})
        slices += 1
    assert (slices, studio.view["step"], studio.error) == (3, 10, None)
    last = studio.films["guess"]
    studio.hear({"do": "go", "step": 1})
    assert studio.view["step"] == 1
    assert studio.films["guess"] != last
    assert "?" in np.array(studio.view["tokens"]["text"])
    assert np.array(studio.view["sure"]["value"]).min() >= 0
    assert "after step 1: " in studio.view["label"]
    studio.hear({"do": "go", "step": 11})
    assert "10 are done" in studio.view["error"]


def test_a_change_while_decoding_starts_anew(studio):
    studio.hear({"do": "set", "name": "steps", "value": 20})
    studio.hear({"do": "decode"})
    assert studio.view["more"]
    studio.hear({"do": "paint", "cells": [[7, 0, 0]], "given": True})
    studio.hear({"do": "continue"})
    assert (studio.view["last"], studio.view["more"], studio.error) == (0, False, None)


def test_the_studio_does_what_a_click_asks(studio):
    given = np.array(studio.view["given"])
    studio.hear({"do": "paint", "cells": [[7, 0, 0], [7, 0, 1]], "given": True})
    assert (np.array(studio.view["given"]) != given).sum() == 2
    assert studio.view["painted"]
    assert "a mask of your own" in studio.view["said"]
    studio.hear({"do": "fill", "given": False})
    assert not np.array(studio.view["given"]).any()
    assert "no one truth" in studio.view["captions"]["difference"]
    assert not any(studio.films["difference"])
    studio.hear({"do": "unpaint"})
    assert studio.view["given"] == given.tolist()
    assert studio.view["used"] == {"frames": True, "label": False, "guidance": False}
    studio.hear({"do": "set", "name": "task", "value": "CG"})
    assert studio.view["used"] == {"frames": False, "label": True, "guidance": True}
    for choices in studio.fixed["choices"]["refine"], studio.fixed["choices"]["order"]:
        for value, _ in choices:
            studio.hear({"do": "set", "name": "refine" if isinstance(value, bool) else "order", "value": value})
            assert studio.error is None


def test_an_error_in_the_studio_is_a_sentence_and_nothing_waits(studio, monkeypatch):
    film = studio.films["guess"]
    studio.hear({"do": "set", "name": "seed", "value": -1})
    assert studio.view["error"] == "seed is -1; it can be a whole number from 0 to 2147483647."
    assert studio.films["guess"] == film
    studio.hear({"do": "set", "name": "steps", "value": 20})
    studio.hear({"do": "decode"})
    assert studio.view["more"]
    monkeypatch.setattr(studio.decoding.transformer, "forward", None)
    studio.hear({"do": "continue"})
    assert studio.error is not None
    assert not studio.view["more"], "else the browser would ask for ever, and the sentence be gone at once"
    assert not studio.decoding.running


def test_mask_studio_shows_its_figure_first(transformer, corpus, clips, monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    studio = widgets.mask_studio(transformer, corpus.codec.tokenizer, clips, task="CFP", label=3, steps=2)
    assert isinstance(shown[0], plots.Picture)
    assert studio.decoding.settings["label"] == 3
    tokens = generate(transformer, [3], 2, **commit_start(corpus.codec.tokenizer, to_float(clips.videos[:1]), "CFP", 4))
    np.testing.assert_array_equal(studio.decoding.rounds[-1].tokens, tokens[0].numpy())


# ---- paths, and the clips that are written along them ----


@pytest.fixture(scope="module")
def draw(corpus):
    torch.manual_seed(0)
    writer = Writer(corpus.codebook.levels, corpus.codec.grid, dim=16, depth=1, heads=2).eval()
    planner = Planner(dim=16, depth=1).eval()
    return lambda **settings: Drawing(corpus.codec.tokenizer, writer, **{"planner": planner} | settings)


@pytest.fixture
def paths(draw):
    return PathStudio(draw())


def test_the_plan_goes_along_the_stroke_in_equal_steps_however_fast_it_was_drawn(draw):
    corner = np.linspace(0, 1, 50)[:, None] ** 3 * [0, 30] + [40, 10]
    plan = draw(points=[[10, 10], [11, 10], [11, 10], *corner], radius=3).plan()
    gone = 4 * np.arange(16)
    np.testing.assert_allclose(plan, np.stack([(10 + gone).clip(max=40), 10 + (gone - 30).clip(0), 3 + 0 * gone], 1))


@pytest.mark.parametrize("radius", [2.2, 3.6])
def test_the_whole_dot_stays_in_the_picture(draw, radius):
    plan = draw(points=[[-50, 30], [70, 80], [90, -9]], radius=radius).plan()
    film = render(plan[:, :2], plan[:, 2], (0, 0, 0))
    edges = np.concatenate([film[..., 0], film[..., -1], film[..., 0, :], film[..., -1, :]])
    assert edges.min() > 120, "half a pixel of paper is kept round it"
    assert np.ptp(plan[:, 0]) == pytest.approx(63 - 2 * radius)
    assert np.ptp(np.linalg.norm(np.diff(plan[:6, :2], axis=0), axis=1)) < 1e-9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"points": [[9, 9], [10, 9]]}, "The path is 1.0 px long, too short for a dot to follow: hold"),
        ({"points": [[9, 9]]}, "The path is 0.0 px long"),
        ({"points": [[-40, 70], [-20, 99]]}, "The path is 0.0 px long"),
        ({"points": []}, "points came as"),
        ({"points": [[0, 0], [30, np.nan]]}, "points came as .* all finite"),
        ({"radius": 5}, "radius is 5; it can be any number from 2.2 to 3.6."),
        ({"seed": 0.5}, "seed is 0.5; it can be a whole number from 0"),
        ({"family": "square"}, "family is 'square'; it can be linear, circular"),
        ({"family": "linear", "planner": None}, "no planner here to plan a path: draw one"),
    ],
)
def test_a_drawing_that_makes_no_sense_is_refused_in_a_sentence(draw, settings, words):
    with pytest.raises(ValueError, match=words) as found:
        draw(**settings).write()
    assert "\n" not in str(found.value)


def test_a_writer_for_other_tokens_is_refused(corpus):
    stranger = Writer((3, 3), corpus.codec.grid, dim=16, depth=1, heads=2)
    with pytest.raises(ValueError, match="another tokenizer"):
        Drawing(corpus.codec.tokenizer, stranger)


def test_what_is_written_is_the_packages_and_hangs_on_the_seed(draw, corpus):
    one = draw(seed=3)
    following = one.writer.following(torch.from_numpy(one.plan()[None]).float())
    tokens = generate(following, [0], guidance=1, seed=3)
    np.testing.assert_array_equal(one.write().tokens, tokens[0].numpy())
    np.testing.assert_array_equal(draw(seed=3).write().tokens, one.written.tokens)
    np.testing.assert_array_equal(one.written.film, corpus.codec.decode(tokens.numpy())[0])
    assert (draw(seed=4).write().tokens != one.written.tokens).any()


def test_a_planned_path_is_the_planners(draw):
    drawing = draw(family="helical", seed=2)
    np.testing.assert_array_equal(drawing.plan(), draw_plans(drawing.planner, [2], seed=2)[0].numpy())
    assert (draw(family="helical", seed=3).plan() != drawing.plan()).any()


def test_it_is_measured_how_far_the_dot_is_from_the_plan(draw, corpus, monkeypatch):
    """A film with the dot a pixel below the plan; frame 3 is empty, in frame 5 there is a speck."""
    drawing = draw(radius=3)
    x, y, radius = drawing.plan().T
    radius[5] = 0.7
    film = to_float(torch.from_numpy(render(np.stack([x, y + 1], 1), radius, (0, 0, 0))))
    film[:, 3] = 1
    monkeypatch.setattr(corpus.codec.tokenizer, "decode", lambda tokens: film[None])
    written = drawing.write()
    assert np.flatnonzero(np.isnan(written.miss)).tolist() == [3, 5]
    np.testing.assert_allclose(np.delete(written.miss, [3, 5]), 1, atol=0.05)
    assert written.said() == "The dot is 1.0 px from the plan on average; 14 of 16 frames have a dot."
    film[:] = 1
    assert drawing.write().said() == "No frame of 16 has a dot."
    studio = PathStudio(drawing)
    assert studio.view["seen"] == [None] * 16
    json.dumps(studio.view, allow_nan=False)
    assert isinstance(drawing.picture(), plots.Picture)


def test_the_path_studio_does_what_a_click_asks(paths, draw):
    assert paths.films["film"] == film_bytes(draw().write().film)
    stroke = [[10, 50], [30, 12], [50, 50]]
    paths.hear({"do": "set", "name": "radius", "value": 3})
    paths.hear({"do": "draw", "points": stroke})
    twin = draw(points=stroke, radius=3)
    assert paths.view["plan"] == twin.plan().round(2).tolist()
    assert paths.films["film"] == film_bytes(twin.write().film)
    assert (paths.view["stroke"], paths.view["used"]["radius"]) == (stroke, True)
    for family in FAMILIES:
        paths.hear({"do": "plan", "family": family})
        assert paths.error is None
        assert paths.films["film"] == film_bytes(draw(family=family, radius=3).write().film)
        assert (paths.view["stroke"], paths.view["used"]["radius"]) == (None, False)
        assert f"the planner's {family} path" in paths.view["label"]
    paths.hear({"do": "set", "name": "seed", "value": 5})
    assert paths.view["plan"] == draw(family=FAMILIES[-1], seed=5).plan().round(2).tolist()
    paths.hear({"do": "draw", "points": stroke})
    assert paths.view["settings"] == {"radius": 3, "seed": 5, "family": None}


def test_an_error_leaves_the_last_good_path(paths, monkeypatch):
    film, plan = paths.films["film"], paths.view["plan"]
    for message in ({"do": "draw", "points": [[5, 5], [6, 6]]}, {"do": "set", "name": "radius", "value": None}):
        paths.hear(message)
        assert paths.view["error"] == str(paths.error) != ""
        assert (paths.films["film"], paths.view["plan"]) == (film, plan)
    monkeypatch.setattr(paths.drawing.writer, "forward", None)
    paths.hear({"do": "draw", "points": [[5, 5], [60, 6]]})
    assert paths.error is not None
    monkeypatch.undo()
    paths.hear({"do": "set", "name": "seed", "value": 0})
    assert (paths.view["error"], paths.films["film"], paths.view["plan"]) == ("", film, plan)


def test_path_studio_shows_its_figure_first_and_needs_no_planner(draw, monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    theirs = draw()
    studio = widgets.path_studio(theirs.tokenizer, theirs.writer, seed=2)
    drawn = np.asarray(Image.open(io.BytesIO(shown[0]._repr_png_())).convert("L"))
    assert drawn.shape[1] == 800
    assert len(np.unique(drawn)) > 20
    assert studio.drawing.seed == 2
    assert len(studio.fixed["families"]) == 0, "no planner, no button"


def test_player_shows_another_film(corpus):
    player = FilmPlayer(corpus.films[0])
    player.show(corpus.films[1])
    assert player.films["film"] == film_bytes(corpus.films[1])
    assert player.view["seq"] == 1


def test_trajectory_studio_plays_the_clip_of_its_sliders():
    studio = TrajectoryStudio()
    studio.set(family="linear", dot_radius=0.5)
    assert studio.player.films["film"] == film_bytes(studio.scene.clip()[0].video)


def test_canvases_carry_their_script_and_it_asks_nobody(explorer):
    assert "export default" in explorer._esm
    assert "import " not in explorer._esm.replace("no import", "")
    assert "http" not in explorer._esm


def test_static_twins_are_figures(corpus):
    shades = corpus.commonness(corpus.words[0])
    texts = corpus.codebook.spell_all(corpus.words[0])
    changed = np.zeros((8, 4, 4), bool)
    changed[2, 1, 1] = True
    figures = [
        plots.token_maps(texts, shades, chosen=(2, 1, 1), changed=changed),
        plots.patch_rows({"a row": list(corpus.patches[:5])}),
    ]
    for figure in figures:
        assert len(np.unique(np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("L")))) > 5
    heat = plots.heat_film(np.linspace(0, 1, 16 * 64 * 64).reshape(16, 64, 64))
    assert heat.shape == (3, 16, 64, 64)
    assert heat[:, 0, 0, 0].sum() > heat[:, -1, -1, -1].sum(), "more is darker"
