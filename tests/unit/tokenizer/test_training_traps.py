"""Faults of magvit2-pytorch in training: weights left out, features in place of codes, shut gates, a tiny rate.

Where a test shows the library's own fault as well, that half fails once the library is repaired. The other traps are
in test_library_traps.py and test_video_tokenizer.py.
"""

from dataclasses import replace

import pytest
import torch
from magvit2_pytorch.magvit2_pytorch import VideoTokenizer
from torch import nn
from vector_quantize_pytorch import FSQ

from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.data.video_files import to_float
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.zoo import recipes
from trajlib.zoo.config import RECIPES, TINY_LAYERS, TokenizerConfig, Train

LAYERS = ("residual", ("compress_space", 16), ("compress_space", 16))
TINY = {"dim": 8, "layers": TINY_LAYERS}


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


# ---- the decoder is trained on what it will see ----


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
    """Positions with the same token give the decoder the same vector, in training as in decoding."""
    inputs = []
    hook = tokenizer.net.decoder_layers[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    _, tokens, *_ = tokenizer(videos)
    tokenizer.decode(tokens.long())
    hook.remove()
    trained, decoded = (vectors.movedim(1, -1).flatten(0, -2) for vectors in inputs)
    assert torch.allclose(trained, decoded, atol=1e-5)
    flat = tokens.flatten()
    assert 1 < len(flat.unique()) < len(flat)
    for token in flat.unique():
        assert (trained[flat == token] - trained[flat == token][0]).abs().max() < 1e-5
    features = tokenizer.latents(videos).movedim(1, -1).flatten(0, -2)
    assert (features - trained).abs().max() > 0.1  # else rounding would have done nothing


def test_each_of_our_latents_has_a_gradient(videos):
    """With FSQ every coordinate at every position has a gradient, even if all positions are alike."""
    torch.manual_seed(0)
    model = Tokenizer(**TINY)
    assert isinstance(model.quantizer, FSQ)
    z = torch.ones(3, model.quantizer.dim, *model.grid, requires_grad=True)
    model.latents = lambda _: z
    recon, _, quantizer_loss = model(videos)
    reconstruction_loss(recon, videos, quantizer_loss)[0].backward()
    assert (z.grad.abs().amax(1) > 0).all()
    coordinates = nn.Parameter(torch.ones(2, 4, 8, 4, 4))
    FSQ(list(model.levels))(coordinates)[0].square().sum().backward()
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
    """In the models that are trained, that is with the recipes' own arguments."""
    torch.manual_seed(0)
    model = recipes.new_tokenizer(name, VideoSpec())
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

    def recording(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", recording)
    train = Train(12, 1, 1e-3, muon=0.02, bf16=False, log_lines=1)
    cfg = replace(
        RECIPES["smoke"].tokenizer, model=TokenizerConfig(dim=8, layers=LAYERS), train=train, validation_clips=1
    )
    recipes.tokenizer(tmp_path, replace(RECIPES["smoke"], tokenizer=cfg), TrajectoryDataset(8, spec=VideoSpec(4, 32)))
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
