"""MAGVIT's parts switched on one at a time: the same clips, the same number of steps, two seeds, one table.

The base is `Tokenizer` as it comes, with the course's recipe (`config.py`), narrowed so that the study takes minutes,
and shown whole clips from the start: close-ups have neither 16 frames nor 17. Every arm changes one thing. Figures are
of validation clips. `python -m trajlib ablate` runs it; rows are kept as they come, so a study that was stopped goes
on where it was.
"""

import csv
import dataclasses
import json
import math
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from magvit2_pytorch.attend import Attend
from torch import nn
from vector_quantize_pytorch import VectorQuantize

from trajlib import metrics, pretrained, stamps
from trajlib.dataset import SEEDS, TrajectoryDataset, close_ups, collate, develop, to_float
from trajlib.losses import Adversary, by_cnn, by_vgg
from trajlib.render import FRAMES
from trajlib.tokenizer import Tokenizer, reconstruction_loss
from trajlib.training import fit

PERCEPTUAL_WEIGHT = 0.1  # MAGVIT-v2's
ADVERSARY_STARTS = 0.25  # share of the steps after which the tokenizer hears of it
FILE = "ablations.csv"


# ---- the arms ----


def to(**changes):
    """These arguments, whatever the base has."""
    return lambda base: changes


def plus(*layers, **changes):
    """Further layers after the base's last, where the grid is coarsest."""
    return lambda base: {"layers": (*base["layers"], *layers), **changes}


def between(layer):
    """One more layer after the first halving of the picture."""

    def change(base):
        first = 1 + next(i for i, old in enumerate(base["layers"]) if old[0] == "compress_space")
        return {"layers": (*base["layers"][:first], layer, *base["layers"][first:])}

    return change


def time_halved(**changes):
    """Frames are not folded in pairs: a first layer of the library's halves time."""
    return lambda base: {
        "patch": (1, *base["patch"][1:]), "layers": (("compress_time", base["dim"]), *base["layers"]), **changes,
    }  # fmt: skip


def halves_time_not_space(base):
    """The last halving of the picture becomes one of time: 2 x 16 x 16 pixels a token become 4 x 8 x 8."""
    last = max(i for i, layer in enumerate(base["layers"]) if layer[0] == "compress_space")
    layers = list(base["layers"])
    layers[last] = ("compress_time", *layers[last][1:])
    return {"layers": tuple(layers)}


def other_precision(base):
    return {"bf16": not base["bf16"]}


def without_last_norm(model):
    model.net.encoder_layers[-1] = nn.Identity()


class LearnedBook(VectorQuantize):
    """Vector quantization as MAGVIT had it, in the place of FSQ: latents (b, c, t, h, w) -> quantized, tokens, loss."""

    def forward(self, z):
        quantized, tokens, loss = super().forward(z.movedim(1, -1).flatten(1, 3))
        shape = (len(z), *z.shape[2:])
        return quantized.unflatten(1, shape[1:]).movedim(-1, 1), tokens.view(shape), loss.sum()

    def indices_to_codes(self, tokens):
        return self.get_output_from_indices(tokens.flatten(1)).unflatten(1, tokens.shape[1:]).movedim(-1, 1)


def learns_its_book(size):
    """Puts a `LearnedBook` of `size` vectors into a tokenizer; rarely used ones are taken up anew (VideoGPT)."""

    def alter(model):
        dim = model.net.quantizers.dim
        model.net.quantizers = LearnedBook(
            dim, size, codebook_dim=8, use_cosine_sim=True, commitment_weight=0.25, threshold_ema_dead_code=0.1,
            decay=0.95,
        )  # fmt: skip
        model.codebook_size = size

    alter.__name__ = f"learns_its_book({size})"
    return alter


def with_flash(model):
    """The library takes `flash_attn=True`, its default, and drops it silently where there is no CUDA."""
    for part in model.modules():
        if isinstance(part, Attend):
            part.flash = True


def in_plain_memory(model):
    model.to(memory_format=torch.contiguous_format)


def its_class(labels):
    return torch.eye(4)[labels]


