"""The recipes: which clips a model is shown, in which order, and that no other split is among them."""

import dataclasses
import inspect

import pytest
import torch

from trajlib import physics, pretrained, recipes
from trajlib.classifiers import TokenClassifier, TokenTracker
from trajlib.config import PROFILES, profile
from trajlib.dataset import SEEDS, VERSIONS, TrajectoryDataset, close_ups, to_float, version
from trajlib.i3d import I3D
from trajlib.metrics import follow_dot
from trajlib.sampling import generate
from trajlib.tasks import NUMBERS, TASKS, condition, given_tokens
from trajlib.tokenizer import Tokenizer
from trajlib.training import fit, quick
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


def test_the_versions_of_a_clip_are_96_others_with_the_same_pixels():
    video = torch.from_numpy(TrajectoryDataset(3)[2].video)
    versions = [version(video, number) for number in range(VERSIONS)]
    assert torch.equal(versions[0], video)
    assert len({v.contiguous().numpy().tobytes() for v in versions}) == VERSIONS
    pixels = video.flatten().sort().values
    assert all(torch.equal(v.flatten().sort().values, pixels) for v in versions)


@pytest.mark.parametrize("number", [-1, VERSIONS])
def test_no_97th_version(number):
    with pytest.raises(ValueError, match="run from 0 to 95"):
        version(torch.zeros(3, 16, 64, 64), number)


def test_every_version_keeps_its_family():
    """The oracle follows the dot in the turned pixels, and still says the clip's family."""
    clips = TrajectoryDataset(24, seed=SEEDS["validation"]).batch()
    turned = torch.cat([torch.stack([version(v, (7 * i + 13 * k) % VERSIONS) for i, v in enumerate(clips.videos)])
                        for k in range(8)])  # fmt: skip
    path, ink = follow_dot(to_float(turned))
    said = torch.from_numpy(physics.best_family(path, ink.sqrt(), noise=0.05))
    assert (said == clips.labels.repeat(8)).float().mean() > 0.95


def test_both_contenders_see_the_same_versions():
    numbers = recipes.version_numbers(50, 6, seed=0)
    assert numbers.shape == (50, 6)
    assert (numbers[:, 0] == 0).all()
    assert all(len(set(row)) == 6 and max(row) < VERSIONS for row in numbers.tolist())
    assert torch.equal(numbers, recipes.version_numbers(50, 6, seed=0))
    cfg = dataclasses.replace(profile("smoke"), labelled_clips=5, versions=3)
    tokens, labels = recipes.encode_versions(Codec(), cfg, batch_size=2)
    assert tokens.shape == (15, 8, 4, 4)
    clips = TrajectoryDataset(5, seed=SEEDS["train"]).batch()
    assert sorted(labels.tolist()) == sorted(clips.labels.tolist() * 3)
    assert torch.equal(tokens[:2, 0, 0, 0], clips.videos[:2].flatten(1).amin(1).long())


def test_the_networks_of_pixels_see_each_clip_in_its_versions_with_its_label():
    cfg = dataclasses.replace(profile("smoke"), labelled_clips=5, versions=3, cnn_batch=5)
    clips, numbers = TrajectoryDataset(5, seed=SEEDS["train"]).batch(), recipes.version_numbers(5, 3, cfg.seed)
    due = {
        version(video, k).contiguous().numpy().tobytes(): label
        for video, label, row in zip(clips.videos, clips.labels.tolist(), numbers.tolist(), strict=True)
        for k in row
    }
    batch_fn, seen = recipes.labelled_batches(cfg), {}
    for step in range(3):
        videos, labels = batch_fn(step)
        seen |= {video.numpy().tobytes(): label for video, label in zip(videos, labels.tolist(), strict=True)}
    assert seen == due
    assert torch.equal(recipes.labelled_batches(cfg)(2)[0], videos)


def test_single_frames_come_without_labels_and_none_of_a_clip_comes_twice():
    cfg = dataclasses.replace(profile("smoke"), frame_clips=2)
    batch_fn = recipes.frame_batches(cfg)
    world = TrajectoryDataset(6, seed=SEEDS["train"])
    for step in range(3):
        frames, dots = batch_fn(step)
        clips = world.batch([2 * step, 2 * step + 1])
        assert torch.equal(frames, to_float(clips.videos[:, :, step::4].transpose(1, 2).flatten(0, 1)))
        assert (dots[:, :2] - clips.paths[:, step::4].flatten(0, 1)).norm(dim=1).max() < 0.1


# ---- COMMIT's examples ----


def test_the_conditions_are_nine_tasks_and_three_lengths_of_forecast():
    assert {task for task, _ in recipes.CONDITIONS} == set(TASKS) - {"CG"}
    assert [frames for task, frames in recipes.CONDITIONS if task == "FP"] == [1, 4, 8]
    assert len(set(recipes.CONDITIONS)) == len(recipes.CONDITIONS)


