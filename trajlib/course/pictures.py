"""The PNG outputs of notebooks: stored small, and compared after a replay."""

import base64
import io

import nbformat
import numpy as np
from PIL import Image, ImageSequence

# Two pictures are compared by the mean absolute difference of their blocks of 8 x 8 pixels, in shades of 0..255. A
# replay on one machine gives the same pictures. On the 107 stored pictures: a shift by one pixel, as another layout of
# a text causes, is 1.3 (median); an empty figure in a picture's place is at least 2.9; another picture of the same size
# is above 2.0 in 98 % of 209 pairs.
BLOCK = 8
TOLERANCE = 2.0
COLOURS = 256
IGNORED = "nbval-ignore-output"  # tag of a cell that shows times
SAMPLED = "sampled-pictures"  # tag of a cell that shows samples: on another type of CPU other ones, since a token flips


def png_outputs(outputs: list[dict]) -> list[bytes]:
    """The PNG pictures among the outputs of one cell, in order."""
    return [base64.b64decode(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]


def frames_of(picture: bytes) -> np.ndarray:
    """The frames of a PNG, one if it does not move: (frames, height, width, 3) uint8."""
    with Image.open(io.BytesIO(picture)) as image:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def picture_difference(stored: bytes, fresh: bytes) -> float:
    """The mean absolute difference of two PNGs' blocks, in shades of 0..255, of the worst frame; 255.0 if the shapes
    differ.

    A few pixels of difference in size (text of another font version) are cut off at the lower right.
    """
    a, b = frames_of(stored), frames_of(fresh)
    if len(a) != len(b) or max(abs(a.shape[1] - b.shape[1]), abs(a.shape[2] - b.shape[2])) > BLOCK:
        return 255.0
    height, width = (min(a.shape[axis], b.shape[axis]) for axis in (1, 2))
    a, b = (_block_means(x[:, :height, :width]) for x in (a, b))
    return float(np.abs(a - b).mean((1, 2, 3)).max())


def _block_means(frames: np.ndarray) -> np.ndarray:
    """(frames, height, width, 3) -> means over blocks, an incomplete last row or column filled up with its edge."""
    pad = [(0, -frames.shape[axis] % BLOCK) for axis in (1, 2)]
    full = np.pad(frames, ((0, 0), *pad, (0, 0)), mode="edge").astype(np.float32)
    n, height, width, _ = full.shape
    return full.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).mean((2, 4))


def compare_cell(stored: nbformat.NotebookNode, fresh: list[dict], tolerance: float = TOLERANCE) -> list[str]:
    """What differs between the pictures of one cell and those that are stored, one sentence each.

    Of a cell with the tag SAMPLED only their number is compared, of one with the tag IGNORED nothing.
    """
    tags = stored.metadata.get("tags", [])
    old, new = png_outputs(stored.outputs), png_outputs(fresh)
    if IGNORED in tags:
        return []
    if len(old) != len(new):
        return [f"{len(new)} pictures came, {len(old)} are stored"]
    if SAMPLED in tags:
        return []
    apart = [picture_difference(a, b) for a, b in zip(old, new, strict=True)]
    return [
        f"picture {k}: differs by {d:.1f} of 255 shades on average, at most {tolerance:g} was expected"
        for k, d in enumerate(apart, start=1)
        if d > tolerance
    ]


def compare_notebooks(stored: nbformat.NotebookNode, fresh: nbformat.NotebookNode) -> tuple[int, list[str]]:
    """(number of stored pictures that came again, what differs), by cell id; see `compare_cell`."""
    after = {cell["id"]: cell for cell in fresh.cells}
    count, differ = 0, []
    for number, cell in enumerate((c for c in stored.cells if c.cell_type == "code"), start=1):
        if cell["id"] not in after or IGNORED in cell.metadata.get("tags", []):
            continue
        faults = compare_cell(cell, after[cell["id"]].outputs)
        count += len(png_outputs(cell.outputs)) if not faults else 0
        differ += [f"cell {number}, {fault}" for fault in faults]
    return count, differ


def quantize_png(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Store the animated PNGs of `nb` with 256 colours, in place: a quarter of the bytes."""
    for data in (output.get("data", {}) for cell in nb.cells for output in cell.get("outputs", [])):
        if "image/png" in data:
            picture = base64.b64decode(data["image/png"])
            if (small := with_one_palette(picture)) != picture:
                data["image/png"] = base64.b64encode(small).decode()
    return nb


def with_one_palette(picture: bytes) -> bytes:
    """An animated PNG with one palette for all its frames; any other PNG unchanged."""
    with Image.open(io.BytesIO(picture)) as image:
        if getattr(image, "n_frames", 1) == 1:
            return picture
        playback = {"duration": image.info["duration"], "loop": image.info["loop"]}
    frames = frames_of(picture)
    pixels = Image.fromarray(frames.reshape(-1, frames.shape[2], 3))
    rough = pixels.quantize(COLOURS, dither=Image.Dither.NONE)
    index = np.asarray(pixels.quantize(palette=rough, dither=Image.Dither.NONE)).reshape(frames.shape[:3])
    # Each entry becomes the most frequent of the colours it stands for. As it is, white would become a light grey:
    # Pillow takes neighbouring shades for one.
    pairs, counts = np.unique(index.astype(int) << 24 | frames @ (1 << 16, 1 << 8, 1), return_counts=True)
    pairs = pairs[counts.argsort(kind="stable")]  # of one entry's colours the last is kept
    palette = np.zeros((COLOURS, 3), np.uint8)
    palette[pairs >> 24] = np.stack([pairs >> 16 & 255, pairs >> 8 & 255, pairs & 255], 1)
    first, *rest = [Image.fromarray(frame) for frame in index]
    for frame in (first, *rest):
        frame.putpalette(palette.tobytes())
    file = io.BytesIO()
    first.save(file, "PNG", save_all=True, append_images=rest, optimize=True, **playback)
    return file.getvalue()
