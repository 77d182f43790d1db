"""Clips: a motion, seen by a camera, drawn as frames; the same clip for the same (seed, index), always.

Nothing but the shape of the path may give the class away. So the nuisances are drawn first, from one distribution for
all classes, and the motion is then rotated, scaled and placed until it has them: apparent path length, foreshortening
(hence 3D length and speed), position half-way, distance, size, colour, camera.

Lengths in pixels hold for pictures of 64 pixels; other sizes scale them.
"""

import colorsys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from trajlib.data.camera import Camera
from trajlib.data.render import Corruption, render
from trajlib.data.spec import VideoDataset, VideoSpec, check_name, check_number, describe, is_integer
from trajlib.data.trajectories import FAMILIES, Motion, draw_motion

__all__ = ["SPLIT_SEEDS", "Batch", "Clip", "Track", "TrajectoryDataset", "VideoDataset", "VideoSpec", "split"]

# disjoint: no clip is in two splits. Nothing is chosen or looked at on "sealed": the study `sealed` measures it once
SPLIT_SEEDS = {"train": 0, "validation": 1, "test": 2, "sealed": 221_205_199}
PATH_LENGTH = (18.0, 40.0)  # pixels along the apparent path, log-uniform
FORESHORTENING = (0.75, 0.95)  # apparent over real length, at the path's depth
MIDDLE_SPREAD = 9.0  # pixels: standard deviation of the half-way position about the picture's centre
FOCAL = (75.0, 95.0)  # pixels
DISTANCE = (9.0, 11.0)  # units from the camera to the half-way position, along the optical axis
DOT_RADIUS = (0.26, 0.42)  # units; 2.2 to 3.6 pixels at the mean focal length and distance
MARGIN = 0.5  # pixels of background kept round the dot
ORIENTATIONS = 32  # tried per clip; the one whose foreshortening comes nearest is kept


@dataclass(frozen=True)
class Nuisances:
    """All that is drawn before the class is looked at."""

    path_length: float  # pixels
    foreshortening: float  # apparent over real length
    middle: np.ndarray  # (2,) pixels, wanted; the picture's border may push it inwards
    distance: float  # units
    dot_radius: float  # units
    colour: tuple[float, float, float]  # RGB in [0, 1]
    focal: float  # pixels
    view: np.ndarray  # (3, 3) rotation of the camera against the world


@dataclass(frozen=True)
class Params:
    """What made a clip: the motion in world units, the camera, the dot."""

    motion: Motion
    camera: Camera
    dot_radius: float  # units
    colour: tuple[float, float, float]  # RGB in [0, 1]


@dataclass(frozen=True)
class Track:
    """All the truth about a clip, without its pixels."""

    label: int  # index into FAMILIES
    path: np.ndarray  # (frames, 2) x, y of the dot's centre, pixels; a pixel's centre is a whole number
    radius: np.ndarray  # (frames,) pixels
    path3d: np.ndarray  # (frames, 3) world units
    params: Params

    @property
    def family(self) -> str:
        return FAMILIES[self.label]


@dataclass(frozen=True)
class Clip(Track):
    """One clip and the truth about it."""

    video: np.ndarray  # (3, frames, size, size) uint8


def draw_nuisances(rng: np.random.Generator, spec: VideoSpec = VideoSpec()) -> Nuisances:
    """The part of a clip that has one distribution for all classes."""
    hue, saturation, value = rng.uniform([0, 0.6, 0.15], [1, 1, 0.85])
    scale = spec.size / 64
    return Nuisances(
        path_length=scale * float(np.exp(rng.uniform(*np.log(PATH_LENGTH)))),
        foreshortening=rng.uniform(*FORESHORTENING),
        middle=spec.centre + scale * MIDDLE_SPREAD * rng.normal(size=2),
        distance=rng.uniform(*DISTANCE),
        dot_radius=rng.uniform(*DOT_RADIUS),
        colour=colorsys.hsv_to_rgb(hue, saturation, value),
        focal=scale * rng.uniform(*FOCAL),
        view=Rotation.random(rng=rng).as_matrix(),
    )


def is_identifiable(family: str, rotations: np.ndarray) -> np.ndarray:
    """Which orientations (n, 3, 3) show what the family is, (n,) bool: the rule that keeps degenerate views out.

    The plane of a circle or parabola is tilted by at most 60 degrees out of the picture (edge-on, both look like a
    line); a helix's axis lies at least 30 degrees off the line of sight (end-on, it looks like a circle).
    """
    normal_to_sight = np.abs(rotations[:, 2, 2])
    if family in ("circular", "parabolic"):
        return normal_to_sight >= 0.5
    if family == "helical":
        return normal_to_sight <= np.cos(np.radians(30))
    return np.ones(len(rotations), bool)


