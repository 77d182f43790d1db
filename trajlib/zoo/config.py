"""Sizes and training settings of every shipped model: one dataclass a model, checked when built.

RECIPES["full"] made the shipped weights. RECIPES["smoke"] is tiny in every size: it checks that everything runs, and
says nothing about quality.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

from trajlib.data.spec import check_number
from trajlib.tokenizer.video_tokenizer import FSQ_1000, LAYERS

Share = Annotated[float, "from 0 to 1"]
Rate = Annotated[float, "above 0, at most 1"]


class Checked:
    """Base of these dataclasses. ValueError unless an `int` is at least 1, a `Share` from 0 to 1, a `Rate` above 0."""

    def __post_init__(self) -> None:
        for part in fields(self):  # type: ignore[arg-type]  # of the dataclasses below
            value = getattr(self, part.name)
            if part.type is int:
                check_number(part.name, value, 1, whole=True)
            if part.type in (Share, Rate, Rate | None) and value is not None:
                check_number(part.name, value, 0, 1, above=part.type is not Share)


@dataclass(frozen=True)
class Train(Checked):
    """How a model is trained: see `trajlib.training.loop.fit`. ValueError for values out of range."""

    steps: int
    batch: int
    lr: Rate  # AdamW's peak learning rate
    muon: Rate | None = None  # Muon's peak learning rate, for the layers' matrices; None: AdamW for all
    ema: Share = 0.99  # decay of the averaged weights
    weight_decay: Share = 0.01
    bf16: bool = True  # compute in bfloat16 where that is fast
    log_lines: int = 8  # lines that a training prints

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `fit`."""
        return {name: value for name, value in asdict(self).items() if name != "batch"}

    def shortened(self, steps: int) -> "Train":
        """The same in another number of steps; the average reaches back over the same share of them."""
        check_number("steps", steps, 1, whole=True)
        return replace(self, steps=steps, ema=max(0.0, 1 - (1 - self.ema) * self.steps / steps))


@dataclass(frozen=True)
class TokenizerConfig(Checked):
    """Arguments of `Tokenizer`, but for the videos' spec, which comes from the data."""

    quantizer: Mapping[str, Any] = field(default_factory=lambda: FSQ_1000)
    dim: int = 64
    layers: Sequence[Any] = LAYERS
    patch: tuple[int, int, int] = (2, 4, 4)

    @property
    def cell(self) -> tuple[int, int]:
        """Frames and pixels along a side of one token."""
        kinds = [layer if isinstance(layer, str) else layer[0] for layer in self.layers]
        return self.patch[0] * 2 ** kinds.count("compress_time"), self.patch[1] * 2 ** kinds.count("compress_space")


@dataclass(frozen=True)
class TransformerConfig(Checked):
    """Width, depth and heads of a transformer."""

    dim: int = 160
    depth: int = 6
    heads: int = 5
    dropout: Share = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} does not divide into {self.heads} heads.")


@dataclass(frozen=True)
class TokenizerRecipe(Checked):
    """Stage one: crops about the foreground for a share of the steps, then whole clips. Stage two: position, too."""

    model: TokenizerConfig
    train: Train  # stage one
    position: Train  # stage two, on whole clips
    crop_batch: int = 16  # clips a step of crops, four crops each
    crop_share: Share = 0.6  # of stage one's steps; 0 where there is no background
    chroma_weight: float = 10.0  # with 1, rounding drops the hue and it does not come back
    position_weight: float = 0.5  # stage two
    quantizer_weight: float = 3.0  # stage two
    validation_clips: int = 128  # for the card's figures


@dataclass(frozen=True)
class SequenceRecipe(Checked):
    """A transformer over the tokens of so many clips."""

    model: TransformerConfig
    train: Train
    clips: int = 12000
    generation_share: Share = 0.3  # of the examples come without a condition (the masked transformer's)


@dataclass(frozen=True)
class JointRecipe(Checked):
    """The masked transformer with trajectory tokens: `train.batch` trajectories of a class in a step, and these."""

    model: TransformerConfig
    train: Train
    observed_batch: int = 48  # trajectories given what a task observes
    video_batch: int = 24  # clips' tokens given their trajectory
    commit_batch: int = 4  # clips with a condition, without a trajectory
    tracks: int = 240000
    clips: int = 24000
    generation_share: Share = 0.3  # of the last, without a condition


@dataclass(frozen=True)
class LanguageRecipe(Checked):
    """Sentences in the joint transformer: `train.batch` sentences given a trajectory in a step, and these."""

    train: Train
    rank: int = 24  # of the adapters
    clip_batch: int = 24  # sentences given a clip's tokens
    sample_batch: int = 40  # trajectories given a sentence
    video_batch: int = 12  # clips' tokens given trajectory and sentence
    positions: int = 32  # of a clip, the nearest to the dot
    asked: float = 0.3  # share of the sentences that are a question with its answer
    tracks: int = 60000
    clips: int = 10000


@dataclass(frozen=True)
class ClassifierRecipe(Checked):
    """A classifier: labelled clips, each in so many augmentations; `model` are further arguments of its class."""

    train: Train
    clips: int = 1600
    augmentations: int = 6
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipes:
    """All recipes of a profile. ValueError unless the seed is a whole number from 0."""

    name: str
    tokenizer: TokenizerRecipe
    transformer: JointRecipe
    plain_transformer: SequenceRecipe
    autoregressive: SequenceRecipe
    simple_3dcnn: ClassifierRecipe
    frames: ClassifierRecipe  # the network of single frames that I3D is inflated from; without labels
    i3d: ClassifierRecipe
    token_classifier: ClassifierRecipe
    token_tracker: ClassifierRecipe  # without labels, no augmentations
    language: LanguageRecipe
    tokenizer_lfq18: TokenizerRecipe
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("seed", self.seed, 0, whole=True)


