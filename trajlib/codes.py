"""What a token means, as plain objects: how codes are spelt, clips with their tokens, surgery on one, ways to another.

A *word* is what stands in one place of the grid: the token, or with several codebooks all its tokens as one number.
Nothing here knows a widget or a figure; films are uint8 (3, 16, 64, 64), as in `Clip.video`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from trajlib.dataset import to_float
from trajlib.render import FRAMES, SIZE
from trajlib.sampling import generate

INK = 5  # of 255: what is darker than white by less counts as paper
BLANK = 0.9  # a word is blank when at least this share of its places has no ink


# ---- words ----


@dataclass(frozen=True)
class Codebook:
    """How a word is spelt: in digits, `levels` steps each, the same again for every further book.

    FSQ's first digit is the lowest. LFQ's digits are bits, and its first is the highest.
    """

    levels: tuple[int, ...]
    books: int = 1
    low_first: bool = True

    @property
    def book_size(self):
        """Codes in one book."""
        return math.prod(self.levels)

    @property
    def size(self):
        """Possible words."""
        return self.book_size**self.books

    @property
    def steps(self):
        """Steps of each digit of a word."""
        return self.levels * self.books

    @property
    def _values(self):
        levels = self.levels if self.low_first else self.levels[::-1]
        values = np.cumprod((1, *levels[:-1]), dtype=np.int64)
        values = values if self.low_first else values[::-1]
        return np.concatenate([values * self.book_size**book for book in range(self.books)])

    def digits(self, words):
        """Words of any shape -> their digits (..., d), each from 0 to its number of steps less one."""
        return np.asarray(words, np.int64)[..., None] // self._values % np.array(self.steps)

    def words(self, digits):
        """The reverse of `digits`."""
        return (np.asarray(digits, np.int64) * self._values).sum(-1)

    def vectors(self, words):
        """Digits as coordinates from -1 to 1: the corner, or the lattice point, of the quantizer's cube."""
        return 2 * self.digits(words) / (np.array(self.steps) - 1) - 1

    def codes(self, words):
        """Words -> the tokens of each book (..., books)."""
        return np.asarray(words, np.int64)[..., None] // self.book_size ** np.arange(self.books) % self.book_size

    def spell(self, word):
        """ "731", or "12·731" with two books."""
        return "·".join(map(str, self.codes(word).tolist()))

    def spell_all(self, words):
        """Words (8, 4, 4) as nested lists of their spellings."""
        return [[[self.spell(word) for word in row] for row in rows] for rows in words]

    def read(self, text):
        """The word that `text` spells; ValueError says what was expected."""
        expected = "·".join([f"0..{self.book_size - 1}"] * self.books)
        try:
            codes = [int(part) for part in str(text).replace(".", "·").replace(" ", "").split("·")]
        except ValueError:
            raise ValueError(f"{text!r} is not a code; expected {expected}.") from None
        if len(codes) != self.books or not all(0 <= code < self.book_size for code in codes):
            raise ValueError(f"{text} is not a code of this book; expected {expected}.")
        return sum(code * self.book_size**book for book, code in enumerate(codes))


def codebook_of(tokenizer, books=1):
    """FSQ says its levels; LFQ has bits, as many as its codebook's size asks for."""
    levels = tokenizer.config.get("levels")
    if levels:
        return Codebook(tuple(levels), books)
    return Codebook((2,) * round(math.log2(tokenizer.codebook_size)), books, low_first=False)


