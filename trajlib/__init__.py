"""trajlib: clips of moving dots, their tokens, and the models between them.

from trajlib import load, TrajectoryDataset, generate, complete
"""

import importlib
import warnings
from typing import Any

import torch

for old in ("torch.jit.script", "torch.cuda.amp.autocast", "torch.backends.cuda.sdp_kernel"):
    warnings.filterwarnings("ignore", f"`{old}", FutureWarning)  # magvit2-pytorch and x-transformers still call them

# Where white background is reconstructed nearly white, gradients are too small for normal floats, and a CPU takes ten
# times as long for such numbers: the tokenizer's backward pass grew from 0.3 s to 2.9 s in training. Threads that
# exist already keep their setting, so this has to come first.
torch.set_flush_denormal(True)

PUBLIC = {  # name: its module, imported when the name is first used
    "load": "trajlib.zoo.checkpoints",
    "Tokenizer": "trajlib.tokenizer.video_tokenizer",
    "MaskedTransformer": "trajlib.generation.transformer",
    "JointTransformer": "trajlib.generation.joint",
    "FAMILIES": "trajlib.data.trajectories",
    "TrajectoryDataset": "trajlib.data.clips",
    "VideoFolder": "trajlib.data.video_folder",
    "VideoSpec": "trajlib.data.spec",
    "generate": "trajlib.generation.joint_sampling",
    "complete": "trajlib.generation.joint_sampling",
    "caption": "trajlib.language.sentences",
    "generate_from_text": "trajlib.language.sentences",
}
__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'trajlib' has no attribute {name!r}; its names are {', '.join(PUBLIC)}.")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
