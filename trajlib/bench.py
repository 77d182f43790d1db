"""How fast training, encoding and decoding are, beside the library's README configuration and the machine's peak.

Absolute speeds tell of the machine and of what else it does; ratios within one run travel better. Nothing is a test.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trajlib import metrics, pretrained
from trajlib.config import profile
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.render import SIZE
from trajlib.tokenizer import Tokenizer, VideoTokenizer, reconstruction_loss
from trajlib.training import has_bf16, learning_rate, multiply_adds, optimizers

# github.com/lucidrains/magvit2-pytorch, "Usage"; there image_size is 128
README = {
    "init_dim": 64,
    "max_dim": 512,
    "codebook_size": 1024,
    "layers": (
        "residual",
        "compress_space",
        ("consecutive_residual", 2),
        "compress_space",
        ("consecutive_residual", 2),
        "linear_attend_space",
        "compress_space",
        ("consecutive_residual", 2),
        "attend_space",
        "compress_time",
        ("consecutive_residual", 2),
        "compress_time",
        ("consecutive_residual", 2),
        "attend_time",
    ),
}
README_LR = 2e-5
# neither contender gets what the other lacks: no discriminator, and no perceptual loss, which would download a network
WITHOUT = {"use_gan": False, "perceptual_loss_weight": 0, "discr_kwargs": {"dim": 8, "image_size": 16, "channels": 3}}
TINY = {"init_dim": 8, "max_dim": 16, "codebook_size": 16}
JUDGED = {"full": 8, "smoke": 2}  # validation clips: the README configuration takes seconds for each


@dataclass(frozen=True)
class Figure:
    """One line of the table; `ratio` says what the value is beside another one."""

    figure: str
    value: float
    unit: str
    ratio: str = ""


@dataclass(frozen=True)
class Contender:
    """Something that trains: `loss(clips)` with gradients, `reconstruct(clips)` in [0, 1], of (b, 3, 16, 64, 64)."""

    model: torch.nn.Module
    loss: Callable[[torch.Tensor], torch.Tensor]
    reconstruct: Callable[[torch.Tensor], torch.Tensor]
    batch: int
    lr: float
    muon: float | None = None
    bf16: bool = False


@dataclass(frozen=True)
class Trained:
    """What some seconds of training came to. `madds`: multiply-adds of one step."""

    steps: int
    seconds: float
    madds: int
    psnr: float


def ours(cfg) -> Contender:
    """Our tokenizer with fresh weights, as its recipe trains it on whole clips; the close-ups are left out."""
    torch.manual_seed(cfg.seed)
    model, recipe = Tokenizer(**cfg.tokenizer), cfg.tokenizer_recipe

    def loss(clips):
        return reconstruction_loss(model, clips)[0]

    return Contender(model, loss, model.reconstruct, cfg.tokenizer_batch, recipe["lr"], recipe["muon"], recipe["bf16"])


def readme(cfg) -> Contender:
    """The README's VideoTokenizer on pixels, one clip at a time; it wants 17 frames, so the first one comes twice."""
    torch.manual_seed(cfg.seed)
    model = VideoTokenizer(image_size=SIZE, **README | (TINY if cfg.name == "smoke" else {}) | WITHOUT)
    del model.discr  # built all the same

    def lengthened(clips):
        return torch.cat([clips[:, :, :1], clips], 2)

    def loss(clips):
        return model(lengthened(clips), return_loss=True)[0]

    @torch.no_grad()
    def reconstruct(clips):
        return model(lengthened(clips), return_recon_loss_only=True)[1][:, :, 1:].clamp(0, 1)

    return Contender(model, loss, reconstruct, batch=1, lr=README_LR)


def train(contender: Contender, seconds: float, judged: torch.Tensor) -> Trained:
    """Train for at least `seconds`, in whole steps, at least one, with a learning rate that falls as time goes by."""
    world = TrajectoryDataset(10**9, seed=SEEDS["train"])
    steppers = optimizers(contender.model, contender.lr, contender.muon, weight_decay=0.01)
    peaks = [stepper.param_groups[0]["lr"] for stepper in steppers]

    def gradients(step):
        first = step * contender.batch
        clips = to_float(world.batch(range(first, first + contender.batch)).videos)
        with torch.autocast("cpu", torch.bfloat16, enabled=contender.bf16 and has_bf16()):
            loss = contender.loss(clips)
        for stepper in steppers:
            stepper.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(contender.model.parameters(), 1.0)

    contender.model.train()
    madds = multiply_adds(lambda: gradients(0))  # off the clock: the first step also sets up kernels and memory
    steps, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds or steps == 0:
        gradients(steps)
        for stepper, peak in zip(steppers, peaks, strict=True):
            stepper.param_groups[0]["lr"] = learning_rate(int(1000 * passed / seconds), 1000, peak)
            stepper.step()
        steps += 1
    passed = time.perf_counter() - begun
    contender.model.eval()
    psnr = torch.cat([metrics.psnr(clip, contender.reconstruct(clip)) for clip in judged.split(1)]).mean().item()
    return Trained(steps, passed, madds, psnr)


