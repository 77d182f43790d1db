"""Datasets from outside: of another size, length and number of classes, and without classes, through the recipes."""

from dataclasses import replace

import pytest
import torch

from trajlib.data.clips import TrajectoryDataset
from trajlib.data.spec import VideoSpec
from trajlib.data.video_files import to_float
from trajlib.generation import joint_sampling
from trajlib.generation.sampling import complete, generate
from trajlib.zoo import joint_recipe, recipes
from trajlib.zoo.checkpoints import load
from trajlib.zoo.config import (
    RECIPES,
    ClassifierRecipe,
    JointRecipe,
    SequenceRecipe,
    TokenizerConfig,
    Train,
    TransformerConfig,
)

pytestmark = pytest.mark.slow


class Squares:
    """A grey square that moves right (class 0) or down (class 1). Ten videos, so that training repeats them."""

    def __init__(self, spec, num_classes):
        self.spec, self.num_classes = spec, num_classes

    def __len__(self):
        return 10

    def videos(self, indices):
        found = torch.full((len(indices), *self.spec.shape), 255, dtype=torch.uint8)
        for video, index in zip(found, indices, strict=True):
            for t in range(self.spec.frames):
                at = 2 + 2 * (t % (self.spec.size // 4)), 4 + index % 8
                x, y = at if index % 2 == 0 else at[::-1]
                video[:, t, y : y + 5, x : x + 5] = 90
        return found

    def labels(self, indices):
        assert self.num_classes, "labels of data without classes"
        return torch.tensor([i % 2 for i in indices])


TRAIN = Train(3, 2, 1e-3, bf16=False, log_lines=1)
LAYERS = ("residual", ("compress_space", 16), ("compress_space", 16))
READER = ClassifierRecipe(TRAIN, clips=8, augmentations=2, model={"dim": 16, "depth": 1, "heads": 2})


def tiny(patch=(2, 4, 4), quantizer=None):
    """Recipes that train each model for three steps."""
    full, sequence = RECIPES["smoke"], SequenceRecipe(TransformerConfig(16, 1, 2), TRAIN, clips=8)
    model = TokenizerConfig(quantizer or {"kind": "fsq", "levels": (4, 4)}, dim=8, layers=LAYERS, patch=patch)
    return replace(
        full, tokenizer=replace(full.tokenizer, model=model, train=TRAIN, position=TRAIN, crop_batch=2,
                                validation_clips=2),
        plain_transformer=sequence, transformer=JointRecipe(TransformerConfig(16, 1, 2), TRAIN, 2, 2, 2, 16, 8),
        autoregressive=sequence, token_classifier=READER,
        token_tracker=replace(READER, clips=8), simple_3dcnn=ClassifierRecipe(TRAIN, clips=8, augmentations=2),
        frames=ClassifierRecipe(TRAIN, clips=8), i3d=replace(full.i3d, train=TRAIN, clips=8),
    )  # fmt: skip


def test_another_size_length_and_number_of_classes(tmp_path):
    data, cfg = Squares(VideoSpec(8, 32), num_classes=2), tiny()
    tokenizer, card = recipes.tokenizer(tmp_path, cfg, data)
    assert (tokenizer.spec, tokenizer.token_shape) == (data.spec, (4, 2, 2))
    assert card["config"]["spec"] == {"frames": 8, "size": 32, "fps": 8}
    transformer, _ = recipes.plain_transformer(tmp_path, cfg, data)
    assert (transformer.num_classes, transformer.grid) == (2, (4, 2, 2))
    videos = to_float(data.videos(range(2)))
    tokens = generate(transformer, [0, 1], steps=2)
    assert tokenizer.decode(tokens).shape == videos.shape
    with pytest.raises(ValueError, match=r"the classes are 0 \.\. 1"):
        generate(transformer, [2])
    assert complete(transformer, tokenizer, videos, "CFP", labels=[0, 1], steps=2).shape == tokens.shape
    for recipe in (recipes.token_classifier, recipes.simple_3dcnn, recipes.i3d):
        classifier, _ = recipe(tmp_path, cfg, data)
        logits = classifier(tokens if recipe is recipes.token_classifier else videos)
        assert logits.shape == (2, 2)
    tracker, _ = recipes.token_tracker(tmp_path, cfg, data)
    assert tracker(tokens).shape == (2, 8, 3)
    assert recipes.autoregressive(tmp_path, cfg, data)[0].num_classes == 2
    assert torch.equal(load("tokenizer", tmp_path)[0].encode(videos), tokenizer.encode(videos))
    assert not list(tmp_path.glob("*.checkpoint"))


@pytest.mark.parametrize(
    ("spec", "patch", "quantizer", "shape"),
    [
        (VideoSpec(4, 32), (2, 4, 4), None, (2, 2, 2)),
        (VideoSpec(17, 32), (1, 4, 4), {"kind": "vq", "size": 16}, (17, 2, 2)),
        (VideoSpec(8, 48), (2, 4, 4), {"kind": "lfq", "bits": 3, "num_codebooks": 2}, (4, 3, 3, 2)),
    ],
)
def test_videos_without_classes(tmp_path, spec, patch, quantizer, shape):
    data, cfg = Squares(spec, num_classes=0), tiny(patch, quantizer)
    tokenizer, _ = recipes.tokenizer(tmp_path, cfg, data)
    transformer, _ = recipes.plain_transformer(tmp_path, cfg, data)
    assert tokenizer.token_shape == transformer.grid == shape
    assert transformer.num_classes == 0
    tokens = generate(transformer, n=2, steps=2)
    assert tokens.shape == (2, *shape)
    assert tokenizer.decode(tokens).shape == (2, *spec.shape)
    videos = to_float(data.videos(range(2)))
    assert complete(transformer, tokenizer, videos, "FP", steps=2).shape == tokens.shape
    with pytest.raises(ValueError, match="this transformer has no classes"):
        generate(transformer, [0, 1])
    assert recipes.autoregressive(tmp_path, cfg, data)[0].num_classes == 0


def test_trajectories_of_another_size_and_length(tmp_path):
    data = TrajectoryDataset(40, spec=VideoSpec(8, 32))
    model, _ = joint_recipe.transformer(tmp_path, tiny(), data)
    tokenizer, _ = load("tokenizer", tmp_path)
    tokens = joint_sampling.generate(model, [0, 1, 2, 3], seed=0)
    assert tokens.shape == (4, *tokenizer.token_shape) == (4, 4, 2, 2)
