"""The tokenizer: shapes, what decoding may know, what time may know, the library's traps, bad input."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from magvit2_pytorch.magvit2_pytorch import SqueezeExcite
from safetensors.torch import load_file, save_file

from trajlib import metrics, pretrained
from trajlib.config import TINY_LAYERS
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.tokenizer import FOLD, UNFOLD, Tokenizer, check_videos, reconstruction_loss


@pytest.fixture(scope="module")
def tokenizer():
    """Tiny, with random weights throughout: some of the library's begin at zero and would hide what they do."""
    torch.manual_seed(0)
    model = Tokenizer(dim=8, layers=TINY_LAYERS)
    for part in model.modules():
        if isinstance(part, SqueezeExcite):
            torch.nn.init.normal_(part.net[-2].weight)
    return model.eval()


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(4, seed=1).batch().videos)


# ---- shapes ----


def test_round_trip(tokenizer, videos):
    tokens = tokenizer.encode(videos)
    assert tokens.shape == (4, 8, 4, 4)
    assert tokens.shape[1:] == tokenizer.grid
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.codebook_size == 1000
    films = tokenizer.decode(tokens)
    assert films.shape == videos.shape
    assert films.dtype == torch.float32
    assert films.min() >= 0
    assert films.max() <= 1
    assert torch.equal(tokenizer.reconstruct(videos), films)


def test_the_course_has_128_tokens_a_clip():
    model = Tokenizer()
    assert model.grid == (8, 4, 4)
    assert 16 * 64 * 64 / math.prod(model.grid) == 512


@pytest.mark.parametrize(
    ("layers", "patch", "grid"),
    [
        (("residual",), (2, 4, 4), (8, 16, 16)),
        (("residual", ("compress_space", 8)), (2, 8, 8), (8, 4, 4)),
        ((("compress_time", 8), ("compress_space", 8)), (2, 4, 4), (4, 8, 8)),
    ],
)
def test_grid_follows_patch_and_layers(layers, patch, grid, videos):
    model = Tokenizer(levels=(5, 5), dim=8, layers=layers, patch=patch).eval()
    tokens = model.encode(videos[:1])
    assert model.grid == tuple(tokens.shape[1:]) == grid
    assert tokens.max() < model.codebook_size == 25
    assert model.decode(tokens).shape == (1, 3, 16, 64, 64)


def test_folding_only_moves_numbers(videos):
    patch = {"p": 2, "q": 4, "r": 4}
    folded = rearrange(videos, FOLD, **patch)
    assert torch.equal(folded[:, 2 * 32 + 1 * 16 + 3 * 4 + 2, 4, 5, 6], videos[:, 2, 9, 23, 26])
    assert torch.equal(rearrange(folded, UNFOLD, **patch), videos)


def test_a_clip_has_the_same_tokens_alone_and_in_a_batch(tokenizer, videos):
    assert torch.equal(torch.cat([tokenizer.encode(v[None]) for v in videos]), tokenizer.encode(videos))


# ---- decoding sees indices and nothing else ----

DECODE = """
import sys
from safetensors.torch import load_file, save_file
from trajlib.pretrained import load
tokenizer, _ = load("tokenizer", sys.argv[1])
save_file({"films": tokenizer.decode(load_file(sys.argv[2])["tokens"])}, sys.argv[3])
"""


def test_another_process_paints_the_same_pixels_from_the_indices(tokenizer, videos, tmp_path):
    tokens = tokenizer.encode(videos)
    pretrained.save(tokenizer, {}, "tokenizer", tmp_path)
    files = [str(tmp_path / name) for name in ("tokens", "films")]
    save_file({"tokens": tokens}, files[0])
    subprocess.run([sys.executable, "-c", DECODE, str(tmp_path), *files], check=True, timeout=200)
    assert torch.allclose(load_file(files[1])["films"], tokenizer.decode(tokens), atol=1e-5)


def test_a_latent_may_move_while_its_index_stays(tokenizer, videos, monkeypatch):
    latents, tokens, films = tokenizer.latents(videos), tokenizer.encode(videos), tokenizer.reconstruct(videos)
    nudge = 1e-3 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    moved = tokenizer.net.quantizers(latents + nudge)[1] != tokens
    assert moved.float().mean() < 0.1
    nudge = nudge * ~moved[:, None]  # those that crossed a step stay where they were
    monkeypatch.setattr(tokenizer, "latents", lambda _: latents + nudge)
    assert torch.equal(tokenizer.reconstruct(videos), films)
    trained_on, _ = tokenizer(videos)  # what training sees is what decoding will see, clipping apart
    assert torch.allclose(trained_on.clamp(0, 1), films, atol=1e-4)