def orient(motion: Motion, foreshortening: float, rng: np.random.Generator, frames: int = 16) -> Motion:
    """Rotate a unit motion to an identifiable view with the asked foreshortening (camera frame, z into the picture)."""
    rotations = Rotation.random(ORIENTATIONS, rng=rng).as_matrix()
    steps = np.diff(motion.at(np.linspace(0, 1, frames)), axis=0) @ rotations.transpose(0, 2, 1)  # (n, frames - 1, 3)
    apparent = np.linalg.norm(steps[..., :2], axis=-1).sum(1) / np.linalg.norm(steps, axis=-1).sum(1)
    error = np.abs(apparent - foreshortening) + 10 * ~is_identifiable(motion.family, rotations)
    return motion.moved(rotations[error.argmin()])


def fit_into_picture(
    motion: Motion, nuisances: Nuisances, spec: VideoSpec = VideoSpec()
) -> tuple[Motion, np.ndarray, np.ndarray]:
    """Scale and shift an oriented motion to the asked length and position, with the whole dot inside every frame.

    Returns the motion (camera frame), path (frames, 2) and radius (frames,) in pixels. ValueError if it cannot fit.
    """
    size, times = spec.size, np.linspace(0, 1, spec.frames)
    checked = np.union1d(times, np.linspace(0, 1, 16))  # so that few frames measure the path as well as many
    camera = Camera(nuisances.focal, (spec.centre, spec.centre), np.eye(3), np.zeros(3))
    shape = motion.at(checked) - motion.at(0.5)
    middle, scale = nuisances.middle, 1.0
    for _ in range(12):
        offset = nuisances.distance * np.append((middle - camera.centre) / camera.focal, 1)
        path, depth = camera.project(scale * shape + offset)
        radius = camera.apparent_radius(nuisances.dot_radius, depth)
        ratio = nuisances.path_length / np.hypot(*np.diff(path, axis=0).T).sum()
        reach = radius[:, None] + MARGIN - 0.5
        low, high = (reach - path).max(0), (size - 1 - reach - path).min(0)  # shifts that keep the dot inside
        shift = np.minimum(np.maximum(0, low), high)
        if abs(ratio - 1) < 1e-3 and np.abs(shift).max() < 1e-3:
            break
        scale, middle = scale * ratio, middle + np.where(shift, shift + 0.01 * np.sign(shift), 0)
    if (path - radius[:, None]).min() < -0.5 or (path + radius[:, None]).max() > size - 0.5:
        asked = f"a path of {nuisances.path_length:.0f} px with a dot of {2 * radius.max():.1f} px"
        raise ValueError(f"{asked} does not fit into the picture of {size} px: ask for a shorter path.")
    frames = np.isin(checked, times)
    return motion.moved(scale=scale, offset=offset - scale * motion.at(0.5)), path[frames], radius[frames]


def project_track(motion: Motion, nuisances: Nuisances, spec: VideoSpec = VideoSpec()) -> Track:
    """The `Track` of an oriented motion (camera frame) under these nuisances: placed, and moved into the world."""
    motion, path, radius = fit_into_picture(motion, nuisances, spec)
    # from the camera's frame to the world's: the world's origin lies on the optical axis, half-way deep
    camera = Camera(nuisances.focal, (spec.centre,) * 2, nuisances.view, np.array([0, 0, nuisances.distance]))
    motion = motion.moved(camera.rotation.T, offset=camera.position)
    params = Params(motion, camera, nuisances.dot_radius, nuisances.colour)
    path3d = motion.at(np.linspace(0, 1, spec.frames))
    return Track(FAMILIES.index(motion.family), path, radius, path3d, params)


def make_track(seed: int, index: int, family: str, spec: VideoSpec = VideoSpec()) -> Track:
    """Clip number `index` of the generator seed, without its pixels: nuisances first, then the family's motion.

    ValueError for an unknown family, and unless seed and index are whole numbers from 0.
    """
    check_name("family", family, FAMILIES)
    check_number("seed", seed, 0, whole=True)
    check_number("index", index, 0, whole=True)
    rng = np.random.default_rng([seed, index])
    nuisances = draw_nuisances(rng, spec)
    motion = orient(draw_motion(family, rng), nuisances.foreshortening, rng, max(16, spec.frames))
    return project_track(motion, nuisances, spec)


def render_clip(
    track: Track, corruption: Corruption | None = None, rng: np.random.Generator | None = None,
    spec: VideoSpec = VideoSpec(),
) -> Clip:  # fmt: skip
    """The `Clip` of a track: its frames drawn, and corrupted if `corruption` says so (which takes random numbers)."""
    video = render(track.path, track.radius, track.params.colour, spec, corruption, rng)
    return Clip(**vars(track), video=video)


