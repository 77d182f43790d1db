"""Figures that several notebooks, or a notebook and a widget, draw.

Each function takes arrays, computes nothing that matters, and returns a Figure; none of them calls show. Classes keep
their colours throughout (Okabe and Ito's palette, which colour-blind readers can tell apart).
"""

import functools
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from trajlib.data.checks import check_labels
from trajlib.data.spec import check_number
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import as_uint8

COLOURS = {"linear": "#0072B2", "circular": "#E69F00", "helical": "#009E73", "parabolic": "#CC79A7"}
FRAME, GREY = "#bbbbbb", "#555555"  # thin lines round pictures; reference lines and remarks
FREQUENCY, HEAT = "cividis", "magma_r"  # colour maps: how frequent a token is; how much a pixel changed
# the state of a token while a transformer decodes; "refined": observed at first, then predicted again
TOKEN_STATES = {"masked": "#D0D0D0", "observed": "#0072B2", "unmasked": "#E69F00", "refined": "#009E73"}
WIDTH = 8.0  # inches
STYLE = {
    "figure.dpi": 100, "image.cmap": "viridis", "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "legend.frameon": False, "lines.linewidth": 1.5,
}  # fmt: skip


class Picture(Figure):
    """A Figure that a notebook shows once, whichever matplotlib backend is active."""

    def _repr_png_(self):
        """(PNG, {"alt": its description}). 256 colours, values in steps of 5 of 255: a fifth of the bytes, since
        notebooks have a size budget."""
        file = io.BytesIO()
        with Image.open(io.BytesIO(png(self))) as full:
            coarse = Image.fromarray(coarser(np.asarray(full.convert("RGB"))))
        coarse.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        return file.getvalue(), {"alt": description(self)}


def description(fig):
    """Titles, labels and legends of a figure as one line, for those who cannot see it."""
    texts = {
        "": [str(fig.get_label()), fig.get_suptitle(), *(ax.get_title() for ax in fig.axes)],
        "across: ": [ax.get_xlabel() for ax in fig.axes],
        "down: ": [ax.get_ylabel() for ax in fig.axes],
        "legend: ": [text.get_text() for some in fig.findobj(matplotlib.legend.Legend) for text in some.get_texts()],
    }
    lines = [(kind, dict.fromkeys(" ".join(text.split()) for text in some if text)) for kind, some in texts.items()]
    return ". ".join(kind + "; ".join(line) for kind, line in lines if line)


def coarser(pixels, step=5):
    """uint8 values rounded to multiples of `step`: invisible, but decoded backgrounds then compress well."""
    return (np.rint(pixels / step) * step).astype(np.uint8)


