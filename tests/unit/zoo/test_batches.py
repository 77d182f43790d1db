"""Batches: which clips a model receives, in which order, and that they belong together."""

from dataclasses import replace

import pytest
import torch

from trajlib.data.augment import NUM_AUGMENTATIONS, augmented
from trajlib.data.clips import TrajectoryDataset, VideoSpec, split
from trajlib.data.video_files import to_float
from trajlib.generation.tasks import TASK_NUMBERS, TASKS, condition, observed_tokens
from trajlib.zoo import batches
from trajlib.zoo.config import RECIPES, ClassifierRecipe, TokenizerConfig

SPEC = VideoSpec(4, 16)
TRAIN = RECIPES["smoke"].simple_3dcnn.train


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (12, 5), (12, 12)])
def test_a_pass_shows_no_example_twice(n, batch_size):
    """And all of them, where the batches divide them evenly; pairs stay pairs."""
    numbers = torch.arange(n)
    batch_fn = batches.shuffled_batches((numbers, -numbers), batch_size, seed=0)
    per_pass = n // batch_size
    for epoch in range(3):
        pairs = [batch_fn(step) for step in range(epoch * per_pass, (epoch + 1) * per_pass)]
        assert all(torch.equal(a, -b) for a, b in pairs)
        shown = torch.cat([a for a, _ in pairs]).tolist()
        assert len(shown) == len(set(shown)) == per_pass * batch_size
        assert set(shown) <= set(range(n))


def test_more_asked_than_there_is_gives_all():
    (batch,) = batches.shuffled_batches((torch.arange(3),), 8, seed=0)(5)
    assert sorted(batch.tolist()) == [0, 1, 2]


def test_a_step_has_its_examples_whatever_came_before():
    first, again = (batches.shuffled_batches((torch.arange(40),), 8, seed=1) for _ in range(2))
    one_by_one = [first(step)[0] for step in range(12)]
    assert torch.equal(again(11)[0], one_by_one[11])
    assert torch.equal(again(3)[0], one_by_one[3])
    other = batches.shuffled_batches((torch.arange(40),), 8, seed=2)
    assert not torch.equal(other(0)[0], one_by_one[0])
    assert not torch.equal(torch.cat(one_by_one[:5]), torch.cat(one_by_one[5:10]))  # each pass in an order of its own


def test_data_that_run_out_come_again_in_another_order():
    data = TrajectoryDataset(6)
    indices = batches.epoch_indices(data, range(18))
    assert indices[:6] == list(range(6))
    assert sorted(indices[6:12]) == sorted(indices[12:]) == list(range(6))
    assert len({tuple(indices[k : k + 6]) for k in (0, 6, 12)}) == 3
    assert batches.epoch_indices(data, [13, 7]) == [indices[13], indices[7]]


class DarkestPixel:
    """Stands in for a tokenizer: each token of a clip is its darkest value; it records the size of each batch."""

    spec, token_shape = VideoSpec(), (8, 4, 4)

    def __init__(self, spec=None, token_shape=None):
        self.sizes = []
        self.spec, self.token_shape = spec or self.spec, token_shape or self.token_shape

    def encode(self, videos):
        self.sizes.append(len(videos))
        darkest = (255 * videos.flatten(1).min(1).values).round().long()
        return darkest[:, None, None, None].expand(-1, *self.token_shape)


def test_videos_are_encoded_in_order_whatever_the_batches():
    tokenizer = DarkestPixel()
    tokens = batches.encode_videos(tokenizer, split("validation"), 10)
    clips = split("validation", 10).batch()
    assert tokens.shape == (10, 8, 4, 4)
    assert torch.equal(tokens[:, 0, 0, 0], clips.videos.flatten(1).amin(1).long())
    assert torch.equal(batches.encode_videos(tokenizer, split("validation"), 10, batch_size=4), tokens)
    assert tokenizer.sizes == [10, 4, 4, 2]


# ---- labelled clips ----


