"""The manual pages in docs/man, made from the table of commands, the options and the schema of the files.

``python -m tests.manpages`` writes them anew; a test compares them with what it would write.
"""

from __future__ import annotations

import argparse
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Final
from unittest.mock import patch

from mpt.cli.examples import EXAMPLES
from mpt.cli.main import PROGRAMS, Program, usage
from mpt.config import schema
from mpt.daemon.main import _parser as mptsrv_parser
from mpt.local.grammar import FORMS
from tests.config.tables import allowed, both, default

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "docs" / "man"
DATE: Final = "November 28, 2026"  # of the last change of the prose below
WIDTH: Final = 78

_ASCII: Final = {"…": "...", "×": "*", "→": "->", "–": "-", "“": '"', "”": '"', "°": " degrees"}
_TAG: Final = re.compile(r"([A-Z][A-Z_]*|--?[\w-]+(?: [A-Z]+)?) ?: +(\S.*)")
_SENTENCE: Final = re.compile(r"(?<=[.!?:;])(?<!e\.g\.)\s+(?=\S)")


# ---- mdoc(7) --------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Return text with what roff takes literally; a minus stays one, so that an option can be copied."""
    for character, instead in _ASCII.items():
        text = text.replace(character, instead)
    return text.replace("\\", "\\e").replace("-", "\\-")


def line(text: str) -> str:
    """Return one line of text; a dot or a quote at its beginning is none of a macro."""
    found = plain(text)
    return f"\\&{found}" if found[:1] in (".", "'") else found


def prose(text: str) -> Iterator[str]:
    """Yield a paragraph: each sentence begins a line, as mdoc(7) wants it."""
    for sentence in _SENTENCE.split(" ".join(text.replace("`", "").split())):
        yield from map(line, textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False))


def literal(text: str) -> Iterator[str]:
    """Yield text as it stands."""
    yield ".Bd -literal -offset indent"
    yield from (line(each.rstrip()) for each in textwrap.dedent(text).strip("\n").split("\n"))
    yield ".Ed"


def details(text: str) -> Iterator[str]:
    """Yield the text below a usage: lines such as "NAME: what it is", with more of it indented, become a list, and
    other lines a paragraph; what is indented below a paragraph stays as it is."""
    rows: list[tuple[str, str]] = []
    said: list[str] = []
    shown: list[str] = []
    for each in [*text.strip("\n").split("\n"), ""]:
        tag = _TAG.fullmatch(each)
        is_more = each.startswith("  ")
        if shown and not is_more:
            yield from literal("\n".join(shown))
            shown = []
        if said and (tag or is_more or not each):
            yield from (".Pp", *prose(" ".join(said)))
            said = []
        if rows and not tag and not is_more:
            yield from tagged((name, prose(words)) for name, words in rows)
            rows = []
        if tag:
            rows.append((tag[1].strip(), tag[2]))
        elif is_more and rows:
            rows[-1] = rows[-1][0], f"{rows[-1][1]} {each.strip()}"
        elif is_more:
            shown.append(each)
        elif each:
            said.append(each)


def quoted(text: str) -> str:
    """Return text as one argument of a macro; at its end stands no delimiter."""
    return '"' + plain(text).replace('"', "\\(dq") + ('\\&"' if text[-1:] in "])" else '"')


def head(name: str, section: int, about: str) -> Iterator[str]:
    """Yield the beginning of a page."""
    yield '.\\" Made by python -m tests.manpages: change the tables that it is made from.'
    yield f".Dd {DATE}"
    yield f".Dt {name.upper()} {section}"
    yield ".Os"
    yield ".Sh NAME"
    yield f".Nm {name}"
    yield f".Nd {about}"


