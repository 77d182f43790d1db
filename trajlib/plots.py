"""Figures. Each function takes arrays, computes nothing that matters, and returns a Figure; none of them calls show.

Families keep their colours throughout (Okabe and Ito's, told apart by colour-blind readers too).
"""

import functools
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from trajlib import FAMILIES

COLOURS = {"linear": "#0072B2", "circular": "#E69F00", "helical": "#009E73", "parabolic": "#CC79A7"}
WIDTH = 8.0  # inches
STYLE = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "image.cmap": "viridis",
}
FRAME = "#bbbbbb"  # thin lines round pictures
GREY = "#555555"


class Picture(Figure):
    """A Figure that shows itself in a notebook whichever backend is active, once, and never twice."""

    def _repr_png_(self):
        """256 colours, values in steps of 5 of 255: a fifth of the bytes, and notebooks have a budget."""
        file = io.BytesIO()
        with Image.open(io.BytesIO(png(self))) as full:
            coarse = Image.fromarray(coarser(np.asarray(full.convert("RGB"))))
        coarse.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        return file.getvalue()


def coarser(pixels, step=5):
    """uint8 values rounded to whole steps: no eye sees it, and the faint grain of decoded paper costs no bytes."""
    return (np.rint(pixels / step) * step).astype(np.uint8)


