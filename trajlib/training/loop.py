"""One training loop for every model: AdamW or Muon, warm-up and cosine decay, averaged weights, bf16, resuming.

Each step's data and random numbers depend on (seed, step) alone, so a run that was stopped and resumed ends with the
weights that an uninterrupted run has. Several processes, as `accelerate launch` starts them, share each batch.
"""

import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trajlib.atomic import write_atomic
from trajlib.training.optimizers import build_optimizers, has_bf16, learning_rate

History = dict[str, list[float]]
Optimizers = list[torch.optim.Optimizer]
WHERE = ("USE_CPU", "TORCH_DEVICE", "CPU_AFFINITY", "DEBUG_MODE")  # the ACCELERATE_ variables that count


def fit(
    model: torch.nn.Module, loss_fn: Callable, batch_fn: Callable, *, steps: int, lr: float, muon: float | None = None,
    seed: int = 0, weight_decay: float = 0.01, ema: float = 0.99, clip: float = 1.0, bf16: bool = True,
    checkpoint: str | Path | None = None, checkpoint_every: int = 200, made_from: str = "", log_lines: int = 8,
    callback: Callable | None = None,
) -> tuple[torch.nn.Module, History]:  # fmt: skip
    """Train `model` and return (the averaged model in eval mode, history {name: [value per step]}).

    `lr` is AdamW's peak learning rate; with `muon`, Muon takes the matrices, at that peak (see `build_optimizers`).
    `bf16`: compute in bfloat16 where that is fast (`has_bf16`).
    loss_fn(model, batch) -> (loss, {name: scalar tensor}); batch_fn(step) -> that step's tensors.
    `checkpoint` names a file, written every `checkpoint_every` steps and at the end, and resumed from if it exists:
    delete it once the model is safe elsewhere. ValueError for steps or a seed that are no whole numbers, for a
    checkpoint of another recipe, loss, model or first batch, or of another `made_from` (the caller's digest of what
    else counts), or one that was cut short; FloatingPointError for a loss that is not finite.
    `callback(step, averaged_model)` is called at each of the `log_lines` printed lines.

    With several processes batch_fn gives all of them the whole batch, each takes its equal share of it (ValueError if
    it does not divide), and gradients are averaged: as one process has them if the loss is a mean over examples.
    Random numbers of the loss, such as masks, differ between processes. The first process writes the checkpoint, all
    read it, and their number may change on resuming. Device and number of processes come from accelerate, precision
    from `bf16` alone.
    """
    if not all(isinstance(number, Integral) and number >= 0 for number in (steps, seed)):
        raise ValueError(f"steps {steps!r:.40} and seed {seed!r:.40} came; whole numbers from 0 were expected.")
    accelerator = _accelerator(bf16)
    index, count = accelerator.process_index, accelerator.num_processes
    losses = accelerator.prepare_model(_Losses(model, loss_fn))
    optimizers = accelerator.prepare(*build_optimizers(model, lr, muon, weight_decay))
    optimizers = list(optimizers) if isinstance(optimizers, tuple) else [optimizers]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    history: History = {}
    start = 0
    recipe: dict[str, Any] = {"steps": steps, "lr": lr, "muon": muon, "seed": seed, "weight_decay": weight_decay}
    recipe |= {"ema": ema, "clip": clip, "bf16": bf16, "made_from": made_from}
    recipe["loss"] = getattr(loss_fn, "__qualname__", type(loss_fn).__name__)
    if checkpoint:
        torch.manual_seed(1_000_003 * seed)
        recipe["first batch"] = _checksum(batch_fn(0))
    if checkpoint and Path(checkpoint).exists():
        start, history = _resume(checkpoint, recipe, model, average, optimizers)
        accelerator.print(f"resumed at step {start} of {steps}")
    marks = {round(steps * k / log_lines) for k in range(1, log_lines + 1)}
    clock, first = time.time(), start
    model.train()
    for step in range(start, steps):
        torch.manual_seed(1_000_003 * seed + step)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, peak)
        batch = [_share(part, index, count).to(accelerator.device) for part in batch_fn(step)]
        if index:
            torch.manual_seed(1_000_003 * seed + step + 15_485_863 * index)  # masks of its own; 32 bits of a seed count
        loss, parts = losses(batch)
        parts = {"loss": loss.detach(), **parts}
        values = accelerator.reduce(torch.stack([value.float() for value in parts.values()]), "mean").tolist()
        if not math.isfinite(values[0]):  # in all processes at once: none waits for another
            raise FloatingPointError(f"the loss is {values[0]} at step {step}: lower the learning rate ({lr}).")
        for optimizer in optimizers:
            optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), clip)
        for optimizer in optimizers:
            optimizer.step()
        average.update_parameters(model)
        for name, value in zip(parts, values, strict=True):
            history.setdefault(name, []).append(value)
        done = step + 1
        if checkpoint and (done % checkpoint_every == 0 or done == steps) and accelerator.is_main_process:
            _save(checkpoint, recipe, done, history, model, average, optimizers)
        if done in marks:
            recent = {name: sum(v[-50:]) / len(v[-50:]) for name, v in history.items()}
            minutes = (time.time() - clock) / 60
            left = minutes / (done - first) * (steps - done)
            figures = "  ".join(f"{name} {value:.4g}" for name, value in recent.items())
            accelerator.print(f"step {done:>5}/{steps}  {figures}  ({minutes:.1f} min, {left:.1f} to go)", flush=True)
            if callback:
                average.eval()
                callback(done, average.module)
    return average.module.cpu().eval(), history