def test_all_classifiers_receive_the_same_augmentations():
    numbers = batches.draw_augmentations(50, 6, seed=0)
    assert numbers.shape == (50, 6)
    assert (numbers[:, 0] == 0).all()
    assert all(len(set(row)) == 6 and max(row) < NUM_AUGMENTATIONS for row in numbers.tolist())
    assert torch.equal(numbers, batches.draw_augmentations(50, 6, seed=0))
    data, cfg = split("train"), ClassifierRecipe(TRAIN, clips=5, augmentations=3)
    tokens, labels = batches.encode_augmented(DarkestPixel(), data, cfg, seed=0)
    assert tokens.shape == (15, 8, 4, 4)
    clips = data.batch(range(5))
    assert torch.equal(labels, clips.labels.repeat(3))
    assert torch.equal(tokens[:5, 0, 0, 0], clips.videos.flatten(1).amin(1).long())


def test_pixel_classifiers_receive_each_clip_in_its_augmentations_with_its_label():
    data, cfg = TrajectoryDataset(5, spec=SPEC), ClassifierRecipe(replace(TRAIN, batch=5), clips=5, augmentations=3)
    clips, numbers = data.batch(), batches.draw_augmentations(5, 3, seed=0)
    expected = {
        augmented(video, k).contiguous().numpy().tobytes(): label
        for video, label, row in zip(clips.videos, clips.labels.tolist(), numbers.tolist(), strict=True)
        for k in row
    }
    batch_fn, found = batches.labelled_batches(cfg, data, seed=0), {}
    for step in range(3):
        videos, labels = batch_fn(step)
        found |= {video.numpy().tobytes(): label for video, label in zip(videos, labels.tolist(), strict=True)}
    assert found == expected
    assert torch.equal(batches.labelled_batches(cfg, data, seed=0)(2)[0], videos)


def test_the_tracker_learns_from_the_measured_dot():
    data = TrajectoryDataset(6)
    tokens, dots = batches.encode_tracks(DarkestPixel(), data, 6)
    assert tokens.shape == (6, 8, 4, 4)
    assert (dots[..., :2] - data.batch().paths).norm(dim=-1).max() < 0.2


# ---- COMMIT's examples ----

KINDS = batches.conditions_for(VideoSpec())


def test_the_conditions_are_nine_tasks_and_three_lengths_of_forecast():
    assert {task for task, _ in KINDS} == set(TASKS) - {"CG"}
    assert [frames for task, frames in KINDS if task == "FP"] == [1, 4, 8]
    assert len(set(KINDS)) == len(KINDS)


@pytest.mark.parametrize("frames", [2, 3, 5, 8, 17])
def test_the_conditions_fit_videos_of_any_length(frames):
    spec = VideoSpec(frames, 16)
    for task, observed in batches.conditions_for(spec):
        assert condition(torch.rand(1, *spec.shape), task, observed).shape == (1, *spec.shape)


def darkest(videos):
    return DarkestPixel().encode(videos)[:, 0, 0, 0]


def test_each_clip_comes_with_the_tokens_of_its_own_condition():
    """And the conditions take turns, whatever the size of a batch."""
    data, n = split("train"), len(KINDS) + 3
    tokens, labels, conditions, kinds = batches.encode_conditions(DarkestPixel(), data, n, batch_size=4)
    clips = data.batch(range(n))
    assert tokens.shape == conditions.shape == (n, 8, 4, 4)
    assert torch.equal(labels, clips.labels)
    assert kinds.tolist() == [i % len(KINDS) for i in range(n)]
    videos = to_float(clips.videos)
    assert torch.equal(tokens[:, 0, 0, 0], darkest(videos))
    filled = [condition(video[None], *KINDS[kind]) for video, kind in zip(videos, kinds, strict=True)]
    assert torch.equal(conditions[:, 0, 0, 0], darkest(torch.cat(filled)))


