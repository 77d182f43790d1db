"""The canvases of tokens in Python: every message a browser can send, and what is sent back. No browser here."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_widget_models import KINDS, shown, tiny_transformer

from trajlib.data.clips import TrajectoryDataset
from trajlib.widgets.base import video_bytes
from trajlib.widgets.code_map import code_colourings, code_map
from trajlib.widgets.corruption_studio import CorruptionStudio
from trajlib.widgets.interpolation_studio import (
    Interpolation,
    InterpolationStudio,
    fits_tokenizer,
    resample_positions,
)
from trajlib.widgets.mask_studio import MaskStudio
from trajlib.widgets.path_studio import PathStudio
from trajlib.widgets.token_editor import TokenEditor
from trajlib.widgets.token_explorer import TokenExplorer
from trajlib.widgets.token_index import TokenIndex
from trajlib.widgets.trajectory_studio import TrajectoryStudio


@pytest.fixture
def explorer(index):
    return TokenExplorer(index, 2, (3, 1, 2))


# ---- the explorer ----


def test_explorer_is_made_whole(explorer, index):
    """What the constructor sends is enough for the first picture: messages that come later may be lost."""
    assert explorer.still["clip"] == video_bytes(index.videos[2])
    np.testing.assert_array_equal(shown(explorer, "decoded"), index.decode(index.tokens[2:3])[0])
    assert explorer.view["selected"] == [3, 1, 2]
    assert explorer.view["text"] == [[[str(k) for k in row] for row in rows] for rows in index.tokens[2].tolist()]
    items = sum(len(row["items"]) for row in explorer.view["galleries"])
    assert len(explorer.patches) == items * 2 * 16 * 16 * 3 > 0
    assert len(explorer.videos["change"]) == len(explorer.videos["error"]) == 16 * 64 * 64


def test_explorer_of_any_tokenizer(any_index):
    explorer = TokenExplorer(any_index)
    assert explorer.editor.selected == any_index.dot_position(0, 4)
    assert len(explorer.view["levels"]) == len(any_index.levels)
    explorer.receive({"do": "put", "name": any_index.name(int(any_index.used[-1]))})
    assert explorer.error is None
    assert explorer.editor.token == any_index.used[-1]


def test_explorer_of_other_sizes(small_index):
    explorer = TokenExplorer(small_index, 1)
    explorer.receive({"do": "select", "t": 3, "y": 1, "x": 1})
    assert explorer.error is None
    assert (explorer.fixed["grid"], explorer.fixed["frames"], explorer.fixed["size"]) == ([4, 2, 2], 8, 32)
    np.testing.assert_array_equal(shown(explorer, "decoded"), small_index.decode(small_index.tokens[1:2])[0])


MESSAGES = [
    ({"do": "replace", "token": 7}, lambda s: s.replace(7)),
    ({"do": "put", "name": "11"}, lambda s: s.replace(11)),
    ({"do": "step", "dimension": 1, "by": 1}, lambda s: s.step(1)),
    ({"do": "copy_token", "clip": 5}, lambda s: s.copy_token(5)),
    ({"do": "copy_frame", "clip": 5}, lambda s: s.copy_frame(5)),
    ({"do": "choose", "clip": 6}, lambda s: (s.choose(6), s.select(*s.index.dot_position(6, 3)))),
    ({"do": "select", "t": 7, "y": 0, "x": 3}, lambda s: s.select(7, 0, 3)),
    ({"do": "visit", "clip": 4, "t": 1, "y": 2, "x": 3}, lambda s: (s.choose(4), s.select(1, 2, 3))),
]


@pytest.mark.parametrize(("message", "same"), MESSAGES, ids=[message["do"] for message, _ in MESSAGES])
def test_explorer_does_what_a_click_asks(explorer, index, message, same):
    twin = TokenEditor(index, 2)
    twin.select(3, 1, 2)
    same(twin)
    before = explorer.view["seq"]
    explorer.receive(message)
    assert explorer.error is None
    assert explorer.view["seq"] == before + 1
    assert explorer.view["selected"] == list(twin.selected)
    assert explorer.view["token"] == index.name(twin.token)
    np.testing.assert_array_equal(np.array(explorer.view["changed"]), twin.changed)
    np.testing.assert_array_equal(shown(explorer, "decoded"), twin.video)


def test_explorer_undoes(explorer):
    first = explorer.videos["decoded"]
    explorer.receive({"do": "replace", "token": 3})
    explorer.receive({"do": "copy_frame", "clip": 1})
    assert explorer.view["history"] == 2
    assert "elsewhere in their frames" in explorer.view["shares"]
    explorer.receive({"do": "undo"})
    explorer.receive({"do": "reset"})
    assert explorer.view["history"] == 0
    assert explorer.videos["decoded"] == first
    assert "none yet" in explorer.view["shares"]


def test_every_item_of_the_galleries_can_be_clicked(explorer):
    for row in explorer.view["galleries"]:
        for item in row["items"]:
            explorer.receive(item["message"])
            assert explorer.error is None
            if item["message"]["do"] == "replace":
                assert explorer.editor.token == item["message"]["token"]
            else:
                assert explorer.view["clip"] == item["message"]["clip"]


@pytest.mark.parametrize(
    "message",
    [{"do": "put", "name": "many"}, {"do": "put", "name": "12"}, {"do": "choose", "clip": 99}, {"do": "dance"}, {}],
)
def test_an_error_is_answered_shown_and_forgotten(explorer, message):
    video = explorer.videos["decoded"]
    explorer.receive(message)
    assert explorer.error is not None
    assert explorer.view["error"] == str(explorer.error) != ""
    assert explorer.view["seq"] == 1, "the browser waits for an answer"
    assert explorer.videos["decoded"] == video
    explorer.receive({"do": "select", "t": 0, "y": 0, "x": 0})
    assert explorer.view["error"] == ""


def test_a_token_that_no_clip_has_is_shown_all_the_same(explorer, index):
    unused = next((k for k in range(index.size) if index.row(k) is None), None)
    assert unused is not None
    explorer.put(unused)
    assert explorer.error is None
    assert explorer.view["facts"] == ["No clip here has it."]


# ---- the code map ----


def test_the_map_has_the_selected_token_and_its_tokens_can_be_put(any_index):
    index = any_index
    explorer = TokenExplorer(index, 1, None, {"codes": index.code_layout()}, code_colourings(index))
    found = explorer.fixed["map"]
    assert found["tokens"][explorer.view["row"]] == explorer.editor.token
    explorer.receive({"do": "replace", "token": found["tokens"][0]})
    assert explorer.error is None
    assert explorer.view["row"] == 0
    assert explorer.editor.token == index.used[0]
    u, layout = len(index.used), found["layouts"]["codes"]
    assert len(layout["x"]) == len(layout["y"]) == len(found["notes"]) == u
    assert all(0 <= value <= 1 for value in layout["x"] + layout["y"])
    for colouring in found["colourings"].values():
        assert len(colouring["value"]) == u
        assert min(colouring["value"]) >= -1
        assert max(colouring["value"]) < len(found["luts"][colouring["lut"]])


def test_an_explorer_without_a_map_and_a_token_that_is_not_on_it(explorer, index):
    assert explorer.fixed["map"] is None
    assert explorer.view["row"] is None


def test_code_map_shows_the_most_frequent_and_their_patches(index):
    found = code_map(index, {"codes": index.code_layout()}, code_colourings(index), most=3)
    assert sorted(index.count(token) for token in found["tokens"])[::-1] == sorted(index.counts)[::-1][:3]
    sheet = np.asarray(Image.open(io.BytesIO(found["sheet"])))
    first = index.patches[index.row(found["tokens"][1])].transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(sheet[:16, 33:49], first[0])
    np.testing.assert_array_equal(sheet[:16, 50:66], first[1])


# ---- interpolation ----


def test_interpolation_begins_and_ends_at_its_clips(any_index):
    between = Interpolation(any_index, 1, 6, steps=8)
    for method in between.methods:
        np.testing.assert_array_equal(between.tokens(method, 0), any_index.tokens[1])
        np.testing.assert_array_equal(between.tokens(method, 8), any_index.tokens[6])
    assert not np.array_equal(between.tokens("tokens", 4), between.tokens("tokens", 0))
    np.testing.assert_array_equal(between.cross_fade(0), any_index.decode(any_index.tokens[[1, 6]])[0])
    np.testing.assert_array_equal(between.cross_fade(8), any_index.decode(any_index.tokens[[1, 6]])[1])


@pytest.mark.parametrize("kind", ["fsq", "two codebooks", "lfq"])
def test_interpolated_codes_go_straight_in_every_level_index(clips, kind):
    index = TokenIndex(KINDS[kind](), clips)
    between = Interpolation(index, 1, 6, steps=8)
    path = np.stack([index.level_indices(between.tokens("latents", k)) for k in range(9)])
    moves = np.diff(path, axis=0)
    assert ((moves >= 0).all(0) | (moves <= 0).all(0)).all()


def test_codes_without_levels_go_through_the_nearest_vectors_in_use(vq_index):
    between = Interpolation(vq_index, 1, 6, steps=8)
    tokens = between.tokens("latents", 2)
    at = tuple(between.order[0])
    a, b = (vq_index.vectors[vq_index.row(end[at])] for end in (between.start, between.end))
    distance = np.linalg.norm(vq_index.vectors - (0.75 * a + 0.25 * b), axis=1)
    assert tokens[at] == vq_index.used[distance.argmin()]
    np.testing.assert_array_equal(tokens[between.start == between.end], between.start[between.start == between.end])


def test_importance_is_the_difference_in_the_own_cell(index):
    between = Interpolation(index, 0, 3)
    difference = np.abs(np.subtract(*index.decode(index.tokens[[0, 3]]).astype(float)))
    for position, importance in zip(between.order[:5], between.importance[:5], strict=True):
        assert importance == pytest.approx(difference[:, *index.box(*position)].mean())
    assert (np.diff(between.importance) <= 0).all()


def test_tokens_are_exchanged_one_by_one_and_none_is_invented(index):
    between = Interpolation(index, 0, 3, steps=4)
    counts = [(between.origin(between.tokens("tokens", k)) == "B").sum() for k in range(5)]
    assert counts == sorted(counts)
    assert (counts[0], counts[4]) == (0, len(between.order))
    weight = between.importance
    for k in (1, 2, 3):  # as many as it takes to make up k quarters of the importance, and no more
        assert weight[: counts[k] - 1].sum() < k / 4 * weight.sum() <= weight[: counts[k]].sum() + 1e-6
    assert "+" not in between.origin(between.tokens("tokens", 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_transformer_predicts_masked_tokens_alone(clips, kind):
    index = TokenIndex(KINDS[kind](), clips)
    transformer = tiny_transformer(index.tokenizer)
    assert fits_tokenizer(transformer, index.tokenizer)
    masked = np.zeros(index.grid, bool)
    masked[2:4, 1] = True
    tokens = resample_positions(transformer, index, index.tokens[0], masked, label=1)
    np.testing.assert_array_equal(tokens[~masked], index.tokens[0][~masked])
    assert (tokens < index.size).all()
    np.testing.assert_array_equal(tokens, resample_positions(transformer, index, index.tokens[0], masked, label=1))
    between = Interpolation(index, 0, 3, steps=4, transformer=transformer)
    assert between.methods == ("latents", "tokens", "transformer")
    kept = between.start == between.end
    np.testing.assert_array_equal(between.tokens("transformer", 2)[kept], between.start[kept])


def test_a_transformer_for_other_tokens_does_not_fit(transformer, pair_index):
    assert not fits_tokenizer(transformer, pair_index.tokenizer)


def test_a_transformer_without_classes_resamples_too(index):
    transformer = tiny_transformer(index.tokenizer, num_classes=0)
    masked = np.ones(index.grid, bool)
    assert resample_positions(transformer, index, index.tokens[0], masked, label=1).shape == index.grid


def test_an_unknown_method_is_refused(index):
    with pytest.raises(ValueError, match="there are latents, tokens"):
        Interpolation(index, 0, 1).tokens("transformer", 3)


def test_the_interpolation_studio_does_what_a_click_asks(index):
    studio = InterpolationStudio(index, 0, 3, steps=8)
    assert all(index.videos[clip][:, studio.fixed["start"]].min() < 128 for clip in (0, 3)), "it opens on a dot"
    for method in ("tokens", "latents"):
        studio.receive({"do": "use", "method": method})
        for step in (2, 8):
            studio.receive({"do": "go", "step": step})
            assert studio.videos["through"] == video_bytes(studio.interpolation.video(method, step))
            assert studio.videos["fade"] == video_bytes(studio.interpolation.cross_fade(step))
    studio.receive({"do": "choose", "a": 5, "b": 5})
    assert studio.error is None
    assert studio.still["a"] == studio.still["b"] == video_bytes(index.videos[5])


# ---- all canvases ----


STUDIOS = [TrajectoryStudio, CorruptionStudio, TokenExplorer, InterpolationStudio, MaskStudio, PathStudio]


@pytest.mark.parametrize("canvas", STUDIOS)
def test_canvases_carry_their_script_and_it_asks_nobody(canvas):
    source = str(canvas._esm)
    assert "export default" in source
    assert source.count("function canvas(model, el)") == 1
    assert "import " not in source.replace("no import", "")
    assert "http" not in source


def test_classes_of_another_number(tokenizer):
    clips = TrajectoryDataset(6, seed=41).batch()
    six = type(clips)(clips.videos, torch.arange(6), clips.paths, clips.radii)
    index = TokenIndex(tokenizer, six, class_names=tuple("abcdef"))
    assert "class f" in TokenExplorer(index, 5).view["about"]
    code_map(index, {"codes": index.code_layout()}, code_colourings(index))
