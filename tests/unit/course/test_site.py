"""The site of the committed notebooks, read as files: links, pictures, formulas, hosts, size."""

import base64
import io
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlparse

import nbformat
import numpy as np
import pytest
from course_notebooks import write_notebook
from PIL import Image

from trajlib import plots
from trajlib.course import options, site

NAMES = [path.stem for path in sorted(options.NOTEBOOKS.glob(options.PATTERN))]
LOADED = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
}  # what a page asks for itself


class Tags(HTMLParser):
    """All start tags of a page: (name, attributes)."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def pages(exported):
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(exported.glob("*.html"))}


@pytest.fixture(scope="module")
def tags(pages):
    return {name: Tags(text).found for name, text in pages.items()}


pytestmark = pytest.mark.slow


def test_every_notebook_has_a_page_and_the_front_page_lists_it(pages):
    assert set(pages) == {*NAMES, "index", "search"}
    for name in NAMES:
        assert f'href="{name}.html"' in pages["index"]
        title = re.search(r"<title>(.*?) - trajlib", pages[name])[1]
        assert title == site.title_and_needs(options.NOTEBOOKS / f"{name}.ipynb")[0]
    assert "overview.png" in pages["index"]
    assert pages["index"].count("41\u00a0s") == len(NAMES)  # no break between number and unit


def test_every_link_leads_to_a_file_and_none_of_a_page_to_a_notebook(exported, tags):
    broken = []
    for name, found in tags.items():
        for tag, attrs in found:
            url = urlparse(attrs.get("href") or attrs.get("src") or "")
            if not url.scheme and url.path and not (exported / unquote(url.path)).exists():
                broken.append(f"{name}: {url.path}")
            if tag == "a" and url.path.endswith(".ipynb") and "download" not in attrs:
                broken.append(f"{name}: {url.path} is no page")
    assert broken == []


def test_every_link_within_a_page_has_its_target(tags):
    for name, found in tags.items():
        ids = {attrs.get("id") for _, attrs in found}
        assert [
            a["href"] for t, a in found if t == "a" and re.match("#.", a.get("href", "")) and a["href"][1:] not in ids
        ] == [], name


def test_previous_and_next_lead_through_the_course(pages):
    for before, name, after in zip(["index", *NAMES], NAMES, [*NAMES[1:], None], strict=False):
        assert '<link rel="prev" title="' in pages[name]
        assert re.search(rf'<link rel="prev" title="[^"]+" href="{before}.html"', pages[name])
        assert after is None or re.search(rf'<link rel="next" title="[^"]+" href="{after}.html"', pages[name])


def test_nothing_is_asked_of_another_host(exported, tags):
    asked = [
        (name, attrs[LOADED[tag]])
        for name, found in tags.items()
        for tag, attrs in found
        if tag in LOADED and re.match(r"(https?:)?//", attrs.get(LOADED[tag]) or "")
    ]
    assert asked == []
    for sheet in exported.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_every_picture_says_what_it_shows(tags):
    count = 0
    for name, found in tags.items():
        for attrs in (attrs for tag, attrs in found if tag == "img"):
            count += 1
            assert len(attrs.get("alt") or "") >= 10, (name, attrs)
            assert not attrs["alt"].endswith(".png"), name
    assert count > 50


def test_plotly_is_there_once_and_only_where_it_is_needed(exported, pages):
    assert [path.name for path in exported.rglob("*plotly*.js")] == ["plotly.min.js"]
    for name, text in pages.items():
        assert ("plotly.min.js" in text) == ('class="plotly-figure"' in text), name
    assert any('class="plotly-figure"' in text for text in pages.values())


def test_formulas_are_mathml(pages):
    assert "<math" in pages["01_data_generation"]
    assert not any(
        "MathJax" in text or r"\(" in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL) for text in pages.values()
    )


def test_the_site_is_small(exported):
    assert sum(path.stat().st_size for path in exported.rglob("*") if path.is_file()) <= 30e6


# ---- parts ----


def moving() -> str:
    frames = [Image.new("RGB", (8, 4), shade) for shade in ("white", "red")]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], duration=100, loop=0)
    return base64.b64encode(file.getvalue()).decode()


def notebook(**metadata):
    output = nbformat.v4.new_output("display_data", data={"image/png": moving()}, metadata=metadata)
    cells = [nbformat.v4.new_markdown_cell("# A *title*"), nbformat.v4.new_code_cell("x", outputs=[output])]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def public(tmp_path):
    (tmp_path / "figures").mkdir()
    return tmp_path


def test_an_animation_has_a_still(public):
    nb = notebook()
    assert not site.prepare(nb, "01", public)
    assert 'data-still="figures/01-1-still.png"' in nb.cells[1].outputs[0].data["text/html"]
    with Image.open(public / "figures/01-1-still.png") as still:
        assert still.n_frames == 1
        assert still.getpixel((0, 0)) == (255, 255, 255)


def test_alternative_text_comes_from_the_figure_then_from_its_section(public):
    for metadata, text in (
        ({"image/png": {"alt": 'a "dot"'}}, "A title. a &quot;dot&quot;"),
        ({}, "the section “A title”"),
    ):
        nb = notebook(**metadata)
        site.prepare(nb, "01", public)
        assert text in nb.cells[1].outputs[0].data["text/html"]
    nb.cells[1].metadata["alt"] = "by hand"
    output = notebook().cells[1].outputs[0]
    assert site.alternative(nb.cells[1], output, "image/png", "A") == "A. by hand"


def test_a_figure_describes_itself():
    fig, axes = plots.figure(1, 2)
    axes[0].plot([1, 2], label="ours")
    axes[0].legend()
    axes[1].set(title="errors", xlabel="frame", ylabel="px")
    assert fig._repr_png_()[1] == {"alt": "errors. across: frame. down: px. legend: ours"}
    strip = plots.film_strip(np.zeros((2, 3, 4, 8, 8), np.uint8), titles=["a\nclip", "another"])
    assert plots.description(strip) == (
        "Film strip: 2 rows of frames, from left to right. across: frame. down: a clip; another"
    )
    headed = plots.film_strip(np.zeros((2, 3, 4, 8, 8), np.uint8), heading="what\nto see")
    assert plots.description(headed).startswith("Film strip: 2 rows of frames, from left to right; what to see. ")
    assert headed.get_figheight() > plots.film_strip(np.zeros((2, 3, 4, 8, 8), np.uint8)).get_figheight()


def test_a_formula_that_is_none_stays_readable():
    assert site.formula("x^2", "inline").startswith("<math")
    assert site.formula(r"a^b^c<", "inline") == "<code>a^b^c&lt;</code>"


def test_a_link_to_nowhere_is_reported(tmp_path):
    path = write_notebook(tmp_path / "nb", "01_alone")
    nb = nbformat.read(path, 4)
    nb.cells.append(nbformat.v4.new_markdown_cell("[there](09_missing.ipynb)"))
    nbformat.write(nb, path)
    (warning,) = site.build(tmp_path / "site", [site.Page(path)], "", tmp_path / "README.md", tmp_path / "nb")
    assert "09_missing" in warning


def test_no_line_of_a_table_ends_between_a_number_and_its_unit_or_within_a_range(tmp_path):
    path = write_notebook(tmp_path / "nb", "01_alone")
    nb = nbformat.read(path, 4)
    table = "| share | words |\n|---|---|\n| 25.0 % (24.1 to 26.0 %), 3 dB, (99–100) | 5 sizes, 2 pxs |\n"
    nb.cells.append(nbformat.v4.new_markdown_cell(f"{table}\n`25 %` and 25 %"))
    nbformat.write(nb, path)
    site.build(tmp_path / "site", [site.Page(path)], "", tmp_path / "README.md", tmp_path / "nb")
    page = (tmp_path / "site" / "01_alone.html").read_text(encoding="utf-8").replace("&#160;", "\u00a0")
    assert "25.0\u00a0% (24.1 to 26.0\u00a0%), 3\u00a0dB" in page
    assert "99\u2060–\u2060100" in page  # nor within a range
    assert "5 sizes, 2 pxs" in page
    assert "and 25 %" in page
