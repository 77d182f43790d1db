"""How each shipped model is trained: one function a model; sizes and settings are in `config.py`.

tokenizer -> transformer (see joint_recipe.py)
         \\-> plain_transformer, autoregressive
         \\-> token_classifier, token_tracker        simple_3dcnn, i3d (pixels)

Every recipe has the same first arguments: `artifacts`, "shipped" or a folder, where the model is loaded from if it is
there, and saved otherwise; `profile`, a name in RECIPES or a `Recipes`; `data`, any `VideoDataset`, by default the
train split. It returns (model, card). A tokenizer's card states what is measured on `data.held_out`, a dataset of other
videos, if the data has one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import nn

from trajlib.classify.i3d import I3D, frame_loss, measure_frame
from trajlib.classify.readers import Simple3DCNN, TokenClassifier, TokenTracker, classification_loss, tracking_loss
from trajlib.data.clips import split
from trajlib.data.measure import track_centroid
from trajlib.data.spec import VideoDataset, VideoSpec
from trajlib.data.video_files import to_float
from trajlib.evaluate.metrics import foreground_psnr, psnr
from trajlib.generation.autoregressive import AutoregressiveTransformer, autoregressive_loss
from trajlib.generation.transformer import MaskedTransformer, commit_loss
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit
from trajlib.zoo import batches
from trajlib.zoo.checkpoints import TRAINED_ON, Card, folder, train_or_load
from trajlib.zoo.config import ClassifierRecipe, Recipes, Train, recipes_of
from trajlib.zoo.files import digest

Profile = str | Recipes
Built = tuple[nn.Module, Card]


@dataclass(frozen=True)
class Run:
    """What a recipe works with: the model's name, all settings and its own (`cfg`), where it is stored, the data."""

    name: str
    recipes: Recipes
    artifacts: str | Path
    data: VideoDataset
    callback: Callable | None
    began: float
    trained_on: dict[str, str] = field(default_factory=dict)  # {model that it needed: the sha256 of its weights}

    @property
    def cfg(self) -> Any:
        return getattr(self.recipes, self.name)

    def needs(self, recipe: Callable[..., Built]) -> Any:
        """The model of another recipe from the same artifacts, trained first if it is not there."""
        model, card = recipe(self.artifacts, self.recipes, self.data)
        self.trained_on[recipe.__name__] = card["sha256"]
        return model

    def build(self, cls: type[nn.Module], *args: Any, over: Tokenizer | None = None, **sizes: Any) -> Any:
        """A model with seeded weights; `over`: of this tokenizer's tokens."""
        torch.manual_seed(self.recipes.seed)
        given = () if over is None else (over.codebook_size, over.token_shape, over.levels)
        return cls(*given, *args, **sizes)

    def fit(
        self, model: nn.Module, loss_fn: Callable, batch_fn: Callable, data: str, part: str = "",
        train: Train | None = None,
    ) -> Built:  # fmt: skip
        """The trained model and its card's facts; `data`: what it was trained on, in words.

        A checkpoint stands next to the artifacts. `part`: one training of several, with settings of its own.
        The card's "curve" holds the means of each figure over at most twenty equal parts of the training, in order.
        """
        name, train = f"{self.name}{part}", train or self.cfg.train
        print(f"{name}: no trained one in {str(self.artifacts)!r}; training {train.steps} steps")
        model, history = fit(
            model, lambda m, b: loss_fn(m, *b), batch_fn, **train.options, seed=self.recipes.seed,
            checkpoint=folder(self.artifacts) / f"{name}.checkpoint", made_from=made_from(self.name, self.recipes),
            callback=self.callback,
        )  # fmt: skip
        last = {key: round(sum(v[-50:]) / len(v[-50:]), 4) for key, v in history.items()}
        curve = {key: [round(p.mean().item(), 4) for p in torch.tensor(v).chunk(20)] for key, v in history.items()}
        card = {"recipe": train.options | {"batch": train.batch}, "seed": self.recipes.seed, "data": data}
        card |= {"profile": self.recipes.name, "examples": train.steps * train.batch, "figures": last, "curve": curve}
        card |= {"minutes": round((time.time() - self.began) / 60, 1), "threads": torch.get_num_threads()}
        return model, card | {TRAINED_ON: self.trained_on}


