"""How fast training, encoding and decoding are, next to the library's README configuration and the machine's peak.

Absolute speeds depend on the machine and on its load; ratios within one run are more reliable. Nothing is a test.
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
from magvit2_pytorch.magvit2_pytorch import VideoTokenizer

from trajlib import atomic
from trajlib.data.clips import split
from trajlib.data.spec import VideoSpec
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.training.optimizers import build_optimizers, has_bf16, learning_rate, multiply_adds
from trajlib.zoo import checkpoints, recipes
from trajlib.zoo.config import Recipes, recipes_of

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
# both methods train without a discriminator, and without a perceptual loss, which would download a network
WITHOUT = {"use_gan": False, "perceptual_loss_weight": 0, "discr_kwargs": {"dim": 8, "image_size": 16, "channels": 3}}
TINY = {"init_dim": 8, "max_dim": 16, "codebook_size": 16}
EVALUATED = {"full": 8, "smoke": 2}  # validation clips: the README configuration takes seconds for each


@dataclass(frozen=True)
class Figure:
    """One line of the table; `ratio` compares the value with another one."""

    figure: str
    value: float
    unit: str
    ratio: str = ""


@dataclass(frozen=True)
class Method:
    """A model and how it is trained: `loss(videos)` with gradients, `reconstruct(videos)` in [0, 1]; videos are
    (b, 3, t, h, w)."""

    model: torch.nn.Module
    loss: Callable[[torch.Tensor], torch.Tensor]
    reconstruct: Callable[[torch.Tensor], torch.Tensor]
    batch: int
    lr: float
    muon: float | None = None
    bf16: bool = False


@dataclass(frozen=True)
class Trained:
    """The result of some seconds of training. `madds`: multiply-adds of one step; `psnr` in dB."""

    steps: int
    seconds: float
    madds: int
    psnr: float


def ours(cfg: Recipes) -> Method:
    """Our tokenizer with fresh weights, as its recipe trains it on whole clips (not on foreground crops)."""
    torch.manual_seed(cfg.seed)
    model, train = recipes.new_tokenizer(cfg, VideoSpec()), cfg.tokenizer.train
    loss = recipes.tokenizer_loss(chroma_weight=cfg.tokenizer.chroma_weight)
    return Method(
        model, lambda videos: loss(model, videos)[0], model.reconstruct, train.batch, train.lr, train.muon, train.bf16
    )


def readme(cfg: Recipes) -> Method:
    """The README's VideoTokenizer on pixels, one clip at a time; it needs 17 frames, so the first one comes twice."""
    torch.manual_seed(cfg.seed)
    sizes = README | (TINY if cfg.name == "smoke" else {})
    model = VideoTokenizer(image_size=VideoSpec().size, **sizes, **WITHOUT)
    del model.discr  # built in spite of use_gan=False

    def lengthen(videos):
        return torch.cat([videos[:, :, :1], videos], 2)

    def loss(videos):
        return model(lengthen(videos), return_loss=True)[0]

    @torch.no_grad()
    def reconstruct(videos):
        return model(lengthen(videos), return_recon_loss_only=True)[1][:, :, 1:].clamp(0, 1)

    return Method(model, loss, reconstruct, batch=1, lr=README_LR)


def train(method: Method, seconds: float, validation: torch.Tensor) -> Trained:
    """Train for at least `seconds`, in whole steps, at least one, with a learning rate that decays with time."""
    data = split("train")
    optimizers = build_optimizers(method.model, method.lr, method.muon, weight_decay=0.01)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]

    def gradients(step):
        first = step * method.batch
        videos = to_float(data.videos(range(first, first + method.batch)))
        with torch.autocast("cpu", torch.bfloat16, enabled=method.bf16 and has_bf16()):
            loss = method.loss(videos)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.model.parameters(), 1.0)

    method.model.train()
    madds = multiply_adds(lambda: gradients(0))  # not timed: the first step also sets up kernels and memory
    steps, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds or steps == 0:
        gradients(steps)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = learning_rate(int(1000 * passed / seconds), 1000, peak)
            optimizer.step()
        steps += 1
    passed = time.perf_counter() - begun
    method.model.eval()
    psnr = torch.cat([metrics.psnr(clip, method.reconstruct(clip)) for clip in validation.split(1)]).mean().item()
    return Trained(steps, passed, madds, psnr)


