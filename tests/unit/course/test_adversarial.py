"""Adversary and perceptual loss: their outputs, their gradients, and the library's gradient penalty."""

import types

import pytest
import torch
import torchvision
from torch import nn

from trajlib.classify.readers import Simple3DCNN
from trajlib.course import adversarial
from trajlib.course.adversarial import (
    Adversary,
    CropDiscriminator,
    FrameDiscriminator,
    perceptual_from_cnn,
    perceptual_from_vgg,
)
from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.data.video_files import to_float
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.zoo.config import TINY_LAYERS


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(4, seed=1).batch().videos)


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(dim=8, layers=TINY_LAYERS).train()


# ---- the discriminators ----


def test_the_frame_discriminator_gives_one_logit_a_clip(videos):
    torch.manual_seed(0)
    discriminator = FrameDiscriminator()
    assert discriminator(discriminator.view(videos)).shape == (4,)


def test_the_frame_discriminator_sees_one_frame_of_each_clip():
    numbered = torch.arange(4 * 16.0).reshape(4, 1, 16, 1, 1).expand(4, 3, 16, 64, 64)
    torch.manual_seed(0)
    seen = FrameDiscriminator().view(numbered)
    assert seen.shape == (4, 3, 64, 64)
    assert [int(frame.unique()) // 16 for frame in seen] == [0, 1, 2, 3]  # one value each, of the right clip
    assert len({int(frame.unique()) % 16 for frame in seen}) > 1


def test_the_frame_discriminator_does_not_see_the_order_of_frames(videos):
    shuffled = videos[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    net = FrameDiscriminator().eval()
    found = [sorted(net(v[0].transpose(0, 1)).tolist()) for v in (videos, shuffled)]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_the_crop_discriminator_sees_single_pictures_and_has_a_gradient_penalty():
    torch.manual_seed(0)
    net, crops = CropDiscriminator(), torch.rand(5, 3, 16, 16, requires_grad=True)
    assert net.view(crops) is crops
    logits = net(crops)
    assert logits.shape == (5,)
    assert torch.allclose(logits[2:3], net(crops[2:3]), atol=1e-5)
    adversarial.gradient_penalty(crops, logits).backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in net.net if hasattr(layer, "weight"))


def test_a_strong_penalty_keeps_the_crop_discriminator_from_learning(videos):
    """Its hinge loss stays at 2, which is that of constant logits; a weak penalty lets it fall."""
    real = videos.transpose(1, 2).flatten(0, 1)[:, :, 16:48, 16:48]
    real, fake = (torch.nn.functional.avg_pool2d(some, 2) for some in (real, 0.5 + 0.5 * real))
    hinges = {}
    for penalty in (0.03, 1000.0):
        torch.manual_seed(0)
        adversary = Adversary("crops", penalty=penalty, lr=1e-3, spec=VideoSpec(size=16))
        hinges[penalty] = [adversary.learn(real, fake).item() for _ in range(20)][-1]
    assert hinges[0.03] < 1.5
    assert hinges[1000.0] > 1.8


# ---- the adversary ----


def test_a_discriminator_learns_to_tell_clips_from_grey_ones(videos):
    torch.manual_seed(0)
    adversary = Adversary(penalty=0.0, lr=2e-3)
    hinges = [adversary.learn(videos, 0.5 * videos).item() for _ in range(12)]
    assert hinges[-1] < 0.8 * hinges[0]
    assert adversary.steps == 12


class Linear(nn.Module):
    """A discriminator whose penalty is known in closed form."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def view(self, videos):
        return videos.flatten(1)

    def forward(self, flat):
        return flat @ self.weights


def test_the_librarys_penalty_of_a_linear_function():
    """Its gradient is w everywhere, so the penalty is (|w| - centre)^2."""
    weights = torch.tensor([3.0, 4.0])
    x = torch.randn(7, 2).requires_grad_()
    assert adversarial.gradient_penalty(x, x @ weights).item() == pytest.approx(25)
    assert adversarial.gradient_penalty(x, x @ weights, center=1.0).item() == pytest.approx(16)


@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_on_equal_clips_only_the_penalty_moves_the_discriminator(penalty):
    """The gradients of the two hinges cancel; the penalty 2 * 10 * |w|^2 shrinks w."""
    adversary = Adversary(penalty=penalty)
    adversary.discriminator = Linear(torch.tensor([0.3, 0.4]))
    adversary.optimizer = torch.optim.SGD(adversary.discriminator.parameters(), lr=1e-3)
    same = torch.rand(5, 2)
    adversary.learn(same, same.clone())
    expected = 0.5 * (1 - 1e-3 * 2 * penalty * 2)
    assert adversary.discriminator.weights.norm().item() == pytest.approx(expected, rel=1e-4)


def test_the_discriminators_step_leaves_the_tokenizer_alone(tokenizer, videos):
    recon, *_ = tokenizer(videos)
    Adversary().learn(videos, recon)
    assert all(weights.grad is None for weights in tokenizer.parameters())


def test_the_generator_loss_reaches_the_decoder_and_the_encoder(tokenizer, videos):
    adversary = Adversary(adaptive=False)
    recon, *_ = tokenizer(videos)
    adversary.generator_loss(recon, None, None).backward()
    for weights in (tokenizer.net.conv_out.conv.weight, tokenizer.net.conv_in.conv.weight):
        assert weights.grad.abs().sum() > 0


def test_the_adaptive_weight_makes_gradients_of_one_size_at_the_last_layer(tokenizer, videos):
    adversary = Adversary(weight=0.1)
    last = tokenizer.net.conv_out.conv.weight
    recon, _, quantizer_loss = tokenizer(videos)
    rest, _ = reconstruction_loss(recon, videos, quantizer_loss)
    generator = adversary.generator_loss(recon, rest, last)
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm().item() for loss in (rest, generator)]
    assert norms[1] == pytest.approx(0.1 * norms[0], rel=1e-3)


def test_the_generator_loss_is_zero_before_the_start(tokenizer, videos):
    adversary = Adversary(adaptive=False, start=2)
    counts = []
    for _ in range(3):
        recon, *_ = tokenizer(videos)
        counts.append(adversary.generator_loss(recon, None, None).requires_grad)
        adversary.learn(videos, recon)
    assert counts == [False, False, True]


# ---- features ----


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(0)
    return perceptual_from_cnn(Simple3DCNN())


def test_equal_clips_have_equal_features(features, videos):
    assert features(videos, videos.clone()).item() == 0
    blank = torch.ones_like(videos)
    assert features(videos, blank) > features(videos, 0.9 * videos + 0.1 * blank) > 0


def test_features_move_the_clip_and_not_the_network(features, videos):
    recon = (0.5 * videos).requires_grad_()
    features(videos, recon).backward()
    assert recon.grad.abs().sum() > 0
    assert not any(weights.requires_grad for weights in features.parameters())


def test_vgg_without_a_download_is_one_sentence(monkeypatch):
    def download(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torchvision.models, "vgg16", download)
    with pytest.raises(
        ConnectionError, match=r"cannot be downloaded \(no route\): go online, or take .*perceptual_from_cnn"
    ) as error:
        perceptual_from_vgg()
    assert "\n" not in str(error.value)


def test_vgg_sees_one_frame_in_its_own_units(monkeypatch, videos):
    seen = []

    class Note(nn.Module):
        def forward(self, pictures):
            seen.append(pictures)
            return pictures

    layers = nn.Sequential(Note(), *[nn.Identity()] * 15)
    monkeypatch.setattr(torchvision.models, "vgg16", lambda weights: types.SimpleNamespace(features=layers))
    assert perceptual_from_vgg()(videos, videos).item() == 0
    assert seen[0].shape == (8, 3, 64, 64)
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0][0, :, 0, 0], white, atol=1e-4)  # a corner of background, in VGG's units
