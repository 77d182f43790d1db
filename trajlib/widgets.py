"""Pictures you can touch: ipywidgets that set numbers beside an Image, and canvases of films and tokens (anywidget).

Each splits in two: a plain object that knows the numbers and makes the picture (testable without a browser), and a view
of it: `Studio` and its controls, or a `Canvas`, which widgets.js draws. Nothing here uses Output or interact: they
stall headless runs and hide errors.
"""

import html
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import anywidget
import ipywidgets as W
import matplotlib
import numpy as np
import torch
import traitlets as T
from IPython.display import display
from PIL import Image
from scipy.spatial.transform import Rotation

from trajlib import FAMILIES, plots, tasks, trajectories
from trajlib.classifiers import seen_dot
from trajlib.codes import Codec, Morph, Surgery, speaks
from trajlib.dataset import (
    MARGIN,
    PATH_LENGTH,
    SEEDS,
    Clip,
    TrajectoryDataset,
    clearly_seen,
    develop,
    draw_nuisances,
    film,
    to_float,
)
from trajlib.planner import draw_plans
from trajlib.render import FRAMES, SIZE, SPOTS, Damage
from trajlib.sampling import CORRECTIONS, GUIDANCE, decode_steps, generate
from trajlib.tasks import TASKS


class Studio(W.VBox):
    """Controls {name: widget} above a picture that `draw(**values)` makes: it returns (PNG bytes, a line of HTML).

    An error in `draw` is kept in `error`, and shown in place of the line: the picture stays the last good one.
    """

    def __init__(self, controls, draw, columns=2):
        self.controls, self._draw, self.error, self._busy = controls, draw, None, False
        self.image = W.Image(format="png")
        self.image.add_class("studio")
        self.note = W.HTML()
        self.note.add_class("studio-note")
        grid = W.GridBox(list(controls.values()), layout=W.Layout(grid_template_columns=f"repeat({columns}, 400px)"))
        super().__init__([grid, self.image, self.note])
        self._redraw()
        if self.error:
            raise self.error  # the first picture is the cell's own doing: its error is the cell's
        for control in controls.values():
            control.observe(self._redraw, "value")

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(self.controls)})"

    def values(self):
        """What the controls say, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values):
        """Set several controls, and draw once; an unknown name or value is an error."""
        self._busy = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._busy = False
        self._redraw()
        if self.error:
            raise self.error

    def _redraw(self, change=None):
        if self._busy:
            return
        try:
            self.image.value, self.note.value = self._draw(**self.values())
            self.error = None
        except Exception as error:
            self.error = error
            self.note.value = f'<div role="alert" style="color:#a00000">{html.escape(str(error))}</div>'


@dataclass(frozen=True)
class Scene:
    """What the trajectory studio's sliders say. Whatever has no slider is drawn by `seed`, as in the dataset."""

    family: str = "helical"
    turns: float = 0.9  # circles and helices: revolutions per clip
    advance: float = 0.6  # helices: units along the axis per radian, over the radius; negative: left-handed
    sharpness: float = 7.0  # parabolas: gravity over the speed across it
    apex: float = 0.5  # parabolas: when they turn round
    tilt: float = 40.0  # degrees that the curve's frame is leant out of the picture
    roll: float = 30.0  # degrees that it is turned in the picture
    spin: float = 60.0  # degrees that it is turned about its own z, before all else
    path_length: float = 34.0  # pixels
    distance: float = 10.0  # units
    dot_radius: float = 0.34  # units
    seed: int = 0

    def motion(self):
        """The motion, oriented in the camera's frame."""
        physics = {
            "linear": {},
            "circular": {"turns": self.turns},
            "helical": {"turns": self.turns, "hand": np.sign(self.advance) or 1.0, "advance": abs(self.advance)},
            "parabolic": {"sharpness": self.sharpness, "apex": self.apex},
        }
        angles = [self.spin, self.tilt, self.roll]
        rotation = Rotation.from_euler("zxz", angles, degrees=True).as_matrix()  # about fixed axes, in this order
        return trajectories.shape(self.family, **physics[self.family]).moved(rotation), rotation

    def clip(self) -> tuple[Clip, bool]:
        """The clip, made by the dataset's own functions, and whether the dataset would show the family so."""
        motion, rotation = self.motion()
        drawn = draw_nuisances(np.random.default_rng([self.seed, 0]))
        nuisances = replace(drawn, path_length=self.path_length, distance=self.distance, dot_radius=self.dot_radius)
        return develop(film(motion, nuisances)), bool(clearly_seen(self.family, rotation[None])[0])

    def picture(self):
        """The figure that the studio shows."""
        return plots.studio_picture(self.clip()[0])

    def note(self):
        """One line of HTML: what the numbers amount to."""
        clip, kept = self.clip()
        real = np.linalg.norm(np.diff(clip.path3d, axis=0), axis=1).sum()
        verdict = "a view that the set keeps" if kept else "<b>a degenerate view: the set keeps it out</b>"
        size = f"dot's radius {clip.radius.min():.2f} to {clip.radius.max():.2f} px"
        return f"length in space {real:.2f} units; {size}; {verdict}"


USED = {  # sliders that a family has a use for; the others are switched off
    "linear": set(),
    "circular": {"turns"},
    "helical": {"turns", "advance"},
    "parabolic": {"sharpness", "apex"},
}


class TrajectoryStudio(Studio):
    """Sliders for a clip's class, physics and view; every picture is made by the functions that make the dataset."""

    def __init__(self, scene=None):
        scene = scene or Scene()
        sliders = {
            "turns": ("turns", *trajectories.TURNS, 0.01),
            "advance": ("advance", -trajectories.ADVANCE[1], trajectories.ADVANCE[1], 0.01),
            "sharpness": ("sharpness", *trajectories.SHARPNESS, 0.1),
            "apex": ("apex", *trajectories.APEX, 0.01),
            "tilt": ("tilt, °", 0, 90, 1),
            "roll": ("roll, °", 0, 360, 1),
            "spin": ("spin, °", 0, 360, 1),
            "path_length": ("path, px", 12, 44, 0.5),
            "distance": ("distance", 6, 14, 0.1),
            "dot_radius": ("dot size", 0.2, 0.6, 0.01),
        }
        controls = {"family": W.Dropdown(options=FAMILIES, value=scene.family, description="class")}
        for name, (label, low, high, step) in sliders.items():
            controls[name] = W.FloatSlider(getattr(scene, name), min=low, max=high, step=step, description=label)
        controls["seed"] = W.BoundedIntText(scene.seed, min=0, max=2**31 - 1, description="clip")
        self.scene = scene
        self.player = FilmPlayer(scene.clip()[0].video)
        super().__init__(controls, self._picture)
        self.next = W.Button(description="next clip", tooltip="another colour, place and camera")
        self.next.on_click(self._next)
        self.children = (*self.children[:1], self.next, *self.children[1:], self.player)

    def _picture(self, **values):
        self.scene = Scene(**values)
        self.player.show(self.scene.clip()[0].video)
        for name in set.union(*USED.values()):
            self.controls[name].disabled = name not in USED[self.scene.family]
        return plots.png(self.scene.picture()), self.scene.note()

    def _next(self, button):
        self.controls["seed"].value += 1