def tagged(rows: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    """Yield a list of tags and the lines that explain each."""
    yield ".Bl -tag -width Ds"
    for tag, lines in rows:
        yield f".It Cm {quoted(tag)}"
        yield from lines
    yield ".El"


# ---- options --------------------------------------------------------------------------------------------------------


def option_rows(parser: argparse.ArgumentParser) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield each option and argument of a parser, and what its help says."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        if isinstance(action, argparse._HelpAction):
            yield ", ".join(action.option_strings), prose("Print a summary and exit.")
            continue
        choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
        value = "" if action.nargs == 0 else str(action.metavar or choices or action.dest.upper())
        names = ", ".join(action.option_strings)
        text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
        said = text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")
        yield f"{names} {value}".strip(), prose(said)


def parsers(program: Program) -> tuple[argparse.ArgumentParser | None, str]:
    """Return the parser of a program if it has one, and else what its --help prints."""
    found: list[argparse.ArgumentParser] = []
    said = io.StringIO()
    printing = patch.object(argparse.ArgumentParser, "print_help", lambda self, *_file: found.append(self))
    with printing, redirect_stdout(said), suppress(SystemExit):
        program.run(["--help"])
    return (found[0] if found else None), said.getvalue()


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


# ---- the pages ------------------------------------------------------------------------------------------------------


def mpt_8() -> Iterator[str]:
    """Yield mpt(8)."""
    yield from head("mpt", 8, "look at, change and set up a multipath tunnel")
    yield from (".Sh SYNOPSIS", ".Nm", ".Op Ar options", ".Ar command", ".Op Ar arguments", ".Sh DESCRIPTION")
    yield from prose(
        "mpt sends a command to mptsrv, the daemon of this host, prints the answer, and ends with a status that says "
        "how it went. Other commands work on the files of the configuration, with or without a daemon. Alone, on a "
        "terminal, it shows the status if a daemon runs."
    )
    yield from (".Sh OPTIONS", *details(textwrap.dedent(usage().partition("\n\n")[0].partition("\n")[2])))
    yield ".Sh COMMANDS OF THE DAEMON"
    for form in FORMS.values():
        yield f".Ss {quoted(f'mpt {form.syntax}')}"
        yield from prose(form.summary[:1].upper() + form.summary[1:] + ".")
        yield from details(form.details)
    yield ".Sh COMMANDS OF THEIR OWN"
    for program in PROGRAMS:
        yield f".Ss {quoted(f'mpt {program.name}{program.words}')}"
        yield from prose(program.help[:1].upper() + program.help[1:] + ".")
        yield from _program(program)
    yield from (".Sh ENVIRONMENT", *_environment(), ".Sh FILES", *_files())
    yield ".Sh EXIT STATUS"
    yield from prose(usage().rpartition("Exit status: ")[2] + ".")
    yield ".Sh EXAMPLES"
    for title, group in EXAMPLES.items():
        yield f".Ss {title}"
        for example in group:
            yield from prose(example.wish[:1].upper() + example.wish[1:] + ":")
            yield from literal("\n".join(example.lines))
    yield from see_also("mptsrv 8", "mpt-interface.conf 5", "mpt-connection.conf 5")


def _program(program: Program) -> Iterator[str]:
    parser, said = parsers(program)
    if parser is None:
        text = said.partition("\n\n")[2] or said
        if text.strip():
            yield from details(text)
        return
    if parser.description:
        yield ".Pp"
        yield from prose(parser.description)
    yield from tagged(option_rows(parser))
    for name, each in subparsers(parser).items():
        yield ".Pp"
        yield from prose(f"mpt {program.name} {name}: {' '.join((each.description or '').split())}".rstrip(": "))
        yield from tagged(option_rows(each))
    if parser.epilog:
        literal_epilog = parser.formatter_class is argparse.RawDescriptionHelpFormatter
        yield from literal(parser.epilog) if literal_epilog else (".Pp", *prose(parser.epilog))


def mptsrv_8() -> Iterator[str]:
    """Yield mptsrv(8)."""
    parser = mptsrv_parser()
    yield from head("mptsrv", 8, "daemon of a multipath tunnel: one network interface over several paths")
    yield from (".Sh SYNOPSIS", ".Nm", ".Op Ar options", ".Sh DESCRIPTION")
    yield from prose(
        "mptsrv joins two hosts by one tunnel interface over several network paths at once. Its packets go out over "
        "all of them, arrive in order, and keep arriving when a path fails. With keys a connection is sealed: "
        "encrypted, and at home behind any NAT. Without keys it speaks MPT-GRE (GRE-in-UDP, RFC 8086), neither "
        "encrypted nor authenticated."
    )
    yield ".Pp"
    yield from prose(
        "It runs in the foreground, and takes the keys q (quit), p (print the status) and r (reload) on a terminal. "
        "systemd starts it by mpt.service. It needs CAP_NET_ADMIN, CAP_NET_RAW and /dev/net/tun."
    )
    yield ".Pp"
    yield from prose(parser.epilog or "")
    yield from (".Sh OPTIONS", *tagged(option_rows(parser)))
    yield ".Sh SIGNALS"
    signals = (
        ("SIGHUP", "Reload the files, as mpt reload does."),
        ("SIGTERM, SIGINT", "Stop cleanly: the tunnel interface, the routes and the sockets are gone then."),
    )
    yield from tagged((name, prose(text)) for name, text in signals)
    yield from (".Sh ENVIRONMENT", *_environment(), ".Sh FILES", *_files())
    yield ".Sh EXIT STATUS"
    yield from prose(
        "0 after a stop that was asked for, 78 if the configuration has errors, 1 after any other failure."
    )
    yield from see_also("mpt 8", "mpt-interface.conf 5", "mpt-connection.conf 5")


def interface_5() -> Iterator[str]:
    """Yield mpt-interface.conf(5)."""
    yield from head("mpt-interface.conf", 5, "the tunnels of a host, and the general settings of mptsrv")
    yield ".Sh DESCRIPTION"
    yield from prose(
        "interface.conf is in the configuration directory, usually /etc/mpt. It has a section [general] and a section "
        "[tun_n] for each tunnel: [tun_0], [tun_1] and so on. A line is [section] or key = value. A comment begins "
        "with # or ; and ends with the line. mpt check looks through the files."
    )
    yield from _section("[general]", "general")
    yield from _section("[tun_n]", "tun_n")
    yield from (".Sh EXAMPLES", *_sample("conf/interface.conf"))
    yield from see_also("mpt 8", "mptsrv 8", "mpt-connection.conf 5")


def connection_5() -> Iterator[str]:
    """Yield mpt-connection.conf(5)."""
    yield from head("mpt-connection.conf", 5, "a connection of mptsrv: its peer, its paths and its networks")
    yield ".Sh DESCRIPTION"
    yield from prose(
        "Each *.conf file in the directory connections of the configuration, usually /etc/mpt/connections, is a "
        "connection: a pair of tunnel addresses and the paths between two hosts. With a peer_key it is sealed, and "
        "many keys may be left out. The file clients.conf has the clients of a server instead, one section each, and "
        "conf.template everything that they have in common. mpt init, mpt join and mpt client write such files; mpt "
        "check looks through them."
    )
    titles = {
        "connection": "[connection]",
        "path_n": "[path_n]",
        "net_n": "[net_n]",
        "class": "[class NAME]",
        "client": "[client NAME] OF CLIENTS.CONF",
    }
    for kind, title in titles.items():
        yield from _section(title, kind)
    yield ".Sh EXAMPLES"
    yield from prose("A client with keys and two lines:")
    yield from _sample("conf/samples/sealed/client/connections/server.conf")
    yield from prose("Without keys, over two cables:")
    yield from _sample("conf/connections/mpt_b.conf")
    yield from see_also("mpt 8", "mptsrv 8", "mpt-interface.conf 5")


def _section(title: str, kind: str) -> Iterator[str]:
    yield f".Sh {quoted(f'THE SECTION {title}')}"
    rows = []
    for key in schema.SECTIONS[kind]:
        said = [key.doc, f"Default: {both(key, default)}.", f"Allowed: {both(key, allowed)}."]
        if kind in schema.INTERFACE_SECTIONS and not key.reload:
            said.append("Only a new start of mptsrv takes it.")
        rows.append((", ".join((key.name, *key.aliases)), [each for text in said for each in prose(text)]))
    yield from tagged(rows)


def _sample(file: str) -> Iterator[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    yield from literal("\n".join(each for each in lines if each.strip() and each[:1] not in ";#"))


def _environment() -> Iterator[str]:
    rows = (
        ("MPT_CONFIG_DIR", "The configuration directory, if no option names one."),
        ("MPT_CONTROL_SOCKET", "The unix socket of the daemon, for mpt."),
        ("MPT_DATA_PLANE", "The data path, python or native, before data_plane of interface.conf."),
    )
    yield from tagged((name, prose(text)) for name, text in rows)


def _files() -> Iterator[str]:
    rows = (
        ("/etc/mpt/interface.conf", "Tunnels and general settings."),
        ("/etc/mpt/connections/*.conf", "Connections, one file each; clients.conf has those of the clients."),
        ("/etc/mpt/private.key", "The private key of this host, for sealed connections."),
        ("/run/mpt/", "The unix socket for local commands."),
    )
    yield from tagged((name, prose(text)) for name, text in rows)


def see_also(*pages: str) -> Iterator[str]:
    """Yield the end of a page."""
    yield ".Sh SEE ALSO"
    ordered = sorted(pages, key=lambda each: (each.split()[1], each))
    yield from (f".Xr {page}" + (" ," if page != ordered[-1] else "") for page in ordered)


PAGES: Final = {
    "mpt.8": mpt_8,
    "mptsrv.8": mptsrv_8,
    "mpt-interface.conf.5": interface_5,
    "mpt-connection.conf.5": connection_5,
}


def page(name: str) -> str:
    """Return the text of a page."""
    return "\n".join(PAGES[name]()) + "\n"


def main(names: Sequence[str] = tuple(PAGES)) -> None:
    """Write the pages."""
    for name in names:
        (FOLDER / name).write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
