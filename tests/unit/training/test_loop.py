"""The training loop: its schedule, stopping and resuming, its errors."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from trajlib.training import loop, optimizers
from trajlib.training.loop import fit
from trajlib.training.optimizers import KernelMuon, bf16_autocast, build_optimizers, learning_rate, orthogonalize

STEPS = 12


class Toy(nn.Module):
    """A layer and dropout, whose random numbers a resumed run must draw again."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Dropout(0.3), nn.Linear(16, 1))

    def forward(self, x):
        return self.net(x)


def toy():
    torch.manual_seed(0)
    return Toy()


def loss_fn(model, batch):
    x, y = batch
    loss = (model(x) - y).square().mean()
    return loss, {"error": loss.detach().sqrt()}


def batch_fn(step):
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return [x, x.sum(1, keepdim=True)]


def train(model=None, **changes):
    settings = {"loss_fn": loss_fn, "batch_fn": batch_fn, "steps": STEPS, "lr": 1e-2, "bf16": False}
    return fit(model or toy(), **settings | changes)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- the schedule ----


def test_schedule_at_its_ends():
    assert learning_rate(0, 100, 1.0) == pytest.approx(1 / 5)  # the first of five warm-up steps
    assert learning_rate(4, 100, 1.0) == pytest.approx(1.0)
    assert learning_rate(99, 100, 1.0) == pytest.approx(0.01)
    half_way = 4 + (99 - 4) / 2
    assert learning_rate(half_way, 100, 1.0) == pytest.approx(0.01 + 0.99 / 2)


