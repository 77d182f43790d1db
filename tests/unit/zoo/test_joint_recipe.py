"""The joint transformer's recipe: its examples, a resumed training, its card."""

import dataclasses
import functools

import pytest
import torch

from trajlib.data.clips import split
from trajlib.data.measure import measure_dot
from trajlib.data.video_files import to_float
from trajlib.generation.joint import JointTransformer
from trajlib.generation.joint_sampling import generate
from trajlib.generation.tasks import TASK_NUMBERS, TASKS
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints, joint_recipe, recipes
from trajlib.zoo.batches import conditions_for
from trajlib.zoo.config import RECIPES, TINY_TOKENIZER
from trajlib.zoo.joint_recipe import encode_clips, joint_batches, joint_loss, track_pool

SMOKE = RECIPES["smoke"]
TINY = dataclasses.replace(
    SMOKE, transformer=dataclasses.replace(SMOKE.transformer, train=SMOKE.transformer.train.shortened(4), tracks=24)
)
NO_CLASS = 4


@pytest.fixture(scope="module")
def video_tokenizer():
    torch.manual_seed(0)
    return Tokenizer(TINY_TOKENIZER.quantizer, TINY_TOKENIZER.dim, TINY_TOKENIZER.layers, TINY_TOKENIZER.patch).eval()


@pytest.fixture(scope="module")
def examples(video_tokenizer):
    data = split("train")
    return track_pool(data, 24), encode_clips(video_tokenizer, data, 16)


@pytest.fixture(scope="module")
def batch_fn(video_tokenizer, examples):
    return joint_batches(*examples, video_tokenizer, TINY.transformer, NO_CLASS)


def make(video_tokenizer, examples):
    torch.manual_seed(0)
    sizes = video_tokenizer.codebook_size, video_tokenizer.grid, video_tokenizer.levels
    model = JointTransformer(*sizes, dim=32, depth=1, heads=2)
    model.fit_trajectories(examples[0][0])
    return model


def test_clips_come_with_what_is_measured_in_them(video_tokenizer, examples):
    tracks, clips = examples
    data = split("train")
    assert torch.equal(clips["labels"], data.labels(range(16)))
    torch.testing.assert_close(clips["trajectories"], measure_dot(to_float(data.videos(range(16)))))
    torch.testing.assert_close(tracks[0][:16], clips["trajectories"], atol=0.1, rtol=0)
    assert torch.equal(tracks[1], data.labels(range(24)))
    assert clips["tokens"].shape == clips["conditions"].shape == (16, *video_tokenizer.grid)
    assert len({(k, label) for k, label in zip(clips["kinds"].tolist(), clips["labels"].tolist(), strict=True)}) == 16


def test_a_step_holds_each_kind_of_example(batch_fn, video_tokenizer):
    cfg = TINY.transformer
    torch.manual_seed(1)
    first, second = batch_fn(0), batch_fn(0)
    sizes = [len(part) for part in first]
    assert sizes == [cfg.train.batch] * 2 + [cfg.observed_batch] * 4 + [cfg.video_batch] * 2 + [cfg.commit_batch] * 5
    assert not torch.equal(first[0], second[0])
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, batch_fn(0), strict=True))
    assert first[5].shape == (cfg.observed_batch, video_tokenizer.spec.frames, 5)


def test_classes_come_only_where_a_task_has_one(batch_fn):
    torch.manual_seed(0)
    seen = set()
    for step in range(40):
        _, labels, _, partial_labels, tasks, *_ = batch_fn(step)
        assert labels.max() <= NO_CLASS
        for label, task in zip(partial_labels.tolist(), tasks.tolist(), strict=True):
            name = list(TASKS)[task]
            seen.add(name)
            assert label == NO_CLASS or TASKS[name].labelled
    assert seen == {task for task, _ in conditions_for(split("train").spec)}
    assert TASK_NUMBERS["CG"] not in {TASK_NUMBERS[name] for name in seen}


def test_the_loss_falls_and_every_parameter_learns(video_tokenizer, examples, batch_fn):
    model = make(video_tokenizer, examples)
    options = TINY.transformer.train.options | {"steps": 12, "bf16": False, "ema": 0.0}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained, history = fit(model, lambda m, b: joint_loss(m, *b), batch_fn, **options, seed=0)
    assert sum(history["loss"][-3:]) < sum(history["loss"][:3])
    assert set(history) == {"loss", "trajectory", "observed", "video", "commit"}
    unchanged = [name for name, p in trained.named_parameters() if torch.equal(p, before[name])]
    assert unchanged == []


def test_a_resumed_training_is_bit_equal(video_tokenizer, examples, batch_fn, tmp_path):
    class Stopped(Exception):
        pass

    def stop(step):
        def loss(model, batch):
            if step is not None and len(seen) == step:
                raise Stopped
            seen.append(step)
            return joint_loss(model, *batch)

        seen = []
        return loss

    options = TINY.transformer.train.options | {"steps": 6, "checkpoint_every": 3}
    run = functools.partial(fit, batch_fn=batch_fn, seed=0, **options)
    whole, history = run(make(video_tokenizer, examples), stop(None))
    with pytest.raises(Stopped):
        run(make(video_tokenizer, examples), stop(4), checkpoint=tmp_path / "half")
    resumed, again = run(make(video_tokenizer, examples), stop(None), checkpoint=tmp_path / "half")
    assert history == again
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.slow
def test_the_card_says_what_was_trained_and_the_model_generates(video_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "tokenizer", lambda *args: (video_tokenizer, {"sha256": "of none"}))
    model, card = joint_recipe.transformer(tmp_path, TINY)
    train = TINY.transformer.train
    assert card["class"] == "JointTransformer"
    assert (card["recipe"]["steps"], card["recipe"]["batch"], card["profile"]) == (train.steps, train.batch, "smoke")
    assert card["examples"] > 0
    assert {"trajectory", "observed", "video", "commit"} <= set(card["figures"])
    assert "24 tracks" in card["data"]
    again, same = checkpoints.load("transformer", tmp_path)
    assert same["sha256"] == card["sha256"]
    tokens = generate(model, [0, 1], seed=1, steps=2, resampling_steps=0)
    assert torch.equal(tokens, generate(again, [0, 1], seed=1, steps=2, resampling_steps=0))


def test_stored_statistics_are_precise_enough_for_the_guess(video_tokenizer, examples, tmp_path):
    """Covariances that are rounded to float16 would not be positive: they differ by less than the noise of a dot."""
    model = make(video_tokenizer, examples)
    checkpoints.save(model, {}, "transformer", tmp_path, torch.float16)
    again = checkpoints.load("transformer", tmp_path)[0]
    dots = examples[0][0][:8].clone()
    dots[:, 8:] = torch.nan
    cut = torch.zeros(8, 16, dtype=torch.bool)
    for before, after in zip(model.guess.observe(dots, cut), again.guess.observe(dots, cut), strict=True):
        torch.testing.assert_close(after, before, atol=0.02, rtol=0.02)
