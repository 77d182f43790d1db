"""Tokenizers of videos of other sizes and lengths, in batches of any size; sizes that do not divide."""

import pytest
import torch

from trajlib.data.clips import VideoSpec
from trajlib.tokenizer.video_tokenizer import Tokenizer

SHRINK = ("residual", ("compress_space", 8), ("compress_space", 8))


def build(spec, layers=SHRINK, patch=(2, 4, 4), **options):
    torch.manual_seed(0)
    return Tokenizer(dim=8, layers=layers, patch=patch, spec=spec, **options).eval()


def clips(spec, n=2):
    return torch.rand(n, *spec.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("spec", "layers", "patch", "grid", "cell"),
    [
        (VideoSpec(16, 64), SHRINK, (2, 4, 4), (8, 4, 4), (2, 16, 16)),
        (VideoSpec(8, 32), SHRINK, (2, 4, 4), (4, 2, 2), (2, 16, 16)),
        (VideoSpec(6, 48), (("compress_space", 8),), (1, 4, 4), (6, 6, 6), (1, 8, 8)),
        (VideoSpec(8, 32), (("compress_time", 8), *SHRINK), (2, 4, 4), (2, 2, 2), (4, 16, 16)),
        (VideoSpec(17, 32), SHRINK, (1, 4, 4), (17, 2, 2), (1, 16, 16)),
        (VideoSpec(1, 32), SHRINK, (1, 4, 4), (1, 2, 2), (1, 16, 16)),
    ],
)
def test_the_grid_follows_the_videos(spec, layers, patch, grid, cell):
    model = build(spec, layers, patch)
    assert (model.spec, model.grid, model.token_shape, model.cell) == (spec, grid, grid, cell)
    tokens = model.encode(clips(spec))
    assert tokens.shape == (2, *grid)
    assert model.decode(tokens).shape == (2, *spec.shape)
    again = Tokenizer(**model.config)
    assert (again.grid, again.spec) == (grid, spec)


@pytest.mark.parametrize("kind", [VideoSpec(8, 32, 4), {"frames": 8, "size": 32, "fps": 4}])
def test_a_spec_comes_as_such_or_as_its_fields(kind):
    assert build(kind).spec == VideoSpec(8, 32, 4)


@pytest.mark.parametrize(
    ("spec", "layers", "patch", "sentence"),
    [
        (VideoSpec(8, 40), SHRINK, (2, 4, 4), "a picture of 40 px does not divide into tokens of 16 px"),
        (VideoSpec(8, 32), SHRINK, (2, 4, 2), "does not divide into tokens"),
        (VideoSpec(9, 32), SHRINK, (2, 4, 4), "9 frames cannot be folded 2 at a time: take a patch of 1 frame"),
        (VideoSpec(8, 32), SHRINK, (3, 4, 4), "8 frames cannot be folded 3 at a time"),
        (
            VideoSpec(6, 32),
            (("compress_time", 8), *SHRINK),
            (2, 4, 4),
            "6 frames do not divide into tokens of 4 frames",
        ),
        (VideoSpec(16, 32), (("compress_time", 8), ("compress_time", 8)), (8, 4, 4), "16 frames do not divide"),
    ],
)
def test_sizes_that_do_not_divide_are_one_sentence(spec, layers, patch, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        build(spec, layers, patch)
    assert "\n" not in str(caught.value)


def test_videos_of_another_spec_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3, 16, 64, 64\); expected \(b, 3, 8, 32, 32\)"):
        build(VideoSpec(8, 32)).encode(clips(VideoSpec()))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 64])
def test_the_size_of_a_batch_changes_nothing(batch_size):
    spec = VideoSpec(4, 32)
    model, videos = build(spec), clips(spec, 7)
    sizes = []
    hook = model.net.conv_in.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    tokens = model.encode(videos, batch_size=batch_size)
    hook.remove()
    assert sizes == [len(part) for part in videos.split(batch_size)]
    assert torch.equal(tokens, model.encode(videos))
    assert torch.allclose(model.decode(tokens, batch_size=batch_size), model.decode(tokens), atol=1e-5)


def test_each_clip_of_a_batch_keeps_its_own_condition():
    spec = VideoSpec(4, 32)
    model, videos = build(spec, (*SHRINK, "cond_residual"), dim_cond=4), clips(spec, 5)
    cond = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    tokens = model.encode(videos, batch_size=2, cond=cond)
    assert torch.equal(tokens, model.encode(videos, cond=cond))
    assert torch.allclose(model.decode(tokens, batch_size=2, cond=cond), model.decode(tokens, cond=cond), atol=1e-5)


def test_no_clips_keep_the_shapes():
    spec = VideoSpec(4, 32)
    model = build(spec, quantizer={"kind": "fsq", "levels": (3, 3), "num_codebooks": 2})
    tokens = model.encode(clips(spec, 0))
    assert tokens.shape == (0, 2, 2, 2, 2)
    assert model.decode(tokens).shape == (0, *spec.shape)