def png(figure, dpi=100):
    """The bytes of a PNG of the figure, at its full size."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def styled(function):
    """Run a figure function under the course's look."""

    @functools.wraps(function)
    def draw(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


@styled
def figure(rows=1, columns=1, height=2.5, width=WIDTH, **kwargs):
    """(figure, axes): an empty figure in the course's look; `kwargs` as for matplotlib's `subplots`."""
    fig = Picture(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, **kwargs)


# ---- films ----


def as_pictures(videos):
    """(n, 3, t, h, w), uint8 or float in [0, 1], array or tensor -> (n, t, h, w, 3) uint8. One clip may come alone."""
    videos = videos.detach().cpu().numpy() if hasattr(videos, "detach") else np.asarray(videos)
    if videos.ndim == 4:
        videos = videos[None]
    if videos.ndim != 5 or videos.shape[1] != 3:
        raise ValueError(f"videos of shape {videos.shape} came; expected (n, 3, frames, height, width).")
    if videos.dtype != np.uint8:
        videos = np.rint(np.clip(np.nan_to_num(videos.astype(float)), 0, 1) * 255).astype(np.uint8)
    return videos.transpose(0, 2, 3, 4, 1)


def _strip(pictures):
    """(t, h, w, 3) -> one wide picture with grey lines between the frames."""
    framed = np.pad(pictures, ((0, 0), (1, 1), (1, 0), (0, 0)), constant_values=190)
    return np.pad(np.concatenate(list(framed), 1), ((0, 0), (0, 1), (0, 0)), constant_values=190)


def _draw_strip(ax, pictures, every, numbers=True):
    ax.imshow(_strip(pictures[::every]), interpolation="antialiased")
    ax.set_yticks([])
    shown = range(0, len(pictures), every)
    ticks = (np.arange(len(shown)) + 0.5) * (pictures.shape[2] + 1)
    ax.set_xticks(ticks, [str(i) for i in shown] if numbers else [])
    ax.tick_params(length=0, pad=1)
    ax.spines[:].set_visible(False)


@styled
def film_strip(videos, titles=None, every=2, width=WIDTH):
    """Clips as rows and their frames as columns (each `every`-th, numbered). Titles stand to the left."""
    pictures = as_pictures(videos)
    rows, columns = len(pictures), -(-pictures.shape[1] // every)
    lines = [line for title in titles or [] for line in title.split("\n")]
    left = 0.1 + max((0.085 * len(line) for line in lines), default=0)  # inches, as all that follows
    row, gap, below = (width - left - 0.1) / columns * pictures.shape[2] / pictures.shape[3], 0.06, 0.42
    height = rows * (row + gap) + below
    fig = Picture(figsize=(width, height))
    for i in range(rows):
        bottom = below + (rows - 1 - i) * (row + gap)
        ax = fig.add_axes((left / width, bottom / height, (width - left - 0.1) / width, row / height))
        _draw_strip(ax, pictures[i], every, numbers=i == rows - 1)
        if titles is not None:
            ax.set_ylabel(titles[i], rotation=0, ha="right", va="center", labelpad=6)
    ax.set_xlabel("frame")
    return fig


def moving_png(videos, scale=3, fps=6):
    """Clips side by side as the bytes of an animated PNG: browsers play it, all else shows its first frame."""
    edge = ((0, 0), (1, 1), (1, 1), (0, 0))
    wide = np.concatenate([np.pad(p, edge, constant_values=190) for p in as_pictures(videos)], 2)  # (t, h, w, 3)
    first, *rest = [Image.fromarray(frame.repeat(scale, 0).repeat(scale, 1)) for frame in coarser(wide)]
    file = io.BytesIO()
    first.save(file, "PNG", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, optimize=True)
    return file.getvalue()


def long_exposures(videos):
    """Each clip in one picture, every pixel as dark as it ever gets: (n, h, w, 3) uint8."""
    return as_pictures(videos).min(1)


@styled
def contact_sheet(videos, labels=None, columns=12):
    """Many clips at once, each a long exposure: the dot's whole path in one picture, framed in its family's colour."""
    pictures = long_exposures(videos)
    rows = -(-len(pictures) // columns)
    cell = WIDTH / columns
    fig = Picture(figsize=(WIDTH, rows * cell + (0.3 if labels is not None else 0)), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for i, ax in enumerate(axes):
        ax.set(xticks=[], yticks=[])
        if i >= len(pictures):
            ax.set_visible(False)
            continue
        ax.imshow(pictures[i])
        ax.spines[:].set(
            visible=True, color=FRAME if labels is None else COLOURS[FAMILIES[int(labels[i])]], linewidth=2
        )
    if labels is not None:
        _family_legend(fig, [FAMILIES[k] for k in sorted({int(k) for k in labels})])
    return fig


def _family_legend(fig, families):
    lines = [matplotlib.lines.Line2D([], [], color=COLOURS[f], linewidth=3) for f in families]
    fig.legend(lines, families, loc="outside lower center", ncols=len(families))


# ---- curves ----


def frustum(camera, depth, size=64):
    """Line through the camera's eye and its picture's corners at `depth` units, in world units: (11, 3)."""
    low, high = -0.5, size - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    rays = np.column_stack([(corners - camera.centre) / camera.focal, np.ones(4)]) * depth
    eye, c = np.zeros(3), rays
    return camera.to_world(np.array([eye, c[0], c[1], eye, c[2], c[1], c[2], c[3], eye, c[3], c[0]]))


def _curve(track, n=120):
    return track.params.motion.at(np.linspace(0, 1, n))


def curve3d(track):
    """A clip's curve, its 16 positions and the camera's view, to turn by hand: a plain plotly Figure."""
    import plotly.graph_objects as go

    colour, camera = COLOURS[track.family], track.params.camera
    depth = camera.to_camera(track.path3d)[:, 2].mean()
    lines, curve, dots = frustum(camera, depth), _curve(track), track.path3d

    def xyz(points):
        return dict(zip("xyz", np.round(points, 4).T.tolist(), strict=True))

    layout = {
        "width": 640,
        "height": 420,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "legend": {"x": 0, "y": 1},
        "scene": {"aspectmode": "data"},
    }
    marks = [
        go.Scatter3d(**xyz(curve), mode="lines", line={"color": colour, "width": 5}, name=track.family),
        go.Scatter3d(**xyz(dots), mode="markers", marker={"color": colour, "size": 4}, name="frames 0 to 15"),
        go.Scatter3d(**xyz(lines), mode="lines", line={"color": GREY, "width": 2}, name="camera and its picture"),
    ]
    return go.Figure(marks, layout)


def _box(ax, points):
    """Equal units on all three axes of a 3D plot, no more room than the points need."""
    low, high = points.min(0), points.max(0)
    for set_limits, a, b in zip((ax.set_xlim, ax.set_ylim, ax.set_zlim), low, high, strict=True):
        set_limits(a, max(b, a + 1e-3))
    ax.set_box_aspect(np.maximum(high - low, 0.15 * (high - low).max()), zoom=1.15)
    ax.tick_params(labelsize=7, pad=-2)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_major_locator(MaxNLocator(4))


@styled
def curve3d_static(track):
    """The still twin of `curve3d`: the whole scene, and the curve from near by."""
    colour, camera = COLOURS[track.family], track.params.camera
    lines = frustum(camera, camera.to_camera(track.path3d)[:, 2].mean())
    fig = Picture(figsize=(WIDTH, 3.2), layout="constrained")
    scene, near = fig.subplots(1, 2, subplot_kw={"projection": "3d"})
    for ax in (scene, near):
        ax.plot(*_curve(track).T, color=colour)
        ax.plot(*track.path3d.T, ".", color=colour, markersize=4 if ax is scene else 7)
    scene.plot(*lines.T, color=GREY, linewidth=0.8)
    scene.text(*camera.position, "camera", fontsize=8)
    _box(scene, np.concatenate([lines, track.path3d]))
    _box(near, track.path3d)
    scene.set_title("camera, its picture, and the curve")
    near.set_title("the curve from near by: a dot per frame")
    return fig


@styled
def shapes(motions):
    """Motions side by side in 3D, one panel each; arrowheads are left out: the dot starts at the large mark."""
    fig = Picture(figsize=(WIDTH, 2.4), layout="constrained")
    axes = np.atleast_1d(fig.subplots(1, len(motions), subplot_kw={"projection": "3d"}))
    for ax, motion in zip(axes, motions, strict=True):
        curve, dots = motion.at(np.linspace(0, 1, 120)), motion.at(np.linspace(0, 1, 16))
        ax.plot(*curve.T, color=COLOURS[motion.family])
        ax.plot(*dots.T, ".", color=COLOURS[motion.family], markersize=4)
        ax.plot(*dots[:1].T, "o", color=COLOURS[motion.family], markersize=6)
        middle, reach = (curve.max(0) + curve.min(0)) / 2, np.ptp(curve, axis=0).max() / 2
        _box(ax, middle + reach * np.array([[-1], [1]]))
        ax.set_title(motion.family)
        ax.tick_params(labelbottom=False, labelleft=False, labelright=False)
    return fig


@styled
def paths2d(tracks, titles=None, columns=None):
    """Paths in the picture, one panel each, dots at their true size; v runs down, as in the picture."""
    titles = titles or [track.family for track in tracks]
    columns = columns or len(tracks)
    rows = -(-len(tracks) // columns)
    fig = Picture(figsize=(WIDTH, rows * (WIDTH / columns + 0.2)), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(tracks) :]:
        ax.set_visible(False)
    for ax, track, title in zip(axes, tracks, titles, strict=False):
        _draw_path(ax, track)
        ax.set_title(title)
    return fig


def _draw_path(ax, track):
    colour, camera = COLOURS[track.family], track.params.camera
    ax.plot(*camera.project(_curve(track))[0].T, color=colour, linewidth=1)
    for i, (centre, radius) in enumerate(zip(track.path, track.radius, strict=True)):
        ax.add_patch(matplotlib.patches.Circle(centre, radius, color=colour, alpha=0.15 + 0.04 * i, linewidth=0))
    ax.set(xlim=(-0.5, 63.5), ylim=(63.5, -0.5), aspect="equal", xticks=[0, 63], yticks=[0, 63])
    ax.spines[:].set(visible=True, color=FRAME)


# ---- numbers ----


@styled
def distributions(values, labels, bins=24):
    """One panel per quantity {name: (n,)}, one outline per family: where nothing tells, they coincide."""
    labels = np.asarray(labels)
    columns = min(4, len(values))
    rows = -(-len(values) // columns)
    fig = Picture(figsize=(WIDTH, 1.5 * rows + 0.3), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(values) :]:
        ax.set_visible(False)
    for ax, (name, value) in zip(axes, values.items(), strict=False):
        value = np.asarray(value, float)
        edges = np.linspace(value.min(), value.max() + 1e-9, bins + 1)
        for k in np.unique(labels):
            ax.hist(value[labels == k], edges, histtype="step", color=COLOURS[FAMILIES[int(k)]], density=True)
        ax.set(xlabel=name, yticks=[])
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    _family_legend(fig, [FAMILIES[int(k)] for k in np.unique(labels)])
    return fig


@styled
def accuracies(values, intervals, chance, within=None, colours=None, xlabel="accuracy, %"):
    """Shares {name: value} as points with their intervals {name: (low, high)} beside the chance line, top to bottom.

    `within`: (low, high) of what chance alone gives, shaded. `colours`: {name: colour}. A chance of 0 gets no line.
    """
    fig = Picture(figsize=(WIDTH, 0.19 * len(values) + 0.6), layout="constrained")
    ax = fig.subplots()
    for row, (name, value) in enumerate(values.items()):
        colour = (colours or {}).get(name, COLOURS["linear"])
        ax.plot([100 * x for x in intervals[name]], [row, row], color=colour)
        ax.plot(100 * value, row, "o", color=colour, markersize=4)
    if chance:
        ax.axvline(100 * chance, color=GREY, linewidth=1, linestyle=":")
        xlabel += f" (dotted: chance, {100 * chance:.0f} %)"
    if within is not None:
        ax.axvspan(100 * within[0], 100 * within[1], color=GREY, alpha=0.15, linewidth=0)
    ax.set(yticks=range(len(values)), yticklabels=values, xlabel=xlabel, xlim=(0, 103))
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.grid(axis="x", color="#eeeeee")
    ax.set_axisbelow(True)
    return fig


@styled
def seeds(values, reference, xlabel="PSNR, dB", colours=None):
    """{name: [a value for each seed]} as dots, a stroke at their mean, top to bottom; the rest is to be compared with
    the range of `reference`'s own seeds, shaded. `colours`: {name: colour}.
    """
    fig = Picture(figsize=(WIDTH, 0.17 * len(values) + 0.6), layout="constrained")
    ax = fig.subplots()
    for row, (name, some) in enumerate(values.items()):
        colour = (colours or {}).get(name, COLOURS["linear"])
        ax.plot(some, [row] * len(some), "o", color=colour, markersize=4, alpha=0.8)
        ax.plot(np.mean(some), row, "|", color=colour, markersize=9)
    ax.axvspan(min(values[reference]), max(values[reference]), color=GREY, alpha=0.15, linewidth=0)
    ax.axvline(np.mean(values[reference]), color=GREY, linewidth=1, linestyle=":")
    ax.set(yticks=range(len(values)), yticklabels=values, xlabel=xlabel)
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.grid(axis="x", color="#eeeeee")
    ax.set_axisbelow(True)
    return fig


# ---- the studio ----


@styled
def studio_picture(clip):
    """A clip at a glance: 8 frames above; below them the path in the picture and in space, and the dot's size."""
    fig = Picture(figsize=(WIDTH, 3.9))
    pictures = as_pictures(clip.video)[0]
    strip = fig.add_axes((0.02, 0.74, 0.96, 0.25))
    _draw_strip(strip, pictures, 2)
    path = fig.add_axes((0.06, 0.09, 0.27, 0.55))
    _draw_path(path, clip)
    path.set_title("path in the picture, px")
    _draw_scene(fig.add_axes((0.36, 0.07, 0.34, 0.57)), clip)
    size = fig.add_axes((0.77, 0.15, 0.20, 0.47))
    size.plot(clip.radius, ".-", color=COLOURS[clip.family])
    size.set(
        xlabel="frame", xticks=[0, 5, 10, 15], title="dot's radius, px", ylim=(0, max(5.0, 1.1 * clip.radius.max()))
    )
    return fig


@styled
def damage_picture(video, said, label):
    """Every other frame of a film; below, what each reader {name: (4,) probabilities, NaN: none found} makes of it.

    The true family, `label`, has a black frame and an arrow.
    """
    fig = Picture(figsize=(WIDTH, 2.9))
    _draw_strip(fig.add_axes((0.02, 0.66, 0.96, 0.33)), as_pictures(video)[0], 2)
    names = [f"true → {name}" if k == label else name for k, name in enumerate(FAMILIES)]
    edges = ["black" if k == label else "none" for k in range(len(FAMILIES))]
    width = 0.84 / len(said)
    for i, (name, shares) in enumerate(said.items()):
        ax = fig.add_axes((0.15 + i * width, 0.15, width - 0.03, 0.33))
        ax.barh(range(4), 100 * np.nan_to_num(shares), color=list(COLOURS.values()), edgecolor=edges, linewidth=1.5)
        if np.isnan(shares).any():
            ax.text(50, 1.5, "finds no dot", ha="center", va="center")
        ax.set(xlim=(0, 101), ylim=(3.6, -0.6), title=name, yticks=range(4), yticklabels=names if i == 0 else [])
        ax.set(xticks=[0, 50, 100])
        ax.tick_params(axis="y", length=0)
    fig.text(0.57, 0.01, "probability of each family, %", ha="center", fontsize=9)
    return fig


def _draw_scene(ax, clip):
    """Curve and camera from above and aside, turned by hand: matplotlib's 3D axes take far longer to draw."""
    camera, colour = clip.params.camera, COLOURS[clip.family]
    turn, lift = np.radians(50), np.radians(25)
    right = np.array([np.cos(turn), 0, np.sin(turn)])  # in the camera's frame
    up = np.array([-np.sin(turn) * np.sin(lift), -np.cos(lift), np.cos(turn) * np.sin(lift)])
    flat = np.stack([right, up], 1)

    def seen(world):
        return (camera.to_camera(world) @ flat).T

    depth = camera.to_camera(clip.path3d)[:, 2].mean()
    ax.plot(*seen(frustum(camera, depth)), color=FRAME, linewidth=0.8)
    ax.plot(*seen(_curve(clip)), color=colour)
    ax.plot(*seen(clip.path3d), ".", color=colour, markersize=4)
    x, y = seen(camera.position)
    ax.text(x, y - 0.4, "camera", fontsize=8, ha="left", va="top")
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title("curve and camera in space")


# ---- tokens ----

OFTEN, HEAT = "cividis", "magma_r"  # how often a word occurs; how much a pixel changed: both keep their order in grey


def heat_film(values, top=None):
    """Numbers (t, h, w) from 0 to `top` (the largest) as a film (3, t, h, w) uint8, darker where there is more."""
    share = np.clip(np.asarray(values, float) / max(top or values.max(), 1e-9), 0, 1)
    return np.rint(255 * matplotlib.colormaps[HEAT](share)[..., :3]).astype(np.uint8).transpose(3, 0, 1, 2)


@styled
def token_maps(texts, shades, chosen=None, changed=None, cmap=OFTEN, title="frames {}–{}", fontsize=7):
    """The grid of a clip's tokens as eight maps: texts and shades (0 to 1), both (8, 4, 4).

    `chosen` (t, y, x) is framed; `changed` (8, 4, 4) marks a corner. Texts break at "·".
    """
    shades, texts = np.asarray(shades, float), np.asarray(texts)
    fig = Picture(figsize=(WIDTH, 1.25), layout="constrained")
    axes = np.atleast_1d(fig.subplots(1, len(shades)))
    for t, ax in enumerate(axes):
        ax.imshow(shades[t], cmap=cmap, vmin=0, vmax=1)
        for (y, x), text in np.ndenumerate(texts[t]):
            red, green, blue, _ = matplotlib.colormaps[cmap](shades[t, y, x])
            colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
            ax.text(x, y, str(text).replace("·", "\n"), ha="center", va="center", color=colour, fontsize=fontsize)
            if changed is not None and changed[t, y, x]:
                ax.plot(x - 0.38, y - 0.38, marker=(3, 0, 45), color=colour, markersize=4)
        if chosen is not None and chosen[0] == t:
            box = matplotlib.patches.Rectangle(
                (chosen[2] - 0.5, chosen[1] - 0.5), 1, 1, fill=False, ec="#D55E00", lw=2.5
            )
            ax.add_patch(box).set_clip_on(False)
        ax.set(xticks=[], yticks=[], title=title.format(t * 16 // len(shades), (t + 1) * 16 // len(shades) - 1))
        ax.spines[:].set_visible(False)
    return fig


# what became of a token in decoding; "refined": given at first, then written anew
KINDS = {"hidden": "#D0D0D0", "given": "#0072B2", "settled": "#E69F00", "refined": "#009E73"}


@styled
def decoding(films, kinds, width=WIDTH):
    """Clips {title: film} as rows of eight frames, one for each frame of tokens: how a clip is written, step by step.

    Above the films that `kinds` {title: names of KINDS (8, 4, 4)} knows, what became of their tokens.
    """
    names, colours = list(KINDS), np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in KINDS.values()])
    left = 0.1 + max(0.085 * len(line) for title in films for line in title.split("\n"))  # inches, as all that follows
    frame, gap, below = (width - left - 0.1) / 8, 0.06, 0.65
    height = below + sum(frame * (1.5 if title in kinds else 1) + gap for title in films)
    fig = Picture(figsize=(width, height))
    top = height
    for i, (title, film) in enumerate(films.items()):
        if title in kinds:
            top -= frame / 2
            index = np.vectorize(names.index)(np.asarray(kinds[title]))
            for t, cells in enumerate(colours[index].astype(np.uint8)):
                place = ((left + (t + 0.27) * frame) / width, top / height, 0.46 * frame / width, 0.46 * frame / height)
                ax = fig.add_axes(place)
                ax.imshow(cells)
                ax.set(xticks=[], yticks=[])
                ax.hlines([0.5, 1.5, 2.5], -0.5, 3.5, color="white", linewidth=0.6)
                ax.vlines([0.5, 1.5, 2.5], -0.5, 3.5, color="white", linewidth=0.6)
                ax.spines[:].set_visible(False)
        top -= frame
        ax = fig.add_axes((left / width, top / height, (width - left - 0.1) / width, frame / height))
        _draw_strip(ax, as_pictures(film)[0], 2, numbers=i == len(films) - 1)
        ax.set_ylabel(title, rotation=0, ha="right", va="center", labelpad=6)
        top -= gap
    ax.set_xlabel("frame", labelpad=1)
    used = [name for name in KINDS if any((np.asarray(some) == name).any() for some in kinds.values())]
    marks = [matplotlib.patches.Patch(color=KINDS[name], label=f"token {name}") for name in used]
    fig.legend(handles=marks, loc="lower center", ncols=len(used), handlelength=1, borderaxespad=0.2)
    return fig


FOLLOWED = {"plan": "#0072B2", "seen": "#D55E00"}  # where the dot is to be, and where it is in the film


@styled
def planned(plan, film, seen, miss):
    """A film and the plan (16, 3) that it was written along: 8 frames above; below them both ways of the dot in one
    picture, and how far apart they are, `miss` (16,) px. `seen` (16, 3) is NaN in a frame without a dot.
    """
    fig = Picture(figsize=(WIDTH, 3.9))
    _draw_strip(fig.add_axes((0.02, 0.74, 0.96, 0.25)), as_pictures(film)[0], 2)
    path = fig.add_axes((0.06, 0.09, 0.27, 0.55))
    path.plot(*plan[:, :2].T, color=FOLLOWED["plan"], linewidth=0.6)
    for x, y, radius in plan:
        path.add_patch(matplotlib.patches.Circle((x, y), radius, fill=False, color=FOLLOWED["plan"], linewidth=0.8))
    path.plot(*np.stack([plan[:, :2], seen[:, :2]]).transpose(2, 0, 1), color=FOLLOWED["seen"], linewidth=0.8)
    path.plot(*seen[:, :2].T, ".", color=FOLLOWED["seen"], markersize=5)
    path.set(xlim=(-0.5, 63.5), ylim=(63.5, -0.5), aspect="equal", xticks=[0, 63], yticks=[0, 63])
    path.spines[:].set(visible=True, color=FRAME)
    path.set_title("in the picture, px")
    apart = fig.add_axes((0.43, 0.15, 0.36, 0.47))
    apart.plot(miss, ".-", color=FOLLOWED["seen"])
    top = max(2.0, 1.1 * np.nan_to_num(miss).max())
    apart.set(xlabel="frame", xticks=[0, 5, 10, 15], xlim=(-0.5, 15.5), ylim=(0, top), title="from plan to dot, px")
    marks = [
        matplotlib.lines.Line2D([], [], color=FOLLOWED["plan"], marker="o", markerfacecolor="none", linewidth=0.6),
        matplotlib.lines.Line2D([], [], color=FOLLOWED["seen"], marker=".", linewidth=0.8),
    ]
    fig.legend(marks, ["the plan", "the dot\nin the film"], loc="center left", bbox_to_anchor=(0.82, 0.4))
    return fig


@styled
def patch_rows(rows, columns=12):
    """{title: patches (n, 3, 2, 16, 16) uint8}: rows of cells, both frames of each side by side."""
    cell, left = 0.46, 2.0  # inches
    fig = Picture(figsize=(WIDTH, len(rows) * (cell / 2 + 0.12) + 0.05))
    width, height = fig.get_size_inches()
    for i, (title, patches) in enumerate(rows.items()):
        bottom = height - (i + 1) * (cell / 2 + 0.12)
        fig.text((left - 0.1) / width, (bottom + cell / 4) / height, title, ha="right", va="center", fontsize=8)
        for k, patch in enumerate(patches[:columns]):
            frames = np.pad(patch.transpose(1, 2, 3, 0), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=190)
            place = ((left + k * (cell + 0.04)) / width, bottom / height, cell / width, cell / 2 / height)
            ax = fig.add_axes(place)
            ax.imshow(np.concatenate(list(frames), 1), aspect="auto")
            ax.set_axis_off()
    return fig


# ---- models ----


@styled
def confusions(tables, across="predicted", down="true family"):
    """{name: (4, 4) counts, true family by predicted family}, side by side; each row in per cent of its family."""
    fig = Picture(figsize=(WIDTH, 3.4), layout="constrained")
    axes = np.atleast_1d(fig.subplots(1, len(tables), sharey=True))
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        share = 100 * table / np.maximum(1, table.sum(1, keepdims=True))
        ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 60 else "black")
        ax.set(title=name, xlabel=across, xticks=range(4), xticklabels=FAMILIES, yticks=range(4), yticklabels=FAMILIES)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    axes[0].set_ylabel(f"{down}, rows in %")
    return fig
