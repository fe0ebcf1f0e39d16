"""The documents name files and pages that exist, and make a site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FILES = {
    str(file.relative_to(ROOT))
    for folder in ("mpt", "tests", "bench", "fuzz", "conf", "twisted")
    for file in (ROOT / folder).rglob("*")
} | {file.name for file in ROOT.iterdir()}
FORBIDDEN = {"twisted/__init__.py"}  # CONTRIBUTING says that there must be none
FILE_NAME = re.compile(r"[\w./-]*\w\.(?:py|pyi|h|c)\b(?!\.)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


def anchors(document: Path) -> set[str]:
    """Return how GitHub's links call the headings of a document."""
    headings = HEADING.findall(document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@documents
def test_every_source_file_that_a_document_names_exists(document: Path) -> None:
    """A name may leave out the folders that its sentence is about, such as ``egress.c``."""
    named = set(FILE_NAME.findall(re.sub(r"::ffff:[\w.]+", "", document.read_text(encoding="utf-8"))))
    named -= {"../" + name for name in FILES} | {"stage.py"} | FORBIDDEN  # stage.py: the reader saves it
    assert [name for name in sorted(named) if not any(("/" + file).endswith("/" + name) for file in FILES)] == []


def test_architecture_names_every_module_and_no_other() -> None:
    """By its place below mpt, or by its name in the row of its package."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    places = {
        str(file.relative_to(ROOT / "mpt").with_suffix(""))
        for file in (ROOT / "mpt").rglob("*.py")
        if file.name != "__init__.py"
    }
    in_rows = {
        f"{package}/{name}"
        for package, row in re.findall(r"^\| `([a-z/]+)` \| (.*) \|$", text, re.MULTILINE)
        for name in re.findall(r"`([a-z_]+)`", row)
    }
    assert in_rows - places == set()
    unnamed = [place for place in places - in_rows if not re.search(rf"(?<![\w/-]){place}\b(?!/)", text)]
    assert sorted(unnamed) == []


@documents
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    """Its file exists, and has the heading that is linked to."""
    missing = []
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        name, _, heading = link.partition("#")
        target = document.parent / name if name else document
        if "://" not in link and not (target.exists() and (not heading or heading in anchors(target))):
            missing.append(link)
    assert missing == []


@pytest.mark.build
def test_the_documents_make_a_site(tmp_path: Path) -> None:
    """Without a warning: each page is in the contents, each link and picture leads somewhere."""
    command = (sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", ROOT / "docs", tmp_path)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages <= {page.stem for page in tmp_path.glob("*.html")}
