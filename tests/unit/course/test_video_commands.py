"""From a folder of videos to tokens and back, by the command line: tiny, and everything that is refused."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trajlib.course import held_out, own_videos, token_file, video_losses
from trajlib.course.adversarial import PerceptualLoss
from trajlib.course.cli import main
from trajlib.data.spec import VideoSpec
from trajlib.data.video_folder import VideoFolder
from trajlib.training.loop import fit
from trajlib.zoo.checkpoints import load


def write(path, n, seed=0, rate=25, size=(24, 40)):
    """A bright square that moves over a grey gradient."""
    y, x = np.mgrid[: size[0], : size[1]]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "6"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for t in range(n):
            frame = np.stack([60 + 2 * x, 60 + 2 * y, 80 + 0 * x], -1).astype(np.uint8)
            left = 2 + (3 * t + 7 * seed) % (size[1] - 10)
            frame[6 + seed % 8 : 14 + seed % 8, left : left + 8] = 240
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for k in range(5):
        write(folder / f"{k}.mp4", 40, seed=k)
    return folder


TINY = ["--frames", "4", "--size", "16", "--cell", "4,8", "--dim", "8", "--minutes", "0.001", "--codebook", "fsq:4,4"]


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory):
    """A trained run, and what the command printed."""
    out = tmp_path_factory.mktemp("run")
    command = ["train", "--videos", str(videos), "--out", str(out), *TINY, "--generate"]
    assert main(command) == 0
    return out, command


def frames_of(path):
    with av.open(str(path)) as file:
        return [f.to_ndarray(format="rgb24") for f in file.decode(video=0)], file.streams.video[0].average_rate


# ---- train ----


@pytest.mark.slow
def test_a_run_holds_the_models_and_is_not_trained_twice(run, capsys):
    out, command = run
    tokenizer, card = load("tokenizer", out)
    assert tokenizer.token_shape == (1, 2, 2)
    assert card["config"]["spec"] == {"frames": 4, "size": 16, "fps": None}
    assert {"psnr", "blank", "mean frame", "first frame", "perplexity", "bits a pixel"} <= card["figures"].keys()
    assert load("transformer", out)[0].num_classes == 0
    assert not list(out.glob("*.checkpoint"))
    before = (out / "tokenizer.safetensors").read_bytes()
    assert main(command) == 0
    assert (out / "tokenizer.safetensors").read_bytes() == before
    said = capsys.readouterr().out
    assert "held-out windows: " in said
    assert "warning: only" in said
    assert main([*command[:-1], "--seed", "1"]) == 2
    assert "seed was 0, not 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(videos, tmp_path, monkeypatch):
    plan = own_videos.Plan(str(videos), 4, 16, codebook="fsq:4,4", dim=8)
    train, held, _ = held_out.split_folder(plan, tmp_path / "cache")
    whole, _ = own_videos.train_tokenizer(plan, tmp_path / "whole", train, held, steps=20)
    measure = own_videos.held_out_psnr
    monkeypatch.setattr(own_videos, "held_out_psnr", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(own_videos, "LINES", 2)  # stopped at half
    with pytest.raises(KeyboardInterrupt):
        own_videos.train_tokenizer(plan, tmp_path / "stopped", train, held, steps=20)
    monkeypatch.setattr(own_videos, "held_out_psnr", measure)
    assert (tmp_path / "stopped" / "tokenizer.checkpoint").exists()
    found, card = own_videos.train_tokenizer(plan, tmp_path / "stopped", train, held, steps=999)  # 20 were planned
    assert card["recipe"]["steps"] == 20
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), whole.state_dict().values(), strict=True))


def test_training_stops_when_no_more_is_learnt():
    model, said = torch.nn.Linear(1, 1), []
    callback = own_videos.watch(lambda _: 20.0, said.append)
    with pytest.raises(own_videos.Stop) as stopped:
        [callback(step, model) for step in range(20)]
    assert stopped.value.steps == own_videos.PATIENCE
    assert len(said) == own_videos.PATIENCE + 2
    rising = iter(range(100))
    callback = own_videos.watch(lambda _: next(rising), said.append)
    for step in range(20):
        callback(step, model)


def test_training_begins_with_the_mean_colour_and_windows_of_several_videos(videos, tmp_path):
    plan = own_videos.Plan(str(videos), 4, 16, codebook="fsq:4,4", dim=8)
    train, _, _ = held_out.split_folder(plan, tmp_path)
    colour, model = own_videos.mean_colour(train), plan.tokenizer()
    own_videos.begin_with_colour(model, colour)
    model.net.conv_out.conv.weight.data.zero_()
    recon = model(torch.rand(1, 3, 4, 16, 16))[0]
    assert torch.allclose(recon, colour.view(1, 3, 1, 1, 1).expand_as(recon), atol=1e-6)
    ends = np.cumsum(train.data.counts)
    assert len(set(np.searchsorted(ends, train.indices[:8], side="right"))) > 1
    assert sorted(train.indices) == held_out._ends(train.data, False)


def test_held_out_windows_do_not_overlap_training_windows(videos, tmp_path):
    for stride in (1, 3, 4):
        data = VideoFolder(videos, VideoSpec(4, 16, fps=None), stride=stride, cache=tmp_path)
        kept, held = held_out._ends(data, False), held_out._ends(data, True)
        starts = [k * stride for count in data.counts for k in range(count)]
        assert kept
        assert held
        assert max(starts[k] for k in kept) + 4 <= min(starts[k] for k in held)


def test_few_tokens_for_much_motion_and_other_warnings():
    figures = {"psnr": 20, "blank": 10, "mean frame": 21, "first frame": 15, "codes used": 3, "codebook size": 16}
    figures |= {"perplexity": 2, "bits a pixel": 0.1, "bits a pixel, entropy": 0.05, "windows": 9}
    figures |= {"psnr, low": 19, "psnr, high": 21}
    assert "too few for the motion" in own_videos.describe(figures)[-1]
    assert len(own_videos.describe(figures | {"psnr": 22})) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--codebook", "vq:512"], "codebook 'vq:512' came; expected levels such as fsq:8,5,5,5"),
        (["--codebook", "lfq:19"], "codebook 'lfq:19' came"),
        (["--size", "20"], "size 20 is no multiple of 8"),
        (["--frames", "18"], "18 frames came; tokens of 4 need a multiple of them, or one more than that"),
        (["--cell", "3,8"], "tokens of 3 frames and 8 px came"),
        (["--videos", "nowhere"], "nowhere is no folder"),
        (["--start", "nowhere"], "No model is called 'tokenizer' in the folder 'nowhere'"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(videos, tmp_path, capsys, options, sentence):
    assert main(["train", "--videos", str(videos), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


# ---- configurations ----


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"codebook": "lfq:8"}, (1, 2, 2)),
        ({"codebook": "lfq:12"}, (1, 2, 2, 2)),
        ({"frames": 17}, (5, 2, 2)),  # the first frame has tokens of its own
        ({"frames": 16, "size": 64, "dim": 4}, (4, 8, 8)),  # MAGVIT's grid
        ({"size": 24}, (1, 3, 3)),
        ({"cell": (2, 16), "size": 32}, (2, 2, 2)),
        ({"losses": video_losses.Losses(perceptual="frames", adversary=True), "size": 32}, (1, 4, 4)),
    ],
)
def test_configurations_train(videos, tmp_path, monkeypatch, changes, shape):
    monkeypatch.setattr(video_losses, "ROTATION_STEPS", 2)
    plan = own_videos.Plan(**{"videos": str(videos), "frames": 4, "size": 16, "dim": 8, "batch": 2} | changes)
    train, held, _ = held_out.split_folder(plan, tmp_path / "cache")
    model, card = own_videos.train_tokenizer(plan, tmp_path, train, held, steps=3)
    assert model.token_shape == shape
    assert card["figures"]["psnr"] > 0
    assert ("separate_first_frame_encoding" in card["config"]) == (plan.frames == 17)


def test_foreground_counts_more_only_where_there_is_a_background():
    said = []
    for level, expected in [(1.0, "foreground"), (0.5, "losses: squared error")]:
        videos = torch.full((2, 3, 4, 16, 16), level)
        video_losses.training_loss(video_losses.Losses(), None, lambda _, v=videos: v, said.append)
        assert expected in said[-1]
    assert "foreground" not in said[-1]


def test_vgg16_is_one_option_of_the_same_kind(monkeypatch):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())  # random and tiny
    features = PerceptualLoss([layers], video_losses.one_frame)
    monkeypatch.setattr(video_losses, "perceptual_from_vgg", lambda: features)
    videos = torch.rand(2, 3, 4, 16, 16)

    class Model(torch.nn.Conv3d):
        def forward(self, x):
            return super().forward(x), None, x.new_zeros(())

    model = Model(3, 3, 1)
    losses = video_losses.Losses(perceptual="vgg16")
    loss = video_losses.training_loss(losses, model, lambda _: videos, lambda _: None)
    _, history = fit(model, loss, lambda _: [videos], steps=3, lr=1e-2, log_lines=0)
    assert len(history["features"]) == 3
    with pytest.raises(ValueError, match="perceptual is 'vgg'; it must be None, frames or vgg16"):
        video_losses.Losses(perceptual="vgg")


# ---- tokens ----


@pytest.mark.slow
@pytest.mark.parametrize("entropy", [False, True])
def test_a_video_comes_back_with_its_frames_and_its_rate(run, tmp_path, entropy):
    out, _ = run
    source = write(tmp_path / "in.mp4", 41, rate=Fraction(30000, 1001))
    flags = ["--entropy"] * entropy
    assert main(["tokenize", str(source), "-o", str(tmp_path / "x.tok"), "--artifacts", str(out), *flags]) == 0
    back = tmp_path / "back.mp4"
    assert main(["detokenize", str(tmp_path / "x.tok"), "-o", str(back), "--artifacts", str(out)]) == 0
    frames, rate = frames_of(back)
    assert (len(frames), frames[0].shape) == (41, (16, 16, 3))
    assert abs(float(rate) - 30000 / 1001) < 1e-3
    assert list(load_file(tmp_path / "x.tok")) == ["bytes" if entropy else "tokens"]
    tokenizer, card = load("tokenizer", out)
    tokens, header = token_file.read_tokens(tmp_path / "x.tok", tokenizer, card)
    assert tokens.shape == (11, 1, 2, 2)
    assert (header["frames"], header["fps"], header["tokenizer"]) == ("41", "30000/1001", card["sha256"])
    decoded = tokenizer.decode(tokens).transpose(1, 2).flatten(0, 1)[:41]  # (41, 3, 16, 16)
    came = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    blocks = [torch.nn.functional.avg_pool2d(x.mean(1), 4).flatten() for x in (came, decoded)]  # H.264 halves colours
    assert torch.corrcoef(torch.stack(blocks))[0, 1] > 0.9


@pytest.mark.slow
def test_what_is_no_file_of_these_tokens_is_refused(run, tmp_path, capsys):
    out, _ = run
    source, tokens = write(tmp_path / "in.mp4", 8), tmp_path / "x.tok"
    assert main(["tokenize", str(source), "-o", str(tokens), "--artifacts", str(out)]) == 0
    _, card = load("tokenizer", out)

    def refused(*command):
        capsys.readouterr()
        assert main(list(map(str, command))) == 2
        assert not (tmp_path / "never.mp4").exists()
        return capsys.readouterr().err

    sentence = refused("detokenize", tokens, "-o", tmp_path / "never.mp4")  # with the shipped tokenizer
    assert f"x.tok was written with the tokenizer {card['sha256'][:12]}…" in sentence
    assert "name the folder of its own with --artifacts" in sentence
    (tmp_path / "cut.tok").write_bytes(tokens.read_bytes()[:-9])
    options = ("-o", tmp_path / "never.mp4", "--artifacts", out)
    assert "cut.tok is cut short" in refused("detokenize", tmp_path / "cut.tok", *options)
    newer = tokens.read_bytes().replace(b'"version":"1"', b'"version":"2"')
    (tmp_path / "newer.tok").write_bytes(newer)
    assert "newer.tok has version 2; this trajlib reads 1" in refused("detokenize", tmp_path / "newer.tok", *options)
    assert "is no file of tokens" in refused("detokenize", out / "tokenizer.safetensors", *options)
    (tmp_path / "bad.mp4").touch()
    assert "bad.mp4 cannot be decoded" in refused("tokenize", tmp_path / "bad.mp4", *options)
    assert "CG needs a class" in refused("complete", source, "--task", "CG", *options)
    assert "task is 'XX'; the tasks are FP" in refused("complete", source, "--task", "XX", *options)


def test_entropy_coding_is_exact_and_shorter():
    rng = torch.Generator().manual_seed(0)
    tokens = (torch.rand(300, generator=rng) ** 6 * 4375).long().view(3, 100)
    data = token_file.write_adaptive(tokens, 4375)
    assert torch.equal(token_file.read_adaptive(data, (3, 100), 4375), tokens)
    still = torch.full((3, 100), 7)
    assert len(token_file.write_adaptive(still, 4375)) < len(data) / 4


@pytest.mark.slow
@pytest.mark.parametrize("task", ["FP", "OPC", "IPD"])
def test_complete_keeps_what_is_observed(run, tmp_path, capsys, task):
    out, _ = run
    source = write(tmp_path / "in.mp4", 12)
    target = tmp_path / "out.mp4"
    options = ["--task", task, "--frames", "2", "-o", str(target), "--artifacts", str(out)]
    assert main(["complete", str(source), *options]) == 0
    frames, _ = frames_of(target)
    assert len(frames) == 4
    assert "masked pixels" in capsys.readouterr().out
    if task == "FP":
        data = VideoFolder(tmp_path, VideoSpec(4, 16, fps=None), cache=tmp_path / "cache")
        true = next(v for v, f in zip(data.videos([0]), data.files, strict=False) if f.name == "in.mp4")
        assert np.abs(true[:, 0].permute(1, 2, 0).numpy().astype(int) - frames[0]).mean() < 8


@pytest.mark.slow
def test_training_goes_on_from_another_tokenizer(run, videos, tmp_path):
    out, _ = run
    command = ["train", "--videos", str(videos), "--out", str(tmp_path), "--start", str(out), "--minutes", "0.001"]
    assert main(command) == 0
    card = json.loads((tmp_path / "tokenizer.json").read_bytes())
    assert card["config"] == json.loads((out / "tokenizer.json").read_bytes())["config"]
    assert card["recipe"]["start"] == str(out)