def darkest(videos):
    """What `Codec` makes of clips: (n,)."""
    return Codec().encode(videos)[:, 0, 0, 0]


def test_each_clip_comes_with_the_tokens_of_its_own_condition():
    """And the conditions take turns, whatever the size of a batch."""
    n = len(recipes.CONDITIONS) + 3
    tokens, labels, conditions, kinds = recipes.encode_conditions(Codec(), n, batch_size=4)
    clips = TrajectoryDataset(n, seed=SEEDS["train"]).batch()
    assert tokens.shape == conditions.shape == (n, 8, 4, 4)
    assert torch.equal(labels, clips.labels)
    assert kinds.tolist() == [i % len(recipes.CONDITIONS) for i in range(n)]
    videos = to_float(clips.videos)
    assert torch.equal(tokens[:, 0, 0, 0], darkest(videos))
    filled = [condition(video[None], *recipes.CONDITIONS[kind]) for video, kind in zip(videos, kinds, strict=True)]
    assert torch.equal(conditions[:, 0, 0, 0], darkest(torch.cat(filled)))


def numbered(n):
    """Examples that can be told apart: clip i has the token i, the label i % 4, the condition i + 1000."""
    number = torch.arange(n)
    tokens = number[:, None, None, None].expand(-1, 8, 4, 4)
    return [tokens, number % 4, tokens + 1000, number % len(recipes.CONDITIONS)]


def test_a_batch_keeps_together_what_belongs_together():
    cfg = dataclasses.replace(profile("smoke"), transformer_batch=50, generation_share=0.3)
    batch_fn = recipes.commit_batches(numbered(200), cfg, (8, 4, 4))
    free = 0
    for step in range(4):
        tokens, labels, tasks, conditions, given = batch_fn(step)
        number = tokens[:, 0, 0, 0]
        assert torch.equal(conditions, tokens + 1000)
        assert torch.equal(labels, number % 4)
        for i, task, where in zip(number.tolist(), tasks.tolist(), given, strict=True):
            key, frames = recipes.CONDITIONS[i % len(recipes.CONDITIONS)]
            if task == NUMBERS["CG"]:
                free, due = free + 1, torch.zeros(8, 4, 4, dtype=torch.bool)
            else:
                assert task == NUMBERS[key]
                due = given_tokens(key, frames)
            assert torch.equal(where, due)
    assert free / 200 == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_generation_is_what_was_asked(share):
    cfg = dataclasses.replace(profile("smoke"), transformer_batch=40, generation_share=share)
    *_, given = recipes.commit_batches(numbered(40), cfg, (8, 4, 4))(0)
    assert given.flatten(1).any(1).float().mean() == 1 - share


def test_a_step_of_commit_has_its_batch_whatever_came_before():
    first, again = (recipes.commit_batches(numbered(40), profile("smoke"), (8, 4, 4)) for _ in range(2))
    one_by_one = [first(step) for step in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(again(5), one_by_one[5], strict=True))
    per_pass = 40 // profile("smoke").transformer_batch
    tasks = [torch.cat([first(turn * per_pass + k)[2] for k in range(per_pass)]) for turn in range(2)]
    free = [(task == NUMBERS["CG"]).sum() for task in tasks]
    assert not torch.equal(tasks[0], tasks[1])
    assert all(0 < count < 40 for count in free)  # other clips go without a condition in another pass


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_builds_its_models_and_recipes(name):
    cfg = profile(name)
    codec = Tokenizer(**cfg.tokenizer)
    assert codec.grid == (8, 4, 4)
    model = MaskedTransformer(codec.config["levels"], codec.grid, **cfg.transformer)
    assert sum(p.numel() for p in model.parameters()) <= 6e6
    TokenClassifier(codec.config["levels"], codec.grid, **cfg.token_classifier)
    TokenTracker(codec.config["levels"], codec.grid, **cfg.token_tracker)
    I3D(**cfg.i3d)
    takes = set(inspect.signature(fit).parameters)
    for recipe in (f.name for f in dataclasses.fields(cfg) if f.name.endswith("_recipe")):
        assert {"steps", "lr"} <= set(getattr(cfg, recipe)) <= takes, recipe


def test_smoke_is_nowhere_larger_than_full():
    full, smoke = profile("full"), profile("smoke")
    sizes = [f.name for f in dataclasses.fields(full) if isinstance(getattr(full, f.name), int) and f.name != "seed"]
    assert all(getattr(smoke, size) <= getattr(full, size) for size in sizes)


# ---- close-ups ----


