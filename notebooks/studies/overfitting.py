"""Clips of the training against new ones, for each model that is trained on clips: a difference shows overfitting.

The first clips of the splits "train" and "test", measured alike. Generators are compared in bits, by the study
`likelihoods`. The classifiers saw their training clips in this form and in five augmentations. The language model's
loss is that of its training, of sentences given a clip's tokens and of tokens given a sentence. Some three minutes.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from studies import robustness
from studies.likelihoods import DATA
from studies.sealed import standard_error
from studies.tokenizer_ablation import distortion

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.zoo import checkpoints
from trajlib.zoo.config import recipes_of
from trajlib.zoo.language_recipe import described_clips, described_tracks, language_batches, language_loss

BATCH = 50
CLASSIFIERS = ("simple_3dcnn", "i3d", "token_classifier")
MODELS = ("tokenizer", *CLASSIFIERS, "token_tracker", "language", "transformer")  # the last is the language model's own
KEYS = ("model", "clips")
COLUMNS = {"model": str, "clips": str, "metric": str, "value": float, "low": float, "high": float, "n": int}


@dataclass(frozen=True)
class Settings:
    clips: int = 500
    batches: int = 40  # of the language model's training
    grid: dict = field(default_factory=lambda: {"models": MODELS[:-1]})


FULL, SMOKE = Settings(), Settings(16, 2)


def jobs(settings):
    return [{"model": model, "clips": clips} for model in settings.grid["models"] for clips in DATA]


def run(job, context):
    """{metric: values of the clips} of one model on clips of one split, as rows."""
    measure = partial(of_classifier, job["model"]) if job["model"] in CLASSIFIERS else MEASURES[job["model"]]
    rows = []
    for metric, values in measure(context, split(DATA[job["clips"]])).items():
        values = np.asarray(values, float)
        n, hits = len(values), metric == "accuracy"
        low, high = metrics.wilson(values.sum(), n) if hits else metrics.mean_interval(values)
        rows.append(job | {"metric": metric, "value": values.mean(), "low": low, "high": high, "n": n, "examples": n})
    return rows


def batches(context, data):
    """`Batch`es of the first clips."""
    return (data.batch(part.tolist()) for part in torch.arange(context.settings.clips).split(BATCH))


def of_tokenizer(context, data):
    """dB and px of each clip."""
    net, parts = checkpoints.load("tokenizer", context.artifacts)[0], []
    for clips in batches(context, data):
        videos = to_float(clips.videos)
        parts.append(distortion(net.reconstruct(videos), videos, clips.paths))
    found = {key: torch.cat([part[key] for part in parts]) for key in ("psnr", "error")}
    return {"PSNR (dB)": found["psnr"], "localization error (px)": found["error"].mean(1)}


def of_classifier(name, context, data):
    """Whether each clip's class is found, and what its label costs in bits."""
    net, tokenizer = (checkpoints.load(model, context.artifacts)[0] for model in (name, "tokenizer"))
    found = {"accuracy": [], "bits a label": []}
    for clips in batches(context, data):
        inputs = tokenizer.encode(to_float(clips.videos)) if name == "token_classifier" else clips.videos
        p = torch.from_numpy(robustness.by_network(net, inputs))
        found["accuracy"].append(p.argmax(1) == clips.labels)
        found["bits a label"].append(-p.gather(1, clips.labels[:, None])[:, 0].log2())
    return {metric: torch.cat(parts) for metric, parts in found.items()}


def of_tracker(context, data):
    """px of each clip."""
    tokenizer, tracker = (checkpoints.load(model, context.artifacts)[0] for model in ("tokenizer", "token_tracker"))
    parts = []
    for clips in batches(context, data):
        dots = robustness.by_tracker(tracker, tokenizer.encode(to_float(clips.videos)))
        parts.append((dots[..., :2] - clips.paths).norm(dim=-1).mean(1))
    return {"localization error (px)": torch.cat(parts)}


@torch.no_grad()
def of_language(context, data):
    """Parts of the training loss, in bits, of each batch; both splits have the same draws."""
    load, settings = partial(checkpoints.load, artifacts=context.artifacts), context.settings
    cfg = recipes_of(context.profile).language
    tokenizer, tracker, model = (load(name)[0] for name in ("tokenizer", "token_tracker", "language"))
    clips = described_clips(tokenizer, tracker, data, settings.clips)
    batch = language_batches(described_tracks(data, settings.clips), clips, model.joint, cfg)
    found = {"clip to words": [], "words to video": []}
    for step in range(settings.batches):
        torch.manual_seed(step)
        parts = language_loss(model, *batch(step))[1]
        for name, values in found.items():
            values.append(parts[name].item() / np.log(2))
    return {f"{name} (bits)": values for name, values in found.items()}


MEASURES = {"tokenizer": of_tokenizer, "token_tracker": of_tracker, "language": of_language}


# ---- reading the table ----


def compare(frame) -> pd.DataFrame:
    """For each model and metric the rows of training and of new clips, (value, low, high) each, and whether they differ
    significantly: columns model, metric, training, new, differs. Holm's correction for the number of rows.
    """
    found, ends = [], ["value", "low", "high"]
    for (model, metric), rows in frame.groupby(["model", "metric"], sort=False):
        one, other = (rows[rows["clips"] == clips].iloc[0] for clips in DATA)
        both = max(np.hypot(standard_error(one), standard_error(other)), 1e-12)
        p = 2 * norm.sf(abs(one["value"] - other["value"]) / both)
        found.append((model, metric, tuple(one[ends]), tuple(other[ends]), p))
    table = pd.DataFrame(found, columns=["model", "metric", "training", "new", "p"])
    return table.assign(differs=metrics.holm(table.pop("p").to_numpy()) < 0.05)
