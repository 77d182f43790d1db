"""Clips: a motion, seen by a camera, drawn as 16 frames; the same clip for the same (seed, index), always.

Nothing but the shape of the path may tell the class. So the nuisances are drawn first, from one distribution for all
classes, and the motion is then turned, scaled and placed until it has them: apparent path length, foreshortening
(hence 3D length and speed), where the dot is half-way, distance, size, colour, camera.
"""

import colorsys
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from scipy.spatial.transform import Rotation

from trajlib import FAMILIES, trajectories
from trajlib.camera import Camera
from trajlib.render import FRAMES, SIZE, Damage, render

TIMES = np.linspace(0, 1, FRAMES)
PATH_LENGTH = (18.0, 40.0)  # pixels along the apparent path, log-uniform
FORESHORTENING = (0.75, 0.95)  # apparent over real length, at the path's depth
MIDDLE_SPREAD = 9.0  # pixels: standard deviation of the half-way point about the picture's centre
FOCAL = (75.0, 95.0)  # pixels
DISTANCE = (9.0, 11.0)  # units from the camera to the half-way point, along the optical axis
DOT_RADIUS = (0.26, 0.42)  # units; 2.2 to 3.6 pixels at the mean focal length and distance
MARGIN = 0.5  # pixels of white kept round the dot
ORIENTATIONS = 32  # tried per clip; the one whose foreshortening comes nearest is kept


@dataclass(frozen=True)
class Nuisances:
    """All that is drawn before the class is looked at."""

    path_length: float  # pixels
    foreshortening: float  # apparent over real length
    middle: np.ndarray  # (2,) pixels, wished for; the picture's border may push it inwards
    distance: float  # units
    dot_radius: float  # units
    colour: tuple[float, float, float]  # RGB in [0, 1]
    focal: float  # pixels
    view: np.ndarray  # (3, 3) rotation of the camera against the world


@dataclass(frozen=True)
class Params:
    """What made a clip: the motion in world units, the camera, the dot."""

    motion: trajectories.Motion
    camera: Camera
    dot_radius: float  # units
    colour: tuple[float, float, float]  # RGB in [0, 1]


@dataclass(frozen=True)
class Track:
    """All the truth about a clip, without its pixels."""

    label: int  # index into FAMILIES
    path: np.ndarray  # (16, 2) x, y of the dot's centre, pixels; a pixel's centre is a whole number
    radius: np.ndarray  # (16,) pixels
    path3d: np.ndarray  # (16, 3) world units
    params: Params

    @property
    def family(self):
        return FAMILIES[self.label]


@dataclass(frozen=True)
class Clip(Track):
    """One clip and the truth about it."""

    video: np.ndarray  # (3, 16, 64, 64) uint8

    def to_gif(self, file, **kwargs):
        """Write an animation; see `write_gif`."""
        write_gif(self.video, file, **kwargs)

    def to_mp4(self, file, **kwargs):
        """Write an H.264 film; see `write_mp4`."""
        write_mp4(self.video, file, **kwargs)


def draw_nuisances(rng):
    """The part of a clip that is the same game for every class."""
    hue, saturation, value = rng.uniform([0, 0.6, 0.15], [1, 1, 0.85])
    return Nuisances(
        path_length=float(np.exp(rng.uniform(*np.log(PATH_LENGTH)))),
        foreshortening=rng.uniform(*FORESHORTENING),
        middle=(SIZE - 1) / 2 + MIDDLE_SPREAD * rng.normal(size=2),
        distance=rng.uniform(*DISTANCE),
        dot_radius=rng.uniform(*DOT_RADIUS),
        colour=colorsys.hsv_to_rgb(hue, saturation, value),
        focal=rng.uniform(*FOCAL),
        view=Rotation.random(rng=rng).as_matrix(),
    )


def clearly_seen(family, rotations):
    """Which orientations (n, 3, 3) show what the family is: the rule that keeps degenerate views out.

    The plane of a circle or parabola is tilted by at most 60 degrees out of the picture (edge-on, both look like a
    line); a helix's axis lies at least 30 degrees off the line of sight (end-on, it looks like a circle).
    """
    normal_to_sight = np.abs(rotations[:, 2, 2])
    if family in ("circular", "parabolic"):
        return normal_to_sight >= 0.5
    if family == "helical":
        return normal_to_sight <= np.cos(np.radians(30))
    return np.ones(len(rotations), bool)


