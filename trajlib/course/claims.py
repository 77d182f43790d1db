"""The claims that the course tests, and the rules that decide them.

The claims are rows of `notebooks/claims.csv`: those of `magvit_comparison.md`, the analysis that this course grew from,
and those of papers. A row has

    said      the claim
    source    a section of the analysis, or a paper
    figures   names of figures in the results file (or of checks, "check/..."), separated by semicolons
    rule      how they decide: see `parse_rule`
    note      the right figure and its source, or how the claim was measured

So a verdict follows from the results file, from a check of the library, or from a cited source. A figure must be of
what the claim speaks of: our clips say nothing about somebody else's. One training run of each of two models does not
decide which is better.
"""

import csv
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import norm

from trajlib.course.options import NOTEBOOKS
from trajlib.course.report import FEWEST, MISSING, Evidence, notebook_link, reference, with_interval

VERDICTS = ("confirmed", "refuted", "corrected", "undecided", MISSING, "not yet tested")
FIRST = (  # the dozen claims that matter most
    "a tokenizer of this kind exceeds 30 dB on our clips",
    "30 dB is near-perfect",
    "tokens beat video codecs at equal bits",
    "it generates videos of the requested class",
    "it creates new trajectories: samples follow the requested equation",
    "masked decoding makes better clips than autoregression",
    "the next 4 to 8 frames can be forecast",
    "tokens instead of pixels raise the accuracy, 92.5 % to 95–98 %",
    "200 labelled clips are enough because the task is easy",
    "tokens are robust, invariant to small variations of pixels",
    "the equation of the motion can be recovered",
    "the motion can be described in words",
)
PATTERN = re.compile(
    r"(?P<flipped>corrected if )?(?P<name>[a-z ]+?)(?: (?P<number>-?[\d.]+))?"
    r"(?: or (?P<failed>corrected|undecided)(?P<second> by the second)?)?"
)
Entry = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """One row of the file, its figures split."""

    said: str
    source: str
    figures: tuple[str, ...]
    rule: str
    note: str


def load_claims(path: Path = NOTEBOOKS / "claims.csv") -> list[Claim]:
    """The rows of the file, in order. ValueError for a rule that `parse_rule` does not know."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        parse_rule(row["rule"])
    split = [tuple(filter(None, row.pop("figures").split("; "))) for row in rows]
    return [Claim(**row, figures=figures) for row, figures in zip(rows, split, strict=True)]


def verdict(claim: Claim, evidence: Evidence) -> str:
    """One of `VERDICTS`."""
    if any(name not in evidence for name in claim.figures):
        return MISSING
    return parse_rule(claim.rule)(*(evidence[name] for name in claim.figures))


# ---- rules: entries of the results file -> a verdict. "Above" means that the whole 95 % interval lies above. ----


def cited() -> str:
    """By the source that the note cites."""
    return "confirmed"


def untested() -> str:
    return "not yet tested"


def undecided() -> str:
    """The note says why."""
    return "undecided"


def true(check: Entry) -> str:
    """A check of the library came out true."""
    return "confirmed" if check["value"] else "corrected"


def equals(figure: Entry, value: float) -> str:
    """`value` lies in the figure's interval."""
    low, high = bounds(figure)
    return "undecided" if math.isinf(low) else "confirmed" if low <= value <= high else "refuted"


def above(*figures: Entry, value: float) -> str:
    """Above `value` by every measure; measures that disagree leave it undecided."""
    return agreement(decide(bounds(f)[0] - value, bounds(f)[1] - value) for f in figures)


def below(*figures: Entry, value: float) -> str:
    """Below `value` by every measure; measures that disagree leave it undecided."""
    return agreement(decide(value - bounds(f)[1], value - bounds(f)[0]) for f in figures)


def any_above(*figures: Entry, value: float) -> str:
    """One of them lies above `value`."""
    found = [above(f, value=value) for f in figures]
    return next((word for word in ("confirmed", "undecided") if word in found), "refuted")


def above_baseline(figure: Entry, value: float = 0.0) -> str:
    """Above the figure's own baseline, or above 0 where that is negative, by more than `value`."""
    return MISSING if figure["baseline"] is None else above(figure, value=max(figure["baseline"], 0.0) + value)


def halfway_to_ceiling(figure: Entry) -> str:
    """More than halfway from the figure's baseline to its ceiling."""
    return above(figure, value=(figure["baseline"] + figure["ceiling"]) / 2)


def share_of_ceiling(figure: Entry, value: float) -> str:
    """At least this share of the figure's ceiling."""
    return (
        MISSING if not figure["ceiling"] else "confirmed" if figure["value"] > value * figure["ceiling"] else "refuted"
    )


