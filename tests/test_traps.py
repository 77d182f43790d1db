"""The traps of magvit2-pytorch 0.5.1 that lie on our path: each is shown in the library, and that we are not in it.

Of each pair the first half fails when the library mends its trap (our way round it may go then), the second when the
way round it is lost. The trap of the last normalisation is in test_tokenizer.py.
"""

import dataclasses

import pytest
import torch
import torchvision
from einops import rearrange
from magvit2_pytorch.magvit2_pytorch import VideoTokenizer
from torch import nn
from vector_quantize_pytorch import FSQ, LFQ

from trajlib import recipes
from trajlib.config import TINY_LAYERS, profile
from trajlib.dataset import TrajectoryDataset, to_float
from trajlib.tokenizer import FOLD, Tokenizer, reconstruction_loss

TINY = {"dim": 8, "layers": TINY_LAYERS}
PIXELS = {"levels": (5, 5), "dim": 4, "layers": ("residual",), "patch": (1, 1, 1)}  # not folded: three channels


def library(**changes):
    """The library's tokenizer as it comes, small, without the parts that a test is not about."""
    settings = {"image_size": 16, "init_dim": 8, "layers": ("residual",), "use_fsq": True, "fsq_levels": [5, 5]}
    return VideoTokenizer(**settings | {"use_gan": False, "perceptual_loss_weight": 0} | changes)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(**TINY).eval()


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(3, seed=1).batch().videos)


# ---- perceptual loss: a VGG of half a gigabyte is fetched by the constructor ----


@pytest.fixture
def no_vgg(monkeypatch):
    def fetch(*args, **settings):
        raise ConnectionError("VGG16 was asked for")

    monkeypatch.setattr(torchvision.models, "vgg16", fetch)


def test_the_library_fetches_a_vgg(no_vgg):
    with pytest.raises(ConnectionError):
        library(perceptual_loss_weight=0.1)


def test_no_tokenizer_of_ours_fetches_a_vgg(no_vgg):
    model = Tokenizer(**PIXELS)  # with three channels the library would
    assert model.net.vgg is None
    assert not model.net.use_vgg


# ---- discriminator: built where no GAN is wanted, and left out of a `parameters()` that is a list ----


def test_the_library_builds_a_discriminator_all_the_same():
    net = library(discr_kwargs={"dim": 8, "image_size": 16, "channels": 3, "max_dim": 8})
    assert isinstance(net.parameters(), list)
    assert {id(w) for w in net.discr.parameters()}.isdisjoint(id(w) for w in net.parameters())
    assert any(name.startswith("discr.") for name in net.state_dict())


def test_what_we_train_is_what_we_save(tokenizer):
    """No weight is saved untrained, and none is trained unsaved: the discriminator's, for two."""
    trained = dict(tokenizer.named_parameters())
    buffers = {name for name, _ in tokenizer.named_buffers()}
    assert set(trained) == tokenizer.state_dict().keys() - buffers
    assert {id(w) for w in tokenizer.parameters()} == {id(w) for w in tokenizer.net.parameters()}
    assert not [m for m in tokenizer.modules() if type(m).__name__ == "Discriminator"]


# ---- 16 frames ----


def test_the_library_refuses_16_frames_unless_told():
    net, clip = library(layers=("compress_time",), channels=3).eval(), torch.zeros(1, 3, 16, 16, 16)
    with pytest.raises(AssertionError, match="minus the first frame"):
        net.tokenize(clip)
    assert net.encode(clip).shape[2] == 9  # and encode, unasked, puts frames in front
    assert net.encode(clip, video_contains_first_frame=False).shape[2] == 8


@pytest.mark.parametrize("layers", [TINY_LAYERS, ("residual", "compress_time")])
def test_16_frames_in_and_16_out(videos, layers):
    model = Tokenizer(dim=8, layers=layers).eval()
    tokens = model.encode(videos[:1])
    assert tokens.shape[1:] == model.grid
    assert tokens.shape[1] in (8, 4)
    assert model.decode(tokens).shape == (1, 3, 16, 64, 64)
    assert model(videos[:1])[0].shape == (1, 3, 16, 64, 64)


# ---- encode gives features, not codes ----


def test_the_library_encodes_to_floats(tokenizer, videos):
    folded = rearrange(1 - videos, FOLD, **tokenizer.patch)
    assert tokenizer.net.encode(folded, video_contains_first_frame=False).is_floating_point()


