"""The path studio: draw a trajectory, or let a model sample one, and see the clip that is decoded along it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import matplotlib
import numpy as np
import torch

from trajlib import plots
from trajlib.data.clips import MARGIN, PATH_LENGTH
from trajlib.data.measure import measure_dot
from trajlib.data.trajectories import FAMILIES
from trajlib.evaluate.samples import MAX_OFF_OBJECT_MASS, track_video
from trajlib.generation.joint import JointTransformer
from trajlib.generation.joint_sampling import decode_video, sample_trajectories
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.widgets.base import Canvas, checked_number, script, to_bytes, video_bytes
from trajlib.widgets.interpolation_studio import fits_tokenizer

LIMITS = {"radius": (2.2, 3.6, 0.1), "seed": (0, 2**31 - 1, 1)}  # lowest, highest, step of the control
SHORTEST = 6  # pixels: about the dot's own diameter, below it no motion can be seen
PRESENT = 0.5  # of the asked radius, a quarter of its foreground intensity: less is a speck, not a dot
FOLLOWED = {"trajectory": "#0072B2", "measured": "#D55E00"}  # where the dot is to be, and where it is in the video


@plots.styled
def followed_picture(trajectory, video, measured, errors):
    """A video and the trajectory (t, 3) that it was decoded along: frames above; below, the trajectory and the measured
    dot in the picture, and their distance, `errors` (t,) px. `measured` (t, 3) is NaN in a frame without a dot.
    """
    fig = plots.Picture(figsize=(plots.WIDTH, 3.9))
    pictures, n = plots.as_pictures(video)[0], len(trajectory)
    plots.draw_strip(fig.add_axes((0.02, 0.74, 0.96, 0.25)), pictures, max(1, n // 8))
    path, size, (asked, found) = fig.add_axes((0.06, 0.09, 0.27, 0.55)), pictures.shape[1], FOLLOWED.values()
    path.plot(*trajectory[:, :2].T, color=asked, linewidth=0.6)
    for x, y, radius in trajectory:
        path.add_patch(matplotlib.patches.Circle((x, y), radius, fill=False, color=asked, linewidth=0.8))
    path.plot(*np.stack([trajectory[:, :2], measured[:, :2]]).transpose(2, 0, 1), color=found, linewidth=0.8)
    path.plot(*measured[:, :2].T, ".", color=found, markersize=5)
    path.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    path.set(xticks=[0, size - 1], yticks=[0, size - 1], title="in the picture, px")
    path.spines[:].set(visible=True, color=plots.FRAME)
    apart = fig.add_axes((0.43, 0.15, 0.36, 0.47))
    apart.plot(errors, ".-", color=found)
    top = max(2.0, 1.1 * np.nan_to_num(errors).max())
    apart.set(xlabel="frame", xlim=(-0.5, n - 0.5), ylim=(0, top), title="distance of dot and trajectory, px")
    marks = [
        matplotlib.lines.Line2D([], [], color=asked, marker="o", markerfacecolor="none", linewidth=0.6),
        matplotlib.lines.Line2D([], [], color=found, marker=".", linewidth=0.8),
    ]
    fig.legend(marks, ["the trajectory", "the dot\nin the video"], loc="center left", bbox_to_anchor=(0.82, 0.4))
    return fig


def figure_of_eight(size=64):
    """A figure of eight, which no class has, not much longer than a clip's path: (65, 2) pixels."""
    turn = np.linspace(0, 2 * np.pi, 65)
    return (size - 1) / 2 + size / 64 * np.stack([8.5 * np.sin(turn), 5.5 * np.sin(2 * turn)], 1)


class Followed(NamedTuple):
    """The clip that was decoded along a trajectory."""

    trajectory: np.ndarray  # (t, 3) x, y, radius in pixels
    tokens: np.ndarray  # (t', h', w')
    video: np.ndarray  # (3, t, h, w) uint8
    measured: np.ndarray  # (t, 3) the dot in the video; NaN in a frame without one
    off_object_mass: float  # the largest share of a frame's foreground that lies away from its dot

    @property
    def errors(self):
        """Pixels from the trajectory to the dot in the video: (t,)."""
        return np.linalg.norm((self.measured - self.trajectory)[:, :2], axis=1)

    def summary(self):
        """One sentence: how well the video follows the trajectory."""
        found, frames = np.isfinite(self.errors), len(self.errors)
        if not found.any():
            return f"No frame of {frames} has a dot."
        mean = self.errors[found].mean()
        count = f"{found.sum()} of {frames} frames have a dot"
        if self.off_object_mass > MAX_OFF_OBJECT_MASS:
            count += f", but in one {self.off_object_mass:.0%} of the foreground is elsewhere: try another seed"
        return f"The dot is {mean:.1f} px from the trajectory on average; {count}."


