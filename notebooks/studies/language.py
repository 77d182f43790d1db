"""Sentences: clips described, questions answered, clips made from sentences, and clips found by a sentence.

The model receives tokens of test clips, and the dot measured in what they decode to. Each control replaces the tokens,
or the whole model. A slot counts where the truth gives it a name (see `data.slots`); the answer is right if it
is that name. `oracle` rows fit the equations of motion to a tracked dot: no language model takes part.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from trajlib.data.clips import split
from trajlib.data.measure import measure_dot
from trajlib.data.slots import SLOTS, VALUES, as_slots, name_slots, true_measures
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.slots import read_slots
from trajlib.language import grammar, sentences
from trajlib.language.grammar import HELD_OUT, NUMBERS, SentenceError, is_held_out, parse, sentence
from trajlib.language.next_words import is_grammatical
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints, recipes

BATCH = 50
READINGS = {  # what the model receives in place of the clip's own tokens
    "tokens": "the clip's tokens, and the dot measured in what they decode to",
    "trajectory alone": "this dot, without the video tokens",
    "token tracker": "the clip's tokens, and the dot as the token tracker reads it from them",
    "trajectory of the pixels": "the clip's tokens, and the dot measured in its pixels",
    "permuted": "another clip's tokens",
    "random": "tokens drawn at random",
    "untrained tokenizer": "tokens of a tokenizer before its training",
}
BASELINES = ("majority", "class label", "oracle, decoded", "oracle, pixels")
PROMPTED = {"one candidate": {"candidates": 1}, "one candidate, no guidance": {"candidates": 1, "guidance": 1.0}}
DECODINGS = ("left to right", "left to right, free", "masked, confident first", "drawn")


@dataclass(frozen=True)
class Settings:
    clips: int = 1000  # test clips
    prompts: int = 300  # sentences of as many other test clips
    held_out: int = 150  # of them with a held-out pair
    grid: dict = field(default_factory=lambda: {"seeds": (0,)})


FULL = Settings()
SMOKE = Settings(clips=24, prompts=8, held_out=6)
MODELS = ("tokenizer", "token_tracker", "transformer", "language")
COLUMNS = {"part": str, "condition": str, "seed": int, "slot": str, "metric": str}
COLUMNS |= {"value": float, "low": float, "high": float, "n": int}
KEYS = ("part", "condition", "seed")
PARTS = {
    "questions": (*READINGS, *BASELINES),
    "captions": (*DECODINGS, "token tracker", "permuted"),
    "prompts": ("sentences", "held-out pairs", *PROMPTED),
    "retrieval": ("answers", "oracle, decoded", "permuted", "exact likelihood"),
    "comparison": ("tokens", "permuted"),
}


def jobs(settings):
    """One for each part, condition and seed."""
    return [
        {"part": part, "condition": condition, "seed": seed}
        for seed in settings.grid["seeds"]
        for part, conditions in PARTS.items()
        for condition in conditions
    ]


# ---- what the jobs share ----


@lru_cache(maxsize=1)
def models(context):
    """(tokenizer, tracker, language model)."""
    return tuple(checkpoints.load(name, context.artifacts)[0] for name in ("tokenizer", "token_tracker", "language"))


def test_clips(context):
    """Tokens, those of an untrained tokenizer; measures read from pixels and decoded clips, and true ones; dots."""

    def make():
        tokenizer, *_ = models(context)
        torch.manual_seed(0)
        untrained = recipes.new_tokenizer(context.profile, tokenizer.spec).eval()
        data, parts = split("test"), []
        for first in range(0, context.settings.clips + context.settings.prompts, BATCH):
            rows = range(first, min(first + BATCH, context.settings.clips + context.settings.prompts))
            videos = to_float(data.videos(rows))
            with torch.no_grad(), bf16_autocast():
                tokens, others = tokenizer.encode(videos), untrained.encode(videos)
                decoded = tokenizer.decode(tokens).float()
            true = true_measures([data.track(i) for i in rows])
            measured = [torch.from_numpy(x) for x in (read_slots(videos, 0.02), read_slots(decoded), true)]
            parts.append((tokens, others, *measured, measure_dot(videos), data.labels(rows)))
        names = ("tokens", "untrained", "pixels", "decoded", "true", "dots", "labels")
        return dict(zip(names, map(torch.cat, zip(*parts, strict=True)), strict=True))

    return context.cached(f"clips-{context.profile}", make)


def reading_of(context, condition, clips):
    """What the model receives in this condition, of the first clips."""
    tokenizer, tracker, model = models(context)
    n, rng = context.settings.clips, torch.Generator().manual_seed(1)
    tokens = clips["tokens"][:n]
    if condition == "permuted":
        tokens = tokens[torch.randperm(n, generator=rng)]
    elif condition == "random":
        tokens = torch.randint(model.joint.codebook_size, tokens.shape, generator=rng)
    elif condition == "untrained tokenizer":
        tokens = clips["untrained"][:n]
    if condition == "trajectory of the pixels":
        return model.reading(clips["dots"][:n], tokens)
    if condition == "token tracker":
        with torch.no_grad():
            return model.reading(tracker(tokens).float(), tokens)
    with bf16_autocast():
        whole = sentences.read_clip(model, tokenizer, tokens)
    return sentences.Reading(whole.trajectories) if condition == "trajectory alone" else whole


def in_batches(function, reading):
    """`function` of so many clips at a time, in bfloat16 where that is quick."""
    with bf16_autocast():
        return [function(reading[first : first + BATCH]) for first in range(0, len(reading), BATCH)]


# ---- rows ----


def share_row(job, slot, metric, hits):
    """A share with Wilson's interval; NaN without a case."""
    hits = np.asarray(hits, bool)
    low, high = metrics.wilson(hits.sum(), len(hits)) if len(hits) else (np.nan, np.nan)
    value = hits.mean() if len(hits) else np.nan
    return job | {"slot": slot, "metric": metric, "value": float(value), "low": low, "high": high, "n": len(hits)}


