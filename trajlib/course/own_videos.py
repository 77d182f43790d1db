"""Train on a folder of videos: a tokenizer, then a masked transformer for the tasks that need no class.

A run is a folder: `plan.json` says what was asked, so that a run that was stopped goes on with the same steps;
`tokenizer` and `transformer` are saved as everywhere; `cache` holds the decoded windows.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trajlib.atomic import write_atomic
from trajlib.course.held_out import Part, Scaled, training_batches
from trajlib.course.video_losses import Losses, training_loss
from trajlib.data.spec import VideoDataset, VideoSpec, check_number, check_numbers
from trajlib.data.video_files import to_float
from trajlib.evaluate.metrics import codebook_usage, mean_interval, psnr
from trajlib.generation.sampling import device_of
from trajlib.generation.transformer import MaskedTransformer, commit_loss, evaluating
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import agreed, fit
from trajlib.zoo import batches
from trajlib.zoo.checkpoints import Card, load, save
from trajlib.zoo.files import to_json

MEASURED = 64  # held-out windows that each line of the training is measured on
PATIENCE, GAIN = 5, 0.02  # training stops after so many lines without a gain of so many dB
LINES = 20
WINDOWS = 16  # of a step of the transformer


@dataclass(frozen=True)
class Plan:
    """What is trained on what. ValueError for sizes that no tokenizer has, and for numbers out of range."""

    videos: str
    frames: int = 16
    size: int = 64
    fps: float | None = None
    codebook: str = "fsq:8,5,5,5"  # or lfq:18
    cell: tuple[int, int] = (4, 8)  # frames, and pixels along a side, of a token: MAGVIT's
    dim: int = 64
    batch: int = 8
    minutes: float = 20
    seed: int = 0
    motion: bool = False  # see `VideoFolder`
    start: str | None = None  # "shipped" or a folder, whose tokenizer is trained further; it sets all sizes
    losses: Losses = field(default_factory=Losses)

    def __post_init__(self) -> None:
        quantizer(self.codebook)
        for name, low in (("dim", 1), ("batch", 1), ("seed", 0)):
            check_number(name, getattr(self, name), low, whole=True)
        check_number("minutes", self.minutes, 0, 1e6, above=True)
        check_numbers("cell", self.cell, 1, whole=True)
        if self.start is not None:
            spec = load("tokenizer", self.start)[0].spec
            object.__setattr__(self, "frames", spec.frames)
            object.__setattr__(self, "size", spec.size)
        else:
            tokenizer_sizes(self.spec, self.cell)

    @property
    def spec(self) -> VideoSpec:
        return VideoSpec(self.frames, self.size, self.fps)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, untrained or the one to start from."""
        torch.manual_seed(self.seed)
        if self.start is not None:
            return load("tokenizer", self.start)[0].train()
        return Tokenizer(**tokenizer_sizes(self.spec, self.cell), quantizer=quantizer(self.codebook), dim=self.dim,
                         spec=self.spec)  # fmt: skip