def orient(motion, foreshortening, rng):
    """Turn a unit motion so that it is clearly seen and foreshortened as asked (camera frame, z into the picture)."""
    rotations = Rotation.random(ORIENTATIONS, rng=rng).as_matrix()
    steps = np.diff(motion.at(TIMES), axis=0) @ rotations.transpose(0, 2, 1)  # (n, 15, 3)
    seen = np.linalg.norm(steps[..., :2], axis=-1).sum(1) / np.linalg.norm(steps, axis=-1).sum(1)
    miss = np.abs(seen - foreshortening) + 10 * ~clearly_seen(motion.family, rotations)
    return motion.moved(rotations[miss.argmin()])


def place(motion, nuisances):
    """Scale and shift an oriented motion until it has the asked length and place, the whole dot inside every frame.

    Returns motion (camera frame), path (16, 2) and radius (16,) in pixels.
    """
    camera = Camera(nuisances.focal, ((SIZE - 1) / 2,) * 2, np.eye(3), np.zeros(3))
    shape = motion.at(TIMES) - motion.at(0.5)
    middle, scale = nuisances.middle, 1.0
    for _ in range(12):
        offset = nuisances.distance * np.append((middle - camera.centre) / camera.focal, 1)
        path, depth = camera.project(scale * shape + offset)
        radius = camera.apparent_radius(nuisances.dot_radius, depth)
        ratio = nuisances.path_length / np.hypot(*np.diff(path, axis=0).T).sum()
        reach = radius[:, None] + MARGIN - 0.5
        low, high = (reach - path).max(0), (SIZE - 1 - reach - path).min(0)  # shifts that keep the dot inside
        shift = np.minimum(np.maximum(0, low), high)
        if abs(ratio - 1) < 1e-3 and np.abs(shift).max() < 1e-3:
            break
        scale, middle = scale * ratio, middle + np.where(shift, shift + 0.01 * np.sign(shift), 0)
    if (path - radius[:, None]).min() < -0.5 or (path + radius[:, None]).max() > SIZE - 0.5:
        asked = f"a path of {nuisances.path_length:.0f} px with a dot of {2 * radius.max():.1f} px"
        raise ValueError(f"{asked} does not fit into the picture of {SIZE} px: ask for a shorter path.")
    return motion.moved(scale=scale, offset=offset - scale * motion.at(0.5)), path, radius


def film(motion, nuisances):
    """The `Track` of an oriented motion (camera frame) under these nuisances: placed, and moved into the world."""
    motion, path, radius = place(motion, nuisances)
    # from the camera's frame to the world's: the world's origin lies on the optical axis, half-way deep
    camera = Camera(nuisances.focal, ((SIZE - 1) / 2,) * 2, nuisances.view, np.array([0, 0, nuisances.distance]))
    motion = motion.moved(camera.rotation.T, offset=camera.position)
    params = Params(motion, camera, nuisances.dot_radius, nuisances.colour)
    return Track(FAMILIES.index(motion.family), path, radius, motion.at(TIMES), params)


def make_track(seed, index, family):
    """Clip number `index` of the world `seed`, without its pixels: nuisances first, then the family's motion."""
    rng = np.random.default_rng([seed, index])
    nuisances = draw_nuisances(rng)
    return film(orient(trajectories.draw(family, rng), nuisances.foreshortening, rng), nuisances)


def develop(track, damage=None, rng=None):
    """The `Clip` of a track: its frames drawn, and spoilt if `damage` says so (which takes random numbers)."""
    video = render(track.path, track.radius, track.params.colour, damage, rng)
    return Clip(**vars(track), video=video)


