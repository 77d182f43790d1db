"""The code map: all tokens in use on a plane, for the token explorer."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trajlib import plots
from trajlib.widgets.base import colour_table

CLASS_COLOURS = tuple(plots.COLOURS.values())


@dataclass(frozen=True)
class Colouring:
    """What the points of the code map are coloured by: a value from 0 to 255 for each used token, -1 for none; or a
    class.
    """

    values: np.ndarray  # (u,)
    low: str = ""  # what 0 means
    high: str = ""  # what 255 means
    lut: str = "viridis"  # a colour map of matplotlib's
    names: tuple[str, ...] = ()  # of classes; then values are labels, and the classes' colours are taken


COLUMNS = 32  # of the sheet of patches


def code_map(index, layouts, colourings, most=2000):
    """What code_map.js draws of the `most` most frequent tokens of a `TokenIndex`, as a dict.

    `layouts` {name: (u, 2)} and `colourings` {name: Colouring} have a row for each used token.
    """
    rows = np.sort(np.argsort(-index.counts, kind="stable")[:most])
    dt, dh, dw = index.cell
    luts = {colouring.lut: colour_table(colouring.lut) for colouring in colourings.values() if not colouring.names}
    luts["classes"] = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in CLASS_COLOURS]
    return {
        "luts": luts,
        "layouts": {name: _unit(points[rows]) for name, points in layouts.items()},
        "colourings": {name: _colouring(colouring, rows) for name, colouring in colourings.items()},
        "radius": (2 + 0.9 * np.log10(index.counts[rows])).round(2).tolist(),
        "notes": [_note(index, row) for row in rows],
        "tokens": index.used[rows].tolist(),
        "sheet": _sheet(index.patches[rows]),
        "tile": {"columns": COLUMNS, "wide": dt * dw + dt - 1, "tall": dh},
    }


def _unit(points):
    """Points into the unit square, each axis stretched; the few that lie far out are put on its edge."""
    low, high = np.percentile(points, (0.5, 99.5), axis=0)
    spare = 0.05 * (high - low)
    at = ((points - low + spare) / np.maximum(high - low + 2 * spare, 1e-9)).clip(0, 1).round(4)
    return {"x": at[:, 0].tolist(), "y": at[:, 1].tolist()}


def _colouring(colouring, rows):
    values, lut = np.asarray(colouring.values)[rows].astype(int), colouring.lut
    if colouring.names:
        values, lut = values % len(CLASS_COLOURS), "classes"
    names = list(colouring.names) or None
    return {"value": values.tolist(), "low": colouring.low, "high": colouring.high, "lut": lut, "names": names}


def _note(index, row):
    kind = "background" if index.background[row] else "part of the dot"
    return f"token {index.name(index.used[row])}\n{index.counts[row]:,} times, {kind}"


def _sheet(patches):
    """Mean patches as one PNG: tiles of a token's frames side by side, in rows of 32."""
    tiles = patches.transpose(0, 2, 3, 4, 1)  # (u, frames, height, width, 3)
    gap = ((0, 0), (0, 0), (0, 0), (0, 1), (0, 0))
    tiles = np.concatenate(list(np.pad(tiles, gap, constant_values=190).swapaxes(0, 1)), 2)[:, :, :-1]
    tiles = np.concatenate([tiles, np.zeros((-len(tiles) % COLUMNS, *tiles.shape[1:]), np.uint8)])
    rows = tiles.reshape(-1, COLUMNS, *tiles.shape[1:]).transpose(0, 2, 1, 3, 4)
    file = io.BytesIO()
    Image.fromarray(rows.reshape(rows.shape[0] * rows.shape[1], -1, 3)).save(file, "PNG")
    return file.getvalue()


def code_colourings(index):
    """What the code map of a `TokenIndex` can be coloured by: {name: Colouring}."""
    n, (t, h, w) = len(index.used), index.grid

    def scaled(values, top):
        return np.nan_to_num(255 * values / max(top, 1e-9)).clip(0, 255).round()

    positions, _, velocity = index.motions()
    rank = index.rank[tuple(positions.T)]
    count = np.bincount(rank, minlength=n)  # how often a token's cell holds the dot's centre
    u, v = (np.bincount(rank, velocity[:, k], n) / np.maximum(count, 1) for k in (0, 1))
    speed = np.bincount(rank, np.hypot(*velocity.T), n) / np.maximum(count, 1)
    classes = range(len(index.class_names))
    by_class = np.stack([np.bincount(index.rank[index.labels == k].ravel(), minlength=n) for k in classes])
    fast, log_counts = float(np.percentile(np.hypot(*velocity.T), 95)), np.log1p(index.counts)
    angle = scaled(np.arctan2(v, u) + np.pi, 2 * np.pi)
    most = f"{index.counts.max():,} times"
    found = {
        "frequency": Colouring(scaled(log_counts, log_counts.max()), "once", most, plots.FREQUENCY),
        "class": Colouring(by_class.argmax(0), names=tuple(index.class_names)),
        "speed of the dot": Colouring(np.where(count, scaled(speed, fast), -1), "0", f"{fast:.1f} px a frame"),
        "direction of the dot": Colouring(np.where(count, angle, -1), "left, up,", "right, down, left", "twilight"),
    }
    ends = {"frame": ("first", "last"), "row": ("top", "bottom"), "column": ("left", "right")}
    for (name, (low, high)), at, size in zip(ends.items(), np.mgrid[:t, :h, :w], (t, h, w), strict=True):
        mean = index.mean(np.broadcast_to(at, index.tokens.shape))
        found[name] = Colouring(scaled(mean, size - 1), low, high)
    return found
