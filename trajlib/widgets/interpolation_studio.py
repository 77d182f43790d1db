"""From one clip to another, step by step, through tokens; and the cross-fade of their pixels for comparison."""

import numpy as np
import torch

from trajlib import plots
from trajlib.generation.sampling import generate
from trajlib.widgets.base import Canvas, script, video_bytes

METHODS = {
    "latents": "interpolate the codes",
    "tokens": "exchange tokens, the most important first",
    "transformer": "exchange tokens, resample some with the transformer",
}
ORIGINS = [
    ["A", "A's token", "#0072B2"],
    ["B", "B's token", "#E69F00"],
    ["=", "the same in both", "#D0D0D0"],
    ["+", "neither's", "#009E73"],
]


class Interpolation:
    """From clip `a` to clip `b` of a `TokenIndex` in `steps` steps, by one of `methods`.

    "latents": along the straight line between the codes, rounded to a token at each step: to the nearest level, or
    where codes have no levels to the nearest vector in use.
    "tokens": B's tokens replace A's, the most important first; each step exchanges an equal part of the importance,
    the difference of the two decoded clips in a token's own cell.
    "transformer": the same, but tokens near the boundary between the exchanged and the others are resampled.
    """

    def __init__(self, index, a, b, steps=16, transformer=None):
        self.index, self.steps, self.transformer = index, steps, transformer
        self.methods = ("latents", "tokens", *(["transformer"] if transformer is not None else []))
        self.choose(a, b)

    def choose(self, a, b):
        """Set the two clips."""
        for clip in (a, b):
            if not 0 <= clip < len(self.index):
                raise ValueError(f"clip {clip} came; they run from 0 to {len(self.index) - 1}.")
        self.a, self.b = int(a), int(b)
        self.start, self.end = self.index.tokens[a], self.index.tokens[b]
        self.ends = self.index.decode(np.stack([self.start, self.end])).astype(np.int16)
        positions, (t, h, w), (dt, dh, dw) = np.argwhere(self.start != self.end), self.index.grid, self.index.cell
        difference = np.abs(self.ends[1] - self.ends[0]).mean(0).reshape(t, dt, h, dh, w, dw).mean((1, 3, 5))
        importance = difference[tuple(positions.T)]
        order = np.argsort(-importance, kind="stable")
        self.order, self.importance = positions[order], importance[order]  # (m, 3), (m,): the most important first

    def tokens(self, method, step):
        """The tokens after `step` of `steps` steps: (t, h, w); those of the clips at the ends."""
        if method not in self.methods:
            raise ValueError(f"no method is called {method!r}; there are {', '.join(self.methods)}.")
        part = step / self.steps
        if part in (0, 1) or len(self.order) < 2:
            return (self.end if part else self.start).copy()
        if method == "latents":
            return self._between(part)
        tokens, exchanged = self.start.copy(), self._exchanged(part)
        done = tuple(self.order[:exchanged].T)
        tokens[done] = self.end[done]
        if method == "transformer":
            reach = round(len(self.order) / 2 * part * (1 - part))  # a quarter of them half-way, none at the ends
            masked = np.zeros(tokens.shape, bool)
            masked[tuple(self.order[max(0, exchanged - reach) : exchanged + reach].T)] = True
            label = int(self.index.labels[self.a if part < 0.5 else self.b])
            tokens = resample_positions(self.transformer, self.index, tokens, masked, label)
        return tokens

    def _between(self, part):
        index, tokens = self.index, self.start.copy()
        if index.levels:
            levels = (1 - part) * index.level_indices(self.start) + part * index.level_indices(self.end)
            return index.tokens_from_levels(np.floor(levels + 0.5))
        at = tuple(self.order.T)
        a, b = (index.vectors[index.rank[clip][at]] for clip in (self.a, self.b))  # (m, c)
        vectors = (1 - part) * a + part * b
        distance = (index.vectors**2).sum(1) - 2 * vectors @ index.vectors.T  # (m, used), squared, up to |vectors|^2
        tokens[at] = index.used[distance.argmin(1)]
        return tokens

    def _exchanged(self, part):
        """How many of the positions in `order` make up this part of all importance: at least one, and never all."""
        weight = np.cumsum(self.importance)
        return int(np.clip(np.searchsorted(weight, part * weight[-1] - 1e-9) + 1, 1, len(weight) - 1))

    def video(self, method, step):
        """`tokens`, decoded: (3, t, h, w) uint8."""
        return self.index.decode(self.tokens(method, step)[None])[0]

    def cross_fade(self, step):
        """The two decoded clips mixed in pixels: (3, t, h, w) uint8."""
        part = step / self.steps
        return np.rint((1 - part) * self.ends[0] + part * self.ends[1]).astype(np.uint8)

    def origin(self, tokens):
        """Where each token comes from: "=" both clips, "A", "B", or "+" neither; (t, h, w)."""
        a, b = tokens == self.start, tokens == self.end
        return np.select([a & b, a, b], ["=", "A", "B"], "+")


