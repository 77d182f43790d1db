"""Three quantizers on one budget: FSQ of 4,375 codes, LFQ of 2^18 as two codebooks of 512, VQ of 1,024.

Each gets a tokenizer of half the course's width, trained on the same clips in the same steps. On its tokens the masked
transformer with trajectory tokens is trained, for a seventh of the course's steps, and the token classifier. All else
is equal: seeds, clips, steps, the trajectories that are sampled. With two codebooks a transformer reads and predicts
two indices for each position, so its sequences are twice as long. One training each: small differences tell nothing.

"video bits": what a clip's tokens cost, given its trajectory; an upper bound, see `likelihoods`. "consistent": the
share of samples that move as their class does; "reconstructions": the same of real clips after the tokenizer.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from studies.generation import joined
from studies.likelihoods import batches, video_bits
from studies.tokenizer_ablation import FIGURES, clips_of, measure
from studies.tokenizer_variants import VARIANTS

from trajlib.data.clips import split
from trajlib.data.measure import measure_dot
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.samples import check_physics, track_video
from trajlib.generation.joint_sampling import generate
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints, joint_recipe, recipes
from trajlib.zoo.batches import encode_videos
from trajlib.zoo.config import FSQ_4375, LFQ_2_18, RECIPES, half_width

BATCH = 50
LFQ = "LFQ 2^18"
QUANTIZERS = {  # options, and the weight of their loss in the tokenizer's second stage
    "FSQ 4,375": (FSQ_4375, 3.0),
    LFQ: (LFQ_2_18, 1.0),
    "VQ 1,024": ({"kind": "vq", "size": 1024}, 1.0),
}
MODELS = ("tokenizer_lfq18",)
KEYS = ("quantizer", "seed")
SHARES = ("consistent", "one_dot", "reconstructions", "accuracy")
COLUMNS = {"quantizer": str, "seed": int, "parameters": int, "tokens": int, "codes": int}
COLUMNS |= dict.fromkeys(("bits", "entropy_bits"), float) | {"used": int}
COLUMNS |= dict.fromkeys(("perplexity", *FIGURES), float)
COLUMNS |= {f"{name}{end}": float for name in ("video_bits", *SHARES) for end in ("", "_low", "_high")}


@dataclass(frozen=True)
class Settings:
    clips: int = 500  # test clips, for reconstructions and bits
    samples: int = 400  # a quarter of each class
    tested: int = 1000  # test clips, for the classifier
    groups: int = 16  # see `video_bits`
    transformer: dict = field(default_factory=lambda: {"steps": 600, "tracks": 60_000, "clips": 4000})
    classifier: dict = field(default_factory=lambda: {"steps": 1500, "clips": 800, "augmentations": 4})
    grid: dict = field(default_factory=lambda: {"seeds": (0,), "quantizers": tuple(QUANTIZERS)})


FULL = Settings()
SMOKE = Settings(
    8, 8, 8, 2, {"steps": 2, "tracks": 24, "clips": 16}, {"steps": 2, "clips": 16, "augmentations": 2},
    {"seeds": (0,), "quantizers": ("FSQ 4,375", LFQ)},
)  # fmt: skip


def jobs(settings):
    grid = settings.grid
    return [{"quantizer": name, "seed": seed} for seed in grid["seeds"] for name in grid["quantizers"]]


def run(job, context):
    """Train, or take from the folder, what one quantizer needs, and measure it."""
    settings, seed = context.settings, job["seed"]
    wanted, folder = chosen(job, context), context.folder / f"{job['quantizer'].split()[0].lower()}-{seed}"
    if job["quantizer"] == LFQ and seed == 0 and not (folder / "tokenizer.json").exists():  # the very same recipe
        trained = recipes.tokenizer_lfq18(context.artifacts, context.profile)
        checkpoints.save(*trained, "tokenizer", folder, torch.float16)
    tokenizer, _ = recipes.tokenizer(folder, wanted)
    row = {"examples": wanted.tokenizer.train.steps * wanted.tokenizer.train.batch}
    row |= measure(tokenizer, VARIANTS["base"], clips_of("test", range(settings.clips)))
    row |= generator_figures(joint_recipe.transformer(folder, wanted)[0], tokenizer, settings)
    classifier, _ = recipes.token_classifier(folder, wanted)
    test = split("test", settings.tested)
    tokens, labels = encode_videos(tokenizer, test, settings.tested), test.labels(range(settings.tested))
    with torch.no_grad():
        hits = torch.cat([classifier(part).argmax(-1) for part in tokens.split(BATCH)]) == labels
    return row | share("accuracy", hits.numpy())


def chosen(job, context):
    """All recipes of a job: the profile's, with this quantizer and this study's budgets."""
    base, (quantizer, weight) = RECIPES[context.profile], QUANTIZERS[job["quantizer"]]
    tokenizer = half_width(quantizer, weight)
    if context.profile != "full":
        model = dataclasses.replace(base.tokenizer.model, quantizer=quantizer)
        tokenizer = dataclasses.replace(base.tokenizer, model=model, quantizer_weight=weight)

    def budget(recipe, steps, **sizes):
        return dataclasses.replace(recipe, train=recipe.train.shortened(steps), **sizes)

    return dataclasses.replace(
        base, tokenizer=tokenizer, transformer=budget(base.transformer, **context.settings.transformer),
        token_classifier=budget(base.token_classifier, **context.settings.classifier), seed=job["seed"],
    )  # fmt: skip


def share(name, hits):
    """{column: value} of a share with Wilson's interval."""
    low, high = metrics.wilson(int(hits.sum()), len(hits))
    return {name: float(hits.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}


def generator_figures(net, tokenizer, settings):
    """What clips cost the transformer, and how well samples and reconstructions follow their class."""
    data, found = split("test"), []
    for part in torch.arange(settings.clips).split(BATCH):
        videos = to_float(data.videos(part.tolist()))
        with bf16_autocast():
            tokens = tokenizer.encode(videos)
            recon = tokenizer.decode(tokens)
        found.append((tokens.flatten(1), measure_dot(videos), track_video(videos), track_video(recon)))
    tokens, dots, normal, recon = zip(*found, strict=True)
    tokens, dots, normal, recon = torch.cat(tokens), torch.cat(dots), joined(normal), joined(recon)
    labels = data.labels(range(settings.clips))
    order = torch.randperm(math.prod(net.grid), generator=torch.Generator().manual_seed(0))
    bits = batches(lambda *x: video_bits(net, *x, order, settings.groups * net.num_codebooks), tokens, dots, labels)
    low, high = metrics.mean_interval(bits)
    row = {"video_bits": float(bits.mean()), "video_bits_low": float(low), "video_bits_high": float(high)}
    asked = torch.arange(settings.samples) % 4
    with bf16_autocast():
        samples = joined(
            track_video(tokenizer.decode(generate(net, part, seed=k))) for k, part in enumerate(asked.split(BATCH))
        )
    noise = float(np.nanmedian(np.linalg.norm(recon.path - normal.path, axis=-1)))
    checked, real = (check_physics(tracks, normal, noise) for tracks in (samples, recon))
    row |= share("consistent", checked.best == asked.numpy()) | share("one_dot", checked.one_dot)
    return row | share("reconstructions", real.best == labels.numpy())