def test_close_ups_are_parts_of_their_clips_with_the_dot_in_them():
    videos = TrajectoryDataset(6, seed=SEEDS["validation"]).batch().videos
    films = close_ups(videos, torch.Generator().manual_seed(0))
    assert films.shape == (6 * 4, 3, 4, 32, 32)
    assert films.dtype == torch.uint8
    for k, film in enumerate(films):
        whole = videos[k // 4][:, 4 * (k % 4) : 4 * (k % 4) + 4]
        places = [
            (y, x)
            for y in range(0, 33, 16)
            for x in range(0, 33, 16)
            if torch.equal(whole[..., y : y + 32, x : x + 32], film)
        ]
        assert places, "not on the grid of tokens"
    ink = [
        (255 - part.float()).sum((1, 2, 3, 4))
        for part in (films, videos.unflatten(2, (4, 4)).transpose(1, 2).flatten(0, 1))
    ]
    assert (ink[0] / ink[1]).median() > 0.99
    assert (ink[0] / ink[1]).min() > 0.2


def test_close_ups_come_first_and_no_clip_comes_twice(monkeypatch):
    seen = []
    batch = TrajectoryDataset.batch
    monkeypatch.setattr(
        TrajectoryDataset, "batch", lambda self, indices=None: seen.append(indices) or batch(self, indices)
    )
    cfg = profile("smoke")
    batch_fn, steps = recipes.tokenizer_batches(cfg), cfg.tokenizer_recipe["steps"]
    first, more = round(cfg.close_up_share * steps), cfg.place_recipe["steps"]
    films = [batch_fn(step)[0] for step in range(steps + more)]
    assert [tuple(f.shape[2:]) for f in films] == [(4, 32, 32)] * first + [(16, 64, 64)] * (steps - first + more)
    numbers = [i for indices in seen for i in indices]
    assert numbers == list(range(len(numbers)))
    assert torch.equal(batch_fn(1)[0], films[1])


def test_the_tokenizer_learns_colours_first_and_then_places_and_takes_up_the_second_part(monkeypatch, tmp_path):
    cfg, done, asked = profile("smoke"), [], []

    def fit(name, cfg, artifacts, model, loss_fn, batch_fn, recipe, *rest):
        done.append((name, {k: v for k, v in loss_fn.keywords.items() if k != "hue"}, recipe))
        asked.append(batch_fn(0)[0])
        return model, {"figures": {}, "minutes": 0.0}

    monkeypatch.setattr(recipes, "_fit", fit)
    monkeypatch.setattr(recipes, "judged", lambda *_: {"told": len(done)})
    _, card = recipes.tokenizer(cfg, tmp_path / "whole")
    assert card["before"] == {"told": 1}
    assert card["figures"] == {"told": 2}
    parts = [("tokenizer", {}, cfg.tokenizer_recipe), ("tokenizer_place", cfg.place_loss, cfg.place_recipe)]
    assert done == parts
    assert torch.equal(
        asked[1], recipes.tokenizer_batches(cfg)(cfg.tokenizer_recipe["steps"])[0]
    )  # where the first ended
    assert card["recipe"] == cfg.tokenizer_recipe
    assert card["then"] == cfg.place_recipe | cfg.place_loss
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "tokenizer_place.checkpoint").touch()
    recipes.tokenizer(cfg, tmp_path / "stopped")
    assert done == [*parts, parts[1]]


@pytest.fixture
def writer(tmp_path):
    """A folder with a small transformer; the profile asks for as many clips as two batches hold."""
    torch.manual_seed(0)
    model = MaskedTransformer((4, 3), dim=16, depth=1, heads=2)
    pretrained.save(model, {}, "transformer", tmp_path)
    return model.eval(), tmp_path, dataclasses.replace(profile("smoke"), samples=recipes.SAMPLES_BATCH + 2)


def test_samples_are_written_once_each_batch_from_a_seed_of_its_own(writer, capsys):
    model, where, cfg = writer
    kept, card = recipes.samples(cfg, where)
    assert kept.tokens.shape == (cfg.samples, 8, 4, 4)
    assert kept.labels.tolist() == [k % 4 for k in range(cfg.samples)]
    with quick():
        second = generate(model, kept.labels[recipes.SAMPLES_BATCH :], seed=recipes.SAMPLES_SEED + 1)
    assert torch.equal(kept.tokens[recipes.SAMPLES_BATCH :], second)
    again, same_card = recipes.samples(cfg, where)
    assert torch.equal(again.tokens, kept.tokens)
    assert same_card == card
    assert [line for line in capsys.readouterr().out.splitlines() if "samples" in line] == [
        "samples: written here and saved",
        "samples: loaded",
    ]


def test_samples_of_another_transformer_are_refused(writer):
    model, where, cfg = writer
    recipes.samples(cfg, where)
    model.bias.data += 1
    pretrained.save(model, {}, "transformer", where)
    with pytest.raises(pretrained.ArtifactError, match=r"another transformer than the one that is there: delete"):
        recipes.samples(cfg, where)
