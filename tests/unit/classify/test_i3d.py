"""I3D is the network of frames, inflated: for a still video it gives what that one gives for its frame."""

import json

import pytest
import torch
from stand_ins import NO_VIDEOS
from torch import nn

from trajlib.classify.i3d import I3D, Conv, frame_loss, frame_scale, measure_frame
from trajlib.classify.readers import classification_loss
from trajlib.data.clips import SPLIT_SEEDS, TrajectoryDataset, VideoSpec
from trajlib.data.video_files import to_float
from trajlib.training.loop import fit
from trajlib.zoo import recipes

FRAME = VideoSpec(frames=1)
SMALL = {"widths": (8, 16, 16, 16, 16), "slim": 4, "dim": 16}


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(4, seed=SPLIT_SEEDS["validation"]).batch()


@pytest.fixture(scope="module")
def frames(clips):
    return to_float(clips.videos[:, :, 5:6])


def still(frames):
    """Still videos: (b, 3, 1, h, w) -> (b, 3, 16, h, w)."""
    return frames.expand(-1, -1, 16, -1, -1)


def perturbed(net):
    """With biases and norms that are not the initial ones, so that a forgotten one is noticed."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.1 * torch.randn_like(weight) * (weight.ndim == 1)
    return net


@pytest.mark.parametrize("sizes", [{}, SMALL])
@torch.no_grad()
def test_a_still_video_gets_the_outputs_of_its_frame(sizes, frames):
    net = perturbed(I3D(6, FRAME, **sizes))
    video_net = net.inflated(16)
    assert video_net.config == net.config | {"spec": vars(VideoSpec())}
    torch.testing.assert_close(video_net(still(frames)), net(frames), atol=1e-4, rtol=0)
    torch.testing.assert_close(video_net.features(still(frames)), net.features(frames), atol=1e-4, rtol=0)
    assert net(frames).std(0).min() > 1e-3  # the outputs differ from frame to frame: the test can fail


@torch.no_grad()
def test_inside_too_every_time_step_of_it_is_the_frame(frames):
    """At the ends as in the middle. In float64: in float32 threads, by the order of their sums, move 1e-4."""
    net = perturbed(I3D(6, FRAME, **SMALL))
    video_net = net.inflated(16).double()
    net, frames = net.double(), frames.double()
    flat, deep = 1 - frames, 1 - still(frames)
    for two, three in list(zip(net.backbone, video_net.backbone, strict=True))[:-2]:
        flat, deep = two(flat), three(deep)
        torch.testing.assert_close(deep, flat.expand_as(deep), atol=1e-4, rtol=0)
    assert deep.shape[2:] == (4, 8, 8)


def test_every_kernel_is_that_of_the_frames_repeated_and_rescaled():
    net = I3D(6, FRAME, **SMALL)
    video_net = net.inflated(16)
    pairs = [
        (two.conv.weight, three.conv.weight)
        for two, three in zip(net.modules(), video_net.modules(), strict=True)
        if isinstance(two, Conv)
    ]
    assert len(pairs) == 1 + 4 * 6 + 2
    assert {three.shape[2] for _, three in pairs} == {1, 3, 4, 5}
    for two, three in pairs:
        torch.testing.assert_close(three.sum(2, keepdim=True), two)
        assert torch.equal(three, three[:, :, :1].expand_as(three))


@torch.no_grad()
def test_a_moving_video_is_more_than_its_mean_frame(clips, frames):
    video_net, videos = perturbed(I3D(6, FRAME, **SMALL)).inflated(16), to_float(clips.videos)
    assert not torch.allclose(video_net(videos), video_net(still(videos.mean(2, keepdim=True))), atol=1e-3)
    assert not torch.allclose(video_net(videos), video_net(still(frames)), atol=1e-3)


@torch.no_grad()
def test_the_position_of_the_dot_is_not_averaged_away(frames):
    net = perturbed(I3D(6, FRAME, **SMALL))
    assert not torch.allclose(net(frames), net(frames.roll((16, 16), (3, 4))), atol=1e-3)


def test_a_new_head_is_all_that_is_new(frames):
    video_net = I3D(6, FRAME, **SMALL).inflated(16)
    other = video_net.with_head(4)
    assert (video_net.head.out_features, other.head.out_features) == (6, 4)
    assert (video_net.config["num_classes"], other.config["num_classes"]) == (6, 4)
    with torch.no_grad():
        assert torch.equal(other.features(still(frames)), video_net.features(still(frames)))
        other.head.weight.zero_()
        other.backbone[0].conv.weight.zero_()
    assert video_net.backbone[0].conv.weight.abs().sum() > 0  # a copy: the old one stays as it was


def test_shapes_and_size(clips):
    video_net, videos = I3D(), to_float(clips.videos[:2])
    assert video_net(videos).shape == (2, 4)
    assert video_net.features(videos).shape == (2, 64)
    assert sum(p.numel() for p in video_net.parameters()) == 416_997
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in video_net.modules())
    assert list(video_net.buffers()) == []


def test_the_config_builds_the_same_network_again(clips):
    video_net = I3D(**SMALL).eval()
    again = I3D(**json.loads(json.dumps(video_net.config))).eval()
    again.load_state_dict(video_net.state_dict())
    videos = to_float(clips.videos[:2])
    assert torch.equal(video_net(videos), again(videos))


@pytest.mark.parametrize(
    ("videos", "says"),
    [*NO_VIDEOS, (torch.rand(1, 3, 64, 64), "expected .b, 3, 16, 64, 64.")],
)
@pytest.mark.parametrize("method", ["forward", "features"])
def test_what_is_no_video_gets_one_sentence(videos, says, method):
    with pytest.raises(ValueError, match=says):
        getattr(I3D(**SMALL), method)(videos)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (torch.zeros(1, 3, 1, 64, 64, dtype=torch.uint8), "expected a float32 tensor"),
        (torch.full((1, 3, 1, 64, 64), 255.0), "divide 0..255 pixels by 255"),
        (torch.rand(1, 3, 16, 64, 64), r"expected .b, 3, 1, 64, 64."),
        (torch.rand(1, 3, 1, 32, 32), "shape"),
        ([[0.0]], "came as list"),
    ],
)
def test_what_is_no_frame_gets_one_sentence(frames, says):
    with pytest.raises(ValueError, match=says):
        I3D(6, FRAME, **SMALL)(frames)


# ---- what a frame shows ----


def test_the_targets_of_the_network_of_frames_come_from_pixels_alone():
    clips = TrajectoryDataset(12, seed=5)
    batch = clips.batch()
    dots = measure_frame(to_float(batch.videos).transpose(1, 2).flatten(0, 1)[:, :, None])
    assert dots.shape == (12 * 16, 6)
    assert (dots[:, :2] - batch.paths.flatten(0, 1)).norm(dim=1).max() < 0.1
    assert (dots[:, 2] - batch.radii.flatten()).abs().max() < 0.1
    colours = torch.tensor([clips[i].params.colour for i in range(12)]).repeat_interleave(16, 0)
    assert (1 - dots[:, 3:] - colours).abs().max() < 0.01


def test_the_frame_loss_is_hubers_in_the_networks_units_with_the_distance_in_pixels():
    centre, unit = frame_scale(64)
    dots = centre + unit * torch.tensor([[3.0, 4.0, 0.5, 0, 0, 0]])
    loss, parts = frame_loss(lambda frames: torch.zeros(1, 6), torch.ones(1, 3, 1, 64, 64), dots)
    assert loss.item() == pytest.approx((2.5 + 3.5 + 0.125) / 6)
    assert parts["px"].item() == pytest.approx(5 * 16)


# ---- training ----


def test_a_little_training_teaches_the_network_of_frames_where_a_dot_is(frames):
    torch.manual_seed(0)
    net, batch = I3D(6, FRAME, **SMALL), [frames, measure_frame(frames)]
    _, history = fit(
        net, lambda m, b: frame_loss(m, *b), lambda step: batch, steps=40, lr=5e-3, bf16=False, log_lines=1
    )
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["px"][-1] < 0.5 * history["px"][0]


@pytest.mark.slow
def test_a_little_training_teaches_i3d_these_clips(clips):
    torch.manual_seed(0)
    video_net = I3D(6, FRAME, **SMALL).inflated(16).with_head(4)
    batch, loss = [to_float(clips.videos), clips.labels], classification_loss
    _, history = fit(
        video_net, lambda m, b: loss(m, *b), lambda step: batch, steps=30, lr=5e-3, bf16=False, log_lines=1
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_other_videos_and_classes():
    spec = VideoSpec(frames=9, size=36)
    frame_net = perturbed(I3D(6, VideoSpec(frames=1, size=36), **SMALL)).eval()
    video_net = frame_net.inflated(9)
    frames = torch.rand(2, 3, 1, 36, 36)
    still_videos = frames.expand(-1, -1, 9, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(video_net(still_videos), frame_net(frames), atol=1e-4, rtol=0)
    assert I3D(3, spec=spec, **SMALL)(still_videos).shape == (2, 3)
    with pytest.raises(ValueError, match=r"expected .b, 3, 9, 36, 36."):
        video_net(torch.rand(1, 3, 16, 64, 64))


@pytest.mark.slow
def test_the_recipe_trains_once_and_keeps_i3d_alone(tmp_path, monkeypatch, capsys):
    video_net, card = recipes.i3d(tmp_path, "smoke")
    assert {p.name for p in tmp_path.iterdir()} - {".i3d.json.lock"} == {"i3d.json", "i3d.safetensors"}
    assert card["class"] == "I3D"
    assert video_net.head.out_features == card["config"]["num_classes"] == 4
    assert set(card["frames"]["figures"]) == {"loss", "px"}
    monkeypatch.setattr(recipes, "fit", lambda *_, **__: pytest.fail("trained again"))
    again, same_card = recipes.i3d(tmp_path, "smoke")
    assert same_card == card
    pairs = zip(video_net.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert "i3d: loaded" in capsys.readouterr().out
