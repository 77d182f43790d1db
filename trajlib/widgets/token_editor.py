"""Edit a clip's tokens: every change is decoded, and can be undone."""

import numpy as np


class TokenEditor:
    """The tokens of one clip of a `TokenIndex`, and what they decode to after each change.

    `tokens` (t, h, w) as they are now, `original` the clip's own; `video` and `base` are what they decode to.
    """

    def __init__(self, index, clip=0):
        self.index, self.selected = index, (0, 0, 0)
        self.choose(clip)

    def choose(self, clip):
        """Take another clip with its own tokens."""
        if not 0 <= clip < len(self.index):
            raise ValueError(f"clip {clip} came; they run from 0 to {len(self.index) - 1}.")
        self.clip = int(clip)
        self.original = self.index.tokens[clip]
        self.base = self.index.decode(self.original[None])[0]
        self.reset()

    def reset(self):
        """Back to the clip's own tokens."""
        self.tokens, self.history, self.video = self.original.copy(), [], self.base

    def undo(self):
        """Undo the last change, if there is one."""
        if self.history:
            self.tokens, self.video = self.history.pop()

    def select(self, t, y, x):
        """Choose the position of the next change."""
        position = (int(t), int(y), int(x))
        if not all(0 <= i < size for i, size in zip(position, self.index.grid, strict=True)):
            raise ValueError(f"position {position} came; the grid is {self.index.grid}.")
        self.selected = position

    @property
    def token(self):
        """The token in the selected position."""
        return int(self.tokens[self.selected])

    def replace(self, token):
        """Put any token into the selected position."""
        if not 0 <= token < self.index.size:
            raise ValueError(f"token {token} came; this codebook has 0 .. {self.index.size - 1}.")
        changed = self.tokens.copy()
        changed[self.selected] = token
        self._put(changed)

    def step(self, dimension, by=1):
        """Move one level index of the selected token by so many levels, within its range; a bit is flipped."""
        indices, top = self.index.level_indices(self.token), self.index.levels[dimension] - 1
        indices[dimension] = 1 - indices[dimension] if top == 1 else min(max(0, indices[dimension] + by), top)
        self.replace(int(self.index.tokens_from_levels(indices)))

    def copy_token(self, clip):
        """Take the token that another clip has in the same position."""
        self.replace(int(self.index.tokens[(clip, *self.selected)]))

    def copy_frame(self, clip):
        """Take all tokens of the selected frame of tokens from another clip."""
        changed = self.tokens.copy()
        changed[self.selected[0]] = self.index.tokens[clip, self.selected[0]]
        self._put(changed)

    def _put(self, tokens):
        if (tokens != self.tokens).any():
            self.history.append((self.tokens, self.video))
            self.tokens, self.video = tokens, self.index.decode(tokens[None])[0]

    @property
    def changed(self):
        """Which positions differ from the clip's own tokens: (t, h, w) bool."""
        return self.tokens != self.original

    @property
    def change(self):
        """Absolute change of the decoded video: (t, h, w) pixels, mean over the colours, 0 to 255."""
        return np.abs(self.video.astype(np.int16) - self.base).mean(0)

    @property
    def error(self):
        """Absolute difference of the decoded video from the clip: (t, h, w) pixels, mean over the colours, 0 to 255."""
        return np.abs(self.video.astype(np.int16) - self.index.videos[self.clip]).mean(0)

    def change_shares(self):
        """Where the change of the pixels lies, as shares of it; None without a change.

        {"cell": in the changed positions' own cells, "same frames": elsewhere in their frames, "before", "after": in
        the frames before and after them}.
        """
        change, own = self.change, self.changed
        if not change.sum():
            return None
        for axis, size in enumerate(self.index.cell):
            own = own.repeat(size, axis)
        frames = own.any((1, 2))
        first, last = np.flatnonzero(frames)[[0, -1]]
        by_frame = change.sum((1, 2))
        parts = {
            "cell": (change * own).sum(),
            "same frames": (change * ~own)[frames].sum(),
            "before": by_frame[:first].sum(),
            "after": by_frame[last + 1 :].sum(),
        }
        return {name: float(part / change.sum()) for name, part in parts.items()}
