"""Every size and number that a profile changes; a notebook says `cfg = profile(PROFILE)` and nothing else."""

from dataclasses import dataclass
from typing import Any

TOKENIZER = {"steps": 5000, "lr": 1e-3, "muon": 0.02, "weight_decay": 0.0, "ema": 0.998, "bf16": True, "lines": 8}
# then more whole clips, a gentler start, and a loss of place: from tokens, only what the words say can be read
PLACE = TOKENIZER | {"steps": 1000, "lr": 3e-4, "muon": 0.006, "ema": 0.99, "lines": 4}
PLACE_LOSS = {"place": 0.5, "quiet": 3.0}
# more codes than the study's base for the dot, and a hush on paper: see 02
WORDS = {"levels": (7, 5, 5, 5, 5), "hush": 0.3}
TRANSFORMER = {"steps": 3400, "lr": 6e-3, "muon": 0.02, "ema": 0.99, "bf16": True, "lines": 8}
AUTOREGRESSIVE = TRANSFORMER | {"steps": 1400}
PLANNER = {"steps": 10000, "lr": 1e-3, "weight_decay": 0.0, "ema": 0.998, "bf16": False, "lines": 4}
WRITER = TRANSFORMER | {"lines": 4}
# Muon for all that read clips: with AdamW alone I3D is at chance after 300 steps, with Muon at 75 % after 240
CNN = {"steps": 800, "lr": 1e-3, "muon": 0.02, "ema": 0.98, "bf16": False, "lines": 4}
FRAMES = {"steps": 600, "lr": 2e-3, "ema": 0.98, "bf16": False, "lines": 2}
TOKEN_TRACKER = {"steps": 5000, "lr": 2e-3, "muon": 0.02, "ema": 0.99, "bf16": False, "lines": 4}
TOKEN_CLASSIFIER = {"steps": 3000, "lr": 2e-3, "muon": 0.02, "ema": 0.99, "bf16": False, "lines": 4}
TOKEN_CLASSIFIER |= {"weight_decay": 0.05}
# narrowed to half, so that some 70 runs take 25 minutes on two cores; `only` names the arms, none: all that need no net
ABLATION = {"steps": 140, "batch": 8, "seeds": (0, 1), "validation_clips": 128, "width": 0.5, "only": ()}
ABLATION |= {"tokenizer": {}, "recipe": TOKENIZER | {"steps": 5600}}  # the base: FSQ of 1,000 codes, no hush
COMMIT_STUDY = {"steps": 400, "clips": 4400, "test_clips": 200, "seeds": (0, 1)}
COMMIT_STUDY |= {"transformer": {"dim": 96, "depth": 4, "heads": 3}}
DAMAGE_STUDY = {"test_clips": 400}
# steps and batch for each kind of network; pixels see 4,800 clips a run. The sizes come in the order of their weight
CONTEST = {"clips": 6400, "sizes": (160, 1600, 6400, 40, 400), "seeds": (0, 1, 2, 3, 4), "versions": 2, "looks": 4}
CONTEST |= {"validation_clips": 200, "test_clips": 2000, "taught": {"steps": 500, "batch": 16}}
CONTEST |= {"steps": {"pixels": 300, "tokens": 1200, "trunk": 200}, "batch": {"pixels": 16, "tokens": 64, "trunk": 16}}
CONTEST |= {
    "recipes": {
        "plain": {"lr": 1e-3, "weight_decay": 0.0, "ema": 0.0, "bf16": False},
        "pixels": {"lr": 1e-3, "muon": 0.02, "weight_decay": 0.05, "ema": 0.98, "bf16": False},
        "tokens": {"lr": 2e-3, "muon": 0.02, "weight_decay": 0.05, "ema": 0.99, "bf16": False},
        "trunk": {"lr": 5e-4, "muon": 0.005, "weight_decay": 0.05, "ema": 0.98, "bf16": False},
    }
}
# a tokenizer of half the width in a quarter of the steps, a tracker in half of them; from the labelled clips or others
CONTEST |= {"pair": {"labels": (160,), "seeds": (0,), "width": 0.5, "tokenizer": 1200, "tracker": 2500, "clips": 7680}}
TINY_LAYERS = (("residual"), ("compress_space", 32), ("residual"), ("compress_space", 48), ("residual"))


