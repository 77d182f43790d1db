"""How time and memory of a training step grow with clips, size, frames, codebook and width; what follows for GPUs.

Time is processor time of all threads, which other programs on the machine change little. Memory is what a step holds
between its forward and its backward pass: the state, five copies of the weights, which no clip adds to; and the
activations that autograd keeps. A law is a product of powers, fitted by least squares to the logarithms. What is said
about GPUs is extrapolated from data sheets, and printed as such; nothing of it was measured.
"""

import io
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from trajlib.atomic import write_atomic
from trajlib.data.spec import VideoSpec
from trajlib.data.video_folder import read_windows
from trajlib.generation.tasks import TASK_NUMBERS
from trajlib.generation.transformer import MaskedTransformer, commit_loss
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.video_tokenizer import LAYERS, Tokenizer
from trajlib.training.optimizers import build_optimizers, multiply_adds
from trajlib.zoo.files import to_json

LEVELS = {1000: (8, 5, 5, 5), 4375: (7, 5, 5, 5, 5), 15360: (8, 8, 8, 6, 5), 64000: (8, 8, 8, 5, 5, 5)}  # FSQ paper
COPIES = 5  # of each weight in float32: the weight, its gradient, AdamW's two moments, the average
# Dense bfloat16 FLOP/s and bytes of memory, from NVIDIA's data sheets; a multiply-add is two FLOP
GPUS = {"A100 80GB": (312e12, 80e9), "H100 SXM": (989e12, 80e9)}
SHARE = 0.3  # of the peak that a well-filled GPU is taken to reach; our small model will reach less
TOGETHER = 0.9  # of n times one GPU that n reach, taken
VIDEOS, SECONDS, FPS, HELD_FPS = 10**6, 10, 8, 30  # the million videos: so long, taken at 8 of 30 frames a second
CORES = 16  # that decode videos for a GPU
PASSES = {"tokenizer": 1, "transformer": 10}  # over all clips
COUNTS = (1, 8, 64)


@dataclass(frozen=True)
class Point:
    """One training step: of which model, on what, and how wide the model is."""

    model: str
    clips: int = 4
    size: int = 64
    frames: int = 16
    codebook: int = 1000
    width: int = 64


@dataclass(frozen=True)
class Cost:
    """Of one step: processor seconds, multiply-adds, bytes of activations and of state."""

    seconds: float
    madds: float
    activations: float = 0
    state: float = 0


@dataclass(frozen=True)
class Law:
    """cost = factor * product of axis ** exponent; `off`: the worst ratio of a measured cost to the law's."""

    factor: float
    exponents: dict[str, float]
    off: float

    def __call__(self, point: Point) -> float:
        return self.factor * math.prod(getattr(point, axis) ** e for axis, e in self.exponents.items())


QUANTITIES = tuple(field.name for field in fields(Cost))
AXES = tuple(field.name for field in fields(Point) if field.name != "model")
GRID = {
    "clips": (2, 4, 8),
    "size": (64, 128),
    "frames": (16, 32),
    "codebook": (1000, 4375, 64000),
    "width": (32, 64, 96),
}


def points(model: str, grid: dict[str, Sequence[int]] = GRID, **base: int) -> list[Point]:
    """The base, and each other value of one axis at a time."""
    first = Point(model, **base)
    others = [replace(first, **{axis: value}) for axis, values in grid.items() for value in values]
    return [first, *(point for point in others if point != first)]


