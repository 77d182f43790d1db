"""Two processes that share each batch train the model that one process trains; the environment changes nothing.

Run as a program, this file is one of the processes.
"""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trajlib.data.spec import VideoSpec
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training import loop
from trajlib.training.loop import fit

pytestmark = pytest.mark.timeout(900)  # a busy machine is slow, not stuck
STEPS, STOP, BATCH = 12, 7, 8
SPEC = VideoSpec(4, 16)


class Toy(nn.Module):
    """What data parallelism finds hard: a loss that calls two methods, and a weight that no loss uses."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.spare = nn.Linear(4, 16), nn.Linear(16, 1), nn.Linear(2, 2)

    def hidden(self, x):
        return self.first(x).tanh()

    def output(self, h):
        return self.second(h)


def toy():
    torch.manual_seed(0)
    return Toy()


def batch_fn(step):
    x = torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(step))
    return [torch.arange(step * BATCH, (step + 1) * BATCH), x, x.sum(1, keepdim=True)]


def toy_loss(model, batch):
    _, x, y = batch
    loss = (model.output(model.hidden(x)) - y).square().mean()
    return loss, {"error": loss.detach().sqrt()}


class Stopped(Exception):
    """The processes were stopped."""


def train(stop=None, loss_fn=toy_loss, **settings):
    def batch(step):
        if step == stop:
            raise Stopped
        return batch_fn(step)

    settings = {"steps": STEPS, "lr": 1e-2, "muon": 0.02, "bf16": False, "checkpoint_every": 5} | settings
    return fit(toy(), loss_fn, batch, **settings)


def tokenizer_loss(model, batch):
    recon, _, quantizer_loss = model(batch[0])
    return reconstruction_loss(recon, batch[0], quantizer_loss, chroma_weight=10.0)


def gradients():
    """Of one step each: a tiny tokenizer's and the toy's."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(dim=16, layers=["residual", ("compress_space", 32), "residual"], spec=SPEC)
    videos = torch.rand(4, *SPEC.shape, generator=torch.Generator().manual_seed(0))
    model = toy()
    options = {"steps": 1, "lr": 1e-3, "clip": 1e9, "bf16": False}
    fit(tokenizer, tokenizer_loss, lambda _: [videos], **options)
    fit(model, toy_loss, batch_fn, **options)
    named = [*tokenizer.named_parameters("tokenizer"), *model.named_parameters("toy")]
    return {name: weight.grad.contiguous() for name, weight in named if weight.grad is not None}


def process(out):
    """One of the processes: what it did goes to files in `out`."""
    rank, seen, drawn, saved = os.environ["RANK"], [], [], []
    save_file(gradients(), out / f"gradients{rank}.safetensors")

    def recording(model, batch):
        seen.append(batch[0])
        drawn.append(torch.rand(4))
        return toy_loss(model, batch)

    recording.__qualname__ = toy_loss.__qualname__  # a checkpoint knows its loss by name
    write = loop._save
    loop._save = lambda *args: (saved.append(args[2]), write(*args))
    with contextlib.suppress(Stopped):
        train(STOP, recording, checkpoint=out / "two.checkpoint")
    facts = {"seen": torch.stack(seen), "drawn": torch.stack(drawn), "saved": torch.tensor(saved)}
    save_file(facts, out / f"facts{rank}.safetensors")
    model, history = train(checkpoint=out / "one.checkpoint")
    model.register_buffer("losses", torch.tensor(history["loss"]))
    save_file(model.state_dict(), out / f"resumed{rank}.safetensors")
    try:
        fit(toy(), toy_loss, lambda step: [part[:7] for part in batch_fn(step)], steps=1, lr=1e-2)
    except ValueError as error:
        (out / f"uneven{rank}").write_text(str(error))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes left what they did; one process left "one.checkpoint" there before."""
    out = tmp_path_factory.mktemp("two")
    with pytest.raises(Stopped):
        train(STOP, checkpoint=out / "one.checkpoint")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    env |= {"LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, __file__, str(out)]
    both = [
        subprocess.Popen(command, env=env | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    try:
        errors = [each.communicate(timeout=800)[1] for each in both]
    finally:
        for each in both:
            each.kill()
    assert [each.returncode for each in both] == [0, 0], "\n".join(errors)
    return out


def files(folder, name):
    return [load_file(folder / f"{name}{rank}.safetensors") for rank in "01"]


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(two):
    expected = gradients()
    for found in files(two, "gradients"):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (found[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


@pytest.mark.slow
def test_each_example_is_seen_by_one_process(two):
    seen = [facts["seen"] for facts in files(two, "facts")]
    assert [part.shape for part in seen] == [(STOP, BATCH // 2)] * 2
    assert torch.cat(seen, 1).flatten().tolist() == list(range(STOP * BATCH))


@pytest.mark.slow
def test_random_numbers_of_the_loss_differ_between_processes(two):
    first, second = (facts["drawn"] for facts in files(two, "facts"))
    assert len(torch.cat([first, second]).unique()) == 2 * STOP * 4


@pytest.mark.slow
def test_one_process_writes_the_checkpoint(two):
    assert [facts["saved"].tolist() for facts in files(two, "facts")] == [[5], []]
    assert not list(two.glob("*.tmp"))


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(two, capsys):
    whole, history = train()
    first, second = files(two, "resumed")
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.testing.assert_close(first.pop("losses"), torch.tensor(history["loss"]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first, dict(whole.state_dict()), atol=1e-5, rtol=1e-4)
    alone, _ = train(checkpoint=two / "two.checkpoint")  # and the other way round
    assert f"resumed at step 5 of {STEPS}" in capsys.readouterr().out
    torch.testing.assert_close(alone.state_dict(), whole.state_dict(), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_one_sentence(two):
    for rank in "01":
        said = (two / f"uneven{rank}").read_text()
        assert said == "a batch of 7 does not divide among 2 processes: change one of them."


def test_the_environment_does_not_change_a_training(monkeypatch):
    expected, history = train(steps=4)
    settings = {"GRADIENT_ACCUMULATION_STEPS": "2", "MIXED_PRECISION": "bf16", "DYNAMO_BACKEND": "EAGER"}
    settings |= {"USE_FSDP": "true", "USE_DEEPSPEED": "true", "GRADIENT_CLIPPING": "0.1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    found, again = train(steps=4)
    assert history == again
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), found.parameters(), strict=True))
    assert {name: os.environ[f"ACCELERATE_{name}"] for name in settings} == settings


if __name__ == "__main__":
    process(Path(sys.argv[1]))
