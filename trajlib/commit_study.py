"""COMMIT's parts switched on one at a time, after MAGVIT's table 5: the same tokens and steps, two seeds, one table.

Small transformers, so that the study takes minutes. `python -m trajlib ablate --commit` runs it.
"""

import csv
import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed

import numpy as np
import torch

from trajlib import pretrained, recipes
from trajlib.ablations import file_of, provenance
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.metrics import follow_dot
from trajlib.sampling import commit_start, generate
from trajlib.tasks import TASKS, hidden_frames
from trajlib.training import fit
from trajlib.transformer import MaskedTransformer, commit_loss

FILE = "commit.csv"
ARMS = {  # name: what it is, what counts in the loss; the first is never shown a condition in training
    "no condition tokens": ("masked", ("mask",)),
    "mask": ("COMMIT", ("mask",)),
    "mask + recons": ("COMMIT", ("mask", "recons")),
    "mask + recons + refine": ("COMMIT", ("mask", "recons", "refine")),
}
ASKED = [task for task in TASKS if task not in ("CG", "CFP")]  # MT-8: the tasks that give pixels and no class
COLUMNS = ("arm", "seed", "steps", "clips", "bits", *ASKED, "error", "refine", "date", "code", "torch")


def run_arm(name, seed, cfg, codec, examples):
    """One run: {column: value}; the error of each task is the mean over hidden frames, in px."""
    kind, parts = ARMS[name]
    budget = cfg.commit_study
    torch.manual_seed(seed)
    model = MaskedTransformer(codec.config["levels"], codec.grid, **budget["transformer"])
    model.start_from(examples[0])
    batch = recipes.commit_batches(examples, dataclasses.replace(cfg, seed=seed), codec.grid)

    def loss(model, batch):
        tokens, labels, tasks, conditions, given = batch
        return commit_loss(model, tokens, labels, tasks, conditions, given & (kind == "COMMIT"), parts=parts)

    recipe = cfg.transformer_recipe | {"steps": budget["steps"], "lines": 0}
    model, history = fit(model, loss, batch, **recipe, seed=seed)
    row = {"arm": name, "seed": seed, "steps": budget["steps"], "clips": len(examples[0])}
    row["bits"] = float(np.mean(history["mask"][-50:]))
    row["refine"] = float(np.mean(history["refine"][-50:]))
    errors = {task: hidden_error(model, codec, task, budget["test_clips"], refine=kind == "COMMIT") for task in ASKED}
    return row | errors | {"error": float(np.mean(list(errors.values())))}


def hidden_error(model, codec, task, n, refine, seed=0):
    """Mean distance in px from the dot to where it should be, in frames in which the condition does not show it.

    A film without a dot counts as one in the middle of the picture: the guess of one who has seen nothing.
    """
    clips = TrajectoryDataset(n, seed=SEEDS["test"]).batch()
    start = commit_start(codec, to_float(clips.videos), task)
    films = codec.decode(generate(model, clips.labels, seed=seed, refine=refine, **start))
    middle = (films.shape[-1] - 1) / 2
    error = (follow_dot(films)[0].nan_to_num(middle) - clips.paths).norm(dim=-1)
    return error[hidden_frames(task, clips.paths)].mean().item()


def run(cfg, artifacts, out, workers=2, say=print):
    """All runs, in `workers` processes of one thread each; the rows are written to `out` and returned."""
    codec, _ = recipes.tokenizer(cfg, artifacts)
    examples = recipes.encode_conditions(codec, cfg.commit_study["clips"])
    facts = {key: value for key, value in provenance(cfg).items() if key in COLUMNS}
    jobs = [(name, seed) for seed in cfg.commit_study["seeds"] for name in ARMS]
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    rows = []
    try:
        waiting = [pool.submit(run_arm, *job, cfg, codec, examples) for job in jobs]
        for count, future in enumerate(as_completed(waiting), 1):
            row = future.result()
            rows.append(row | facts)
            write(out, rows)
            say(f"{count}/{len(jobs)} {row['arm']}, seed {row['seed']}: {row['error']:.2f} px, {row['bits']:.2f} bits")
    finally:
        pool.shutdown(cancel_futures=True)
    return rows


def write(path, rows):
    """All rows in the order of `ARMS`; see `pretrained.write_table`."""
    in_order = sorted(rows, key=lambda row: (list(ARMS).index(row["arm"]), row["seed"]))
    pretrained.write_table(path, COLUMNS, in_order)


def study(cfg, artifacts):
    """The rows that a notebook shows: the folder's, made now if the profile's study takes seconds; else the shipped."""
    path = file_of(run, FILE, "--commit", cfg, artifacts)
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(text) if key in ("bits", "refine", "error", *ASKED) else text for key, text in row.items()}
                for row in csv.DictReader(file)]  # fmt: skip
