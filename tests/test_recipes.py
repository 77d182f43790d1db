"""The recipes: which clips a model is shown, in which order, and that no other split is among them."""

import dataclasses
import inspect

import pytest
import torch

from trajlib import recipes
from trajlib.classifiers import TokenClassifier
from trajlib.config import PROFILES, profile
from trajlib.dataset import SEEDS, TrajectoryDataset
from trajlib.tokenizer import Tokenizer
from trajlib.training import fit
from trajlib.transformer import MaskedTransformer


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (12, 5), (12, 12)])
def test_a_pass_shows_no_example_twice(n, batch_size):
    """And all of them, where the batches divide them evenly; pairs stay pairs."""
    numbers = torch.arange(n)
    batch_fn = recipes.shuffled_batches((numbers, -numbers), batch_size, seed=0)
    per_pass = n // batch_size
    for turn in range(3):
        pairs = [batch_fn(step) for step in range(turn * per_pass, (turn + 1) * per_pass)]
        assert all(torch.equal(a, -b) for a, b in pairs)
        shown = torch.cat([a for a, _ in pairs]).tolist()
        assert len(shown) == len(set(shown)) == per_pass * batch_size
        assert set(shown) <= set(range(n))


def test_more_asked_than_there_is_gives_all():
    (batch,) = recipes.shuffled_batches((torch.arange(3),), 8, seed=0)(5)
    assert sorted(batch.tolist()) == [0, 1, 2]


def test_a_step_has_its_examples_whatever_came_before():
    first, again = (recipes.shuffled_batches((torch.arange(40),), 8, seed=1) for _ in range(2))
    one_by_one = [first(step)[0] for step in range(12)]
    assert torch.equal(again(11)[0], one_by_one[11])
    assert torch.equal(again(3)[0], one_by_one[3])
    other = recipes.shuffled_batches((torch.arange(40),), 8, seed=2)
    assert not torch.equal(other(0)[0], one_by_one[0])
    assert not torch.equal(torch.cat(one_by_one[:5]), torch.cat(one_by_one[5:10]))  # each pass in an order of its own


def test_the_worlds_share_no_clip():
    assert len(set(SEEDS.values())) == len(SEEDS) == 3
    worlds = [TrajectoryDataset(60, seed=seed) for seed in SEEDS.values()]
    videos = [clip.tobytes() for world in worlds for clip in (world[i].video for i in range(60))]
    assert len(set(videos)) == 180


class Codec:
    """Stands in for a tokenizer: each clip's token is its darkest value, and it notes how much came at once."""

    def __init__(self):
        self.sizes = []

    def encode(self, videos):
        self.sizes.append(len(videos))
        return (255 * videos.flatten(1).min(1).values).round().long()[:, None, None, None].expand(-1, 8, 4, 4)


def test_encode_world_gives_a_splits_clips_in_order():
    codec = Codec()
    tokens, labels = recipes.encode_world(codec, "validation", 10, batch_size=4)
    clips = TrajectoryDataset(10, seed=SEEDS["validation"]).batch()
    assert tokens.shape == (10, 8, 4, 4)
    assert codec.sizes == [4, 4, 2]
    assert torch.equal(labels, clips.labels)
    assert torch.equal(tokens[:, 0, 0, 0], clips.videos.flatten(1).amin(1).long())


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_builds_its_models_and_recipes(name):
    cfg = profile(name)
    codec = Tokenizer(**cfg.tokenizer)
    assert codec.grid == (8, 4, 4)
    MaskedTransformer(codec.codebook_size, codec.grid, **cfg.transformer)
    TokenClassifier(codec.config["levels"], codec.grid, **cfg.token_classifier)
    takes = set(inspect.signature(fit).parameters)
    for recipe in (f.name for f in dataclasses.fields(cfg) if f.name.endswith("_recipe")):
        assert {"steps", "lr"} <= set(getattr(cfg, recipe)) <= takes, recipe


def test_smoke_is_nowhere_larger_than_full():
    full, smoke = profile("full"), profile("smoke")
    sizes = [f.name for f in dataclasses.fields(full) if isinstance(getattr(full, f.name), int) and f.name != "seed"]
    assert all(getattr(smoke, size) <= getattr(full, size) for size in sizes)
