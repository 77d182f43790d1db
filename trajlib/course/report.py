"""The table of results and how figures are printed: what the report and the README show, from the results file."""

import base64
import re
from typing import Any, NamedTuple

import nbformat

from trajlib.course import options, results
from trajlib.zoo import model_files

Evidence = dict[str, dict[str, Any]]  # what `results.results` returns: {name of a figure: its entry}
SHARES = ("accuracy", "agreement", "present", "oracle", "cheat", "precision", "recall", "copies")  # printed in per cent
MISSING = "not yet measured"
FEWEST = 3  # training runs; of fewer, the range is not called an interval
MARKS = ("<!-- results -->", "<!-- end of results -->")  # around the README's table


class Row(NamedTuple):
    """One line of the table."""

    label: str
    figure: str  # its name in the results file
    baseline: str  # what its baseline is
    ceiling: str  # what its ceiling is


ORACLE, RECONS = "oracle", "reconstructions"
HEADLINE = {
    "Clips": [
        Row("class from the true geometry", "clips/oracle", "chance", "every clip"),
        Row("class from mean speed", "clips/cheat/path length in space (mean speed)", "chance", ""),
    ],
    "Tokenizer": [
        Row("PSNR", "tokenizer psnr", "blank frame", "8-bit rounding"),
        Row("foreground PSNR", "tokenizer foreground psnr", "blank frame", "8-bit rounding"),
        Row("localization error, median", "tokenizer position error median", "another clip's", "the true clip's"),
        Row("localization error, 99th percentile", "tokenizer position error p99", "another clip's", "the true clip's"),
        Row("PSNR of refined tokens", "tokenizer refined psnr", "the encoder's", "8-bit rounding"),
        Row("... localization error, median", "tokenizer refined position error", "the encoder's", "the true clip's"),
        Row("clips with the dot in every frame", "tokenizer dot present", "another clip's", "every clip"),
        Row("codes used", "tokenizer codes used", "", "codebook size"),
        Row("pixels per token", "compression positions", "", ""),
        Row("bits of raw video per bit of tokens", "compression bits", "", ""),
        Row("... with a range coder", "compression real bits", "", ""),
    ],
    "Generation": [
        Row("bits per masked token", "transformer bits per token", "token frequencies", ""),
        Row("class consistency, by fitted equations", "generation physics agreement", "chance level", RECONS),
        Row("samples with one dot in every frame", "generation dot present", "", RECONS),
        Row("distance to the fitted equation, median", "generation residual", "another class's", RECONS),
        Row("class consistency, by I3D", "generation class agreement", "chance level", RECONS),
        Row("trained on samples, tested on real clips", "generation score accuracy", "chance", "trained on real clips"),
        Row("Fréchet distance (I3D)", "generation Frechet distance", "frames shuffled", "real clips"),
        Row("precision", "generation precision", "frames shuffled", "real clips"),
        Row("recall", "generation recall", "frames shuffled", "real clips"),
        Row("distance to the nearest training clip", "generation novelty", "a training clip", "fresh clips"),
        Row("forecast from 8 frames, error", "forecast from 8 error", "extrapolation", RECONS),
        Row("tasks, of ten, better than the trivial answer", "tasks better than trivial", "", "all"),
        Row("AR baseline: class consistency, by equations", "autoregressive physics agreement", "chance level", RECONS),
    ],
    "Generation, trajectory first": [
        Row("class consistency, by fitted equations", "trajectory first physics agreement", "Gaussian sampler", RECONS),
        Row("... the best of four videos along each trajectory", "best of 4 physics agreement", "one video", RECONS),
        Row("samples with one dot in every frame", "trajectory first dot present", "Gaussian sampler", RECONS),
        Row("class consistency, by I3D", "trajectory first class agreement", "Gaussian sampler", RECONS),
        Row(
            "trained on samples, tested on real clips",
            "trajectory first score accuracy",
            "Gaussian sampler",
            "trained on real clips",
        ),
        Row("Fréchet distance (I3D)", "trajectory first Frechet distance", "Gaussian sampler", "real clips"),
        Row("distance to the nearest training clip", "trajectory first novelty", "Gaussian sampler", "fresh clips"),
        Row("forecast from 8 frames, error", "trajectory first forecast from 8 error", "linear-Gaussian", RECONS),
        Row("tasks, of ten, better than the trivial answer", "trajectory first tasks better than trivial", "", "all"),
    ],
    "Classification": [
        Row("3D CNN on pixels", "simple_3dcnn accuracy", "chance", ORACLE),
        Row("I3D on pixels", "i3d accuracy", "chance", ORACLE),
        Row("transformer on tokens", "token_classifier accuracy", "chance", ORACLE),
        Row("tracker on tokens, no labels, then equations", "token_tracker accuracy", "chance", ORACLE),
        Row("160 labels: transformer on tokens", "few labels transformer on tokens accuracy", "chance", ORACLE),
        Row(
            "160 labels: I3D on pixels (of two, the better on test clips)",
            "few labels I3D on pixels accuracy",
            "chance",
            ORACLE,
        ),
        Row(
            "160 labels: equations fitted to the dot in tokens",
            "few labels equations from tokens accuracy",
            "chance",
            ORACLE,
        ),
        Row(
            "... with a tokenizer of these clips alone",
            "few labels equations from own tokens accuracy",
            "chance",
            ORACLE,
        ),
        Row(
            "160 labels: equations fitted to the dot in pixels",
            "few labels equations from pixels accuracy",
            "chance",
            ORACLE,
        ),
        Row("parameters of the equation, from tokens", "equation parameters from tokens", "", "true track"),
        Row("control: transformer on another clip's tokens", "token_classifier shuffled accuracy", "chance", ORACLE),
        Row("control: bag of tokens, no order", "bag of tokens accuracy", "chance", ORACLE),
        Row("control: mean frame, no time", "mean frame accuracy", "chance", ORACLE),
    ],
    "Language": [
        Row(
            "answers about nine slots, from tokens",
            "answers all accuracy",
            "majority",
            "equations fitted to the decoded clip",
        ),
        Row("control: answers about another clip's tokens", "permuted answers accuracy", "", ""),
        Row("captions: slots that are right", "captions accuracy", "another clip's tokens", ""),
        Row("clips from sentences: slots fulfilled", "prompts accuracy", "another sentence", "real clips"),
        Row("... clearly, not only on the nearer side", "prompts fulfilled clearly accuracy", "", "real clips"),
        Row(
            "a clip among 1,000 found by its sentence: first ten",
            "retrieval recall at 10",
            "permuted",
            "equations fitted",
        ),
    ],
}
ROWS = {row.figure: row for rows in HEADLINE.values() for row in rows}
SUMMARY = (  # the README's rows
    "tokenizer psnr",
    "tokenizer position error median",
    "compression bits",
    "trajectory first physics agreement",
    "trajectory first Frechet distance",
    "trajectory first forecast from 8 error",
    "i3d accuracy",
    "few labels equations from tokens accuracy",
    "answers all accuracy",
    "prompts accuracy",
)


