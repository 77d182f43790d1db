"""The token explorer: a clip, its tokens, what they stand for; and editing them."""

import numpy as np

from trajlib import plots
from trajlib.widgets.base import Canvas, script, stretched, video_bytes
from trajlib.widgets.code_map import CLASS_COLOURS, code_map
from trajlib.widgets.token_editor import TokenEditor


class TokenExplorer(Canvas):
    """A clip, its tokens, what they stand for, and an editor. `editor` is the plain object behind it.

    `index` is a `TokenIndex`; `position` (t, y, x) is selected first, by default the dot's in the middle of the clip.
    With `layouts` and `colourings`, as `code_map` takes them, it has a map of the codebook: a click there puts that
    token into the selected position.
    """

    _esm = script("code_map", "token_explorer")
    EXAMPLES, OTHERS = 14, 11

    def __init__(self, index, clip=0, position=None, layouts=None, colourings=None):
        self.index, self.editor = index, TokenEditor(index, clip)
        self.editor.select(*(index.dot_position(clip, index.grid[0] // 2) if position is None else position))
        panels = [
            {"name": "clip"}, {"name": "decoded"}, {"name": "error", "lut": "heat"}, {"name": "change", "lut": "heat"},
        ]  # fmt: skip
        fixed = {"panels": panels, "clips": len(index)}
        fixed["map"] = code_map(index, layouts, colourings) if layouts and colourings else None
        self._rows = {token: row for row, token in enumerate(fixed["map"]["tokens"])} if fixed["map"] else {}
        super().__init__("explorer", fixed, index.videos.shape[2], index.videos.shape[4], index.grid)

    # ---- what the browser asks for ----

    def do_select(self, t, y, x):
        self.editor.select(t, y, x)

    def do_choose(self, clip):
        self.editor.choose(clip)
        self.editor.select(*self.index.dot_position(clip, self.editor.selected[0]))

    def do_visit(self, clip, t, y, x):
        self.editor.choose(clip)
        self.editor.select(t, y, x)

    def do_replace(self, token):
        self.editor.replace(int(token))

    def do_put(self, name):
        self.editor.replace(self.index.parse(name))

    def do_step(self, dimension, by):
        self.editor.step(dimension, by)

    def do_copy_token(self, clip):
        self.editor.copy_token(clip)

    def do_copy_frame(self, clip):
        self.editor.copy_frame(clip)

    def do_undo(self):
        self.editor.undo()

    def do_reset(self):
        self.editor.reset()

    def put(self, token):
        """Replace the selected token, as a click does: for notebook cells."""
        self._attempt(lambda: self.do_replace(token))

    # ---- what it shows ----

    def figure(self):
        videos = np.stack([self.index.videos[self.editor.clip], self.editor.video])
        return plots.film_strip(videos, ["the clip", "decoded from\nits tokens"], width=5.1)

    def state(self):
        editor, index = self.editor, self.index
        error, most_error = stretched(editor.error)
        change, most_change = stretched(editor.change)
        galleries, patches = self._galleries()
        name, changed = index.name(editor.token), int(editor.changed.sum())
        effect = f"up to {most_change:.0f} of 255" if changed else "none"
        view = {
            "clip": editor.clip,
            "about": f"class {index.class_names[index.labels[editor.clip]]}",
            "selected": list(editor.selected),
            "token": name,
            "row": self._rows.get(editor.token),
            "text": index.names(editor.tokens),
            "shade": (255 * index.log_frequency(editor.tokens)).round().astype(int).tolist(),
            "changed": editor.changed.tolist(),
            "history": len(editor.history),
            "label": f"tokens of clip {editor.clip}; selected: {self._place(editor.selected)}, token {name}",
            "status": f"{changed} of {editor.tokens.size} tokens changed",
            "captions": {
                "clip": f"clip {editor.clip}",
                "decoded": "decoded from the tokens",
                "error": f"error: decoded − clip, up to {most_error:.0f} of 255",
                "change": f"effect of your changes: {effect}",
            },
            "shares": self._shares(),
            "galleries": galleries,
            **self._token(),
        }
        videos = {"decoded": video_bytes(editor.video), "error": error.tobytes(), "change": change.tobytes()}
        still = {"clip": video_bytes(index.videos[editor.clip])}
        return {"still": still, "videos": videos, "patches": patches, "view": view}

    def _place(self, position):
        t, y, x = position
        frames = self.index.cell[0]
        return f"frames {t * frames}–{(t + 1) * frames - 1}, row {y}, column {x}"

    def _token(self):
        """What is known of the selected token."""
        editor, index, token = self.editor, self.index, self.editor.token
        count, at = index.count(token), index.position_counts(token)
        facts = ["No clip here has it."]
        if count:
            rank = int((index.counts > count).sum()) + 1
            facts = [
                f"in {count:,} of {index.tokens.size:,} positions ({100 * count / index.tokens.size:.2f} %)",
                f"rank {rank} of {len(index.used):,} tokens in use, by frequency",
                f"most often in {self._place(np.unravel_index(at.argmax(), at.shape))}: {at.max():,} times",
                "stands for background" if index.background[index.row(token)] else "stands for part of the dot",
            ]
        indices = index.level_indices(token).tolist() if index.levels else []
        counts = zip(index.class_names, index.class_counts(token), strict=True)
        return {
            "title": f"Token {index.name(token)} in {self._place(editor.selected)}",
            "facts": facts,
            "levels": [
                {"name": f"{'bit' if levels == 2 else 'level index'} {i + 1}", "value": value, "top": levels - 1}
                for i, (value, levels) in enumerate(zip(indices, index.levels, strict=True))
            ],
            "classes": [
                {"name": name, "count": int(n), "colour": CLASS_COLOURS[k % len(CLASS_COLOURS)]}
                for k, (name, n) in enumerate(counts)
            ],
            "where": at.tolist(),
        }

    def _galleries(self):
        """Rows of patches to click, and their pixels one after the other."""
        index, token, name = self.index, self.editor.token, self.index.name
        examples = index.examples(token, self.EXAMPLES)
        rows = [
            {
                "title": "Where it occurs",
                "hint": "patches of clips that are encoded as this token; click to go there",
                "items": [
                    {
                        "label": f"clip {clip}",
                        "title": f"go to clip {clip}, {self._place((t, y, x))}",
                        "message": {"do": "visit", "clip": clip, "t": t, "y": y, "x": x},
                    }
                    for clip, t, y, x in examples
                ],
            }
        ]
        patches = [index.patch(*position) for position in examples]
        for title, hint, neighbours in (
            ("Other tokens with a similar patch", "nearest mean patches; click to put one here", index.similar_patches),
            ("Tokens with the nearest codes", "and their mean patches; click to put one here", index.nearest),
        ):
            found = neighbours(token, self.OTHERS)
            items = [
                {"label": name(k), "title": f"put token {name(k)} here", "message": {"do": "replace", "token": k}}
                for k in found
            ]
            rows.append({"title": title, "hint": hint, "items": items})
            patches += [index.patches[index.row(k)] for k in found]
        return rows, b"".join(patch.transpose(1, 2, 3, 0).tobytes() for patch in patches)

    def _shares(self):
        shares = self.editor.change_shares()
        if shares is None:
            return "Effect of your changes on each frame: none yet."
        return (
            f"Of the change in pixels, {shares['cell']:.0%} lies in the changed tokens' own cells, "
            f"{shares['same frames']:.0%} elsewhere in their frames, {shares['before']:.0%} in frames before and "
            f"{shares['after']:.0%} in frames after them."
        )
