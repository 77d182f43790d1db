"""The base of `tokenizer_ablation` and six variants, trained ten times as long: does what helps early help later?

All variants see the same clips, each once; there is one seed. What only speeds up the start comes down to nothing here.
Some 45 minutes on one core.
"""

from studies import tokenizer_ablation
from studies.tokenizer_ablation import COLUMNS, KEYS, Settings, run

__all__ = ["COLUMNS", "FULL", "KEYS", "SMOKE", "jobs", "run"]
TRAIN = tokenizer_ablation.FULL.train | {"ema": 0.992}  # averaged over as large a share of the steps
VARIANTS = (
    "base", "foreground_weight_1", "chroma_weight_1", "adamw", "gates_shut", "lfq_1024", "vq_1024",
)  # fmt: skip
FULL = Settings(steps=1400, train=TRAIN, grid={"seeds": (0,), "variants": VARIANTS})
SMOKE = tokenizer_ablation.SMOKE


def jobs(settings):
    """One for each variant."""
    return tokenizer_ablation.jobs(settings)
