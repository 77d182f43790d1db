"""Executed notebooks as a web site: built by Sphinx with MyST-NB and the Furo theme, from outputs as they are stored.

A page asks no other host for anything, and opens from a folder as well as from a server: formulas become MathML,
pictures are files with alternative text, and plotly's script is there once, on the pages that need it.
"""

import base64
import html
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from latex2mathml.converter import convert as mathml
from PIL import Image

from trajlib.course.fingerprints import WIDGET, WIDGET_NOTE

PLOTLY = "application/vnd.plotly.v1+json"
ASSETS = Path(__file__).parent / "assets"
TITLE = "trajlib: videos as tokens"
CONFIG = {
    "project": "trajlib",
    "extensions": ["myst_nb", __name__],
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_render_markdown_format": "myst",
    "nb_ipywidgets_js": {},
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "html_math_renderer": "mathml",
    "html_theme": "furo",
    "html_title": TITLE,
    "html_static_path": ["assets"],
    "html_extra_path": ["public"],
    "html_favicon": "assets/icon.svg",
    "html_css_files": ["pages.css"],
    "html_js_files": [("pages.js", {"defer": "defer"})],
    "html_copy_source": False,
    "html_use_index": False,
    "html_show_sphinx": False,
    "html_show_copyright": False,
}
FIGURE = (
    '<figure class="shown"><a href="{file}"><img src="{file}" alt="{alt}" {size} loading="lazy"{still}></a></figure>'
)
TURNING = (
    '<div class="plotly-figure" role="img" aria-label="{alt}"><script type="application/json">{json}</script></div>'
)
UNIT = re.compile(r"(?<=\d) (?=(?:%|dB|px|bits?|s)(?!\w))")
RANGE = re.compile(r"(?<=\d)–(?=\d)")
FRONT = """\
{about}

## The course

| notebook | last run |
|---|---|
{rows}

{summary}

```{{toctree}}
:hidden:

{names}
```
"""


class Page(NamedTuple):
    """One notebook of the site: its file with outputs, and what the front page says of its last run."""

    notebook: Path
    run: str = ""


def build(out: Path, pages: list[Page], summary: str, readme: Path, pictures: Path) -> list[str]:
    """Write the site of these pages to the folder `out`, which is replaced; returns the warnings, one line each.

    The front page begins as `readme` does, and takes each notebook's question from its table. Pictures that pages link
    to are in `pictures`.
    """
    with tempfile.TemporaryDirectory(prefix="trajlib-site-", dir=out.parent) as work:
        source, public = Path(work, "source"), Path(work, "source", "public")
        shutil.copytree(ASSETS, source / "assets")
        for folder in ("figures", "notebooks"):
            (public / folder).mkdir(parents=True)
        for page in pages:
            shutil.copy(page.notebook, public / "notebooks")
            nb = nbformat.read(page.notebook, 4)
            if prepare(nb, page.notebook.stem, public):
                _add_plotly(source / "assets")
            nbformat.write(nb, source / page.notebook.name)
        for picture in pictures.glob("*.png"):
            shutil.copy(picture, source)
        text = readme.read_text(encoding="utf-8") if readme.exists() else f"# {TITLE}"
        (source / "index.md").write_text(front_page(text, pages, summary), encoding="utf-8")
        warnings = _sphinx(source, Path(work, "html"), Path(work, "doctrees"))
        shutil.rmtree(out, ignore_errors=True)
        Path(work, "html").rename(out)
    return warnings


def _sphinx(source: Path, out: Path, doctrees: Path) -> list[str]:
    from sphinx.application import Sphinx  # these take seconds to import, and no other command needs them
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    said = io.StringIO()
    with patch_docutils(source), docutils_namespace():
        Sphinx(source, None, out, doctrees, "html", CONFIG, status=None, warning=said).build(force_all=True)
    (out / ".buildinfo").unlink(missing_ok=True)
    plain = re.sub(r"\x1b\[[\d;]*m", "", said.getvalue()).replace(f"{source}/", "")
    return [line for line in plain.splitlines() if line.strip()]


# ---- the parts of a page ----


def prepare(nb: nbformat.NotebookNode, name: str, public: Path) -> bool:
    """Make the outputs of `nb` HTML that stands by itself, in place; pictures become files in `public`/figures.

    True when a figure needs plotly's script.
    """
    section, count, plotly = "", 0, False
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            section = [section, *re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)][-1]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                script = json.dumps(data[PLOTLY]).replace("</", "<\\/")  # JSON that may stand inside a <script>
                alt = html.escape(alternative(cell, output, PLOTLY, section))
                output["data"], plotly = {"text/html": TURNING.format(alt=alt, json=script)}, True
            elif WIDGET in data:
                output["data"] = {"text/plain": WIDGET_NOTE}
            elif "image/png" in data:
                count += 1
                alt = alternative(cell, output, "image/png", section)
                file = public / "figures" / f"{name}-{count}.png"
                output["data"] = {"text/html": _figure(base64.b64decode(data["image/png"]), file, alt)}
    return plotly


