"""I3D is the network of frames, inflated: a film in which nothing moves is to it what the frame is to that one."""

import dataclasses
from functools import partial

import pytest
import torch
from stand_ins import NO_VIDEOS
from torch import nn

from trajlib import recipes
from trajlib.config import profile
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.i3d import CENTRE, I3D, UNIT, Conv, FrameInception, frame_loss, seen_in_frame
from trajlib.training import fit

SMALL = {"widths": (8, 16, 16, 16, 16), "slim": 4, "dim": 16}


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(4, seed=SEEDS["validation"]).batch()


@pytest.fixture(scope="module")
def frames(clips):
    return to_float(clips.videos[:, :, 5])


def still(frames):
    """Films in which nothing moves: (b, 3, h, w) -> (b, 3, 16, h, w)."""
    return frames[:, :, None].expand(-1, -1, 16, -1, -1)


def shaken(net):
    """With biases and norms that are not those of the start, so that none can be forgotten unnoticed."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.1 * torch.randn_like(weight) * (weight.ndim == 1)
    return net


@pytest.mark.parametrize("sizes", [{}, SMALL])
@torch.no_grad()
def test_a_film_of_one_frame_gets_the_answers_of_the_frame(sizes, frames):
    net = shaken(FrameInception(**sizes))
    film = I3D.inflated(net)
    assert film.config == net.config
    torch.testing.assert_close(film(still(frames)), net(frames), atol=1e-4, rtol=0)
    torch.testing.assert_close(film.features(still(frames)), net.features(frames), atol=1e-4, rtol=0)
    assert net(frames).std(0).min() > 1e-3  # the answers differ from frame to frame: the test can fail


@torch.no_grad()
def test_inside_too_every_moment_of_it_is_the_frame(frames):
    """At the ends as in the middle. In float64: in float32 threads, by the order of their sums, move 1e-4."""
    net = shaken(FrameInception(**SMALL))
    film = I3D.inflated(net).double()
    net, frames = net.double(), frames.double()
    flat, deep = 1 - frames, 1 - still(frames)
    for two, three in list(zip(net.trunk, film.trunk, strict=True))[:-2]:
        flat, deep = two(flat), three(deep)
        torch.testing.assert_close(deep, flat[:, :, None].expand_as(deep), atol=1e-4, rtol=0)
    assert deep.shape[2:] == (4, 8, 8)


def test_every_kernel_is_that_of_the_frames_repeated_and_rescaled():
    net = FrameInception(**SMALL)
    film = I3D.inflated(net)
    pairs = [
        (two.conv.weight, three.conv.weight)
        for two, three in zip(net.modules(), film.modules(), strict=True)
        if isinstance(two, Conv)
    ]
    assert len(pairs) == 1 + 4 * 6 + 2
    assert {three.shape[2] for _, three in pairs} == {1, 3, 4, 5}
    for two, three in pairs:
        torch.testing.assert_close(three.sum(2), two)
        assert torch.equal(three, three[:, :, :1].expand_as(three))


@torch.no_grad()
def test_a_film_that_moves_is_more_than_its_mean_frame(clips, frames):
    film, videos = I3D.inflated(shaken(FrameInception(**SMALL))), to_float(clips.videos)
    assert not torch.allclose(film(videos), film(still(videos.mean(2))), atol=1e-3)
    assert not torch.allclose(film(videos), film(still(frames)), atol=1e-3)


@torch.no_grad()
def test_where_the_dot_is_is_not_averaged_away(frames):
    net = shaken(FrameInception(**SMALL))
    assert not torch.allclose(net(frames), net(frames.roll((16, 16), (2, 3))), atol=1e-3)


def test_a_new_head_is_all_that_is_new(frames):
    film = I3D.inflated(FrameInception(**SMALL))
    other = film.with_head(4)
    assert (film.head.out_features, other.head.out_features) == (6, 4)
    assert (film.config["answers"], other.config["answers"]) == (6, 4)
    with torch.no_grad():
        assert torch.equal(other.features(still(frames)), film.features(still(frames)))
        other.head.weight.zero_()
        other.trunk[0].conv.weight.zero_()
    assert film.trunk[0].conv.weight.abs().sum() > 0  # a copy: the old one stays as it was


def test_shapes_and_size(clips):
    film, videos = I3D(), to_float(clips.videos[:2])
    assert film(videos).shape == (2, 4)
    assert film.features(videos).shape == (2, 64)
    assert sum(p.numel() for p in film.parameters()) == 416_997
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in film.modules())
    assert list(film.buffers()) == []


def test_the_config_builds_the_same_network_again(clips):
    film = I3D(**SMALL).eval()
    again = I3D(**film.config).eval()
    again.load_state_dict(film.state_dict())
    videos = to_float(clips.videos[:2])
    assert torch.equal(film(videos), again(videos))


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
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "expected a float32 tensor"),
        (torch.full((1, 3, 64, 64), 255.0), "divide 0..255 pixels by 255"),
        (torch.rand(1, 3, 16, 64, 64), r"frames came with shape .* expected .b, 3, 64, 64."),
        (torch.rand(1, 3, 32, 32), "shape"),
        ([[0.0]], "came as list"),
    ],
)
def test_what_is_no_frame_gets_one_sentence(frames, says):
    with pytest.raises(ValueError, match=says):
        FrameInception(**SMALL)(frames)


# ---- what a frame tells ----


def test_what_the_network_of_frames_learns_from_is_seen_in_the_pixels_alone():
    clips = TrajectoryDataset(12, seed=5)
    batch = clips.batch()
    dots = seen_in_frame(to_float(batch.videos).transpose(1, 2).flatten(0, 1))
    assert dots.shape == (12 * 16, 6)
    assert (dots[:, :2] - batch.paths.flatten(0, 1)).norm(dim=1).max() < 0.1
    assert (dots[:, 2] - batch.radii.flatten()).abs().max() < 0.1
    colours = torch.tensor([clips[i].params.colour for i in range(12)]).repeat_interleave(16, 0)
    assert (1 - dots[:, 3:] - colours).abs().max() < 0.01


def test_the_frame_loss_is_hubers_in_the_networks_units_and_says_the_distance_in_pixels():
    said = torch.zeros(1, 6)
    dots = torch.tensor([CENTRE]) + torch.tensor([UNIT]) * torch.tensor([[3.0, 4.0, 0.5, 0, 0, 0]])
    loss, parts = frame_loss(lambda frames: said, None, dots)
    assert loss.item() == pytest.approx((2.5 + 3.5 + 0.125) / 6)
    assert parts["px"].item() == pytest.approx(5 * 16)


# ---- training ----


def test_a_little_training_teaches_the_network_of_frames_where_a_dot_is(frames):
    torch.manual_seed(0)
    net, batch = FrameInception(**SMALL), [frames, seen_in_frame(frames)]
    _, history = fit(net, lambda m, b: frame_loss(m, *b), lambda step: batch, steps=40, lr=5e-3, bf16=False, lines=1)
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["px"][-1] < 0.5 * history["px"][0]


def test_a_little_training_teaches_i3d_these_clips(clips):
    torch.manual_seed(0)
    film = I3D.inflated(FrameInception(**SMALL)).with_head(4)
    batch, loss = [clips.videos, clips.labels], recipes._pixel_loss
    _, history = fit(film, lambda m, b: loss(m, *b), lambda step: batch, steps=30, lr=5e-3, bf16=False, lines=1)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


@pytest.mark.parametrize(("inflate", "name"), [(True, "i3d"), (False, "i3d_from_scratch")])
def test_the_recipe_trains_once_and_keeps_i3d_alone(inflate, name, tmp_path, monkeypatch, capsys):
    cfg = dataclasses.replace(profile("smoke"), labelled_clips=8, i3d=SMALL)
    few = {"steps": 2, "lines": 1}
    cfg = dataclasses.replace(cfg, i3d_recipe=cfg.i3d_recipe | few, frame_recipe=cfg.frame_recipe | few)
    recipe = partial(recipes.i3d, cfg, tmp_path, inflate=inflate)
    film, card = recipe()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{name}.json", f"{name}.safetensors"]
    assert card["class"] == "I3D"
    assert film.head.out_features == card["config"]["answers"] == 4
    assert ("frames" in card) == inflate
    if inflate:
        assert set(card["frames"]["figures"]) == {"loss", "px"}
    monkeypatch.setattr(recipes, "fit", lambda *_, **__: pytest.fail("trained again"))
    again, same_card = recipe()
    assert same_card == card
    assert all(torch.equal(a, b) for a, b in zip(film.state_dict().values(), again.state_dict().values(), strict=True))
    assert f"{name}: loaded" in capsys.readouterr().out


def test_from_the_network_of_frames_i3d_starts_with_its_kernels(tmp_path, monkeypatch):
    """The recipe hands `fit` an inflated network: all kernels are constant in time, and from scratch none is."""
    started = []

    def no_training(model, *_, **__):
        started.append(model)
        return model.eval(), {"loss": [1.0]}

    monkeypatch.setattr(recipes, "fit", no_training)
    cfg = dataclasses.replace(profile("smoke"), labelled_clips=8, i3d=SMALL)
    for inflate in (True, False):
        recipes.i3d(cfg, tmp_path / str(inflate), inflate=inflate)
    frame_net, inflated, fresh = started
    assert [type(net) for net in started] == [FrameInception, I3D, I3D]
    for deep, constant in ((inflated, True), (fresh, False)):
        kernel = deep.trunk[0].conv.weight
        assert torch.equal(kernel, kernel[:, :, :1].expand_as(kernel)) == constant
    torch.testing.assert_close(inflated.trunk[0].conv.weight.sum(2), frame_net.trunk[0].conv.weight)