def recipe(stored: torch.dtype) -> Callable[[Callable[[Run], Built]], Callable[..., Built]]:
    """Decorator: train(run) -> (model, card) becomes the recipe of that name, whose weights are stored as `stored`.

    `recipe.train` is the undecorated function, for a `Run` of another kind.
    """

    def of(train: Callable[[Run], Built]) -> Callable[..., Built]:
        name = train.__name__

        def train_unless_there(
            artifacts: str | Path = "shipped", profile: Profile = "full", data: VideoDataset | None = None,
            callback: Callable | None = None,
        ) -> Built:  # fmt: skip
            settings, data = recipes_of(profile), data or split("train")
            run = Run(name, settings, artifacts, data, callback, time.time())
            return train_or_load(name, artifacts, lambda: train(run), stored, made_from(name, settings, data))

        train_unless_there.__name__, train_unless_there.__doc__, train_unless_there.train = name, train.__doc__, train
        return train_unless_there

    return of


def made_from(name: str, recipes: Recipes, data: VideoDataset | None = None) -> str:
    """The digest of what a model is made from: its recipe, the seed and, if given, the data."""
    facts = [recipes.seed, getattr(recipes, name, None), recipes.frames if name == "i3d" else None]
    if data is not None:
        facts += [type(data).__qualname__, data if is_dataclass(data) else [len(data), data.spec, data.num_classes]]
    return digest(facts)


# ---- tokenizer ---------------------------------------------------------------------------------------------------


@recipe(torch.float16)
def tokenizer(run):
    """The video tokenizer, from videos without labels.

    In two stages: colours and shapes, from crops and then whole clips; then the position of the dot, too.
    """
    return _train_tokenizer(run)


@recipe(torch.float16)
def tokenizer_lfq18(run):
    """A smaller tokenizer with MAGVIT-v2's quantizer: 2^18 codes without a table, as two codebooks of 512."""
    return _train_tokenizer(run)


def _train_tokenizer(run):
    cfg, batch = run.cfg, batches.tokenizer_batches(run.cfg, run.data)
    steps, crop_steps = cfg.train.steps, round(cfg.crop_share * cfg.train.steps)
    said = f"{crop_steps * cfg.crop_batch:,} clips as crops, then "
    said += f"{(steps - crop_steps) * cfg.train.batch + cfg.position.steps * cfg.position.batch:,} whole clips"
    model, held = run.build(Tokenizer, **vars(cfg.model), spec=run.data.spec), getattr(run.data, "held_out", None)
    model, first = run.fit(model, tokenizer_loss(chroma_weight=cfg.chroma_weight), batch, said)
    first_stage = tokenizer_figures(model, cfg.validation_clips, held)
    weights = {"position_weight": cfg.position_weight, "quantizer_weight": cfg.quantizer_weight}
    loss = tokenizer_loss(chroma_weight=cfg.chroma_weight, **weights)
    model, card = run.fit(model, loss, lambda step: batch(steps + step), said, ".position", cfg.position)
    model.half().float()  # measured as it will be stored
    card |= {"recipe": cfg.train.options, "position stage": cfg.position.options | weights}
    card |= {"first stage": first_stage, "first stage curve": first["curve"], "chroma_weight": cfg.chroma_weight}
    return model, card | {"figures": card["figures"] | tokenizer_figures(model, cfg.validation_clips, held)}


def new_tokenizer(profile: Profile, spec: VideoSpec) -> Tokenizer:
    """An untrained tokenizer of the profile's size for videos of this spec."""
    return Tokenizer(**vars(recipes_of(profile).tokenizer.model), spec=spec)


def tokenizer_loss(**weights: float) -> Callable:
    """loss_fn(model, videos) with these weights of `reconstruction_loss`."""

    def loss(model, videos):
        recon, _, quantizer_loss = model(videos)
        return reconstruction_loss(recon, videos, quantizer_loss, **weights)

    return loss


def tokenizer_figures(model: Tokenizer, n: int, held_out: VideoDataset | None = None) -> dict[str, float]:
    """{figure: value} on the first `n` videos of `held_out`: what a card states, and a test measures again.

    None: on the course's validation clips. PSNR in dB, means over videos; position error in px, median over frames.
    """
    data = split("validation", n, spec=model.spec) if held_out is None else held_out

    def figures(videos: torch.Tensor, _: range) -> list[torch.Tensor]:
        recon = model.reconstruct(videos)
        distance = (track_centroid(recon)[0] - track_centroid(videos)[0]).norm(dim=-1)
        return [psnr(videos, recon), foreground_psnr(videos, recon), psnr(videos, torch.ones_like(videos)), distance]

    *means, distance = batches.encode(data, min(n, len(data)), figures)
    found = {"psnr": means[0].mean(), "foreground psnr": means[1].mean(), "blank psnr": means[2].mean()}
    found["position error"] = distance.nan_to_num(float(model.spec.size)).median()
    return {f"validation {name}": round(value.item(), 3) for name, value in found.items()}


