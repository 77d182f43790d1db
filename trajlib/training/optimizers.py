"""AdamW and Muon, the learning rate's schedule, and when bfloat16 is worth it."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def learning_rate(step: int, steps: int, peak: float, warmup: float = 0.05) -> float:
    """Linear warm-up over the first share `warmup` of `steps`, then a half cosine down to a hundredth of `peak`."""
    progress = (step + 1) / steps
    if progress < warmup:
        return peak * progress / warmup
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))))


def has_bf16(device: str | torch.device = "cpu") -> bool:
    """Whether bfloat16 is fast on a device: a CPU or a graphics card with instructions for it.

    Others emulate it: correct, and up to a hundred times slower than float32. CUDA has them from Ampere (8.0) on.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.device(device).type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def bf16_autocast() -> torch.autocast:
    """A context in which models on the CPU compute in bfloat16 if that is fast (`has_bf16`), in float32 otherwise."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bf16())


class KernelMuon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for matrices and kernels: (out, in, t, h, w) is taken as the matrix (out, in t h w).

    Each step's matrix is made orthogonal, so that all directions move equally far. torch's own Muon takes matrices
    only, and computes in bfloat16 on every CPU: see `has_bf16`.
    """

    def __init__(self, weights: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95):
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]  # no loss to return
        """Nesterov's momentum, made orthogonal; a tall matrix moves further, as in torch's. `closure` is not called."""
        for group in self.param_groups:
            for weight in (w for w in group["params"] if w.grad is not None):
                momentum = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight.grad))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalize(weight.grad.lerp(momentum, group["momentum"]).flatten(1)).view(weight.shape)
                scale = math.sqrt(max(1, len(weight) / weight[0].numel()))
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


def orthogonalize(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """An approximately orthogonal matrix (a, b): all but tiny singular values come between 0.5 and 1.5.

    Newton and Schulz's iteration with the coefficients of Jordan et al. Each round multiplies x by a polynomial of the
    small square x x^T; so the rounds run on squares, and the long side is multiplied twice in all. In float32: rounded
    to bfloat16, a square has eigenvalues below 0, which the rounds amplify.
    """
    x = matrix.float() / matrix.norm().clamp_min(1e-7)
    x = x.T if len(x) > len(x.T) else x
    square, product = x @ x.T, None
    for left in reversed(range(rounds)):
        step = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        step.diagonal().add_(3.4445)
        product = step if product is None else step @ product
        square = step @ square @ step if left else None
    x = product @ x
    return (x.T if len(matrix) > len(matrix.T) else x).to(matrix.dtype)


def multiply_adds(run: Callable[[], object]) -> int:
    """Multiply-adds of convolutions and matrix products in `run()`, backward passes included, fused attention not."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def build_optimizers(
    model: nn.Module, lr: float, muon: float | None, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; or, with `muon` (its learning rate), Muon for the layers' matrices and AdamW for the rest.

    Embedding tables stay with AdamW: their rows are looked up one by one.
    """
    weights = list(model.parameters())
    layers = [m for m in model.modules() if muon and isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)]
    layers = [m for m in layers if m.weight.is_leaf and m.weight.requires_grad]  # not what is frozen or adapted
    inner = [m.weight for m in layers if min(len(m.weight), m.weight[0].numel()) >= 16]
    outer = [w for w in weights if not any(w is v for v in inner)]
    adamw = torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay)
    return [adamw, KernelMuon(inner, lr=muon, weight_decay=0.0)] if muon and inner else [adamw]