def png(figure, dpi=100):
    """The bytes of a PNG of the figure, at full quality; compressed quickly, since a studio sends one a click."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, pil_kwargs={"compress_level": 1})
    return file.getvalue()


def styled(function):
    """Decorator: run a figure function in the course's matplotlib style."""

    @functools.wraps(function)
    def draw(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


@styled
def figure(rows=1, columns=1, height=2.5, width=WIDTH, **kwargs):
    """(figure, axes): an empty figure in the course's style; sizes in inches, `kwargs` as for `subplots`."""
    fig = Picture(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, **kwargs)


# ---- videos ----


def as_pictures(videos):
    """(n, 3, t, h, w), uint8 or float in [0, 1], array or tensor -> (n, t, h, w, 3) uint8. One video may come alone.

    ValueError for any other shape, type or range.
    """
    videos = videos.detach().cpu().numpy() if hasattr(videos, "detach") else np.asarray(videos)
    videos = videos[None] if videos.ndim == 4 else videos
    if videos.ndim != 5 or videos.shape[1] != 3 or not videos.size:
        raise ValueError(f"videos of shape {videos.shape} came; expected (n, 3, frames, height, width).")
    return as_uint8(videos).transpose(0, 2, 3, 4, 1)


def draw_strip(ax, pictures, every=2, numbers=True):
    """Draw each `every`-th frame of pictures (t, h, w, 3) side by side, grey lines between, frame numbers below."""
    framed = np.pad(pictures[::every], ((0, 0), (1, 1), (1, 0), (0, 0)), constant_values=190)
    strip = np.pad(np.concatenate(list(framed), 1), ((0, 0), (0, 1), (0, 0)), constant_values=190)
    ax.imshow(strip, interpolation="antialiased")
    ax.set_yticks([])
    ticks = (np.arange(len(framed)) + 0.5) * (pictures.shape[2] + 1)
    ax.set_xticks(ticks, [str(i) for i in range(0, len(pictures), every)] if numbers else [])
    ax.tick_params(length=0, pad=1)
    ax.spines[:].set_visible(False)


@styled
def film_strip(videos, titles=None, every=2, width=WIDTH, states=None, heading=""):
    """Videos as rows, their frames as columns (each `every`-th, numbered), titles to the left, a heading above.

    `states`: for each row the states of its tokens, names of TOKEN_STATES (t', h', w') drawn above it, or None.
    """
    check_number("every", every, 1, whole=True)
    pictures = as_pictures(videos)
    rows, columns = len(pictures), -(-pictures.shape[1] // every)
    states = states or [None] * rows
    known = [state for state in states if state is not None]
    lines = [line for title in titles or [] for line in title.split("\n")]
    left = 0.1 + max((0.085 * len(line) for line in lines), default=0)  # inches, as all that follows
    row, gap = (width - left - 0.1) / columns * pictures.shape[2] / pictures.shape[3], 0.06
    head = 0.17 * len(heading.splitlines())
    height = rows * (row + gap) + len(known) * row / 2 + (0.65 if known else 0.42) + head
    fig, top = Picture(figsize=(width, height)), height - head - (0 if known else gap)
    fig.suptitle(heading, fontsize=9, y=1 - 0.04 / height)
    for i, (picture, state) in enumerate(zip(pictures, states, strict=True)):
        if state is not None:
            top -= row / 2
            for t, map_ in enumerate(state):
                box = (left + (t + 0.27) * row) / width, top / height, 0.46 * row / width, 0.46 * row / height
                draw_states(fig.add_axes(box), map_)
        top -= row
        ax = fig.add_axes((left / width, top / height, (width - left - 0.1) / width, row / height))
        draw_strip(ax, picture, every, numbers=i == rows - 1)
        if titles is not None:
            ax.set_ylabel(titles[i], rotation=0, ha="right", va="center", labelpad=6)
        top -= gap
    ax.set_xlabel("frame", labelpad=1 if known else None)
    fig.set_label(f"Film strip: {rows} rows of frames, from left to right" if rows > 1 else "Film strip of a video")
    if known:
        used = [name for name in TOKEN_STATES if any((np.asarray(state) == name).any() for state in known)]
        marks = [matplotlib.patches.Patch(color=TOKEN_STATES[name], label=f"token {name}") for name in used]
        fig.legend(handles=marks, loc="lower center", ncols=len(used), handlelength=1, borderaxespad=0.2)
    return fig


def draw_states(ax, states):
    """Draw the states of the tokens of a time step, (h', w') names of TOKEN_STATES, as a map."""
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in TOKEN_STATES.values()], np.uint8)
    ax.imshow(colours[np.vectorize(list(TOKEN_STATES).index)(states)])
    ax.set(xticks=[], yticks=[])
    h, w = np.shape(states)
    ax.hlines(np.arange(h - 1) + 0.5, -0.5, w - 0.5, color="white", linewidth=0.6)
    ax.vlines(np.arange(w - 1) + 0.5, -0.5, h - 0.5, color="white", linewidth=0.6)
    ax.spines[:].set_visible(False)