def fits_tokenizer(transformer, tokenizer):
    """Whether a masked transformer is one for this tokenizer's tokens."""
    same = getattr(transformer, "codebook_size", None) == tokenizer.codebook_size
    return same and tuple(getattr(transformer, "grid", ())) == tuple(tokenizer.token_shape)


def resample_positions(transformer, index, tokens, masked, label, steps=6, seed=0):
    """Predict the masked positions of tokens (t, h, w) again, given all others; `index` is their `TokenIndex`."""
    condition, observed = index.to_tensor(tokens[None]), torch.from_numpy(~masked)[None]
    observed = observed.reshape(*observed.shape, *[1] * (condition.ndim - 4)).expand_as(condition)  # for all codebooks
    labels = [label] if transformer.num_classes else None
    given = {"condition": condition, "observed": observed, "refine": False}
    return index.from_tensor(generate(transformer, labels, steps, seed=seed, **given))[0]


class InterpolationStudio(Canvas):
    """From clip A to clip B, step by step. `interpolation` is the plain object behind it."""

    _esm = script("interpolation_studio")

    def __init__(self, index, a=0, b=1, transformer=None, steps=16):
        self.interpolation = Interpolation(index, a, b, steps, transformer)
        self.method, self.step = "latents", steps // 2
        through = self.interpolation.video(self.method, self.step)
        dots = [255 - video.min((0, 2, 3)) for video in (index.videos[a], through, index.videos[b])]  # by frame
        fixed = {
            "start": int(np.min(dots, 0).argmax()),  # the frame that is shown first: it has a dot in each of them
            "panels": [{"name": "a"}, {"name": "through"}, {"name": "fade"}, {"name": "b"}],
            "clips": len(index),
            "steps": steps,
            "methods": [[method, METHODS[method]] for method in self.interpolation.methods],
            "origins": ORIGINS,
        }
        super().__init__("interpolation", fixed, index.videos.shape[2], index.videos.shape[4], index.grid)

    def do_choose(self, a, b):
        self.interpolation.choose(a, b)

    def do_use(self, method):
        self.method = method

    def do_go(self, step):
        self.step = int(step)

    def figure(self):
        now, half = self.interpolation, self.interpolation.steps // 2
        rows = {"A": now.ends[0].astype(np.uint8), "cross-fade": now.cross_fade(half)}
        rows |= {method: now.video(method, half) for method in now.methods if method != "transformer"}
        rows["B"] = now.ends[1].astype(np.uint8)
        return plots.film_strip(np.stack(list(rows.values())), list(rows), width=5.1)

    def state(self):
        now = self.interpolation
        index, tokens = now.index, now.tokens(self.method, self.step)
        view = {
            "a": now.a,
            "b": now.b,
            "method": self.method,
            "step": self.step,
            "text": index.names(tokens),
            "origin": now.origin(tokens).tolist(),
            "label": f"tokens at step {self.step} of {now.steps}",
            "captions": {
                "a": f"A: clip {now.a}, {index.class_names[index.labels[now.a]]}",
                "through": "decoded from the tokens below",
                "fade": "cross-fade of the pixels",
                "b": f"B: clip {now.b}, {index.class_names[index.labels[now.b]]}",
            },
            "status": f"{len(now.order)} of {now.start.size} tokens differ",
        }
        videos = {"through": video_bytes(index.decode(tokens[None])[0]), "fade": video_bytes(now.cross_fade(self.step))}
        still = {"a": video_bytes(index.videos[now.a]), "b": video_bytes(index.videos[now.b])}
        return {"still": still, "videos": videos, "view": view}
