"""Pictures you can touch: ipywidgets that set numbers, and an Image that is drawn anew after every change.

A studio splits in two: a plain object that knows the numbers and makes the picture (testable without a browser), and
`Studio`, which is only its controls. Nothing here uses Output or interact: they stall headless runs and hide errors.
"""

import html
from dataclasses import dataclass, replace

import ipywidgets as W
import numpy as np
from scipy.spatial.transform import Rotation

from trajlib import FAMILIES, plots, trajectories
from trajlib.dataset import Clip, clearly_seen, develop, draw_nuisances, film


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
        super().__init__(controls, self._picture)
        self.next = W.Button(description="next clip", tooltip="another colour, place and camera")
        self.next.on_click(self._next)
        self.children = (*self.children[:1], self.next, *self.children[1:])

    def _picture(self, **values):
        self.scene = Scene(**values)
        for name in set.union(*USED.values()):
            self.controls[name].disabled = name not in USED[self.scene.family]
        return plots.png(self.scene.picture()), self.scene.note()

    def _next(self, button):
        self.controls["seed"].value += 1
