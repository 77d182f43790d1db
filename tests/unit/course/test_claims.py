"""Verdicts follow from figures: each rule on figures chosen for it, and every claim has what its verdict needs."""

import re

import pytest

from trajlib.course import claims, options, report, results
from trajlib.course.claims import Claim, parse_rule, verdict
from trajlib.zoo import checkpoints

CLAIMS = claims.load_claims()
NAMES = {name for claim in CLAIMS for name in claim.figures}


def figure(value, low=None, high=None, **facts):
    entry = {"value": value, "interval": None if low is None else [low, high], "baseline": None, "ceiling": None}
    return entry | {"n": 100, "unit": "", "notebook": "03_reconstruction_analysis"} | facts


SHARE = {"baseline": 0.2, "ceiling": 1.0}


@pytest.mark.parametrize(
    ("rule", "figures", "expected"),
    [
        ("cited", [], "confirmed"),
        ("corrected if cited", [], "corrected"),
        ("not yet tested", [], "not yet tested"),
        ("undecided", [], "undecided"),
        ("true", [figure(True)], "confirmed"),
        ("true", [figure(False)], "corrected"),
        ("corrected if true", [figure(True)], "corrected"),
        ("above 30", [figure(31, 30.5, 31.5)], "confirmed"),
        ("above 30", [figure(31, 29.5, 32.5)], "undecided"),
        ("above 30", [figure(29, 28, 29.9)], "refuted"),
        ("above 30", [figure(31)], "confirmed"),
        ("above 0", [figure(1), figure(2)], "confirmed"),
        ("above 0", [figure(1), figure(-2)], "undecided"),
        ("above 0", [figure(-1), figure(-2)], "refuted"),
        ("above -0.5", [figure(-0.2, -0.6, 0.1)], "undecided"),
        ("above 0", [figure(1, 0.9, 1.1, n=2)], "undecided"),  # a range of two training runs
        ("equals 1", [figure(1, 0.9, 1.1, n=2)], "undecided"),
        ("above 0", [figure(1, 0.9, 1.1, n=3)], "confirmed"),
        ("above 0", [figure(1, n=1)], "confirmed"),  # a finding without an interval
        ("above 60 or corrected", [figure(61), figure(70)], "confirmed"),
        ("above 60 or corrected", [figure(5), figure(0.7)], "corrected"),
        ("corrected if above 25", [figure(25.2)], "corrected"),
        ("corrected if above 25", [figure(24)], "undecided"),
        ("below 25", [figure(24)], "confirmed"),
        ("below 25", [figure(26)], "refuted"),
        ("corrected if below 0.28", [figure(0.26, 0.25, 0.27)], "corrected"),
        ("corrected if below 0.28", [figure(0.4)], "undecided"),
        ("any above 0", [figure(-1, -2, -0.5), figure(1, 0.5, 2)], "confirmed"),
        ("any above 0", [figure(-1, -2, -0.5), figure(0, -1, 1)], "undecided"),
        ("any above 0", [figure(-1, -2, -0.5), figure(-1, -2, -0.5)], "refuted"),
        ("above baseline", [figure(0.5, 0.4, 0.6, baseline=0.25)], "confirmed"),
        ("above baseline", [figure(0.5, 0.2, 0.6, baseline=0.25)], "undecided"),
        ("above baseline 0.05", [figure(0.04, 0.03, 0.045, baseline=-0.07)], "refuted"),
        ("above baseline", [figure(0.5)], report.MISSING),
        ("halfway to ceiling", [figure(0.8, 0.7, 0.9, **SHARE)], "confirmed"),
        ("halfway to ceiling", [figure(0.6, 0.5, 0.7, **SHARE)], "undecided"),
        ("halfway to ceiling", [figure(0.4, 0.3, 0.5, **SHARE)], "refuted"),
        ("share of ceiling 0.99", [figure(995, ceiling=1000)], "confirmed"),
        ("share of ceiling 0.99", [figure(600, ceiling=1000)], "refuted"),
        ("share of ceiling 0.99 or undecided", [figure(600, ceiling=1000)], "undecided"),
        ("share of ceiling 0.99", [figure(600)], report.MISSING),
        ("equals 384 or corrected", [figure(128)], "corrected"),
        ("equals 0.925", [figure(0.93, 0.91, 0.95)], "confirmed"),
        ("higher", [figure(0.9, 0.88, 0.92), figure(0.8, 0.78, 0.82)], "confirmed"),
        ("higher", [figure(0.9, 0.8, 0.95), figure(0.85, 0.8, 0.9)], "undecided"),
        ("higher", [figure(0.8, 0.78, 0.82), figure(0.9, 0.88, 0.92)], "refuted"),
        ("higher", [figure(0.9, 0.88, 0.92), figure(0.8, 0.78, 0.82), figure(0.7, 0.6, 0.8)], "confirmed"),
        ("higher", [figure(0.9, 0.88, 0.92), figure(0.8, 0.78, 0.82), figure(0.9, 0.88, 0.92)], "undecided"),
        ("higher", [figure(0.9, 0.88, 0.92), figure(0.95, 0.93, 0.97), figure(0.9, 0.8, 0.9)], "refuted"),
        ("higher -0.02", [figure(0.9, 0.895, 0.905), figure(0.905, 0.9, 0.91)], "confirmed"),
        ("higher -0.02", [figure(0.8, 0.79, 0.81), figure(0.9, 0.89, 0.91)], "refuted"),
        ("higher in pairs", [figure(2), figure(1), figure(4), figure(3)], "confirmed"),
        ("higher in pairs", [figure(2), figure(1), figure(3), figure(4)], "undecided"),
        ("higher in pairs", [figure(1), figure(2), figure(3), figure(4)], "refuted"),
        ("above 0.9 or corrected by the second", [figure(0.7, 0.6, 0.8), figure(0.97, 0.95, 0.98)], "corrected"),
        ("above 0.9 or corrected by the second", [figure(0.95, 0.93, 0.97), figure(0.5, 0.4, 0.6)], "confirmed"),
        ("above 0.9 or corrected by the second", [figure(0.7, 0.6, 0.8), figure(0.8, 0.7, 0.85)], "refuted"),
    ],
)
def test_rules(rule, figures, expected):
    assert parse_rule(rule)(*figures) == expected


