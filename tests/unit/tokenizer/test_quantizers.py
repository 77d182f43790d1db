"""Quantizers: codes, latents and level indices agree with each other and with the library; what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajlib.tokenizer.quantizers import (
    FSQ,
    LFQ,
    VQ,
    LevelEmbedding,
    build_quantizer,
    codes_from_levels,
    level_indices,
)

LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=6)


@given(LEVELS, st.integers(0, 2**32 - 1))
def test_level_indices_and_codes_are_inverse_in_numpy_and_torch(levels, seed):
    codes = np.random.default_rng(seed).integers(math.prod(levels), size=(3, 2))
    indices = level_indices(codes, levels)
    assert indices.shape == (3, 2, len(levels))
    assert (indices >= 0).all()
    assert (indices < levels).all()
    np.testing.assert_array_equal(codes_from_levels(indices, levels), codes)
    in_torch = level_indices(torch.from_numpy(codes), levels)
    assert torch.equal(in_torch, torch.from_numpy(indices))
    assert torch.equal(codes_from_levels(in_torch, levels), torch.from_numpy(codes))


@given(st.lists(st.integers(3, 9), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_level_indices_are_those_of_the_librarys_fsq(levels, seed):
    fsq = FSQ(len(levels), levels)
    codes = torch.randint(fsq.codebook_size, (1, 2, 2, 3), generator=torch.Generator().manual_seed(seed))
    indices = level_indices(codes, fsq.levels)
    assert torch.equal(indices, fsq.indices_to_level_indices(codes).long())
    half = torch.tensor(levels) // 2
    assert torch.allclose(fsq.codes_to_latents(codes), ((indices - half) / half).movedim(-1, 1))


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_level_indices_are_the_signs_of_the_librarys_lfq(bits, seed):
    """The library's bits run the other way: its first latent dimension is the highest one."""
    lfq = LFQ(bits, bits)
    codes = torch.randint(2**bits, (1, 2, 2, 3), generator=torch.Generator().manual_seed(seed))
    signs = lfq.codes_to_latents(codes).movedim(1, -1)
    assert torch.equal(level_indices(codes, lfq.levels).flip(-1), (signs > 0).long())


QUANTIZERS = {
    "fsq": lambda: FSQ(12, (8, 5, 5)),
    "fsq, two codebooks": lambda: FSQ(12, (4, 4), num_codebooks=2),
    "lfq": lambda: LFQ(12, 6),
    "vq": lambda: VQ(12, 32),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_each_quantizer_follows_the_protocol(name):
    torch.manual_seed(0)
    quantizer = QUANTIZERS[name]()
    z = torch.randn(2, 12, 3, 4, 5, requires_grad=True)
    quantized, codes, loss = quantizer(z, background=torch.ones(2, 3, 4, 5))
    last_axis = (quantizer.num_codebooks,) if quantizer.num_codebooks > 1 else ()
    assert quantized.shape == z.shape
    assert codes.shape == (2, 3, 4, 5, *last_axis)
    assert 0 <= codes.min() <= codes.max() < quantizer.codebook_size
    assert loss.shape == ()
    (quantized.square().sum() + loss).backward()
    assert z.grad.abs().sum() > 0  # straight through
    quantizer.eval()
    assert torch.equal(quantizer(z)[1], quantizer(z, background=None)[1])
    if quantizer.levels:
        assert math.prod(quantizer.levels) == quantizer.codebook_size
    codes = quantizer(z)[1]
    assert torch.allclose(quantizer.codes_to_latents(codes), quantizer(z)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "pq"}, "quantizer 'pq' is unknown; there are fsq, lfq, vq.*: add yours to QUANTIZERS"),
        ({"kind": "fsq"}, r"quantizer 'fsq' cannot be built with \{\}"),
        ({"kind": "fsq", "levels": (2, 5)}, "quantizer 'fsq' cannot be built with .*greater level"),
        ({"kind": "lfq", "levels": (2, 2)}, "quantizer 'lfq' cannot be built with .*levels"),
        ({"kind": "vq", "size": 8, "sise": 9}, "sise"),
    ],
)
def test_an_unknown_quantizer_or_option_is_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        build_quantizer(8, **options)
    assert "\n" not in str(caught.value)


def test_codes_that_share_level_indices_share_vectors():
    embedding = LevelEmbedding((3, 4), 8)
    table = embedding()
    assert table.shape == (12, 8)
    first, second = embedding.weight[:3], embedding.weight[3:]
    assert torch.allclose(table[1 + 3 * 2], first[1] + second[2])
    assert not next(iter(embedding.buffers())).requires_grad
    assert list(embedding.state_dict()) == ["weight"]


# ---- the weight of LFQ's entropy ----


def test_the_weight_of_the_entropy_falls_from_three_times_to_once():
    """MAGVIT-v2's annealing; a step is a call in training, and a training that resumes goes on where it was."""
    lfq, z = LFQ(4, 4, anneal_steps=4), torch.randn(2, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    weights = []
    for _ in range(3):
        lfq.eval()(z)
        lfq.train()(z)
        weights.append(lfq.entropy_loss_weight)
    resumed = LFQ(4, 4, anneal_steps=4)
    resumed.load_state_dict(lfq.state_dict())
    for _ in range(3):
        resumed.train()(z)
        weights.append(resumed.entropy_loss_weight)
    assert weights == pytest.approx([0.3, 0.25, 0.2, 0.15, 0.1, 0.1])


def test_without_annealing_nothing_is_counted():
    lfq = LFQ(4, 4).train()
    lfq(torch.ones(1, 4, 1, 1, 1))
    assert lfq.entropy_loss_weight == 0.1
    assert "seen" not in lfq.state_dict()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_level_indices_take_every_type_of_integer(dtype):
    """8 bits hold these codes, but not their place values."""
    levels, codes = (8, 5, 5), torch.arange(120)
    expected = level_indices(codes, levels)
    for came in (codes.to(dtype), codes.to(dtype).numpy()):
        found = torch.as_tensor(level_indices(came, levels))
        assert torch.equal(found, expected)
        assert torch.equal(torch.as_tensor(codes_from_levels(found.to(dtype), levels)), codes)


@pytest.mark.parametrize("codes", [[1.9], [True], [-1], [200], [10**30], None, "12", [float("nan")]])
def test_what_is_no_code_has_no_levels(codes):
    with pytest.raises(ValueError, match=r"^codes (came as|run from) [^\n]*\.$"):
        level_indices(codes, (8, 5, 5))
    with pytest.raises(ValueError, match=r"^level indices (came as|run from) [^\n]*\.$"):
        codes_from_levels(codes, (8, 5, 5))
