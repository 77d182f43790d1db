"""How each shipped model was trained: train-or-load, one function a model; the numbers are in `config.py`."""

import time

from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.pretrained import folder, train_or_load
from trajlib.tokenizer import Tokenizer, reconstruction_loss
from trajlib.training import fit

WORLD = 10**9  # clips are made when asked for: a training run never sees one twice


def clip_batches(batch_size):
    """batch_fn for `fit`: step -> [videos (b, 3, 16, 64, 64) in [0, 1]], fresh clips of the training world each step."""
    world = TrajectoryDataset(WORLD, seed=SEEDS["train"])
    return lambda step: [to_float(world.batch(range(step * batch_size, (step + 1) * batch_size)).videos)]


def timed_fit(cfg, artifacts, name, model, loss_fn, batch_fn, recipe, **kwargs):
    """`fit` with a checkpoint beside the artifacts, and the card's facts about the run."""
    began = time.time()
    checkpoint = folder(artifacts) / f"{name}.checkpoint"
    model, history = fit(model, loss_fn, batch_fn, **recipe, seed=cfg.seed, checkpoint=checkpoint, **kwargs)
    losses = [sum(history["loss"][-50:]) / len(history["loss"][-50:])]
    card = {
        "recipe": recipe,
        "seed": cfg.seed,
        "profile": cfg.name,
        "minutes": round((time.time() - began) / 60, 1),
        "figures": {"first loss": round(history["loss"][0], 4), "last loss": round(losses[0], 4)},
    }
    return model, card


def tokenizer(cfg, artifacts, watch=None):
    """The video tokenizer of notebook 02: (model, card)."""

    def train():
        import torch

        torch.manual_seed(cfg.seed)
        model, card = timed_fit(
            cfg,
            artifacts,
            "tokenizer",
            Tokenizer(**cfg.tokenizer),
            lambda model, batch: reconstruction_loss(model, *batch),
            clip_batches(cfg.tokenizer_batch),
            cfg.tokenizer_recipe,
            watch=watch,
        )
        return model, card | {"data": f"{cfg.tokenizer_recipe['steps'] * cfg.tokenizer_batch:,} clips, each seen once"}

    return train_or_load("tokenizer", artifacts, train)
