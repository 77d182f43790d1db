"""Clips with their tokens: what each token stands for, where it occurs, and what it looks like.

A position's *token* is one number here; with several codebooks it combines their indices, the first codebook's lowest.
Videos are uint8 (3, t, h, w), as in `Clip.video`. Nothing here knows a widget or a figure.
"""

import numpy as np
import torch
from scipy.sparse import csr_array

from trajlib.data.measure import FOREGROUND_THRESHOLD
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float
from trajlib.tokenizer.quantizers import codes_from_levels, level_indices

BACKGROUND_SHARE = 0.9  # a token stands for background if at least this share of its positions has no foreground


class TokenIndex:
    """Clips (a `Batch`) and their tokens, from any tokenizer; `class_names` are the names of the labels.

    `tokens` (n, t, h, w); `used` (u,) the tokens that occur, `counts` (u,) how often, `rank` (n, t, h, w) the row of
    each token in them; `patches` (u, 3, frames, height, width) uint8, each token's mean patch; `foreground`
    (n, t, h, w), whether a cell holds any of the dot; `background` (u,), whether a token stands for background;
    `levels`, the number of levels of each dimension of a token's code, () if the quantizer has none; `size`, the number
    of possible tokens. ValueError for videos that the tokenizer's cells do not divide.
    """

    def __init__(self, tokenizer, clips, class_names=FAMILIES):
        self.tokenizer, self.grid, self.cell, self.class_names = tokenizer, tokenizer.grid, tokenizer.cell, class_names
        self.levels = tuple(tokenizer.levels or ()) * tokenizer.num_codebooks
        self.size = tokenizer.codebook_size**tokenizer.num_codebooks
        frames, _, side = clips.videos.shape[2:]
        if (frames, side) != (self.grid[0] * self.cell[0], self.grid[2] * self.cell[2]):
            raise ValueError(f"videos of {frames} frames of {side} px do not divide into cells of {self.cell}.")
        self.videos, self.labels, self.paths = clips.videos.numpy(), clips.labels.numpy(), clips.paths.numpy()
        self.tokens = self.encode(clips.videos)
        self.used, flat, self.counts = np.unique(self.tokens, return_inverse=True, return_counts=True)
        self.rank = flat.reshape(self.tokens.shape)
        cells = self._cells()
        self.darkness = 255 - cells.min((4, 5, 6, 7))  # (n, t, h, w): the darkest value of each cell, 0 for white
        self.foreground = self.darkness > 255 * FOREGROUND_THRESHOLD
        self.background = self.mean(~self.foreground) >= BACKGROUND_SHARE
        sums = 0
        for part, rank in zip(*(np.array_split(x, -(-len(self) // 16)) for x in (cells, self.rank)), strict=True):
            one_hot = csr_array((np.ones(rank.size), (rank.ravel(), np.arange(rank.size))), (len(self.used), rank.size))
            sums = sums + one_hot @ part.reshape(rank.size, -1)  # 16 clips at a time: all at once fill the memory
        patches = np.rint(sums / self.counts[:, None]).astype(np.uint8)
        self.patches = patches.reshape(-1, *cells.shape[4:])
        self.vectors = self._vectors(self.used)

    def __len__(self):
        return len(self.tokens)

    # ---- tokens and their codes ----

    def codes(self, tokens):
        """Tokens (...) -> the indices of each codebook (..., codebooks)."""
        size, count = self.tokenizer.codebook_size, self.tokenizer.num_codebooks
        return np.asarray(tokens, np.int64)[..., None] // size ** np.arange(count) % size

    def combine(self, codes):
        """The inverse of `codes`: (..., codebooks) -> (...)."""
        return (np.asarray(codes, np.int64) * self.tokenizer.codebook_size ** np.arange(np.shape(codes)[-1])).sum(-1)

    def level_indices(self, tokens):
        """Tokens (...) -> the level index of each dimension of their codes (..., d), from 0 to `levels` - 1."""
        if not self.levels:
            raise ValueError("The codes of this tokenizer have no levels: its quantizer keeps a list of vectors.")
        found = level_indices(self.codes(tokens), self.tokenizer.levels)  # (..., codebooks, d)
        return found.reshape(*found.shape[:-2], -1)

    def tokens_from_levels(self, indices):
        """The inverse of `level_indices`: (..., d) -> (...)."""
        indices = np.asarray(indices, np.int64)
        by_book = indices.reshape(*indices.shape[:-1], self.tokenizer.num_codebooks, -1)
        return self.combine(codes_from_levels(by_book, self.tokenizer.levels))

    def _vectors(self, tokens):
        """Tokens (u,) -> points (u, c): level indices scaled to -1..1, or the vectors that the decoder receives."""
        if self.levels:
            return 2 * self.level_indices(tokens) / (np.array(self.levels) - 1) - 1
        codes = self.to_tensor(np.reshape(tokens, (-1, 1, 1, 1)))
        return self.tokenizer.quantizer.codes_to_latents(codes).detach().flatten(1).double().numpy()

    def name(self, token):
        """A token as text: "731", or "12·731" with two codebooks."""
        return "·".join(map(str, self.codes(token).tolist()))

    def names(self, tokens):
        """Tokens (t, h, w) as nested lists of names."""
        return [[[self.name(token) for token in row] for row in rows] for rows in tokens]

    def parse(self, text):
        """The token of a name; ValueError says what was expected."""
        size, count = self.tokenizer.codebook_size, self.tokenizer.num_codebooks
        expected = "·".join([f"0..{size - 1}"] * count)
        try:
            codes = [int(part) for part in str(text).replace(".", "·").replace(" ", "").split("·")]
        except ValueError:
            raise ValueError(f"{text!r} is not a token; expected {expected}.") from None
        if len(codes) != count or not all(0 <= code < size for code in codes):
            raise ValueError(f"{text} is not a token of this codebook; expected {expected}.")
        return int(self.combine(codes))

    # ---- videos and tokens ----

    def to_tensor(self, tokens):
        """Tokens (b, t, h, w) as models take them: a tensor (b, t, h, w[, books])."""
        codes = torch.from_numpy(self.codes(tokens))
        return codes if len(self.tokenizer.token_shape) == 4 else codes[..., 0]

    def from_tensor(self, tokens):
        """The inverse of `to_tensor`."""
        return self.combine(tokens.numpy()) if tokens.ndim == 5 else tokens.numpy()

    def encode(self, videos):
        """uint8 (b, 3, t, h, w), tensor or array -> tokens (b, t', h', w') int64."""
        return self.from_tensor(self.tokenizer.encode(to_float(torch.as_tensor(videos))))

    def decode(self, tokens):
        """Tokens (b, t', h', w') -> videos (b, 3, t, h, w) uint8."""
        return self.tokenizer.decode(self.to_tensor(tokens)).mul(255).round().byte().numpy()

    def box(self, t, y, x):
        """The slices (frames, rows, columns) of a video that a position's cell covers."""
        return tuple(slice(i * size, (i + 1) * size) for i, size in zip((t, y, x), self.cell, strict=True))

    def _cells(self):
        """The videos cut into cells (n, t', h', w', 3, frames, height, width); no copy."""
        (t, h, w), (dt, dh, dw) = self.grid, self.cell
        return self.videos.reshape(len(self), 3, t, dt, h, dh, w, dw).transpose(0, 2, 4, 6, 1, 3, 5, 7)

    # ---- one token ----

    def mean(self, values):
        """Mean of values (n, t, h, w) over the positions of each used token: (u,)."""
        return np.bincount(self.rank.ravel(), np.ravel(values), len(self.used)) / self.counts

    def row(self, token):
        """The token's row in `used`, or None if no clip has it."""
        row = int(np.searchsorted(self.used, token))
        return row if row < len(self.used) and self.used[row] == token else None

    def count(self, token):
        """How often the token occurs."""
        row = self.row(token)
        return 0 if row is None else int(self.counts[row])

    def log_frequency(self, tokens):
        """How frequent tokens (any shape) are, on a logarithmic scale: 1 the most frequent, 0 what no clip has."""
        row = np.searchsorted(self.used, tokens).clip(0, len(self.used) - 1)
        count = np.where(self.used[row] == tokens, self.counts[row], 0)
        return np.log1p(count) / np.log1p(self.counts.max())

    def positions(self, token):
        """Clip, t, y, x of each occurrence: (m, 4)."""
        return np.argwhere(self.tokens == token)

    def position_counts(self, token):
        """How often the token stands in each position of the grid: (t, h, w)."""
        return (self.tokens == token).sum(0)

    def class_counts(self, token):
        """How often it occurs in clips of each class: (classes,)."""
        return np.bincount(self.labels[self.positions(token)[:, 0]], minlength=len(self.class_names))

    def patch(self, clip, t, y, x):
        """The cell of a real clip: (3, frames, height, width) uint8."""
        return self.videos[(clip, slice(None), *self.box(t, y, x))]

    def examples(self, token, n):
        """Up to `n` positions (clip, t, y, x) with this token, from as many different clips as possible."""
        positions = self.positions(token)  # in order of clips
        turn = np.arange(len(positions)) - np.searchsorted(positions[:, 0], positions[:, 0])  # first, ... in its clip
        return [tuple(map(int, positions[i])) for i in np.argsort(turn, kind="stable")[:n]]

    def nearest(self, token, n):
        """The `n` used tokens with the nearest codes: fewest levels apart, or by the distance of their vectors."""
        return self._closest(((self.vectors - self._vectors(np.array([token]))) ** 2).sum(1), token, n)

    def similar_patches(self, token, n):
        """The `n` used tokens whose mean patches are nearest in pixels; none if no clip has the token."""
        row = self.row(token)
        if row is None:
            return []
        flat = self.patches.reshape(len(self.used), -1).astype(np.float32)
        return self._closest(((flat - flat[row]) ** 2).sum(1), token, n)

    def _closest(self, distance, token, n):
        order = np.argsort(distance, kind="stable")
        return [int(self.used[i]) for i in order if self.used[i] != token][:n]

    # ---- all of them ----

    def dot_position(self, clip, t):
        """The position (t, y, x) of the darkest cell in frame `t` of a clip's tokens."""
        return (t, *map(int, np.unravel_index(self.darkness[clip, t].argmax(), self.grid[1:])))

    def entropies(self):
        """Entropy of the tokens in each position of the grid, bits: (t, h, w)."""
        found = np.empty(self.grid)
        for at in np.ndindex(found.shape):
            p = np.unique(self.tokens[:, *at], return_counts=True)[1] / len(self)
            found[at] = -(p * np.log2(p)).sum()
        return found

    def motions(self):
        """Where the dot's centre is and how it moves, for each clip and each frame of tokens.

        Position of its cell (m, 4), offset in it in pixels and velocity in pixels a frame, x before y, (m, 2) each.
        """
        n, (t, h, w), (dt, dh, dw) = len(self), self.grid, self.cell
        paths = self.paths.reshape(n, t, dt, 2)
        centre, velocity = paths.mean(2) + 0.5, (paths[:, :, -1] - paths[:, :, 0]) / max(1, dt - 1)
        x, y = (
            np.clip(centre[..., k] // size, 0, top - 1).astype(int) for k, (size, top) in enumerate(((dw, w), (dh, h)))
        )
        clip, time = np.mgrid[:n, :t]
        index = np.stack([clip, time, y, x], -1).reshape(-1, 4)
        offset = centre - np.stack([x * dw, y * dh], -1)
        return index, offset.reshape(-1, 2), velocity.reshape(-1, 2)

    def patch_layout(self):
        """Used tokens on a plane, similar patches near each other: t-SNE of the mean patches from a PCA; (u, 2)."""
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE

        features = 255.0 - self.patches.reshape(len(self.used), -1)
        parts = PCA(min(20, *features.shape), random_state=0).fit_transform(features)
        method = "barnes_hut" if len(parts) > 50 else "exact"  # the fast method needs more than a handful of points
        options = {"perplexity": min(20, (len(parts) - 1) / 3), "max_iter": 500, "method": method}
        return TSNE(init="pca", random_state=0, **options).fit_transform(parts)

    def code_layout(self):
        """Used tokens on a plane by their codes alone: the two principal components of `vectors`; (u, 2)."""
        from sklearn.decomposition import PCA

        return PCA(2, random_state=0).fit_transform(self.vectors)
