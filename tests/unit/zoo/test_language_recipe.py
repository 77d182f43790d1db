"""The language model's recipe: its examples, a short training, and the file that names its transformer."""

import dataclasses

import pytest
import torch

from trajlib.data.clips import split
from trajlib.generation.joint import JointTransformer
from trajlib.language.grammar import HELD_OUT, MAX_WORDS, NUMBERS, PAD, decode_text, parse
from trajlib.language.model import LanguageModel
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints
from trajlib.zoo.config import RECIPES
from trajlib.zoo.language_recipe import described_tracks, language_batches, language_loss

CFG = RECIPES["smoke"].language
GRID, CODES = (8, 4, 4), 40


@pytest.fixture(scope="module")
def joint():
    torch.manual_seed(0)
    return JointTransformer(CODES, GRID, dim=16, depth=1, heads=2).eval()


@pytest.fixture(scope="module")
def batch_fn(joint):
    tracks = described_tracks(split("train"), 16)
    rng = torch.Generator().manual_seed(0)
    tokens, dots = torch.randint(CODES, (8, 128), generator=rng), tracks[0][:8]
    named = torch.full((8, 9), -1).index_fill(1, torch.tensor([0, 8]), 1)
    return language_batches(tracks, [tokens, dots, dots, named], joint, CFG)


def drawn(batch_fn, step):
    torch.manual_seed(step)
    return batch_fn(step)


def test_a_batch_depends_on_its_step_alone(batch_fn):
    first, again, other = drawn(batch_fn, 3), drawn(batch_fn, 3), drawn(batch_fn, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_no_batch_names_a_held_out_pair(batch_fn):
    seen = 0
    for step in range(12):
        for words in (part for part in drawn(batch_fn, step) if part.ndim == 2 and part.shape[1] == MAX_WORDS):
            for row in words.tolist():
                if NUMBERS["?"] in row or row[0] == NUMBERS[PAD]:
                    continue
                slots = parse(decode_text(row))
                assert not any(pair.items() <= slots.items() for pair in HELD_OUT)
                seen += 1
    assert seen > 100


def test_a_training_changes_words_and_adapters_only(joint, batch_fn):
    model = LanguageModel(joint, CFG.rank)
    options = dataclasses.replace(CFG.train, steps=3).options
    trained, history = fit(model, lambda m, b: language_loss(m, *b), batch_fn, **options)
    assert len(history["words to video"]) == 3
    before, after = joint.state_dict(), trained.joint.state_dict()
    frozen = {name.replace("parametrizations.weight.original", "weight"): v for name, v in after.items()}
    assert all(torch.equal(value, frozen[name]) for name, value in before.items())
    assert trained.word_embedding.weight.std() > 0
    assert any(weight.abs().sum() > 0 for name, weight in trained.named_parameters() if "up" in name)


def test_a_language_model_is_loaded_with_the_very_transformer_that_it_names(joint, tmp_path):
    card = checkpoints.save(joint, {}, "transformer", tmp_path)
    model = LanguageModel(joint, 2).eval()
    backbone = {"name": "transformer", "sha256": card["sha256"]}
    found = checkpoints.save(model, {"backbone": backbone}, "language", tmp_path, torch.float16)
    assert found["parameters"] == sum(weight.numel() for weight in model.state_dict().values())
    again, _ = checkpoints.load("language", tmp_path)
    words = torch.full((1, MAX_WORDS), NUMBERS["dot"])
    torch.testing.assert_close(again.word_logits(words), model.word_logits(words), atol=1e-2, rtol=0)
    torch.manual_seed(1)
    checkpoints.save(JointTransformer(CODES, GRID, dim=16, depth=1, heads=2), {}, "transformer", tmp_path)
    with pytest.raises(checkpoints.ArtifactError, match="adapts another 'transformer'"):
        checkpoints.load("language", tmp_path)