@pytest.mark.parametrize("rule", ["", "over 30", "above thirty", "corrected if", "above 3 or refuted"])
def test_unknown_rules_are_refused(rule):
    with pytest.raises(ValueError, match="There is no rule"):
        parse_rule(rule)


def test_nothing_is_decided_without_its_figures():
    claim = Claim("x", "y", ("a", "b"), "higher", "")
    assert verdict(claim, {"a": figure(1)}) == report.MISSING
    assert verdict(claim, {"a": figure(1), "b": figure(0)}) == "confirmed"


def test_an_interval_is_widened_for_the_number_of_comparisons():
    one = claims.widened(figure(10, 9, 12), 1)
    assert one["interval"] == pytest.approx([9, 12])
    low, high = claims.widened(figure(10, 9, 12), 20)["interval"]
    assert low == pytest.approx(10 - 3.023 / 1.960, abs=1e-3)  # 99.75 %
    assert high == pytest.approx(10 + 2 * 3.023 / 1.960, abs=1e-3)
    assert claims.widened(figure(10), 20) == figure(10)


# ---- the rows of claims.csv ----


def test_a_dozen_claims_stand_first():
    assert len(set(claims.FIRST)) == 12
    assert set(claims.FIRST) <= {claim.said for claim in CLAIMS}


def test_every_row_is_whole():
    assert len({claim.said for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        words = claim.rule.removeprefix("corrected if ")
        assert bool(claim.figures) != (words in ("cited", "undecided", "not yet tested")), claim.said
        assert claim.figures or claim.note, f"{claim.said}: a verdict without a figure needs its source"
        assert claim.source


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.said[:40])
def test_a_rule_reads_all_figures_of_its_claim(claim):
    """Some evidence gives another verdict when one figure alone changes."""
    rule, values = parse_rule(claim.rule), (-1e9, 0.3, 0.5, 1, 1e9, True, False, 384, 512, 0.75, 0.925)
    candidates = [figure(value, baseline=0.25, ceiling=1.0) for value in values]
    count = len(claim.figures)
    backgrounds = [[c] * count for c in candidates] + [[candidates[4]] + [candidates[0]] * (count - 1)]
    for i in range(count):
        found = [{rule(*others[:i], c, *others[i + 1 :]) for c in candidates} for others in backgrounds]
        assert set().union(*found) <= set(claims.VERDICTS)
        assert max(map(len, found)) > 1, f"{claim.figures[i]} changes nothing"


def test_a_verdict_from_few_clips_says_how_many():
    """A claim that is decided by figures of fewer than 500 clips has their number in its note."""
    shipped = results.results(checkpoints.SHIPPED)
    for claim in CLAIMS:
        entries = [shipped[name] for name in claim.figures if name in shipped]
        if len(entries) < len(claim.figures) or verdict(claim, shipped) == "undecided":
            continue
        few = {entry["n"] for entry in entries if entry["interval"] and report.FEWEST <= entry["n"] < 500}
        assert [n for n in few if not re.search(rf"\b{n}\b.* clips", claim.note)] == [], claim.said


def test_what_a_blank_frame_scores_is_compared_with_its_interval():
    """It lies so near to 25 dB that its error matters."""
    claim = next(claim for claim in CLAIMS if claim.said == "30 dB is near-perfect")
    shipped = results.results(checkpoints.SHIPPED)
    assert all(shipped[name]["interval"] for name in claim.figures)
    assert verdict(claim, shipped) == "corrected"


def test_figures_of_the_claims_are_shipped_or_checked_in_the_report():
    shipped = results.results(checkpoints.SHIPPED)
    assert sorted(name for name in NAMES if not name.startswith("check/") and name not in shipped) == []
    notebook = (options.NOTEBOOKS / "12_report.ipynb").read_text(encoding="utf-8")
    checks = [name.removeprefix("check/") for name in NAMES if name.startswith("check/")]
    assert [name for name in checks if f'\\"{name}\\"' not in notebook] == []


def test_notebooks_of_the_claims_are_there():
    shipped = results.results(checkpoints.SHIPPED)
    stems = {path.stem for path in options.NOTEBOOKS.glob(options.PATTERN)}
    assert {shipped[name]["notebook"] for name in NAMES if name in shipped} <= stems
    numbers = {int(number) for claim in CLAIMS for number in re.findall(r"notebook (\d\d)", claim.note)}
    assert numbers <= set(range(13))


def test_the_table_of_results_is_made_of_shipped_figures():
    shipped = results.results(checkpoints.SHIPPED)
    assert sorted(report.ROWS.keys() - shipped.keys()) == []
    assert set(report.SUMMARY) <= report.ROWS.keys()


# ---- the table ----


def test_table_shows_verdict_figures_and_notebook():
    shown = Claim("it is good", "here", ("tokenizer psnr",), "above 30", "a note")
    later = Claim("later", "here", (), "not yet tested", "notebook 10")
    text = claims.table([shown, later], {"tokenizer psnr": figure(31.5, unit="dB")})
    assert (
        "| it is good<br>*a note* | **confirmed**<br>above 30 | tokenizer psnr: 31.50 dB, n = 100 | [03](03_rec" in text
    )
    assert "| later<br>*notebook 10* | **not yet tested** |  |  |" in text
