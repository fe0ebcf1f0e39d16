"""How Sphinx makes a site of these pages, which read well without, too: ``sphinx-build -W docs build/docs``."""

from __future__ import annotations

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import mpt

project = "mpt"
author = "the mpt authors"
copyright = "2026, the mpt authors"
release = version = mpt.__version__

extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["README.md"]  # the same list for those who read the pages in a checkout
html_theme = "furo"
html_title = f"mpt {release}"
myst_heading_anchors = 4  # links to headings, as in a checkout
suppress_warnings = ["myst.header"]


def setup(app: Sphinx) -> None:
    """Let the blocks of octets, which tests read, stand as they are."""
    app.add_lexer("hex", TextLexer)
