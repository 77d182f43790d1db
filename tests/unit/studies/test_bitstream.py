"""Tokens as bytes: reading gives what was written, in as few bytes as the model allows; other bytes are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from studies.bitstream import read_bytes, write_bytes

from trajlib.generation.autoregressive import AutoregressiveTransformer, clip_bits, generate_autoregressive

LEVELS, GRID = (5, 5, 2), (2, 4, 4)  # a quarter of a clip: each of its tokens is a step of the model
K = 50
CHECK = 8  # bits


def build(seed=0, grid=GRID, scale=8):
    """An untrained model with strong preferences about what follows what."""
    torch.manual_seed(seed)
    model = AutoregressiveTransformer(K, grid, levels=LEVELS, dim=32, depth=1, heads=2).eval()
    with torch.no_grad():
        model.token_embedding.index_embedding.weight.mul_(scale)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def confident():
    """Almost certain of token 7, whatever came before."""
    model = build(scale=1)
    with torch.no_grad():
        model.output_bias[7] = 30
    return model


@pytest.fixture(scope="module")
def likely(model):
    """Clips that the model generates: (6, 2, 4, 4)."""
    return generate_autoregressive(model, [0, 1, 2, 3, 0, 1], guidance=0, seed=1)


def noise(n=4, grid=GRID):
    return torch.randint(0, K, (n, *grid), generator=torch.Generator().manual_seed(0))


# ---- there and back ----


def test_what_is_read_is_what_was_written(model, likely):
    tokens = torch.cat([likely, noise(2)])
    streams = write_bytes(model, tokens)
    assert [type(stream) for stream in streams] == [bytes] * 8
    back = read_bytes(model, streams)
    assert back.dtype == torch.int64
    assert torch.equal(back, tokens)


@pytest.mark.slow
def test_with_the_class_too(model, likely):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    streams = write_bytes(model, likely, labels)
    assert streams != write_bytes(model, likely)
    assert torch.equal(read_bytes(model, streams, labels), likely)


def test_what_a_confident_model_expects_costs_nothing_and_all_else_can_still_be_written(confident):
    expected = torch.full((1, *GRID), 7)
    odd = expected.clone()
    odd[0, 1, 2, 3] = 8
    tokens = torch.cat([expected, odd, noise(2)])
    streams = write_bytes(confident, tokens)
    assert torch.equal(read_bytes(confident, streams), tokens)
    assert len(streams[0]) <= 2  # the checksum
    assert len(streams[1]) <= 6
    assert len(streams[2]) > 60


@settings(max_examples=10, deadline=None)
@given(tokens=arrays.arrays(np.int64, (1, 1, 2, 2), elements=st.integers(0, K - 1)), seed=st.integers(0, 3))
def test_any_tokens_come_back(tokens, seed):
    model = build(seed, (1, 2, 2), scale=60)
    tokens = torch.from_numpy(tokens)
    streams = write_bytes(model, tokens)
    assert torch.equal(read_bytes(model, streams), tokens)
    assert 8 * len(streams[0]) <= clip_bits(model, tokens).item() + CHECK + 16


def test_no_clips_no_bytes(model):
    assert write_bytes(model, torch.zeros(0, *GRID, dtype=torch.long)) == []
    assert read_bytes(model, []).shape == (0, *GRID)


# ---- how many ----


def test_the_bytes_are_as_few_as_the_model_allows(model, likely):
    """The checksum, the rest of a byte, and sometimes one more where the interval lies across two."""
    tokens = torch.cat([likely, noise()])
    spent = (
        torch.tensor([8.0 * len(stream) for stream in write_bytes(model, tokens)]) - clip_bits(model, tokens) - CHECK
    )
    assert (spent < 16).all()
    assert (spent > -8).all()  # a number with zeros at its end may happen to lie in the interval
    assert 0 < spent.mean() < 10


@pytest.mark.slow
def test_likely_clips_are_shorter(model, likely):
    assert max(map(len, write_bytes(model, likely))) < min(map(len, write_bytes(model, noise())))


# ---- the same bytes ----


@pytest.mark.slow
def test_a_clips_bytes_do_not_depend_on_its_batch(model, likely):
    streams = write_bytes(model, likely)
    assert write_bytes(model, likely[4:5]) == streams[4:5]
    assert torch.equal(read_bytes(model, streams[::-1]), likely.flip(0))


@pytest.mark.slow
def test_nor_on_the_number_of_threads(model, likely):
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(write_bytes(model, likely))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert found[0] == found[1]


def test_no_generator_is_touched_and_dropout_is_off(likely):
    torch.manual_seed(0)
    model = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2, dropout=0.5).train()
    before = torch.get_rng_state()
    assert torch.equal(read_bytes(model, write_bytes(model, likely[:1])), likely[:1])
    assert torch.equal(before, torch.get_rng_state())


# ---- what is refused ----


@pytest.mark.parametrize(
    "tokens",
    [
        torch.zeros(1, 4, 4, 8, dtype=torch.long),
        torch.zeros(1, 128, dtype=torch.long),
        torch.zeros(*GRID, dtype=torch.long),
        torch.zeros(1, *GRID, 2, dtype=torch.long),
        torch.zeros(1, *GRID),
    ],
    ids=lambda tokens: str(tuple(tokens.shape)),
)
def test_a_foreign_grid(model, tokens):
    with pytest.raises(ValueError, match=r"tokens came as .*; expected int64 \(b, 2, 4, 4\)"):
        write_bytes(model, tokens)


@pytest.mark.parametrize("token", [-1, K])
def test_a_foreign_codebook(model, token):
    tokens = noise(1)
    tokens[0, 1, 3, 3] = token
    with pytest.raises(ValueError, match=r"this codebook has 0 \.\. 49"):
        write_bytes(model, tokens)


def test_labels_that_do_not_fit(model, likely):
    with pytest.raises(ValueError, match="2 labels came for 6 clips"):
        write_bytes(model, likely, [0, 1])
    with pytest.raises(ValueError, match="2 labels came for 1 clips"):
        read_bytes(model, [b"x"], [0, 1])
    with pytest.raises(ValueError, match="labels run from 4"):
        write_bytes(model, likely, [4] * 6)


@pytest.mark.slow
def test_foreign_bytes_are_refused(model, likely):
    """All but one in 256: of these, none."""
    stream = write_bytes(model, likely)[0]
    half = len(stream) // 2
    flipped = stream[:half] + bytes([stream[half] ^ 4]) + stream[half + 1 :]
    cut = [stream[:-1], stream[:half], stream[1:]]
    for foreign in (*cut, flipped, stream + b"\0", stream + b"x", b"", b"x", bytes(50), b"\xff" * 50):
        with pytest.raises(ValueError, match="bytes of clip 0 are not what this model writes here"):
            read_bytes(model, [foreign])


def test_bytes_of_another_model_or_class(model, likely):
    streams = write_bytes(model, likely[:1], [0])
    for other, labels in ((build(1), [0]), (model, [1]), (model, None)):
        with pytest.raises(ValueError, match="another model, class or kind of CPU"):
            read_bytes(other, streams, labels)
