"""The benchmark: arguments, the count of multiply-adds, the table, one tiny run of the whole command; no timings."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from trajlib.course import bench, cli
from trajlib.training.optimizers import multiply_adds
from trajlib.zoo.config import recipes_of


def test_arguments():
    args = cli.parser().parse_args(["bench"])
    assert (args.seconds, args.profile, args.json) == (60, "full", None)
    args = cli.parser().parse_args(["bench", "--seconds", "1.5", "--profile", "smoke", "--json", "x.json"])
    assert (args.seconds, args.profile, args.json.name) == (1.5, "smoke", "x.json")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seconds", "0"], "0 came, a number above 0 and up to 3600 is needed"),
        (["--seconds", "inf"], "inf came"),
        (["--seconds", "nan"], "nan came"),
        (["--seconds", "soon"], "soon came"),
        (["--profile", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_bad_arguments(given, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *given])
    assert stop.value.code == 2
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1


def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path, capsys):
    for file in (tmp_path, tmp_path / "nowhere" / "bench.json"):
        assert cli.main(["bench", "--json", str(file)]) == 2
        assert capsys.readouterr().err == (
            f"python -m trajlib bench: {file} cannot be written: name a file in a folder that exists.\n"
        )


# ---- multiply-adds ----


def test_multiply_adds_of_a_linear_layer():
    layer, x = nn.Linear(7, 11), torch.ones(5, 7)
    assert multiply_adds(lambda: layer(x)) == 5 * 7 * 11
    # backward: the gradient of the weights; that of the input only where it is asked for
    assert multiply_adds(lambda: layer(x).sum().backward()) == 2 * 5 * 7 * 11
    x.requires_grad_()
    assert multiply_adds(lambda: layer(x).sum().backward()) == 3 * 5 * 7 * 11


def test_multiply_adds_of_a_convolution():
    layer, x = nn.Conv3d(3, 5, (3, 3, 1), padding=(1, 1, 0)), torch.ones(2, 3, 4, 6, 7)
    once = 2 * 5 * 4 * 6 * 7 * 3 * 9
    assert multiply_adds(lambda: layer(x)) == once
    assert multiply_adds(lambda: layer(x).sum().backward()) == 2 * once


# ---- the table ----

SPEEDS = {("encode", 1): 10.0, ("encode", 32): 40.0, ("decode", 1): 20.0, ("decode", 32): 30.0}
LINES = """\
figure                                              value  ratio
training, ours (30 steps of 8)                 24 clips/s  120 times the next
training, README configuration (1 step of 1)  0.2 clips/s
PSNR, ours after 10 s                             29.5 dB  +4.0 dB
PSNR, README configuration after 5 s              20.5 dB  -5.0 dB
PSNR, blank frame                                 25.5 dB
encode, 1 clip at a time                       10 clips/s
encode, 32 at a time                           40 clips/s  4.0 times the last
decode, 1 clip at a time                       20 clips/s
decode, 32 at a time                           30 clips/s  1.5 times the last
multiply-adds of a training step, ours               16 G  50 times as many for a clip of the README configuration
multiply-adds per second in training, ours         48 G/s  24% of the bf16 product, 48% of the float32 product
matrix product, bf16                              200 G/s
matrix product, float32                           100 G/s"""


def test_table():
    own = bench.Trained(steps=30, seconds=10.0, madds=16 * 10**9, psnr=29.5)
    other = bench.Trained(steps=1, seconds=5.0, madds=100 * 10**9, psnr=20.5)
    found = bench.figures(own, other, 8, SPEEDS, {"bf16": 200e9, "float32": 100e9}, blank=25.5)
    assert bench.table(found) == LINES


# ---- what is measured ----


def test_training_takes_at_least_one_step_and_changes_the_weights():
    model = nn.Linear(1, 1)
    before = model.weight.item()
    method = bench.Method(
        model, lambda videos: model(videos.mean()[None]).sum(), lambda videos: torch.zeros_like(videos), batch=2, lr=0.1
    )
    validation = torch.full((3, 3, 16, 64, 64), 0.1)
    trained = bench.train(method, 1e-9, validation)
    assert trained.steps == 1
    assert trained.seconds > 0
    assert model.weight.item() != before
    assert trained.psnr == pytest.approx(20, abs=1e-3)
    assert trained.madds == 2  # one forward, one for the gradient of the weight


@pytest.mark.slow
def test_the_readme_configuration_receives_17_frames_and_gives_16_back():
    method = bench.readme(recipes_of("smoke"))
    shapes = []
    method.model.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    clips = torch.rand(1, 3, 16, 64, 64)
    assert method.loss(clips).requires_grad
    assert method.reconstruct(clips).shape == clips.shape
    assert shapes == [(1, 3, 17, 64, 64)] * 2
    assert not hasattr(method.model, "discr")


@pytest.mark.slow
def test_the_whole_command(tmp_path):
    file = tmp_path / "bench.json"
    command = [sys.executable, "-m", "trajlib", "bench", "--seconds", "1", "--profile", "smoke", "--json", str(file)]
    one = os.environ | {"OMP_NUM_THREADS": "1"}  # two threads wait for each other where a machine is busy
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=one)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    content = json.loads(file.read_text())
    assert content["machine"]["threads"] == 1
    assert (content["profile"], content["seconds"]) == ("smoke", 1.0)
    found = [bench.Figure(**entry) for entry in content["figures"]]
    assert done.stdout.rstrip().endswith(bench.table(found))
    assert len(found) == len(LINES.splitlines()) - 1
    assert all(f.value > 0 for f in found)