def nothing(labels):
    return torch.zeros(len(labels), 4)


@dataclass(frozen=True)
class Arm:
    """What is changed, and the question that it answers. Fields left out are as in the base."""

    name: str
    part: str  # the table's section
    question: str
    tokenizer: Callable[[dict], dict] = field(default=to())  # base arguments -> those that differ
    alter: Callable[[nn.Module], None] | None = None  # done to the model that was built
    loss: dict[str, Any] = field(default_factory=dict)  # arguments of reconstruction_loss
    recipe: Callable[[dict], dict] = field(default=to())  # arguments of training.fit: the base's -> those that differ
    adversary: dict[str, Any] | None = None  # arguments of Adversary
    perceptual: str = ""  # whose features: "cnn" or "vgg"
    close_ups: bool = False  # of the same clips, in the first steps, as the recipe has it
    anneal: bool = False  # LFQ's entropy weighs three times as much at first, as in MAGVIT-v2
    told: Callable[[torch.Tensor], torch.Tensor] | None = None  # labels (b,) -> condition (b, 4)
    beside: str = "base"  # the arm to compare with
    raises: bool = False  # the library cannot run it
    online: bool = False  # needs a download: runs only when asked for


COND = {"dim_cond": 4}
LIBRARYS_LFQ = {"lfq_bits": 10, "inv_temperature": 100.0, "lfq_commitment_loss_weight": 1.0, "lfq_diversity_gamma": 2.5}
ARMS = (
    Arm("base", "quantizer", "the study's base, FSQ of 1,000 codes"),
    Arm("fsq_512", "quantizer", "FSQ, 8 x 8 x 8", to(levels=(8, 8, 8))),
    Arm("fsq_4096", "quantizer", "FSQ, 8 x 8 x 8 x 8", to(levels=(8, 8, 8, 8))),
    Arm("fsq_2x512", "quantizer", "FSQ, two books: 262,144 codes", to(levels=(8, 8, 8), books=2)),
    Arm("no_pull", "quantizer", "FSQ's coordinates not drawn to their middle", to(pull=0.0)),
    Arm("hush", "quantizer", "drawn harder where a token's own pixels are paper", to(hush=0.3)),
    Arm("fsq_4375", "quantizer", "FSQ, 7 x 5 x 5 x 5 x 5", to(levels=(7, 5, 5, 5, 5))),
    Arm("fsq_4375_hush", "quantizer", "the same with the hush: the course's tokenizer",
        to(levels=(7, 5, 5, 5, 5), hush=0.3), beside="fsq_4375"),
    Arm("lfq_512", "quantizer", "LFQ, 9 bits", to(lfq_bits=9)),
    Arm("lfq_1024", "quantizer", "LFQ, 10 bits: MAGVIT's number of codes", to(lfq_bits=10)),
    Arm("lfq_4096", "quantizer", "LFQ, 12 bits", to(lfq_bits=12)),
    Arm("lfq_2x512", "quantizer", "LFQ, two books of 9 bits: MAGVIT-v2's 262,144 codes", to(lfq_bits=9, books=2)),
    Arm("vq_1024", "quantizer", "vector quantization, 1,024 learned codes: MAGVIT's", alter=learns_its_book(1024),
        beside="lfq_1024"),
    Arm("vq_4096", "quantizer", "vector quantization, 4,096 learned codes", alter=learns_its_book(4096),
        beside="lfq_4096"),
    Arm("lfq_library", "quantizer", "LFQ as VideoTokenizer calls it", to(**LIBRARYS_LFQ), beside="lfq_1024"),
    Arm("lfq_annealed", "quantizer", "LFQ, entropy at first three times as dear", to(lfq_bits=10), anneal=True,
        beside="lfq_1024"),
    Arm("lfq_light", "quantizer", "LFQ, entropy a tenth as dear", to(lfq_bits=10, lfq_entropy_loss_weight=0.01),
        beside="lfq_1024"),

    Arm("dot_weight_1", "loss", "plain squared error: the dot's neighbourhood counts once", loss={"weight": 1.0}),
    Arm("hue_weight_1", "loss", "errors of hue count once", loss={"hue": 1.0}),
    Arm("adversary", "loss", "the library's discriminator, on single frames", adversary={}),
    Arm("adversary_no_penalty", "loss", "its gradient penalty off", adversary={"penalty": 0.0}, beside="adversary"),
    Arm("adversary_fixed", "loss", "its weight not adapted", adversary={"adaptive": False}, beside="adversary"),
    Arm("adversary_motion", "loss", "a discriminator that sees all 16 frames", adversary={"sees": "motion"}),
    Arm("perceptual", "loss", "features of the 3D CNN that was trained on these clips", perceptual="cnn"),
    Arm("perceptual_vgg", "loss", "features of VGG16, trained on photographs", perceptual="vgg", online=True),
    Arm("magvit", "loss", "the recipe in full: LFQ of 2^18 annealed, adversary, features",
        to(lfq_bits=9, books=2), anneal=True, adversary={}, perceptual="cnn"),

    Arm("strides_4x8x8", "grid", "MAGVIT's strides: 256 tokens of 4 x 8 x 8 pixels", halves_time_not_space),
    Arm("time_layer", "grid", "a layer that halves time, in place of folding pairs", time_halved()),
    Arm("frames_17", "grid", "17 frames, 1 + 16", time_halved(frames=17), beside="time_layer"),
    Arm("frames_17_separate", "grid", "17 frames, the first through convolutions of its own",
        time_halved(frames=17, separate_first_frame_encoding=True), beside="frames_17"),

    Arm("residual_more", "layers", "one more residual layer: what any layer would bring", plus("residual")),
    Arm("attend_space", "layers", "attention within a frame", plus("attend_space"), beside="residual_more"),
    Arm("attend_time", "layers", "attention along time", plus("attend_time"), beside="residual_more"),
    Arm("linear_attend_space", "layers", "linear attention within a frame", plus("linear_attend_space"),
        beside="residual_more"),
    Arm("gateloop_time", "layers", "a gated recurrence along time", plus("gateloop_time"), beside="residual_more"),
    Arm("attend_finer", "layers", "attention on four times the places", between("attend_space")),
    Arm("attend_finer_flash", "layers", "the same by flash attention", between("attend_space"), with_flash,
        beside="attend_finer"),

    Arm("cond_residual", "condition", "a layer that is told the class", plus("cond_residual", **COND), told=its_class,
        beside="cond_residual_blind"),
    Arm("cond_residual_blind", "condition", "the same layer, told nothing", plus("cond_residual", **COND),
        told=nothing),
    Arm("cond_residual_first", "condition", "any layer after one that is told",
        plus("cond_residual", "residual", **COND), told=its_class, raises=True),
    Arm("cond_attend_space", "condition", "attention that is told", plus("cond_attend_space", **COND), told=its_class,
        raises=True),
    Arm("cond_linear_attend_space", "condition", "linear attention that is told",
        plus("cond_linear_attend_space", **COND), told=its_class, raises=True),
    Arm("cond_attend_time", "condition", "attention along time that is told", plus("cond_attend_time", **COND),
        told=its_class, raises=True),

    Arm("precision", "numerics", "autocast to bfloat16; float32 where the base has that", recipe=other_precision),
    Arm("memory_plain", "numerics", "convolutions not channels-last", alter=in_plain_memory),
    Arm("gates_shut", "numerics", "residual branches start shut, as in the library", to(gate_bias=-10.0)),
    Arm("no_last_norm", "numerics", "without the last LayerNorm, as in the library", alter=without_last_norm),
    Arm("adamw", "numerics", "AdamW for all weights: no Muon", recipe=to(muon=None)),
    Arm("close_ups", "numerics", "the first steps on close-ups of the same clips: half their cost", close_ups=True),
    Arm("no_average", "numerics", "the last weights, not their moving average", recipe=to(ema=0.0)),
)  # fmt: skip
BY_NAME = {arm.name: arm for arm in ARMS}


