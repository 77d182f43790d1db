"""What magvit2-pytorch does by itself, and that our wrapper is not caught by it: each fails without its fix.

Its last LayerNorm, its discriminator, its gates and causality are tested in `test_video_tokenizer.py`.
"""

import pytest
import torch
import torchvision
from einops import rearrange
from vector_quantize_pytorch import FSQ, LFQ

from trajlib.data.clips import TrajectoryDataset
from trajlib.data.video_files import to_float
from trajlib.tokenizer.video_tokenizer import FOLD, Tokenizer, VideoTokenizer
from trajlib.zoo.config import TINY_LAYERS

PLAIN = {"image_size": 16, "channels": 3, "init_dim": 8, "use_fsq": True, "fsq_levels": [8, 5, 5, 5], "use_gan": False}


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(2, seed=1).batch().videos)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(dim=8, layers=TINY_LAYERS).eval()


def test_the_constructor_downloads_no_vgg(monkeypatch):
    def download(*args, **kwargs):
        raise ConnectionError("half a gigabyte")

    monkeypatch.setattr(torchvision.models, "vgg16", download)
    with pytest.raises(ConnectionError):
        VideoTokenizer(**PLAIN, layers=("residual",))
    Tokenizer(dim=8, layers=TINY_LAYERS)
    Tokenizer(dim=8, layers=TINY_LAYERS, patch=(1, 1, 1))  # even with three channels, where the library would


def test_encode_gives_codes_and_the_librarys_gives_features(tokenizer, videos):
    folded = rearrange(1 - videos, FOLD, **tokenizer.patch)
    features = tokenizer.net.encode(folded, video_contains_first_frame=False)
    assert features.is_floating_point()
    assert features.numel() > tokenizer.encode(videos).numel()
    assert tokenizer.encode(videos).dtype == torch.int64
    with pytest.raises(ValueError, match=r"tokens came as torch\.float32"):
        tokenizer.decode(features)  # the library's own decode takes them, unrounded


def test_sixteen_frames_are_taken_with_a_halving_of_time(videos):
    layers = (("compress_time", 8), ("compress_space", 8))
    library = VideoTokenizer(**PLAIN, layers=layers, perceptual_loss_weight=0)
    with pytest.raises(AssertionError):
        library.tokenize(torch.rand(1, 3, 16, 16, 16))
    ours = Tokenizer(dim=8, layers=layers, patch=(2, 4, 4)).eval()
    assert ours.encode(videos).shape == (2, *ours.grid)
    assert ours.reconstruct(videos).shape == videos.shape


def test_collapsed_latents_have_no_entropy_gradient_at_the_librarys_temperature():
    """The reason for FSQ: a codebook of signs that has collapsed stays so, unless the temperature is raised."""
    lfq = LFQ(codebook_size=8, dim=3, commitment_loss_weight=0.0).train()
    collapsed = torch.ones(1, 64, 3) + 0.01 * torch.randn(1, 64, 3, generator=torch.Generator().manual_seed(0))
    slopes = {}
    for inverse_temperature in (100.0, 1.0):
        latent = collapsed.clone().requires_grad_()
        lfq(latent, inv_temperature=inverse_temperature)[2].backward()
        slopes[inverse_temperature] = latent.grad.abs().max().item()
    assert slopes[100.0] == 0
    assert slopes[1.0] > 1e-5


def test_our_quantizer_passes_the_gradient_and_keeps_to_its_codes(tokenizer, videos):
    assert isinstance(tokenizer.quantizer, FSQ)
    assert not getattr(tokenizer.quantizer, "noise_dropout", 0)  # with it, indices leave the codebook
    latents = tokenizer.latents(videos).detach().requires_grad_()
    quantized, *_ = tokenizer.quantizer(latents)
    quantized.square().sum().backward()
    assert latents.grad.abs().sum() > 0
