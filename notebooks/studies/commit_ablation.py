"""COMMIT's parts switched on one at a time, after MAGVIT's table 5: the same tokens and steps, two seeds.

Small transformers on the tokens of the course's tokenizer; some 20 minutes on two cores.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from trajlib.data.clips import split
from trajlib.data.measure import track_centroid
from trajlib.data.video_files import to_float
from trajlib.generation.sampling import encode_condition, generate
from trajlib.generation.tasks import TASKS, masked_frames
from trajlib.generation.transformer import MaskedTransformer, commit_loss
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints
from trajlib.zoo.batches import commit_batches, encode_conditions

VARIANTS = {  # (whether condition tokens are seen in training, the parts of the loss that count)
    "no condition tokens": (False, ("mask",)),
    "mask": (True, ("mask",)),
    "mask + recons": (True, ("mask", "recons")),
    "mask + recons + refine": (True, ("mask", "recons", "refine")),
}
EVALUATED = [task for task in TASKS if task not in ("CG", "CFP")]  # MT-8: the tasks with pixels and without a class
MODELS = ("tokenizer",)
KEYS = ("variant", "seed")
# bits a token where it is masked, and where refined; px of each task, and their mean
COLUMNS = {"variant": str, "seed": int, "steps": int} | dict.fromkeys(("bits", *EVALUATED, "error", "refine"), float)


@dataclass(frozen=True)
class Settings:
    """`train` are arguments of `training.loop.fit`."""

    steps: int = 400
    batch: int = 32
    clips: int = 4400
    test_clips: int = 200
    transformer: dict = field(default_factory=lambda: {"dim": 96, "depth": 4, "heads": 3})
    generation_share: float = 0.3  # of the examples come without a condition
    train: dict = field(default_factory=lambda: {"lr": 6e-3, "muon": 0.02, "ema": 0.99, "bf16": True})
    grid: dict = field(default_factory=lambda: {"seeds": (0, 1)})


FULL = Settings()
SMOKE = Settings(
    steps=2, batch=8, clips=24, test_clips=2, transformer={"dim": 16, "depth": 1, "heads": 2}, grid={"seeds": (0,)}
)  # fmt: skip


def jobs(settings):
    return [{"variant": name, "seed": seed} for seed in settings.grid["seeds"] for name in VARIANTS]


def prepare(context):
    """Encode the training clips once."""
    examples(context)


def examples(context):
    """Tokens, labels, condition tokens and tasks of the training clips; see `encode_conditions`."""
    names = ("tokens", "labels", "conditions", "kinds")

    def make():
        tokenizer = checkpoints.load("tokenizer", context.artifacts)[0]
        return dict(zip(names, encode_conditions(tokenizer, split("train"), context.settings.clips), strict=True))

    found = context.cached(f"examples-{context.weights['tokenizer']}", make)
    return [found[name] for name in names]


def run(job, context):
    """Train one variant, and measure each task."""
    settings, seed = context.settings, job["seed"]
    with_condition, parts = VARIANTS[job["variant"]]
    tokenizer, data = checkpoints.load("tokenizer", context.artifacts)[0], examples(context)
    torch.manual_seed(seed)
    model = MaskedTransformer(tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels, **settings.transformer)
    model.init_output_bias(data[0])
    batch = commit_batches(data, tokenizer, settings.batch, settings.generation_share, seed)

    def loss(model, batch):
        tokens, labels, tasks, conditions, observed = batch
        return commit_loss(model, tokens, labels, tasks, conditions, observed & with_condition, parts=parts)

    model, history = fit(model, loss, batch, **settings.train, steps=settings.steps, seed=seed, log_lines=0)
    errors = {task: masked_error(model, tokenizer, task, settings.test_clips, with_condition) for task in EVALUATED}
    row = {"steps": settings.steps, "examples": settings.clips, "error": float(np.mean(list(errors.values())))}
    return row | errors | {key: float(np.mean(history[name][-50:])) for key, name in
                           (("bits", "mask"), ("refine", "refine"))}  # fmt: skip


def masked_error(model, tokenizer, task, n, refine, seed=0):
    """Mean distance in px from the dot to its true position, in frames in which the condition does not show it.

    A video without a dot counts as one in the middle of the picture: the guess without any information.
    """
    clips = split("test").batch(range(n))
    start = encode_condition(tokenizer, to_float(clips.videos), task)
    videos = tokenizer.decode(generate(model, clips.labels, seed=seed, refine=refine, **start))
    middle = (videos.shape[-1] - 1) / 2
    error = (track_centroid(videos)[0].nan_to_num(middle) - clips.paths).norm(dim=-1)
    return error[masked_frames(task, clips.paths)].mean().item()
