"""PNG outputs: stored with one palette, and compared by their mean absolute difference."""

import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from trajlib.course import pictures

RNG = np.random.default_rng(0)
FRAMES = np.full((16, 48, 64, 3), 250, np.uint8)
FRAMES += RNG.integers(0, 6, FRAMES.shape, dtype=np.uint8)
for k in range(16):
    FRAMES[k, 20:26, 3 * k : 3 * k + 6] = (10, 40, 160)


def png(frames: np.ndarray) -> bytes:
    """(frames, height, width, 3) as a PNG that moves if there are several."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    first.save(file, "PNG", save_all=bool(rest), append_images=rest, **({"duration": 125, "loop": 0} if rest else {}))
    return file.getvalue()


def outputs(*frames: np.ndarray) -> list:
    data = [{"image/png": base64.b64encode(png(f)).decode(), "text/plain": "x"} for f in frames]
    return [nbformat.v4.new_output("display_data", data=d) for d in data]


def cell(*frames: np.ndarray, tags=()) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(outputs=outputs(*frames), metadata={"tags": list(tags)})


def test_samples_are_compared_by_their_number():
    stored = cell(FRAMES[:1], tags=[pictures.SAMPLED])
    assert pictures.compare_cell(stored, outputs(255 - FRAMES[:1])) == []
    assert pictures.compare_cell(stored, outputs()) == ["0 pictures came, 1 are stored"]


def test_animations_are_stored_with_256_colours():
    """Frames, their order, size and pace stay, colours nearly; a still picture is left as it is."""
    moving = png(FRAMES)
    small = pictures.with_one_palette(moving)
    assert len(small) < len(moving) / 2
    with Image.open(io.BytesIO(moving)) as a, Image.open(io.BytesIO(small)) as b:
        assert (a.size, a.n_frames, a.info["duration"]) == (b.size, b.n_frames, b.info["duration"])
    apart = np.abs(pictures.frames_of(moving).astype(int) - pictures.frames_of(small))
    assert apart.max() <= 16
    still = png(FRAMES[:1])
    assert pictures.with_one_palette(still) == still


def test_white_stays_white_next_to_nearly_white():
    moving = np.full((4, 64, 64, 3), 255, np.uint8)
    moving[:, :8] = 250
    moving[:, 20:40, 20:40] = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3))
    small = pictures.frames_of(pictures.with_one_palette(png(moving)))
    assert (small[:, 41:] == 255).all()
    assert pictures.picture_difference(png(moving), pictures.with_one_palette(png(moving))) < pictures.TOLERANCE


def test_difference_of_pictures_in_shades():
    other = FRAMES.astype(int) - 10
    assert pictures.picture_difference(png(FRAMES[:1]), png(FRAMES[:1])) == 0
    assert pictures.picture_difference(png(FRAMES[:1]), png(other[:1].astype(np.uint8))) == pytest.approx(10)


def test_a_shift_by_a_pixel_is_a_small_difference():
    lines = np.full((1, 64, 64, 3), 255, np.uint8)
    lines[:, ::16] = 0
    assert pictures.picture_difference(png(lines), png(np.roll(lines, 1, 1))) < pictures.TOLERANCE
    assert pictures.picture_difference(png(lines), png(np.full_like(lines, 255))) > 10


def test_the_worst_frame_of_an_animation_counts():
    other = FRAMES.copy()
    other[7] = 0
    assert pictures.picture_difference(png(FRAMES), png(FRAMES)) == 0
    assert pictures.picture_difference(png(FRAMES), png(other)) > 200


def test_a_few_pixels_of_another_size_are_no_difference_and_more_are():
    assert pictures.picture_difference(png(FRAMES[:1]), png(FRAMES[:1, :-2, :-3])) == 0
    assert pictures.picture_difference(png(FRAMES[:1]), png(FRAMES[:1, :-20])) == 255
    assert pictures.picture_difference(png(FRAMES), png(FRAMES[:5])) == 255


def test_cells_are_compared_picture_by_picture():
    white = np.full_like(FRAMES[:1], 255)
    assert pictures.compare_cell(cell(white), outputs(white)) == []
    assert pictures.compare_cell(cell(white), outputs()) == ["0 pictures came, 1 are stored"]
    assert pictures.compare_cell(cell(white, white), outputs(white, white - 40)) == [
        "picture 2: differs by 40.0 of 255 shades on average, at most 2 was expected"
    ]


def test_notebooks_are_compared_by_cell_and_times_are_left_out():
    white = np.full_like(FRAMES[:1], 255)

    def notebook(*shades, tags=()):
        cells = [
            nbformat.v4.new_code_cell("x", outputs=outputs(white - shade), id=f"c{i}") for i, shade in enumerate(shades)
        ]
        cells[0].metadata["tags"] = list(tags)
        return nbformat.v4.new_notebook(cells=cells)

    count, differ = pictures.compare_notebooks(notebook(0, 0), notebook(0, 99))
    assert count == 1
    assert differ == ["cell 2, picture 1: differs by 99.0 of 255 shades on average, at most 2 was expected"]
    ignored = ("nbval-ignore-output",)
    assert pictures.compare_notebooks(notebook(0, 0, tags=ignored), notebook(99, 0, tags=ignored)) == (1, [])
