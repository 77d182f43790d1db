"""One table of hostile values, over the public functions that take arrays, numbers and names.

Every argument of every function in `FUNCTIONS` is replaced, one at a time, by every value that `hostile` makes of it.
What may come is an answer without NaN, or a refusal: an error of a few kinds, in one line, that the package itself
raises. An error that falls out of NumPy, torch or Python inside a function names nothing that its caller knows. Only
the system's errors about files pass as they are. Arguments, random numbers and the settings of the process stay as
they were.
"""

import copy
import os
import random
import time
import traceback
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import trajlib
from trajlib import plots
from trajlib.classify.i3d import I3D, measure_frame
from trajlib.classify.readers import Simple3DCNN, TokenClassifier, TokenTracker
from trajlib.course import llm
from trajlib.course.results import record
from trajlib.data import augment, checks, clips, measure, slots, video_files
from trajlib.data.clips import TrajectoryDataset
from trajlib.data.render import Corruption, render
from trajlib.data.spec import VideoSpec, as_spec
from trajlib.data.trajectories import unit_motion
from trajlib.evaluate import metrics, physics, samples
from trajlib.evaluate import slots as read
from trajlib.generation import joint_sampling, masks, sampling, tasks, transformer
from trajlib.generation.autoregressive import AutoregressiveTransformer, clip_bits, generate_autoregressive
from trajlib.generation.joint import JointTransformer
from trajlib.generation.trajectory_tokens import TrajectoryTokens
from trajlib.generation.transformer import MaskedTransformer
from trajlib.language import grammar, sentences
from trajlib.language.model import LanguageModel
from trajlib.language.next_words import is_grammatical
from trajlib.tokenizer import quantizers
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.zoo import batches
from trajlib.zoo.checkpoints import ArtifactError, load
from trajlib.zoo.config import RECIPES, Train, TransformerConfig, recipes_of
from trajlib.zoo.recipes import new_tokenizer

CLIPS = TrajectoryDataset(4, seed=3, spec=VideoSpec(8, 32)).batch()
VIDEOS = CLIPS.videos / 255
PATH, RADIUS = CLIPS.paths[:, :6].double().numpy(), CLIPS.radii[:, :6].double().numpy()
DOTS = torch.cat([CLIPS.paths, CLIPS.radii[..., None]], -1)
SPEC = VideoSpec(8, 32)
PACKAGE = Path(trajlib.__file__).parent
REFUSALS = (ValueError, IndexError, OSError, ArtifactError)
LEVELS, GRID, SIZES = (4, 4, 4), (4, 2, 2), {"dim": 16, "depth": 1, "heads": 2}
TOKENS = torch.arange(64).view(4, 4, 2, 2)
torch.manual_seed(0)
TOKENIZER = Tokenizer({"kind": "fsq", "levels": LEVELS}, 8, (("compress_space", 8),) * 2, spec=SPEC).eval()
PLAIN = MaskedTransformer(64, GRID, LEVELS, **SIZES).eval()
JOINT = JointTransformer(64, GRID, LEVELS, spec=SPEC, trajectory={"counts": (2, 2, 1)}, **SIZES).eval()
JOINT.fit_trajectories(torch.tensor([16.0, 16.0, 3.0]) + 0.3 * torch.randn(200, 8, 3))
AUTOREGRESSIVE = AutoregressiveTransformer(64, GRID, LEVELS, **SIZES).eval()
LANGUAGE = LanguageModel(JOINT, 2).eval()
READING = sentences.read_clip(LANGUAGE, TOKENIZER, TOKENS)
STATS = samples.track_video(VIDEOS)
QUICK = {"steps": 1, "resampling_steps": 0}
OBSERVED = {"condition": TOKENS, "observed": torch.arange(16).view(GRID) < 4}


def decoded(**given):
    """The last tokens of `parallel_decode`, with logits that are all the same."""
    fn = lambda tokens, positions: torch.zeros(len(tokens), len(positions), 64)  # noqa: E731
    return list(sampling.parallel_decode(fn, **given))[-1]


