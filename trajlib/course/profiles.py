"""The sizes of each notebook: `cfg = settings("03", PROFILE)`, and nothing else in a cell depends on the profile.

`full` makes the report. `smoke` is tiny in every size: it checks that everything runs, and its figures mean nothing.
The sizes of models and of their training are in `trajlib.zoo.config`.
"""

import ast
import os
from dataclasses import dataclass, fields

import torch
from IPython import get_ipython

from trajlib.course.options import DEFAULTS, SMOKE_SHIPPED, UsageError
from trajlib.zoo.checkpoints import is_shipped

LAYERS = ("residual", ("compress_space", 32), "residual", ("compress_space", 48), "residual")  # of a toy tokenizer


@dataclass(frozen=True)
class Settings:
    """What every notebook has. ValueError, when built, unless each count is a whole number above 0."""

    seed: int = 0

    def __post_init__(self):
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "seed" else 1
            if field.name == "layers":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                kind = type(self).__name__
                raise ValueError(
                    f"{field.name} of {kind} is {value!r}: a whole number of {least} or more was expected."
                )


@dataclass(frozen=True)
class StartHere(Settings):
    test_clips: int = 1000  # the clip that is shown is one of them


@dataclass(frozen=True)
class DataGeneration(Settings):
    clips: int = 8000  # of the shortcut test, half of them for training its classifiers


@dataclass(frozen=True)
class TokenizerTraining(Settings):
    validation_clips: int = 64  # for looking inside
    overfit_clips: int = 2  # whose crops a toy tokenizer learns by heart
    overfit_steps: int = 120
    dim: int = 32  # of the toy tokenizer
    layers: tuple = LAYERS
    ablation_steps: int = 140  # of the variant that is trained again, as many as in the study
    ablation_clips: int = 128  # validation clips that it is measured on, as many as in the study


@dataclass(frozen=True)
class ReconstructionAnalysis(Settings):
    test_clips: int = 1000  # that every figure is measured on
    baseline_clips: int = 200  # for decoders that cheat
    ssim_clips: int = 40  # for structural similarity, which is slow
    refined_clips: int = 8  # for the gradient search, of those of its study
    codec_clips: int = 10  # of the study's clips, that are compressed again
    bitstream_clips: int = 4  # of these, whose tokens are written as bytes, one token after another


@dataclass(frozen=True)
class CodebookExplorer(Settings):
    clips: int = 512  # validation clips whose tokens are counted
    replaced_tokens: int = 48  # exchanged one at a time to measure how far one reaches
    usage_steps: int = 40  # of a toy tokenizer whose codebook usage is plotted
    dim: int = 32  # of the toy tokenizer
    layers: tuple = LAYERS


@dataclass(frozen=True)
class MaskedTransformerNotebook(Settings):
    validation_clips: int = 128
    unigram_clips: int = 1000  # training clips whose tokens are counted for the unigram baseline
    test_clips: int = 96  # whose masked tokens are predicted
    task_clips: int = 48  # the first of those, in all ten tasks


@dataclass(frozen=True)
class Generation(Settings):
    validation_clips: int = 64  # what is normal in real clips, and what their tokens cost
    tracks: int = 512  # training trajectories whose coefficients are kept or rounded
    trajectories: int = 400  # sampled without a video
    samples: int = 48  # a quarter for each class, next to the study's 1,000
    ar_samples: int = 24  # of the generators that take longer


@dataclass(frozen=True)
class ConditionalTasks(Settings):
    tracks: int = 4000  # training trajectories of the linear-Gaussian answer
    test_clips: int = 16  # whose trajectories are completed, in 16 draws each


@dataclass(frozen=True)
class Classification(Settings):
    labelled_clips: int = 1600
    validation_clips: int = 128
    test_clips: int = 1000


@dataclass(frozen=True)
class EquationsOfMotion(Settings):
    labelled_clips: int = 400  # whose parameters ridge regression learns
    test_clips: int = 1000


@dataclass(frozen=True)
class Language(Settings):
    test_clips: int = 64  # that are read here, next to the study's 1,000
    live_steps: int = 60  # of a training that is watched
    live_tracks: int = 400  # that it is trained on
    prompts: int = 8  # sentences that become clips here, next to the study's