@dataclass(frozen=True)
class Trial:
    """What the damage studio's sliders say: a validation clip, and what spoils it.

    `readers` {name: `damage_study.Reader`} whose scores are probabilities; `tokenizer` writes tokens for those who ask.
    """

    tokenizer: torch.nn.Module
    readers: dict
    family: str = "helical"
    clip: int = 0
    damage: Damage = Damage()  # noqa: RUF009 (frozen, too)

    def video(self):
        """The damaged clip (3, 16, 64, 64) uint8: of every family its own clip 0, 1, 2, ..."""
        world = TrajectoryDataset(self.clip + 1, SEEDS["validation"], (self.family,), self.damage)
        return world[self.clip].video

    def said(self, video):
        """Each reader's probabilities of the families: {name: (4,)}, NaN where it finds no dot."""
        videos = torch.from_numpy(video)[None]
        tokens = self.tokenizer.encode(to_float(videos))
        return {name: reader.scores(tokens if reader.tokens else videos)[0] for name, reader in self.readers.items()}

    def look(self):
        """The figure, and one line of HTML: who is right."""
        video, label = self.video(), FAMILIES.index(self.family)
        said = self.said(video)
        right = [name for name, shares in said.items() if np.isfinite(shares).all() and shares.argmax() == label]
        note = f"right: {html.escape(', '.join(right) or 'nobody')}"
        return plots.damage_picture(video, said, label), note

    def picture(self):
        """The figure that the studio shows."""
        return self.look()[0]


SPOILS = {  # field of Damage: label, least, most, step
    "noise": ("noise", 0.0, 0.4, 0.01),
    "blur": ("blur, px", 0.0, 4.0, 0.1),
    "brightness": ("brightness", -0.6, 0.6, 0.02),
    "contrast": ("greyness", 0.0, 0.95, 0.01),
    "occluder": ("bar, px", 0.0, 32.0, 1.0),
    "texture": ("texture", 0.0, 0.8, 0.01),
    "distractors": ("still dots", 0, SPOTS, 1),
    "shake": ("shake, px", 0.0, 4.0, 0.1),
    "drops": ("lost frames", 0.0, 0.9, 0.02),
    "trail": ("trail", 0.0, 0.9, 0.02),
}


class DamageStudio(Studio):
    """Sliders that spoil a clip; three readers' probabilities move. `trial` is the plain object behind it."""

    def __init__(self, trial):
        self.trial = trial
        controls = {"family": W.Dropdown(options=FAMILIES, value=trial.family, description="class")}
        controls["clip"] = W.BoundedIntText(trial.clip, min=0, max=9999, description="clip")
        for name, (label, low, high, step) in SPOILS.items():
            kind = W.IntSlider if isinstance(step, int) else W.FloatSlider
            now = getattr(trial.damage, name)
            controls[name] = kind(now, min=low, max=high, step=step, description=label)
        super().__init__(controls, self._picture)
        self.next = W.Button(description="next clip", tooltip="another clip of this class, with the same damage")
        self.next.on_click(self._next)
        self.clean = W.Button(description="no damage", tooltip="all sliders to where they do nothing")
        self.clean.on_click(self._clean)
        self.children = (*self.children[:1], W.HBox([self.next, self.clean]), *self.children[1:])

    def _picture(self, family, clip, **strengths):
        self.trial = replace(self.trial, family=family, clip=clip, damage=Damage(**strengths))
        figure, note = self.trial.look()
        return plots.png(figure), note

    def _next(self, button):
        self.controls["clip"].value += 1

    def _clean(self, button):
        self.set(**vars(Damage()))


# ---- canvases: films in step, tokens, the codebook ----


def film_bytes(film):
    """A film (3, 16, 64, 64) of colours, or (16, 64, 64) of numbers, as widgets.js takes it."""
    return np.ascontiguousarray(film.transpose(1, 2, 3, 0) if film.ndim == 4 else film, np.uint8).tobytes()


def colours_of(name):
    """matplotlib's colour map of this name as 256 whole RGB triples."""
    return (255 * matplotlib.colormaps[name](np.arange(256))[:, :3]).round().astype(int).tolist()


def stretched(values):
    """Numbers from 0 up, any shape -> 0 .. 255, and the largest of them."""
    top = float(values.max())
    return (255 / max(top, 1e-9) * values).round().astype(np.uint8), top


LUTS = {"often": colours_of(plots.OFTEN), "heat": colours_of(plots.HEAT)}


