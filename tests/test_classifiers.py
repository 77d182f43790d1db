"""The classifiers: the seed's network as it was drawn, and tokens read as the digits that FSQ itself gives."""

import pytest
import torch
from stand_ins import NO_VIDEOS
from torch import nn
from vector_quantize_pytorch import FSQ

from trajlib.classifiers import (
    Simple3DCNN,
    TokenClassifier,
    TokenTracker,
    classification_loss,
    seen_dot,
    tracking_loss,
)
from trajlib.dataset import TrajectoryDataset, to_float

LEVELS = (8, 5, 5, 5)


def test_simple_3dcnn_is_the_network_of_the_experiment_before_us():
    """3 -> 16 -> 32 -> 64 with pooling, flattened, 128, 4."""
    kinds = [type(layer) for layer in Simple3DCNN().modules() if not list(layer.children())]
    block = [nn.Conv3d, nn.MaxPool3d, nn.ReLU]
    assert kinds == [*block, *block, *block, nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    layers = list(Simple3DCNN().modules())
    convs = [layer for layer in layers if isinstance(layer, nn.Conv3d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(3, 16), (16, 32), (32, 64)]
    assert all(c.kernel_size == (3, 3, 3) and c.padding == (1, 1, 1) for c in convs)
    assert [(d.in_features, d.out_features) for d in layers if isinstance(d, nn.Linear)] == [(8192, 128), (128, 4)]
    assert sum(p.numel() for p in Simple3DCNN().parameters()) == 1_119_748


def test_both_give_four_logits_for_each_clip():
    assert Simple3DCNN()(torch.rand(2, 3, 16, 64, 64)).shape == (2, 4)
    assert TokenClassifier(dim=32, depth=1, heads=2)(torch.randint(0, 1000, (2, 8, 4, 4))).shape == (2, 4)


@pytest.mark.parametrize("levels", [LEVELS, (8, 6, 5), (7, 5, 5, 5, 5)])
def test_the_digits_are_those_of_the_fsq_library(levels):
    """indices -> levels, for every code there is."""
    model, fsq = TokenClassifier(levels, dim=32, depth=1, heads=2), FSQ(list(levels))
    codes = torch.arange(fsq.codebook_size)
    digits = codes[:, None] // model.place_value % model.levels
    assert torch.equal(digits, fsq.indices_to_level_indices(codes).long())
    rows = digits + model.first_row  # each digit has rows of its own in the embedding
    assert rows.max() == model.digits.num_embeddings - 1 == sum(levels) - 1
    assert all(set(a.tolist()).isdisjoint(b.tolist()) for a, b in zip(rows.T, rows.T[1:], strict=False))


def test_it_reads_where_and_when_a_token_is():
    """The same tokens in another place or order are another clip: position is not pooled away."""
    torch.manual_seed(0)
    model = TokenClassifier(dim=32, depth=1, heads=2).eval()
    tokens = torch.randint(0, 1000, (1, 8, 4, 4))
    there = model(tokens)
    for other in (tokens.roll(1, 1), tokens.flip(1), tokens.roll(1, 2), tokens.transpose(2, 3)):
        assert not torch.allclose(there, model(other), atol=1e-6)


@pytest.mark.parametrize("tokens", [torch.rand(2, 8, 4, 4), torch.zeros(2, 128).long(), torch.zeros(8, 4, 4).long()])
def test_what_is_no_tokens_gets_one_sentence(tokens):
    with pytest.raises(ValueError, match=r"tokens came as .* expected int64"):
        TokenClassifier(dim=32, depth=1, heads=2)(tokens)


@pytest.mark.parametrize("token", [-1, 1000])
@pytest.mark.parametrize("reader", [TokenClassifier, TokenTracker])
def test_a_token_of_no_codebook_gets_one_sentence(reader, token):
    """Its digits, taken modulo the levels, would be those of some other word."""
    tokens = torch.zeros(2, 8, 4, 4).long()
    tokens[1, 3, 2, 1] = token
    with pytest.raises(ValueError, match=r"tokens run from .*; this codebook has 0 \.\. 999\."):
        reader(LEVELS, dim=32, depth=1, heads=2)(tokens)


@pytest.mark.parametrize(
    ("videos", "says"),
    NO_VIDEOS,
)
def test_what_is_no_video_gets_one_sentence(videos, says):
    with pytest.raises(ValueError, match=says):
        Simple3DCNN()(videos)


def test_the_loss_is_cross_entropy_and_says_the_accuracy():
    logits = torch.tensor([[5.0, 0, 0, 0], [0, 5.0, 0, 0], [5.0, 0, 0, 0]])
    loss, parts = classification_loss(lambda x: x, logits, torch.tensor([0, 1, 2]))
    assert parts["accuracy"].item() == pytest.approx(2 / 3)
    assert loss.item() == pytest.approx(-logits.log_softmax(1)[range(3), [0, 1, 2]].mean().item())


def test_the_config_builds_the_same_classifier_again():
    model = TokenClassifier(LEVELS, dim=32, depth=1, heads=2).eval()
    again = TokenClassifier(**model.config).eval()
    again.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 1000, (2, 8, 4, 4))
    assert torch.equal(model(tokens), again(tokens))


def test_the_tracker_says_x_y_and_radius_of_each_frame_in_pixels():
    torch.manual_seed(0)
    model = TokenTracker(LEVELS, dim=32, depth=1, heads=2).eval()
    nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([0, 0, 0.5, 1, -1, 0.25]))  # of the even frames, of the odd ones
    found = model(torch.randint(0, 1000, (2, 8, 4, 4)))
    assert found.shape == (2, 16, 3)
    torch.testing.assert_close(found[:, 0::2], torch.tensor([31.5, 31.5, 8.0]).expand(2, 8, 3))
    torch.testing.assert_close(found[:, 1::2], torch.tensor([47.5, 15.5, 4.0]).expand(2, 8, 3))


def test_what_the_tracker_learns_from_is_seen_in_the_pixels_alone():
    clips = TrajectoryDataset(12, seed=5).batch()
    dots = seen_dot(to_float(clips.videos))
    assert dots.shape == (12, 16, 3)
    assert (dots[..., :2] - clips.paths).norm(dim=-1).max() < 0.3
    factor = dots[..., 2] / clips.radii  # a pale dot has less ink: one factor in all frames of a clip
    assert (factor.std(1) / factor.mean(1)).max() < 0.05
    assert 0.3 < factor.min() <= factor.max() < 1.05


def test_the_tracking_loss_is_hubers_and_says_the_distance():
    truth = torch.zeros(1, 2, 3)
    found = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.5]]])
    loss, parts = tracking_loss(lambda tokens: found, None, truth)
    assert loss.item() == pytest.approx((2.5 + 3.5 + 0.125) / 6)
    assert parts["px"].item() == pytest.approx(2.5)
