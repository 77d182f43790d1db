"""The classifiers: the 3D CNN layer by layer, and tokens as the level indices that FSQ itself gives."""

import json

import pytest
import torch
from stand_ins import NO_VIDEOS
from torch import nn
from vector_quantize_pytorch import FSQ

from trajlib.classify.readers import Simple3DCNN, TokenClassifier, TokenTracker, classification_loss, tracking_loss
from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.data.measure import measure_dot
from trajlib.data.video_files import to_float
from trajlib.tokenizer.convolution import Conv3d

LEVELS, GRID = (8, 5, 5, 5), (8, 4, 4)
SMALL = {"dim": 32, "depth": 1, "heads": 2}


def test_simple_3dcnn_layer_by_layer():
    """3 -> 16 -> 32 -> 64 with pooling, flattened, 128, 4."""
    kinds = [type(layer) for layer in Simple3DCNN().modules() if not list(layer.children())]
    block = [Conv3d, nn.MaxPool3d, nn.ReLU]
    assert kinds == [*block, *block, *block, nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    layers = list(Simple3DCNN().modules())
    convs = [layer for layer in layers if isinstance(layer, nn.Conv3d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(3, 16), (16, 32), (32, 64)]
    assert all(c.kernel_size == (3, 3, 3) and c.padding == (1, 1, 1) for c in convs)
    assert [(d.in_features, d.out_features) for d in layers if isinstance(d, nn.Linear)] == [(8192, 128), (128, 4)]
    assert sum(p.numel() for p in Simple3DCNN().parameters()) == 1_119_748


def test_both_give_four_logits_for_each_clip():
    assert Simple3DCNN()(torch.rand(2, 3, 16, 64, 64)).shape == (2, 4)
    assert TokenClassifier(1000, GRID, LEVELS, **SMALL)(torch.randint(0, 1000, (2, 8, 4, 4))).shape == (2, 4)


@pytest.mark.parametrize("levels", [LEVELS, (8, 6, 5), (7, 5, 5, 5, 5)])
def test_the_level_indices_are_those_of_the_fsq_library(levels, monkeypatch):
    """For every code there is: it looks up one row of the embedding for each level index."""
    fsq = FSQ(list(levels))
    codes = torch.arange(fsq.codebook_size)
    model = TokenClassifier(fsq.codebook_size, (len(codes), 1, 1), levels, **SMALL)
    looked_up, embed = [], model.level_embedding.forward
    monkeypatch.setattr(model.level_embedding, "forward", lambda rows: looked_up.append(rows) or embed(rows))
    monkeypatch.setattr(model, "encoder", nn.Identity())
    model(codes[None, :, None, None])
    first_row = torch.tensor([0, *levels[:-1]]).cumsum(0)
    assert torch.equal(looked_up[0][0, :, 0], fsq.indices_to_level_indices(codes).long() + first_row)
    assert model.level_embedding.num_embeddings == sum(levels)


def test_the_position_and_the_time_of_a_token_matter():
    """The same tokens in other positions or another order are another clip: nothing is pooled away."""
    torch.manual_seed(0)
    model = TokenClassifier(1000, GRID, LEVELS, **SMALL).eval()
    tokens = torch.randint(0, 1000, (1, 8, 4, 4))
    logits = model(tokens)
    for other in (tokens.roll(1, 1), tokens.flip(1), tokens.roll(1, 2), tokens.transpose(2, 3)):
        assert not torch.allclose(logits, model(other), atol=1e-6)


@pytest.mark.parametrize("tokens", [torch.rand(2, 8, 4, 4), torch.zeros(2, 128).long(), torch.zeros(8, 4, 4).long()])
def test_what_is_no_tokens_gets_one_sentence(tokens):
    with pytest.raises(ValueError, match=r"tokens came as .* expected int64"):
        TokenClassifier(1000, GRID, LEVELS, **SMALL)(tokens)


@pytest.mark.parametrize("token", [-1, 1000])
@pytest.mark.parametrize("reader", [TokenClassifier, TokenTracker])
def test_a_token_of_no_codebook_gets_one_sentence(reader, token):
    """Its level indices, taken modulo the levels, would be those of some other code."""
    tokens = torch.zeros(2, 8, 4, 4).long()
    tokens[1, 3, 2, 1] = token
    with pytest.raises(ValueError, match=r"tokens run from .*; this codebook has 0 \.\. 999\."):
        reader(1000, GRID, LEVELS, **SMALL)(tokens)


@pytest.mark.parametrize(
    ("videos", "says"),
    NO_VIDEOS,
)
def test_what_is_no_video_gets_one_sentence(videos, says):
    with pytest.raises(ValueError, match=says):
        Simple3DCNN()(videos)


def test_the_loss_is_cross_entropy_with_the_accuracy():
    logits = torch.tensor([[5.0, 0, 0, 0], [0, 5.0, 0, 0], [5.0, 0, 0, 0]])
    loss, parts = classification_loss(lambda x: x, logits, torch.tensor([0, 1, 2]))
    assert parts["accuracy"].item() == pytest.approx(2 / 3)
    assert loss.item() == pytest.approx(-logits.log_softmax(1)[range(3), [0, 1, 2]].mean().item())


def test_the_config_builds_the_same_classifier_again():
    model = TokenClassifier(1000, GRID, LEVELS, **SMALL).eval()
    again = TokenClassifier(**json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 1000, (2, 8, 4, 4))
    assert torch.equal(model(tokens), again(tokens))


def test_the_tracker_gives_x_y_and_radius_of_each_frame_in_pixels():
    torch.manual_seed(0)
    model = TokenTracker(1000, GRID, LEVELS, **SMALL).eval()
    nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([0, 0, 0.5, 1, -1, 0.25]))  # of the even frames, of the odd ones
    found = model(torch.randint(0, 1000, (2, 8, 4, 4)))
    assert found.shape == (2, 16, 3)
    torch.testing.assert_close(found[:, 0::2], torch.tensor([31.5, 31.5, 8.0]).expand(2, 8, 3))
    torch.testing.assert_close(found[:, 1::2], torch.tensor([47.5, 15.5, 4.0]).expand(2, 8, 3))


def test_the_trackers_targets_come_from_pixels_alone():
    clips = TrajectoryDataset(12, seed=5).batch()
    dots = measure_dot(to_float(clips.videos))
    assert dots.shape == (12, 16, 3)
    assert (dots[..., :2] - clips.paths).norm(dim=-1).max() < 0.3
    factor = dots[..., 2] / clips.radii  # a pale dot is measured too small: by one factor in all frames of a clip
    assert (factor.std(1) / factor.mean(1)).max() < 0.05
    assert 0.3 < factor.min() <= factor.max() < 1.05


def test_the_tracking_loss_is_hubers_with_the_distance():
    truth = torch.zeros(1, 2, 3)
    found = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.5]]])
    loss, parts = tracking_loss(lambda tokens: found, None, truth)
    assert loss.item() == pytest.approx((2.5 + 3.5 + 0.125) / 6)
    assert parts["px"].item() == pytest.approx(2.5)