@dataclass(frozen=True)
class Profile:
    """`full` makes the report; `smoke` is tiny in every size, checks the machinery and claims nothing about quality."""

    name: str
    seed: int = 0
    world_clips: int = 8000  # notebook 01: clips in the cheating test
    test_clips: int = 1000  # 03, 07: clips that every figure is measured on
    samples: int = 1000  # 06: generated clips, a quarter for each class
    sweep_samples: int = 24  # 06: generated clips for each setting that is tried
    hidden_clips: int = 48  # 06: test clips of which every task hides a part
    rival_samples: int = 1000  # 06: clips written one token after another
    finished_clips: int = 128  # 06_planning: test clips that are forecast and filled; 06 takes the first of them
    counted_clips: int = 1000  # 05: training clips whose tokens are counted
    priced_clips: int = 96  # 05: test clips whose tokens are paid for
    task_clips: int = 48  # 05: test clips, the first of those, that every task is asked about
    tokenizer: dict[str, Any] = None  # arguments of Tokenizer
    tokenizer_batch: int = 8  # clips in a step
    close_up_batch: int = 16  # clips in a step of close-ups, four films of each
    close_up_share: float = 0.6  # of the steps, the first ones
    validation_clips: int = 128  # 02: clips for looking inside
    overfit: dict[str, Any] = None  # 02: the little tokenizer that learns a handful of clips by heart
    overfit_clips: int = 2
    overfit_steps: int = 120
    lazy_clips: int = 200  # 03: clips for the decoders that cheat
    codec_clips: int = 50  # 03: clips that real codecs code, at every quality
    coded_clips: int = 12  # 03: of these, clips whose tokens are written as real bytes, one token after another
    explored_clips: int = 512  # 04: validation clips whose tokens are looked at
    surgeries: int = 48  # 04: tokens exchanged to measure how far one reaches
    usage_steps: int = 40  # 04: of the little tokenizer whose usage is watched
    ssim_clips: int = 100  # 03: clips for structural similarity, which is slow
    tokenizer_recipe: dict[str, Any] = None  # arguments of training.fit
    place_recipe: dict[str, Any] = None  # the same, of the tokenizer's last part
    place_loss: dict[str, Any] = None  # there, arguments of reconstruction_loss
    hue_weight: float = 10.0  # of errors in hue: with 1, rounding drops the hue and it does not come back
    ablation: dict[str, Any] = None  # budget of every arm of `trajlib.ablations`
    transformer: dict[str, Any] = None
    commit_study: dict[str, Any] = None  # budget of every arm of `trajlib.commit_study`
    damage_study: dict[str, Any] = None  # budget of `trajlib.damage_study`
    generation_share: float = 0.3  # of the transformer's examples come without a condition
    transformer_clips: int = 12000  # clips whose tokens the transformer is trained on
    transformer_batch: int = 32
    transformer_recipe: dict[str, Any] = None
    autoregressive: dict[str, Any] = None  # trained on as many clips, in batches as large
    autoregressive_recipe: dict[str, Any] = None
    planner: dict[str, Any] = None
    planner_clips: int = 24000  # 06_planning: labelled clips, of which it is told the path that is seen
    planner_batch: int = 512
    planner_recipe: dict[str, Any] = None
    writer: dict[str, Any] = None  # trained in batches as large as the transformer
    writer_clips: int = 24000  # 06_planning: clips without labels, whose tokens and paths it is told
    writer_recipe: dict[str, Any] = None
    labelled_clips: int = 1600  # 07: clips with labels
    versions: int = 6  # 07: flipped, reversed, recoloured versions of each that both contenders see
    cnn_batch: int = 16
    cnn_recipe: dict[str, Any] = None
    i3d: dict[str, Any] = None
    i3d_recipe: dict[str, Any] = None
    frame_clips: int = 16  # 07: clips without labels in a step of the network that I3D is inflated from, 4 frames each
    frame_recipe: dict[str, Any] = None
    token_classifier: dict[str, Any] = None
    token_classifier_batch: int = 64
    token_classifier_recipe: dict[str, Any] = None
    tracker_clips: int = 24000  # 07: clips without labels, from which a reader learns to follow the dot in the tokens
    token_tracker: dict[str, Any] = None
    tracker_batch: int = 64
    tracker_recipe: dict[str, Any] = None
    contest: dict[str, Any] = None  # budget of every contender of `trajlib.contest`


