"""Executed notebooks as web pages that ask the network for nothing, and the index of a run.

The stock exporter of nbconvert loads require.js, MathJax, mermaid and the widget manager from other people's servers.
Here formulas become MathML, plotly's script is written into the pages that use it, and controls become a note.
"""

import html
import json
import logging
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from latex2mathml.converter import convert as mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from trajlib.stamps import WIDGET, WIDGET_NOTE

PLOTLY = "application/vnd.plotly.v1+json"
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}
{%- if resources.plotly_js -%}<script>{{ resources.plotly_js }}</script>{%- endif -%}
{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""
FIGURE = """<div id="plotly-{i}"></div><script>(f => Plotly.newPlot("plotly-{i}", f.data, f.layout,
Object.assign({{responsive: true, displaylogo: false}}, f.config || {{}})))({json});</script>"""
INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .4rem .8rem; border-bottom: 1px solid #ddd; vertical-align: top; }}
td.time {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
tr.failed {{ background: #fdecea; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<table><tr><th>Notebook</th><th>Title</th><th>Time</th><th>Status</th><th>Open</th></tr>
{rows}
</table></body></html>
"""


class _MathRenderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers draw by themselves."""

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")

    def block_math(self, body: str) -> str:
        return _formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return _formula(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


class _Exporter(HTMLExporter):
    def markdown2html(self, context, source):
        """nbconvert's filter, with our renderer."""
        renderer = _MathRenderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=True,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            anchor_link_text=self.anchor_link_text,
        )
        return MarkdownWithMath(renderer=renderer).render(source)

    markdown2html.jinja_pass_arg = HTMLExporter.markdown2html.jinja_pass_arg


def _formula(tex: str, display: str) -> str:
    """TeX as MathML; TeX that the converter does not know stays readable as code."""
    try:
        return mathml(tex.strip(), display=display)
    except Exception:
        return f"<code>{html.escape(tex)}</code>"


def _prepare(nb: nbformat.NotebookNode) -> bool:
    """Make outputs stand without a network, in place; True when a figure needs plotly's script."""
    figures = 0
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                script = json.dumps(data[PLOTLY]).replace("</", "<\\/")  # JSON that may stand inside a <script>
                output["data"] = {"text/html": FIGURE.format(i=figures, json=script)}
                figures += 1
            elif WIDGET in data:
                output["data"] = {"text/plain": WIDGET_NOTE}
            elif "text/latex" in data:
                data["text/html"] = _formula("".join(data.pop("text/latex")).strip("$\n "), "block")
    return figures > 0


def write_page(notebook: Path, page: Path, images: Path) -> None:
    """Write the executed `notebook` as one self-contained HTML file; it finds the pictures it links to in `images`."""
    nb = nbformat.read(notebook, 4)
    resources = {"metadata": {"name": notebook.stem, "path": str(images)}, "plotly_js": ""}
    if _prepare(nb):
        from plotly.offline import get_plotlyjs

        resources["plotly_js"] = get_plotlyjs().replace("</script", "<\\/script")
    exporter = _Exporter(
        config=Config(HTMLExporter={"template_file": "offline.html.j2", "embed_images": True}),
        extra_loaders=[DictLoader({"offline.html.j2": TEMPLATE})],
    )
    exporter.log = logging.getLogger("trajlib.pages")  # nbconvert warns of each picture without a description
    exporter.log.setLevel(logging.ERROR)
    text, _ = exporter.from_notebook_node(nb, resources=resources)
    page.write_text(text, encoding="utf-8")


def title_of(notebook: Path) -> str:
    """The first heading, without its mark; the file's name when there is none."""
    for cell in nbformat.read(notebook, 4).cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            if line.startswith("# "):
                return line[2:].strip()
    return notebook.stem


def write_index(out: Path, title: str, summary: str, rows: list[dict[str, str]]) -> None:
    """`out`/index.html: one row per notebook; a row has name, title, time, status."""
    text = "\n".join(_row(out, row) for row in rows)
    page = INDEX.format(title=html.escape(title), summary=html.escape(summary), rows=text)
    (out / "index.html").write_text(page, encoding="utf-8")


def _row(out: Path, row: dict[str, str]) -> str:
    safe = {key: html.escape(value) for key, value in row.items()}
    files = {f"{row['name']}.html": "page", f"{row['name']}.ipynb": "notebook"}
    links = " · ".join(
        f'<a href="{html.escape(file)}">{word}</a>' for file, word in files.items() if (out / file).exists()
    )
    mark = "" if row["status"] == "ok" else ' class="failed"'
    return (
        f'<tr{mark}><td>{safe["name"]}</td><td>{safe["title"]}</td><td class="time">{safe["time"]}</td>'
        f"<td>{safe['status']}</td><td>{links}</td></tr>"
    )