class Canvas(anywidget.AnyWidget):
    """What widgets.js draws. A click there calls `do_...` here; then `state()` is sent, in one message.

    `state()` is also what the widget is made with, so that the first picture is right even if no message ever arrives.
    An error is kept in `error` and shown; the picture stays the last good one.
    """

    _esm = Path(__file__).with_name("widgets.js").read_text(encoding="utf-8")
    kind = T.Unicode().tag(sync=True)
    fixed = T.Dict().tag(sync=True)
    still = T.Dict().tag(sync=True)
    films = T.Dict().tag(sync=True)
    patches = T.Bytes().tag(sync=True)
    view = T.Dict().tag(sync=True)

    state: Callable  # () -> the traits that change: {"view": ..., and others by name}

    def __init__(self, kind, fixed, grid=(8, 4, 4), frames=16, size=64):
        self.error, self._seq = None, 0
        common = {"luts": LUTS, "grid": list(grid), "frames": frames, "size": size}
        super().__init__(kind=kind, fixed=common | fixed, **self._marked(self.state()))
        self.on_msg(lambda widget, message, buffers: self.hear(message))

    def __repr__(self):
        return f"{type(self).__name__}()"

    def hear(self, message):
        """A message from the browser, {"do": what, ...}: calls the method `do_what` with the rest."""
        details = dict(message)
        self._attempt(lambda: getattr(self, f"do_{details.pop('do')}")(**details))

    def _attempt(self, act):
        """Act, and answer in any case: the browser waits for the counter to move."""
        try:
            act()
            self.error = None
            state = self.state()
        except Exception as error:
            self.error = error
            state = {"view": dict(self.view) | {"more": False}}
        self._seq += 1
        with self.hold_sync():
            for name, value in self._marked(state).items():
                setattr(self, name, value)

    def refresh(self):
        """Send what has changed, after something other than a click has changed it; an error is the caller's."""
        self._attempt(lambda: None)
        if self.error:
            raise self.error

    def _marked(self, state):
        return state | {"view": state["view"] | {"seq": self._seq, "error": str(self.error or "")}}


class FilmPlayer(Canvas):
    """One film, to play or to step through."""

    def __init__(self, film, caption="the film"):
        self._film, self._caption = film, caption
        super().__init__("player", {"panels": [{"name": "film"}]})

    def state(self):
        return {"films": {"film": film_bytes(self._film)}, "view": {"captions": {"film": self._caption}}}

    def show(self, film):
        """Another film."""
        self._film = film
        self.refresh()


