"""One table of hostile values, over the public functions that take arrays, numbers and names.

Every argument of every function in `FUNCTIONS` is replaced, one at a time, by every value that `hostile` makes of it.
What may come is an answer without NaN, or an error of a few kinds in one sentence; arguments, random numbers and the
settings of the process stay as they were.
"""

import os
import random
import warnings
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch

from trajlib import plots
from trajlib.course.results import record
from trajlib.data import clips, measure, video_files
from trajlib.data.clips import TrajectoryDataset
from trajlib.data.render import Corruption, render
from trajlib.data.spec import VideoSpec
from trajlib.evaluate import metrics, physics
from trajlib.generation import masks, tasks
from trajlib.zoo.checkpoints import ArtifactError, load

CLIPS = TrajectoryDataset(4, seed=3, spec=VideoSpec(8, 32)).batch()
VIDEOS = CLIPS.videos / 255
PATH, RADIUS = CLIPS.paths[:, :6].double().numpy(), CLIPS.radii[:, :6].double().numpy()
TOKENS = torch.arange(64).view(2, 2, 4, 4)
SPEC = VideoSpec(8, 32)
REFUSALS = (ValueError, TypeError, IndexError, OverflowError, OSError, ArtifactError)

FUNCTIONS = {  # name: (function, arguments that it takes)
    "to_float": (video_files.to_float, {"videos": CLIPS.videos}),
    "write_mp4": (video_files.write_mp4, {"video": VIDEOS[0].numpy(), "file": "x.mp4", "scale": 2, "fps": 8}),
    "as_indices": (clips.as_indices, {"indices": torch.arange(3), "size": 4}),
    "dataset": (TrajectoryDataset, {"size": 4, "seed": 0, "families": ("linear",), "corruption": None, "spec": SPEC}),
    "dataset.batch": (TrajectoryDataset(3, spec=SPEC).batch, {"indices": [0, 1]}),
    "dataset.videos": (TrajectoryDataset(3, spec=SPEC).videos, {"indices": [0, 1]}),
    "dataset.labels": (TrajectoryDataset(3, spec=SPEC).labels, {"indices": [0, 1]}),
    "dataset.track": (TrajectoryDataset(3, spec=SPEC).track, {"i": 1}),
    "split": (clips.split, {"name": "test", "size": 4}),
    "VideoSpec": (VideoSpec, {"frames": 16, "size": 64, "fps": 8}),
    "Corruption": (Corruption, vars(Corruption())),
    "render": (partial(render, spec=SPEC), {"centre": PATH[0], "radius": RADIUS[0], "colour": (0.1, 0.2, 0.3)}),
    "measure_dot": (measure.measure_dot, {"videos": VIDEOS}),
    "psnr": (metrics.psnr, {"videos": VIDEOS, "recon": VIDEOS * 0.9}),
    "foreground_psnr": (metrics.foreground_psnr, {"videos": VIDEOS, "recon": VIDEOS * 0.9}),
    "colour_error": (metrics.colour_error, {"videos": VIDEOS, "recon": VIDEOS * 0.9}),
    "codebook_usage": (metrics.codebook_usage, {"tokens": TOKENS, "codebook_size": 1000}),
    "wilson": (metrics.wilson, {"hits": 3, "n": 10}),
    "mean_interval": (metrics.mean_interval, {"values": RADIUS[0], "seed": 0}),
    "median_interval": (metrics.median_interval, {"values": RADIUS[0]}),
    "best_family": (physics.best_family, {"path": PATH, "radius": RADIUS}),
    "mask_ratio": (masks.mask_ratio, {"r": 0.5}),
    "region": (tasks.region, {"task": "FP", "frames": 2}),
    "condition": (partial(tasks.condition, VIDEOS), {"task": "FP", "frames": 2}),
    "film_strip": (plots.film_strip, {"videos": VIDEOS[:1].numpy()}),
    "contact_sheet": (plots.contact_sheet, {"videos": VIDEOS.numpy()}),
    "load": (load, {"name": "no_such_model", "artifacts": "no_such_folder"}),
    "record": (record, {"artifacts": "here", "name": "x", "value": 1.0, "n": 1, "notebook": "t", "tolerance": 0.1}),
}
NUMBERS = [
    None,
    "12",
    "",
    True,
    -1,
    0,
    1.9,
    float("nan"),
    float("inf"),
    -float("inf"),
    10**30,
    [],
    (),
    {},
    object(),
    b"x",
]
NOT_FINITE = {"median_interval", "mean_interval", "colour_error", "foreground_psnr", "measure_dot"}


def hostile(good):
    """Values in the place of `good`: other types, and for arrays other shapes, lengths, signs, types and extremes."""
    yield from NUMBERS
    if isinstance(good, np.ndarray):
        yield from (np.asarray(x) for x in hostile_tensors(torch.from_numpy(good)))
    elif isinstance(good, torch.Tensor):
        yield from hostile_tensors(good)
        yield good.numpy()
    elif isinstance(good, list | tuple):
        yield from (
            [],
            [*good, *good],
            [None],
            ["12"],
            [1.9],
            [True],
            [float("nan")],
            [-1],
            [10**30],
            torch.ones(3).bool(),
        )


def hostile_tensors(good):
    x = good.float()
    yield from (
        x[:0],
        x[:-1],
        x[0],
        x[None],
        x.flatten(),
        x.flip(0),
        torch.full_like(x, torch.nan),
        x * torch.inf,
        -x - 1,
    )
    yield from (x * 255, x * 1e30, (x * 255).long(), (x * 255).byte(), x > 0.5, x.half(), x.double(), x.cfloat(), x * 0)


def state():
    """What no function may change for its caller."""
    return (
        torch.random.get_rng_state().numpy().tobytes(), random.getstate(), dict(os.environ),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), np.geterr(), os.getcwd(),
    )  # fmt: skip


def contents(value):
    return np.asarray(value).tobytes() if isinstance(value, torch.Tensor | np.ndarray) else repr(value)


def fault(function, arguments, spared=False):
    """What is wrong with this call: "" if it answers or refuses as it should."""
    kept = {key: contents(value) for key, value in arguments.items()}
    before = state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = function(**arguments)
    except REFUSALS as error:
        answer = None
        if not str(error).strip() or len(str(error)) > 600:
            return f"{type(error).__name__} of {len(str(error))} characters"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:120]
    parts = answer if isinstance(answer, tuple) else (answer,)
    for part in () if spared else parts:
        values = part.numpy() if isinstance(part, torch.Tensor) and part.device.type == "cpu" else part
        if isinstance(values, float | np.ndarray) and np.asarray(values).dtype.kind == "f" and np.isnan(values).any():
            return "NaN in the answer"
    for key, value in kept.items():
        if contents(arguments[key]) != value:
            return f"{key} changed"
    return "" if state() == before else "the state of the process changed"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hostile_values(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAJLIB_RESULTS", raising=False)
    function, good = FUNCTIONS[name]
    if name != "load":
        assert fault(function, dict(good)) == ""
    found = Counter()
    for key, value in good.items():
        for bad in hostile(value):
            if wrong := fault(function, good | {key: bad}, name in NOT_FINITE):
                came = f"{bad.dtype} {tuple(bad.shape)}" if hasattr(bad, "shape") else repr(bad)[:40]
                found[f"{key}={came}: {wrong}"] += 1
    assert list(found) == []


def test_the_table_is_a_table():
    """Calls with one hostile value each, over all functions and arguments."""
    calls = [bad for _, good in FUNCTIONS.values() for value in good.values() for bad in hostile(value)]
    assert len(FUNCTIONS) >= 25
    assert len(calls) >= 1000