def as_indices(indices: Any, size: int, of: str = "clip {} of a dataset") -> list[int]:
    """A list of integers from a sequence of them; ValueError for a mask, floats or text, IndexError out of range.

    `of`: what is indexed, in the error's sentence.
    """
    check_number("size", size, 1, whole=True)
    if not isinstance(indices, Iterable) or getattr(indices, "ndim", 1) != 1:
        raise ValueError(f"{describe(indices)} came as indices; a sequence of whole numbers was expected.")
    came = indices.tolist() if isinstance(indices, torch.Tensor | np.ndarray) else list(indices)
    for i in came:
        if not is_integer(i):
            raise ValueError(f"{i!r} came as an index; whole numbers from 0 to {size - 1} were expected.")
        if not 0 <= i < size:
            raise IndexError(f"{of.format(i)} of {size}; indices run from 0 to {size - 1}.")
    return [int(i) for i in came]


@dataclass(frozen=True)
class TrajectoryDataset(torch.utils.data.Dataset):
    """`size` clips of the generator seed; `dataset[i]` is a `Clip`, made when asked for.

    Splits are disjoint seeds: see `SPLIT_SEEDS` and `split`. `families` narrows the classes, whose labels stay indices
    into FAMILIES; `corruption` corrupts every clip. ValueError for arguments out of range.
    """

    size: int
    seed: int = 0
    families: tuple[str, ...] = FAMILIES
    corruption: Corruption | None = None
    spec: VideoSpec = VideoSpec()

    num_classes = len(FAMILIES)

    def __post_init__(self) -> None:
        check_number("size", self.size, 1, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        if not isinstance(self.spec, VideoSpec) or not isinstance(self.corruption, Corruption | None):
            raise ValueError(f"spec is {self.spec!r:.99}, corruption {self.corruption!r:.99}; expected these types.")
        named = set(map(str, self.families)) if isinstance(self.families, Collection) else set()
        if not named or not named <= set(FAMILIES):
            raise ValueError(f"families {self.families} came; choose from {', '.join(FAMILIES)}.")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> Clip:
        rng = np.random.default_rng([self.seed, i, 1]) if self.corruption else None
        return render_clip(self.track(i), self.corruption, rng, self.spec)

    def track(self, i: int) -> Track:
        """Clip i without its pixels: a third of the time. IndexError out of range."""
        (i,) = as_indices([i], self.size)
        return make_track(self.seed, i, self.families[i % len(self.families)], self.spec)

    def batch(self, indices: Iterable[int] | None = None) -> "Batch":
        """These clips, or all, stacked."""
        return collate([self[i] for i in as_indices(range(self.size) if indices is None else indices, self.size)])

    def videos(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 (b, 3, frames, size, size)."""
        return self.batch(indices).videos

    def labels(self, indices: Sequence[int]) -> torch.Tensor:
        """int64 (b,): indices into FAMILIES; no pixel is drawn."""
        order = [FAMILIES.index(family) for family in self.families]
        return torch.tensor([order[i % len(order)] for i in as_indices(indices, self.size)])


def split(name: str, size: int = 10**9, **options: Any) -> TrajectoryDataset:
    """The clips of a split: "train", "validation", "test" or "sealed"; ValueError for another name."""
    check_name("split", name, SPLIT_SEEDS)
    return TrajectoryDataset(size, seed=SPLIT_SEEDS[name], **options)


@dataclass(frozen=True)
class Batch:
    """Clips as tensors; slice it like a tensor."""

    videos: torch.Tensor  # (b, 3, frames, size, size) uint8
    labels: torch.Tensor  # (b,) int64
    paths: torch.Tensor  # (b, frames, 2) float32, pixels
    radii: torch.Tensor  # (b, frames) float32, pixels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Any) -> "Batch":
        return Batch(self.videos[key], self.labels[key], self.paths[key], self.radii[key])


def collate(clips: Sequence[Clip]) -> Batch:
    """A list of clips -> `Batch`; also the `collate_fn` of a DataLoader. ValueError for an empty list."""
    if not isinstance(clips, list | tuple) or not clips or not all(isinstance(clip, Clip) for clip in clips):
        raise ValueError("no clips came; a batch needs at least one.")
    names = ("video", "path", "radius")
    videos, paths, radii = (torch.from_numpy(np.stack([getattr(clip, name) for clip in clips])) for name in names)
    return Batch(videos, torch.tensor([clip.label for clip in clips]), paths.float(), radii.float())
