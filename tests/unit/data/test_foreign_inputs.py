"""Sizes, lengths, rates, types and devices that are not the course's own."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from trajlib.classify.i3d import I3D
from trajlib.classify.readers import Simple3DCNN
from trajlib.course.options import Options
from trajlib.data.checks import check_labels
from trajlib.data.spec import VideoSpec
from trajlib.data.video_files import to_float, write_mp4
from trajlib.generation import sampling
from trajlib.generation.tasks import observed_tokens
from trajlib.generation.transformer import MaskedTransformer
from trajlib.tokenizer.video_tokenizer import Tokenizer, max_over_cells
from trajlib.training import optimizers
from trajlib.zoo import checkpoints

SPACE, TIME = ("compress_space", 8), ("compress_time", 8)


def test_read_only_arrays_are_taken_without_a_warning(recwarn):
    frames, labels = np.full((1, 3, 2, 4, 4), 255, np.uint8), np.arange(4)
    for array in (frames, labels):
        array.flags.writeable = False
    assert to_float(frames).min() == 1
    assert check_labels(labels).tolist() == [0, 1, 2, 3]
    assert [str(warning.message) for warning in recwarn] == []


# ---- files ----


@pytest.mark.parametrize(
    ("height", "width", "fps"), [(33, 47, 29.97), (64, 64, 23.976), (1, 1, 8), (10, 11, Fraction(30000, 1001))]
)
def test_videos_of_odd_sizes_and_rates_are_written(tmp_path, height, width, fps):
    video = np.random.default_rng(0).integers(100, 130, (3, 4, height, width)).astype(np.uint8)
    write_mp4(video, tmp_path / "a.mp4", scale=1, fps=fps)
    with av.open(str(tmp_path / "a.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert float(file.streams.video[0].average_rate) == pytest.approx(float(fps), rel=1e-4)
    found = np.stack(frames)[:, :height, :width].transpose(3, 0, 1, 2)
    assert found.shape == video.shape
    assert np.abs(found.astype(int) - video).mean() < 12


# ---- types ----


@pytest.mark.parametrize("kind", ["uint8 array", "float32 array", "float64 array", "uint8 tensor", "half tensor"])
def test_the_advice_about_another_type_works(kind):
    tokenizer = Tokenizer(dim=8, layers=(SPACE, SPACE), spec=VideoSpec(2, 16)).eval()
    bytes_ = np.full((1, 3, 2, 16, 16), 51, np.uint8)
    of_kind = {"uint8 array": bytes_, "float32 array": np.float32(bytes_ / 255), "float64 array": bytes_ / 255}
    of_kind |= {"uint8 tensor": torch.from_numpy(bytes_), "half tensor": torch.from_numpy(bytes_).half() / 255}
    videos = of_kind[kind]
    with pytest.raises(ValueError, match="expected a float32 tensor in") as caught:
        tokenizer.encode(videos)
    advice = str(caught.value).split(": ")[-1].removesuffix(" makes one.")
    advised = to_float(videos) if advice.endswith("to_float") else eval(advice, {"videos": videos, "torch": torch})
    assert advised.allclose(torch.tensor(0.2), atol=1e-3)  # not divided twice
    assert torch.equal(tokenizer.encode(advised), tokenizer.encode(torch.full(bytes_.shape, 0.2)))


# ---- sizes and lengths ----


@pytest.mark.parametrize(
    ("frames", "size", "patch", "layers", "grid", "cell"),
    [
        (17, 32, (1, 4, 4), (SPACE, SPACE), (17, 2, 2), (1, 16, 16)),
        (17, 32, (1, 4, 4), (TIME, SPACE, SPACE), (9, 2, 2), (2, 16, 16)),
        (17, 32, (1, 4, 4), (TIME, TIME, SPACE, SPACE), (5, 2, 2), (4, 16, 16)),
        (18, 32, (1, 4, 4), (TIME, SPACE, SPACE), (9, 2, 2), (2, 16, 16)),
        (1, 32, (1, 4, 4), (TIME, SPACE, SPACE), (1, 2, 2), (1, 16, 16)),
        (4, 40, (2, 4, 4), (SPACE,), (2, 5, 5), (2, 8, 8)),
        (16, 64, (2, 4, 4), (SPACE, TIME), (4, 8, 8), (4, 8, 8)),
    ],
)
def test_a_tokenizer_takes_its_own_tokens(frames, size, patch, layers, grid, cell):
    spec = VideoSpec(frames, size)
    model = Tokenizer(dim=8, layers=layers, patch=patch, spec=spec).eval()
    videos = torch.rand(1, *spec.shape, generator=torch.Generator().manual_seed(0))
    tokens = model.encode(videos)
    assert (model.grid, model.cell, tuple(tokens.shape[1:])) == (grid, cell, grid)
    assert model.decode(tokens).shape == videos.shape
    recon, codes, loss = model.train()(videos)
    (recon.mean() + loss).backward()
    assert codes.shape == tokens.shape


def test_the_first_of_an_odd_number_of_frames_has_a_token_of_its_own():
    values = torch.zeros(1, 17, 4, 4)
    values[0, 4, 3, 0] = 1  # the last frame of the second token: frames 1 to 4
    (found,) = max_over_cells(values, (5, 2, 2)).nonzero().tolist()
    assert found == [0, 1, 1, 0]
    spec = VideoSpec(17, 32)
    for frames, tokens in [(1, 1), (2, 2), (5, 2), (6, 3)]:
        observed = observed_tokens("FP", (5, 2, 2), frames, spec)
        assert observed.all((1, 2)).tolist() == observed.any((1, 2)).tolist() == [k < tokens for k in range(5)]


@pytest.mark.parametrize(("frames", "size"), [(1, 8), (3, 20), (4, 4), (7, 33), (17, 48)])
def test_classifiers_take_any_size_and_length(frames, size):
    spec = VideoSpec(frames, size)
    for model in (Simple3DCNN(spec, 3), I3D(3, spec=spec)):
        assert model(torch.rand(2, *spec.shape)).shape == (2, 3)


# ---- devices ----


def test_bf16_only_where_a_graphics_card_has_it(monkeypatch):
    for capability, fast in [((7, 5), False), ((8, 0), True), ((9, 0), True)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert optimizers.has_bf16("cuda") == optimizers.has_bf16(torch.device("cuda", 0)) == fast


def test_samplers_stay_on_the_device_of_the_model(monkeypatch):
    """On tensors that hold no numbers but refuse to meet those of another device, as on a graphics card."""
    monkeypatch.setattr(sampling, "resample", lambda fn, tokens, *_: (tokens, torch.zeros_like(tokens).float()))
    monkeypatch.setattr(sampling, "halton_order", lambda *_: torch.arange(8))  # these need real numbers
    for check in ("check_tokens", "check_probabilities"):
        monkeypatch.setattr(sampling, check, lambda *_: None)
    with FakeTensorMode():
        with torch.device("cuda"):
            model = MaskedTransformer(16, (2, 2, 2), None, 4, dim=16, depth=1, heads=2)
        for settings in ({"order": "halton"}, {"order": "sequence"}, {"order": "confidence"}):
            tokens = sampling.generate(model, n=2, steps=2, resampling_steps=2, callback=lambda *_: None, **settings)
            assert tokens.device.type == "cuda"
        observed = {"condition": torch.zeros(2, 2, 2, 2, dtype=torch.long), "observed": torch.ones(2, 2, 2) > 0}
        assert sampling.generate(model, task="FP", steps=2, **observed).device.type == "cuda"
        p = torch.rand(2, 5, 16, device="cuda")
        assert sampling.draw(p, torch.Generator().manual_seed(0)).device.type == "cuda"


@pytest.mark.parametrize("grid", [(1, 2, 2), (3, 2, 2), (1, 1, 1), (2, 3, 3)])
def test_grids_of_few_tokens_are_sampled(grid):
    """Also where their number does not divide into the groups of Gibbs resampling."""
    model = MaskedTransformer(16, grid, None, 0, dim=16, depth=1, heads=2)
    assert sampling.generate(model, n=2, steps=2, resampling_steps=9).shape == (2, *grid)


# ---- folders ----


def test_one_spelling_of_a_folder_is_one_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert checkpoints.folder("~/x") == tmp_path / "x"
    assert Options(artifacts="~/x").resolved().artifacts == str(tmp_path / "x")
    for spelling in ("Shipped", "SHIPPED "):
        assert checkpoints.folder(spelling) == checkpoints.SHIPPED
        assert Options(artifacts=spelling).resolved().artifacts == "shipped"


def test_a_relative_folder_is_the_same_in_a_notebook_and_on_the_command_line(tmp_path, monkeypatch):
    """A notebook runs in the folder of the notebooks; the command line at the top of the clone, one folder above."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").touch()
    monkeypatch.chdir(tmp_path)
    asked = Path(Options(artifacts="my_run").resolved().artifacts)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert checkpoints.folder("my_run").resolve() == asked == tmp_path / "my_run"