class _Losses(torch.nn.Module):
    """loss_fn as a module: one forward pass a step, whatever of the model it calls, as data parallelism needs it."""

    def __init__(self, model: torch.nn.Module, loss_fn: Callable):
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, batch: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.loss_fn(self.model, batch)


def this_process() -> PartialState:
    """Its number among those that `accelerate launch` started, and its device: CUDA or MPS where there is one."""
    # without this argument, two processes on CPUs would train one model each
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def agreed(value: Any) -> Any:
    """The first process's value, in all of them: what would let one wait for another if they differed."""
    return broadcast_object_list([value])[0] if this_process().num_processes > 1 else value


def _accelerator(bf16: bool) -> Accelerator:
    """accelerate's environment says where to compute; how, only the recipe: other variables are not seen."""
    AcceleratorState._reset_state()  # else a process keeps the precision of its first run
    names = [name for name in os.environ if name.startswith("ACCELERATE_") and name[11:] not in WHERE]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        device = this_process().device
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        return Accelerator(
            cpu=device.type == "cpu", kwargs_handlers=[unused],
            mixed_precision="bf16" if bf16 and has_bf16(device) else "no",
        )  # fmt: skip
    finally:
        os.environ.update(hidden)


def _share(part: torch.Tensor, index: int, count: int) -> torch.Tensor:
    """The rows of a batch that process `index` of `count` takes."""
    rows, rest = divmod(len(part), count)
    if rest:
        raise ValueError(f"a batch of {len(part)} does not divide among {count} processes: change one of them.")
    return part[index * rows : (index + 1) * rows]


def _save(
    checkpoint: str | Path, recipe: dict[str, Any], step: int, history: History, model: torch.nn.Module,
    average: AveragedModel, optimizers: Optimizers,
) -> None:  # fmt: skip
    """Everything that the next step needs, in one safetensors file, written next to it and renamed."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for i, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{i}.{k}": v for k, v in slots.items()}
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    facts = {"step": str(step), "history": json.dumps(history), "recipe": json.dumps(recipe)}
    write_atomic(Path(checkpoint), tensors_to_bytes(tensors, metadata=facts))


def _checksum(batch: Iterable[torch.Tensor]) -> int:
    """Of the bytes of a batch."""
    return zlib.crc32(b"".join(part.detach().cpu().contiguous().numpy().tobytes() for part in batch))


def _resume(
    checkpoint: str | Path, recipe: dict[str, Any], model: torch.nn.Module, average: AveragedModel,
    optimizers: Optimizers,
) -> tuple[int, History]:  # fmt: skip
    """Put a checkpoint's state back; returns the step to go on with, and the history so far."""
    data = Path(checkpoint).read_bytes()  # a mapped file could not be replaced on Windows
    try:
        tensors = tensors_from_bytes(data)
        meta = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
    except (SafetensorError, ValueError) as error:
        why = f"is cut short or no checkpoint ({error})"
        raise ValueError(f"{checkpoint} {why}: delete it to start from the beginning.") from None
    if "step" not in meta:
        raise ValueError(f"{checkpoint} is no checkpoint of a training: delete it to start from the beginning.")
    was = recipe | json.loads(meta.get("recipe", "{}"))  # one without a recipe is of any
    differ = [f"{name} {was[name]}, not {value}" for name, value in recipe.items() if was[name] != value]
    shapes = {k.removeprefix("model."): v.shape for k, v in tensors.items() if k.startswith("model.")}
    differ += ["other weights"] * (shapes != {k: v.shape for k, v in model.state_dict().items()})
    if differ:
        why = f"{checkpoint} was left by another training ({'; '.join(differ)})"
        remedy = "delete it to start from the beginning, or go on with the recipe and the model that left it"
        raise ValueError(f"{why}: {remedy}.")
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
    for key, value in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    model.load_state_dict(parts["model"])
    average.load_state_dict(parts["average"])
    states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in optimizers]
    for name, value in parts["optimizer"].items():
        number, i, slot = name.split(".", 2)
        states[int(number)].setdefault(int(i), {})[slot] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(meta["step"]), json.loads(meta["history"])
