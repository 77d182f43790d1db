"""Verdicts follow from figures: each rule on figures chosen for it, and every claim has what its verdict needs."""

import pytest

from trajlib import claims, course, pretrained, report
from trajlib.claims import CLAIMS, Claim, verdict


def figure(value, low=None, high=None, **facts):
    entry = {"value": value, "interval": None if low is None else [low, high], "baseline": None, "ceiling": None}
    return entry | {"n": 100, "unit": "", "notebook": "03_reconstruction_analysis"} | facts


@pytest.mark.parametrize(
    ("rule", "figures", "expected"),
    [
        (claims.above(30), [figure(31, 30.5, 31.5)], "confirmed"),
        (claims.above(30), [figure(31, 29.5, 32.5)], "undecided"),
        (claims.above(30), [figure(29, 28, 29.9)], "refuted"),
        (claims.above(30), [figure(31)], "confirmed"),
        (claims.below(25), [figure(24)], "confirmed"),
        (claims.below(25), [figure(26)], "refuted"),
        (claims.above_baseline, [figure(0.5, 0.4, 0.6, baseline=0.25)], "confirmed"),
        (claims.above_baseline, [figure(0.5, 0.2, 0.6, baseline=0.25)], "undecided"),
        (claims.above_baseline, [figure(0.5)], report.MISSING),
        (claims.higher, [figure(0.9, 0.88, 0.92), figure(0.8, 0.78, 0.82)], "confirmed"),
        (claims.higher, [figure(0.9, 0.8, 0.95), figure(0.85, 0.8, 0.9)], "undecided"),
        (claims.higher, [figure(0.8, 0.78, 0.82), figure(0.9, 0.88, 0.92)], "refuted"),
        (claims.lower, [figure(2.0), figure(3.0)], "confirmed"),
        (claims.highest, [figure(0.9, 0.88, 0.92), figure(0.8, 0.78, 0.82), figure(0.7, 0.6, 0.8)], "confirmed"),
        (claims.highest, [figure(0.9, 0.88, 0.92), figure(0.8, 0.78, 0.82), figure(0.9, 0.88, 0.92)], "undecided"),
        (claims.highest, [figure(0.9, 0.88, 0.92), figure(0.95, 0.93, 0.97), figure(0.9, 0.8, 0.9)], "refuted"),
        (claims.faster_by(60), [figure(61), figure(70)], "confirmed"),
        (claims.faster_by(60), [figure(5), figure(0.7)], "corrected"),
        (claims.faster_by(60), [figure(0.9), figure(0.7)], "refuted"),
        (claims.costs_at_most(0.02), [figure(0.9, 0.895, 0.905), figure(0.905, 0.9, 0.91)], "confirmed"),
        (claims.costs_at_most(0.02), [figure(0.8, 0.79, 0.81), figure(0.9, 0.89, 0.91)], "refuted"),
        (claims.exactly(384), [figure(128)], "corrected"),
        (claims.exactly(0.925), [figure(0.93, 0.91, 0.95)], "confirmed"),
        (claims.share_of_ceiling(0.99), [figure(995, ceiling=1000)], "confirmed"),
        (claims.share_of_ceiling(0.99), [figure(600, ceiling=1000)], "refuted"),
        (claims.share_of_ceiling(0.99), [figure(600)], report.MISSING),
        (claims.only_chance(0.25, 0.03), [figure(0.26)], "corrected"),
        (claims.only_chance(0.25, 0.03), [figure(0.4)], "undecided"),
        (claims.any_gain, [figure(-1, -2, -0.5), figure(1, 0.5, 2)], "confirmed"),
        (claims.any_gain, [figure(-1, -2, -0.5), figure(0, -1, 1)], "undecided"),
        (claims.any_gain, [figure(-1, -2, -0.5), figure(-1, -2, -0.5)], "refuted"),
        (claims.beats_at_fewer_bits, [*map(figure, (1, 2)), figure(38, 37, 39), *map(figure, (36, 0, 1))], "confirmed"),
        (claims.beats_at_fewer_bits, [*map(figure, (1, 2)), figure(35, 34, 35), *map(figure, (36, 0, 1))], "undecided"),
        (claims.beats_at_fewer_bits, [*map(figure, (3, 2)), figure(38, 37, 39), *map(figure, (36, 0, 1))], "undecided"),
        (claims.beats_at_fewer_bits, [*map(figure, (1, 2)), figure(38, 37, 39), *map(figure, (36, 1, 0))], "undecided"),
        (claims.far_above_baseline, [figure(0.8, 0.7, 0.9, baseline=0.2, ceiling=1.0)], "confirmed"),
        (claims.far_above_baseline, [figure(0.6, 0.5, 0.7, baseline=0.2, ceiling=1.0)], "undecided"),
        (claims.far_above_baseline, [figure(0.4, 0.3, 0.5, baseline=0.2, ceiling=1.0)], "corrected"),
        (claims.far_above_baseline, [figure(0.2, 0.1, 0.3, baseline=0.2, ceiling=1.0)], "undecided"),
        (claims.far_above_baseline, [figure(0.1, 0.05, 0.15, baseline=0.2, ceiling=1.0)], "refuted"),
        (claims.by_all(claims.above(0)), [figure(1), figure(2)], "confirmed"),
        (claims.by_all(claims.above(0)), [figure(1), figure(-2)], "undecided"),
        (claims.by_all(claims.above(0)), [figure(-1), figure(-2)], "refuted"),
        (claims.told_first, [figure(2, 1.9, 2.1), figure(1, 0.9, 1.1)], "confirmed"),
        (claims.told_first, [figure(1, 0.9, 1.1), figure(2, 1.9, 2.1)], "corrected"),
        (claims.told_first, [figure(0.1, 0.06, 0.2, baseline=0.3), figure(0, -0.1, 0.0)], "refuted"),
        (claims.by_one_or_by_two, [figure(0.5, 0.4, 0.6, baseline=-0.1), figure(0.7, 0.6, 0.8)], "confirmed"),
        (claims.by_one_or_by_two, [figure(0, -0.1, 0.1), figure(0.7, 0.6, 0.8)], "corrected"),
        (claims.by_one_or_by_two, [figure(0, -0.1, 0.1), figure(0, -0.1, 0.04)], "refuted"),
        (claims.by_all_together, [figure(0.5, 0.4, 0.6), figure(0.9), figure(0.25)], "confirmed"),
        (claims.by_all_together, [figure(0, -0.1, 0.1), figure(0.9), figure(0.25)], "corrected"),
        (claims.by_all_together, [figure(0, -0.1, 0.1), figure(0.25), figure(0.25)], "refuted"),
        (claims.alone_or_planned(claims.above(0.9)), [figure(0.7, 0.6, 0.8), figure(0.97, 0.95, 0.98)], "corrected"),
        (claims.alone_or_planned(claims.above(0.9)), [figure(0.95, 0.93, 0.97), figure(0.5, 0.4, 0.6)], "confirmed"),
        (claims.alone_or_planned(claims.above(0.9)), [figure(0.7, 0.6, 0.8), figure(0.8, 0.7, 0.85)], "refuted"),
        (claims.holds, [figure(True)], "confirmed"),
        (claims.holds, [figure(False)], "corrected"),
    ],
)
def test_rules(rule, figures, expected):
    assert rule(*figures) == expected


