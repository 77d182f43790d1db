"""What the studios share: `Canvas`, a widget that our own script draws, and `SliderStudio`, sliders next to a picture.

Each studio has two parts: a plain object that holds the settings and computes (it works without a browser), and a view
of it. Nothing here uses ipywidgets' Output or interact: they stall headless runs and hide errors.
"""

import base64
import html
from collections.abc import Callable
from pathlib import Path

import anywidget
import matplotlib
import numpy as np
import traitlets as T
from IPython.display import display

from trajlib import plots


def video_bytes(video):
    """A video (3, t, h, w) of colours, or (t, h, w) of numbers, uint8, as base.js takes it."""
    return np.ascontiguousarray(video.transpose(1, 2, 3, 0) if video.ndim == 4 else video, np.uint8).tobytes()


def to_bytes(video):
    """A video in [0, 1], a tensor, as uint8 numbers."""
    return video.mul(255).round().byte().numpy()


def colour_table(name):
    """matplotlib's colour map of this name as 256 RGB triples of whole numbers."""
    return (255 * matplotlib.colormaps[name](np.arange(256))[:, :3]).round().astype(int).tolist()


def stretched(values):
    """Numbers from 0 up, any shape -> uint8 from 0 to 255, and the largest of the numbers."""
    top = float(values.max())
    return (255 / max(top, 1e-9) * values).round().astype(np.uint8), top


def checked_number(name, value, limits):
    """The value of a setting with limits (lowest, highest, step), or a ValueError that says what it can be."""
    low, high, _ = limits
    whole = isinstance(low, int)
    fits = isinstance(value, (int, float)) and low <= value <= high and not (whole and value % 1)
    if not fits:
        kind = "a whole number" if whole else "any number"
        raise ValueError(f"{name} is {value}; it can be {kind} from {low} to {high}.")
    return int(value) if whole else float(value)


TWIN = "tl-twin"  # the class of a studio's figure, by which JupyterLab hides it while the studio below is alive
TWIN_NOTE = "The controls need a running kernel: menu Run, Run All Above Selected Cell, then run this cell."
CHILD = ".jp-OutputArea-child"
TWIN_STYLE = (  # two rules: the figure while the studio lives, and then what says "Error displaying widget"
    f"{CHILD}:has(.{TWIN}):has(+ {CHILD} .tl) {{ display: none }} "
    f"{CHILD}:has(.{TWIN}) + {CHILD}:not(:has(.tl)):has(> .jupyter-widgets) {{ display: none }}"
)
COLOUR_TABLES = {"frequency": colour_table(plots.FREQUENCY), "heat": colour_table(plots.HEAT)}


def script(*names):
    """The JavaScript of a canvas: base.js, and its own files, the last of which defines `canvas(model, el)`."""
    parts = (Path(__file__).with_name(f"{part}.js").read_text(encoding="utf-8") for part in ("base", *names))
    return "\n".join(parts)