# ---- one run ----


def narrowed(config, width):
    """A `Tokenizer`'s arguments with every width scaled."""

    def scaled(layer):
        kind, *size = (layer,) if isinstance(layer, str) else layer
        return (kind, *(int(n * width) for n in size)) if kind.startswith("compress") else layer

    return config | {"dim": int(config["dim"] * width), "layers": tuple(map(scaled, config["layers"]))}


def base_arguments(cfg):
    """The study's tokenizer with every width scaled by `cfg.ablation["width"]`: {argument: value}."""
    return narrowed(Tokenizer(**cfg.ablation["tokenizer"]).config, cfg.ablation["width"])


def shortened(recipe, steps):
    """A recipe in another number of steps; the average reaches back over the same share of them."""
    forgotten = (1 - recipe["ema"]) * recipe["steps"] / steps
    return recipe | {"steps": steps, "ema": max(0.0, 1 - forgotten), "lines": 0}


def base_recipe(cfg):
    """The recipe in the study's number of steps."""
    return shortened(cfg.ablation["recipe"], cfg.ablation["steps"])


def build(arm, cfg):
    """The untrained tokenizer of an arm."""
    base = base_arguments(cfg)
    model = Tokenizer(**base | arm.tokenizer(base))
    if arm.alter:
        arm.alter(model)
    return model