def number(name: str, entry: dict[str, Any], value: Any = None) -> str:
    """The figure `name` as its kind is printed: "93.1 %", "38.20 dB", "1,000"; `value` instead of its own."""
    value = entry["value"] if value is None else value
    if isinstance(value, bool | str):
        return str(value)
    if not entry["unit"] and any(word in name for word in SHARES):
        return f"{100 * value:.1f} %"
    if isinstance(value, int):
        return f"{value:,} {entry['unit']}".strip()
    return f"{value:,.2f} {entry['unit']}".strip() if abs(value) < 100 else f"{value:,.0f} {entry['unit']}".strip()


def with_interval(name: str, entry: dict[str, Any]) -> str:
    """The figure, its 95 % interval and its sample size."""
    text = number(name, entry)
    if entry["interval"]:
        low, high = (number(name, entry, bound) for bound in entry["interval"])
        text += f" ({low.split()[0]} to {high})"
    if entry["interval"] and entry["n"] < FEWEST:
        return f"{text}, range of {entry['n']} runs"
    return text if entry["n"] == 1 else f"{text}, n = {entry['n']:,}"


def reference(name: str, entry: dict[str, Any], key: str, label: str = "") -> str:
    """The "baseline" or "ceiling" of a figure after its label; a dash if there is none."""
    if entry.get(key) is None:
        return "–"
    return f"{label}: {number(name, entry, entry[key])}" if label else number(name, entry, entry[key])


def notebook_link(stem: str, folder: str = "") -> str:
    """Markdown: the notebook's number, linked."""
    return f"[{stem[:2]}]({folder}{stem}.ipynb)"


def headline(evidence: Evidence, folder: str = "") -> str:
    """The whole table in Markdown; `folder` is where its links find the notebooks. Missing figures are marked."""
    lines = _header()
    for group, rows in HEADLINE.items():
        lines.append(f"| **{group}** | | | | |")
        lines += [_line(row, evidence, folder) for row in rows]
    return "\n".join(lines)


def summary(evidence: Evidence, folder: str = "") -> str:
    """The README's rows of the table."""
    return "\n".join(_header() + [_line(ROWS[name], evidence, folder) for name in SUMMARY])


def _header() -> list[str]:
    return ["| | figure (95 % interval) | baseline | ceiling | shown in |", "|---|---|---|---|---|"]


def _line(row: Row, evidence: Evidence, folder: str) -> str:
    entry = evidence.get(row.figure)
    if entry is None:
        return f"| {row.label} | {MISSING} | | | |"
    cells = (
        row.label,
        with_interval(row.figure, entry),
        reference(row.figure, entry, "baseline", row.baseline),
        reference(row.figure, entry, "ceiling", row.ceiling),
        notebook_link(entry["notebook"], folder),
    )
    return "| " + " | ".join(cells) + " |"


def fill(readme: str, evidence: Evidence | None = None) -> str:
    """The README's text with a new table between its two marks, from the shipped figures by default; and with the
    seconds of each notebook's last run in the table of the course."""
    before, rest = readme.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    table = summary(results.results(model_files.SHIPPED) if evidence is None else evidence, "notebooks/")
    for path in options.NOTEBOOKS.glob(options.PATTERN):
        seconds = nbformat.read(path, 4).metadata.get("seconds")
        row = rf"^(\| \[.+\]\(notebooks/{path.name}\) \| [^|]+ \|).*"
        before = re.sub(row, rf"\1 {f'{seconds} s' if seconds else '–'} |", before, flags=re.MULTILINE)
    return f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}"


def fill_seconds(cell: str, seconds: int) -> str:
    """A notebook's first cell with the seconds of its last run after "**Takes**"."""
    return re.sub(r"(?<=\*\*Takes\*\* )\d+(?= seconds)", str(seconds), cell)


def overviews(nb: nbformat.NotebookNode) -> list[bytes]:
    """The pictures in the cells tagged `overview`, as PNG: the README shows one."""
    cells = [cell for cell in nb.cells if "overview" in cell.metadata.get("tags", [])]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [base64.b64decode(d["image/png"]) for d in data if "image/png" in d]