def is_whole(number):
    """Whether this is a whole number, Python's or NumPy's; to Python, True is one."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


@dataclass(frozen=True)
class TrajectoryDataset(torch.utils.data.Dataset):
    """`size` clips of the world `seed`; `dataset[i]` is a `Clip`, made when asked for.

    Splits are disjoint seeds: see `SEEDS`. `families` narrows the classes; `damage` spoils every clip.
    """

    size: int
    seed: int = 0
    families: tuple[str, ...] = FAMILIES
    damage: Damage | None = None

    def __post_init__(self):
        if not is_whole(self.size) or self.size < 1:
            raise ValueError(f"size is {self.size!r}; a dataset needs at least one clip, and a whole number of them.")
        if not is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}; a seed is a whole number from 0 up.")
        unknown = set(self.families) - set(FAMILIES)
        if unknown or not self.families:
            raise ValueError(f"families {list(self.families)} came; choose from {', '.join(FAMILIES)}.")

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        rng = np.random.default_rng([self.seed, i, 1]) if self.damage else None
        return develop(self.track(i), self.damage, rng)

    def track(self, i):
        """Clip i without its pixels: a third of the time."""
        if not 0 <= i < self.size:
            raise IndexError(f"clip {i} of a dataset of {self.size}; indices run from 0 to {self.size - 1}.")
        return make_track(self.seed, i, self.families[i % len(self.families)])

    def batch(self, indices=None):
        """Stacked clips: videos (b, 3, 16, 64, 64) uint8, labels (b,), paths (b, 16, 2) and radii (b, 16) float32."""
        return collate([self[int(i)] for i in (range(self.size) if indices is None else indices)])


SEEDS = {"train": 0, "validation": 1, "test": 2}  # worlds that share no clip


@dataclass(frozen=True)
class Batch:
    """Clips as tensors; slice it like a tensor."""

    videos: torch.Tensor  # (b, 3, 16, 64, 64) uint8
    labels: torch.Tensor  # (b,) int64
    paths: torch.Tensor  # (b, 16, 2) float32, pixels
    radii: torch.Tensor  # (b, 16) float32, pixels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, key):
        return Batch(self.videos[key], self.labels[key], self.paths[key], self.radii[key])


def collate(clips):
    """A list of clips -> `Batch`; also the `collate_fn` of a DataLoader."""
    if not clips:
        raise ValueError("no clips came; a batch needs at least one.")
    stack = {name: np.stack([getattr(c, name) for c in clips]) for name in ("video", "path", "radius")}
    return Batch(
        torch.from_numpy(stack["video"]),
        torch.tensor([c.label for c in clips]),
        torch.from_numpy(stack["path"]).float(),
        torch.from_numpy(stack["radius"]).float(),
    )


VERSIONS = 96  # 2 x 2 flips, transposed or not, forwards or backwards, 6 orders of the colours


def version(videos, number):
    """One of the 96 versions of clips (..., 3, t, h, w) that the world makes as often; 0 is the clip itself.

    Flipping or transposing the picture, running time backwards and exchanging colours turn a clip of a family into
    another of the same family, and leave every distribution of the world as it is.
    """
    if not 0 <= number < VERSIONS:
        raise ValueError(f"version {number} came; they run from 0 to {VERSIONS - 1}.")
    number, order = divmod(number, 6)
    videos = videos[..., list(itertools.permutations(range(3)))[order], :, :, :]
    for axis in (-1, -2, -3):  # width, height, time
        number, flip = divmod(number, 2)
        videos = videos.flip(axis) if flip else videos
    return videos.transpose(-1, -2) if number else videos


def close_ups(videos, generator, frames=4, side=32, cell=16):
    """Clips (b, 3, t, h, w) uint8, cut into short films about their dots: (b t / frames, 3, frames, side, side).

    A film's corner is a multiple of `cell`, so that it keeps to the grid of tokens; chance decides which of those that
    lie about the dot's middle. No path is looked up: the middle is that of the ink.
    """
    films = rearrange(videos, "b c (n t) h w -> (b n) c t h w", t=frames)
    ink = (255 - films.amin(1)).float().sum(1)  # (n, h, w)
    corners = []
    for along in (ink.sum(2), ink.sum(1)):  # rows, then columns: (n, size)
        middle = (along * torch.arange(along.shape[1])).sum(1) / along.sum(1).clamp_min(1)
        chance = torch.rand(len(films), generator=generator)
        corner = ((middle + 0.5 - side / 2) / cell + chance).floor().clamp(0, (along.shape[1] - side) // cell)
        corners.append((corner * cell).long().tolist())
    return torch.stack([f[..., y : y + side, x : x + side] for f, y, x in zip(films, *corners, strict=True)])


def to_float(videos):
    """uint8 0..255 -> float32 in [0, 1]: what the models take."""
    return videos.float() / 255


def _enlarged(video, scale):
    """(3, t, h, w) uint8, or float in [0, 1] -> (t, scale h, scale w, 3) uint8, pixels kept square."""
    video = np.asarray(video)
    if video.ndim != 4 or video.shape[0] != 3:
        raise ValueError(f"a video of shape {video.shape} came; expected (3, frames, height, width).")
    if video.dtype != np.uint8:
        video = np.rint(np.clip(video, 0, 1) * 255).astype(np.uint8)
    return video.transpose(1, 2, 3, 0).repeat(scale, 1).repeat(scale, 2)


def write_gif(video, file, scale=4, fps=8):
    """Write (3, t, h, w) uint8, or float in [0, 1], as an endless GIF."""
    from PIL import Image

    first, *rest = [Image.fromarray(frame) for frame in _enlarged(video, scale)]
    first.save(Path(file), format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)


def write_mp4(video, file, scale=4, fps=8):
    """Write (3, t, h, w) uint8, or float in [0, 1], as H.264 that every browser plays."""
    import av

    frames = _enlarged(video, scale)
    with av.open(str(file), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
