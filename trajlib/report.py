"""The headline figures and how figures are spelt: what notebook 09 and the README both show, from the results file."""

import base64
from typing import Any, NamedTuple

import nbformat

from trajlib import pretrained

Evidence = dict[str, dict[str, Any]]  # what `pretrained.results` returns: {name of a figure: its entry}
SHARES = ("accuracy", "agreement", "present", "oracle", "cheat", "precision", "recall", "copies")  # spelt in per cent
MISSING = "not yet measured"


class Row(NamedTuple):
    """One line of the headline table."""

    asks: str
    figure: str  # its name in the results file
    floor: str  # what its baseline is
    ceiling: str  # what its ceiling is


HEADLINE = {
    "The clips": [
        Row("class known from geometry alone", "world/oracle", "chance", "every clip"),
        Row("class guessed from mean speed", "world/cheat/path length in space (mean speed)", "chance", ""),
    ],
    "Tokenizer": [
        Row("PSNR", "tokenizer psnr", "blank frame", "8-bit rounding"),
        Row("PSNR where the dot is", "tokenizer foreground psnr", "blank frame", "8-bit rounding"),
        Row("error of place, median", "tokenizer position error median", "another clip's", "the true clip's"),
        Row("error of place, 99th percentile", "tokenizer position error p99", "another clip's", "the true clip's"),
        Row("PSNR, better tokens searched for", "tokenizer searched psnr", "the encoder's", "8-bit rounding"),
        Row("... error of place, median", "tokenizer searched position error", "the encoder's", "the true clip's"),
        Row("clips with the dot in every frame", "tokenizer dot present", "another clip's", "every clip"),
        Row("codes used", "tokenizer codes used", "", "the codebook"),
        Row("fewer positions than pixels", "compression positions", "", ""),
        Row("fewer bits than raw video", "compression bits", "", ""),
        Row("the same, as real bytes", "compression real bits", "", ""),
    ],
    "Generation": [
        Row("bits to predict a hidden token", "transformer bits per token", "token frequencies", ""),
        Row("samples that obey the class's equation", "generation physics agreement", "by chance", "reconstructions"),
        Row("samples with one dot in every frame", "generation dot present", "", "reconstructions"),
        Row("their distance from the equation, median", "generation residual", "from another", "reconstructions"),
        Row("samples judged to be of the asked class", "generation class agreement", "by chance", "reconstructions"),
        Row("class learnt from samples, told of real clips", "generation score accuracy", "chance", "from real clips"),
        Row("Fréchet distance (I3D)", "generation Frechet distance", "frames shuffled", "real clips"),
        Row("samples among real clips", "generation precision", "frames shuffled", "real clips"),
        Row("real clips among samples", "generation recall", "frames shuffled", "real clips"),
        Row("distance to the nearest training clip", "generation novelty", "a training clip", "fresh clips"),
        Row("forecast from 8 frames, error", "forecast from 8 error", "extrapolated", "reconstructions"),
        Row("of MAGVIT's ten tasks, done better than trivially", "tasks better than trivial", "", "all"),
        Row("planned first: clips that obey the equation", "planned physics agreement", "by chance", "reconstructions"),
        Row("... with one dot in every frame", "planned dot present", "unplanned", "reconstructions"),
        Row("... judged to be of the asked class", "planned class agreement", "by chance", "reconstructions"),
        Row("... class learnt from them, told of real clips", "planned score accuracy", "chance", "from real clips"),
        Row("... Fréchet distance (I3D)", "planned Frechet distance", "unplanned", "real clips"),
        Row("... distance to the nearest training clip", "planned novelty", "", "fresh clips"),
        Row("... forecast from 8 frames, error", "planned forecast from 8 error", "extrapolated", "reconstructions"),
        Row("... tasks done better than trivially", "planned tasks better than trivial", "", "all"),
        Row("one token after another, obeying", "autoregressive physics agreement", "by chance", "reconstructions"),
    ],
    "Classification": [
        Row("3D CNN on pixels", "simple_3dcnn accuracy", "chance", "oracle"),
        Row("I3D on pixels", "i3d accuracy", "chance", "oracle"),
        Row("transformer on tokens", "token_classifier accuracy", "chance", "oracle"),
        Row("tokens followed without labels, equations", "token_tracker accuracy", "chance", "oracle"),
        Row("160 labels, transformer on tokens", "contest network on tokens accuracy", "chance", "oracle"),
        Row("160 labels, I3D on pixels", "contest network on pixels accuracy", "chance", "oracle"),
        Row("160 labels, dot read from tokens, equations", "contest tokens accuracy", "chance", "oracle"),
        Row("... with a tokenizer of these clips alone", "contest tokens of the few accuracy", "chance", "oracle"),
        Row("160 labels, dot seen in pixels, equations", "contest pixels accuracy", "chance", "oracle"),
        Row("parameters of the equation, from tokens", "equation parameters from tokens", "", "true path"),
        Row("transformer on another clip's tokens", "token_classifier shuffled accuracy", "chance", "oracle"),
        Row("bag of tokens, no order", "bag of tokens accuracy", "chance", "oracle"),
        Row("mean frame, no time", "mean frame accuracy", "chance", "oracle"),
    ],
}