def decoding_steps(videos, states, width=WIDTH, heading=""):
    """How a clip is decoded: videos {title: (3, t, h, w)} as rows, a frame for each frame of tokens, a heading above.

    Above a row, the states of its tokens, if `states` {title: names of TOKEN_STATES (t', h', w')} has them.
    """
    pictures = np.concatenate([as_pictures(video) for video in videos.values()]).transpose(0, 4, 1, 2, 3)
    every = max(1, pictures.shape[2] // len(next(iter(states.values()))))
    return film_strip(pictures, list(videos), every, width, [states.get(title) for title in videos], heading)


def moving_png(videos, scale=3, fps=6):
    """Videos side by side as the bytes of an animated PNG: browsers play it, other programs show its first frame."""
    check_number("scale", scale, 1, 64, whole=True)
    check_number("fps", fps, 0.1, 1000)
    edge = ((0, 0), (1, 1), (1, 1), (0, 0))
    wide = np.concatenate([np.pad(p, edge, constant_values=190) for p in as_pictures(videos)], 2)  # (t, h, w, 3)
    first, *rest = [Image.fromarray(frame.repeat(scale, 0).repeat(scale, 1)) for frame in coarser(wide)]
    file = io.BytesIO()
    first.save(file, "PNG", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, optimize=True)
    return file.getvalue()


@styled
def contact_sheet(videos, labels=None, columns=12):
    """Many videos, each as a long exposure (the darkest value of each pixel): the whole path of the dot in one picture.

    Frames have the colour of the class, `labels` (n,). ValueError for what is no class.
    """
    check_number("columns", columns, 1, whole=True)
    labels = None if labels is None else check_labels(labels).tolist()
    pictures = as_pictures(videos).min(1)
    rows = -(-len(pictures) // columns)
    fig, axes = figure(rows, columns, rows * WIDTH / columns + (0.3 if labels is not None else 0), squeeze=False)
    fig.set_label(f"Long exposures of {len(pictures)} videos")
    for i, ax in enumerate(axes.ravel()):
        ax.set(xticks=[], yticks=[])
        if i >= len(pictures):
            ax.set_visible(False)
            continue
        ax.imshow(pictures[i])
        colour = FRAME if labels is None else COLOURS[FAMILIES[labels[i]]]
        ax.spines[:].set(visible=True, color=colour, linewidth=2)
    if labels is not None:
        class_legend(fig, sorted(set(labels)))
    return fig


def class_legend(fig, labels):
    """A legend of classes, indices into FAMILIES, below the figure."""
    names = [FAMILIES[int(k)] for k in labels]
    lines = [matplotlib.lines.Line2D([], [], color=COLOURS[name], linewidth=3) for name in names]
    fig.legend(lines, names, loc="outside lower center", ncols=len(names))


# ---- numbers ----


@styled
def accuracies(values, intervals, chance, within=None, colours=None, xlabel="accuracy, %"):
    """Shares {name: value in [0, 1]} as points with their intervals {name: (low, high)}, top to bottom, in per cent.

    The chance level is a dotted line (none if 0); `within` (low, high) is shaded: what chance alone gives.
    """
    fig, ax = figure(height=0.19 * len(values) + 0.6)
    for row, (name, value) in enumerate(values.items()):
        colour = (colours or {}).get(name, COLOURS["linear"])
        ax.plot([100 * x for x in intervals[name]], [row, row], color=colour)
        ax.plot(100 * value, row, "o", color=colour, markersize=4)
    if chance:
        ax.axvline(100 * chance, color=GREY, linewidth=1, linestyle=":")
        xlabel += f" (dotted: chance, {100 * chance:.0f} %)"
    if within is not None:
        ax.axvspan(100 * within[0], 100 * within[1], color=GREY, alpha=0.15, linewidth=0)
    ax.set(yticks=range(len(values)), yticklabels=values, xlabel=xlabel, xlim=(0, 103), axisbelow=True)
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.grid(axis="x", color="#eeeeee")
    return fig
