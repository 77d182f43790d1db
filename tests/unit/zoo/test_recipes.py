"""Recipes and their configuration: what is trained on what, in which stages; wrong settings fail when built."""

import inspect
import shutil
from dataclasses import fields, replace

import pytest
import torch

from trajlib.classify.i3d import I3D
from trajlib.classify.readers import TokenClassifier, TokenTracker
from trajlib.data.clips import TrajectoryDataset, VideoSpec, split
from trajlib.data.video_files import to_float
from trajlib.evaluate.metrics import psnr
from trajlib.generation.transformer import MaskedTransformer
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints, recipes
from trajlib.zoo.batches import tokenizer_batches
from trajlib.zoo.checkpoints import ArtifactError
from trajlib.zoo.config import RECIPES, ClassifierRecipe, Train, TransformerConfig, recipes_of


@pytest.mark.parametrize("name", RECIPES)
def test_every_profile_builds_its_models(name):
    cfg = RECIPES[name]
    tokenizer = recipes.new_tokenizer(name, VideoSpec())
    assert tokenizer.grid == (8, 4, 4)
    assert tokenizer.cell[:2] == cfg.tokenizer.model.cell
    sizes = tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels
    model = MaskedTransformer(*sizes, **vars(cfg.plain_transformer.model))
    assert sum(p.numel() for p in model.parameters()) <= 6e6
    TokenClassifier(*sizes, **cfg.token_classifier.model)
    TokenTracker(*sizes, **cfg.token_tracker.model)
    I3D(**cfg.i3d.model)


def recipe_parts(cfg):
    return [getattr(cfg, f.name) for f in fields(cfg) if hasattr(getattr(cfg, f.name), "train")]


def test_the_loop_takes_every_training_setting():
    accepted = set(inspect.signature(fit).parameters)
    for cfg in RECIPES.values():
        for part in recipe_parts(cfg):
            assert set(part.train.options) <= accepted


def test_smoke_is_nowhere_larger_than_full():
    for full, smoke in zip(*(recipe_parts(RECIPES[name]) for name in ("full", "smoke")), strict=True):
        assert (smoke.train.steps, smoke.train.batch) <= (full.train.steps, full.train.batch)
        if hasattr(full, "clips"):
            assert smoke.clips <= full.clips


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Train(0, 8, 1e-3), "steps is 0; a whole number from 1 was expected"),
        (lambda: Train(10, 2.5, 1e-3), "batch is 2.5"),
        (lambda: Train(10, 8, 0), "lr is 0; a finite number above 0, at most 1"),
        (lambda: Train(10, 8, 1e-3, muon=2), "muon is 2"),
        (lambda: Train(10, 8, 1e-3, ema=1.5), "ema is 1.5; a finite number from 0 to 1"),
        (lambda: TransformerConfig(32, 2, 3), "dim 32 does not divide into 3 heads"),
        (lambda: TransformerConfig(32, True, 2), "depth is True"),
        (lambda: ClassifierRecipe(Train(1, 1, 1e-3), augmentations=0), "augmentations is 0"),
        (lambda: replace(RECIPES["full"].tokenizer, crop_share=2), "crop_share is 2"),
        (lambda: replace(RECIPES["smoke"], seed=-1), r"^seed is -1; a whole number from 0 was expected\.$"),
        (lambda: replace(RECIPES["smoke"], seed="0"), "seed is '0'; a whole number"),
        (lambda: Train(4, 1, 0.1).shortened(0), "steps is 0; a whole number from 1"),
        (lambda: recipes_of("fast"), "PROFILE is 'fast'; it must be one of 'full', 'smoke'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(build, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", [Train, TransformerConfig, ClassifierRecipe])
def test_an_unknown_setting_is_refused(cls):
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepps'"):
        cls(stepps=3)


def test_a_shorter_training_averages_over_the_same_share():
    train = Train(1000, 8, 1e-3, ema=0.99).shortened(100)
    assert (train.steps, train.batch) == (100, 8)
    assert train.ema == pytest.approx(0.9)


def test_the_tokenizer_has_two_stages(monkeypatch, tmp_path):
    cfg, done, first_batches, data = RECIPES["smoke"].tokenizer, [], [], split("train")

    def fit(model, loss_fn, batch_fn, *, checkpoint, **options):
        done.append((checkpoint.stem, {name: options[name] for name in cfg.train.options}))
        first_batches.append(batch_fn(0)[0])
        return model, {}

    monkeypatch.setattr(recipes, "fit", fit)
    monkeypatch.setattr(recipes, "tokenizer_figures", lambda *_: {"stages": len(done)})
    _, card = recipes.tokenizer(tmp_path / "whole", "smoke")
    stages = [("tokenizer", cfg.train.options), ("tokenizer.position", cfg.position.options)]
    assert done == stages
    assert card["first stage"] == {"stages": 1}
    assert card["figures"] == {"stages": 2}
    assert torch.equal(first_batches[1], tokenizer_batches(cfg, data)(cfg.train.steps)[0])  # where stage one ended
    assert card["recipe"] == cfg.train.options
    weights = {"position_weight": cfg.position_weight, "quantizer_weight": cfg.quantizer_weight}
    assert card["position stage"] == cfg.position.options | weights


def test_a_card_keeps_the_curve_of_its_training(monkeypatch, tmp_path):
    history = {"loss": [float(k) for k in range(45)], "accuracy": [0.12504] * 45}
    monkeypatch.setattr(recipes, "fit", lambda model, *args, **options: (model, history))
    _, card = recipes.simple_3dcnn(tmp_path, shorter())
    assert card["curve"]["loss"] == [float(k) for k in range(1, 45, 3)]  # means of three steps each
    assert card["curve"]["accuracy"] == [0.125] * 15
    assert card["figures"]["loss"] == 22.0


