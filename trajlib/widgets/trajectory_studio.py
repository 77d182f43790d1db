"""The trajectory studio: sliders for a clip's class, physics and view."""

from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from scipy.spatial.transform import Rotation

from trajlib import plots
from trajlib.data import trajectories
from trajlib.data.clips import Clip, VideoSpec, draw_nuisances, is_identifiable, project_track, render_clip
from trajlib.data.trajectories import FAMILIES
from trajlib.widgets.base import SliderStudio, video_bytes


def frustum(camera, depth, size=64):
    """Line through the camera's position and the corners of its picture at `depth` units, in world units: (11, 3)."""
    low, high = -0.5, size - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    c = np.column_stack([(corners - camera.centre) / camera.focal, np.ones(4)]) * depth
    eye = np.zeros(3)
    return camera.to_world(np.array([eye, c[0], c[1], eye, c[2], c[1], c[2], c[3], eye, c[3], c[0]]))


def curve(track, n=120):
    """`n` points (n, 3) of a track's 3D curve, world units."""
    return track.params.motion.at(np.linspace(0, 1, n))


def draw_path(ax, track, size=64):
    """Draw a track as the picture shows it, dots at their true size; y runs down, axes in pixels."""
    colour, camera = plots.COLOURS[track.family], track.params.camera
    ax.plot(*camera.project(curve(track))[0].T, color=colour, linewidth=1)
    for i, (centre, radius) in enumerate(zip(track.path, track.radius, strict=True)):
        shade = 0.15 + 0.6 * i / max(1, len(track.path) - 1)
        ax.add_patch(matplotlib.patches.Circle(centre, radius, color=colour, alpha=shade, linewidth=0))
    ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    ax.set(xticks=[0, size - 1], yticks=[0, size - 1])
    ax.spines[:].set(visible=True, color=plots.FRAME)


