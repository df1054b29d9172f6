"""The documentation site: ``make docs`` writes docs/_build/html.

The source folder is the root of the repository, so that README, CHANGELOG and the reports below experiments/ are pages
too and links between them work here as they do in the checkout. Nothing is fetched: formulas become MathML, which
browsers draw themselves, and pages need no network.
"""

from __future__ import annotations

import importlib.metadata
import re
import typing
from pathlib import Path

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx

project = "homodyne"
author = "The homodyne developers"
project_copyright = "The homodyne developers"
release = importlib.metadata.version("homodyne")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "experiments/**/README.md"]
exclude_patterns = [".venv", ".git", "outputs", "build", "dist", "docs/_build", "**/.*_cache", "**/__pycache__"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

autodoc_typehints = "none"  # the docstrings tell shapes and units, which types do not
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"homodyne {release}"
html_math_renderer = "mathml"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["homodyne.css"]
# links from a page to a script or a folder of the checkout open the file itself
myst_url_schemes = ("http", "https", "mailto")


def mathml_inline(writer: typing.Any, node: nodes.math) -> None:
    """A formula within a line."""
    writer.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def mathml_block(writer: typing.Any, node: nodes.math_block) -> None:
    """A formula of its own, which scrolls where it is wider than the page."""
    formula = latex2mathml.converter.convert(node.astext(), display="block")
    writer.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def plain_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are written to be read in the source; say to napoleon what it would misunderstand.

    ``a, b: text`` below Attributes describes two of them. What stands before a colon in the first line of a property, or
    in a sentence below Returns, is no type.
    """
    if what in ("property", "attribute") and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)
    section = ""
    out: list[str] = []
    for line in lines:
        if re.fullmatch(r"(Args|Attributes|Returns|Raises):", line):
            section = line
        several = re.match(r"(    )(\w+(?:, \w+)+)(: .*)", line) if section == "Attributes:" else None
        if several:
            first, *others = several.group(2).split(", ")
            out += [f"    {one}: see {others[-1]}" for one in (first, *others[:-1])]
            line = f"    {others[-1]}{several.group(3)}"
        if section == "Returns:" and re.match(r"    \w+[.;,]? \w+.*: ", line):
            line = line.replace(": ", " – ", 1)
        # |g1| is a modulus, and no substitution
        out.append(line if "`" in line else line.replace("|", r"\|"))
    lines[:] = out


def door(app: Sphinx, error: Exception | None) -> None:
    """index.html beside the folders, which leads to the first page."""
    if error is None and app.builder.format == "html":
        target = "docs/index.html"
        (Path(app.outdir) / "index.html").write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={target}"><a href="{target}">homodyne</a>\n'
        )


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (mathml_inline, None), (mathml_block, None))
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)  # before napoleon
    app.connect("build-finished", door)
