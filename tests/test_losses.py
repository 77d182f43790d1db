"""Adversary and features: what they say of clips, whom they move, and that the library's penalty is what it claims."""

import types

import pytest
import torch
import torchvision
from torch import nn

from trajlib import losses
from trajlib.classifiers import Simple3DCNN
from trajlib.config import TINY_LAYERS
from trajlib.dataset import TrajectoryDataset, to_float
from trajlib.losses import Adversary, FrameJudge, MotionJudge, by_cnn, by_vgg
from trajlib.tokenizer import Tokenizer, reconstruction_loss


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(4, seed=1).batch().videos)


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(dim=8, layers=TINY_LAYERS).train()


# ---- the judges ----


@pytest.mark.parametrize("judge", [FrameJudge, MotionJudge])
def test_a_judge_gives_one_logit_a_clip(judge, videos):
    torch.manual_seed(0)
    judge = judge()
    assert judge(judge.view(videos)).shape == (4,)


def test_a_frame_judge_sees_one_frame_of_each_clip():
    numbered = torch.arange(4 * 16.0).reshape(4, 1, 16, 1, 1).expand(4, 3, 16, 64, 64)
    torch.manual_seed(0)
    seen = FrameJudge().view(numbered)
    assert seen.shape == (4, 3, 64, 64)
    assert [int(frame.unique()) // 16 for frame in seen] == [0, 1, 2, 3]  # one value each, of the right clip
    assert len({int(frame.unique()) % 16 for frame in seen}) > 1


def test_a_motion_judge_sees_the_order_of_frames_and_a_frame_judge_does_not(videos):
    shuffled = videos[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    judge = MotionJudge()
    assert not torch.allclose(judge(videos), judge(shuffled))
    torch.manual_seed(0)
    judge = FrameJudge().eval()
    found = [sorted(judge(v[0].transpose(0, 1)).tolist()) for v in (videos, shuffled)]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


# ---- the adversary ----


@pytest.mark.parametrize("sees", ["frames", "motion"])
def test_a_judge_learns_to_tell_clips_from_grey_ones(sees, videos):
    torch.manual_seed(0)
    adversary = Adversary(sees, penalty=0.0, lr=2e-3)
    hinges = [adversary.learn(videos, 0.5 * videos).item() for _ in range(12)]
    assert hinges[-1] < 0.8 * hinges[0]
    assert adversary.steps == 12


class Linear(nn.Module):
    """A judge whose penalty can be had by hand."""

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
    assert losses.gradient_penalty(x, x @ weights).item() == pytest.approx(25)
    assert losses.gradient_penalty(x, x @ weights, center=1.0).item() == pytest.approx(16)


@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_where_nothing_is_to_be_told_only_the_penalty_moves_the_judge(penalty):
    """On equal clips the hinges pull in opposite ways; the penalty 2 * 10 * |w|^2 shrinks w."""
    adversary = Adversary("motion", penalty=penalty)
    adversary.judge = Linear(torch.tensor([0.3, 0.4]))
    adversary.optimizer = torch.optim.SGD(adversary.judge.parameters(), lr=1e-3)
    same = torch.rand(5, 2)
    adversary.learn(same, same.clone())
    expected = 0.5 * (1 - 1e-3 * 2 * penalty * 2)
    assert adversary.judge.weights.norm().item() == pytest.approx(expected, rel=1e-4)


def test_learning_leaves_the_tokenizer_alone(tokenizer, videos):
    films, *_ = tokenizer(videos)
    Adversary("motion").learn(videos, films)
    assert all(weights.grad is None for weights in tokenizer.parameters())


@pytest.mark.parametrize("sees", ["frames", "motion"])
def test_persuasion_reaches_the_decoder_and_the_encoder(tokenizer, videos, sees):
    adversary = Adversary(sees, adaptive=False)
    films, *_ = tokenizer(videos)
    adversary.persuade(films, None, None).backward()
    for weights in (tokenizer.net.conv_out.conv.weight, tokenizer.net.conv_in.conv.weight):
        assert weights.grad.abs().sum() > 0


def test_an_adaptive_adversary_pulls_as_hard_as_the_rest_at_the_last_layer(tokenizer, videos):
    adversary = Adversary("motion", weight=0.1)
    last = tokenizer.net.conv_out.conv.weight
    output = tokenizer(videos)
    rest, _ = reconstruction_loss(lambda _: output, videos)
    persuasion = adversary.persuade(output[0], rest, last)
    pulls = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm().item() for loss in (rest, persuasion)]
    assert pulls[1] == pytest.approx(0.1 * pulls[0], rel=1e-3)


def test_the_tokenizer_hears_nothing_before_the_start(tokenizer, videos):
    adversary = Adversary("motion", adaptive=False, start=2)
    heard = []
    for _ in range(3):
        films, *_ = tokenizer(videos)
        heard.append(adversary.persuade(films, None, None).requires_grad)
        adversary.learn(videos, films)
    assert heard == [False, False, True]


# ---- features ----


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(0)
    return by_cnn(Simple3DCNN())


def test_equal_clips_have_equal_features(features, videos):
    assert features(videos, videos.clone()).item() == 0
    blank = torch.ones_like(videos)
    assert features(videos, blank) > features(videos, 0.9 * videos + 0.1 * blank) > 0


def test_features_move_the_clip_and_not_the_network(features, videos):
    films = (0.5 * videos).requires_grad_()
    features(videos, films).backward()
    assert films.grad.abs().sum() > 0
    assert not any(weights.requires_grad for weights in features.parameters())


def test_vgg_says_in_one_sentence_that_it_cannot_be_had(monkeypatch):
    def download(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torchvision.models, "vgg16", download)
    with pytest.raises(
        ConnectionError, match=r"cannot be downloaded \(no route\): go online, or take .*by_cnn"
    ) as said:
        by_vgg()
    assert "\n" not in str(said.value)


def test_vgg_sees_one_frame_as_it_saw_photographs(monkeypatch, videos):
    seen = []

    class Note(nn.Module):
        def forward(self, pictures):
            seen.append(pictures)
            return pictures

    layers = nn.Sequential(Note(), *[nn.Identity()] * 15)
    monkeypatch.setattr(torchvision.models, "vgg16", lambda weights: types.SimpleNamespace(features=layers))
    assert by_vgg()(videos, videos).item() == 0
    assert seen[0].shape == (8, 3, 64, 64)
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0][0, :, 0, 0], white, atol=1e-4)  # a corner of paper, in VGG's units