@dataclass(frozen=True, eq=False)
class DrawnTrajectory:
    """A trajectory, and the clip that the transformer decodes along it.

    The trajectory is a stroke, `points` (n, 2) in pixels, or with a `family` what the transformer samples of this
    class. ValueError for models that do not fit, and for settings that cannot be.
    """

    tokenizer: Tokenizer
    transformer: JointTransformer
    points: np.ndarray = field(default_factory=figure_of_eight)
    radius: float = 2.4  # pixels, of a black disc with the dot's foreground intensity; a sampled trajectory has its own
    seed: int = 1  # of the first twelve, 0 and 7 show a second dot along the figure of eight
    family: str | None = None

    def __post_init__(self):
        if not fits_tokenizer(self.transformer, self.tokenizer):
            raise ValueError(
                "This transformer was trained on the tokens of another tokenizer: their codebook sizes or grids differ."
            )
        for name, limits in LIMITS.items():
            object.__setattr__(self, name, checked_number(name, getattr(self, name), limits))
        if self.family not in (None, *FAMILIES):
            raise ValueError(f"family is {self.family!r}; it can be {', '.join(FAMILIES)}, or None for your own path.")

    def trajectory(self):
        """(t, 3) x, y, radius in pixels: equal steps along the stroke, the whole dot inside the picture."""
        if self.family:
            label = [FAMILIES.index(self.family)]
            return sample_trajectories(self.transformer, label, seed=self.seed)[0].double().numpy()
        spec, points = self.tokenizer.spec, np.array(self.points, float)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"points came as {points.shape}; expected (n, 2): x, y in pixels, all finite.")
        edge = self.radius + MARGIN - 0.5  # a pixel's centre is a whole number, the picture begins at -0.5
        points = points.clip(edge, spec.size - 1 - edge)
        along = np.append(0, np.hypot(*np.diff(points, axis=0).T).cumsum())
        if along[-1] < SHORTEST:
            how = f"hold the button, or your finger, down while you draw {SHORTEST} px or more"
            raise ValueError(f"The path is {along[-1]:.1f} px long, too short for a dot to follow: {how}.")
        stops = np.linspace(0, along[-1], spec.frames)
        x, y = (np.interp(stops, along, axis) for axis in points.T)
        return np.stack([x, y, np.full(spec.frames, self.radius)], 1)

    def decode(self):
        """Decode a clip along the trajectory, and measure the dot in it: `Followed`."""
        trajectory = self.trajectory()
        tokens = decode_video(self.transformer, torch.tensor(trajectory[None]).float(), seed=self.seed)
        video = self.tokenizer.decode(tokens)
        measured = measure_dot(video)[0].numpy()
        measured[measured[:, 2] < PRESENT * trajectory[:, 2]] = np.nan
        off = float(track_video(video).off_object_mass[0])
        return Followed(trajectory, tokens[0].numpy(), to_bytes(video[0]), measured, off)

    followed = cached_property(decode)  # nothing here changes, and decoding takes a second

    def picture(self):
        """The figure: the video, the trajectory and the dot in one picture, and how far apart they are."""
        now = self.followed
        return followed_picture(now.trajectory, now.video, now.measured, now.errors)


class PathStudio(Canvas):
    """Draw a path, and see the clip that is decoded along it. `drawn` is the plain object behind it."""

    _esm = script("path_studio")

    def __init__(self, drawn):
        self.drawn = drawn
        fixed = {
            "panels": [{"name": "video"}],
            "numbers": LIMITS,
            "families": FAMILIES,
            "colours": FOLLOWED,
        }
        spec = drawn.tokenizer.spec
        super().__init__("path", fixed, spec.frames, spec.size, drawn.tokenizer.grid)

    def _change(self, **changes):
        drawn = replace(self.drawn, **changes)
        _ = drawn.followed  # first: where this fails, the last good trajectory stays
        self.drawn = drawn

    def do_draw(self, points):
        self._change(points=points, family=None)

    def do_sample(self, family):
        self._change(family=family)

    def do_set(self, name, value):
        self._change(**{name: value})

    def figure(self):
        return self.drawn.picture()

    def state(self):
        drawn, now, spec = self.drawn, self.drawn.followed, self.drawn.tokenizer.spec
        path = f"the sampled {drawn.family} trajectory" if drawn.family else "the path that is drawn"
        length, (least, most) = np.hypot(*np.diff(now.trajectory[:, :2], axis=0).T).sum(), PATH_LENGTH
        (x0, y0, _), *_, (x1, y1, _) = now.trajectory.round().astype(int).tolist()
        view = {
            "settings": {name: getattr(drawn, name) for name in (*LIMITS, "family")},
            "used": {"radius": drawn.family is None},
            "stroke": None if drawn.family else np.asarray(drawn.points, float).round(2).tolist(),
            "trajectory": now.trajectory.round(2).tolist(),
            "measured": [row.tolist() if np.isfinite(row).all() else None for row in now.measured.round(2)],  # no NaN
            "summary": now.summary(),
            "label": f"drawing pad, {spec.size} by {spec.size} pixels: {path}, {spec.frames} dots from ({x0}, {y0}) to "
            f"({x1}, {y1}), and the dots of the video that was decoded along it. {now.summary()}",
            "captions": {"video": f"the video, decoded along {path}"},
            "about": f"The trajectory is {length:.0f} px long, the training clips' {least:.0f} to {most:.0f} px. "
            "Each seed is another sample, and some fail.",
            "status": "decoded",
        }
        return {"videos": {"video": video_bytes(now.video)}, "view": view}


def path_studio(tokenizer, transformer, **settings):
    """The studio, with a first clip; `settings` as in `DrawnTrajectory`."""
    return PathStudio(DrawnTrajectory(tokenizer, transformer, **settings))