def built(cls, *args, **given):
    """A model, whose first weights are random, without a trace in the random numbers."""
    before = random.getstate()  # libraries draw from it, too
    try:
        with torch.random.fork_rng(devices=[]):
            return cls(*args, **given)
    finally:
        random.setstate(before)


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
    "unit_motion": (
        lambda **given: unit_motion(**given).at([0, 0.5, 1]),
        {"family": "helical", "turns": 0.9, "handedness": 1.0, "advance": 0.6, "sharpness": 7.0, "apex": 0.5},
    ),
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
    "as_uint8": (video_files.as_uint8, {"video": VIDEOS[0].numpy()}),
    "as_spec": (as_spec, {"spec": {"frames": 8, "size": 32}}),
    "dataset.getitem": (lambda i: TrajectoryDataset(3, spec=SPEC)[i].video, {"i": 1}),
    "collate": (lambda clips_: clips.collate(clips_).videos, {"clips_": [TrajectoryDataset(3, spec=SPEC)[0]]}),
    "make_track": (partial(clips.make_track, spec=SPEC), {"seed": 0, "index": 1, "family": "linear"}),
    "track_centroid": (measure.track_centroid, {"videos": VIDEOS, "threshold": 0.1}),
    "augmented": (augment.augmented, {"videos": CLIPS.videos, "number": 5}),
    "hue_of": (slots.hue_of, {"colours": [[0.1, 0.2, 0.3]], "chroma": 0.1}),
    "check_labels": (checks.check_labels, {"labels": [0, 1], "num_classes": 4}),
    "level_indices": (quantizers.level_indices, {"codes": TOKENS, "levels": LEVELS}),
    "codes_from_levels": (quantizers.codes_from_levels, {"indices": TOKENS[..., :1] // 16, "levels": (4,)}),
    "Tokenizer.encode": (TOKENIZER.encode, {"videos": VIDEOS, "batch_size": 2}),
    "Tokenizer.decode": (TOKENIZER.decode, {"tokens": TOKENS, "batch_size": 2}),
    "Tokenizer.reconstruct": (TOKENIZER.reconstruct, {"videos": VIDEOS}),
    "halton_order": (masks.halton_order, {"grid": GRID, "seed": 0}),
    "observed_tokens": (partial(tasks.observed_tokens, grid=GRID, spec=SPEC), {"task": "FP", "frames": 2}),
    "generator": (lambda seed: torch.rand(1, generator=checks.generator(seed)), {"seed": 1}),
    "draw": (lambda p: sampling.draw(p, torch.Generator().manual_seed(0)), {"p": torch.full((2, 3, 4), 0.25)}),
    "class_labels": (partial(sampling.class_labels, PLAIN), {"labels": [0, 1], "n": 2}),
    "initial_tokens": (partial(sampling.initial_tokens, PLAIN, 4), OBSERVED),
    "parallel_decode": (
        decoded,
        {"tokens": torch.full((2, 16), 64), "maskable": torch.ones(2, 16).bool(), "grid": GRID, "order": "halton"}
        | {"steps": 1, "temperature": 1.0, "resampling_steps": 1}
        | {"resample_temperature": 0.3, "seed": 0},
    ),
    "sampling.generate": (
        partial(sampling.generate, PLAIN),
        {"labels": [0, 1], "guidance": 1.5, "seed": 0, "n": 1, "task": "CG"} | QUICK,
    ),
    "sampling.generate, conditioned": (partial(sampling.generate, PLAIN, task="FP", **QUICK), OBSERVED),
    "encode_condition": (
        lambda **given: sampling.encode_condition(TOKENIZER, **given)["condition"],
        {"videos": VIDEOS, "task": "FP", "frames": 2},
    ),
    "sampling.complete": (
        partial(sampling.complete, PLAIN, TOKENIZER, **QUICK),
        {"videos": VIDEOS, "task": "CFP", "labels": [0, 1, 2, 3], "frames": 2},
    ),
    "MaskedTransformer.init_output_bias": (copy.deepcopy(PLAIN).init_output_bias, {"tokens": TOKENS}),
    "log_frequencies": (transformer.log_frequencies, {"tokens": TOKENS, "codebook_size": 64}),
    "sample_trajectories": (
        partial(joint_sampling.sample_trajectories, JOINT),
        {"labels": [0, 1], "n": 1, "guidance": 1.5, "temperature": (1.0, 0.5), "seed": 0, "task": "CG"},
    ),
    "decode_video": (
        partial(joint_sampling.decode_video, JOINT),
        {"trajectories": DOTS, "seed": 0, "temperature": 0.5} | QUICK | OBSERVED,
    ),
    "best_draft": (
        partial(joint_sampling.best_draft, JOINT, TOKENIZER, **QUICK),
        {"trajectories": DOTS, "drafts": 2, "seed": 0},
    ),
    "generate": (partial(joint_sampling.generate, JOINT, **QUICK), {"labels": [0], "seed": 0, "n": 1, "guidance": 1.5}),
    "complete_trajectories": (
        partial(joint_sampling.complete_trajectories, JOINT, draws=1),
        {"videos": VIDEOS, "task": "CFP", "labels": [0, 1, 2, 3], "frames": 2, "temperature": (0.5,)},
    ),
    "complete": (
        partial(joint_sampling.complete, JOINT, TOKENIZER, **QUICK),
        {"videos": VIDEOS, "task": "FP", "frames": 2, "draws": 1, "seed": 0},
    ),
    "decode_steps": (
        lambda **given: list(sampling.decode_steps(PLAIN, **given))[-1],
        {"labels": [0, 1], "steps": 1, "guidance": 1.0, "seed": 0, "task": "CG", "n": 1},
    ),
    "MaskedTransformer": (
        lambda **given: built(MaskedTransformer, 64, **given).grid,
        {"grid": GRID, "dim": 16, "depth": 1, "heads": 2},
    ),
    "Tokenizer": (
        lambda **given: built(Tokenizer, layers=(("compress_space", 8),) * 2, **given).token_shape,
        {"dim": 8, "spec": SPEC},
    ),
    "build_quantizer": (
        lambda **given: built(quantizers.build_quantizer, 8, **given).codebook_size,
        {"kind": "fsq", "levels": (4, 4)},
    ),
    "TrajectoryTokens": (
        lambda **given: TrajectoryTokens(**given).n,
        {"frames": 8, "counts": (2, 2, 1), "levels": 16, "reach": 4.0},
    ),
    "TrajectoryTokens.fit": (
        lambda trajectories: copy.deepcopy(JOINT.trajectory).fit(trajectories).mean,
        {"trajectories": DOTS},
    ),
    "fit_trajectories": (copy.deepcopy(JOINT).fit_trajectories, {"trajectories": DOTS}),
    "check_task": (tasks.check_task, {"task": "FP"}),
    "TrajectoryTokens.encode": (JOINT.trajectory.encode, {"trajectories": DOTS}),
    "TrajectoryTokens.decode": (JOINT.trajectory.decode, {"tokens": JOINT.trajectory.encode(DOTS)}),
    "clip_bits": (partial(clip_bits, AUTOREGRESSIVE), {"tokens": TOKENS, "labels": [0, 1, 2, 3], "batch_size": 2}),
    "generate_autoregressive": (
        partial(generate_autoregressive, AUTOREGRESSIVE),
        {"labels": [0], "guidance": 1.5, "temperature": 1.0, "seed": 0, "n": 1},
    ),
    "entropy": (metrics.entropy, {"answers": np.arange(4)}),
    "sectors": (metrics.sectors, {"vectors": PATH[0]}),
    "holm": (metrics.holm, {"p_values": [0.1, 0.2]}),
    "information_gain": (
        partial(metrics.information_gain, PATH[0], trees=1),
        {"answers": np.arange(6) % 2, "clips": np.arange(6)},
    ),
    "shape_moments": (metrics.shape_moments, {"pictures": 1 - VIDEOS.mean((1, 2)).numpy()}),
    "exposure": (metrics.exposure, {"videos": VIDEOS}),
    "fit_family": (
        lambda **given: physics.fit_family(**given).score,
        {"family": "linear", "path": PATH, "radius": RADIUS, "noise": 0.1},
    ),
    "basis": (lambda family: physics.basis(family, np.linspace(0, 1, 8), np.ones(3)), {"family": "circular"}),
    "fit_families": (
        lambda **given: physics.fit_families(**given)["helical"].score,
        {"path": PATH, "radius": RADIUS, "noise": 0.1},
    ),
    "check_physics": (lambda noise: samples.check_physics(STATS, STATS, noise).best, {"noise": 0.1}),
    "track_video": (samples.track_video, {"videos": VIDEOS}),
    "interpolate_gaps": (samples.interpolate_gaps, {"paths": PATH}),
    "dot_colour": (read.dot_colour, {"videos": VIDEOS}),
    "read_slots": (read.read_slots, {"videos": VIDEOS, "noise": 0.2}),
    "Simple3DCNN": (Simple3DCNN(SPEC).eval(), {"videos": VIDEOS}),
    "I3D": (I3D(4, SPEC, widths=(8, 16, 16, 16, 16), slim=4, dim=8).eval(), {"videos": VIDEOS}),
    "measure_frame": (measure_frame, {"frames": VIDEOS[:, :, :1]}),
    "TokenClassifier": (TokenClassifier(64, GRID, LEVELS, **SIZES).eval(), {"tokens": TOKENS}),
    "TokenTracker": (TokenTracker(64, GRID, LEVELS, spec=SPEC, **SIZES).eval(), {"tokens": TOKENS}),
    "moving_png": (plots.moving_png, {"videos": VIDEOS[:1].numpy(), "scale": 1}),
    "as_pictures": (plots.as_pictures, {"videos": VIDEOS}),
    "film_strip, every": (partial(plots.film_strip, VIDEOS[:1].numpy()), {"every": 2}),
    "contact_sheet, classes": (partial(plots.contact_sheet, VIDEOS.numpy()), {"labels": [0, 1, 2, 3], "columns": 4}),
    "check_slots": (grammar.check_slots, {"slots": {"family": "linear"}}),
    "is_held_out": (grammar.is_held_out, {"slots": {"family": "linear"}}),
    "is_grammatical": (is_grammatical, {"text": "a red dot circles"}),
    "sentence": (lambda given: grammar.sentence(given, np.random.default_rng(0)), {"given": {"family": "linear"}}),
    "grammar.caption": (
        lambda given, share: grammar.caption(given, np.random.default_rng(0), share),
        {"given": {"family": "linear"}, "share": 0.5},
    ),
    "question": (lambda slot: grammar.question(slot, np.random.default_rng(0)), {"slot": "family"}),
    "few_shot_prompt": (partial(llm.few_shot_prompt, examples=[], tokens=TOKENS[0]), {"slot": "family"}),
    "answer": (partial(sentences.answer, LANGUAGE, READING), {"slot": "speed", "phrasing": 0}),
    "compare": (partial(sentences.compare, LANGUAGE, READING), {"slot": "speed"}),
    "read_clip": (
        lambda tokens: sentences.read_clip(LANGUAGE, TOKENIZER, tokens).trajectories,
        {"tokens": TOKENS},
    ),
    "sentence_bits": (
        lambda texts: sentences.sentence_bits(LANGUAGE, texts, READING[:1]),
        {"texts": ["a red dot circles"]},
    ),
    "sentence_context": (partial(sentences.sentence_context, LANGUAGE), {"texts": ["a red dot circles"]}),
    "write_sentences": (lambda seed: sentences.write_sentences(LANGUAGE, READING[:1], seed=seed)[1], {"seed": 0}),
    "split_words": (grammar.split_words, {"text": "a red dot circles"}),
    "parse": (grammar.parse, {"text": "a red dot circles"}),
    "decode_text": (grammar.decode_text, {"numbers": grammar.encode_text("a red dot circles")}),
    "caption": (partial(sentences.caption, LANGUAGE, TOKENIZER), {"tokens": TOKENS[:1], "seed": 0}),
    "generate_from_text": (
        partial(sentences.generate_from_text, LANGUAGE, TOKENIZER),
        {"texts": "a red dot", "seed": 0, "guidance": 1.0, "temperature": (1.0,), "candidates": 1, "clips": 1},
    ),
    "Train": (lambda **given: Train(**given).lr, {"steps": 1, "batch": 1, "lr": 0.1, "muon": 0.1, "ema": 0.9}),
    "Train.shortened": (lambda steps: Train(4, 1, 0.1).shortened(steps).ema, {"steps": 2}),
    "TransformerConfig": (
        lambda **given: TransformerConfig(**given).dim,
        {"dim": 16, "depth": 1, "heads": 2, "dropout": 0.0},
    ),
    "Recipes": (lambda seed: replace(RECIPES["smoke"], seed=seed).seed, {"seed": 0}),
    "new_tokenizer": (lambda profile: built(new_tokenizer, profile, SPEC).token_shape, {"profile": "smoke"}),
    "encode_videos": (partial(batches.encode_videos, TOKENIZER, TrajectoryDataset(3, spec=SPEC)), {"n": 2}),
    "shuffled_batches": (
        lambda **given: batches.shuffled_batches([TOKENS], **given)(0)[0],
        {"batch_size": 2, "seed": 0},
    ),
    "draw_augmentations": (partial(batches.draw_augmentations, 2, 2), {"seed": 0}),
    "recipes_of": (lambda profile: recipes_of(profile).seed, {"profile": "full"}),
    "epoch_indices": (partial(batches.epoch_indices, TrajectoryDataset(3, spec=SPEC)), {"numbers": [0, 5]}),
    "load": (load, {"name": "no_such_model", "artifacts": "no_such_folder"}),
    "record": (record, {"artifacts": "here", "name": "x", "value": 1.0, "n": 1, "notebook": "t", "tolerance": 0.1}),
}
NUMBERS = [
    None,
    "12",
    "spiral",
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
NOT_FINITE = {  # NaN says that there is nothing to measure
    "median_interval", "mean_interval", "colour_error", "foreground_psnr", "measure_dot", "track_centroid", "hue_of",
    "read_slots", "shape_moments", "exposure", "track_video", "augmented", "dot_colour",
}  # fmt: skip


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


ENDLESS = 30  # seconds; a refusal takes milliseconds, and the slowest right answer less than one on a quiet machine


def state():
    """What no function may change for its caller."""
    return (
        torch.random.get_rng_state().numpy().tobytes(), random.getstate(), dict(os.environ),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), np.geterr(), os.getcwd(),
    )  # fmt: skip


def contents(value):
    return np.asarray(value).tobytes() if isinstance(value, torch.Tensor | np.ndarray) else repr(value)


def raised_here(error):
    """Whether a `raise` statement of the package made this error."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(PACKAGE) and last.line.startswith("raise ")


def fault(function, arguments, spared=False):
    """What is wrong with this call: "" if it answers or refuses as it should."""
    kept = {key: contents(value) for key, value in arguments.items()}
    before, began = state(), time.thread_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = function(**arguments)
    except REFUSALS as error:
        answer = None
        if not str(error).strip() or len(str(error)) > 600 or "\n" in str(error):
            return f"{type(error).__name__} of {len(str(error))} characters, or of several lines"
        if not isinstance(error, OSError) and not raised_here(error):
            return f"{type(error).__name__}, not raised by the package: {error}"[:120]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:120]
    parts = answer if isinstance(answer, tuple) else (answer,)
    for part in () if spared else parts:
        values = part.detach().numpy() if isinstance(part, torch.Tensor) and part.device.type == "cpu" else part
        if isinstance(values, float | np.ndarray) and np.asarray(values).dtype.kind == "f" and np.isnan(values).any():
            return "NaN in the answer"
    if (took := time.thread_time() - began) > ENDLESS:
        return f"{took:.1f} s"
    for key, value in kept.items():
        if contents(arguments[key]) != value:
            return f"{key} changed"
    return "" if state() == before else "the state of the process changed"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hostile_values(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAJLIB_RESULTS", raising=False)
    function, good = FUNCTIONS[name]
    fault(function, dict(good), True)  # imports what it needs
    if name != "load":
        assert fault(function, dict(good), name in NOT_FINITE) == ""
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
    assert len(FUNCTIONS) >= 120
    assert len(calls) >= 5000