def refilm(track, frames):
    """The same motion by the same camera at another number of evenly spaced times."""
    camera, params = track.params.camera, track.params
    path3d = params.motion.at(np.linspace(0, 1, frames))
    path, depth = camera.project(path3d)
    radius = camera.apparent_radius(params.dot_radius, depth)
    return dataclasses.replace(track, path=path, radius=radius, path3d=path3d)


def clips_of(split, indices, frames=FRAMES):
    """A `Batch` of clips of a split, of 16 frames or another number."""
    world = TrajectoryDataset(max(indices) + 1, seed=SEEDS[split])
    if frames == FRAMES:
        return world.batch(indices)
    return collate([develop(refilm(world.track(i), frames)) for i in indices])


def loss_of(arm, cfg):
    """loss_fn for `fit`: the squared error, and what the arm adds to it."""
    steps, features = cfg.ablation["steps"], None
    if arm.perceptual:
        features = by_vgg() if arm.perceptual == "vgg" else by_cnn(pretrained.load("simple_3dcnn")[0])
    judge = None
    if arm.adversary is not None:
        judge = Adversary(**{"start": round(ADVERSARY_STARTS * steps)} | arm.adversary)
    weights = {"hue": cfg.hue_weight} | arm.loss
    taken = iter(range(steps))

    def loss_fn(model, batch):
        videos, labels = batch
        if arm.anneal:
            quantizer, done = model.net.quantizers, next(taken) / steps
            quantizer.entropy_loss_weight = 0.1 * (1 + 2 * max(0.0, 1 - 2 * done))  # from three times to once, half-way
        output = model(videos, **conditions(arm, labels))
        loss, parts = reconstruction_loss(lambda _: output, videos, **weights)
        if features:
            loss = loss + PERCEPTUAL_WEIGHT * features(videos, output[0])
        if judge:
            judge.learn(videos, output[0])
            loss = loss + judge.persuade(output[0], loss, model.net.conv_out.conv.weight)
        return loss, parts

    return loss_fn


def conditions(arm, labels):
    """{"cond": (b, 4)} for an arm that is told something."""
    return {"cond": arm.told(labels)} if arm.told else {}


