"""The prompt box: a sentence, the clip that is made from it, and whether the clip shows what the sentence says."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from trajlib import plots
from trajlib.data.slots import VALUES, as_slots, name_slots
from trajlib.evaluate.slots import read_slots
from trajlib.language import sentences
from trajlib.language.grammar import CANNOT, MEANINGS, PAD, PHRASES, SentenceError, parse, split_words
from trajlib.language.model import LanguageModel
from trajlib.language.next_words import next_words
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.widgets.base import Canvas, checked_number, script, to_bytes, video_bytes

LIMITS = {"seed": (0, 2**31 - 1, 1)}
FIRST = "a small red dot circles clockwise"
FULFILLED, MISSED = "✓", "✗"


class Check(NamedTuple):
    """One slot that a sentence names: what was asked, and what the fitted motion shows in the clip."""

    slot: str
    asked: str
    found: str  # "nothing" without a dot
    fulfilled: bool


class Made(NamedTuple):
    """A clip made from a sentence."""

    tokens: np.ndarray  # (t', h', w')
    video: np.ndarray  # (3, t, h, w) uint8
    checks: list[Check]
    caption: str  # what the model itself writes about the clip


def phrases_of(text):
    """The phrases of a sentence: [(words, slot or None, value or None)], in order; words of no phrase stand alone."""
    words, found, at = split_words(text), [], 0
    while at < len(words):
        lengths = [k for k in range(6, 0, -1) if tuple(words[at : at + k]) in MEANINGS and at + k <= len(words)]
        length = lengths[0] if lengths else 1
        found.append((" ".join(words[at : at + length]), *MEANINGS.get(tuple(words[at : at + length]), (None, None))))
        at += length
    return found


@dataclass(frozen=True, eq=False)
class Prompt:
    """A sentence and a seed, and the clip that they give. SentenceError for a sentence that cannot be read."""

    tokenizer: Tokenizer
    model: LanguageModel
    text: str = FIRST
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "seed", checked_number("seed", self.seed, LIMITS["seed"]))
        parse(self.text)

    @cached_property
    def made(self):
        """The clip, checked: `Made`. It takes a few seconds."""
        tokens = sentences.generate_from_text(self.model, self.tokenizer, self.text, self.seed)
        with torch.no_grad():
            video = self.tokenizer.decode(tokens)
        seen = as_slots(name_slots(read_slots(video), clear=False)[0])
        checks = [
            Check(slot, value, seen.get(slot, "nothing"), seen.get(slot) == value)
            for slot, value in parse(self.text).items()
        ]
        caption = sentences.caption(self.model, self.tokenizer, tokens)[0]
        return Made(tokens[0].numpy(), to_bytes(video[0]), checks, caption)

    def replaced(self, number):
        """The sentence with its phrase `number` replaced by one of the slot's next value."""
        parts = phrases_of(self.text)
        if not 0 <= number < len(parts) or parts[number][1] is None:
            raise SentenceError("this word names nothing that could be replaced: choose a coloured one.")
        _, slot, value = parts[number]
        values = list(VALUES[slot])
        after = values[(values.index(value) + 1) % len(values)]
        if slot == "family":  # the next family that the other slots allow
            rest = {other for _, other, _ in parts if other not in (None, "family")}
            order = [values[(values.index(value) + k) % len(values)] for k in range(1, len(values))]
            after = next(family for family in [*order, value] if not rest & set(CANNOT.get(family, ())))
        phrases = [words for words, *_ in parts]
        phrases[number] = PHRASES[slot][after][0]
        return replace(self, text=" ".join(phrases))

    def summary(self):
        """One line: how many slots the clip fulfils."""
        checks = self.made.checks
        return f"{sum(check.fulfilled for check in checks)} of {len(checks)} slots fulfilled"

    @plots.styled
    def picture(self):
        """The figure: the clip's frames, and the check of each slot."""
        checks, fig = self.made.checks, plots.Picture(figsize=(plots.WIDTH, 1.9 + 0.2 * len(self.made.checks)))
        top = 1.15 / fig.get_figheight()
        pictures = plots.as_pictures(self.made.video)[0]
        plots.draw_strip(fig.add_axes((0.02, 0.86 - top, 0.96, top)), pictures, max(1, len(pictures) // 8))
        fig.suptitle(f"“{self.text}”", y=0.97)
        table = fig.add_axes((0.02, 0.02, 0.96, 0.8 - top))
        table.set_axis_off()
        for k, check in enumerate(checks):
            mark, colour = (FULFILLED, "#009E73") if check.fulfilled else (MISSED, "#D55E00")
            y = 1 - (k + 0.5) / (len(checks) + 1)
            table.text(0.06, y, mark, color=colour, weight="bold", family="DejaVu Sans")
            table.text(0.1, y, f"{check.slot}: {check.asked}" + ("" if check.fulfilled else f", found {check.found}"))
        table.text(0.45, 1 - 0.5 / (len(checks) + 1), f"read back: “{self.made.caption}”", color=plots.GREY)
        table.set(xlim=(0, 1), ylim=(0, 1))
        return fig


def suggestions(text):
    """The words that may come next in the grammar, sorted; none where the text is not the beginning of a sentence."""
    try:
        found = next_words(split_words(text))
    except SentenceError:
        return []
    return sorted(found - {PAD})


class PromptBox(Canvas):
    """Write a sentence, and see the clip that is made from it. `prompt` is the plain object behind it."""

    _esm = script("prompt_box")
    about = "the prompt box: a clip made from a sentence, and which of its slots the clip fulfils"

    def __init__(self, prompt):
        self.prompt, self._draft = prompt, prompt.text
        fixed = {"panels": [{"name": "video"}], "numbers": LIMITS, "colours": [FULFILLED, MISSED]}
        spec = prompt.tokenizer.spec
        super().__init__("prompt", fixed, spec.frames, spec.size, prompt.tokenizer.grid)

    def _change(self, prompt):
        _ = prompt.made  # first: where this fails, the last good clip stays
        self.prompt, self._draft = prompt, prompt.text

    def do_write(self, text):
        self._draft = text
        self._change(replace(self.prompt, text=text))

    def do_suggest(self, text):
        self._draft = text

    def do_replace(self, number):
        self._change(self.prompt.replaced(number))

    def do_set(self, name, value):
        self._change(replace(self.prompt, **{name: value}))

    def figure(self):
        return self.prompt.picture()

    def state(self):
        prompt, made = self.prompt, self.prompt.made
        view = {
            "settings": {"seed": prompt.seed},
            "used": {},
            "text": prompt.text,
            "draft": self._draft,
            "chips": [{"text": words, "slot": slot or ""} for words, slot, _ in phrases_of(prompt.text)],
            "suggestions": suggestions(self._draft),
            "checks": [check._asdict() for check in made.checks],
            "read": made.caption,
            "summary": prompt.summary(),
            "captions": {"video": f"the clip made from “{prompt.text}”"},
            "status": "made",
        }
        return {"videos": {"video": video_bytes(made.video)}, "view": view}


def prompt_box(tokenizer, model, **settings):
    """The box, with a first clip; `settings` as in `Prompt`."""
    return PromptBox(Prompt(tokenizer, model, **settings))