def rate(run: Callable[[], Any], seconds: float) -> float:
    """How often `run` goes in a second: the median of what fits into `seconds`, after one that does not count."""
    run()
    times, begun = [], time.perf_counter()
    while not times or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1 / sorted(times)[len(times) // 2]


def peak(dtype: torch.dtype, size: int) -> float:
    """Multiply-adds per second of the best of five square matrix products."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):  # the first one sets up its kernel, and is never the best
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return size**3 / min(times)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    lines = dict(
        map(str.strip, line.split(":", 1))
        for line in (info.read_text().splitlines() if info.exists() else [])
        if ":" in line
    )
    flags = lines.get("flags", lines.get("Features", "")).split()
    return {
        "cpu": lines.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "bf16": ", ".join(flag for flag in flags if "bf16" in flag) or "not in hardware",
    }


def measure(name: str, seconds: float, say: Callable[[str], None] = print) -> list[Figure]:
    """Every figure of the table, for the profile `name`; `say` hears what is being measured."""
    cfg = profile(name)
    judged = to_float(TrajectoryDataset(JUDGED[name], seed=SEEDS["validation"]).batch().videos)
    results = {}
    for who, contender in (("ours", ours), ("README", readme)):
        say(f"training {who} for {seconds:g} s ...")
        made = contender(cfg)
        results[who] = train(made, seconds, judged), made
    say("encoding, decoding, multiplying matrices ...")
    codec, _ = pretrained.load("tokenizer")
    speeds = {}
    for batch in (1, 32):
        clips = to_float(TrajectoryDataset(batch, seed=SEEDS["validation"]).batch().videos)
        tokens = codec.encode(clips)
        speeds["encode", batch] = batch * rate(lambda clips=clips: codec.encode(clips), min(seconds, 5))
        speeds["decode", batch] = batch * rate(lambda tokens=tokens: codec.decode(tokens), min(seconds, 5))
    size = 512 if name == "smoke" else 2048
    small = size if has_bf16() else 256  # where it is imitated, a large product takes half a minute
    peaks = {"bf16": peak(torch.bfloat16, small), "float32": peak(torch.float32, size)}
    blank = metrics.psnr(judged, torch.ones_like(judged)).mean().item()
    return figures(*(results[who][0] for who in results), results["ours"][1].batch, speeds, peaks, blank)


def figures(
    mine: Trained,
    other: Trained,
    batch: int,
    speeds: dict[tuple[str, int], float],
    peaks: dict[str, float],
    blank: float,
) -> list[Figure]:
    """The table's lines from what was measured; `batch` is ours, that of the README configuration is 1."""
    fast, slow = mine.steps * batch / mine.seconds, other.steps / other.seconds
    achieved = mine.madds * mine.steps / mine.seconds
    shares = ", ".join(f"{achieved / p:.0%} of the {kind} product" for kind, p in peaks.items())
    table = [
        Figure(f"training, ours ({_steps(mine)} of {batch})", fast, "clips/s", f"{fast / slow:,.0f} times the next"),
        Figure(f"training, README configuration ({_steps(other)} of 1)", slow, "clips/s"),
        Figure(f"PSNR, ours after {mine.seconds:.0f} s", mine.psnr, "dB", f"{mine.psnr - blank:+.1f} dB"),
        Figure(
            f"PSNR, README configuration after {other.seconds:.0f} s", other.psnr, "dB", f"{other.psnr - blank:+.1f} dB"
        ),
        Figure("PSNR, blank frame", blank, "dB"),
    ]
    for what in ("encode", "decode"):
        one, many = speeds[what, 1], speeds[what, 32]
        table += [
            Figure(f"{what}, 1 clip at a time", one, "clips/s"),
            Figure(f"{what}, 32 at a time", many, "clips/s", f"{many / one:.1f} times the last"),
        ]
    clip = f"{other.madds / (mine.madds / batch):,.0f} times as many for a clip of the README configuration"
    table += [
        Figure("multiply-adds of a training step, ours", mine.madds / 1e9, "G", clip),
        Figure("multiply-adds per second in training, ours", achieved / 1e9, "G/s", shares),
    ]
    return table + [Figure(f"matrix product, {kind}", p / 1e9, "G/s") for kind, p in peaks.items()]


def _steps(trained: Trained) -> str:
    return f"{trained.steps} step{'s' if trained.steps > 1 else ''}"


def table(found: list[Figure]) -> str:
    """Figure, value and ratio in columns."""
    rows = [("figure", "value", "ratio")] + [(f.figure, f"{f.value:,.4g} {f.unit}", f.ratio) for f in found]
    width = [max(len(row[k]) for row in rows) for k in range(2)]
    return "\n".join(f"{row[0]:<{width[0]}}  {row[1]:>{width[1]}}  {row[2]}".rstrip() for row in rows)


def run(name: str, seconds: float, file: Path | None = None, say: Callable[[str], None] = print) -> None:
    """Measure, print, and write `file` (JSON) if it is named."""
    facts = machine()
    for key, value in facts.items():
        say(f"{key:8s} {value}")
    found = measure(name, seconds, say)
    say("\n" + table(found))
    if file:
        content = {"machine": facts, "profile": name, "seconds": seconds, "figures": [asdict(f) for f in found]}
        pretrained.write_atomic(file, (json.dumps(content, indent=1) + "\n").encode())