@pytest.mark.parametrize("training", [False, True])
def test_we_encode_to_indices(videos, training):
    """In training mode too: dropout or noise in the quantizer would show here."""
    torch.manual_seed(1)
    model = Tokenizer(**TINY).train(training)
    tokens = model.encode(videos)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < model.codebook_size
    assert torch.equal(tokens, model.eval().encode(videos))


def test_the_decoder_is_trained_on_codes_and_not_on_features(tokenizer, videos):
    """Cells with the same token give the decoder the same vector, in training as in decoding."""
    seen = []
    hook = tokenizer.net.decoder_layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    _, tokens, *_ = tokenizer(videos)
    tokenizer.decode(tokens.long())
    hook.remove()
    trained, decoded = (vectors.movedim(1, -1).flatten(0, -2) for vectors in seen)
    assert torch.allclose(trained, decoded, atol=1e-5)
    flat = tokens.flatten()
    assert 1 < len(flat.unique()) < len(flat)
    for token in flat.unique():
        assert (trained[flat == token] - trained[flat == token][0]).abs().max() < 1e-5
    features = tokenizer.latents(videos).movedim(1, -1).flatten(0, -2)
    assert (features - trained).abs().max() > 0.1  # else rounding would have done nothing


# ---- LFQ's entropy pushes nothing, at the library's temperature ----


def entropy_gradient(inv_temperature):
    """Largest gradient of LFQ's entropy loss on collapsed codes: all cells the same, at +-1."""
    torch.manual_seed(0)
    quantizer = LFQ(codebook_size=64, dim=6, entropy_loss_weight=0.1, diversity_gamma=2.5).train()
    x = torch.ones(1, 32, 6, requires_grad=True)
    quantizer(x, inv_temperature=inv_temperature).entropy_aux_loss.backward()
    return x.grad.abs().max().item()


def test_lfq_pushes_no_collapsed_code():
    assert entropy_gradient(100.0) == 0.0
    assert entropy_gradient(1.0) > 1e-3


def test_each_of_our_latents_is_pushed(videos):
    """We quantize with FSQ: each coordinate of each cell is pushed by the loss, though all cells be the same."""
    torch.manual_seed(0)
    model = Tokenizer(**TINY)
    assert isinstance(model.net.quantizers, FSQ)
    z = torch.ones(3, model.net.quantizers.dim, *model.grid, requires_grad=True)
    model.latents = lambda _: z
    reconstruction_loss(model, videos)[0].backward()
    assert (z.grad.abs().amax(1) > 0).all()
    coordinates = nn.Parameter(torch.ones(2, 4, 8, 4, 4))
    FSQ(list(model.config["levels"]))(coordinates)[0].square().sum().backward()
    assert (coordinates.grad.abs() > 0).all()


# ---- squeeze and excite: the gates start shut ----


def share_of_correction(layer, channels):
    """What a residual layer adds to its input, as a share of it."""
    torch.manual_seed(0)
    x = torch.randn(1, channels, 4, 8, 8)
    with torch.no_grad():
        return ((layer(x) - x).norm() / x.norm()).item()


def test_the_librarys_residual_branches_start_shut():
    net = library(layers=(("consecutive_residual", 2),), init_dim=32)
    assert share_of_correction(net.encoder_layers[0], 32) < 1e-3


@pytest.mark.parametrize("name", ["full", "smoke"])
def test_our_residual_branches_start_open(name):
    """In the models that are trained, that is with the profiles' own arguments."""
    torch.manual_seed(0)
    model = Tokenizer(**profile(name).tokenizer)
    kinds = ["residual" in layer[0] or "residual" in layer for layer in model.config["layers"]]
    sides = zip(kinds, model.net.encoder_layers, reversed(model.net.decoder_layers), strict=False)  # then a norm
    residual = [layer for kind, *pair in sides if kind for layer in pair]
    assert len(residual) == 6
    for layer in residual:
        channels = next(m.in_channels for m in layer.modules() if isinstance(m, nn.Conv3d))
        assert share_of_correction(layer, channels) > 0.02


# ---- the library's trainer never reaches its learning rate ----


def test_our_recipe_reaches_its_learning_rate(monkeypatch, tmp_path):
    """The library's trainer stays at a thousandth of it, and so trains next to nothing."""
    rates = []
    step = torch.optim.AdamW.step

    def watched(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    cfg = dataclasses.replace(profile("smoke"), tokenizer=TINY, tokenizer_batch=1)
    recipes.tokenizer(cfg, tmp_path)
    assert max(rates) == pytest.approx(cfg.tokenizer_recipe["lr"], rel=0.05)
