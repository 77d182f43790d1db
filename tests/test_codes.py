"""Words, clips with their words, surgery and morph: plain objects, tested without a browser."""

import numpy as np
import pytest
import torch
from vector_quantize_pytorch import FSQ, LFQ

from trajlib.codes import Codebook, Codec, Corpus, Morph, Surgery, codebook_of, refill, speaks
from trajlib.config import TINY_LAYERS
from trajlib.dataset import TrajectoryDataset
from trajlib.tokenizer import Tokenizer
from trajlib.transformer import MaskedTransformer


class PairTokenizer:
    """A stand-in with two books of eight codes: darkness of the cell's first frame, and of its second."""

    codebook_size, config = 8, {"levels": [4, 2]}

    def encode(self, videos):
        ink = 1 - videos.mean(1).unflatten(1, (8, 2)).unflatten(3, (4, 16)).unflatten(5, (4, 16)).mean((4, 6))
        return (ink * 60).long().clamp(0, 7).transpose(1, 2).permute(0, 2, 3, 4, 1)  # (b, 8, 4, 4, 2)

    def decode(self, tokens):
        shade = 1 - tokens.permute(0, 1, 4, 2, 3).flatten(1, 2) / 7  # (b, 16, 4, 4)
        return shade.repeat_interleave(16, 2).repeat_interleave(16, 3)[:, None].expand(-1, 3, -1, -1, -1)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(levels=(4, 3), dim=8, layers=TINY_LAYERS).eval()


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(8, seed=41).batch()


@pytest.fixture(scope="module")
def corpus(tokenizer, clips):
    return Corpus(Codec(tokenizer), clips)


@pytest.fixture(params=["one book", "two books"])
def any_corpus(request, tokenizer, clips):
    return Corpus(Codec(tokenizer if request.param == "one book" else PairTokenizer()), clips)


# ---- spelling ----


def test_digits_are_the_librarys_fsq_levels():
    levels = (8, 5, 5, 5)
    book, fsq = Codebook(levels), FSQ(list(levels))
    words = np.arange(book.size)
    lattice = fsq.indices_to_codes(torch.from_numpy(words)[None])[0].numpy()  # level // 2 is the middle, 0
    halves = np.array(levels) // 2
    np.testing.assert_allclose(book.digits(words), lattice * halves + halves, atol=1e-5)
    np.testing.assert_array_equal(book.words(book.digits(words)), words)


def test_digits_are_the_librarys_lfq_bits():
    class Lfq:
        codebook_size, config = 16, {}

    book = codebook_of(Lfq())
    corners = LFQ(codebook_size=16, dim=4).indices_to_codes(torch.arange(16)[None])[0]
    np.testing.assert_array_equal(book.digits(np.arange(16)), (corners > 0).numpy())
    np.testing.assert_array_equal(book.words(book.digits(np.arange(16))), np.arange(16))


def test_two_books_make_one_word():
    book = Codebook((8, 5), books=2)
    word = 7 + 40 * 33
    assert (book.size, book.codes(word).tolist(), book.spell(word)) == (1600, [7, 33], "7·33")
    assert book.digits(word).tolist() == [7, 0, 33 % 8, 33 // 8]
    assert book.words(book.digits(word)) == word
    assert book.read("7·33") == book.read("7.33") == word


@pytest.mark.parametrize("text", ["", "x", "40", "-1", "1·2"])
def test_a_code_that_is_none_is_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match=r"expected 0\.\.39"):
        Codebook((8, 5)).read(text)


def test_vectors_reach_from_corner_to_corner():
    book = Codebook((8, 5))
    assert book.vectors(0).tolist() == [-1, -1]
    assert book.vectors(book.size - 1).tolist() == [1, 1]


# ---- clips with their words ----


def test_codec_says_what_the_tokenizer_says(tokenizer, clips):
    codec = Codec(tokenizer)
    words = codec.encode(clips.videos)
    tokens = tokenizer.encode(clips.videos / 255)
    np.testing.assert_array_equal(words, tokens)
    film = tokenizer.decode(tokens).mul(255).round().byte().numpy()
    assert np.abs(codec.decode(words).astype(int) - film).max() <= 1


def test_codec_keeps_two_books_apart(clips):
    tokenizer = PairTokenizer()
    codec = Codec(tokenizer)
    tokens = tokenizer.encode(clips.videos / 255)
    assert codec.codebook.books == 2
    assert torch.equal(codec.tokens(codec.encode(clips.videos)), tokens)


