"""Time against quality: the course's tokenizer trained for a twelfth and a fifth of its steps, and whole.

The recipe is the same, each stage shortened alike, the learning rates running through their whole schedule. "minutes"
are processor minutes over two cores, rendering of the clips included; those of the whole training are from the card.
Figures are of test clips. One training each, some 20 minutes on one core.
"""

import dataclasses
import time
from dataclasses import dataclass, field

from studies.tokenizer_ablation import FIGURES, clips_of, measure
from studies.tokenizer_variants import VARIANTS

from trajlib.zoo import checkpoints, recipes
from trajlib.zoo.config import RECIPES

MODELS = ("tokenizer",)
KEYS = ("share", "seed")
COLUMNS = {"share": float, "seed": int, "minutes": float, "parameters": int, "tokens": int, "codes": int}
COLUMNS |= dict.fromkeys(("bits", "entropy_bits"), float) | {"used": int}
COLUMNS |= dict.fromkeys(("perplexity", *FIGURES), float)


@dataclass(frozen=True)
class Settings:
    clips: int = 500  # test clips
    grid: dict = field(default_factory=lambda: {"seeds": (0,), "shares": (0.08, 0.2, 1.0)})


FULL = Settings()
SMOKE = Settings(8, {"seeds": (0,), "shares": (0.5, 1.0)})


def jobs(settings):
    """The shortest first."""
    return [{"share": share, "seed": seed} for seed in settings.grid["seeds"] for share in settings.grid["shares"]]


def run(job, context):
    """Train, unless it is the whole training, and measure."""
    began, recipe = time.process_time(), shortened(RECIPES[context.profile].tokenizer, job["share"])
    if job["share"] == 1:
        model, card = checkpoints.load("tokenizer", context.artifacts)
        minutes = card["minutes"]
    else:
        wanted = dataclasses.replace(RECIPES[context.profile], tokenizer=recipe, seed=job["seed"])
        model, _ = recipes.tokenizer(context.folder / f"{job['share']:g}-{job['seed']}", wanted)
        minutes = (time.process_time() - began) / 120
    crops = round(recipe.crop_share * recipe.train.steps)  # steps on crops, each of more clips
    examples = (recipe.train.steps - crops) * recipe.train.batch + recipe.position.steps * recipe.position.batch
    row = {"minutes": minutes, "examples": examples + crops * recipe.crop_batch}
    return row | measure(model, VARIANTS["base"], clips_of("test", range(context.settings.clips)))


def shortened(recipe, share):
    """Each stage in this share of its steps."""
    stages = {name: getattr(recipe, name) for name in ("train", "position")}
    stages = {name: train.shortened(max(1, round(share * train.steps))) for name, train in stages.items()}
    return dataclasses.replace(recipe, **stages)