class Codec:
    """A tokenizer that speaks words in NumPy, whatever its quantizer and its number of books."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        tokens = tokenizer.encode(torch.ones(1, 3, FRAMES, SIZE, SIZE))
        self.grid = tuple(tokens.shape[1:4])
        self.many = tokens.ndim == 5  # (b, t, h, w, books)
        self.codebook = codebook_of(tokenizer, tokens.shape[4] if self.many else 1)
        self.cell = tuple(whole // parts for whole, parts in zip((FRAMES, SIZE, SIZE), self.grid, strict=True))

    def tokens(self, words):
        """Words (b, 8, 4, 4) -> tokens as the tokenizer takes them."""
        codes = torch.from_numpy(self.codebook.codes(words))
        return codes if self.many else codes[..., 0]

    def encode(self, videos, batch=16):
        """uint8 (b, 3, 16, 64, 64) tensor or array -> words (b, 8, 4, 4) int64."""
        parts = torch.as_tensor(videos).split(batch)
        tokens = torch.cat([self.tokenizer.encode(to_float(part)) for part in parts]).numpy()
        place_values = self.codebook.book_size ** np.arange(self.codebook.books)
        return (tokens * place_values).sum(-1) if self.many else tokens

    def decode(self, words, batch=16):
        """Words (b, 8, 4, 4) -> films (b, 3, 16, 64, 64) uint8."""
        parts = self.tokens(words).split(batch)
        films = [self.tokenizer.decode(part).mul(255).round().byte() for part in parts]
        return torch.cat(films).numpy()

    def box(self, t, y, x):
        """The slices of a film (t, h, w) that the cell of a place covers."""
        return tuple(slice(i * size, (i + 1) * size) for i, size in zip((t, y, x), self.cell, strict=True))

    def cells(self, films):
        """Films (b, c, 16, 64, 64) cut into cells: (b, 8, 4, 4, c, 2, 16, 16). No copy."""
        b, c = films.shape[:2]
        (t, h, w), (dt, dh, dw) = self.grid, self.cell
        return films.reshape(b, c, t, dt, h, dh, w, dw).transpose(0, 2, 4, 6, 1, 3, 5, 7)


# ---- clips with their words ----


class Corpus:
    """Clips and their words: what each word stands for, where it occurs, and what it looks like."""

    def __init__(self, codec, clips):
        self.codec, self.codebook = codec, codec.codebook
        self.films, self.labels, self.paths = clips.videos.numpy(), clips.labels.numpy(), clips.paths.numpy()
        self.words = codec.encode(clips.videos)  # (n, 8, 4, 4)
        self.used, flat, self.counts = np.unique(self.words, return_inverse=True, return_counts=True)
        self.rank = flat.reshape(self.words.shape)  # each word's row in `used`, `counts`, `patches`, ...
        cells = codec.cells(self.films)
        self.ink = (255 - cells.min((4, 5, 6, 7))) > INK  # (n, 8, 4, 4): does the cell hold any of the dot?
        self.blank = self.mean(~self.ink) >= BLANK  # (used,)
        sums = np.zeros((len(self.used), *cells.shape[4:]))
        for clip, rank in zip(cells, self.rank, strict=True):  # one clip at a time: all at once fill the memory
            np.add.at(sums, rank, clip)
        self.patches = np.rint(sums / self.counts[:, None, None, None, None]).astype(np.uint8)  # mean (u, 3, 2, 16, 16)
        self.vectors = self.codebook.vectors(self.used)

    def __len__(self):
        return len(self.words)

    def mean(self, values):
        """Mean of values (n, 8, 4, 4) over the places of each word."""
        return np.bincount(self.rank.ravel(), np.ravel(values), len(self.used)) / self.counts

    def row(self, word):
        """The word's row in `used`, or None if no clip has it."""
        row = int(np.searchsorted(self.used, word))
        return row if row < len(self.used) and self.used[row] == word else None

    def count(self, word):
        """How often the word occurs."""
        row = self.row(word)
        return 0 if row is None else int(self.counts[row])

    def commonness(self, words):
        """How often words occur, any shape, on a logarithmic scale: 1 for the most frequent, 0 for what no clip has."""
        row = np.searchsorted(self.used, words).clip(0, len(self.used) - 1)
        count = np.where(self.used[row] == words, self.counts[row], 0)
        return np.log1p(count) / np.log1p(self.counts.max())

    def places(self, word):
        """(m, 4): clip, t, y, x of each occurrence."""
        return np.argwhere(self.words == word)

    def where(self, word):
        """How often it stands in each place of the grid: (8, 4, 4)."""
        return (self.words == word).sum(0)

    def classes(self, word, n=4):
        """How often it stands in clips of each class: (4,)."""
        return np.bincount(self.labels[self.places(word)[:, 0]], minlength=n)

    def patch(self, clip, t, y, x):
        """The cell of a real clip: (3, 2, 16, 16) uint8."""
        return self.films[(clip, slice(None), *self.codec.box(t, y, x))]

    def examples(self, word, n):
        """Up to `n` places (clip, t, y, x) with this word, from as many different clips as there are."""
        places = self.places(word)  # in order of clips
        turn = np.arange(len(places)) - np.searchsorted(places[:, 0], places[:, 0])  # first, second, ... in its clip
        order = np.argsort(turn, kind="stable")
        return [tuple(map(int, places[i])) for i in order[:n]]

    def nearest(self, word, n):
        """The `n` used words nearest in the quantizer's cube."""
        return self._closest(((self.vectors - self.codebook.vectors(word)) ** 2).sum(1), word, n)

    def look_alikes(self, word, n):
        """The `n` used words whose mean patches are nearest in pixels: other names for the same picture."""
        row = self.row(word)
        if row is None:
            return []
        flat = self.patches.reshape(len(self.used), -1).astype(np.float32)
        return self._closest(((flat - flat[row]) ** 2).sum(1), word, n)

    def _closest(self, distance, word, n):
        order = np.argsort(distance, kind="stable")
        return [int(self.used[i]) for i in order if self.used[i] != word][:n]

    def entropies(self):
        """Bits of each place: the entropy of the words that stand there, (8, 4, 4)."""
        found = np.empty(self.words.shape[1:])
        for place in np.ndindex(found.shape):
            p = np.unique(self.words[:, *place], return_counts=True)[1] / len(self)
            found[place] = -(p * np.log2(p)).sum()
        return found

    def motions(self):
        """Where the dot's centre is, for each clip and pair of frames.

        Index of its cell (m, 4), the place within it and the velocity in pixels a frame, x before y, (m, 2) each.
        """
        n, (t, h, w), (dt, dh, dw) = len(self), self.codec.grid, self.codec.cell
        paths = self.paths.reshape(n, t, dt, 2)
        centre, velocity = paths.mean(2) + 0.5, (paths[:, :, -1] - paths[:, :, 0]) / max(1, dt - 1)
        x, y = (
            np.clip(centre[..., k] // size, 0, top - 1).astype(int) for k, (size, top) in enumerate(((dw, w), (dh, h)))
        )
        clip, time = np.mgrid[:n, :t]
        index = np.stack([clip, time, y, x], -1).reshape(-1, 4)
        inside = centre - np.stack([x * dw, y * dh], -1)
        return index, inside.reshape(-1, 2), velocity.reshape(-1, 2)

    def layout(self):
        """Used words on a plane, alike ones near each other: t-SNE of their mean patches, from a PCA start; (u, 2)."""
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE

        features = 255.0 - self.patches.reshape(len(self.used), -1)
        parts = PCA(min(20, *features.shape), random_state=0).fit_transform(features)
        perplexity = min(20, (len(parts) - 1) / 3)
        return TSNE(
            init="pca", perplexity=perplexity, random_state=0, max_iter=500, method=_method(len(parts))
        ).fit_transform(parts)

    def cube(self):
        """Used words on a plane by their digits alone: the quantizer's cube along its two widest directions; (u, 2)."""
        from sklearn.decomposition import PCA

        return PCA(2, random_state=0).fit_transform(self.vectors)


def _method(n):
    """t-SNE's fast way needs more than a handful of points."""
    return "barnes_hut" if n > 50 else "exact"


# ---- surgery ----


class Surgery:
    """One clip's words under the knife: every change is decoded, and can be taken back."""

    def __init__(self, corpus, clip=0):
        self.corpus, self.codec = corpus, corpus.codec
        self.selected = (0, 0, 0)
        self.choose(clip)

    def choose(self, clip):
        """Take another clip, its own words, nothing changed."""
        if not 0 <= clip < len(self.corpus):
            raise ValueError(f"clip {clip} came; they run from 0 to {len(self.corpus) - 1}.")
        self.clip = int(clip)
        self.original = self.corpus.words[clip]
        self.base = self.codec.decode(self.original[None])[0]  # what the untouched words paint
        self.reset()

    def reset(self):
        """Back to the clip's own words."""
        self.words, self.history, self.film = self.original.copy(), [], self.base

    def undo(self):
        """Take the last change back; with none, nothing happens."""
        if self.history:
            self.words, self.film = self.history.pop()

    def select(self, t, y, x):
        """Choose the place that the next change is about."""
        place = (int(t), int(y), int(x))
        if not all(0 <= i < size for i, size in zip(place, self.codec.grid, strict=True)):
            raise ValueError(f"place {place} came; the grid is {self.codec.grid}.")
        self.selected = place

    @property
    def word(self):
        """The word in the selected place."""
        return int(self.words[self.selected])

    def replace(self, word):
        """Put any word into the selected place."""
        if not 0 <= word < self.codec.codebook.size:
            raise ValueError(f"word {word} came; this codebook has 0 .. {self.codec.codebook.size - 1}.")
        changed = self.words.copy()
        changed[self.selected] = word
        self._put(changed)

    def step(self, digit, by=1):
        """Move one digit of the selected word by so many steps, as far as it goes; a bit is flipped."""
        codebook = self.codec.codebook
        digits, top = codebook.digits(self.word), codebook.steps[digit] - 1
        digits[digit] = 1 - digits[digit] if top == 1 else min(max(0, digits[digit] + by), top)
        self.replace(int(codebook.words(digits)))

    def take(self, clip):
        """The word that another clip has in the same place."""
        self.replace(int(self.corpus.words[(clip, *self.selected)]))

    def take_frame(self, clip):
        """All words of the selected frame of tokens from another clip."""
        changed = self.words.copy()
        changed[self.selected[0]] = self.corpus.words[clip, self.selected[0]]
        self._put(changed)

    def _put(self, words):
        if (words != self.words).any():
            self.history.append((self.words, self.film))
            self.words, self.film = words, self.codec.decode(words[None])[0]

    @property
    def changed(self):
        """Which places hold another word than the clip's own: (8, 4, 4) bool."""
        return self.words != self.original

    @property
    def change(self):
        """What the changes did to the film: (16, 64, 64), mean over the colours, 0 to 255."""
        return np.abs(self.film.astype(np.int16) - self.base).mean(0)

    @property
    def error(self):
        """What the film lacks to the clip: (16, 64, 64), mean over the colours, 0 to 255."""
        return np.abs(self.film.astype(np.int16) - self.corpus.films[self.clip]).mean(0)

    def field(self):
        """Shares of the change: {"cell": in the changed places' own cells, "beside", "before", "after"}; None without.

        "beside" is in their frames, outside their cells; "before" and "after" are the other frames.
        """
        change, cells = self.change, self.changed
        if not change.sum():
            return None
        own = cells.repeat(self.codec.cell[0], 0).repeat(self.codec.cell[1], 1).repeat(self.codec.cell[2], 2)
        frames = own.any((1, 2))
        first, last = np.flatnonzero(frames)[[0, -1]]
        by_frame = change.sum((1, 2))
        parts = {
            "cell": (change * own).sum(),
            "beside": (change * ~own)[frames].sum(),
            "before": by_frame[:first].sum(),
            "after": by_frame[last + 1 :].sum(),
        }
        return {name: float(part / change.sum()) for name, part in parts.items()}


# ---- from one clip to another ----


class Morph:
    """A way from clip `a` to clip `b` in `steps` steps through words, by one of `methods`.

    "lattice": along the straight line between the quantized latents, rounded to words at each step.
    "tokens": b's words take the place of a's, the most important first; step by step an equal part of the importance.
    "transformer": the same, but words near the front of the exchange are written anew, to fit both sides.
    """

    def __init__(self, corpus, a, b, steps=16, transformer=None):
        self.corpus, self.codec, self.steps, self.transformer = corpus, corpus.codec, steps, transformer
        self.methods = ("lattice", "tokens", *(["transformer"] if self.transformer is not None else []))
        self.choose(a, b)

    def choose(self, a, b):
        """Set the two ends; their words are ranked anew."""
        for clip in (a, b):
            if not 0 <= clip < len(self.corpus):
                raise ValueError(f"clip {clip} came; they run from 0 to {len(self.corpus) - 1}.")
        self.a, self.b = int(a), int(b)
        self.start, self.end = self.corpus.words[a], self.corpus.words[b]
        self.places = np.argwhere(self.start != self.end)  # (m, 3)
        self.importance = []  # of as many places as have been tried
        self.base = self.codec.decode(self.start[None])[0].astype(np.int16)
        self._order = None

    # ranking takes a decode a place: it is done in slices, so that a kernel can answer in between

    @property
    def ranked(self):
        """Whether every place has been tried."""
        return len(self.importance) == len(self.places)

    def work(self, slice_size=8):
        """Try the next few places: how much does the film change when this word alone is exchanged?"""
        todo = self.places[len(self.importance) :][:slice_size]
        if len(todo):
            trials = np.repeat(self.start[None], len(todo), 0)
            index = (np.arange(len(todo)), *todo.T)
            trials[index] = self.end[tuple(todo.T)]
            moved = np.abs(self.codec.decode(trials) - self.base).mean((1, 2, 3, 4))
            self.importance += moved.tolist()

    @property
    def order(self):
        """Places that differ, the most important first: (m, 3). Ranks what is not ranked yet."""
        while not self.ranked:
            self.work(16)
        if self._order is None:
            self._order = self.places[np.argsort(-np.array(self.importance), kind="stable")]
        return self._order

    def words(self, method, step):
        """The words after `step` of `steps` steps: (8, 4, 4); the ends are the clips' own."""
        if method not in self.methods:
            raise ValueError(f"no morph is called {method!r}; there are {', '.join(self.methods)}.")
        part = step / self.steps
        if part in (0, 1) or len(self.places) < 2:
            return (self.end if part else self.start).copy()
        if method == "lattice":
            codebook = self.codec.codebook
            digits = (1 - part) * codebook.digits(self.start) + part * codebook.digits(self.end)
            return codebook.words(np.floor(digits + 0.5))
        words, m = self.start.copy(), len(self.places)
        order, front = self.order, self._front(part)
        done = tuple(order[:front].T)
        words[done] = self.end[done]
        if method == "transformer":
            reach = round(m / 2 * part * (1 - part))  # a quarter of what differs is open half-way, none at the ends
            hidden = np.zeros(words.shape, bool)
            hidden[tuple(order[max(0, front - reach) : front + reach].T)] = True
            label = int(self.corpus.labels[self.a if part < 0.5 else self.b])
            words = refill(self.transformer, words, hidden, label)
        return words

    def _front(self, part):
        """How many of the places in `order` make up this part of all importance: at least one, and never all."""
        weight = np.cumsum(np.sort(self.importance)[::-1])
        return int(np.clip(np.searchsorted(weight, part * weight[-1] - 1e-9) + 1, 1, len(weight) - 1))

    def film(self, method, step):
        """`words`, decoded: (3, 16, 64, 64) uint8."""
        return self.codec.decode(self.words(method, step)[None])[0]

    def cross_fade(self, step):
        """The two decoded clips mixed in pixels, for comparison: (3, 16, 64, 64) uint8."""
        end = self.codec.decode(self.end[None])[0]
        part = step / self.steps
        return np.rint((1 - part) * self.base + part * end).astype(np.uint8)

    def origin(self, words):
        """Where each word comes from: "=" both clips, "A", "B", or "+" neither; (8, 4, 4)."""
        a, b = words == self.start, words == self.end
        return np.select([a & b, a, b], ["=", "A", "B"], "+")


def speaks(transformer, codec):
    """Whether a masked transformer is one for this tokenizer's words."""
    same = getattr(transformer, "codebook_size", None) == codec.codebook.size
    return not codec.many and same and tuple(getattr(transformer, "grid", ())) == codec.grid


def refill(transformer, words, hidden, label, steps=6, seed=0):
    """Write the hidden places of words (8, 4, 4) anew, the others given and kept."""
    start, given = torch.from_numpy(words)[None], torch.from_numpy(~hidden)
    return generate(transformer, [label], steps, seed=seed, start=start, given=given, refine=False)[0].numpy()