_SEQUENCE = Train(3400, 32, 6e-3, muon=0.02)
_CNN = Train(800, 16, 1e-3, muon=0.02, ema=0.98, bf16=False, log_lines=4)  # AdamW alone leaves I3D at chance
_READER = Train(3000, 64, 2e-3, muon=0.02, weight_decay=0.05, bf16=False, log_lines=4)
_TRACKER = replace(_READER, steps=5000, weight_decay=0.01)
_TOKENIZER = Train(5000, 8, 1e-3, muon=0.02, ema=0.998, weight_decay=0.0)
_POSITION = Train(1000, 8, 3e-4, muon=0.006, weight_decay=0.0, log_lines=4)
_LANGUAGE = Train(3000, 48, 0.01, muon=0.01, ema=0.99, weight_decay=0.0)
LFQ_2_18 = {"kind": "lfq", "bits": 9, "num_codebooks": 2, "anneal_steps": 1000}
HALF_LAYERS = tuple((kind, size if "residual" in kind else size // 2) for kind, size in LAYERS)
FSQ_4375 = {"kind": "fsq", "levels": (7, 5, 5, 5, 5), "background_code_weight": 0.3}
TINY_LAYERS = (("residual"), ("compress_space", 32), ("residual"), ("compress_space", 48), ("residual"))
TINY_TOKENIZER, _TINY_LFQ = (TokenizerConfig(q, 16, TINY_LAYERS) for q in (FSQ_1000, LFQ_2_18))
_TINY = TransformerConfig(32, 2, 2)
_TINY_READER = {"dim": 32, "depth": 1, "heads": 2}


def half_width(quantizer: Mapping[str, Any], weight: float = 1.0) -> TokenizerRecipe:
    """A tokenizer of half the width, in two thirds of the steps: at this size quantizers are compared."""
    model, train = TokenizerConfig(quantizer, 32, HALF_LAYERS), replace(_TOKENIZER, steps=3400)
    return TokenizerRecipe(model, train, replace(_POSITION, steps=600), quantizer_weight=weight)


def _tiny(train: Train, batch: int, steps: int = 16, lines: int = 2) -> Train:
    return replace(train, steps=steps, batch=batch, log_lines=lines)


_TINY_STAGES = _tiny(_TOKENIZER, 4), _tiny(_POSITION, 4, 4, 1)
_TINY_TOKENIZER_RECIPE = TokenizerRecipe(TINY_TOKENIZER, *_TINY_STAGES, crop_batch=4, validation_clips=16)
RECIPES = {
    "full": Recipes(
        "full",
        tokenizer=TokenizerRecipe(TokenizerConfig(FSQ_4375), _TOKENIZER, _POSITION),
        transformer=JointRecipe(TransformerConfig(128, 4, 4), Train(4000, 64, 3e-3, muon=0.02, ema=0.995)),
        plain_transformer=SequenceRecipe(TransformerConfig(), _SEQUENCE),
        autoregressive=SequenceRecipe(TransformerConfig(), replace(_SEQUENCE, steps=1400)),
        simple_3dcnn=ClassifierRecipe(_CNN),
        frames=ClassifierRecipe(Train(600, 16, 2e-3, ema=0.98, bf16=False, log_lines=2)),
        i3d=ClassifierRecipe(_CNN),
        token_classifier=ClassifierRecipe(_READER),
        token_tracker=ClassifierRecipe(_TRACKER, clips=24000, model={"dim": 64, "dropout": 0.0}),
        language=LanguageRecipe(_LANGUAGE),
        tokenizer_lfq18=half_width(LFQ_2_18),
    ),
    "smoke": Recipes(
        "smoke",
        tokenizer=_TINY_TOKENIZER_RECIPE,
        transformer=JointRecipe(_TINY, _tiny(_SEQUENCE, 8), 8, 8, 4, tracks=64, clips=32),
        plain_transformer=SequenceRecipe(_TINY, _tiny(_SEQUENCE, 8), clips=32),
        autoregressive=SequenceRecipe(_TINY, _tiny(_SEQUENCE, 8), clips=32),
        simple_3dcnn=ClassifierRecipe(_tiny(_CNN, 8, 8), clips=32, augmentations=2),
        frames=ClassifierRecipe(_tiny(Train(600, 4, 2e-3, ema=0.98, bf16=False), 4, 8)),
        i3d=ClassifierRecipe(_tiny(_CNN, 8, 8), 32, 2, {"widths": (8, 16, 16, 16, 16), "slim": 4, "dim": 16}),
        token_classifier=ClassifierRecipe(_tiny(_READER, 8, 8), 32, 2, _TINY_READER),
        token_tracker=ClassifierRecipe(_tiny(_READER, 8, 8), 32, model=_TINY_READER | {"dropout": 0.0}),
        language=LanguageRecipe(_tiny(_LANGUAGE, 6), 4, 6, 4, 4, 8, tracks=64, clips=32),
        tokenizer_lfq18=replace(_TINY_TOKENIZER_RECIPE, model=_TINY_LFQ, quantizer_weight=1.0),
    ),
}


def recipes_of(profile: "str | Recipes") -> Recipes:
    """The `Recipes` called `profile`, or those that were passed; ValueError lists the names."""
    if not isinstance(profile, Recipes) and profile not in list(RECIPES):
        raise ValueError(f"PROFILE is {profile!r}; it must be one of {', '.join(map(repr, RECIPES))}.")
    return profile if isinstance(profile, Recipes) else RECIPES[profile]
