"""Shards of tokens: each window of each video once, however many workers there are, and whenever they die.

Run as a program, this file is a worker that is killed half-way through its last shard.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from trajlib.course import cli, shards
from trajlib.course.shards import TokenShards, tokenize_folder
from trajlib.data.spec import VideoSpec
from trajlib.data.video_files import to_float
from trajlib.data.video_folder import VideoFolder
from trajlib.generation.transformer import MaskedTransformer, commit_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit
from trajlib.zoo.config import TINY_TOKENIZER

SPEC = VideoSpec(4, 16, fps=None)
VIDEOS, PER_SHARD = 10, 2
WINDOWS = [1 + k % 3 for k in range(VIDEOS)]


def tiny_tokenizer():
    torch.manual_seed(0)
    return Tokenizer(dim=16, layers=TINY_TOKENIZER.layers, spec=SPEC).eval()


def write(path, frames, rng):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "bgr0"
        for _ in range(frames):
            pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for k, windows in enumerate(WINDOWS):
        write(folder / f"{k:02}.mkv", 4 * windows, rng)
    (folder / "03.mkv").write_text("no video")
    return folder


def tokenize(videos, out, **options):
    return tokenize_folder(videos, out, tiny_tokenizer(), "0123", files=PER_SHARD, **options)


@pytest.fixture(scope="module")
def made(videos, tmp_path_factory):
    """The shards of one worker."""
    out = tmp_path_factory.mktemp("made")
    assert tokenize(videos, out) == VIDEOS // PER_SHARD
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_window_is_in_one_shard(videos, made, tmp_path):
    data = VideoFolder(videos, SPEC, cache=tmp_path)
    expected = tiny_tokenizer().encode(to_float(data.videos(range(len(data)))))
    files = sorted(made.glob("*.safetensors"))
    found = torch.cat([load_file(file)["tokens"] for file in files])
    assert found.dtype == torch.int16
    assert torch.equal(found.long(), expected)
    said = []
    for file in files:
        with safe_open(file, "pt") as opened:
            facts = json.loads(opened.metadata()[shards.FACTS])
        said += [(facts["files"][k][0], k) for k in load_file(file)["file"].tolist()]
    windows = [0 if k == 3 else n for k, n in enumerate(WINDOWS)]
    assert said == [(f"{k:02}.mkv", k % PER_SHARD) for k in range(VIDEOS) for _ in range(windows[k])]
    assert TokenShards(made).problems.keys() == {"03.mkv"}


def test_a_second_run_writes_nothing_and_a_lost_shard_comes_back_the_same(videos, made, capsys):
    before = contents(made)
    assert tokenize(videos, made) == 0
    assert "0 shards to write, 5 of 5 are there" in capsys.readouterr().out
    (made / "shard-000001.safetensors").unlink()
    (made / "shard-000003.safetensors").write_bytes(before["shard-000003.safetensors"][:50])
    (made / "shard-000003.safetensorsabc.tmp").write_bytes(b"left by a worker that was killed")
    assert tokenize(videos, made) == 2
    assert contents(made) == before


def test_shards_of_something_else_are_refused_and_stay(videos, made, tmp_path):
    before = contents(made)
    for options, says in [({"stride": 2}, "stride"), ({"motion": True}, "motion")]:
        with pytest.raises(ValueError, match=rf"something else \(it differs in {says}\): name another folder"):
            tokenize(videos, made, **options)
    (tmp_path / "new.mkv").write_bytes((videos / "00.mkv").read_bytes())
    with pytest.raises(ValueError, match=r"differs in files, inputs, shards"):
        tokenize(tmp_path, made)
    assert contents(made) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([".", "-o", "out"], r"there are no videos in \.: name another folder"),
        ([".", "-o", "out", "--files", "0"], "0 files a shard and a stride of 16 came; 1 or more"),
        ([".", "-o", "out", "--artifacts", "none"], "No model is called 'tokenizer' in the folder 'none'"),
    ],
)
def test_what_cannot_be_tokenized_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tokenize", *arguments]) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert re.search(says, found), found
    assert not list(tmp_path.iterdir())


# ---- reading ----


def sorted_rows(tokens):
    return sorted(map(tuple, tokens.flatten(1).tolist()))


def test_a_pass_reads_each_window_once_and_the_next_in_another_order(made):
    data = TokenShards(made)
    whole = torch.cat([load_file(file)["tokens"] for file in sorted(made.glob("*.safetensors"))]).long()
    n = len(data)
    assert n == len(whole) == sum(WINDOWS) - 1
    passes = [torch.cat([data.rows(first + k, 1) for k in range(n)]) for first in (0, n)]
    assert torch.equal(torch.cat(passes), data.rows(0, 2 * n))  # in one piece or many
    assert all(sorted_rows(found) == sorted_rows(whole) for found in passes)
    orders = [found.flatten(1).tolist() for found in (*passes, data.rows(0, n, seed=1), whole)]
    assert len({str(order) for order in orders}) == 4


def test_reading_holds_one_shard_in_memory(made, monkeypatch):
    held, load = [], shards.safetensors.load_file
    monkeypatch.setattr(shards.safetensors, "load_file", lambda path: held.append(path) or load(path))
    data = TokenShards(made)
    for first in range(len(data)):
        data.rows(first, 1)
    assert len(held) == len(set(held)) == VIDEOS // PER_SHARD  # each read once in a pass
    assert data._held[1].numel() <= max(data.counts) * np.prod(data.token_shape)


def test_a_transformer_trains_on_shards(made):
    data = TokenShards(made)
    torch.manual_seed(0)
    model = MaskedTransformer(data.codebook_size, data.token_shape, num_classes=0, dim=16, depth=1, heads=2)
    _, history = fit(model, lambda m, b: commit_loss(m, *b), data.batches(4), steps=30, lr=1e-2, bf16=False)
    assert sum(history["loss"][-5:]) < sum(history["loss"][:5])


def test_missing_shards_are_counted(videos, tmp_path):
    with pytest.raises(ValueError, match=r"has no readable plan\.json"):
        TokenShards(tmp_path)
    tokenize(videos, tmp_path)
    (tmp_path / "shard-000002.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks 1 of 5 shards: run the same `tokenize` again"):
        TokenShards(tmp_path)


# ---- two workers ----


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_make_the_shards_of_one(videos, made, tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, __file__, str(videos), str(tmp_path)], capture_output=True, text=True, timeout=250,
                          env=env, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "worker 2 of 2 on cpu" in done.stdout, done.stderr
    left = contents(tmp_path)
    assert "shard-000003.safetensors" not in left  # the second worker's second
    assert [name for name in left if name.endswith(".tmp")]
    assert 1 <= tokenize(videos, tmp_path) <= 4
    assert contents(tmp_path) == contents(made)


def killed_worker(videos, out):
    whole = shards.safetensors.save

    def save(tensors, metadata):
        data = whole(tensors, metadata)
        if json.loads(metadata[shards.FACTS])["files"][0][0] == "06.mkv":
            (out / "shard-000003.safetensors_half.tmp").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return data

    shards.safetensors.save = save
    tokenize(videos, out)


if __name__ == "__main__":
    killed_worker(Path(sys.argv[1]), Path(sys.argv[2]))