@given(st.integers(1, 5000), st.floats(1e-6, 1.0))
def test_schedule_stays_positive_and_below_its_peak(steps, peak):
    rates = [learning_rate(step, steps, peak) for step in range(0, steps, max(1, steps // 50))]
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[: top + 1] == sorted(rates[: top + 1])


# ---- a run ----


def test_the_loss_falls_and_the_history_is_whole():
    model, history = train(steps=200)
    assert not model.training
    assert {name: len(values) for name, values in history.items()} == {"loss": 200, "error": 200}
    assert sum(history["loss"][-20:]) < sum(history["loss"][:20]) / 2


def test_log_lines_and_callback(capsys):
    seen = []
    train(log_lines=3, callback=lambda step, model: seen.append((step, model.training)))
    assert seen == [(4, False), (8, False), (12, False)]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["4/12", "8/12", "12/12"]


def test_the_same_seed_gives_the_same_weights():
    assert same(train()[0], train()[0])
    assert not same(train()[0], train(seed=1)[0])  # dropout differs


def test_what_is_returned_is_the_moving_average():
    weights = []

    def remember(model, batch):
        weights.append(model.net[0].weight.detach().clone())  # as each step begins
        return loss_fn(model, batch)

    model, _ = train(steps=2, ema=0.9, loss_fn=remember)
    first = weights[1]  # after step 1, which the average starts from
    last = train(steps=2, ema=0.0)[0].net[0].weight
    assert torch.allclose(model.net[0].weight, 0.9 * first + 0.1 * last, atol=1e-6)


@pytest.mark.parametrize("there", [True, False])
def test_a_process_may_train_in_another_precision(monkeypatch, there):
    """A tokenizer in bf16, then a transformer in float32; and float32 for both where bfloat16 is only emulated."""
    for module in (loop, optimizers):
        monkeypatch.setattr(module, "has_bf16", lambda device="cpu": there)
    dtypes = []

    def recording(model, batch):
        dtypes.append(model.net[0](batch[0]).dtype)
        return loss_fn(model, batch)

    for bf16 in (False, True, False):
        train(bf16=bf16, loss_fn=recording, steps=1)
    assert dtypes == [torch.float32, torch.bfloat16 if there else torch.float32, torch.float32]
    with bf16_autocast():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtypes[1]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a graphics card computes in bfloat16, whatever the CPU")
@pytest.mark.parametrize("there", [True, False])
def test_a_cpu_without_bf16_does_not_emulate_it(monkeypatch, there):
    """torch names the card that it was built for, card or no card: asked so, every CPU would train in bfloat16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there)
    dtypes = []

    def recording(model, batch):
        dtypes.append(model.net[0](batch[0]).dtype)
        return loss_fn(model, batch)

    train(bf16=True, loss_fn=recording, steps=1)
    assert dtypes == [torch.bfloat16 if there else torch.float32]


# ---- Muon ----


def kernels(channels_last):
    """The same convolution twice: as it is, and as a plain matrix of torch's own Muon."""
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 6, 3)
    if channels_last:
        conv = conv.to(memory_format=torch.channels_last_3d)
    return conv, nn.Parameter(conv.weight.detach().clone().contiguous().flatten(1))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_kernel_steps_as_the_matrix_it_is(channels_last):
    conv, matrix = kernels(channels_last)
    settings = {"lr": 0.02, "weight_decay": 0.0}
    ours, torchs = KernelMuon([conv.weight], **settings), torch.optim.Muon([matrix], **settings)
    for step in range(3):
        x = torch.randn(2, 4, 5, 5, 5, generator=torch.Generator().manual_seed(step))
        ours.zero_grad()
        conv(x).square().mean().backward()
        matrix.grad = conv.weight.grad.contiguous().flatten(1).clone()
        ours.step()
        torchs.step()
    assert torch.allclose(conv.weight.flatten(1), matrix, atol=2e-3)  # torch's rounds to bf16 inside, in another order
    assert (conv.weight.flatten(1) - kernels(channels_last)[1]).abs().max() > 0.01


def iterated(matrix, rounds=5):
    """Newton and Schulz's iteration as it is written down, in float64."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
    return x


@pytest.mark.parametrize("shape", [(16, 16), (24, 200), (200, 24), (1, 8)])
@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-9])  # of the scales of the columns; the largest is 1
def test_what_is_made_orthogonal_is_what_the_iteration_gives(shape, smallest):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    matrix = matrix * torch.logspace(0, float(np.log10(smallest)), shape[1])
    torch.testing.assert_close(orthogonalize(matrix).double(), iterated(matrix), atol=2e-3, rtol=0)


@pytest.mark.parametrize("matrix", [torch.zeros(8, 12), torch.ones(8, 12), 1e-6 * torch.eye(8, 12)])
def test_a_matrix_of_low_rank_stays_one_and_none_becomes_nan(matrix):
    made = orthogonalize(matrix)
    assert torch.linalg.matrix_rank(made, atol=1e-2) == torch.linalg.matrix_rank(matrix)
    assert torch.linalg.svdvals(made).max() < 1.5


def test_a_step_of_muon_turns_all_directions_alike():
    """Gradients of very different sizes along two directions: the step is nearly orthogonal all the same."""
    weight = nn.Parameter(torch.zeros(16, 16))
    optimizer = KernelMuon([weight], lr=1.0, weight_decay=0.0, momentum=0.0)
    weight.grad = torch.diag(torch.logspace(0, -1, 16))
    optimizer.step()
    sizes = torch.linalg.svdvals(weight.detach())
    assert 0.5 < sizes.min() <= sizes.max() < 1.5


def test_every_weight_has_one_optimizer():
    model = nn.Sequential(
        nn.Conv3d(16, 16, 3), nn.Linear(16, 16), nn.Linear(16, 4), nn.LayerNorm(16), nn.Embedding(20, 16)
    )
    adamw, muon = build_optimizers(model, 1e-3, 0.02, 0.0)
    inner = {id(w) for w in muon.param_groups[0]["params"]}
    assert inner == {id(model[0].weight), id(model[1].weight)}  # not the thin one
    assert {id(w) for w in adamw.param_groups[0]["params"]} == {
        id(w) for w in (model[0].bias, model[1].bias, *model[2].parameters(), *model[3].parameters(), model[4].weight)
    }
    assert len(build_optimizers(model, 1e-3, None, 0.0)) == 1


# ---- stopped and resumed ----


class Stopped(Exception):
    """The process was stopped."""


@pytest.mark.parametrize(("when", "muon"), [(5, None), (7, None), (11, None), (7, 0.02)])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, capsys, when, muon):
    checkpoint = tmp_path / "toy.checkpoint"

    def stopping(step):
        if step == when:
            raise Stopped
        return batch_fn(step)

    with pytest.raises(Stopped):
        train(muon=muon, checkpoint=checkpoint, checkpoint_every=5, batch_fn=stopping)
    assert [file.name for file in tmp_path.iterdir()] == ["toy.checkpoint"]
    resumed, history = train(muon=muon, checkpoint=checkpoint, checkpoint_every=5)
    assert f"resumed at step {when // 5 * 5} of {STEPS}" in capsys.readouterr().out
    whole, whole_history = train(muon=muon)
    assert same(resumed, whole)
    assert history == whole_history
    assert [file.name for file in tmp_path.iterdir()] == ["toy.checkpoint"]  # the model is safe nowhere else


def test_a_training_that_had_ended_gives_its_model_again_without_a_step(tmp_path):
    def no_step(model, batch):
        pytest.fail("a step after the last")

    no_step.__qualname__ = loss_fn.__qualname__
    first, history = train(checkpoint=tmp_path / "toy.checkpoint")
    again, same_history = train(checkpoint=tmp_path / "toy.checkpoint", loss_fn=no_step)
    assert same(first, again)
    assert history == same_history


def test_no_setting_of_the_environment_changes_a_training(monkeypatch):
    before = train()[0]
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert same(train()[0], before)


def test_a_checkpoint_is_read_whole_and_never_mapped(left, monkeypatch):
    """Windows refuses to replace a file that is mapped into memory; some file systems cannot map one."""
    monkeypatch.setattr("safetensors.safe_open", lambda *_: pytest.fail("mapped"))
    assert same(train(checkpoint=left)[0], train()[0])


@pytest.fixture
def left(tmp_path):
    """The checkpoint of a training that was stopped after five steps."""

    def stopping(step):
        if step == 6:
            raise Stopped
        return batch_fn(step)

    with pytest.raises(Stopped):
        train(checkpoint=tmp_path / "toy.checkpoint", checkpoint_every=5, batch_fn=stopping)
    return tmp_path / "toy.checkpoint"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 24}, "steps 12, not 24"),
        ({"lr": 0.02, "seed": 1}, "lr 0.01, not 0.02; seed 0, not 1"),
        ({"muon": 0.02}, "muon None, not 0.02"),
        ({"weight_decay": 0.0}, "weight_decay 0.01, not 0.0"),
        ({"ema": 0.9}, "ema 0.99, not 0.9"),
        ({"clip": 2.0}, "clip 1.0, not 2.0"),
        ({"bf16": True}, "bf16 False, not True"),
        ({"model": nn.Linear(4, 1)}, "other weights"),
        ({"batch_fn": lambda step: [part[:8] for part in batch_fn(step)]}, r"first batch \d+, not \d+"),
        ({"loss_fn": lambda model, batch: loss_fn(model, batch)}, "loss loss_fn, not <lambda>"),
        ({"made_from": "another tokenizer"}, "made_from , not another tokenizer"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused_and_stays(left, change, says):
    before = left.read_bytes()
    with pytest.raises(ValueError, match=rf"toy\.checkpoint was left by another training \({says}\): delete it .*, or"):
        train(checkpoint=left, **change)
    assert left.read_bytes() == before


def test_log_lines_and_how_often_it_is_written_may_change_on_the_way(left):
    assert same(train(checkpoint=left, checkpoint_every=3, log_lines=2)[0], train()[0])


def test_a_checkpoint_without_a_recipe_is_resumed(left):
    with safe_open(left, "pt") as file:
        facts = {k: v for k, v in file.metadata().items() if k != "recipe"}
    save_file(load_file(left), left, metadata=facts)
    assert same(train(checkpoint=left)[0], train()[0])


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_checkpoint_cut_short_gets_one_sentence(left, keep):
    left.write_bytes(left.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=r"toy\.checkpoint is cut short .*: delete it to start from the beginning\.$"
    ) as caught:
        train(checkpoint=left)
    assert "\n" not in str(caught.value)


def test_weights_are_no_checkpoint(left):
    save_file(toy().state_dict(), left)
    with pytest.raises(ValueError, match=r"toy\.checkpoint is no checkpoint of a training: delete it"):
        train(checkpoint=left)


def test_stopped_before_the_first_checkpoint_leaves_nothing(tmp_path):
    def stopping(step):
        raise Stopped

    with pytest.raises(Stopped):
        train(checkpoint=tmp_path / "toy.checkpoint", batch_fn=stopping)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_one_sentence(bad):
    def breaking(model, batch):
        loss, parts = loss_fn(model, batch)
        return loss * bad, parts

    with pytest.raises(FloatingPointError, match=r"^the loss is (nan|inf) at step 0: lower the learning rate \(0.01\)"):
        train(loss_fn=breaking)


@pytest.mark.slow
def test_numbers_too_small_for_normal_floats_are_zero_in_every_thread():
    """They would make training ten times slower, once most of a picture is right."""
    code = "import trajlib, torch; x = torch.full((4_000_000,), 1e-39); print(int((x * 0.5).count_nonzero()))"
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert left.stdout.strip() == "0"


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"steps": 2.5}, {"seed": "0"}, {"seed": -1}, {"seed": None}])
def test_steps_and_seed_are_whole_numbers(wrong):
    with pytest.raises(ValueError, match=r"^steps .* and seed .* came; whole numbers from 0 were expected\.$"):
        train(**wrong)