def mean_row(job, slot, metric, values):
    low, high = metrics.mean_interval(values) if len(values) > 1 else (np.nan, np.nan)
    return job | {"slot": slot, "metric": metric, "value": float(np.mean(values)), "low": low, "high": high,
                  "n": len(values)}  # fmt: skip


def accuracy_rows(job, given, truth):
    """Accuracy of each slot, of all slots of a clip, and of clips with a held-out pair; `given` (n, 9), -1: none."""
    named = truth >= 0
    right = (given == truth) | ~named
    rows = [share_row(job, slot, "accuracy", right[named[:, k], k]) for k, slot in enumerate(SLOTS)]
    rows.append(share_row(job, "all", "accuracy", right[named]))
    rows.append(share_row(job, "all", "all slots right", right.all(1)))
    pairs = np.array([is_held_out(as_slots(row)) for row in truth])
    return [*rows, share_row(job, "all", "all slots right, held-out pair", right.all(1)[pairs])]


def calibration_rows(job, probabilities, given, truth):
    """How far confidence is from accuracy: the expected calibration error over ten bins, of all answers."""
    named = truth >= 0
    sure, right = probabilities[named], (given == truth)[named]
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    rows = [job | {"slot": "all", "metric": "calibration error", "value": float(sum(gaps)), "n": len(sure)}]
    for b in np.unique(bins):
        facts = {"slot": f"{b / 10:.1f} to {(b + 1) / 10:.1f}", "metric": "accuracy at this confidence"}
        rows.append(share_row(job, facts["slot"], facts["metric"], right[bins == b]))
        rows.append(mean_row(job, facts["slot"], "mean confidence", sure[bins == b]))
    return rows


# ---- jobs ----


def run(job, context):
    """The rows of one condition of one part."""
    clips, n = test_clips(context), context.settings.clips
    truth = name_slots(clips["true"].numpy())
    rows = PART_OF[job["part"]](job, context, clips, truth[:n])
    return [{"low": np.nan, "high": np.nan} | row | {"examples": n} for row in rows]


def answer_questions(job, context, clips, truth):
    """The answers of the model, or of a baseline, to a question for each slot."""
    n, condition = len(truth), job["condition"]
    if condition.startswith("oracle"):
        return accuracy_rows(job, name_slots(clips[condition.split()[1]][:n].numpy(), clear=False), truth)
    if condition in BASELINES:
        train = name_slots(true_measures([split("train").track(i) for i in range(2000)]))
        known = np.ones((n, len(train)), bool)
        if condition == "class label":
            known = clips["labels"][:n, None].numpy() == train[:, 0]
        given = np.stack([[most_common(train[rows, k]) for k in range(len(SLOTS))] for rows in known])
        return accuracy_rows(job, given, truth)
    model = models(context)[2]
    log = torch.cat(in_batches(lambda part: sentences.log_answers(model, part), reading_of(context, condition, clips)))
    given, sure = log.argmax(-1).numpy(), log.exp().amax(-1).numpy()
    rows = accuracy_rows(job, given, truth) + calibration_rows(job, sure, given, truth)
    unclear = truth < 0
    unclear[:, [SLOTS.index(slot) for slot in ("rotation", "turns", "colour")]] = False  # there a clip may have none
    return [*rows, mean_row(job, "all", "confidence where borderline", sure[unclear])]