@dataclass(frozen=True)
class OwnVideos(Settings):
    steps: int = 60  # of the tokenizer that is trained live: the shortest training of the study
    batch: int = 4  # windows a step, as in the study
    dim: int = 64  # its width, as in the study
    codec_windows: int = 16  # held-out windows that H.264 compresses
    transformer_steps: int = 10
    ball_frames: int = 200  # of the video of a ball
    tuning_steps: int = 10  # of the shipped tokenizer, on that video


@dataclass(frozen=True)
class Report(Settings):
    test_clips: int = 200  # whose geometry is checked


SETTINGS: dict[str, dict[str, Settings]] = {
    "00": {"full": StartHere(), "smoke": StartHere(test_clips=16)},
    "01": {"full": DataGeneration(), "smoke": DataGeneration(clips=400)},
    "02": {
        "full": TokenizerTraining(),
        "smoke": TokenizerTraining(validation_clips=16, overfit_steps=20, dim=16, ablation_steps=2, ablation_clips=4),
    },
    "03": {
        "full": ReconstructionAnalysis(),
        "smoke": ReconstructionAnalysis(
            test_clips=16, baseline_clips=16, ssim_clips=8, refined_clips=4, codec_clips=2, bitstream_clips=1
        ),
    },
    "04": {
        "full": CodebookExplorer(),
        "smoke": CodebookExplorer(clips=16, replaced_tokens=4, usage_steps=4, dim=16),
    },
    "05": {
        "full": MaskedTransformerNotebook(),
        "smoke": MaskedTransformerNotebook(validation_clips=16, unigram_clips=16, test_clips=16, task_clips=8),
    },
    "06": {
        "full": Generation(),
        "smoke": Generation(validation_clips=16, tracks=32, trajectories=16, samples=12, ar_samples=12),
    },
    "07": {
        "full": ConditionalTasks(),
        "smoke": ConditionalTasks(tracks=64, test_clips=4),
    },
    "08": {
        "full": Classification(),
        "smoke": Classification(labelled_clips=32, validation_clips=16, test_clips=16),
    },
    "09": {"full": EquationsOfMotion(), "smoke": EquationsOfMotion(labelled_clips=32, test_clips=16)},
    "10": {"full": Language(), "smoke": Language(test_clips=8, live_steps=4, live_tracks=32, prompts=4)},
    "11": {
        "full": OwnVideos(),
        "smoke": OwnVideos(steps=4, dim=8, codec_windows=1, transformer_steps=4, ball_frames=120, tuning_steps=4),
    },
    "12": {"full": Report(), "smoke": Report(test_clips=16)},
    "13": {"full": Settings(), "smoke": Settings()},  # it reads tables of studies
}


def settings(number: str, profile: str) -> Settings:
    """The sizes of notebook `number` ("03") in `profile` ("full" or "smoke"); ValueError for any other.

    In a notebook, UsageError unless its parameters are right, and one thread: see `limit_threads`.
    """
    if number not in SETTINGS:
        raise ValueError(f"There are no settings for notebook {number!r}; there are {', '.join(SETTINGS)}.")
    if profile not in SETTINGS[number]:
        raise ValueError(f"PROFILE is {profile!r}; it must be one of {', '.join(map(repr, SETTINGS[number]))}.")
    if shell := get_ipython():
        check_session(profile, shell.user_ns)
        limit_threads()
    return SETTINGS[number][profile]


def check_session(profile: str, names: dict) -> None:
    """UsageError if papermill injected another parameter, or `profile` is smoke with the shipped weights.

    `names` are the variables of the notebook. papermill takes any parameter, and a mistyped one changes nothing.
    """
    injected = [cell for cell in names.get("In", []) if cell.startswith("# Parameters\n")]  # as papermill writes it
    targets = [node.targets[0] for cell in injected for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
    wrong = sorted({ast.unparse(target) for target in targets} - DEFAULTS.keys())
    if wrong:
        raise UsageError(
            f"There is no parameter {', '.join(wrong)}: a notebook has {' and '.join(DEFAULTS)}, no other."
        )
    if profile == "smoke" and is_shipped(names.get("ARTIFACTS", "")):
        raise UsageError(SMOKE_SHIPPED)


def limit_threads() -> None:
    """Compute on one thread unless OMP_NUM_THREADS says otherwise.

    OpenMP's threads spin while they wait for each other. Where other programs take the cores, each of the many small
    operations then waits for the scheduler: minutes become hours. One thread waits for nobody.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