@plots.styled
def overview(clip):
    """A clip at a glance: its frames above; below, the path in the picture and in space, and the dot's radius."""
    fig = plots.Picture(figsize=(5.1, 4.7))
    pictures = plots.as_pictures(clip.video)[0]
    plots.draw_strip(fig.add_axes((0.02, 0.84, 0.96, 0.15)), pictures, max(1, len(pictures) // 8))
    path = fig.add_axes((0.07, 0.30, 0.44, 0.45))
    draw_path(path, clip, pictures.shape[1])
    path.set_title("path in the picture, px")
    _draw_scene(fig.add_axes((0.54, 0.28, 0.45, 0.47)), clip, pictures.shape[1])
    radius = fig.add_axes((0.16, 0.095, 0.80, 0.11))
    radius.plot(clip.radius, ".-", color=plots.COLOURS[clip.family])
    radius.set(xlabel="frame", ylabel="dot radius,\npx", ylim=(0, max(5.0, 1.1 * clip.radius.max())))
    radius.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(8, integer=True))
    return fig


def _draw_scene(ax, clip, size):
    """Curve and camera, projected by hand: matplotlib's 3D axes take far longer to draw."""
    camera, colour = clip.params.camera, plots.COLOURS[clip.family]
    turn, lift = np.radians(50), np.radians(25)
    right = np.array([np.cos(turn), 0, np.sin(turn)])  # in the camera's frame
    up = np.array([-np.sin(turn) * np.sin(lift), -np.cos(lift), np.cos(turn) * np.sin(lift)])
    axes = np.stack([right, up], 1)

    def flat(world):
        return (camera.to_camera(world) @ axes).T

    depth = camera.to_camera(clip.path3d)[:, 2].mean()
    ax.plot(*flat(frustum(camera, depth, size)), color=plots.FRAME, linewidth=0.8)
    ax.plot(*flat(curve(clip)), color=colour)
    ax.plot(*flat(clip.path3d), ".", color=colour, markersize=4)
    x, y = flat(camera.position)
    ax.text(x, y - 0.4, "camera", fontsize=8, ha="left", va="top")
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title("curve and camera in space")


@dataclass(frozen=True)
class TrajectoryView:
    """The settings of the trajectory studio. Whatever has no slider is drawn by `seed`, as in the dataset."""

    family: str = "helical"
    turns: float = 0.9  # circles and helices: revolutions per clip
    advance: float = 0.6  # helices: units along the axis per radian, over the radius; negative: left-handed
    sharpness: float = 7.0  # parabolas: gravity over the speed across it
    apex: float = 0.5  # parabolas: time of the turning point, as a share of the clip
    tilt: float = 40.0  # degrees by which the curve's own z leans from the line of sight
    roll: float = 30.0  # degrees of rotation in the picture
    spin: float = 60.0  # degrees of rotation about the curve's own z, before all others
    path_length: float = 34.0  # pixels
    distance: float = 10.0  # units
    dot_radius: float = 0.34  # units
    seed: int = 0
    spec: VideoSpec = VideoSpec()  # noqa: RUF009 (frozen, too)

    def motion(self):
        """The unit motion, oriented in the camera's frame, and its rotation (3, 3)."""
        physics = {
            "linear": {},
            "circular": {"turns": self.turns},
            "helical": {"turns": self.turns, "handedness": np.sign(self.advance) or 1.0, "advance": abs(self.advance)},
            "parabolic": {"sharpness": self.sharpness, "apex": self.apex},
        }
        angles = [self.spin, self.tilt, self.roll]
        rotation = Rotation.from_euler("zxz", angles, degrees=True).as_matrix()  # about fixed axes, in this order
        return trajectories.unit_motion(self.family, **physics[self.family]).moved(rotation), rotation

    def clip(self) -> tuple[Clip, bool]:
        """The clip, made by the dataset's own functions, and whether the dataset would show the class in this view."""
        motion, rotation = self.motion()
        drawn = draw_nuisances(np.random.default_rng([self.seed, 0]), self.spec)
        nuisances = replace(drawn, path_length=self.path_length, distance=self.distance, dot_radius=self.dot_radius)
        clip = render_clip(project_track(motion, nuisances, self.spec), spec=self.spec)
        return clip, bool(is_identifiable(self.family, rotation[None])[0])

    def note(self, clip, kept):
        """One line about its clip."""
        length = np.linalg.norm(np.diff(clip.path3d, axis=0), axis=1).sum()
        verdict = "a view as in the dataset" if kept else "a degenerate view: the dataset leaves it out"
        size = f"dot radius {clip.radius.min():.2f} to {clip.radius.max():.2f} px"
        return f"path length in space {length:.2f} units; {size}; {verdict}"


USED = {  # sliders that apply to a family; the others are disabled
    "linear": set(),
    "circular": {"turns"},
    "helical": {"turns", "advance"},
    "parabolic": {"sharpness", "apex"},
}
SLIDERS = {  # label, lowest, highest, step, tooltip
    "turns": ("revolutions per clip", *trajectories.TURNS, 0.01, "circles and helices: how often the dot goes round"),
    "advance": ("pitch / circumference", -trajectories.ADVANCE[1], trajectories.ADVANCE[1], 0.01,
                "helices: rise along the axis per turn, over 2π radius; negative: left-handed"),
    "sharpness": ("gravity, relative", *trajectories.SHARPNESS, 0.1,
                  "parabolas: gravity (units per clip²) over the speed across it (units per clip)"),
    "apex": ("apex, share of clip", *trajectories.APEX, 0.01, "parabolas: when the dot turns round, 0.5 is half-way"),
    "tilt": ("tilt, °", 0, 90, 1, "angle between the line of sight and the normal of the plane (helices: the axis)"),
    "roll": ("rotation in picture, °", 0, 360, 1, "the whole curve, turned in the picture's plane"),
    "spin": ("rotation about axis, °", 0, 360, 1, "the curve, turned about its own axis before it is tilted"),
    "path_length": ("path length, px", 12.0, 44.0, 0.5, "length of the dot's path in the picture"),
    "distance": ("camera distance, units", 6.0, 14.0, 0.1, "from the camera to the half-way point of the curve"),
    "dot_radius": ("dot radius, units", 0.2, 0.6, 0.01, "radius of the dot in space"),
}  # fmt: skip


class TrajectoryStudio(SliderStudio):
    """Sliders for a clip's class, physics and view; every picture is made by the functions that make the dataset."""

    def __init__(self, view=None):
        self.settings = view = view or TrajectoryView()
        controls = {"family": (view.family, "class", "the shape of the path", FAMILIES)}
        for name, (label, *limits, tooltip) in SLIDERS.items():
            controls[name] = (getattr(view, name), label, tooltip, limits)
        tooltip = "seed of what has no slider: colour, position and camera"
        controls["seed"] = (view.seed, "clip number", tooltip, ("number", 0, 2**31 - 1))
        buttons = {"next": ("next clip", "another colour, position and camera")}
        super().__init__("trajectory", controls, buttons, [{"name": "video"}], view.spec.frames, view.spec.size)

    def draw(self, values):
        view = replace(self.settings, **values)
        clip, kept = view.clip()
        off = sorted(set.union(*USED.values()) - USED[view.family])
        picture, self.settings = overview(clip), view
        return picture, view.note(clip, kept), off, {"video": "the clip"}, {"video": video_bytes(clip.video)}

    def do_next(self):
        self._change({"seed": self.values["seed"] + 1})
