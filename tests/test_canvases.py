"""The explorer's canvases in Python: every message a browser can send, and what is sent back. No browser here."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from trajlib import plots
from trajlib.codes import Codec, Corpus, Surgery
from trajlib.config import TINY_LAYERS
from trajlib.dataset import TrajectoryDataset
from trajlib.tokenizer import Tokenizer
from trajlib.widgets import CodeMap, FilmPlayer, MorphStudio, TokenExplorer, TrajectoryStudio, code_tints, film_bytes


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