def test_nothing_is_judged_without_its_figures():
    claim = Claim("x", "y", ("a", "b"), claims.higher)
    assert verdict(claim, {"a": figure(1)}) == report.MISSING
    assert verdict(claim, {"a": figure(1), "b": figure(0)}) == "confirmed"
    assert verdict(Claim("x", "y", by="06_generation"), {}) == "not yet tested"


def test_claims_are_whole():
    assert len({claim.said for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert bool(claim.rule) != bool(claim.by), f"{claim.said}: either a rule, or the notebook that will test it"
        if claim.rule in (claims.is_so, claims.is_otherwise):
            assert claim.note, f"{claim.said}: a verdict without a figure needs its source"
        assert claim.rule in (claims.is_so, claims.is_otherwise) or claim.figures or claim.by


def test_every_claim_is_judged_with_figures_and_without():
    names = {name for claim in CLAIMS for name in claim.figures}
    everything = {name: figure(0.5, 0.4, 0.6, baseline=0.25, ceiling=1.0) for name in names}
    for evidence in ({}, everything):
        assert {verdict(claim, evidence) for claim in CLAIMS} <= set(claims.VERDICTS)
    assert report.MISSING not in {verdict(claim, everything) for claim in CLAIMS}


def test_checks_that_claims_need_are_made_in_the_report():
    report_notebook = (course.NOTEBOOKS / "09_report.ipynb").read_text(encoding="utf-8")
    needed = {name for claim in CLAIMS for name in claim.figures if name.startswith("check/")}
    assert [name for name in sorted(needed) if f'\\"{name.removeprefix("check/")}\\"' not in report_notebook] == []


def test_table_shows_verdict_figures_and_place():
    shown = Claim("it is good", "here", ("tokenizer psnr",), claims.above(30), "a note")
    later = Claim("later", "here", by="06_generation")
    text = claims.table([shown, later], {"tokenizer psnr": figure(31.5, unit="dB")})
    assert "| it is good<br>*a note* | **confirmed** | tokenizer psnr: 31.50 dB, n = 100 | [03](03_rec" in text
    assert "| later | **not yet tested** |  | 06, to come |" in text


def test_shipped_figures_cover_the_headline_and_the_claims():
    shipped = pretrained.results(pretrained.SHIPPED)
    headline = {row.figure for rows in report.HEADLINE.values() for row in rows}
    needed = {name for claim in CLAIMS for name in claim.figures if not name.startswith("check/")}
    assert sorted((headline | needed) - shipped.keys()) == []
