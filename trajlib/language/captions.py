"""What a `LanguageModel` is trained on: sentences about trajectories and clips, and the losses of each direction."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trajlib.data.slots import VALUES, as_slots, measure_slots, name_slots
from trajlib.generation.masks import random_masks
from trajlib.language.grammar import NUMBERS, PAD, PHRASES, QUESTIONS, VOCABULARY, caption, encode_text, question

KEY_WEIGHT = 4.0  # of a word that decides a slot's value, against one that only joins them


def _deciding() -> Tensor:
    """Which words of the vocabulary occur in phrases or answers of one value only, (words,) bool."""
    of: dict[str, set[tuple[str, str]]] = {}
    for slot, values in PHRASES.items():
        for (value, phrases), answer in zip(values.items(), QUESTIONS[slot][1], strict=True):
            for word in {*" ".join(phrases).split(), answer}:
                of.setdefault(word, set()).add((slot, value))
    return torch.tensor([len(of.get(word, ())) == 1 for word in VOCABULARY])


DECIDING = _deciding()


def trajectory_slots(trajectories: Tensor, facts: Tensor, size: int = 64) -> np.ndarray:
    """Named slots (b, 9) of trajectories (b, frames, 3), whose radius is that of a black disc of the dot's darkness.

    facts (b, 4): class, mean darkness, hue in degrees (NaN without a name), turns.
    """
    family, darkness, hue, turns = facts.double().numpy().T
    found = trajectories.double().numpy()
    radius = found[..., 2] / np.sqrt(darkness)[:, None]
    return name_slots(measure_slots(found[..., :2], radius, hue, family.astype(int), turns, size))


def write_captions(named: np.ndarray, rng: np.random.Generator, asked: float) -> tuple[Tensor, Tensor]:
    """Random captions, and a share `asked` of questions with their answers, of clips with named slots (b, 9).

    Returns words (b, MAX_WORDS), and how many of them are given, (b,): a question is, a caption is not.
    """
    words, given = [], []
    for row in named:
        slots = as_slots(row)
        if rng.random() < asked:
            slot = list(slots)[rng.integers(len(slots))]
            text = question(slot, rng)
            given.append(len(text.split()))
            words.append(encode_text(f"{text} {QUESTIONS[slot][1][VALUES[slot].index(slots[slot])]}"))
        else:
            given.append(0)
            words.append(encode_text(caption(slots, rng, rng.uniform(0.4, 1))))
    return torch.tensor(words), torch.tensor(given)


def mask_sentences(words: Tensor, given: Tensor) -> Tensor:
    """Which words a masked prediction has to find, (b, MAX_WORDS) bool: a random share, of those that are not given."""
    return random_masks(*words.shape) & (torch.arange(words.shape[1]) >= given[:, None])


def words_loss(logits: Tensor, words: Tensor, asked: Tensor) -> Tensor:
    """Mean cross-entropy in nats of the words (b, n) that are asked for, (b, n) bool, the deciding ones weighted."""
    ends = torch.arange(words.shape[1]) <= (words != NUMBERS[PAD]).sum(1, keepdim=True)  # later padding is no news
    weight = (asked & ends) * torch.where(DECIDING[words], KEY_WEIGHT, 1.0)
    cost = F.cross_entropy(logits.float().flatten(0, 1), words.flatten(), reduction="none").view_as(words)
    return (cost * weight).sum() / weight.sum().clamp_min(1)
