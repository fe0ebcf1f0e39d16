"""The tables of docs/configuration.md, made from the schema; ``python -m tests.config.tables`` writes them anew."""

from __future__ import annotations

from pathlib import Path

from mpt.config import schema

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def allowed(key: schema.Key) -> str:
    """Return what the reading function of `key` says is allowed."""
    try:
        key.read("\0")
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{key.name} takes anything")


def table(kind: str) -> str:
    """Return the table of this `kind` of section; of interface.conf it says which keys `mpt reload` takes."""
    with_reload = kind in schema.INTERFACE_SECTIONS
    rows = [["Key", "Default", "Allowed", *(["Reload"] if with_reload else []), "Meaning"]]
    rows.append(["---"] * len(rows[0]))
    for key in schema.SECTIONS[kind]:
        names = " or ".join(f"`{name}`" for name in (key.name, *key.aliases))
        default = "must be written" if key.mandatory else f"`{key.default}`" if key.default else "absent"
        rows.append([names, default, allowed(key), *(["yes" if key.reload else "no"] if with_reload else []), key.doc])
    return "\n".join("|---" * len(row) + "|" if row[0] == "---" else f"| {' | '.join(row)} |" for row in rows)


def with_tables(text: str) -> str:
    """Return `text` with the table behind each mark, such as <!-- general -->, as the schema has it now."""
    for kind in schema.SECTIONS:
        mark = f"<!-- {kind} -->\n"
        before, found, after = text.partition(mark)
        assert found, f"docs/configuration.md has no {mark.strip()}"
        _old, blank, rest = after.partition("\n\n")
        text = before + mark + table(kind) + blank + rest
    return text


if __name__ == "__main__":
    DOCS.write_text(with_tables(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