def alternative(cell: dict[str, Any], output: dict[str, Any], kind: str, section: str) -> str:
    """The text for those who cannot see a figure: its section, and what its cell or the figure itself says of it."""
    metadata = output.get("metadata", {})
    own = cell.get("metadata", {}).get("alt") or metadata.get(kind, {}).get("alt") or metadata.get("alt")
    return f"{plain(section)}. {own}" if own else f"Figure of the section “{plain(section)}”"


def plain(markdown: str) -> str:
    """Markdown without its marks and the targets of its links."""
    return re.sub(r"[*`$\\]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown))


def _figure(png: bytes, file: Path, alt: str) -> str:
    """HTML of a picture that is written to `file`, and its first frame next to it if it moves."""
    file.write_bytes(png)
    with Image.open(io.BytesIO(png)) as image:
        size, still = f'width="{image.width}" height="{image.height}"', ""
        if getattr(image, "n_frames", 1) > 1:
            first = file.with_stem(f"{file.stem}-still")
            image.convert("RGB").save(first, optimize=True)
            still = f' data-still="figures/{first.name}"'
    return FIGURE.format(file=f"figures/{file.name}", alt=html.escape(alt), size=size, still=still)


def front_page(readme: str, pages: Iterable[Page], summary: str) -> str:
    """MyST: the beginning of the README, and what each notebook asks, needs, and took."""
    about = readme.split("\n## ")[0].replace("(notebooks/", "(")
    questions = dict(re.findall(r"\(notebooks/(\w+)\.ipynb\) \| ([^|]+) \|", readme))
    rows = [_row(page, questions.get(page.notebook.stem, "")) for page in pages]
    names = "\n".join(page.notebook.stem for page in pages)
    return FRONT.format(about=about.strip(), rows="\n".join(rows), summary=summary, names=names)


def _row(page: Page, question: str) -> str:
    name, (title, needs) = page.notebook.stem, title_and_needs(page.notebook)
    load = f'<a href="notebooks/{name}.ipynb" download>download</a>'
    cells = f"**[{title}]({name}.ipynb)**<br>{question}" + f"<br>Needs {needs}" * bool(needs), f"{page.run}<br>{load}"
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ").strip() for cell in cells) + " |"


def title_and_needs(notebook: Path) -> tuple[str, str]:
    """The first heading, without its mark (the file's name if there is none), and the text after "**Needs**"."""
    text = "\n".join(cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    needs = re.search(r"\*\*Needs\*\* (.+?)(?=\s*\*\*(?:Makes|Takes)|\n\n|\Z)", text, re.DOTALL)
    return title[1].strip() if title else notebook.stem, needs[1] if needs else ""


# ---- the extension of Sphinx ----


def setup(app) -> dict[str, Any]:
    """Called by Sphinx: formulas as MathML, units next to their numbers, plotly's script where a figure needs it."""
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_block_formula, None))
    app.connect("html-page-context", _use_plotly)
    app.connect("doctree-resolved", _keep_units)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _keep_units(app, doctree, docname) -> None:
    """In tables, whose columns are narrow, no line ends between a number and its unit, or within a range."""
    from docutils.nodes import Text, entry

    for cell in doctree.findall(entry):
        for text in list(cell.findall(Text)):
            text.parent.replace(text, Text(RANGE.sub("\u2060–\u2060", UNIT.sub("\u00a0", text))))


def _inline_formula(translator, node) -> None:
    _formula(translator, node, "inline")


def _block_formula(translator, node) -> None:
    _formula(translator, node, "block")


def _formula(translator, node, display: str) -> None:
    from docutils.nodes import SkipNode

    text = formula(node.astext(), display)
    translator.body.append(text if display == "inline" else f'<div class="formula">{text}</div>')
    raise SkipNode


def formula(tex: str, display: str) -> str:
    """TeX as MathML; TeX that the converter does not know stays readable as code."""
    try:
        return mathml(tex.strip(), display=display)
    except Exception:
        return f"<code>{html.escape(tex)}</code>"


def _use_plotly(app, pagename, templatename, context, doctree) -> None:
    if 'class="plotly-figure"' in context.get("body", ""):
        app.add_js_file("plotly.min.js", priority=100, defer="defer")


def _add_plotly(assets: Path) -> None:
    from plotly.offline import get_plotlyjs

    (assets / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