def step_of(point: Point) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    """The model, and a function that gives the loss of a batch of noise: its content changes no cost."""
    torch.manual_seed(0)
    spec, levels = VideoSpec(point.frames, point.size), LEVELS[point.codebook]
    grid = (point.frames // 2, point.size // 16, point.size // 16)
    if point.model == "tokenizer":
        layers = [(kind, n * point.width // 64 if kind == "compress_space" else n) for kind, n in LAYERS]
        model: Any = Tokenizer({"kind": "fsq", "levels": levels}, point.width, layers, spec=spec)
        videos = torch.rand(point.clips, *spec.shape)

        def loss():
            recon, _, quantizer_loss = model(videos)
            return reconstruction_loss(recon, videos, quantizer_loss)[0]

        return model, loss
    model = MaskedTransformer(point.codebook, grid, levels, 0, dim=point.width, depth=4, heads=point.width // 32)
    tokens = torch.randint(point.codebook, (point.clips, *grid))
    none = torch.zeros(point.clips, dtype=torch.long)
    rest = (none, none + TASK_NUMBERS["CG"], tokens, torch.zeros_like(tokens, dtype=torch.bool))
    return model, lambda: commit_loss(model, tokens, *rest)[0]


def activation_bytes(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    """What autograd keeps for the backward pass, without the weights: each storage counts once."""
    weights = {weight.untyped_storage().data_ptr() for weight in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss()
    return sum(kept.values())


def measure(point: Point, repeats: int = 2) -> Cost:
    """The fastest of `repeats` steps in float32 with AdamW, after one that does not count.

    Muon would add the same to each step, however many clips it has.
    """
    model, loss = step_of(point)
    optimizers = build_optimizers(model, 1e-4, None, 0.0)

    def step():
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss().backward()
        for optimizer in optimizers:
            optimizer.step()

    madds = multiply_adds(step)
    state = COPIES * 4 * sum(weight.numel() for weight in model.parameters())
    return Cost(seconds_of(step, repeats), madds, activation_bytes(model, loss), state)


def read_steps(file: Path) -> dict[str, dict[Point, Cost]]:
    """What `run_scaling` wrote: of each model the cost of its steps, the base first."""
    found: dict[str, dict[Point, Cost]] = {}
    for row in json.loads(file.read_bytes())["steps"]:
        point, cost = (kind(**{field.name: row[field.name] for field in fields(kind)}) for kind in (Point, Cost))
        found.setdefault(point.model, {})[point] = cost
    return found


def seconds_of(run: Callable[[], Any], repeats: int = 2) -> float:
    """Processor seconds of a call, all threads together: the fastest."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def fit_law(measured: dict[Point, Cost], quantity: str) -> Law:
    """Least squares over the logarithms of the axes that vary."""
    axes = [axis for axis in AXES if len({getattr(point, axis) for point in measured}) > 1]
    x = np.array([[1, *(math.log(getattr(point, axis)) for axis in axes)] for point in measured])
    y = np.log([getattr(cost, quantity) for cost in measured.values()])
    found = np.linalg.lstsq(x, y, rcond=None)[0]
    exponents = dict(zip(axes, found[1:].tolist(), strict=True))
    return Law(float(np.exp(found[0])), exponents, float(np.exp(np.abs(x @ found - y).max())))


def decode_seconds(seconds: int = SECONDS) -> float:
    """Processor seconds to read the windows of one video: 320 x 240, H.264, 30 frames a second."""
    rng, data = np.random.default_rng(0), io.BytesIO()
    picture = rng.integers(0, 255, (240, 320 + 2 * seconds * HELD_FPS, 3)).astype(np.uint8)
    with av.open(data, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=HELD_FPS)
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        for k in range(seconds * HELD_FPS):  # a camera that pans over a picture
            pixels = np.ascontiguousarray(picture[:, 2 * k : 2 * k + 320])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(data.getvalue())
        return seconds_of(lambda: list(read_windows(path, VideoSpec(fps=FPS), 16)), 1)


def encode_cost(point: Point) -> Cost:
    """Of tokenizing the clips of a point, no gradient."""
    model, _ = step_of(point)
    videos, run = torch.rand(point.clips, *model.spec.shape), model.eval().encode
    return Cost(seconds_of(lambda: run(videos)), multiply_adds(lambda: run(videos)))


# ---- what is printed ----


def law_lines(model: str, measured: dict[Point, Cost]) -> list[str]:
    """Each step that was measured, then the three laws."""
    heads = ("seconds", "G mult-adds", "MB activations", "MB state")
    lines = [f"{model}: one training step", " " * 38 + "".join(f"{head:>16s}" for head in heads)]
    base = next(iter(measured))
    for point, cost in measured.items():
        changed = [f"{axis} {getattr(point, axis):,}" for axis in AXES if getattr(point, axis) != getattr(base, axis)]
        name = ", ".join(changed) or ", ".join(f"{axis} {getattr(point, axis):,}" for axis in AXES[:3])
        found = (cost.seconds, cost.madds / 1e9, cost.activations / 1e6, cost.state / 1e6)
        lines.append(f"  {name:36s}" + "".join(f"{value:16.3f}" for value in found))
    for quantity in QUANTITIES:
        law = fit_law(measured, quantity)
        powers = "  ".join(f"{axis}^{exponent:.2f}" for axis, exponent in law.exponents.items())
        lines.append(f"  {quantity:11s} ~ {powers}   (each step within a factor of {law.off:.2f})")
    return lines


def draw_scaling(measured: dict[str, dict[Point, Cost]], path: Path) -> None:
    """Seconds and activations of a step against each axis that varies: dots as measured, lines as fitted."""
    from matplotlib.figure import Figure

    axes = [axis for axis in AXES if len({getattr(point, axis) for found in measured.values() for point in found}) > 1]
    figure = Figure((2.4 * len(axes), 4.6), layout="constrained")
    panels = figure.subplots(2, len(axes), sharey="row", squeeze=False)
    for row, (quantity, label) in enumerate((("seconds", "seconds a step"), ("activations", "activations, MB"))):
        unit = 1e6 if quantity == "activations" else 1
        for panel, axis in zip(panels[row], axes, strict=True):
            for k, (model, found) in enumerate(measured.items()):
                law, base = fit_law(found, quantity), next(iter(found))
                line = [p for p in found if p == replace(base, **{axis: getattr(p, axis)})]
                line.sort(key=lambda point: getattr(point, axis))
                x = [getattr(point, axis) for point in line]
                panel.plot(x, [getattr(found[point], quantity) / unit for point in line], "o^"[k], color=f"C{k}")
                name = f"{model}: power {law.exponents[axis]:.2f}"
                panel.plot(x, [law(point) / unit for point in line], color=f"C{k}", label=name)
            panel.set(xscale="log", yscale="log", xlabel=axis, xticks=x, xticklabels=[f"{value:,}" for value in x])
            panel.minorticks_off()
            panel.legend(fontsize=6, frameon=False, loc="upper left")
        panels[row][0].set_ylabel(label)
        low, high = panels[row][0].get_ylim()
        panels[row][0].set_ylim(low, high * 3)  # room for the legends
    figure.savefig(path, dpi=110)


def gpu_lines(measured: dict[str, dict[Point, Cost]]) -> list[str]:
    """Clips a second here, and what data sheets promise elsewhere."""
    lines = [f"EXTRAPOLATED, not measured: GPUs at {SHARE:.0%} of their data sheet's bfloat16 peak, several GPUs at "
             f"{TOGETHER:.0%} of their number"]  # fmt: skip
    for model, found in measured.items():
        base, cost = next(iter(found.items()))
        lines.append(f"  {model}: {base.clips / cost.seconds:,.1f} clips a second on one core here, measured")
        for gpu, (peak, memory) in GPUS.items():
            one = SHARE * peak / 2 / (cost.madds / base.clips)
            room = base.clips * (memory - cost.state) / cost.activations
            lines.append(f"    {gpu}: {one:,.0f} clips a second, eight {8 * TOGETHER * one:,.0f}; "
                         f"some {room:,.0f} clips fit into its memory")  # fmt: skip
    return lines


def hours(measured: dict[str, dict[Point, Cost]], encode: Cost, decode: float, gpus: int, gpu: str) -> dict[str, float]:
    """Hours for the million videos: decoding, tokenizing, training both models. gpus 0: one core here, as measured."""
    clips = VIDEOS * (SECONDS * FPS // 16)
    base = {model: next(iter(found.items())) for model, found in measured.items()}
    work = {"tokenize": (clips / base["tokenizer"][0].clips, encode)}
    work |= {f"train the {model}": (PASSES[model] * clips / point.clips, cost) for model, (point, cost) in base.items()}
    speed = SHARE * GPUS[gpu][0] / 2 * (gpus * TOGETHER if gpus > 1 else 1)
    found = {"decode": VIDEOS * decode / max(1, gpus * CORES) / 3600}
    return found | {name: n * (cost.madds / speed if gpus else cost.seconds) / 3600 for name, (n, cost) in work.items()}


def million_lines(measured: dict[str, dict[Point, Cost]], encode: Cost, decode: float, gpu: str) -> list[str]:
    """The hours as a table: one core, then GPUs."""
    clips = VIDEOS * (SECONDS * FPS // 16)
    columns = [hours(measured, encode, decode, n, gpu) for n in (0, *COUNTS)]
    heads = ["one core here", *(f"{n} {gpu.split()[0]}" for n in COUNTS)]
    lines = [
        f"a million videos of {SECONDS} s, {clips:,} clips of 16 x 64 x 64: hours, the GPUs extrapolated",
        f"  ({CORES} cores decode for a GPU; passes over all clips in training: {PASSES})",
    ]
    lines.append(f"  {'':24s}" + "".join(f"{head:>16s}" for head in heads))
    lines += [f"  {name:24s}" + "".join(f"{column[name]:16,.2f}" for column in columns) for name in columns[0]]
    tokens, windows = clips * 128 * 2 / 1e9, clips * math.prod(VideoSpec().shape) / 1e9
    return [*lines, f"  on disk: {tokens:,.1f} GB of tokens (16 bits each); {windows:,.0f} GB of decoded windows"]


def run_scaling(name: str = "full", file: Path | None = None, log: Callable[[str], None] = print) -> None:
    """Measure, print, and write `file` (JSON) and a figure of the same name (PNG) if it is named.

    One thread, so that processor time is time.
    """
    grid = GRID if name == "full" else {"clips": (2, 4), "width": (32, 64)}
    base = {"size": 64, "frames": 16} if name == "full" else {"size": 32, "frames": 4}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    measured: dict[str, dict[Point, Cost]] = {}
    try:
        for model in ("tokenizer", "transformer"):
            measured[model] = {point: measure(point) for point in points(model, grid, **base)}
            log("\n".join(law_lines(model, measured[model])) + "\n")
        encode, decode = encode_cost(points("tokenizer", grid, **base)[0]), decode_seconds()
    finally:
        torch.set_num_threads(threads)
    log("\n".join(gpu_lines(measured)) + "\n")
    log("\n".join(million_lines(measured, encode, decode, "A100 80GB")))
    if file:
        rows = [asdict(point) | asdict(cost) for found in measured.values() for point, cost in found.items()]
        write_atomic(file, to_json({"steps": rows, "encode": asdict(encode), "decode seconds": decode}))
        draw_scaling(measured, file.with_suffix(".png"))
