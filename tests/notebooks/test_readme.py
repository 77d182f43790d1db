"""The README agrees with the results file, links to files that exist, and shows what notebook 00 draws."""

import re

import nbformat
import pytest

from trajlib.course import options, report, results
from trajlib.zoo import checkpoints

ROOT = options.NOTEBOOKS.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OVERVIEW = options.NOTEBOOKS / "overview.png"


def test_table_is_made_from_the_shipped_figures():
    assert report.fill(README) == README, "stale: python -m trajlib run --update"


def test_each_number_of_the_table_is_a_shipped_figure_rounded():
    """By another way than the code that made the table: the first number of each row against the file."""
    figures = results.results(checkpoints.SHIPPED)
    table = README.split(report.MARKS[0])[1].split(report.MARKS[1])[0]
    lines = dict(re.findall(r"^\| ([^|*]+) \| ([^|]+) \|", table, re.MULTILINE))
    for row in (report.ROWS[name] for name in report.SUMMARY if name in figures):
        printed, share = re.match(r"([-\d.,]+)( %)?", lines[row.label]).groups()
        decimals = len(printed.partition(".")[2])
        value = figures[row.figure]["value"] * (100 if share else 1)
        assert float(printed.replace(",", "")) == pytest.approx(value, abs=0.500001 * 10**-decimals), row.label


def test_every_link_leads_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        targets = re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text(encoding="utf-8"))
        assert targets != []
        local = [target.partition("#")[0] for target in targets if not target.startswith(("https:", "#"))]
        assert [target for target in local if not (ROOT / target).exists()] == []


def test_notebooks_named_exist_and_each_is_named():
    named = set(re.findall(r"notebooks/(\w+\.ipynb)", README))
    assert named == {path.name for path in options.NOTEBOOKS.glob(options.PATTERN)}


@pytest.mark.slow
def test_the_python_of_the_readme_runs():
    """The block after `<!-- python -->`."""
    block = re.search(r"<!-- python -->\n```python\n(.+?)\n```", README, re.DOTALL)[1]
    exec(compile(block, "README.md", "exec"), {})


def test_picture_is_the_one_that_notebook_00_draws():
    nb = nbformat.read(options.NOTEBOOKS / "00_start_here.ipynb", 4)
    assert report.overviews(nb) == [OVERVIEW.read_bytes()]
    assert OVERVIEW.stat().st_size <= 100_000


ENTRY = {"value": 0.9312, "interval": [0.91, 0.95], "baseline": 0.25, "ceiling": None, "n": 1000, "unit": ""}
ENTRY |= {"notebook": "08_classification"}


@pytest.mark.parametrize(
    ("name", "entry", "text"),
    [
        ("x accuracy", ENTRY, "93.1 % (91.0 to 95.0 %), n = 1,000"),
        ("tokenizer psnr", ENTRY | {"value": 38.0, "interval": None, "unit": "dB"}, "38.00 dB, n = 1,000"),
        ("codes", ENTRY | {"value": 1234, "interval": None, "n": 1}, "1,234"),
        ("bits", ENTRY | {"value": 1233.1, "interval": None, "n": 1}, "1,233"),
        ("check/it is so", ENTRY | {"value": True, "interval": None, "n": 1}, "True"),
    ],
)
def test_figures_are_printed_by_kind(name, entry, text):
    assert report.with_interval(name, entry) == text


def test_tables_mark_missing_figures_and_show_others():
    assert report.headline({}).count(report.MISSING) == len(report.ROWS)
    assert report.summary({}).count(report.MISSING) == len(report.SUMMARY)
    one = report.headline({"simple_3dcnn accuracy": ENTRY}, "notebooks/")
    assert "| 93.1 % (91.0 to 95.0 %), n = 1,000 | chance: 25.0 % | – | [08](notebooks/08_class" in one


def test_fill_changes_the_table_and_nothing_else():
    text = f"before\n{report.MARKS[0]}\nof last year\n{report.MARKS[1]}\nafter\n"
    filled = report.fill(text, {})
    assert filled.startswith("before\n")
    assert filled.endswith("\nafter\n")
    assert "of last year" not in filled
    assert report.fill(filled, {}) == filled


def test_overview_is_found_by_its_tag():
    output = nbformat.v4.new_output("display_data", data={"image/png": "AAEC", "text/plain": "x"})
    cell = nbformat.v4.new_code_cell("figure()", outputs=[output], metadata={"tags": ["overview"]})
    other = nbformat.v4.new_code_cell("figure()", outputs=[output])
    assert report.overviews(nbformat.v4.new_notebook(cells=[other, cell])) == [b"\x00\x01\x02"]
