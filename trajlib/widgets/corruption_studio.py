"""The corruption studio: sliders corrupt a clip, and the classifiers' probabilities follow."""

import textwrap
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from trajlib import plots
from trajlib.data.clips import SPLIT_SEEDS, TrajectoryDataset
from trajlib.data.render import MAX_DISTRACTORS, Corruption
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float
from trajlib.widgets.base import SliderStudio


@plots.styled
def corruption_picture(video, probabilities, label, compact=False):
    """Frames of a video; below, each classifier's probabilities {name: (4,), NaN if it finds no dot}.

    The true class, `label`, has a black frame and an arrow. `compact`: as narrow as next to sliders.
    """
    top, left, wide, tall, gap = (0.76, 0.20, 0.79, 0.40, 0.05) if compact else (0.66, 0.15, 0.84, 0.33, 0.03)
    fig = plots.Picture(figsize=(5.1, 3.2) if compact else (plots.WIDTH, 2.9))
    pictures = plots.as_pictures(video)[0]
    plots.draw_strip(fig.add_axes((0.02, top, 0.96, 0.99 - top)), pictures, max(1, len(pictures) // 8))
    names = [f"true → {name}" if k == label else name for k, name in enumerate(FAMILIES)]
    edges = ["black" if k == label else "none" for k in range(len(FAMILIES))]
    width = wide / len(probabilities)
    for i, (name, p) in enumerate(probabilities.items()):
        ax = fig.add_axes((left + i * width, 0.15, width - gap, tall))
        ax.barh(range(4), 100 * np.nan_to_num(p), color=list(plots.COLOURS.values()), edgecolor=edges, linewidth=1.5)
        if np.isnan(p).any():
            ax.text(50, 1.5, "finds no dot", ha="center", va="center")
        ax.set(xlim=(0, 101), ylim=(3.6, -0.6), title=textwrap.fill(name, 14) if compact else name)
        ax.set(xticks=[0, 50, 100], yticks=range(4), yticklabels=names if i == 0 else [])
        ax.tick_params(axis="y", length=0)
    fig.text(left + wide / 2, 0.01, "probability of each class, %", ha="center", fontsize=9)
    return fig


class NetworkReader(NamedTuple):
    """A network as a reader of `CorruptionView`: its probabilities for tokens, or for videos uint8."""

    tokens: bool
    network: torch.nn.Module

    @torch.no_grad()
    def scores(self, inputs):
        """Probabilities (n, 4)."""
        return self.network(inputs if self.tokens else to_float(inputs)).softmax(-1).double().numpy()


@dataclass(frozen=True)
class CorruptionView:
    """The settings of the corruption studio: a validation clip and its corruption.

    `readers` {name: reader}: a classifier `reader.scores(x)` -> probabilities (n, 4), NaN where it finds no dot; x are
    tokens from `tokenizer` if `reader.tokens`, else videos uint8 (n, 3, t, h, w).
    """

    tokenizer: torch.nn.Module
    readers: dict
    family: str = "helical"
    clip: int = 0
    corruption: Corruption = Corruption()  # noqa: RUF009 (frozen, too)

    def video(self):
        """The corrupted clip (3, t, h, w) uint8: clip 0, 1, 2, ... of the class."""
        chosen = {"families": (self.family,), "corruption": self.corruption, "spec": self.tokenizer.spec}
        return TrajectoryDataset(self.clip + 1, SPLIT_SEEDS["validation"], **chosen)[self.clip].video

    def probabilities(self, video):
        """Each reader's probabilities of the classes: {name: (4,)}, NaN where it finds no dot."""
        videos = torch.from_numpy(video)[None]
        tokens = self.tokenizer.encode(to_float(videos))
        return {name: reader.scores(tokens if reader.tokens else videos)[0] for name, reader in self.readers.items()}

    def look(self, compact=False):
        """The figure, and one line: which readers are correct."""
        video, label = self.video(), FAMILIES.index(self.family)
        found = self.probabilities(video)
        verdicts = {"correct": [], "wrong": [], "finds no dot": []}
        for name, p in found.items():
            verdict = "finds no dot" if np.isnan(p).any() else "correct" if p.argmax() == label else "wrong"
            verdicts[verdict].append(name)
        some = [(verdict, names) for verdict, names in verdicts.items() if names or verdict == "correct"]
        note = "; ".join(f"{verdict}: {', '.join(names) or 'none'}" for verdict, names in some)
        return corruption_picture(video, found, label, compact), note

    def picture(self):
        """The figure, as wide as a page."""
        return self.look()[0]


SLIDERS = {  # a field of Corruption: label, lowest, highest, step, tooltip
    "noise": ("noise (std, white = 1)", 0.0, 0.4, 0.01, "standard deviation of the noise added to each value"),
    "blur": ("blur (std), px", 0.0, 4.0, 0.1, "standard deviation of the Gaussian, in pixels"),
    "brightness": ("brightness, added", -0.6, 0.6, 0.02, "added to each value; white is 1"),
    "contrast": ("contrast lost (share)", 0.0, 0.95, 0.01, "how far each value moves towards middle grey"),
    "occlusion": ("occlusion, px", 0.0, 32.0, 1.0, "width of a grey vertical bar"),
    "texture": ("texture (amplitude)", 0.0, 0.8, 0.01, "amplitude of a smooth background pattern; white is 1"),
    "distractors": ("distractors", 0, MAX_DISTRACTORS, 1, "number of further dots that stand still"),
    "jitter": ("camera jitter (std), px", 0.0, 4.0, 0.1, "standard deviation of the camera's jitter, frame by frame"),
    "frame_drops": ("frame drops (share)", 0.0, 0.9, 0.02, "chance that a frame is replaced by the one before it"),
    "trail": ("trail (share)", 0.0, 0.9, 0.02, "share of the dot that remains in the next frame"),
}


class CorruptionStudio(SliderStudio):
    """Sliders that corrupt a clip; the readers' probabilities follow. `settings` is the plain object behind it."""

    def __init__(self, view):
        self.settings = view
        controls = {"family": (view.family, "class", "the clip's true class", FAMILIES)}
        controls["clip"] = (view.clip, "clip number", "clip 0, 1, 2, … of this class", ("number", 0, 9999))
        for name, (label, *limits, tooltip) in SLIDERS.items():
            controls[name] = (getattr(view.corruption, name), label, tooltip, limits)
        buttons = {
            "next": ("next clip", "another clip of this class, with the same corruption"),
            "clean": ("no corruption", "set all sliders to where they do nothing"),
        }
        spec = view.tokenizer.spec
        super().__init__("corruption", controls, buttons, [], spec.frames, spec.size)

    def draw(self, values):
        strengths = {name: values[name] for name in SLIDERS}
        view = replace(self.settings, family=values["family"], clip=values["clip"], corruption=Corruption(**strengths))
        picture, note = view.look(compact=True)
        self.settings = view
        return picture, note, [], {}, {}

    def figure(self):
        """None: the notebook shows the same picture in the cell before."""

    def do_next(self):
        self._change({"clip": self.values["clip"] + 1})

    def do_clean(self):
        self._change(vars(Corruption()))
