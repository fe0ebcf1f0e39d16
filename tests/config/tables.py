"""The tables of docs/configuration.md, made from the schema; ``python -m tests.config.tables`` writes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mpt.config import schema

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def allowed(key: schema.Key, sealed: bool) -> str:
    """Return what the reading function of `key` says is allowed."""
    try:
        key.reader(sealed)("\0")
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{key.name} takes anything")


def both(key: schema.Key, text: Callable[[schema.Key, bool], str]) -> str:
    """Return the `text` about `key` for plain connections, and for sealed ones where it is another."""
    plain, sealed = text(key, False), text(key, True)
    return plain if plain == sealed else f"{plain}; sealed: {sealed}"


def default(key: schema.Key, sealed: bool) -> str:
    """Return what an absent key stands for."""
    if key.is_needed(sealed):
        return "must be written"
    if sealed and key.derived:
        return "follows from others"
    return f"`{key.default_text(sealed)}`" if key.default_text(sealed) else "absent"


def table(kind: str) -> str:
    """Return the table of this `kind` of section; of interface.conf it says which keys `mpt reload` takes."""
    with_reload = kind in schema.INTERFACE_SECTIONS
    rows = [["Key", "Default", "Allowed", *(["Reload"] if with_reload else []), "Meaning"]]
    rows.append(["---"] * len(rows[0]))
    for key in schema.SECTIONS[kind]:
        names = " or ".join(f"`{name}`" for name in (key.name, *key.aliases))
        cells = [both(key, text) for text in (default, allowed)]
        rows.append([names, *cells, *(["yes" if key.reload else "no"] if with_reload else []), key.doc])
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