def higher(first: Entry, *others: Entry, value: float = 0.0) -> str:
    """The first exceeds each of the others by more than `value`: intervals do not overlap."""
    (low, high), found = bounds(first), set()
    for other in others:
        found.add(decide(low - bounds(other)[1] - value, high - bounds(other)[0] - value))
    return next((word for word in ("refuted", "undecided") if word in found), "confirmed")


def higher_in_pairs(*figures: Entry) -> str:
    """The first exceeds the second, the third the fourth, and so on; pairs that disagree leave it undecided."""
    return agreement(higher(a, b) for a, b in zip(figures[::2], figures[1::2], strict=True))


RULES: dict[str, Callable[..., str]] = {
    "cited": cited,
    "not yet tested": untested,
    "undecided": undecided,
    "true": true,
    "equals": equals,
    "above": above,
    "below": below,
    "any above": any_above,
    "above baseline": above_baseline,
    "halfway to ceiling": halfway_to_ceiling,
    "share of ceiling": share_of_ceiling,
    "higher": higher,
    "higher in pairs": higher_in_pairs,
}


def parse_rule(text: str) -> Callable[..., str]:
    """The rule that `text` names: entries -> verdict. ValueError if there is no such rule.

    "above 30"                               a name of `RULES`, with its number
    "above 60 or corrected"                  a figure that refutes the claim corrects it instead (or: "or undecided")
    "above 0.9 or corrected by the second"   the first figure decides; if it does not confirm the claim, and the second
                                             does, that corrects it
    "corrected if above 25"                  the figure that satisfies the rule corrects the claim
    """
    found = PATTERN.fullmatch(text)
    if not found or found["name"] not in RULES:
        raise ValueError(f"There is no rule {text!r}; there are {', '.join(RULES)}.")
    number = {"value": float(found["number"])} if found["number"] else {}
    rule = partial(RULES[found["name"]], **number)
    if found["second"]:
        return partial(_first_or_second, rule)
    if found["flipped"]:
        return lambda *figures: "corrected" if rule(*figures) == "confirmed" else "undecided"
    if found["failed"]:
        return lambda *figures: found["failed"] if (word := rule(*figures)) == "refuted" else word
    return rule


def _first_or_second(rule: Callable[..., str], first: Entry, second: Entry) -> str:
    alone = rule(first)
    return "corrected" if alone != "confirmed" and rule(second) == "confirmed" else alone


def bounds(figure: Entry) -> tuple[float, float]:
    """The interval of a figure; without one, its value twice. The range of one or two training runs decides nothing."""
    if figure["interval"] and figure["n"] < FEWEST:
        return -math.inf, math.inf
    low, high = figure["interval"] or (figure["value"], figure["value"])
    return low, high


def widened(figure: Entry, comparisons: int) -> Entry:
    """The figure with its interval as wide as so many comparisons at once need (Bonferroni): 95 % for all of them."""
    if not figure["interval"]:
        return figure
    factor = norm.isf(0.025 / comparisons) / norm.isf(0.025)
    return figure | {"interval": [figure["value"] + factor * (end - figure["value"]) for end in figure["interval"]]}


def decide(low: float, high: float) -> str:
    """Whether a quantity known to lie in [low, high] is positive."""
    return "confirmed" if low > 0 else "refuted" if high <= 0 else "undecided"


def agreement(words) -> str:
    """The verdict on which all measures agree; "undecided" if they do not."""
    found = set(words)
    return found.pop() if len(found) == 1 else "undecided"


# ---- the table of the report ----


def table(claims: list[Claim], evidence: Evidence) -> str:
    """Markdown, a row for each claim: verdict, rule, figures with baselines and ceilings, notebooks that show them."""
    lines = ["| claim | verdict and rule | figures | shown in |", "|---|---|---|---|"]
    for claim in claims:
        shown = [name for name in claim.figures if name in evidence]
        figures = "<br>".join(_figure(name, evidence[name]) for name in shown)
        links = ", ".join(notebook_link(stem) for stem in sorted({evidence[name]["notebook"] for name in shown}))
        said = claim.said + (f"<br>*{claim.note}*" if claim.note else "")
        rule = f"<br>{claim.rule}" if claim.figures else ""
        lines.append(f"| {said} | **{verdict(claim, evidence)}**{rule} | {figures} | {links} |")
    return "\n".join(lines)


def _figure(name: str, entry: Entry) -> str:
    text = f"{name.removeprefix('check/')}: {with_interval(name, entry)}"
    keys = [key for key in ("baseline", "ceiling") if entry.get(key) is not None]
    return "; ".join([text, *(reference(name, entry, key, key) for key in keys)])
