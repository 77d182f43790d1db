"""Videos from files: any container and codec that PyAV reads, GIFs and folders of pictures, as clips of a `VideoSpec`.

Files are decoded frame by frame, once, into a cache of windows on disk, so that memory stays bounded for any length.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tqdm import tqdm

from trajlib.data.clips import as_indices
from trajlib.data.spec import VideoSpec, check_name, check_number

VIDEOS = (
    ".3gp", ".apng", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv", ".y4m",
)  # fmt: skip
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
PICTURE_FPS = 25.0  # of a folder of pictures, which names no rate
SPLITS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}  # shares of the hashes of paths
ROUNDING = 1e-3  # seconds: the unit in which some containers count
CACHE = Path.home() / ".cache" / "trajlib"
BACKGROUND_FRAMES = 32  # whose median is the background
MOTION_THRESHOLD = 24  # grey levels of 255 by which a moving pixel differs from the background
Frames = Iterator[tuple[np.ndarray, float]]  # (h, w, 3) uint8, seconds


class VideoFileError(ValueError):
    """A file from which no video can be read; the message names it and says why."""


def read_frames(path: str | Path, size: int, fps: float | None = None, square: bool = True) -> Frames:
    """Frames (size, size, 3) uint8 and their times in seconds from the first one, one after another.

    A frame is turned as the file says and scaled until its shorter side is `size`; of the longer side the middle is
    kept, or all, unless `square`. One field of interlaced frames is used; what is transparent becomes white. With `fps`
    the frame that shows at each multiple of 1 / fps comes, else each frame of the file, whatever its duration.
    VideoFileError, which names the file, for what cannot be decoded; it may come after some frames.
    """
    if fps is None:
        yield from _decode(Path(path), size, square)
        return
    last, seconds, count = None, 0.0, 0
    for frame, seconds in _decode(Path(path), size, square):
        while last is not None and count / fps < seconds - ROUNDING:
            yield last, count / fps
            count += 1
        last = frame
    if last is not None and count / fps <= seconds + ROUNDING:
        yield last, count / fps


def _decode(path: Path, size: int, square: bool) -> Frames:
    """Each frame of a file or of a folder of pictures."""
    if path.is_dir():
        for number, picture in enumerate(_pictures(path)):
            yield from ((pixels, number / PICTURE_FPS) for pixels, _ in _decode(picture, size, square))
        return
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoFileError(f"{path.name} has no video stream.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            aspect, first, seconds = float(stream.sample_aspect_ratio or 1), None, 0.0
            frame: av.VideoFrame
            for frame in container.decode(video=0):
                if frame.time is not None:
                    first = frame.time if first is None else first
                    seconds = frame.time - first
                yield _fit(frame, size, square, aspect), seconds
                seconds += float(1 / (stream.average_rate or PICTURE_FPS))  # for a frame without a time
    except (av.error.FFmpegError, OSError) as error:
        why = f"{error.strerror or error}".rstrip(".")
        raise VideoFileError(f"{path.name} cannot be decoded ({why}): convert it, or take it away.") from None


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, 2.png before 10.png."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    return sorted(found, key=lambda p: [(int(k), "") if k.isdigit() else (0, k) for k in re.split(r"(\d+)", p.name)])


def _fit(frame: av.VideoFrame, size: int, square: bool, aspect: float) -> np.ndarray:
    """A decoded frame as RGB, upright, the shorter side `size`; `aspect`: width over height of a pixel."""
    width, height, turns = frame.width * aspect, frame.height, round(frame.rotation / 90)
    if frame.interlaced_frame or frame.format.has_palette or any(c.is_alpha for c in frame.format.components):
        pixels = frame.to_ndarray(format="rgba")[:: 2 if frame.interlaced_frame else 1]
        opaque = pixels[..., 3:] / 255
        pixels = np.rint(pixels[..., :3] * opaque + 255 * (1 - opaque)).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    scale = size / min(width, height)
    return _middle(np.rot90(_scaled(frame, round(width * scale), round(height * scale)), turns), size if square else 0)


def _scaled(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    return frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()


def _middle(pixels: np.ndarray, size: int) -> np.ndarray:
    """The square in the middle; all for size 0."""
    top, left = ((n - size) // 2 if size else 0 for n in pixels.shape[:2])
    return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left][: size or None, : size or None]


def read_windows(path: str | Path, spec: VideoSpec, stride: int, motion: bool = False) -> Iterator[np.ndarray]:
    """Windows (frames, size, size, 3) uint8 of a file, one every `stride` frames; a rest that fills none is left out.

    With `motion` the background, the median over the file, is taken away: a pixel is white minus its difference from
    it. A window is then the square about all that moves in it; windows in which nothing moves are left out.
    """
    size, due = (4 * spec.size if motion else spec.size), spec.frames
    window: list[np.ndarray] = []
    background = _background(path, size, spec.fps) if motion else None
    for number, (frame, _) in enumerate(read_frames(path, size, spec.fps, square=not motion), start=1):
        window = [*window[-spec.frames + 1 :], frame] if spec.frames > 1 else [frame]
        if number == due:
            due += stride
            found = np.stack(window)
            if background is None:
                yield found
            elif (about := _about_motion(found, background, spec.size)) is not None:
                yield about


def _background(path: str | Path, size: int, fps: float | None) -> np.ndarray:
    """The median of frames drawn from the whole file (reservoir sampling), (h, w, 3)."""
    kept: list[np.ndarray] = []
    rng = np.random.default_rng(0)
    for number, (frame, _) in enumerate(read_frames(path, size, fps, square=False)):
        if number < BACKGROUND_FRAMES:
            kept.append(frame)
        elif (k := rng.integers(number + 1)) < BACKGROUND_FRAMES:
            kept[k] = frame
    return np.median(kept, axis=0) if kept else np.zeros((size, size, 3))


def _about_motion(window: np.ndarray, background: np.ndarray, size: int) -> np.ndarray | None:
    """The square about what moves in a window (t, h, w, 3), scaled to `size`; None if nothing does."""
    difference = np.abs(window - background)
    moves = difference.max(-1, keepdims=True) > MOTION_THRESHOLD
    _, y, x, _ = moves.nonzero()
    if not len(y):
        return None
    white = np.rint(255 - difference * (difference.max(-1, keepdims=True) > MOTION_THRESHOLD / 2)).astype(np.uint8)
    ends = [np.quantile(axis, (0.002, 0.998)) for axis in (y, x)]  # but for a few pixels of noise
    side = int(min(max(1.25 * max(high - low + 1 for low, high in ends), size), *window.shape[1:3]))
    corner = [(low + high + 1 - side) / 2 for low, high in ends]
    top, left = (int(np.clip(c, 0, n - side)) for c, n in zip(corner, window.shape[1:3], strict=True))
    crops = np.ascontiguousarray(white[:, top : top + side, left : left + side])
    return np.stack([_scaled(av.VideoFrame.from_ndarray(crop, format="rgb24"), size, size) for crop in crops])


class VideoFolder(torch.utils.data.Dataset):
    """Clips of the videos in a folder and its subfolders; a folder that holds pictures is one video.

    `spec`: fps None takes the frames as they are in the file, a number takes as many a second (see `read_frames`).
    `stride`: frames from one window to the next, by default none overlap. `split`: "train", "validation" or "test",
    80, 10 and 10 % of the files by a hash of their path inside the folder; None takes all. `motion`: see
    `read_windows`. `cache`: the folder of decoded windows, which are checked by their SHA-256 and decoded again if it
    differs or the file has changed.

    The order is that of the paths. Attributes: `files`; `counts`, windows of each; `problems`, {path: one sentence} of
    files that were skipped or of which only a beginning could be read. ValueError if there is no window at all.
    """

    num_classes = 0

    def __init__(
        self, folder: str | Path, spec: VideoSpec = VideoSpec(fps=None), stride: int | None = None,
        split: str | None = None, motion: bool = False, cache: str | Path = CACHE,
    ):  # fmt: skip
        self.folder, self.spec, self.motion = Path(folder).expanduser(), spec, motion
        self.stride = spec.frames if stride is None else stride
        check_number("stride", self.stride, 1, whole=True)
        if split is not None:
            check_name("split", split, SPLITS)
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder} is no folder; the folder that holds the videos was expected.")
        self.problems: dict[str, str] = {}
        self.cache = Path(cache).expanduser()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.files = [path for path in find_videos(self.folder) if split is None or split_of(self._name(path)) == split]
        self.counts = [self._prepare(path) for path in tqdm(self.files, "videos", disable=None)]
        self._ends = np.cumsum(self.counts, dtype=np.int64)
        if not sum(self.counts):
            why = f" {next(iter(self.problems.values()))}" if self.problems else ""
            part = f"the split {split!r} of " if split else ""
            raise ValueError(f"there is no window of {spec.frames} frames in {part}{self.folder}: add videos.{why}")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def videos(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 (b, 3, frames, size, size)."""
        found = np.stack([self._window(i) for i in as_indices(indices, len(self))])
        return torch.from_numpy(found).permute(0, 4, 1, 2, 3).contiguous()

    def _window(self, index: int) -> np.ndarray:
        k = int(np.searchsorted(self._ends, index, side="right"))
        shape = (self.counts[k], *(self.spec.shape[n] for n in (1, 2, 3, 0)))
        windows = np.memmap(self._cached(self.files[k]), np.uint8, "r", shape=shape)  # not kept: files may be many
        return windows[index - self._ends[k]]  # counted from the end of the file's windows

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _cached(self, path: Path) -> Path:
        """Where the windows of a file are: named by all that they depend on."""
        parts = [path, *_pictures(path)] if path.is_dir() else [path]
        facts = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
        made = repr((str(path.resolve()), facts, self.spec, self.stride, self.motion, av.__version__))
        return self.cache / f"{hashlib.sha256(made.encode()).hexdigest()[:24]}.windows"

    def _prepare(self, path: Path) -> int:
        """Decode a file unless the cache has it; the number of its windows."""
        try:
            target = self._cached(path)
            facts = _checked(target) or self._fill(path, target)
        except (VideoFileError, OSError) as error:
            facts = {"windows": 0, "problem": str(error)}
        if not facts["windows"] and not facts["problem"]:
            moving = " in which something moves" if self.motion else ""
            facts["problem"] = f"{path.name} has no window of {self.spec.frames} frames{moving}."
        if facts["problem"]:
            self.problems[self._name(path)] = facts["problem"]
        return facts["windows"]

    def _fill(self, path: Path, target: Path) -> dict[str, Any]:
        """Write the windows next to their place, then rename; the facts about them come last."""
        unfinished, digest, count, problem = target.with_suffix(f".{os.getpid()}.tmp"), hashlib.sha256(), 0, ""
        with unfinished.open("wb") as file:
            try:
                for window in read_windows(path, self.spec, self.stride, self.motion):
                    data = window.tobytes()
                    file.write(data)
                    digest.update(data)
                    count += 1
            except VideoFileError as error:
                problem = f"{error} Its first {count} windows are used." if count else str(error)
        facts = {"windows": count, "sha256": digest.hexdigest(), "problem": problem}
        os.replace(unfinished, target)
        unfinished.write_text(json.dumps(facts), encoding="utf-8")
        os.replace(unfinished, target.with_suffix(".json"))
        return facts


def find_videos(folder: Path) -> list[Path]:
    """Video files, and folders that hold pictures, sorted by their paths."""
    found = {path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS and path.is_file()}
    found |= {path.parent for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file()}
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def split_of(name: str) -> str:
    """The split of a path inside the folder: the same on every machine, whatever else is there."""
    share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
    return next(split for split, (low, high) in SPLITS.items() if low <= share < high)


def _checked(target: Path) -> dict[str, Any] | None:
    """The facts about cached windows, or None if they are not there or not what was written."""
    try:
        facts = json.loads(target.with_suffix(".json").read_bytes())
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
    return facts if facts["sha256"] == digest else None
