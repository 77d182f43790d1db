"""One training loop for every model: AdamW or Muon, warm-up and cosine decay, averaged weights, bf16, resuming.

Each step's data and random numbers depend on (seed, step) alone, so a run that was stopped and taken up again ends
with the weights it would have had.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode


def learning_rate(step, steps, peak, warmup=0.05):
    """Linear warm-up over the first share `warmup` of `steps`, then a half cosine down to a hundredth of `peak`."""
    progress = (step + 1) / steps
    if progress < warmup:
        return peak * progress / warmup
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))))


def has_bf16(device="cpu"):
    """Whether bfloat16 is worth it on a device: on a graphics card, or on a CPU with instructions for it.

    Any other CPU imitates it: right, and up to a hundred times slower than float32.
    """
    return torch.device(device).type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def quick():
    """A context in which models on the CPU compute in bfloat16 if that is quick (`has_bf16`), else as they would."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bf16())


class KernelMuon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for matrices and kernels: (out, in, t, h, w) is taken as the matrix (out, in t h w).

    Each step's matrix is made orthogonal, so that all its directions move alike and not only the loudest. torch's own
    Muon takes matrices alone, and works in bfloat16 on every CPU: see `has_bf16`.
    """

    def __init__(self, weights, lr, weight_decay=0.0, momentum=0.95):
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        """Nesterov's momentum, made orthogonal; a tall matrix goes further, as in torch's. No `closure` is called."""
        for group in self.param_groups:
            for weight in (w for w in group["params"] if w.grad is not None):
                past = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight.grad))
                past.lerp_(weight.grad, 1 - group["momentum"])
                move = orthogonal(weight.grad.lerp(past, group["momentum"]).flatten(1)).view(weight.shape)
                further = math.sqrt(max(1, len(weight) / weight[0].numel()))
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(move, alpha=-group["lr"] * further)


def orthogonal(matrix, rounds=5):
    """Near the matrix (a, b) that turns and does not stretch: all but tiny singular values come between 0.5 and 1.5.

    Newton and Schulz's iteration with the coefficients of Jordan et al. Each round multiplies x by a polynomial of the
    small square x x^T; so the rounds are done on squares, and the long side is met but twice in all, not twice a round.
    In float32: rounded in bfloat16, a square has eigenvalues below 0, which the rounds blow up.
    """
    x = matrix.float() / matrix.norm().clamp_min(1e-7)
    x = x.T if len(x) > len(x.T) else x
    square, turn = x @ x.T, None
    for left in reversed(range(rounds)):
        step = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        step.diagonal().add_(3.4445)
        turn = step if turn is None else step @ turn
        square = step @ square @ step if left else None
    x = turn @ x
    return (x.T if len(matrix) > len(matrix.T) else x).to(matrix.dtype)


def multiply_adds(run):
    """Of convolutions and matrix products in `run()`, backward passes included; a fused attention goes uncounted."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def optimizers(model, lr, muon, weight_decay):
    """AdamW for all weights; or, with `muon` (its learning rate), Muon for the layers' matrices and AdamW for the rest.

    A table of embeddings is no such matrix: its rows are looked up one by one.
    """
    weights = list(model.parameters())
    layers = [m for m in model.modules() if muon and isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)]
    inner = [m.weight for m in layers if min(len(m.weight), m.weight[0].numel()) >= 16]
    outer = [w for w in weights if not any(w is v for v in inner)]
    adamw = torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay)
    return [adamw, KernelMuon(inner, lr=muon, weight_decay=0.0)] if inner else [adamw]