# ---- identity: what is loaded or resumed says what it was made from ----


def shorter(profile=RECIPES["smoke"], **train):
    cfg = profile.simple_3dcnn
    return replace(profile, simple_3dcnn=replace(cfg, clips=8, train=replace(cfg.train, steps=2, **train)))


@pytest.mark.parametrize(
    ("profile", "data"),
    [(shorter(lr=2e-3), None), (replace(shorter(), seed=1), None), (shorter(), TrajectoryDataset(64, seed=3))],
)
def test_a_model_of_another_recipe_seed_or_data_does_not_answer(tmp_path, profile, data):
    _, card = recipes.simple_3dcnn(tmp_path, shorter())
    assert recipes.simple_3dcnn(tmp_path, shorter())[1] == card
    with pytest.raises(ArtifactError, match=r"'simple_3dcnn' in .* was made by another recipe .*\(profile 'smoke'\)"):
        recipes.simple_3dcnn(tmp_path, profile, data)
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == []


@pytest.mark.parametrize("change", [{"batch": 4}, {"clips": 16}, {"augmentations": 1}])
def test_a_checkpoint_of_other_data_is_not_taken_up(tmp_path, monkeypatch, change):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            recipes.simple_3dcnn(tmp_path, shorter())
    before = (tmp_path / "simple_3dcnn.checkpoint").read_bytes()
    cfg = shorter().simple_3dcnn
    other = replace(cfg, train=replace(cfg.train, **change)) if "batch" in change else replace(cfg, **change)
    with pytest.raises(ValueError, match="was left by another training"):
        recipes.simple_3dcnn(tmp_path, replace(shorter(), simple_3dcnn=other))
    assert (tmp_path / "simple_3dcnn.checkpoint").read_bytes() == before


def test_a_model_next_to_another_tokenizer_is_refused(tmp_path):
    for file in ("token_tracker", "tokenizer"):
        for end in ("json", "safetensors"):
            shutil.copy(checkpoints.SHIPPED / f"{file}.{end}", tmp_path)
    assert checkpoints.load("token_tracker", tmp_path)[1]["trained on"]
    checkpoints.save(recipes.new_tokenizer("smoke", VideoSpec()), {}, "tokenizer", tmp_path)
    with pytest.raises(ArtifactError, match=r"'token_tracker' in .* was trained on another tokenizer"):
        checkpoints.load("token_tracker", tmp_path)


def test_a_tokenizer_that_is_killed_at_any_moment_loses_no_training(tmp_path, monkeypatch):
    """Between its stages, before the second's first checkpoint, while it is measured: no step is made twice."""
    data, whole = TrajectoryDataset(64), recipes.tokenizer(tmp_path / "whole", "smoke", TrajectoryDataset(64))[1]
    figures, fit_once, steps, kills = recipes.tokenizer_figures, recipes.fit, [], iter([1, 0, 1, 0, 0])
    cfg = RECIPES["smoke"].tokenizer

    def counted(model, loss_fn, *args, **kwargs):
        def loss(*batch):
            steps.append(1)
            return loss_fn(*batch)

        return fit_once(model, loss, *args, **kwargs)

    def killed(*args):
        if next(kills):
            raise KeyboardInterrupt
        return figures(*args)

    monkeypatch.setattr(recipes, "fit", counted)
    monkeypatch.setattr(recipes, "tokenizer_figures", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            recipes.tokenizer(tmp_path / "killed", "smoke", data)
    card = recipes.tokenizer(tmp_path / "killed", "smoke", data)[1]
    assert card["sha256"] == whole["sha256"]
    assert len(steps) == cfg.train.steps + cfg.position.steps
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [
        ".tokenizer.json.lock", "tokenizer.json", "tokenizer.safetensors"]  # fmt: skip


def test_the_frames_of_i3d_come_without_labels_and_none_of_a_clip_comes_twice(monkeypatch, tmp_path):
    caught = {}

    class Enough(Exception):
        pass

    def fit(model, loss_fn, batch_fn, *, checkpoint, **options):
        caught[checkpoint.stem] = batch_fn
        raise Enough

    monkeypatch.setattr(recipes, "fit", fit)
    data = TrajectoryDataset(40)
    with pytest.raises(Enough):
        recipes.i3d(tmp_path, "smoke", data)
    assert list(caught) == ["i3d.frames"]
    size = RECIPES["smoke"].frames.train.batch
    for step in range(3):
        frames, dots = caught["i3d.frames"](step)
        clips = data.batch(range(step * size, (step + 1) * size))
        assert torch.equal(frames, to_float(clips.videos[:, :, step::4].transpose(1, 2).flatten(0, 1)[:, :, None]))
        assert (dots[:, :2] - clips.paths[:, step::4].flatten(0, 1)).norm(dim=1).max() < 0.1


class Few:
    """The first clips of a split, as videos without labels."""

    spec, num_classes = VideoSpec(16, 64), 0

    def __init__(self, name, size):
        self.clips = split(name, size)

    def __len__(self):
        return len(self.clips)

    def videos(self, indices):
        return self.clips.videos(indices)


def test_a_tokenizers_card_is_measured_on_what_the_data_holds_out(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "fit", lambda model, *args, **options: (model, {}))
    data = Few("train", 8)
    data.held_out = Few("test", 3)
    model, card = recipes.tokenizer(tmp_path, "smoke", data=data)
    videos = to_float(data.held_out.videos(range(3)))
    assert card["figures"]["validation psnr"] == pytest.approx(
        psnr(videos, model.reconstruct(videos)).mean().item(), abs=1e-3
    )
    assert card["figures"] == recipes.tokenizer_figures(model, 16, data.held_out)
    assert card["figures"] != recipes.tokenizer_figures(model, 16)  # the course's validation clips