def most_common(values):
    return np.bincount(values[values >= 0], minlength=1).argmax()


@torch.no_grad()
def write_masked(model, reading, steps=12):
    """Sentences in parallel: all words are masked, and in each step the most confident predictions stay."""
    words = torch.full((len(reading), grammar.MAX_WORDS), NUMBERS[grammar.MASK])
    for step in range(steps):
        probability = model.word_logits(words, reading).softmax(-1)
        probability[..., NUMBERS[grammar.MASK]] = 0
        best, found = probability.max(-1)
        masked = words == NUMBERS[grammar.MASK]
        count = -(-grammar.MAX_WORDS * (step + 1) // steps) - int((~masked[0]).sum())
        rows = best.masked_fill(~masked, -1).topk(count, 1).indices
        words.scatter_(1, rows, found.gather(1, rows))
    return [grammar.decode_text(row) for row in words.tolist()]


def write_captions(job, context, clips, truth):
    """Sentences, parsed back: of the slots that they name."""
    model, condition = models(context)[2], job["condition"]
    reading = reading_of(context, condition if condition in READINGS else "tokens", clips)
    if condition == "masked, confident first":
        parts = in_batches(lambda part: write_masked(model, part), reading)
    else:
        options = {"constrained": condition != "left to right, free", "seed": 0 if condition == "drawn" else None}
        parts = in_batches(lambda part: sentences.write_sentences(model, part, **options)[0], reading)
    texts = [text for part in parts for text in part]
    given, readable = np.full(truth.shape, -1), []
    for row, text in zip(given, texts, strict=True):
        try:
            found = parse(text)
        except SentenceError:
            found = {}
        readable.append(bool(found))
        for slot, value in found.items():
            row[SLOTS.index(slot)] = VALUES[slot].index(value)
    both = (given >= 0) & (truth >= 0)
    right = given == truth
    rows = [share_row(job, slot, "accuracy", right[both[:, k], k]) for k, slot in enumerate(SLOTS)]
    rows.append(share_row(job, "all", "accuracy", right[both]))
    rows.append(share_row(job, "all", "all slots right", (right | ~both).all(1) & np.array(readable)))
    held = [is_held_out(as_slots(row)) for row in given]
    rows.append(share_row(job, "all", "names a held-out pair", held))
    rows.append(share_row(job, "all", "grammatical", [is_grammatical(text) for text in texts]))
    rows.append(share_row(job, "all", "readable", readable))
    rows.append(mean_row(job, "all", "slots named", (given >= 0).sum(1)))
    named = (given >= 0).any(1)
    borderline = ((given >= 0) & (truth < 0)).sum(1)[named] / (given >= 0).sum(1)[named]
    rows.append(mean_row(job, "all", "of them borderline", borderline if named.any() else np.zeros(1)))
    rows.append(
        job | {"slot": "all", "metric": "different sentences", "value": len(set(texts)) / len(texts), "n": len(texts)}
    )
    return rows


def follow_prompts(job, context, clips, truth):
    """Clips made from sentences: tracked, fitted, and compared with what was asked; next to real clips and others'."""
    tokenizer, _, model = models(context)
    settings, rng = context.settings, np.random.default_rng(job["seed"])
    held = job["condition"] == "held-out pairs"
    rows = np.arange(settings.clips, settings.clips + settings.prompts)
    asked = name_slots(clips["true"].numpy())[rows]
    if held:  # the pairs, next to other slots of the clips that they are possible with
        asked = np.stack([with_pair(row, HELD_OUT[i % len(HELD_OUT)]) for i, row in enumerate(asked)])[
            : settings.held_out
        ]
        rows = rows[: len(asked)]
    texts = [prompt_of(row, rng, held) for row in asked]
    asked = np.array([[VALUES[s].index(parse(t)[s]) if s in parse(t) else -1 for s in SLOTS] for t in texts])
    options, found = PROMPTED.get(job["condition"], {}), []
    for first in range(0, len(texts), BATCH):
        some = texts[first : first + BATCH]
        with bf16_autocast():
            tokens = sentences.generate_from_text(model, tokenizer, some, job["seed"] + first, **options)
            found.append(read_slots(tokenizer.decode(tokens).float()))
    measures = np.concatenate(found)
    given, strict = name_slots(measures, clear=False), name_slots(measures)
    kinds = {"fulfilled": given, "fulfilled clearly": strict, "fulfilled, permuted": rng.permutation(given)}
    if not held:
        kinds["fulfilled, real clips"] = name_slots(clips["decoded"].numpy()[rows], clear=False)
        kinds["fulfilled clearly, real clips"] = name_slots(clips["decoded"].numpy()[rows])
    out, named = [], asked >= 0
    for metric, some in kinds.items():
        right = some == asked
        out += [share_row(job, slot, metric, right[named[:, k], k]) for k, slot in enumerate(SLOTS)]
        out.append(share_row(job, "all", metric, right[named]))
        out.append(share_row(job, "all", f"all {metric}", (right | ~named).all(1)))
    return [*out, share_row(job, "all", "one dot", np.isfinite(measures[:, 0]))]


def with_pair(row, pair):
    """Slots (9,) with a held-out pair in place of what they had."""
    row = row.copy()
    for slot, value in pair.items():
        row[SLOTS.index(slot)] = VALUES[slot].index(value)
    for slot in ("rotation", "turns") if row[0] == 0 else ("turns",) if row[0] == 3 else ():
        row[SLOTS.index(slot)] = -1
    return row


def prompt_of(row, rng, held):
    """A sentence that names up to five of the slots (9,): with a held-out pair, or without one."""
    slots = as_slots(row)
    pair = next((pair for pair in HELD_OUT if pair.items() <= slots.items()), {}) if held else {}
    others = [slot for slot in slots if slot not in pair]
    rng.shuffle(others)
    kept = dict(pair) | {slot: slots[slot] for slot in others[: 5 - len(pair)]}
    if not held:
        for pair in HELD_OUT:
            if pair.items() <= kept.items():
                del kept[next(iter(pair))]
    return sentence(kept, rng)


def find_clips(job, context, clips, truth):
    """Ranks of the right clip among all for a sentence, and of the right sentence among all for a clip."""
    rng, condition, n = np.random.default_rng(job["seed"]), job["condition"], len(truth)
    texts = [sentence(as_slots(row), rng, True) for row in truth]
    model = models(context)[2]
    if condition == "exact likelihood":  # of fewer: every sentence with every clip
        n = min(n, 100)
        reading, scores = reading_of(context, "tokens", clips)[:n], np.empty((n, n))
        for i, text in enumerate(texts[:n]):
            with bf16_autocast():
                scores[i] = -sentences.sentence_bits(model, [text] * n, reading).numpy()
    elif condition == "oracle, decoded":
        given = name_slots(clips["decoded"][:n].numpy(), clear=False)
        scores = np.stack([((given == row) & (row >= 0)).sum(1) - (row >= 0).sum() for row in truth]).astype(float)
    else:
        reading = reading_of(context, "permuted" if condition == "permuted" else "tokens", clips)
        log = torch.cat(in_batches(lambda part: sentences.log_answers(model, part), reading)).clamp_min(-20).numpy()
        scores = np.stack([sum(log[:, k, v] for k, v in enumerate(row) if v >= 0) for row in truth])  # (sentence, clip)
    scores = scores + 1e-9 * rng.random(scores.shape)  # ties are broken at random
    scores_of_clip = scores - np.log(np.exp(scores - scores.max()).mean(1, keepdims=True) + 1e-300)  # against its mean
    out = []
    for direction, table in {"clips for a sentence": scores, "sentences for a clip": scores_of_clip.T}.items():
        rank = (table > np.diag(table)[:, None]).sum(1)
        out += [share_row(job, direction, f"recall at {k}", rank < k) for k in (1, 5, 10)]
        out.append(job | {"slot": direction, "metric": "median rank", "value": float(np.median(rank) + 1), "n": n})
    return out


def compare_clips(job, context, clips, truth):
    """ "Which of these two is faster?": pairs of clips whose difference is clear."""
    model, reading = models(context)[2], reading_of(context, job["condition"], clips)
    out = []
    for slot in ("speed", "size", "depth", "heading"):
        k = SLOTS.index(slot)
        odds = torch.cat(in_batches(lambda part, slot=slot: sentences.compare(model, part, slot), reading)).numpy()
        low, high = (np.flatnonzero(truth[:, k] == value) for value in (0, 1))
        pairs = min(len(low), len(high))
        out.append(share_row(job, slot, "right of two", odds[high[:pairs]] > odds[low[:pairs]]))
    return out


PART_OF = {"questions": answer_questions, "captions": write_captions, "prompts": follow_prompts,
           "retrieval": find_clips, "comparison": compare_clips}  # fmt: skip


def prepare(context):
    """The clips, before several processes ask for them."""
    test_clips(context)
