"""Tokens of clips, and editing them: plain objects, tested without a browser."""

import numpy as np
import pytest
import torch

from trajlib.tokenizer.quantizers import level_indices
from trajlib.widgets.token_editor import TokenEditor
from trajlib.widgets.token_index import TokenIndex

# ---- tokens and their codes ----


def test_level_indices_are_the_tokenizers(index):
    tokens = np.arange(index.size)
    np.testing.assert_array_equal(index.level_indices(tokens), level_indices(tokens, (4, 3)))
    np.testing.assert_array_equal(index.tokens_from_levels(index.level_indices(tokens)), tokens)


def test_two_codebooks_make_one_token(pair_index):
    token = 7 + 8 * 5
    assert (pair_index.size, pair_index.codes(token).tolist(), pair_index.name(token)) == (64, [7, 5], "7·5")
    assert pair_index.levels == (4, 2, 4, 2)
    assert pair_index.level_indices(token).tolist() == [3, 1, 1, 1]
    assert pair_index.tokens_from_levels(pair_index.level_indices(token)) == token
    assert pair_index.parse("7·5") == pair_index.parse("7.5") == token


@pytest.mark.parametrize("text", ["", "x", "12", "-1", "1·2"])
def test_a_name_that_is_no_token_is_refused_with_what_was_expected(index, text):
    with pytest.raises(ValueError, match=r"expected 0\.\.11"):
        index.parse(text)


def test_vectors_of_levels_reach_from_corner_to_corner(index):
    np.testing.assert_allclose(index._vectors(np.array([0, index.size - 1])), [[-1, -1], [1, 1]])


def test_codes_without_levels_have_their_vectors_and_no_level_index(vq_index):
    assert vq_index.levels == ()
    assert len(np.unique(vq_index.vectors.round(6), axis=0)) == len(vq_index.used)
    with pytest.raises(ValueError, match="have no levels"):
        vq_index.level_indices(0)


# ---- clips with their tokens ----


def test_tokens_are_the_tokenizers(any_index, clips):
    tokens = any_index.tokenizer.encode(clips.videos / 255)
    assert torch.equal(any_index.to_tensor(any_index.tokens), tokens)
    np.testing.assert_array_equal(any_index.from_tensor(tokens), any_index.tokens)
    videos = any_index.tokenizer.decode(tokens).mul(255).round().byte().numpy()
    assert np.abs(any_index.decode(any_index.tokens).astype(int) - videos).max() <= 1


