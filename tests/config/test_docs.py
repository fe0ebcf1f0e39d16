"""docs/configuration.md says what the schema says."""

from __future__ import annotations

import pytest

from mpt.config import schema
from tests.config.tables import DOCS, table


@pytest.mark.parametrize("kind", schema.SECTIONS)
def test_the_documentation_has_the_row_of_every_key(kind: str) -> None:
    """Every key stands in the table of its section with default, range and meaning, as the schema has them."""
    documented = DOCS.read_text(encoding="utf-8")
    assert f"<!-- {kind} -->\n{table(kind)}\n\n" in documented, "run python -m tests.config.tables"