class Canvas(anywidget.AnyWidget):
    """A widget that a script draws. A click there calls `do_...` here; then `state()` is sent, in one message.

    `state()` is also what the widget is made with, so that the first picture is right even if no message ever arrives.
    An error is kept in `error` and shown; the picture stays the last good one. A subclass has `_esm = script(name)`.
    """

    kind = T.Unicode().tag(sync=True)
    fixed = T.Dict().tag(sync=True)
    still = T.Dict().tag(sync=True)
    videos = T.Dict().tag(sync=True)
    patches = T.Bytes().tag(sync=True)
    picture = T.Bytes().tag(sync=True)
    view = T.Dict().tag(sync=True)

    state: Callable  # () -> the traits that change: {"view": ..., and others by name}
    figure: (
        Callable  # () -> a figure of what the studio shows, or None: an opened notebook has it in the studio's place
    )

    def __init__(self, kind, fixed, frames, size, grid=(1, 1, 1)):
        self.error, self._seq = None, 0
        common = {"luts": COLOUR_TABLES, "grid": list(grid), "frames": frames, "size": size}
        super().__init__(kind=kind, fixed=common | fixed, **self._numbered(self.state()))
        self.on_msg(lambda widget, message, buffers: self.receive(message))

    def __repr__(self):
        return f"{type(self).__name__}()"

    def _ipython_display_(self):
        figure, data, about, picture = self.figure(), {"text/plain": TWIN_NOTE}, {}, ""
        if figure is not None:
            png, about = figure._repr_png_()
            data = {"image/png": base64.b64encode(png).decode(), "text/plain": repr(figure)}
            source = f"data:image/png;base64,{data['image/png']}"
            picture = f'<img alt="{html.escape(about["alt"])}" src="{source}">'
        data["text/html"] = f'<div class="{TWIN}"><style>{TWIN_STYLE}</style>{picture}<p>{TWIN_NOTE}</p></div>'
        display(data, metadata={"image/png": about} if about else {}, raw=True)
        bundle = self._repr_mimebundle_()
        display(*(bundle if isinstance(bundle, tuple) else (bundle,))[:1], raw=True)

    def receive(self, message):
        """A message from the browser, {"do": what, ...}: calls the method `do_what` with the rest."""
        details = dict(message)
        self._attempt(lambda: getattr(self, f"do_{details.pop('do')}")(**details))

    def _attempt(self, act):
        """Act, and answer in any case: the browser waits for the counter to change."""
        try:
            act()
            self.error = None
            state = self.state()
        except Exception as error:
            self.error = error
            state = {"view": dict(self.view) | {"more": False}}
        self._seq += 1
        with self.hold_sync():
            for name, value in self._numbered(state).items():
                setattr(self, name, value)

    def refresh(self):
        """Send what has changed, after something other than a click has changed it; errors are raised."""
        self._attempt(lambda: None)
        if self.error:
            raise self.error

    def _numbered(self, state):
        return state | {"view": state["view"] | {"seq": self._seq, "error": str(self.error or "")}}


class SliderStudio(Canvas):
    """Controls next to the picture that `draw(values)` makes. Where that fails, the last good picture stays.

    `controls` {name: (value, label, tooltip, kind)}: kind is a tuple of names to choose from, or the limits of a slider
    (lowest, highest, step), or ("number", lowest, highest). `buttons` {name: (label, tooltip)}, each calls `do_...`.
    """

    _esm = script("slider_studio")

    def __init__(self, kind, controls, buttons, panels, frames, size):
        self.values = {name: value for name, (value, *_) in controls.items()}
        self._kinds = {name: kind for name, (*_, kind) in controls.items()}
        fixed = {
            "controls": [[name, label, hint, list(kind)] for name, (_, label, hint, kind) in controls.items()],
            "buttons": [[name, *texts] for name, texts in buttons.items()],
            "panels": panels,
        }
        self._drawn = self.draw(self.values)
        super().__init__(kind, fixed, frames, size)

    draw: Callable  # (values) -> figure, note, names of controls without effect, captions of the videos, videos

    def do_set(self, name, value):
        self._change({name: value})

    def set(self, **values):
        """Set several controls, and draw once; ValueError for a name or a value that cannot be."""
        self._attempt(lambda: self._change(values))
        if self.error:
            raise self.error

    def _change(self, values):
        unknown = set(values) - set(self._kinds)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such control; there are {', '.join(self._kinds)}.")
        values = self.values | {name: self._checked(name, value) for name, value in values.items()}
        self._drawn, self.values = self.draw(values), values

    def _checked(self, name, value):
        low, *rest = self._kinds[name]
        if low == "number":
            return checked_number(name, value, (*rest, 1))
        if isinstance(low, str):
            if value not in self._kinds[name]:
                raise ValueError(f"{name} is {value!r}; it can be {', '.join(self._kinds[name])}.")
            return value
        return checked_number(name, value, self._kinds[name])

    def figure(self):
        return self._drawn[0]

    def state(self):
        figure, note, off, captions, videos = self._drawn
        view = {"values": self.values, "note": note, "off": off, "captions": captions}
        return {"picture": plots.png(figure), "videos": videos, "view": view}