def test_counts_positions_and_patches(any_index, clips):
    index = any_index
    assert index.counts.sum() == index.tokens.size
    token = int(index.used[index.counts.argmax()])
    positions = index.positions(token)
    assert index.count(token) == len(positions) == index.position_counts(token).sum() == index.class_counts(token).sum()
    mean = np.mean([index.patch(*position) for position in positions], 0)
    assert np.abs(index.patches[index.row(token)] - mean).max() <= 0.5 + 1e-6
    clip, t, y, x = positions[-1]
    patch = clips.videos.numpy()[clip, :, 2 * t : 2 * t + 2, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
    np.testing.assert_array_equal(index.patch(clip, t, y, x), patch)


def test_foreground_and_background(index, clips):
    cells = (255 - clips.videos.numpy()).reshape(8, 3, 8, 2, 4, 16, 4, 16).max((1, 3, 5, 7))
    np.testing.assert_array_equal(index.foreground, cells > 5)
    for row, token in enumerate(index.used):
        assert index.background[row] == ((~index.foreground[index.tokens == token]).mean() >= 0.9)


def test_the_dots_position_is_the_darkest(index):
    t, y, x = index.dot_position(3, 5)
    assert t == 5
    assert index.darkness[3, 5, y, x] == index.darkness[3, 5].max()


def test_examples_come_from_as_many_clips_as_possible(index):
    token = int(index.used[index.counts.argmax()])
    found = index.examples(token, 4)
    assert all(index.tokens[position] == token for position in found)
    assert len({position[0] for position in found}) == min(4, len(set(index.positions(token)[:, 0])))


def test_neighbours_are_the_nearest_and_never_the_token_itself(any_index):
    index = any_index
    for token in map(int, index.used):
        found = index.nearest(token, 3)
        assert token not in found + index.similar_patches(token, 3)
        distance = ((index.vectors - index._vectors(np.array([token]))) ** 2).sum(1)
        others = np.sort(distance[index.used != token])[: len(found)]
        np.testing.assert_allclose([distance[index.row(k)] for k in found], others)
    unused = next(k for k in range(index.size + 1) if index.row(k) is None)
    assert (index.count(unused), index.similar_patches(unused, 3)) == (0, [])


def test_entropy_of_each_position(index):
    position = (3, 1, 2)
    p = np.bincount(index.tokens[:, *position]) / len(index)
    assert index.entropies()[position] == pytest.approx(-(p[p > 0] * np.log2(p[p > 0])).sum())


def test_motions_are_in_the_cell_that_holds_the_dot(index, clips):
    positions, offset, velocity = index.motions()
    assert ((offset >= 0) & (offset <= 16)).all()
    clip, t, y, x = positions[11]
    pair = clips.paths[clip, 2 * t : 2 * t + 2].numpy()
    np.testing.assert_allclose(offset[11] + [16 * x, 16 * y] - 0.5, pair.mean(0), atol=1e-4)
    np.testing.assert_allclose(velocity[11], pair[1] - pair[0], atol=1e-5)
    assert index.foreground[tuple(positions.T)].all()


def test_layouts_place_every_used_token(any_index):
    for points in (any_index.patch_layout(), any_index.code_layout()):
        assert points.shape == (len(any_index.used), 2)
        assert np.isfinite(points).all()


def test_other_sizes_of_video(small_index):
    assert small_index.grid == small_index.tokens.shape[1:] == (4, 2, 2)
    assert small_index.patches.shape[1:] == (3, 2, 16, 16)
    assert small_index.decode(small_index.tokens[:1]).shape == (1, 3, 8, 32, 32)


def test_videos_that_do_not_divide_into_cells_are_refused(tokenizer, clips):
    cut = type(clips)(clips.videos[:, :, :15], clips.labels, clips.paths, clips.radii)
    with pytest.raises(ValueError, match="15 frames of 64 px do not divide"):
        TokenIndex(tokenizer, cut)


# ---- editing ----


def test_each_change_is_decoded_and_undone(any_index):
    editor = TokenEditor(any_index, clip=2)
    editor.select(3, 1, 2)
    other = int(next(k for k in any_index.used if k != editor.token))
    editor.replace(other)
    expected = any_index.tokens[2].copy()
    expected[3, 1, 2] = other
    np.testing.assert_array_equal(editor.tokens, expected)
    np.testing.assert_array_equal(editor.video, any_index.decode(expected[None])[0])
    assert editor.changed.sum() == 1
    editor.copy_frame(5)
    np.testing.assert_array_equal(editor.tokens[3], any_index.tokens[5, 3])
    while editor.history:
        editor.undo()
    editor.undo()  # one more than there is: nothing happens
    np.testing.assert_array_equal(editor.tokens, any_index.tokens[2])
    np.testing.assert_array_equal(editor.video, editor.base)


def test_reset_and_choose_discard_everything(index):
    editor = TokenEditor(index)
    editor.copy_frame(3)
    editor.reset()
    assert not editor.changed.any()
    assert editor.history == []
    editor.copy_frame(3)
    editor.choose(4)
    assert not editor.changed.any()
    np.testing.assert_array_equal(editor.video, index.decode(index.tokens[4:5])[0])


def test_steps_move_one_level_index_and_stop_at_the_ends(index):
    editor = TokenEditor(index)
    editor.replace(0)
    editor.step(1, +1)
    assert index.level_indices(editor.token).tolist() == [0, 1]
    before = len(editor.history)
    editor.step(0, -1)
    assert index.level_indices(editor.token).tolist() == [0, 1]
    assert len(editor.history) == before, "what changes nothing leaves nothing to undo"


def test_a_bit_is_flipped_there_and_back(pair_index):
    editor = TokenEditor(pair_index)  # its second and fourth dimensions are bits
    token = editor.token
    editor.step(3)
    changed = pair_index.level_indices(editor.token) != pair_index.level_indices(token)
    assert changed.tolist() == [False, False, False, True]
    editor.step(3)
    assert editor.token == token


def test_the_same_position_in_another_clip(index):
    editor = TokenEditor(index)
    editor.select(7, 3, 3)
    editor.copy_token(6)
    assert editor.token == index.tokens[6, 7, 3, 3]


def test_a_local_tokenizer_changes_the_cell_alone(pair_index):
    editor = TokenEditor(pair_index)
    assert editor.change_shares() is None
    editor.select(3, 1, 2)
    editor.step(0)
    assert editor.change_shares() == {"cell": 1, "same frames": 0, "before": 0, "after": 0}


def test_a_causal_tokenizer_changes_nothing_before(index):
    editor = TokenEditor(index)
    editor.select(4, 1, 2)
    editor.replace(5 if editor.token != 5 else 6)
    shares = editor.change_shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["before"] == 0
    np.testing.assert_allclose(editor.change, np.abs(editor.video.astype(float) - editor.base).mean(0))


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s: s.choose(8), "clip 8 came"),
        (lambda s: s.select(8, 0, 0), "the grid is"),
        (lambda s: s.replace(12), "this codebook has 0 .. 11"),
        (lambda s: s.replace(-1), "token -1 came"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(index, act, sentence):
    with pytest.raises(ValueError, match=sentence):
        act(TokenEditor(index))