def number(name: str, entry: dict[str, Any], value: Any = None) -> str:
    """The figure `name` in words of its own kind: "93.1 %", "38.20 dB", "1,000"; `value` instead of its value."""
    value = entry["value"] if value is None else value
    if isinstance(value, bool | str):
        return str(value)
    if not entry["unit"] and any(word in name for word in SHARES):
        return f"{100 * value:.1f} %"
    if isinstance(value, int):
        return f"{value:,} {entry['unit']}".strip()
    return f"{value:,.2f} {entry['unit']}".strip() if abs(value) < 100 else f"{value:,.0f} {entry['unit']}".strip()


def with_interval(name: str, entry: dict[str, Any]) -> str:
    """The figure, its 95 % interval and the number of things it is of."""
    text = number(name, entry)
    if entry["interval"]:
        low, high = (number(name, entry, bound) for bound in entry["interval"])
        text += f" ({low.split()[0]} to {high})"
    return text if entry["n"] == 1 else f"{text}, n = {entry['n']:,}"


def beside(name: str, entry: dict[str, Any], key: str, what: str = "") -> str:
    """The "baseline" or "ceiling" of a figure with what it is; a dash where there is none."""
    if entry.get(key) is None:
        return "–"
    return f"{what}: {number(name, entry, entry[key])}" if what else number(name, entry, entry[key])


def notebook_link(stem: str, folder: str = "") -> str:
    """Markdown: the notebook's number, linked."""
    return f"[{stem[:2]}]({folder}{stem}.ipynb)"


def headline(evidence: Evidence, folder: str = "") -> str:
    """The headline table in Markdown; `folder` is where its links find the notebooks. Rows without figures say so."""
    lines = ["| | figure (95 % interval) | floor | ceiling | shown in |", "|---|---|---|---|---|"]
    for group, rows in HEADLINE.items():
        lines.append(f"| **{group}** | | | | |")
        for row in rows:
            entry = evidence.get(row.figure)
            if entry is None:
                lines.append(f"| {row.asks} | {MISSING} | | | |")
                continue
            cells = (
                row.asks,
                with_interval(row.figure, entry),
                beside(row.figure, entry, "baseline", row.floor),
                beside(row.figure, entry, "ceiling", row.ceiling),
                notebook_link(entry["notebook"], folder),
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


MARKS = ("<!-- results -->", "<!-- end of results -->")


def fill(readme: str, evidence: Evidence | None = None) -> str:
    """The README's text with the table between its two marks made anew; from the shipped figures by default."""
    before, rest = readme.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    table = headline(pretrained.results(pretrained.SHIPPED) if evidence is None else evidence, "notebooks/")
    return f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}"


def overviews(nb: nbformat.NotebookNode) -> list[bytes]:
    """The pictures in the cells tagged `overview`, as PNG: the README shows one."""
    cells = [cell for cell in nb.cells if "overview" in cell.metadata.get("tags", [])]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [base64.b64decode(d["image/png"]) for d in data if "image/png" in d]
