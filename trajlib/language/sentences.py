"""Sentences from clips and clips from sentences: captions, answers, likelihoods, and prompts."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trajlib.data.checks import check_tokens, generator
from trajlib.data.measure import measure_dot
from trajlib.data.slots import SLOTS, VALUES
from trajlib.data.spec import check_name, check_number
from trajlib.generation.joint_sampling import decode_video, sample_trajectories
from trajlib.generation.sampling import draw
from trajlib.language.grammar import MAX_WORDS, NUMBERS, PAD, QUESTIONS, SentenceError, decode_text, encode_text, parse
from trajlib.language.model import LanguageModel, Reading
from trajlib.language.next_words import next_words
from trajlib.tokenizer.video_tokenizer import Tokenizer

BATCH = 64  # clips decoded at a time
# of prompts, chosen on sentences of the validation clips
GUIDANCE = 2.5
TEMPERATURE = (0.8,) * 6 + (0.3,) * 16  # of the trajectory tokens, coarse to fine
CANDIDATES, CLIPS = 16, 4  # trajectories drawn for a sentence, and how many of them become clips before one is chosen


def caption(model: LanguageModel, tokenizer: Tokenizer, tokens: Tensor, seed: int | None = None) -> list[str]:
    """A sentence for each clip of tokens (b, *grid), grammatical, left to right.

    The most probable word each time; with a `seed`, words are drawn.
    """
    return write_sentences(model, read_clip(model, tokenizer, tokens), seed=seed)[0]


@torch.no_grad()
def read_clip(model: LanguageModel, tokenizer: Tokenizer, tokens: Tensor) -> Reading:
    """What the model receives of clips (b, *grid): the dot as measured in what they decode to, and the tokens near it.

    Nothing but the tokens enters. A frame without a dot has one of radius 0 in the picture's middle.
    """
    check_tokens(tokens, model.joint.grid, model.joint.codebook_size)
    dots = torch.cat([measure_dot(tokenizer.decode(part).float()) for part in tokens.split(BATCH)])
    return model.reading(dots.nan_to_num(model.joint.spec.centre), tokens)


@torch.no_grad()
def write_sentences(
    model: LanguageModel, reading: Reading, constrained: bool = True, seed: int | None = None
) -> tuple[list[str], Tensor]:  # fmt: skip
    """Sentences word by word, and the probability of each word (b, MAX_WORDS).

    `constrained`: only words with which the grammar can go on.
    """
    rng = None if seed is None else generator(seed)
    words = torch.full((len(reading), MAX_WORDS), NUMBERS[PAD])
    sure, running = torch.ones(words.shape), torch.ones(len(words), dtype=torch.bool)
    for k in range(MAX_WORDS):
        logits = model.word_logits(words[running], reading[running], causal=True)[:, k]
        if constrained:
            texts = [tuple(decode_text(row[:k]).split()) for row in words[running].tolist()]
            logits = logits + torch.stack([_allowed(text) for text in texts])
        probability = logits.softmax(-1)
        chosen = probability.argmax(-1) if rng is None else draw(probability, rng)
        words[running, k], sure[running, k] = chosen, probability.gather(1, chosen[:, None])[:, 0]
        running &= words[:, k] != NUMBERS[PAD]
        if not running.any():
            break
    return [decode_text(row) for row in words.tolist()], sure


def _allowed(text: tuple[str, ...]) -> Tensor:
    """0 for words that may come next, minus infinity for all others."""
    penalty = torch.full((len(NUMBERS),), -torch.inf)
    penalty[[NUMBERS[word] for word in next_words(text)]] = 0
    return penalty


@torch.no_grad()
def answer(model: LanguageModel, reading: Reading, slot: str, phrasing: int = 0) -> Tensor:
    """Probabilities (b, values) of the answers to a slot's question, in the order of VALUES[slot].

    ValueError for an unknown slot or phrasing.
    """
    check_name("slot", slot, SLOTS)
    check_number("phrasing", phrasing, 0, len(QUESTIONS[slot][0]) - 1, whole=True)
    text = f"{QUESTIONS[slot][0][phrasing]} ?"
    words = torch.tensor([encode_text(text)]).expand(len(reading), -1)
    logits = model.word_logits(words, reading, causal=True)[:, len(text.split())]
    return logits[:, [NUMBERS[word] for word in QUESTIONS[slot][1]]].softmax(-1)


def compare(model: LanguageModel, reading: Reading, slot: str) -> Tensor:
    """Ranks clips by a slot, such as "which is faster?": log-odds (b,) of its second value against its first."""
    return answer(model, reading, slot)[:, :2].log().diff(dim=1)[:, 0]


def _listed(texts: Sequence[str] | str) -> Sequence[str]:
    if not isinstance(texts, str | list | tuple) or not texts:
        raise SentenceError("no sentence came; a text or a list of them was expected.")
    return [texts] if isinstance(texts, str) else texts


@torch.no_grad()
def sentence_bits(model: LanguageModel, texts: Sequence[str], reading: Reading) -> Tensor:
    """How many bits a sentence costs given its clip, (b,): fewer for a likelier one."""
    words = torch.tensor([encode_text(text) for text in _listed(texts)])
    if len(words) != len(reading):
        raise SentenceError(f"{len(words)} sentences came for {len(reading)} clips; one for each was expected.")
    cost = F.cross_entropy(model.word_logits(words, reading, causal=True).mT, words, reduction="none")
    ends = torch.arange(MAX_WORDS) <= (words != NUMBERS[PAD]).sum(1, keepdim=True)
    return (cost * ends).sum(1) / torch.log(torch.tensor(2.0))


def log_answers(model: LanguageModel, reading: Reading) -> Tensor:
    """Log-probabilities (b, 9, most values) of the answers to the questions of all slots; minus infinity elsewhere."""
    most, found = max(map(len, VALUES.values())), [answer(model, reading, slot).log() for slot in SLOTS]
    return torch.stack([F.pad(logs, (0, most - logs.shape[1]), value=-torch.inf) for logs in found], 1)


def sentence_context(model: LanguageModel, texts: Sequence[str]) -> Tensor:
    """What `sample_trajectories` takes as its context: the vectors of sentences and of none, (2, b, MAX_WORDS, dim)."""
    words = torch.tensor([encode_text(text) for text in _listed(texts)])
    return model.context(torch.stack([words, torch.full_like(words, NUMBERS[PAD])]))


@torch.no_grad()
def generate_from_text(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str] | str, seed: int = 0, guidance: float = GUIDANCE,
    temperature: Sequence[float] = TEMPERATURE, candidates: int = CANDIDATES, clips: int = CLIPS,
) -> Tensor:  # fmt: skip
    """Clips as tokens (b, *grid): a trajectory for each sentence, then video tokens along it, given the sentence.

    Of so many `candidates`, those trajectories given which the sentence is likeliest become `clips`, and of these that
    one stays which makes it likeliest when it is read back; no fit takes part. `tokenizer.decode` turns the tokens into
    videos. SentenceError for unknown words, contradictions, or a sentence that says nothing (see `grammar.parse`).
    """
    check_number("candidates", candidates, 1, 10_000, whole=True)
    check_number("clips", clips, 1, whole=True)
    texts, clips = _listed(texts), min(clips, candidates)
    for text in texts:
        parse(text)
    several = [text for text in texts for _ in range(candidates)]
    context = sentence_context(model, several)
    drawn = sample_trajectories(model.joint, None, 1, guidance, temperature, seed, context=context)
    drawn = _likeliest(model, several, Reading(drawn), drawn, candidates, clips)
    several = [text for text in texts for _ in range(clips)]
    tokens = decode_video(model.joint, drawn, seed=seed, context=sentence_context(model, several)[0])
    return tokens if clips == 1 else _likeliest(model, several, read_clip(model, tokenizer, tokens), tokens, clips, 1)


def _likeliest(
    model: LanguageModel, texts: Sequence[str], reading: Reading, of: Tensor, count: int, keep: int
) -> Tensor:  # fmt: skip
    """Of each `count` rows of `of` (b count, ...) those `keep` given which their sentence is likeliest."""
    best = sentence_bits(model, texts, reading).view(-1, count).topk(keep, 1, largest=False).indices
    return of.unflatten(0, (-1, count))[torch.arange(len(best))[:, None], best].flatten(0, 1)