# ---- other quantizers, grids, classes and videos ----


@pytest.mark.parametrize("grid", [(8, 4, 4), (3, 2, 2, 2)])
@pytest.mark.parametrize(("size", "levels"), [(64, None), (64, (2,) * 6), (1000, LEVELS)])
def test_tokens_of_any_quantizer_in_any_grid(grid, size, levels):
    torch.manual_seed(0)
    spec = VideoSpec(frames=9, size=20)
    tokens = torch.randint(0, size, (2, *grid))
    assert TokenClassifier(size, grid, levels, num_classes=7, **SMALL)(tokens).shape == (2, 7)
    tracker = TokenTracker(size, grid, levels, spec, **SMALL)
    assert tracker(tokens).shape == (2, 9, 3)
    assert TokenTracker(**json.loads(json.dumps(tracker.config))).spec == spec


def test_without_levels_each_code_has_a_vector_of_its_own():
    assert TokenClassifier(64, GRID, **SMALL).level_embedding.num_embeddings == 64


def test_levels_of_another_codebook_are_refused():
    with pytest.raises(ValueError, match=r"^levels \(8, 5, 5, 5\) make 1000 codes, not 64\.$"):
        TokenClassifier(64, GRID, LEVELS, **SMALL)


def test_the_3dcnn_fits_other_videos_and_classes():
    spec = VideoSpec(frames=9, size=32)
    model = Simple3DCNN(spec, num_classes=3)
    assert model(torch.rand(2, *spec.shape)).shape == (2, 3)
    assert Simple3DCNN(**json.loads(json.dumps(model.config))).spec == spec
    with pytest.raises(ValueError, match=r"expected .b, 3, 9, 32, 32."):
        model(torch.rand(2, 3, 16, 64, 64))