def quantizer(codebook: str) -> dict[str, Any]:
    """ "fsq:8,5,5,5" (levels) or "lfq:18" (bits; above 10 in two codebooks) -> a tokenizer's `quantizer`."""
    kind, _, numbers = codebook.partition(":")
    try:
        values = [int(number) for number in numbers.split(",")]
        if kind == "fsq" and min(values) >= 2:
            return {"kind": "fsq", "levels": values}
        if kind == "lfq" and len(values) == 1 and 1 <= values[0] <= 20 and (values[0] <= 10 or values[0] % 2 == 0):
            num = 1 if values[0] <= 10 else 2  # the entropy of one of 2^18 codes would take gigabytes
            return {"kind": "lfq", "bits": values[0] // num, "num_codebooks": num}
    except ValueError:
        pass
    raise ValueError(f"codebook {codebook!r} came; expected levels such as fsq:8,5,5,5, or bits such as lfq:18.")


def tokenizer_sizes(spec: VideoSpec, cell: Sequence[int] = (4, 8)) -> dict[str, Any]:
    """Patch and layers of a `Tokenizer` whose tokens have `cell` frames and pixels along a side.

    An odd number of frames is 1 + the rest: the first frame has tokens of its own, and layers of its own at both ends.
    """
    alone = spec.frames % 2
    in_time, in_space = (math.log2(n / fold) for n, fold in zip(cell, (1 if alone else 2, 4), strict=True))
    if min(in_time, in_space) < 0 or in_time % 1 or in_space % 1:
        raise ValueError(
            f"tokens of {cell[0]} frames and {cell[1]} px came; powers of two, from 2 and 4, were expected."
        )
    if spec.size % cell[1]:
        raise ValueError(f"size {spec.size} is no multiple of {cell[1]}, the pixels of a token: take another size.")
    if (spec.frames - alone) % cell[0]:
        raise ValueError(
            f"{spec.frames} frames came; tokens of {cell[0]} need a multiple of them, or one more than that."
        )
    halvings = ["compress_space"] * int(in_space) + ["compress_time"] * int(in_time)
    layers: list[Any] = [("consecutive_residual", 1)]
    for k, kind in enumerate(halvings):
        layers += [(kind, 96 if k == 0 else 160), ("consecutive_residual", 2 if k == len(halvings) - 1 else 1)]
    first = {"separate_first_frame_encoding": True} if alone and in_time else {}
    return {"patch": (1 if alone else 2, 4, 4), "layers": layers} | first


# ---- training ----


class Stop(Exception):
    """No more is learnt; the model as it is now, and the steps that it has made."""

    def __init__(self, model: torch.nn.Module, steps: int):
        super().__init__()
        self.model, self.steps = model, steps


def steps_in(minutes: float, model: torch.nn.Module, loss_fn: Callable, batch_fn: Callable) -> int:
    """How many steps fit into so many minutes: three are made with a copy, and thrown away."""
    fit(copy.deepcopy(model), loss_fn, batch_fn, steps=1, lr=1e-9, log_lines=0)
    began = time.perf_counter()
    fit(copy.deepcopy(model), loss_fn, batch_fn, steps=2, lr=1e-9, muon=1e-9, log_lines=0)
    return max(20, min(100_000, round(minutes * 60 / ((time.perf_counter() - began) / 2))))


def watch(figure: Callable[[torch.nn.Module], float], log: Callable[[str], None]) -> Callable:
    """A callback that prints a held-out figure and stops training when it no longer rises.

    Bits, which should fall, come negated and are printed without the sign.
    """
    history: list[float] = []

    def callback(step: int, model: torch.nn.Module) -> None:
        history.append(agreed(figure(model)))
        log(f"  held out after {step} steps: {abs(history[-1]):.2f}")
        if len(history) > PATIENCE and max(history[-PATIENCE:]) < max(history[:-PATIENCE]) + GAIN:
            log(f"  no gain of {GAIN} in {PATIENCE} lines: training stops")
            raise Stop(copy.deepcopy(model).cpu().eval(), step)

    return callback


def train_model(
    name: str, out: Path, model: torch.nn.Module, loss_fn: Callable, batch_fn: Callable, steps: int,
    figure: Callable[[torch.nn.Module], float], log: Callable[[str], None], seed: int = 0, lr: float = 1e-3,
) -> tuple[torch.nn.Module, int]:  # fmt: skip
    """`fit` with a checkpoint in `out`, until no more is learnt: the model, and the steps that it made."""
    checkpoint = out / f"{name}.checkpoint"
    options = {"lr": lr, "muon": 20 * lr, "ema": max(0.0, 1 - 10 / steps), "seed": seed}
    options |= {
        "log_lines": min(LINES, max(2, steps // 30)),
        "checkpoint": checkpoint,
        "checkpoint_every": max(1, min(200, steps // 10)),
    }
    try:
        model, _ = fit(model, loss_fn, batch_fn, steps=steps, weight_decay=0.0, callback=watch(figure, log), **options)
        return model, steps
    except Stop as stopped:
        return stopped.model, stopped.steps


def begin_with_colour(model: Tokenizer, colour: torch.Tensor) -> None:
    """Let an untrained tokenizer decode everything as this colour (3,), not as white, from which videos are far.

    Its output is the inverted picture, whose folded pixels have the colour as their outermost axis.
    """
    bias = model.net.conv_out.conv.bias
    bias.data.copy_((1 - colour).repeat_interleave(len(bias) // 3))


def held_out_psnr(model: Tokenizer, data: VideoDataset, n: int = MEASURED) -> float:
    """Mean PSNR in dB of the reconstructions of `n` windows, spread over the data."""
    videos = (to_float(data.videos(part)) for part in spread(data, n))
    with evaluating(model):
        found = [psnr(v, model.reconstruct(v.to(device_of(model))).cpu()) for v in videos]
    return torch.cat(found).mean().item()


def spread(data: VideoDataset, n: int, batch: int = 16) -> list[list[int]]:
    """Indices of at most `n` windows, evenly spaced over the data, in batches."""
    indices = torch.linspace(0, len(data) - 1, min(n, len(data))).round().long()
    return [part.tolist() for part in indices.split(batch)]


def mean_colour(data: VideoDataset, n: int = 32) -> torch.Tensor:
    """Red, green and blue in [0, 1], (3,), of `n` windows spread over the data."""
    return torch.stack([to_float(data.videos(p)).mean((0, 2, 3, 4)) for p in spread(data, n)]).mean(0)


def figures_of(model: Tokenizer, data: VideoDataset, train: VideoDataset, n: int = 256) -> dict[str, float]:
    """PSNR of reconstructions with its 95 % interval over windows, and of what costs nothing; codebook usage and bits.

    On `n` windows spread over `data`, held-out ones; `train` gives the one colour.
    """
    colour = mean_colour(train)
    found: dict[str, list[torch.Tensor]] = {}
    tokens = []
    for part in spread(data, n):
        videos = to_float(data.videos(part))
        tokens.append(model.encode(videos))
        recons = {"psnr": model.decode(tokens[-1]), "blank": colour.view(3, 1, 1, 1).expand_as(videos)}
        recons["mean frame"] = videos.mean(2, keepdim=True).expand_as(videos)
        recons["first frame"] = videos[:, :, :1].expand_as(videos)
        for key, recon in recons.items():
            found.setdefault(key, []).append(psnr(videos, recon))
    means = {key: torch.cat(parts).mean().item() for key, parts in found.items()}
    each, usage = torch.cat(found["psnr"]), codebook_usage(torch.cat(tokens), model.codebook_size)
    low, high = mean_interval(each) if len(each) > 1 else (means["psnr"],) * 2
    means |= {"psnr, low": low, "psnr, high": high}
    pixels, per_clip = math.prod(model.spec.shape[1:]), math.prod(model.token_shape)
    counts = {"codes used": usage.used, "codebook size": model.codebook_size, "perplexity": usage.perplexity}
    counts |= {"bits a pixel": per_clip * math.log2(model.codebook_size) / pixels}
    counts |= {"bits a pixel, entropy": per_clip * usage.entropy / pixels, "windows": sum(map(len, tokens))}
    return {key: round(value, 2) for key, value in means.items()} | counts


def describe(figures: dict[str, float]) -> list[str]:
    """The figures as lines, each next to its baselines; a warning where the tokens are too few for the motion."""
    f = figures
    lines = [
        f"PSNR on {f['windows']:.0f} held-out windows: {f['psnr']:.2f} dB ({f['psnr, low']:.2f} to "
        f"{f['psnr, high']:.2f}); one colour {f['blank']:.2f}, the clip's mean frame {f['mean frame']:.2f}, "
        f"its first frame repeated {f['first frame']:.2f}",
        f"codes used {f['codes used']:.0f} of {f['codebook size']:.0f}, perplexity {f['perplexity']:.0f}; "
        f"{f['bits a pixel']:.4f} bits a pixel, {f['bits a pixel, entropy']:.4f} by the entropy of single tokens",
    ]
    if f["psnr"] < max(f["mean frame"], f["first frame"]):
        lines.append("warning: a still frame is nearer to the truth. Train longer; or the tokens are too few for the "
                     "motion: take a finer --cell, a larger --codebook, or --fps above the file's.")  # fmt: skip
    return lines


def checked_plan(plan: Plan, out: Path) -> dict[str, Any]:
    """The steps that this run planned when it first started, or {}; ValueError if something else is asked for now."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; a folder for the run was expected.")
    file, asked = out / "plan.json", json.loads(to_json(asdict(plan)))
    if not file.exists():
        return {}
    found = json.loads(file.read_bytes())
    differ = [f"{key} was {found['plan'].get(key)!r}, not {value!r}" for key, value in asked.items()
              if key != "minutes" and found["plan"].get(key) != value]  # fmt: skip
    if differ:
        raise ValueError(
            f"{out} holds another run ({'; '.join(differ)}): name another --out, or ask for the same again."
        )
    return found["steps"]


def planned(name: str, plan: Plan, out: Path, count: Callable[[], int]) -> int:
    """The steps of a model: those planned before, or `count()`, and then written down."""
    steps = checked_plan(plan, out)
    if name not in steps:
        steps |= {name: agreed(count())}  # it was measured, and processes differ
        write_atomic(out / "plan.json", to_json({"plan": asdict(plan), "steps": steps}))
    return steps[name]


def train_tokenizer(
    plan: Plan, out: Path, train: VideoDataset, held: VideoDataset, log: Callable[[str], None] = print,
    steps: int | None = None,
) -> tuple[Tokenizer, Card]:  # fmt: skip
    """The tokenizer of a run, loaded if it is there; its card holds the figures. `steps` in place of the minutes."""
    checked_plan(plan, out)
    if (out / "tokenizer.json").exists():
        return load("tokenizer", out)
    model = plan.tokenizer()
    if plan.start is None:
        begin_with_colour(model, mean_colour(train))
    batch = training_batches(train, model.spec.size, plan.batch, plan.seed)
    loss = training_loss(plan.losses, model, lambda k: batch(k)[0], log, plan.seed)
    lr = 1e-3 if plan.start is None else 3e-4
    steps = planned("tokenizer", plan, out, lambda: steps or steps_in(plan.minutes, model, loss, batch))
    log(f"tokenizer: {steps} steps, {' x '.join(map(str, model.token_shape))} tokens a window, {plan.codebook}")
    model, steps = train_model(
        "tokenizer", out, model, loss, batch, steps, lambda m: held_out_psnr(m, held), log, plan.seed, lr
    )
    model.half().float()  # measured as it will be stored
    figures = figures_of(model, held, train)
    facts = {"recipe": json.loads(to_json(asdict(plan))) | {"steps": steps}, "figures": figures, "seed": plan.seed}
    save(model, facts | {"data": f"{len(train)} windows of the user's videos"}, "tokenizer", out, torch.float16)
    (out / "tokenizer.checkpoint").unlink(missing_ok=True)
    return load("tokenizer", out)


def train_transformer(
    plan: Plan, out: Path, tokenizer: Tokenizer, train: VideoDataset, held: VideoDataset,
    log: Callable[[str], None] = print, steps: int | None = None,
) -> tuple[MaskedTransformer, Card]:  # fmt: skip
    """The masked transformer of a run, for the tasks that need no class; loaded if it is there."""
    if (out / "transformer.json").exists():
        return load("transformer", out)
    enough = 4 if steps is None else math.ceil(WINDOWS * steps / len(train))
    repeats = max(1, min(4, 2000 // len(train), enough))  # each window with several tasks' conditions
    shown = Scaled(Part(train, list(range(len(train))) * repeats), tokenizer.spec)
    tested = Part(held, [k for part in spread(held, MEASURED) for k in part])
    examples, unseen = (batches.encode_conditions(tokenizer, data, len(data)) for data in (shown, tested))
    torch.manual_seed(plan.seed)
    model = MaskedTransformer(
        tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels, 0, dim=128, depth=4, heads=4
    )
    model.init_output_bias(examples[0])
    batch = batches.commit_batches(examples, tokenizer, WINDOWS, 0.2, plan.seed)
    batch_of_unseen = batches.commit_batches(unseen, tokenizer, WINDOWS, 0.0, plan.seed)

    def loss(model: MaskedTransformer, batch: list[torch.Tensor]) -> Any:
        return commit_loss(model, *batch)

    def figure(model: MaskedTransformer) -> float:
        device = next(model.parameters()).device
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            return -commit_loss(model, *(part.to(device) for part in batch_of_unseen(0)))[1]["mask"].item()

    steps = planned("transformer", plan, out, lambda: steps or steps_in(plan.minutes, model, loss, batch))
    log(f"transformer: {steps} steps on the tokens of {len(shown)} windows; held out: bits a masked token")
    model, steps = train_model("transformer", out, model, loss, batch, steps, figure, log, plan.seed, 3e-3)
    facts = {
        "figures": {"bits a masked token": round(-figure(model), 2)},
        "seed": plan.seed,
        "recipe": {"steps": steps},
    }
    save(model, facts | {"data": f"tokens of {len(shown)} windows"}, "transformer", out, torch.float16)
    (out / "transformer.checkpoint").unlink(missing_ok=True)
    return load("transformer", out)