@given(st.lists(st.integers(0, 999), min_size=128, max_size=128))
@settings(max_examples=10, deadline=None)
def test_every_index_has_a_latent_that_comes_back_as_it(tokenizer, indices):
    quantizer = tokenizer.net.quantizers
    tokens = torch.tensor(indices).reshape(1, 8, 4, 4)
    codes = quantizer._indices_to_codes(tokens)
    assert torch.equal(quantizer.codes_to_indices(codes).long(), tokens)


# ---- time ----


@given(st.integers(0, 15))
@settings(max_examples=8, deadline=None)
def test_a_frame_moves_no_earlier_latent(tokenizer, videos, frame):
    painted = videos[:1].clone()
    painted[:, :, frame] = 1 - painted[:, :, frame]
    change = (tokenizer.latents(painted) - tokenizer.latents(videos[:1])).abs().amax((0, 1, 3, 4))
    assert (change[: frame // 2] < 1e-5).all()
    assert change[frame // 2] > 1e-3


@given(st.integers(0, 7))
@settings(max_examples=8, deadline=None)
def test_a_token_changes_no_earlier_pixel(tokenizer, videos, frame):
    tokens = tokenizer.encode(videos[:1])
    swapped = tokens.clone()
    swapped[:, frame] = (tokens[:, frame] + 500) % 1000
    change = (tokenizer.decode(swapped) - tokenizer.decode(tokens)).abs().amax((0, 1, 3, 4))
    assert (change[: 2 * frame] < 1e-5).all()
    assert change[2 * frame :].max() > 1e-3


# ---- the library's traps ----


def gradient_of_the_norm(tokenizer, encode):
    norm = tokenizer.net.encoder_layers[-1][1]
    assert isinstance(norm, torch.nn.LayerNorm)
    tokenizer.zero_grad()
    encode().square().sum().backward()
    return norm.weight.grad


def test_the_last_norm_is_called_by_us_and_not_by_the_library(tokenizer, videos):
    folded = rearrange(1 - videos[:1], FOLD, **tokenizer.patch)
    library = gradient_of_the_norm(tokenizer, lambda: tokenizer.net.encode(folded, video_contains_first_frame=False))
    assert library is None, "the library calls its norm now: ours would be a second one"
    ours = gradient_of_the_norm(tokenizer, lambda: tokenizer.latents(videos[:1]))
    assert ours is not None
    assert ours.abs().sum() > 0
    z = tokenizer.latents(videos[:1])
    assert torch.allclose(z.mean(1), torch.zeros(1, 8, 4, 4), atol=1e-4)  # it begins as plain normalisation
    assert torch.allclose(z.var(1, unbiased=False), torch.ones(1, 8, 4, 4), atol=0.05)


def test_every_weight_has_a_gradient(tokenizer, videos):
    tokenizer.zero_grad()
    reconstruction_loss(tokenizer, videos)[0].backward()
    assert [name for name, weights in tokenizer.named_parameters() if weights.grad is None] == []


def test_no_discriminator_is_kept(tokenizer):
    assert not [key for key in tokenizer.state_dict() if "discr" in key or "vgg" in key]
    assert next(tokenizer.parameters()) is not None  # the library's is a list


def test_residual_branches_begin_open():
    gates = [part.net[-2].bias for part in Tokenizer(dim=8).modules() if isinstance(part, SqueezeExcite)]
    assert len(gates) == 8
    assert all((gate == 0).all() for gate in gates)


# ---- the loss ----


def test_loss_in_white_and_near_the_dot():
    videos = torch.ones(1, 3, 16, 64, 64)
    painter = torch.zeros(1, 3, 16, 64, 64)
    loss, parts = reconstruction_loss(lambda v: (v - 0.1, None), videos)
    assert loss.item() == pytest.approx(10 * 0.01, rel=1e-4)  # no dot: nothing is dearer
    assert parts["mse"].item() == pytest.approx(0.01, rel=1e-4)
    videos[0, :, :, 32, 32] = 0
    near = 5 * 5 / 64**2
    loss, _ = reconstruction_loss(lambda v: (v - 0.1, None), videos, weight=10)
    assert loss.item() == pytest.approx(10 * 0.01 * (1 + 9 * near), rel=1e-4)
    loss, _ = reconstruction_loss(lambda v: (painter, None), videos, weight=1)
    assert loss.item() == pytest.approx(10 * videos.square().mean().item(), rel=1e-4)


def test_loss_of_hue():
    """An error of +e in red and -e in green is all hue; the same error in all three colours has none."""
    videos = torch.full((1, 3, 16, 64, 64), 0.5)
    hue_error = torch.tensor([0.1, -0.1, 0.0]).reshape(1, 3, 1, 1, 1)
    for error, factor in ((hue_error, 7), (torch.full((1, 3, 1, 1, 1), 0.1), 1)):
        plain, parts = reconstruction_loss(lambda v, e=error: (v + e, None), videos)
        heavy, heavy_parts = reconstruction_loss(lambda v, e=error: (v + e, None), videos, hue=7.0)
        assert plain.item() == pytest.approx(10 * 10 * error.square().mean().item(), rel=1e-4)  # all of it is near ink
        assert heavy.item() == pytest.approx(factor * plain.item(), rel=1e-4)
        assert parts["mse"].item() == heavy_parts["mse"].item() == pytest.approx(error.square().mean().item(), rel=1e-4)


# ---- bad input ----


@pytest.mark.parametrize(
    ("came", "sentence"),
    [
        (torch.zeros(1, 3, 16, 64, 64, dtype=torch.uint8), r"videos came as torch.uint8; expected floats .*to_float"),
        ("clip.mp4", r"videos came as str; expected floats"),
        (torch.zeros(3, 16, 64, 64), r"shape \(3, 16, 64, 64\); expected \(b, 3, 16, 64, 64\)"),
        (torch.zeros(1, 3, 15, 64, 64), r"shape \(1, 3, 15, 64, 64\); expected"),
        (torch.zeros(1, 16, 3, 64, 64), r"batch, RGB, frames, height, width"),
        (torch.full((1, 3, 16, 64, 64), float("nan")), r"NaN or infinity"),
        (torch.full((1, 3, 16, 64, 64), 255.0), r"run from 255 to 255; expected \[0, 1\]: divide 0..255 pixels by 255"),
        (torch.full((1, 3, 16, 64, 64), -1.0), r"run from -1 to -1"),
    ],
)
def test_bad_videos_get_one_sentence(tokenizer, came, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        tokenizer.encode(came)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("came", "sentence"),
    [
        (torch.zeros(1, 8, 4, 4), r"tokens came as torch.float32 \(1, 8, 4, 4\); expected int64 \(b, 8, 4, 4\)"),
        (torch.zeros(1, 128, dtype=torch.long), r"torch.int64 \(1, 128\); expected"),
        (torch.full((1, 8, 4, 4), 1000), r"run from 1000 to 1000; this codebook has 0 .. 999"),
        (torch.full((1, 8, 4, 4), -1), r"run from -1 to -1"),
    ],
)
def test_bad_tokens_get_one_sentence(tokenizer, came, sentence):
    with pytest.raises(ValueError, match=sentence):
        tokenizer.decode(came)


def test_no_clips_are_no_error():
    check_videos(torch.zeros(0, 3, 16, 64, 64))


# ---- what is shipped ----

SHIPPED = Path(pretrained.SHIPPED, "tokenizer.json").exists()


@pytest.mark.skipif(not SHIPPED, reason="no tokenizer is shipped yet")
def test_the_shipped_tokenizer_is_as_good_as_its_figures():
    """A few clips cannot repeat a mean of a thousand; they must agree within four standard errors."""
    model, card = pretrained.load("tokenizer")
    assert card["parameters"] == sum(weights.numel() for weights in model.parameters())
    figures = pretrained.results("shipped")
    clips = TrajectoryDataset(32, seed=SEEDS["test"]).batch()
    videos = to_float(clips.videos)
    films = model.reconstruct(videos)
    found = {
        "tokenizer psnr": metrics.psnr(videos, films),
        "tokenizer foreground psnr": metrics.foreground_psnr(videos, films),
    }
    assert found["tokenizer psnr"].mean() > metrics.psnr(videos, torch.ones_like(videos)).mean()
    for name in found.keys() & figures.keys():
        error = 4 * found[name].std().item() / len(videos) ** 0.5
        assert found[name].mean().item() == pytest.approx(figures[name]["value"], abs=error), name