class TokenExplorer(Canvas):
    """A clip, its tokens, what they mean; and surgery on them. `surgery` is the plain object behind it."""

    EXAMPLES, OTHERS = 16, 7

    def __init__(self, corpus, clip=0, place=None):
        self.surgery = Surgery(corpus, clip)
        if place is not None:
            self.surgery.select(*place)
        panels = [
            {"name": "clip"}, {"name": "film"}, {"name": "error", "lut": "heat"}, {"name": "change", "lut": "heat"},
        ]  # fmt: skip
        super().__init__("explorer", {"panels": panels, "clips": len(corpus)}, corpus.codec.grid)

    # what the browser asks for

    def do_select(self, t, y, x):
        self.surgery.select(t, y, x)

    def do_choose(self, clip):
        self.surgery.choose(clip)

    def do_visit(self, clip, t, y, x):
        self.surgery.choose(clip)
        self.surgery.select(t, y, x)

    def do_replace(self, word):
        self.surgery.replace(int(word))

    def do_put(self, code):
        self.surgery.replace(self.surgery.codec.codebook.read(code))

    def do_step(self, digit, by):
        self.surgery.step(digit, by)

    def do_take(self, clip):
        self.surgery.take(clip)

    def do_take_frame(self, clip):
        self.surgery.take_frame(clip)

    def do_undo(self):
        self.surgery.undo()

    def do_reset(self):
        self.surgery.reset()

    def put(self, word):
        """Replace the selected token, as a click does: for the codebook's map, and for code cells."""
        self._attempt(lambda: self.do_replace(word))

    # what it shows

    def state(self):
        surgery, corpus = self.surgery, self.surgery.corpus
        error, most_error = stretched(surgery.error)
        change, most_change = stretched(surgery.change)
        galleries, patches = self._galleries()
        t, y, x = surgery.selected
        name = surgery.codec.codebook.spell(surgery.word)
        view = {
            "clip": surgery.clip,
            "about": FAMILIES[corpus.labels[surgery.clip]],
            "selected": [t, y, x],
            "code": name,
            "text": surgery.codec.codebook.spell_all(surgery.words),
            "shade": (255 * corpus.commonness(surgery.words)).round().astype(int).tolist(),
            "changed": surgery.changed.tolist(),
            "history": len(surgery.history),
            "label": f"tokens of clip {surgery.clip}; chosen: {self._place((t, y, x))}, code {name}",
            "status": f"tokens changed: {int(surgery.changed.sum())}",
            "captions": {
                "clip": "the clip",
                "film": "painted from the tokens",
                "error": f"what it lacks, up to {most_error:.0f}",  # of 255
                "change": f"what you changed, up to {most_change:.0f}" if most_change else "what you changed: nothing",
            },
            "field": self._field(),
            "galleries": galleries,
            **self._word(),
        }
        films = {"film": film_bytes(surgery.film), "error": error.tobytes(), "change": change.tobytes()}
        still = {"clip": film_bytes(corpus.films[surgery.clip])}
        return {"still": still, "films": films, "patches": patches, "view": view}

    def _place(self, place):
        t, y, x = place
        per = self.surgery.codec.cell[0]
        return f"frames {t * per}–{(t + 1) * per - 1}, row {y}, column {x}"

    def _word(self):
        """What is known of the selected word."""
        surgery, corpus, word = self.surgery, self.surgery.corpus, self.surgery.word
        codebook, count = corpus.codebook, corpus.count(self.surgery.word)
        where = corpus.where(word)
        facts = ["No clip here has it."]
        if count:
            rank = int((corpus.counts > count).sum()) + 1
            facts = [
                f"{count:,} of {corpus.words.size:,} places have it ({100 * count / corpus.words.size:.2f} %)",
                f"number {rank} of {len(corpus.used):,} in use, by frequency",
                f"most often in {self._place(np.unravel_index(where.argmax(), where.shape))}: {where.max():,} times",
                "stands for blank paper" if corpus.blank[corpus.row(word)] else "stands for some of the dot",
            ]
        digits = zip(codebook.digits(word).tolist(), codebook.steps, strict=True)
        return {
            "title": f"Code {codebook.spell(word)} in {self._place(surgery.selected)}",
            "facts": facts,
            "digits": [
                {"name": f"{'bit' if steps == 2 else 'level'} {i + 1}", "value": value, "top": steps - 1}
                for i, (value, steps) in enumerate(digits)
            ],
            "classes": [
                {"name": name, "count": int(n), "colour": plots.COLOURS[name]}
                for name, n in zip(FAMILIES, corpus.classes(word), strict=True)
            ],
            "where": where.tolist(),
        }

    def _galleries(self):
        """Rows of patches to click, and their pixels one after the other."""
        corpus, word, spell = self.surgery.corpus, self.surgery.word, self.surgery.codec.codebook.spell
        examples = corpus.examples(word, self.EXAMPLES)
        rows = [
            {
                "title": "Look-alikes",
                "hint": "patches of real clips that get this very code; click to go there",
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
        patches = [corpus.patch(*place) for place in examples]
        for title, hint, words in (
            ("Look-alikes by another name", "codes with the nearest mean patch; click to put", corpus.look_alikes),
            ("Nearest codes", "fewest steps away, with their mean patch; click to put", corpus.nearest),
        ):
            found = words(word, self.OTHERS)
            items = [
                {"label": spell(w), "title": f"put code {spell(w)} here", "message": {"do": "replace", "word": w}}
                for w in found
            ]
            rows.append({"title": title, "hint": hint, "items": items})
            patches += [corpus.patches[corpus.row(w)] for w in found]
        return rows, b"".join(patch.transpose(1, 2, 3, 0).tobytes() for patch in patches)

    def _field(self):
        field = self.surgery.field()
        if field is None:
            return "Frame by frame, what a change does to the film: nothing is changed yet."
        return (
            f"Of the change, {field['cell']:.0%} lies in the changed tokens' own cells, {field['beside']:.0%} beside "
            f"them in the same frames, {field['before']:.0%} in frames before and {field['after']:.0%} in frames after."
        )


@dataclass(frozen=True)
class Tint:
    """What the codebook's map is coloured by: a value from 0 to 255 for each used word, -1 for none; or a class."""

    values: np.ndarray  # (u,)
    low: str = ""  # what 0 means
    high: str = ""  # what 255 means
    lut: str = "viridis"  # a colour map of matplotlib's
    names: tuple[str, ...] = ()  # of classes; then the families' colours are taken


class CodeMap(Canvas):
    """All used words on a plane. A click calls `pick(word)`, say `explorer.put`.

    `layouts` {name: (u, 2)}, `tints` {name: Tint}; the most frequent `most` words are shown.
    """

    COLUMNS = 32

    def __init__(self, corpus, layouts, tints, pick=None, most=2000):
        self.corpus, self.pick, self.row = corpus, pick, None
        self.rows = np.sort(np.argsort(-corpus.counts, kind="stable")[:most])
        dt, dh, dw = corpus.codec.cell
        fixed = {
            "layouts": {name: self._unit(points[self.rows]) for name, points in layouts.items()},
            "tints": {name: self._tint(tint) for name, tint in tints.items()},
            "radius": (2.5 + 1.2 * np.log10(corpus.counts[self.rows])).round(2).tolist(),
            "notes": [self._note(row) for row in self.rows],
            "sheet": self._sheet(),
            "tile": {"columns": self.COLUMNS, "wide": dt * dw + dt - 1, "tall": dh},
        }
        fixed["luts"] = LUTS | {tint.lut: colours_of(tint.lut) for tint in tints.values()}
        fixed["luts"]["families"] = [[int(plots.COLOURS[f][i : i + 2], 16) for i in (1, 3, 5)] for f in FAMILIES]
        super().__init__("map", fixed, corpus.codec.grid)

    @staticmethod
    def _unit(points):
        """Points into the unit square, each axis stretched, a few that lie far out put on its edge."""
        low, high = np.percentile(points, (0.5, 99.5), axis=0)
        spare = 0.05 * (high - low)
        at = ((points - low + spare) / np.maximum(high - low + 2 * spare, 1e-9)).clip(0, 1).round(4)
        return {"x": at[:, 0].tolist(), "y": at[:, 1].tolist()}

    def _tint(self, tint):
        lut = "families" if tint.names else tint.lut
        values = np.asarray(tint.values)[self.rows].astype(int).tolist()
        return {"value": values, "low": tint.low, "high": tint.high, "lut": lut, "names": list(tint.names) or None}

    def _note(self, row):
        word, count = self.corpus.used[row], self.corpus.counts[row]
        kind = "blank paper" if self.corpus.blank[row] else "some of the dot"
        return f"code {self.corpus.codebook.spell(word)}\n{count:,} times, {kind}"

    def _sheet(self):
        """The mean patches of all shown words as one PNG: tiles of both frames side by side, in rows of 32."""
        tiles = self.corpus.patches[self.rows].transpose(0, 2, 3, 4, 1)  # (u, 2, 16, 16, 3)
        tiles = np.concatenate(
            list(np.pad(tiles, ((0, 0), (0, 0), (0, 0), (0, 1), (0, 0)), constant_values=190).swapaxes(0, 1)), 2
        )[:, :, :-1]
        tiles = np.concatenate([tiles, np.zeros((-len(tiles) % self.COLUMNS, *tiles.shape[1:]), np.uint8)])
        rows = tiles.reshape(-1, self.COLUMNS, *tiles.shape[1:]).transpose(0, 2, 1, 3, 4)
        file = io.BytesIO()
        Image.fromarray(rows.reshape(rows.shape[0] * rows.shape[1], -1, 3)).save(file, "PNG")
        return file.getvalue()

    def do_pick(self, row):
        self.row = int(row)
        if self.pick:
            self.pick(int(self.corpus.used[self.rows[row]]))

    def state(self):
        status = "click a code to put it into surgery"
        if self.row is not None:
            status = f"code {self.corpus.codebook.spell(self.corpus.used[self.rows[self.row]])} sent"
        return {"view": {"row": self.row, "status": status}}


ORIGINS = [
    ["A", "A's token", "#0072B2"],
    ["B", "B's token", "#E69F00"],
    ["=", "the same in both", "#D0D0D0"],
    ["+", "neither's", "#009E73"],
]
WAYS = {
    "lattice": "interpolated latents",
    "tokens": "tokens, the most important first",
    "transformer": "tokens, rewritten by the transformer",
}


class MorphStudio(Canvas):
    """From clip A to clip B, step by step; beside it the cross-fade of their pixels. `morph` is the plain object."""

    def __init__(self, corpus, a=0, b=1, transformer=None, steps=16):
        self.morph, self.method, self.step = Morph(corpus, a, b, steps, transformer), "lattice", steps // 2
        self._shown = None
        fixed = {
            "panels": [{"name": "a"}, {"name": "through"}, {"name": "fade"}, {"name": "b"}],
            "clips": len(corpus),
            "steps": steps,
            "methods": [[method, WAYS[method]] for method in self.morph.methods],
            "origins": ORIGINS,
        }
        super().__init__("morph", fixed, corpus.codec.grid)

    def do_choose(self, a, b):
        self.morph.choose(a, b)

    def do_use(self, method):
        self.method = method

    def do_go(self, step):
        self.step = int(step)

    def do_continue(self):
        self.morph.work()

    def state(self):
        morph, corpus = self.morph, self.morph.corpus
        waits = self.method != "lattice" and not morph.ranked and 0 < self.step < morph.steps
        if (
            waits
        ):  # a decode for each token: in slices, one a message, so that the kernel can do other things in between
            status = f"ranking tokens: {len(morph.importance)} of {len(morph.places)}"
            return {
                "view": dict(self.view) | {"method": self.method, "step": self.step, "status": status, "more": True}
            }
        words = morph.words(self.method, self.step)
        view = {
            "a": morph.a,
            "b": morph.b,
            "method": self.method,
            "step": self.step,
            "text": corpus.codebook.spell_all(words),
            "origin": morph.origin(words).tolist(),
            "label": f"tokens at step {self.step} of {morph.steps}",
            "captions": {
                "a": f"A: clip {morph.a}, {FAMILIES[corpus.labels[morph.a]]}",
                "through": "through tokens",
                "fade": "pixels, cross-faded",
                "b": f"B: clip {morph.b}, {FAMILIES[corpus.labels[morph.b]]}",
            },
            "status": f"{len(morph.places)} of {morph.start.size} tokens differ",
            "more": False,
        }
        through = morph.codec.decode(words[None])[0]
        films = {"through": film_bytes(through), "fade": film_bytes(morph.cross_fade(self.step))}
        still = {"a": film_bytes(corpus.films[morph.a]), "b": film_bytes(corpus.films[morph.b])}
        return {"still": still, "films": films, "view": view}


def code_tints(corpus):
    """What the codebook's map can be coloured by: {name: Tint}."""
    n, (t, h, w) = len(corpus.used), corpus.codec.grid

    def mean(values):
        return corpus.mean(np.broadcast_to(values, corpus.words.shape))

    def scaled(values, top):
        return np.nan_to_num(255 * values / max(top, 1e-9)).clip(0, 255).round()

    time, row, column = np.mgrid[:t, :h, :w]
    index, _, velocity = corpus.motions()
    rank = corpus.rank[tuple(index.T)]
    met = np.maximum(np.bincount(rank, minlength=n), 1)
    u, v = (np.bincount(rank, velocity[:, k], n) / met for k in (0, 1))
    speed = np.bincount(rank, np.hypot(*velocity.T), n) / met
    by_class = np.stack(
        [np.bincount(corpus.rank[corpus.labels == k].ravel(), minlength=n) for k in range(len(FAMILIES))]
    )
    fast = float(np.percentile(np.hypot(*velocity.T), 95))
    often, unmet = np.log1p(corpus.counts), np.bincount(rank, minlength=n) == 0
    angle = np.arctan2(v, u) + np.pi
    places = {
        "frame": (time, t, "first", "last"),
        "row": (row, h, "top", "bottom"),
        "column": (column, w, "left", "right"),
    }
    return {
        "how often": Tint(scaled(often, often.max()), "once", f"{corpus.counts.max():,} times", plots.OFTEN),
        "class": Tint(by_class.argmax(0), names=FAMILIES),
        "speed of the dot": Tint(np.where(unmet, -1, scaled(speed, fast)), "0", f"{fast:.1f} px a frame"),
        "direction of the dot": Tint(
            np.where(unmet, -1, scaled(angle, 2 * np.pi)), "left, up,", "right, down, left", "twilight"
        ),
        **{name: Tint(scaled(mean(at), n - 1), low, high) for name, (at, n, low, high) in places.items()},
    }


# ---- masks, and how what they hide is written ----


@dataclass(frozen=True)
class Round:
    """What one step of decoding left, all (8, 4, 4)."""

    tokens: np.ndarray  # the mask token where hidden; where given, the condition's until it is written anew
    guess: np.ndarray  # tokens, and the likeliest where nothing is settled
    sure: np.ndarray  # log-probability of each guess, of a settled one when it was drawn; NaN where nothing ever was
    settled: np.ndarray  # bool


ORDERS = {"halton": "spread out (Halton)", "confidence": "the surest first"}
LIMITS = {  # of the settings: lowest, highest, step of the control
    "frames": (1, FRAMES - 1, 1),
    "steps": (1, 32, 1),
    "corrections": (0, 64, 1),
    "temperature": (0.1, 3.0, 0.1),
    "guidance": (0.0, 20.0, 0.5),
    "seed": (0, 2**31 - 1, 1),
}


def fitting(name, value, limits):
    """The value of a number that has limits, or a ValueError that says what it can be."""
    low, high, _ = limits
    whole = isinstance(low, int)
    fits = isinstance(value, (int, float)) and low <= value <= high and not (whole and value % 1)
    if not fits:
        kind = "a whole number" if whole else "any number"
        raise ValueError(f"{name} is {value}; it can be {kind} from {low} to {high}.")
    return int(value) if whole else float(value)


class Decoding:
    """A clip, what is given of it, and the steps in which a transformer writes the rest.

    What is given is what one of COMMIT's tasks says, or what is painted: cells of the grid, paper in place of all
    others. Every change of a setting, or of the mask, takes back what was decoded. `clips`: a `Batch`.
    """

    def __init__(self, transformer, tokenizer, clips, **settings):
        self.transformer, self.tokenizer, self.clips, self.codec = transformer, tokenizer, clips, Codec(tokenizer)
        if not speaks(transformer, self.codec):
            raise ValueError("This transformer was trained on the tokens of another tokenizer: their codebooks differ.")
        self.limits = LIMITS | {"clip": (0, len(clips) - 1, 1), "label": (0, len(FAMILIES) - 1, 1)}
        self.settings = {
            "clip": 0, "task": "FP", "frames": 4, "label": 0, "steps": 12, "corrections": 0, "temperature": 1.0,
            "guidance": GUIDANCE, "seed": 0, "order": "halton", "refine": True,
        }  # fmt: skip
        self.set(**{"clip": 0, "task": "FP"} | settings)

    # what is given

    def set(self, **settings):
        """Change settings by name. A task, or its number of frames, brings its mask; a clip, its class."""
        settings = {name: self._checked(name, value) for name, value in settings.items()}
        if "clip" in settings:
            settings = {"label": int(self.clips.labels[settings["clip"]])} | settings
        self.settings = self.settings | settings
        if {"task", "frames"} & set(settings):
            self.unpaint()
        else:
            self.restart()

    def _checked(self, name, value):
        """The value of a setting, or a ValueError that says what it can be."""
        choices = {"task": TASKS, "order": ORDERS, "refine": (True, False)}
        if name not in self.settings:
            raise ValueError(f"{name!r} is no setting; there are {', '.join(self.settings)}.")
        if name in choices:
            if value not in choices[name]:
                raise ValueError(f"{name} is {value!r}; it can be {', '.join(map(str, choices[name]))}.")
            return value
        return fitting(name, value, self.limits[name])

    @property
    def task(self):
        """The task that the transformer is told."""
        return TASKS[self.settings["task"]]

    def unpaint(self):
        """The task's own mask."""
        key, frames = self.settings["task"], self.settings["frames"]
        self.painted, self.given = False, tasks.given_tokens(key, frames, self.codec.grid).numpy()
        self.restart()

    def paint(self, cells, given):
        """Give, or hide, cells [(t, y, x), ...]."""
        index = np.array(cells, int).reshape(-1, 3)
        if (index < 0).any() or (index >= self.codec.grid).any():
            raise ValueError(f"cells {cells} came; the grid is {self.codec.grid}.")
        painted = self.given.copy()
        painted[tuple(index.T)] = bool(given)
        self.painted, self.given = True, painted
        self.restart()

    def fill(self, given):
        """Give, or hide, all of it."""
        self.paint(np.argwhere(np.ones(self.codec.grid, bool)), given)

    @property
    def video(self):
        """The clip: (1, 3, 16, 64, 64) in [0, 1]."""
        return to_float(self.clips.videos[self.settings["clip"]][None])

    @property
    def region(self):
        """(16, 64, 64) bool: the pixels that are given."""
        if not self.painted:
            return tasks.region(self.settings["task"], self.settings["frames"])
        given = torch.from_numpy(self.given)
        for axis, size in enumerate(self.codec.cell):
            given = given.repeat_interleave(size, axis)
        return given

    @property
    def condition(self):
        """What is tokenized (1, 3, 16, 64, 64): it depends on the given pixels alone."""
        if self.painted:
            return tasks.paper(self.video, self.region)
        return tasks.condition(self.video, self.settings["task"], self.settings["frames"])

    # what is written

    def restart(self):
        """Forget what was decoded: the condition's tokens, and nothing settled."""
        self._run, self._films = None, {}
        start = self.codec.tokenizer.encode(self.condition)[0].numpy()
        tokens = np.where(self.given, start, self.transformer.mask_token)
        unknown = np.full(start.shape, np.nan)
        self.rounds = [Round(tokens, start, unknown, self.given & (not self.settings["refine"]))]

    def begin(self):
        """Start decoding with the settings as they are."""
        self.restart()
        asked = ("steps", "corrections", "temperature", "guidance", "seed", "task", "order")
        chosen = {name: self.settings[name] for name in asked}
        start, given = torch.from_numpy(self.rounds[0].guess)[None], torch.from_numpy(self.given)
        self._run = decode_steps(
            self.transformer, [self.settings["label"]], **chosen, start=start, given=given,
            refine=self.settings["refine"], watch=self._hear,
        )  # fmt: skip

    def _hear(self, settled, guess, sure):
        settled, guess, sure = (x[0].unflatten(0, self.codec.grid).numpy() for x in (settled, guess, sure))
        tokens = np.where(settled, guess, self.rounds[0].tokens)
        self.rounds.append(Round(tokens, guess, sure, settled))

    @property
    def running(self):
        """Whether steps remain to be done."""
        return self._run is not None

    @property
    def total(self):
        """Steps and corrections to be done."""
        return self.settings["steps"] + self.settings["corrections"]

    @property
    def last(self):
        """Steps and corrections done."""
        return len(self.rounds) - 1

    def work(self, steps=4):
        """The next few steps: a kernel can answer in between."""
        run, self._run = self._run, None
        for _ in range(min(steps, self.total - self.last) if run else 0):
            next(run)
        self._run = run if self.last < self.total else None

    def decode(self):
        """All steps at once; the tokens (8, 4, 4)."""
        self.begin()
        while self.running:
            self.work()
        return self.rounds[-1].tokens

    # what is shown

    def film(self, step):
        """The guess after a step, decoded; after none, the condition's tokens: (3, 16, 64, 64) uint8."""
        if step not in self._films:
            self._films[step] = self.codec.decode(self.rounds[step].guess[None])[0]
        return self._films[step]

    def kinds(self, step):
        """What became of each token by then, a name of plots.KINDS: (8, 4, 4)."""
        settled = self.rounds[step].settled
        anew = "refined" if self.settings["refine"] else "given"
        return np.select([settled & self.given, settled, self.given], [anew, "settled", "given"], "hidden")

    def fresh(self, step):
        """Which tokens were settled in this very step, or changed in this correction: (8, 4, 4) bool."""
        before, now = self.rounds[max(0, step - 1)], self.rounds[step]
        return now.settled & (~before.settled | (now.tokens != before.tokens))

    def called(self, step):
        """The step's name: corrections come after the steps."""
        steps = self.settings["steps"]
        return f"step {step}" if step <= steps else f"correction {step - steps}"

    def said(self):
        """One sentence: what is given, and what the transformer is told."""
        told = f"class {FAMILIES[self.settings['label']]}" if self.task.labelled else "no class"
        mask = "a mask of your own, paper in place of the rest" if self.painted else "the task's mask"
        return f"{self.given.sum()} of {self.given.size} tokens given ({mask}); told: {self.task.name}, {told}."

    def picture(self):
        """The figure: condition, some steps, result; truth, if any of it was given. Decodes, if that is not done."""
        if self.last < self.total:
            self.decode()
        films, kinds = {"condition": whole(self.condition[0])}, {"condition": self.kinds(0)}
        steps = self.settings["steps"]
        shown = {-(-steps // 2), steps} if self.settings["corrections"] else {-(-steps // 3), -(-2 * steps // 3)}
        for step in sorted(shown | {self.last}):
            title = "result" if step == self.last else f"step {step} of {steps}"
            films[title], kinds[title] = self.film(step), self.kinds(step)
        if self.given.any():
            films["truth"] = whole(self.video[0])
        return plots.decoding(films, kinds)


def whole(video):
    """A video in [0, 1] as a film: uint8."""
    return video.mul(255).round().byte().numpy()


VEIL = 190  # of 255: what is not given
LEAST = 1e-3  # probabilities below it look alike


class MaskStudio(Canvas):
    """Choose or paint what is given, let the rest be written, go through the steps. `decoding` is the plain object."""

    def __init__(self, decoding):
        self.decoding, self.step = decoding, decoding.last
        panels = [{"name": name} for name in ("given", "condition", "guess", "truth")]
        fixed = {
            "panels": [*panels, {"name": "difference", "lut": "heat"}],
            "numbers": decoding.limits,
            "choices": {
                "task": [[key, f"{key}: {task.name}"] for key, task in TASKS.items()],
                "label": [[i, name] for i, name in enumerate(FAMILIES)],
                "order": [[key, name] for key, name in ORDERS.items()],
                "refine": [[True, "written anew in their turn"], [False, "kept"]],
            },
            "kinds": plots.KINDS,
            "least": f"1 in {1 / LEAST:,.0f}, or less",
        }
        super().__init__("masks", fixed, decoding.codec.grid)

    # what the browser asks for

    def do_set(self, name, value):
        self.decoding.set(**{name: value})

    def do_paint(self, cells, given):
        self.decoding.paint(cells, given)

    def do_fill(self, given):
        self.decoding.fill(given)

    def do_unpaint(self):
        self.decoding.unpaint()

    def do_decode(self):
        self.decoding.begin()
        self.do_continue()

    def do_continue(self):
        if self.decoding.running:
            self.decoding.work()
            self.step = self.decoding.last

    def do_go(self, step):
        if not 0 <= step <= self.decoding.last:
            raise ValueError(f"step {step} came; {self.decoding.last} are done.")
        self.step = int(step)

    # what it shows

    def state(self):
        decoding, settings, done = self.decoding, self.decoding.settings, self.decoding.last
        step = self.step = min(self.step, done)
        truth, guess = whole(decoding.video[0]), decoding.film(step)
        compared = truth if decoding.given.any() else guess  # with nothing given there is no one truth
        difference, most = stretched(np.abs(guess.astype(np.int16) - compared).mean(0))
        counts = {name: int((decoding.kinds(step) == name).sum()) for name in plots.KINDS}
        corrected = f" and {settings['corrections']} corrections" if settings["corrections"] else ""
        status = f"done in {settings['steps']} steps{corrected}" if done else "the mask is set: press decode"
        status = f"step {done} of {decoding.total} …" if decoding.running else status
        told = decoding.task.labelled
        view = {
            "settings": settings,
            "used": {"frames": settings["task"] in ("FP", "CFP"), "label": told, "guidance": told},
            "about": FAMILIES[decoding.clips.labels[settings["clip"]]],
            "given": decoding.given.tolist(),
            "painted": decoding.painted,
            "said": decoding.said(),
            "step": step,
            "last": done,
            "total": decoding.total,
            "tokens": self._tokens(),
            "sure": self._sure(),
            "called": decoding.called(step),
            "label": f"tokens after {decoding.called(step)}: {', '.join(f'{n} {name}' for name, n in counts.items())}",
            "captions": self._captions(most),
            "status": status,
            "more": decoding.running,
        }
        veiled = torch.where(decoding.region, decoding.video[0], VEIL / 255)
        still = {"given": film_bytes(whole(veiled)), "condition": film_bytes(whole(decoding.condition[0]))}
        films = {"guess": film_bytes(guess), "difference": difference.tobytes()}
        return {"still": still | {"truth": film_bytes(truth)}, "films": films, "view": view}

    def _tokens(self):
        """Texts, kinds and marks of the tokens."""
        decoding, step = self.decoding, self.step
        now, kinds = decoding.rounds[step], decoding.kinds(step)
        spell = np.vectorize(decoding.codec.codebook.spell, otypes=[object])
        text = np.where(kinds == "hidden", "?", spell(now.guess))
        return {"text": text.tolist(), "kind": kinds.tolist(), "fresh": decoding.fresh(step).tolist()}

    def _sure(self):
        """Probabilities of the guesses: per cent, and on a logarithmic scale from LEAST, 0, to 1, 255; -1: none yet."""
        now = self.decoding.rounds[self.step]
        p = np.exp(now.sure)
        text = np.select([np.isnan(p), p < 0.01], ["", "<1"], np.char.mod("%.0f", 100 * np.nan_to_num(p)))
        value = 255 * (1 - now.sure.clip(np.log(LEAST), 0) / np.log(LEAST))
        return {"text": text.tolist(), "value": np.nan_to_num(value, nan=-1).round().astype(int).tolist()}

    def _captions(self, most):
        clip, step = self.decoding.settings["clip"], self.step
        compare = self.decoding.given.any()
        return {
            "given": "what is given of it" if compare else "nothing is given",
            "condition": f"condition: {'paper elsewhere' if self.decoding.painted else 'filled by rule'}",
            "guess": f"the guess after {self.decoding.called(step)}" if step else "the condition, decoded",
            "truth": f"clip {clip}, the truth" if compare else f"clip {clip}: not asked for",
            "difference": f"guess − truth, up to {most:.0f}" if compare else "nothing given: no one truth",
        }


def mask_studio(transformer, tokenizer, clips, **settings):
    """The studio on a `Batch` of clips, below its figure; `settings` as in `Decoding`."""
    decoding = Decoding(transformer, tokenizer, clips, **{"corrections": CORRECTIONS} | settings)
    display(decoding.picture())
    return MaskStudio(decoding)


# ---- paths: draw one, and a clip is written along it ----

DRAWN = {"radius": (2.2, 3.6, 0.1), "seed": LIMITS["seed"]}
SHORTEST = 6  # pixels: about a dot's own width, below it no way is to be seen
PRESENT = 0.5  # of the plan's radius, a quarter of its ink: less is a speck, no dot


def eight():
    """A figure of eight, which no family has, not much longer than a clip's path: (65, 2) pixels."""
    turn = np.linspace(0, 2 * np.pi, 65)
    return (SIZE - 1) / 2 + np.stack([8.5 * np.sin(turn), 5.5 * np.sin(2 * turn)], 1)


class Written(NamedTuple):
    """What came of a drawing."""

    plan: np.ndarray  # (16, 3) x, y, radius in pixels
    tokens: np.ndarray  # (8, 4, 4)
    film: np.ndarray  # (3, 16, 64, 64) uint8
    seen: np.ndarray  # (16, 3) the dot in the film; NaN in a frame that has none

    @property
    def miss(self):
        """(16,) pixels from the plan to the dot in the film."""
        return np.linalg.norm((self.seen - self.plan)[:, :2], axis=1)

    def said(self):
        """One sentence: how well the film keeps to the plan."""
        found = np.isfinite(self.miss)
        if not found.any():
            return f"No frame of {FRAMES} has a dot."
        off = self.miss[found].mean()
        return f"The dot is {off:.1f} px from the plan on average; {found.sum()} of {FRAMES} frames have a dot."


@dataclass(frozen=True, eq=False)
class Drawing:
    """A path, made a plan of 16 frames, and the clip that a `Writer` writes along it.

    The path is a stroke, `points` (n, 2) in pixels, or with a `family` what the planner draws of this class.
    """

    tokenizer: torch.nn.Module
    writer: torch.nn.Module
    planner: torch.nn.Module | None = None
    points: np.ndarray = field(default_factory=eight)
    radius: float = 2.4  # of a black disc with as much ink as the dot, pixels; a planner draws its own
    seed: int = 0
    family: str | None = None

    def __post_init__(self):
        words = self.tokenizer.codebook_size, tuple(self.tokenizer.token_shape)
        if (self.writer.codebook_size, self.writer.grid) != words:
            raise ValueError("This writer was trained on the tokens of another tokenizer: their codebooks differ.")
        for name, limits in DRAWN.items():
            object.__setattr__(self, name, fitting(name, getattr(self, name), limits))
        if self.family not in (None, *FAMILIES):
            raise ValueError(f"family is {self.family!r}; it can be {', '.join(FAMILIES)}, or None for your own path.")
        if self.family and self.planner is None:
            raise ValueError("There is no planner here to plan a path: draw one.")

    def plan(self):
        """(16, 3) x, y, radius in pixels: equal steps along the stroke, the whole dot inside the picture."""
        if self.family:
            return draw_plans(self.planner, [FAMILIES.index(self.family)], seed=self.seed)[0].numpy()
        points = np.array(self.points, float)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"points came as {points.shape}; expected (n, 2): x, y in pixels, all finite.")
        edge = self.radius + MARGIN - 0.5  # a pixel's centre is a whole number, the picture begins at -0.5
        points = points.clip(edge, SIZE - 1 - edge)
        along = np.append(0, np.hypot(*np.diff(points, axis=0).T).cumsum())
        if along[-1] < SHORTEST:
            how = f"hold the button, or your finger, down while you draw {SHORTEST} px or more"
            raise ValueError(f"The path is {along[-1]:.1f} px long, too short for a dot to follow: {how}.")
        stops = np.linspace(0, along[-1], FRAMES)
        x, y = (np.interp(stops, along, axis) for axis in points.T)
        return np.stack([x, y, np.full(FRAMES, self.radius)], 1)

    def write(self):
        """The tokens of a clip along the plan, its film, and the dot in it: `Written`."""
        plan = self.plan()
        # any class will do: a writer hears the plan alone
        tokens = generate(self.writer.following(torch.tensor(plan[None]).float()), [0], guidance=1, seed=self.seed)
        film = self.tokenizer.decode(tokens)
        seen = seen_dot(film)[0].numpy()
        seen[seen[:, 2] < PRESENT * plan[:, 2]] = np.nan
        return Written(plan, tokens[0].numpy(), whole(film[0]), seen)

    written = cached_property(write)  # nothing here changes, and writing takes a second

    def picture(self):
        """The figure: the film, the plan and the dot in one picture, and how far apart they are."""
        made = self.written
        return plots.planned(made.plan, made.film, made.seen, made.miss)


class PathStudio(Canvas):
    """Draw a path, and see the clip that is written along it. `drawing` is the plain object behind it."""

    def __init__(self, drawing):
        self.drawing = drawing
        fixed = {
            "panels": [{"name": "film"}],
            "numbers": DRAWN,
            "families": FAMILIES if drawing.planner else (),
            "colours": plots.FOLLOWED,
        }
        super().__init__("path", fixed, drawing.writer.grid)

    def _turn_to(self, **changes):
        drawing = replace(self.drawing, **changes)
        _ = drawing.written  # first: where this fails, the last good drawing stays
        self.drawing = drawing

    def do_draw(self, points):
        self._turn_to(points=points, family=None)

    def do_plan(self, family):
        self._turn_to(family=family)

    def do_set(self, name, value):
        self._turn_to(**{name: value})

    def state(self):
        drawing, written = self.drawing, self.drawing.written
        plan, seen = written.plan.round(2).tolist(), written.seen.round(2)
        path = f"the planner's {drawing.family} path" if drawing.family else "the path that is drawn"
        length, (least, most) = np.hypot(*np.diff(written.plan[:, :2], axis=0).T).sum(), PATH_LENGTH
        (x0, y0, _), *_, (x1, y1, _) = written.plan.round().astype(int).tolist()
        view = {
            "settings": {name: getattr(drawing, name) for name in (*DRAWN, "family")},
            "used": {"radius": drawing.family is None},
            "stroke": None if drawing.family else np.asarray(drawing.points, float).round(2).tolist(),
            "plan": plan,
            "seen": [row.tolist() if np.isfinite(row).all() else None for row in seen],  # NaN is no JSON
            "said": written.said(),
            "label": f"drawing pad, {SIZE} by {SIZE} pixels: {path}, {FRAMES} dots from ({x0}, {y0}) to ({x1}, {y1}), "
            f"and the dots of the film that was written along it. {written.said()}",
            "captions": {"film": f"the film, written along {path}"},
            "about": f"The plan is {length:.0f} px long; in the clips of the set it is {least:.0f} to {most:.0f}.",
            "status": "written",
        }
        return {"films": {"film": film_bytes(written.film)}, "view": view}


def path_studio(tokenizer, writer, planner=None, **settings):
    """The studio, below its figure; `settings` as in `Drawing`."""
    drawing = Drawing(tokenizer, writer, planner, **settings)
    display(drawing.picture())
    return PathStudio(drawing)