def numbered(n):
    """Examples that differ: clip i has the token i, the label i % 4, the condition i + 1000."""
    number = torch.arange(n)
    tokens = number[:, None, None, None].expand(-1, 8, 4, 4)
    return [tokens, number % 4, tokens + 1000, number % len(KINDS)]


def test_a_batch_keeps_together_what_belongs_together():
    batch_fn = batches.commit_batches(numbered(200), DarkestPixel(), 50, 0.3, seed=0)
    free = 0
    for step in range(4):
        tokens, labels, tasks, conditions, observed = batch_fn(step)
        number = tokens[:, 0, 0, 0]
        assert torch.equal(conditions, tokens + 1000)
        assert torch.equal(labels, number % 4)
        for i, task, where in zip(number.tolist(), tasks.tolist(), observed, strict=True):
            key, frames = KINDS[i % len(KINDS)]
            if task == TASK_NUMBERS["CG"]:
                free, expected = free + 1, torch.zeros(8, 4, 4, dtype=torch.bool)
            else:
                assert task == TASK_NUMBERS[key]
                expected = observed_tokens(key, (8, 4, 4), frames)
            assert torch.equal(where, expected)
    assert free / 200 == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_generation_is_what_was_asked(share):
    *_, observed = batches.commit_batches(numbered(40), DarkestPixel(), 40, share, seed=0)(0)
    assert observed.flatten(1).any(1).float().mean() == 1 - share


def test_a_step_of_commit_has_its_batch_whatever_came_before():
    first, again = (batches.commit_batches(numbered(40), DarkestPixel(), 8, 0.3, seed=0) for _ in range(2))
    one_by_one = [first(step) for step in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(again(5), one_by_one[5], strict=True))
    tasks = [torch.cat([first(5 * epoch + k)[2] for k in range(5)]) for epoch in range(2)]
    free = [(task == TASK_NUMBERS["CG"]).sum() for task in tasks]
    assert not torch.equal(tasks[0], tasks[1])
    assert all(0 < count < 40 for count in free)  # other clips go without a condition in another pass


# ---- crops, then whole clips ----


def test_crops_come_first_and_no_clip_comes_twice(monkeypatch):
    asked, videos = [], TrajectoryDataset.videos
    monkeypatch.setattr(
        TrajectoryDataset, "videos", lambda self, indices: asked.append(list(indices)) or videos(self, indices)
    )
    cfg, data = RECIPES["smoke"].tokenizer, split("train")
    batch_fn, steps, more = batches.tokenizer_batches(cfg, data), cfg.train.steps, cfg.position.steps
    first = round(cfg.crop_share * steps)
    shapes = [tuple(batch_fn(step)[0].shape[2:]) for step in range(steps + more)]
    assert shapes == [(4, 32, 32)] * first + [(16, 64, 64)] * (steps - first + more)
    numbers = [i for indices in asked for i in indices]
    assert numbers == list(range(len(numbers)))
    assert torch.equal(batch_fn(1)[0], batches.tokenizer_batches(cfg, data)(1)[0])


@pytest.mark.parametrize(
    ("spec", "model", "shape"),
    [
        (VideoSpec(8, 32), TokenizerConfig(), (2, 16, 16)),
        (VideoSpec(4, 32), TokenizerConfig(), (4, 16, 16)),  # a quarter of the frames would be half a token
        (VideoSpec(17, 96), TokenizerConfig(patch=(1, 4, 4)), (17, 48, 48)),
        (VideoSpec(8, 80), TokenizerConfig(), (2, 32, 32)),
        (VideoSpec(8, 16), TokenizerConfig(), (2, 16, 16)),
        (VideoSpec(8, 32), TokenizerConfig(layers=(("compress_time", 8), "residual")), (8, 16, 16)),
    ],
)
def test_crops_consist_of_whole_tokens(spec, model, shape):
    cfg = replace(RECIPES["smoke"].tokenizer, model=model, crop_batch=1)
    (crops,) = batches.tokenizer_batches(cfg, TrajectoryDataset(4, spec=spec))(0)
    assert tuple(crops.shape[2:]) == shape