# ---- transformers over tokens ------------------------------------------------------------------------------------


@recipe(torch.float16)
def plain_transformer(run):
    """MAGVIT's masked transformer for all of COMMIT's tasks, on tokens alone: the comparison with `joint_recipe`."""
    cfg, tokens_of = run.cfg, run.needs(tokenizer)
    examples = batches.encode_conditions(tokens_of, run.data, cfg.clips)
    model = run.build(MaskedTransformer, run.data.num_classes, over=tokens_of, **vars(cfg.model))
    model.init_output_bias(examples[0])
    batch = batches.commit_batches(examples, tokens_of, cfg.train.batch, cfg.generation_share, run.recipes.seed)
    return run.fit(model, commit_loss, batch, f"tokens of {cfg.clips:,} clips, each with one condition")


@recipe(torch.int8)
def autoregressive(run):
    """The autoregressive baseline, on the tokens of as many clips."""
    cfg, tokens_of = run.cfg, run.needs(tokenizer)
    examples = batches.encode_videos(tokens_of, run.data, cfg.clips), batches.labels_of(run.data, range(cfg.clips))
    model = run.build(AutoregressiveTransformer, run.data.num_classes, over=tokens_of, **vars(cfg.model))
    model.init_output_bias(examples[0])
    batch = batches.shuffled_batches(examples, cfg.train.batch, run.recipes.seed)
    return run.fit(model, autoregressive_loss, batch, f"tokens of {cfg.clips:,} clips")


# ---- classifiers -------------------------------------------------------------------------------------------------


def _pixel_loss(model, videos, labels):
    return classification_loss(model, to_float(videos), labels)


def _labelled(cfg: ClassifierRecipe) -> str:
    return f"{cfg.clips:,} labelled clips, each in {cfg.augmentations} augmentations"


@recipe(torch.int8)
def simple_3dcnn(run):
    """The 3D CNN, on labelled pixels."""
    model = run.build(Simple3DCNN, run.data.spec, run.data.num_classes)
    batch = batches.labelled_batches(run.cfg, run.data, run.recipes.seed)
    return run.fit(model, _pixel_loss, batch, _labelled(run.cfg))


@recipe(torch.int8)
def i3d(run):
    """I3D, on the same labelled pixels as the 3D CNN.

    A network of single frames, which is not kept, learns position, size and colour of the dot from clips without
    labels, and is inflated; the card's "frames" has its figures.
    """
    data, cfg, train = run.data, run.cfg, run.recipes.frames.train

    def frame_batch(step):
        videos = data.videos(batches.epoch_indices(data, range(step * train.batch, (step + 1) * train.batch)))
        frames = to_float(rearrange(videos[:, :, step % 4 :: 4], "b c t h w -> (b t) c 1 h w"))
        return [frames, measure_frame(frames)]

    run.build(I3D, data.num_classes, spec=data.spec, **cfg.model)  # the shipped weights' frames start after its draws
    flat = I3D(6, replace(data.spec, frames=1), **cfg.model)
    flat, facts = run.fit(flat, frame_loss, frame_batch, "clips without labels", ".frames", train)
    torch.manual_seed(run.recipes.seed)
    model = flat.inflated(data.spec.frames).with_head(data.num_classes)
    batch = batches.labelled_batches(cfg, data, run.recipes.seed)
    model, card = run.fit(model, _pixel_loss, batch, f"frames of clips without labels, then {_labelled(cfg)}")
    return model, card | {"frames": facts}


@recipe(torch.int8)
def token_classifier(run):
    """The token classifier, on the tokens of the same clips in the same augmentations."""
    cfg, tokens_of = run.cfg, run.needs(tokenizer)
    examples = batches.encode_augmented(tokens_of, run.data, cfg, run.recipes.seed)
    model = run.build(TokenClassifier, run.data.num_classes, over=tokens_of, **cfg.model)
    batch = batches.shuffled_batches(examples, cfg.train.batch, run.recipes.seed)
    return run.fit(model, classification_loss, batch, f"tokens of {_labelled(cfg)}")


@recipe(torch.float16)
def token_tracker(run):
    """The tracker that learnt without labels to read the dot's position from tokens."""
    cfg, tokens_of = run.cfg, run.needs(tokenizer)
    examples = batches.encode_tracks(tokens_of, run.data, cfg.clips)
    model = run.build(TokenTracker, over=tokens_of, spec=run.data.spec, **cfg.model)
    batch = batches.shuffled_batches(examples, cfg.train.batch, run.recipes.seed)
    return run.fit(model, tracking_loss, batch, f"tokens of {cfg.clips:,} clips without labels")