PROFILES = {
    "full": Profile(
        "full",
        overfit={"dim": 32, "layers": TINY_LAYERS},
        tokenizer=WORDS,
        tokenizer_recipe=TOKENIZER,
        place_recipe=PLACE,
        place_loss=PLACE_LOSS,
        ablation=ABLATION,
        transformer={},
        commit_study=COMMIT_STUDY,
        damage_study=DAMAGE_STUDY,
        transformer_recipe=TRANSFORMER,
        autoregressive={},
        autoregressive_recipe=AUTOREGRESSIVE,
        planner={},
        planner_recipe=PLANNER,
        writer={},
        writer_recipe=WRITER,
        cnn_recipe=CNN,
        i3d={},
        i3d_recipe=CNN,  # I3D is to see what the 3D CNN sees; its step costs half as much
        frame_recipe=FRAMES,
        token_classifier={},
        token_classifier_recipe=TOKEN_CLASSIFIER,
        token_tracker={"dim": 64, "dropout": 0.0},
        tracker_recipe=TOKEN_TRACKER,
        contest=CONTEST,
    ),
    "smoke": Profile(
        "smoke",
        world_clips=400,
        test_clips=16,
        samples=8,
        sweep_samples=4,
        hidden_clips=8,
        rival_samples=8,
        finished_clips=8,
        counted_clips=16,
        priced_clips=16,
        task_clips=8,
        tokenizer={"dim": 16, "layers": TINY_LAYERS},
        validation_clips=16,
        overfit={"dim": 16, "layers": TINY_LAYERS},
        overfit_steps=20,
        lazy_clips=16,
        codec_clips=2,
        coded_clips=2,
        explored_clips=16,
        surgeries=4,
        usage_steps=4,
        ssim_clips=8,
        tokenizer_batch=4,
        close_up_batch=4,
        tokenizer_recipe=TOKENIZER | {"steps": 16, "lines": 2},
        place_recipe=PLACE | {"steps": 4, "lines": 1},
        place_loss=PLACE_LOSS,
        ablation=ABLATION
        | {"steps": 2, "batch": 2, "seeds": (0,), "validation_clips": 4, "width": 1, "only": ("base", "lfq_2x512")}
        | {"tokenizer": {"dim": 16, "layers": TINY_LAYERS}},
        transformer={"dim": 32, "depth": 2, "heads": 2},
        commit_study={"steps": 2, "clips": 16, "test_clips": 2, "seeds": (0,), "transformer": {"dim": 16, "depth": 1}},
        damage_study={"test_clips": 4},
        transformer_clips=32,
        transformer_batch=8,
        transformer_recipe=TRANSFORMER | {"steps": 16, "lines": 2},
        autoregressive={"dim": 32, "depth": 2, "heads": 2},
        autoregressive_recipe=AUTOREGRESSIVE | {"steps": 16, "lines": 2},
        planner={"dim": 32, "depth": 2},
        planner_clips=32,
        writer_clips=32,
        planner_batch=8,
        planner_recipe=PLANNER | {"steps": 16, "lines": 2},
        writer={"dim": 32, "depth": 2, "heads": 2},
        writer_recipe=WRITER | {"steps": 16, "lines": 2},
        labelled_clips=32,
        versions=2,
        cnn_batch=8,
        cnn_recipe=CNN | {"steps": 8, "lines": 2},
        i3d={"widths": (8, 16, 16, 16, 16), "slim": 4, "dim": 16},
        i3d_recipe=CNN | {"steps": 8, "lines": 2},
        frame_clips=4,
        frame_recipe=FRAMES | {"steps": 8, "lines": 2},
        token_classifier={"dim": 32, "depth": 1, "heads": 2},
        token_classifier_batch=8,
        token_classifier_recipe=TOKEN_CLASSIFIER | {"steps": 8, "lines": 2},
        tracker_clips=32,
        token_tracker={"dim": 32, "depth": 1, "heads": 2, "dropout": 0.0},
        tracker_batch=8,
        tracker_recipe=TOKEN_TRACKER | {"steps": 8, "lines": 2},
        contest=CONTEST
        | {"clips": 16, "sizes": (8, 16), "seeds": (0,), "versions": 2, "looks": 2, "validation_clips": 4}
        | {"test_clips": 12, "taught": {"steps": 2, "batch": 2}, "steps": dict.fromkeys(CONTEST["steps"], 2)}
        | {"batch": dict.fromkeys(CONTEST["batch"], 2)}
        | {"pair": {"labels": (8,), "seeds": (0,), "width": 1, "tokenizer": 2, "tracker": 2, "clips": 16}},
    ),
}


def profile(name):
    """The `Profile` called `name`, or a ValueError that lists the names."""
    if name not in PROFILES:
        raise ValueError(f"PROFILE is {name!r}; it must be one of {', '.join(map(repr, PROFILES))}.")
    return PROFILES[name]