def fit(
    model: torch.nn.Module,
    loss_fn: Callable,
    batch_fn: Callable,
    *,
    steps: int,
    lr: float,
    muon: float | None = None,
    seed: int = 0,
    weight_decay: float = 0.01,
    ema: float = 0.99,
    clip: float = 1.0,
    bf16: bool = True,
    checkpoint: str | Path | None = None,
    every: int = 200,
    lines: int = 8,
    watch: Callable | None = None,
):
    """Train `model` and return (the averaged model in eval mode, history).

    `lr` is AdamW's peak learning rate; with `muon`, Muon takes the matrices, at that peak (see `optimizers`).
    `bf16`: compute in bfloat16 where that is quick (`has_bf16`).
    loss_fn(model, batch) -> (loss, {name: scalar tensor}); batch_fn(step) -> that step's tensors.
    `checkpoint` names a file, written every `every` steps and taken up if it is there; it goes when training ends. One
    of another recipe or model, or cut short, is a ValueError.
    `watch(step, averaged_model)` is called at each of the `lines` printed lines. History: {name: [value per step]}.
    """
    AcceleratorState._reset_state()  # else a process is held to the precision of its first run
    # as Accelerator picks it: CUDA or MPS where there is one, and not where torch could merely use one
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    accelerator = Accelerator(mixed_precision="bf16" if bf16 and has_bf16(device) else "no")
    model = accelerator.prepare(model)
    steppers = accelerator.prepare(*optimizers(model, lr, muon, weight_decay))
    steppers = list(steppers) if isinstance(steppers, tuple) else [steppers]
    peaks = [stepper.param_groups[0]["lr"] for stepper in steppers]
    bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    average = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(ema))
    history, start = {}, 0
    recipe = {"steps": steps, "lr": lr, "muon": muon, "seed": seed, "weight_decay": weight_decay, "ema": ema}
    recipe |= {"clip": clip, "bf16": bf16}
    if checkpoint and Path(checkpoint).exists():
        start, history = _resume(checkpoint, recipe, bare, average, steppers)
        print(f"taken up at step {start} of {steps}")
    marks = {round(steps * k / lines) for k in range(1, lines + 1)}
    clock, first = time.time(), start
    model.train()
    for step in range(start, steps):
        torch.manual_seed(1_000_003 * seed + step)
        for stepper, peak in zip(steppers, peaks, strict=True):
            stepper.param_groups[0]["lr"] = learning_rate(step, steps, peak)
        batch = [part.to(accelerator.device) for part in batch_fn(step)]
        with accelerator.autocast():
            loss, parts = loss_fn(model, batch)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the learning rate ({lr}).")
        for stepper in steppers:
            stepper.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), clip)
        for stepper in steppers:
            stepper.step()
        average.update_parameters(bare)
        for name, value in {"loss": loss, **parts}.items():
            history.setdefault(name, []).append(value.item())
        done = step + 1
        if checkpoint and done % every == 0 and done < steps:
            _save(checkpoint, recipe, done, history, bare, average, steppers)
        if done in marks:
            recent = {name: sum(v[-50:]) / len(v[-50:]) for name, v in history.items()}
            minutes = (time.time() - clock) / 60
            left = minutes / (done - first) * (steps - done)
            figures = "  ".join(f"{name} {value:.4g}" for name, value in recent.items())
            print(f"step {done:>5}/{steps}  {figures}  ({minutes:.1f} min, {left:.1f} to go)", flush=True)
            if watch:
                average.eval()
                watch(done, average.module)
    if checkpoint:
        Path(checkpoint).unlink(missing_ok=True)
    return average.module.cpu().eval(), history


def _save(checkpoint, recipe, step, history, model, average, steppers):
    """Everything that the next step needs, in one safetensors file, written beside and renamed."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for number, stepper in enumerate(steppers):
        for i, slots in stepper.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{i}.{k}": v for k, v in slots.items()}
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    beside = Path(f"{checkpoint}.tmp")
    beside.parent.mkdir(parents=True, exist_ok=True)
    facts = {"step": str(step), "history": json.dumps(history), "recipe": json.dumps(recipe)}
    save_file(tensors, beside, metadata=facts)
    beside.replace(checkpoint)


def _resume(checkpoint, recipe, model, average, steppers):
    """Put a checkpoint's state back; returns the step to go on with, and the history so far."""
    try:
        with safe_open(checkpoint, "pt") as file:
            meta = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{checkpoint} is cut short or no checkpoint ({error}): delete it to start afresh.") from None
    if "step" not in meta:
        raise ValueError(f"{checkpoint} is no checkpoint of a training: delete it to start afresh.")
    was = recipe | json.loads(meta.get("recipe", "{}"))  # a checkpoint of before recipes were kept says none
    differ = [f"{name} {was[name]}, not {value}" for name, value in recipe.items() if was[name] != value]
    shapes = {k.removeprefix("model."): v.shape for k, v in tensors.items() if k.startswith("model.")}
    differ += ["other weights"] * (shapes != {k: v.shape for k, v in model.state_dict().items()})
    if differ:
        raise ValueError(
            f"{checkpoint} was left by another training ({'; '.join(differ)}): delete it to start afresh, or go on "
            "with the recipe and the model that left it."
        )
    parts = {"model": {}, "average": {}, "optimizer": {}}
    for key, value in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    model.load_state_dict(parts["model"])
    average.load_state_dict(parts["average"])
    states = [{} for _ in steppers]
    for name, value in parts["optimizer"].items():
        number, i, slot = name.split(".", 2)
        states[int(number)].setdefault(int(i), {})[slot] = value
    for stepper, state in zip(steppers, states, strict=True):
        stepper.load_state_dict({"state": state, "param_groups": stepper.state_dict()["param_groups"]})
    return int(meta["step"]), json.loads(meta["history"])