def test_corpus_counts_places_and_patches(any_corpus, clips):
    corpus = any_corpus
    assert corpus.counts.sum() == corpus.words.size
    word = int(corpus.used[corpus.counts.argmax()])
    places = corpus.places(word)
    assert corpus.count(word) == len(places) == corpus.where(word).sum() == corpus.classes(word).sum()
    mean = np.mean([corpus.patch(*place) for place in places], 0)
    assert np.abs(corpus.patches[corpus.row(word)] - mean).max() <= 0.5 + 1e-6
    clip, t, y, x = places[-1]
    patch = clips.videos.numpy()[clip, :, 2 * t : 2 * t + 2, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
    np.testing.assert_array_equal(corpus.patch(clip, t, y, x), patch)


def test_corpus_knows_where_the_ink_is(corpus, clips):
    cells = (255 - clips.videos.numpy()).reshape(8, 3, 8, 2, 4, 16, 4, 16).max((1, 3, 5, 7))
    np.testing.assert_array_equal(corpus.ink, cells > 5)
    for row, word in enumerate(corpus.used):
        assert corpus.blank[row] == ((~corpus.ink[corpus.words == word]).mean() >= 0.9)


def test_examples_come_from_as_many_clips_as_there_are(corpus):
    word = int(corpus.used[corpus.counts.argmax()])
    found = corpus.examples(word, 4)
    assert all(corpus.words[place] == word for place in found)
    assert len({place[0] for place in found}) == min(4, len(set(corpus.places(word)[:, 0])))


def test_neighbours_are_the_nearest_and_never_the_word_itself(any_corpus):
    corpus = any_corpus
    for word in map(int, corpus.used):
        found = corpus.nearest(word, 3)
        assert word not in found + corpus.look_alikes(word, 3)
        distance = ((corpus.vectors - corpus.codebook.vectors(word)) ** 2).sum(1)
        others = np.sort(distance[corpus.used != word])[: len(found)]
        np.testing.assert_allclose([distance[corpus.row(w)] for w in found], others)
    unused = next(w for w in range(corpus.codebook.size + 1) if corpus.row(w) is None)
    assert (corpus.count(unused), corpus.look_alikes(unused, 3)) == (0, [])


def test_entropy_of_each_place(corpus):
    place = (3, 1, 2)
    p = np.bincount(corpus.words[:, *place]) / len(corpus)
    assert corpus.entropies()[place] == pytest.approx(-(p[p > 0] * np.log2(p[p > 0])).sum())


def test_motions_are_in_the_cell_that_holds_the_dot(corpus, clips):
    index, inside, velocity = corpus.motions()
    assert ((inside >= 0) & (inside <= 16)).all()
    clip, t, y, x = index[11]
    pair = clips.paths[clip, 2 * t : 2 * t + 2].numpy()
    np.testing.assert_allclose(inside[11] + [16 * x, 16 * y] - 0.5, pair.mean(0), atol=1e-4)
    np.testing.assert_allclose(velocity[11], pair[1] - pair[0], atol=1e-5)
    assert corpus.ink[tuple(index.T)].all()


def test_layouts_place_every_used_word(any_corpus):
    for points in (any_corpus.layout(), any_corpus.cube()):
        assert points.shape == (len(any_corpus.used), 2)
        assert np.isfinite(points).all()


# ---- surgery ----


def test_surgery_decodes_each_change_and_takes_it_back(any_corpus):
    surgery = Surgery(any_corpus, clip=2)
    surgery.select(3, 1, 2)
    other = int(next(w for w in any_corpus.used if w != surgery.word))
    surgery.replace(other)
    expected = any_corpus.words[2].copy()
    expected[3, 1, 2] = other
    np.testing.assert_array_equal(surgery.words, expected)
    np.testing.assert_array_equal(surgery.film, any_corpus.codec.decode(expected[None])[0])
    assert surgery.changed.sum() == 1
    surgery.take_frame(5)
    np.testing.assert_array_equal(surgery.words[3], any_corpus.words[5, 3])
    surgery.undo()
    np.testing.assert_array_equal(surgery.words, expected)
    surgery.undo()
    surgery.undo()  # one more than there is: nothing happens
    np.testing.assert_array_equal(surgery.words, any_corpus.words[2])
    np.testing.assert_array_equal(surgery.film, surgery.base)


def test_reset_and_choose_forget_everything(corpus):
    surgery = Surgery(corpus)
    surgery.take_frame(3)
    surgery.reset()
    assert not surgery.changed.any()
    assert surgery.history == []
    surgery.take_frame(3)
    surgery.choose(4)
    assert not surgery.changed.any()
    np.testing.assert_array_equal(surgery.film, corpus.codec.decode(corpus.words[4:5])[0])


def test_steps_move_one_digit_and_stop_at_the_ends(corpus):
    surgery = Surgery(corpus)
    surgery.replace(0)
    surgery.step(1, +1)
    assert corpus.codebook.digits(surgery.word).tolist() == [0, 1]
    before = len(surgery.history)
    surgery.step(0, -1)
    assert corpus.codebook.digits(surgery.word).tolist() == [0, 1]
    assert len(surgery.history) == before, "what changes nothing leaves nothing to undo"


def test_a_bit_is_flipped_there_and_back(clips):
    surgery = Surgery(Corpus(Codec(PairTokenizer()), clips))  # its second and fourth digits are bits
    word = surgery.word
    surgery.step(3)
    digits = surgery.codec.codebook.digits
    assert (digits(surgery.word) != digits(word)).tolist() == [False, False, False, True]
    surgery.step(3)
    assert surgery.word == word


def test_the_same_place_in_another_clip(corpus):
    surgery = Surgery(corpus)
    surgery.select(7, 3, 3)
    surgery.take(6)
    assert surgery.word == corpus.words[6, 7, 3, 3]


def test_field_of_a_local_tokenizer_is_its_cell(clips):
    surgery = Surgery(Corpus(Codec(PairTokenizer()), clips))
    assert surgery.field() is None
    surgery.select(3, 1, 2)
    surgery.step(0)
    assert surgery.field() == {"cell": 1, "beside": 0, "before": 0, "after": 0}


def test_field_of_a_causal_tokenizer_has_no_before(corpus):
    surgery = Surgery(corpus)
    surgery.select(4, 1, 2)
    surgery.replace(5 if surgery.word != 5 else 6)
    field = surgery.field()
    assert sum(field.values()) == pytest.approx(1)
    assert field["before"] == 0
    np.testing.assert_allclose(surgery.change, np.abs(surgery.film.astype(float) - surgery.base).mean(0))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda s: s.choose(8), "clip 8 came"),
        (lambda s: s.select(8, 0, 0), "the grid is"),
        (lambda s: s.replace(12), "this codebook has 0 .. 11"),
        (lambda s: s.replace(-1), "word -1 came"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(corpus, act, words):
    with pytest.raises(ValueError, match=words):
        act(Surgery(corpus))


# ---- morph ----


def test_morph_begins_and_ends_at_its_clips(any_corpus):
    morph = Morph(any_corpus, 1, 6, steps=8)
    for method in morph.methods:
        np.testing.assert_array_equal(morph.words(method, 0), any_corpus.words[1])
        np.testing.assert_array_equal(morph.words(method, 8), any_corpus.words[6])
        assert not np.array_equal(morph.words(method, 4), morph.words(method, 0))
    np.testing.assert_array_equal(morph.cross_fade(0), any_corpus.codec.decode(any_corpus.words[1:2])[0])
    np.testing.assert_array_equal(morph.cross_fade(8), any_corpus.codec.decode(any_corpus.words[6:7])[0])


def test_lattice_goes_straight_in_every_digit(any_corpus):
    morph = Morph(any_corpus, 1, 6, steps=8)
    path = np.stack([any_corpus.codebook.digits(morph.words("lattice", k)) for k in range(9)])
    moves = np.diff(path, axis=0)
    assert ((moves >= 0).all(0) | (moves <= 0).all(0)).all(), "no digit turns round"


def test_ranking_in_slices_is_ranking_at_once_and_is_what_it_says(corpus):
    sliced, whole = Morph(corpus, 0, 3), Morph(corpus, 0, 3)
    while not sliced.ranked:
        sliced.work(3)
    np.testing.assert_array_equal(sliced.order, whole.order)
    first, place = np.array(whole.importance), tuple(whole.places[0])
    alone = whole.start.copy()
    alone[place] = whole.end[place]
    assert first[0] == pytest.approx(np.abs(corpus.codec.decode(alone[None])[0] - whole.base).mean(), abs=0.02)
    by_order = dict(zip(map(tuple, whole.places), first, strict=True))
    assert (np.diff([by_order[tuple(p)] for p in whole.order]) <= 0).all()


def test_tokens_are_exchanged_one_by_one_and_none_is_invented(corpus):
    morph = Morph(corpus, 0, 3, steps=4)
    counts = [(morph.origin(morph.words("tokens", k)) == "B").sum() for k in range(5)]
    assert counts == sorted(counts)
    assert (counts[0], counts[4]) == (0, len(morph.places))
    weight = np.sort(morph.importance)[::-1]
    for k in (1, 2, 3):  # as many as it takes to make up k quarters of the importance, and no more
        assert weight[: counts[k] - 1].sum() < k / 4 * weight.sum() <= weight[: counts[k]].sum() + 1e-6
    assert "+" not in morph.origin(morph.words("tokens", 2))


def test_transformer_writes_only_what_is_hidden(corpus):
    torch.manual_seed(0)
    transformer = MaskedTransformer(corpus.codebook.levels, corpus.codec.grid, dim=16, depth=1, heads=2).eval()
    assert speaks(transformer, corpus.codec)
    assert not speaks(transformer, Codec(PairTokenizer()))
    hidden = np.zeros((8, 4, 4), bool)
    hidden[2:4, 1] = True
    words = refill(transformer, corpus.words[0], hidden, label=1)
    np.testing.assert_array_equal(words[~hidden], corpus.words[0][~hidden])
    assert (words < corpus.codebook.size).all()
    np.testing.assert_array_equal(words, refill(transformer, corpus.words[0], hidden, label=1))
    morph = Morph(corpus, 0, 3, steps=4, transformer=transformer)
    assert morph.methods == ("lattice", "tokens", "transformer")
    kept = morph.start == morph.end
    np.testing.assert_array_equal(morph.words("transformer", 2)[kept], morph.start[kept])


def test_a_morph_that_does_not_exist_is_refused(corpus):
    with pytest.raises(ValueError, match="there are lattice, tokens"):
        Morph(corpus, 0, 1).words("transformer", 3)
