"""docs/configuration.md says what the schema says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpt.config import schema

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def allowed(key: schema.Key) -> str:
    """What the key's reading function says is allowed."""
    with pytest.raises(ValueError) as caught:
        key.read("\0")
    return str(caught.value)


def row(key: schema.Key) -> str:
    """The line of the key in the documentation's table."""
    names = " or ".join(f"`{name}`" for name in (key.name, *key.aliases))
    default = "must be written" if key.mandatory else f"`{key.default}`" if key.default else "absent"
    return f"| {names} | {default} | {allowed(key)} | {key.doc} |"


@pytest.mark.parametrize("kind", schema.SECTIONS)
def test_the_documentation_has_the_row_of_every_key(kind: str) -> None:
    """Every key of the schema stands in the table of its section, with its default, its range and its meaning."""
    table = "\n".join(map(row, schema.SECTIONS[kind]))
    assert f"\n{table}\n" in DOCS.read_text(encoding="utf-8"), f"the table of [{kind}] should be:\n{table}"