def rate(run: Callable[[], Any], seconds: float) -> float:
    """Calls of `run` per second: the median over `seconds`, after one call that does not count."""
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
    for _ in range(6):  # the first one sets up its kernel
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return size**3 / min(times)


def machine() -> dict[str, Any]:
    """The machine's processor, cores, threads, load and versions."""
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


def measure(name: str, seconds: float, log: Callable[[str], None] = print) -> list[Figure]:
    """Every figure of the table, for the profile `name`; `log` receives what is being measured."""
    cfg = recipes_of(name)
    validation = to_float(split("validation").videos(range(EVALUATED[name])))
    trained, methods = {}, {"ours": ours(cfg), "README": readme(cfg)}
    for key, method in methods.items():
        log(f"training {key} for {seconds:g} s ...")
        trained[key] = train(method, seconds, validation)
    log("encoding, decoding, multiplying matrices ...")
    tokenizer, _ = checkpoints.load("tokenizer")
    speeds = {}
    for batch in (1, 32):
        videos = to_float(split("validation").videos(range(batch)))
        tokens = tokenizer.encode(videos)
        speeds["encode", batch] = batch * rate(lambda videos=videos: tokenizer.encode(videos), min(seconds, 5))
        speeds["decode", batch] = batch * rate(lambda tokens=tokens: tokenizer.decode(tokens), min(seconds, 5))
    size = 512 if name == "smoke" else 2048
    small = size if has_bf16() else 256  # where bfloat16 is emulated, a large product takes half a minute
    peaks = {"bf16": peak(torch.bfloat16, small), "float32": peak(torch.float32, size)}
    blank = metrics.psnr(validation, torch.ones_like(validation)).mean().item()
    return figures(trained["ours"], trained["README"], methods["ours"].batch, speeds, peaks, blank)


def figures(
    own: Trained,
    other: Trained,
    batch: int,
    speeds: dict[tuple[str, int], float],
    peaks: dict[str, float],
    blank: float,
) -> list[Figure]:
    """The table's lines from what was measured; `batch` is ours, that of the README configuration is 1."""
    fast, slow = own.steps * batch / own.seconds, other.steps / other.seconds
    achieved = own.madds * own.steps / own.seconds
    shares = ", ".join(f"{achieved / p:.0%} of the {kind} product" for kind, p in peaks.items())
    table = [
        Figure(f"training, ours ({_steps(own)} of {batch})", fast, "clips/s", f"{fast / slow:,.0f} times the next"),
        Figure(f"training, README configuration ({_steps(other)} of 1)", slow, "clips/s"),
        Figure(f"PSNR, ours after {own.seconds:.0f} s", own.psnr, "dB", f"{own.psnr - blank:+.1f} dB"),
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
    clip = f"{other.madds / (own.madds / batch):,.0f} times as many for a clip of the README configuration"
    table += [
        Figure("multiply-adds of a training step, ours", own.madds / 1e9, "G", clip),
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


def run_benchmark(name: str, seconds: float, file: Path | None = None, log: Callable[[str], None] = print) -> None:
    """Measure, print, and write `file` (JSON) if it is named."""
    facts = machine()
    for key, value in facts.items():
        log(f"{key:8s} {value}")
    found = measure(name, seconds, log)
    log("\n" + table(found))
    if file:
        content = {"machine": facts, "profile": name, "seconds": seconds, "figures": [asdict(f) for f in found]}
        atomic.write_atomic(file, (json.dumps(content, indent=1) + "\n").encode())