def train(arm, seed, cfg):
    """A trained tokenizer, and the CPU seconds of a step, by the median, its clips' making included.

    Each clip is seen once; all arms of a seed see the same ones.
    """
    budget, marks = cfg.ablation, []
    size, steps = budget["batch"], budget["steps"]
    torch.manual_seed(seed)
    model, loss_fn = build(arm, cfg), loss_of(arm, cfg)

    def batch(step):
        marks.append(time.process_time())  # the clock of a lone thread, whatever else the machine is at
        first = (seed * steps + step) * size
        clips = clips_of("train", range(first, first + size), model.frames)
        if arm.close_ups and step < cfg.close_up_share * steps:
            films = to_float(close_ups(clips.videos, torch.Generator().manual_seed(step)))
            return [films, clips.labels.repeat_interleave(len(films) // size)]
        return [to_float(clips.videos), clips.labels]

    recipe = base_recipe(cfg)
    model, _ = fit(model, loss_fn, batch, **recipe | arm.recipe(recipe), seed=seed)
    return model, float(np.median(np.diff([*marks, time.process_time()])))


def measure(model, arm, clips, size=32):
    """Every figure of a tokenizer on a `Batch` of clips, {column: number}."""
    parts, tokens = [], []
    for first in range(0, len(clips), size):
        some = clips[first : first + size]
        videos, told = to_float(some.videos), conditions(arm, some.labels)
        tokens.append(model.encode(videos, **told))
        films = model.decode(tokens[-1], **told)
        where, ink = metrics.follow_dot(films)
        error = (where - some.paths).norm(dim=-1).nan_to_num(64.0)  # no dot at all: as far off as the picture is wide
        ratio = ink / metrics.follow_dot(videos)[1]
        parts.append({
            "psnr": metrics.psnr(videos, films),
            "foreground": metrics.foreground_psnr(videos, films),
            "blank": metrics.psnr(videos, torch.ones_like(videos)),
            "error": error,
            "present": ((ratio > 0.5) & (ratio < 2) & (error < 3)).float(),
            "colour": metrics.colour_error(videos, films),
        })  # fmt: skip
    found = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    books, tokens = model.config["books"], torch.cat(tokens)
    codes, count = model.codebook_size**books, math.prod(model.grid)
    words = tokens if books == 1 else (tokens * model.codebook_size ** torch.arange(books)).sum(-1)
    usage = metrics.codebook_usage(words, codes)
    return {
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "tokens": count,
        "codes": codes,
        "bits": count * math.log2(codes),
        "entropy_bits": count * usage.entropy,
        "used": usage.used,
        "perplexity": usage.perplexity,
        "psnr_blank": found["blank"].mean().item(),
        "psnr": found["psnr"].mean().item(),
        "foreground_psnr": found["foreground"].mean().item(),
        "error_median": found["error"].median().item(),
        "error_p99": found["error"].flatten().quantile(0.99).item(),
        "present": found["present"].mean().item(),
        "colour_error": found["colour"].nanmean().item(),
    }


# ---- the study ----

COLUMNS = (
    "part", "arm", "beside", "seed", "steps", "clips", "parameters", "tokens", "codes", "bits", "entropy_bits", "used",
    "perplexity", "psnr_blank", "psnr", "foreground_psnr", "error_median", "error_p99", "present", "colour_error",
    "seconds", "status", "changes", "threads", "study", "code", "date", "torch", "magvit2-pytorch",
    "vector-quantize-pytorch",
)  # fmt: skip
LIBRARIES = ("torch", "magvit2-pytorch", "vector-quantize-pytorch")
WORDS = {"part", "arm", "beside", "status", "changes", "study", "code", "date", *LIBRARIES}
Row = dict[str, Any]


class StudyError(ValueError):
    """What was asked for cannot be run; the message says what to ask for instead."""


def study_stamp(cfg):
    """A digest of all that the arms of a study have in common."""
    budget = {key: value for key, value in cfg.ablation.items() if key not in ("seeds", "only", "tokenizer", "recipe")}
    facts = (cfg.name, base_arguments(cfg), base_recipe(cfg), cfg.hue_weight, budget)
    return stamps.digest([json.dumps(facts, sort_keys=True)])


def changes(arm, cfg):
    """What sets the arm apart from the base, in JSON."""
    said = {"loss": arm.loss, "recipe": arm.recipe(base_recipe(cfg)), "adversary": arm.adversary}
    said |= {"perceptual": arm.perceptual}
    said |= {
        "anneal": arm.anneal,
        "close_ups": arm.close_ups,
        "told": arm.told and arm.told.__name__,
        "alter": arm.alter and arm.alter.__name__,
    }
    kept = {key: value for key, value in said.items() if value or (key == "adversary" and value == {})}
    return json.dumps(arm.tokenizer(base_arguments(cfg)) | kept)


def provenance(cfg):
    """What every row of a study owes its figures to: budget and base, code, versions, day."""
    facts = {"study": study_stamp(cfg), "code": stamps.lib_stamp(), "date": date.today().isoformat()}
    return facts | {library: version(library) for library in LIBRARIES}


def run_arm(name, seed, cfg):
    """An arm's name and figures, {column: value}. What the library raises becomes the status."""
    arm, budget = BY_NAME[name], cfg.ablation
    row = {"part": arm.part, "arm": name, "beside": arm.beside, "seed": seed, "changes": changes(arm, cfg)}
    row |= {"steps": budget["steps"], "clips": budget["steps"] * budget["batch"], "threads": torch.get_num_threads()}
    try:
        model, seconds = train(arm, seed, cfg)
        clips = clips_of("validation", range(budget["validation_clips"]), model.frames)
        return row | measure(model, arm, clips) | {"seconds": seconds, "status": "ok"}
    except Exception as error:  # of any kind: a row of the table, and the next arm's turn
        return row | {"status": " ".join(f"{type(error).__name__}: {error}".split())[:100]}


def read(path=None):
    """The rows of a study, the shipped one unless a file is named: numbers are numbers, what is missing is None."""
    path = Path(path) if path else pretrained.SHIPPED / FILE
    if not path.exists():
        raise StudyError(f"There is no study at {path}: `python -m trajlib ablate --out FILE` makes one.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or set(rows[0]) != set(COLUMNS):
        raise StudyError(f"{path} does not have the columns of a study: give another file, or delete it and run again.")
    return [{key: text if key in WORDS else _number(text) for key, text in row.items()} for row in rows]


def _number(text):
    if not text:
        return None
    return float(text) if set(text) & set(".en") else int(text)


def _in_order(rows):
    """As the arms stand in `ARMS`, and by seed."""
    order = list(BY_NAME)
    return sorted(rows, key=lambda row: (order.index(row["arm"]), row["seed"]))


def write(path, rows):
    """All rows in the order of `ARMS`; see `pretrained.write_table`."""
    pretrained.write_table(path, COLUMNS, _in_order(rows))


def finished(row):
    """Whether a row needs no second try: it came out, or it is one of those that the library cannot run."""
    return row["status"] == "ok" or BY_NAME[row["arm"]].raises


def plan(cfg, only=()):
    """(arm, seed) of every run, one seed after the other: a study that is stopped half-way has each arm once."""
    unknown = set(only) - set(BY_NAME)
    if unknown:
        raise StudyError(f"There is no arm {', '.join(sorted(unknown))}; there are: {', '.join(BY_NAME)}.")
    only = only or cfg.ablation["only"] or [arm.name for arm in ARMS if not arm.online]
    return [(name, seed) for seed in cfg.ablation["seeds"] for name in BY_NAME if name in only]


def run(cfg, out, only=(), workers=2, say=print):
    """Run what `out` lacks, in `workers` processes of one thread each, and return all rows."""
    jobs = plan(cfg, only)
    kept = [row for row in read(out) if finished(row)] if Path(out).exists() else []
    if {row["study"] for row in kept} - {study_stamp(cfg)}:
        raise StudyError(f"{out} holds rows of another budget or base: give another --out, or delete it.")
    done = {(row["arm"], row["seed"]) for row in kept}
    jobs = [job for job in jobs if job not in done]
    say(f"{len(jobs)} runs of {cfg.ablation['steps']} steps of {cfg.ablation['batch']} clips; {len(done)} are there")
    rows, facts, began = kept, provenance(cfg), time.time()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    try:
        waiting = [pool.submit(run_arm, *job, cfg) for job in jobs]
        for count, future in enumerate(as_completed(waiting), 1):
            row = future.result() | facts
            rows = [*rows, row]
            write(out, rows)
            minutes = (time.time() - began) / 60
            left = minutes / count * (len(jobs) - count)
            figures = f"{row['psnr']:.2f} dB, {row['seconds']:.2f} s a step" if row["status"] == "ok" else row["status"]
            said = f"{row['arm']}, seed {row['seed']}: {figures}"
            say(f"{count:>3}/{len(jobs)} {said} ({minutes:.1f} min, {left:.0f} to go)")
    finally:
        pool.shutdown(cancel_futures=True)
    return rows


# ---- reading it ----


def file_of(study, file, option, cfg, artifacts):
    """Where the table of a study is: in the folder, or among the shipped.

    `study(cfg, artifacts, path, ...)` makes it in the folder if the profile's takes seconds. Where there is none, a
    StudyError names the `option` of `python -m trajlib ablate` that would.
    """
    path = pretrained.folder(artifacts) / file
    if not path.exists() and cfg.name == "smoke":
        study(cfg, artifacts, path, workers=1, say=lambda line: None)
    path = path if path.exists() else pretrained.SHIPPED / file
    if not path.exists():
        raise StudyError(f"There is no study at {path}: `python -m trajlib ablate {option}` makes one.")
    return path


def study(cfg, artifacts):
    """The rows that a notebook shows: those in the folder, if it has a study; else the shipped ones.

    A profile that names its arms has a study of seconds: then it is run, and put into the folder.
    """
    path = pretrained.folder(artifacts) / FILE
    if not path.exists() and cfg.ablation["only"]:
        run(cfg, path, workers=1, say=lambda line: None)
    return read(path if path.exists() else None)


def values(rows, column):
    """{arm: [its value for each seed]}, in the order of `ARMS`; arms that have none are left out."""
    found = {}
    for name in BY_NAME:
        some = [row[column] for row in _in_order(rows) if row["arm"] == name and row["status"] == "ok"]
        if some:
            found[name] = some
    return found


def gains(rows, column="psnr"):
    """{arm: how much more than the arm beside it, of the same seed, for each seed}."""
    by_run = {(row["arm"], row["seed"]): row[column] for row in _in_order(rows) if row["status"] == "ok"}
    found = {}
    for (name, seed), value in by_run.items():
        other = by_run.get((BY_NAME[name].beside, seed))
        if name != "base" and other is not None:
            found.setdefault(name, []).append(value - other)
    return found


def table(rows, part=None):
    """The study, or one part of it, as a Markdown table: means over seeds, and the PSNR's gain for each seed."""
    head = ("arm", "what it is", "PSNR, dB", "gain", "over", "foreground, dB", "error, px: median / 99 %", "dot there",
            "colour error", "bits / entropy", "codes used", "perplexity", "CPU s a step")  # fmt: skip
    lines, gained = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"], gains(rows)
    for arm in ARMS:
        mine = [row for row in rows if row["arm"] == arm.name]
        if not mine or part not in (None, arm.part):
            continue
        failed = next((row["status"] for row in mine if row["status"] != "ok"), None)
        figures = [failed, *[""] * (len(head) - 3)] if failed else _figures(mine, gained.get(arm.name, []))
        lines.append(f"| {' | '.join([arm.name, arm.question, *figures])} |")
    return "\n".join(lines)


def _figures(rows, gained):
    """The table's cells for one arm, from its name and description on."""
    mean = {key: np.mean([row[key] for row in rows]) for key in COLUMNS if key not in WORDS}
    return [
        f"{mean['psnr']:.2f}", ", ".join(f"{gain:+.2f}" for gain in gained), rows[0]["beside"] if gained else "",
        f"{mean['foreground_psnr']:.2f}", f"{mean['error_median']:.2f} / {mean['error_p99']:.1f}",
        f"{mean['present']:.0%}", f"{mean['colour_error']:.1%}", f"{mean['bits']:,.0f} / {mean['entropy_bits']:,.0f}",
        f"{mean['used']:,.0f} of {mean['codes']:,.0f}", f"{mean['perplexity']:,.0f}", f"{mean['seconds']:.2f}",
    ]  # fmt: skip
