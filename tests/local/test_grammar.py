"""Guide chapter 4: every command as printed there, and every way to get it wrong."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.local.grammar import FORMS, GrammarError, form_named, parse

GOOD: list[tuple[str, tuple[object, ...]]] = [
    ("address add 10.0.0.5/16 dev eth1", ("address", True, ip_interface("10.0.0.5/16"), "eth1")),
    ("addr add 10.0.0.5 dev eth1", ("address", True, ip_interface("10.0.0.5/24"), "eth1")),
    ("addr del 2001:db8::5 dev wan-1.2", ("address", False, ip_interface("2001:db8::5/64"), "wan-1.2")),
    ("address del 2001:db8::5/128 dev eth1", ("address", False, ip_interface("2001:db8::5/128"), "eth1")),
    ("interface eth1 up", ("interface", "eth1", True)),
    ("int eth2 down", ("interface", "eth2", False)),
    ("int up up", ("interface", "up", True)),
    ("reload", ("reload", None)),
    ("reload connection.conf", ("reload", "connection.conf")),
    ("restart", ("restart", None)),
    ("restart connection.conf", ("restart", "connection.conf")),
    ("delete connection.conf", ("delete", "connection.conf")),
    ("save", ("save", None)),
    ("save peer_10_0_0_2.conf", ("save", "peer_10_0_0_2.conf")),
    ("create config_file.conf", ("create", "config_file.conf")),
    ("path up 10.1.1.2 10.1.1.3", ("path", True, ip_address("10.1.1.2"), ip_address("10.1.1.3"))),
    ("path down fe80::1 fe80::2", ("path", False, ip_address("fe80::1"), ip_address("fe80::2"))),
    ("path down eth1", ("path", False, "eth1", None)),
    ("path up home/path_1", ("path", True, "home/path_1", None)),
    ("path cost wwan0 backup", ("path cost", "wwan0", "backup")),
    ("path cost home/path_1 free", ("path cost", "home/path_1", "free")),
    ("up home", ("up", "home")),
    ("down home.conf", ("down", "home.conf")),
    ("show status", ("show", "status", None)),
    ("show status home", ("show", "status", "home")),
    ("show history home", ("show", "history", "home")),
    ("show events", ("show", "events", None)),
    ("show events 17", ("show", "events", "17")),
]

BAD = [
    ("", "there is no command"),
    ("frob", "no command 'frob': it must be one of address, interface"),
    ("addre add 10.0.0.5 dev eth1", "no command 'addre'; did you mean address? It must be one of address, interface"),
    ("address", "add or del"),
    ("address new 10.0.0.5 dev eth1", "'new' must be add or del"),
    ("address add", "IP_ADDRESS[/PREF_LEN] is missing"),
    ("address add 10.0.0.500 dev eth1", "'10.0.0.500' must be an IPv4 or IPv6 address"),
    ("address add 10.0.0.5/33 dev eth1", "'10.0.0.5/33' must be"),
    ("address add 10.0.0.5/0 dev eth1", "'10.0.0.5/0' must be"),
    ("address add 10.0.0.5/ dev eth1", "'10.0.0.5/' must be"),
    ("address add 10.0.0.5/255.255.255.0 dev eth1", "'10.0.0.5/255.255.255.0' must be"),
    ("address add 0.0.0.0 dev eth1", "'0.0.0.0' must be"),
    ("address add 224.0.0.1 dev eth1", "'224.0.0.1' must be"),
    ("address add ::ffff:10.0.0.1 dev eth1", "'::ffff:10.0.0.1' must be"),
    ("address add fe80::1%eth1 dev eth1", "'fe80::1%eth1' must be"),
    ("address add 10.0.0.5 eth1", "'eth1' must be dev"),
    ("address add 10.0.0.5 dev", "INTERFACE is missing"),
    ("address add 10.0.0.5 dev eth1 up", "'up' is too much"),
    ("interface", "INTERFACE is missing"),
    ("interface eth1", "the next word must be up or down"),
    ("interface eth1 on", "'on' must be up or down"),
    ("interface a/b up", "INTERFACE 'a/b' must be"),
    ("interface sixteen-letters1 up", "at most 15 bytes"),
    ("reload ../connection.conf", "FILENAME '../connection.conf' must be"),
    ("reload connection", "it ends in .conf"),
    ("reload .conf", "'.conf' must be"),
    ("reload a.conf b.conf", "'b.conf' is too much"),
    ("restart conf.template", "'conf.template' must be"),
    ("delete", "FILENAME is missing"),
    ("delete a.conf.disabled", "it ends in .conf"),
    ("save /etc/passwd", "no path"),
    ("create", "FILENAME is missing"),
    ("path", "up or down"),
    ("path sideways 10.1.1.2 10.1.1.3", "'sideways' must be up or down"),
    ("path up", "PATH is missing"),
    ("path cost", "INTERFACE is missing: it must be the interface of the path, such as wwan0, or"),
    ("path cost wwan0", "free or metered or backup"),
    ("path cost wwan0 cheap", "'cheap' must be free or metered or backup"),
    ("path cost wwan0 free now", "'now' is too much"),
    ("path cost 10.1.1.2 free", "10.1.1.2 is an address: say the interface"),
    ("path up 10.1.1.2", "DESTINATION is missing"),
    ("path up 10.1.1.2/24 10.1.1.3", "'10.1.1.2/24' is no address, so no DESTINATION follows it"),
    ("path up 10.1.1.2 eth1", "DESTINATION 'eth1' must be"),
    ("up", "NAME is missing"),
    ("down a b", "'b' is too much"),
    ("path up 10.1.1.2 fe80::1", "must be of one IP version"),
    ("show", "must be status or history or events"),
    ("show me", "'me' must be status"),
    ("show history", "NAME is missing"),
    ("show events x", "NUMBER 'x' must be"),
    ("show events 9999999999999999999", "must be the number of an event"),
]


@pytest.mark.parametrize(("line", "meaning"), GOOD, ids=[line for line, _ in GOOD])
def test_a_command_is_understood(line: str, meaning: tuple[object, ...]) -> None:
    """The guide's syntax, shortenings and defaults; its words say the same again."""
    command = parse(line.split())
    assert (command.form.name, *command.values) == meaning
    assert parse(command.words) == command


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line or "nothing" for line, _ in BAD])
def test_a_bad_command_is_named(line: str, message: str) -> None:
    """The error names the bad word and the allowed ones."""
    with pytest.raises(GrammarError) as caught:
        parse(line.split())
    assert message in str(caught.value)
    words = line.split()
    if words and words[0] in FORMS:
        assert caught.value.form is FORMS.get(" ".join(words[:2]), FORMS[words[0]])


@pytest.mark.parametrize("word", ["a b.conf", "", "x\n.conf", "\ud800.conf", "y" * 300 + ".conf", "nul\0.conf"])
def test_a_word_that_is_none_is_refused(word: str) -> None:
    """Words also come from a JSON list, where they can be anything."""
    with pytest.raises(GrammarError):
        parse(["delete", word])


WORDS = sorted({word for line, _ in GOOD for word in line.split()})


@given(st.lists(st.text(max_size=20) | st.sampled_from(WORDS), max_size=8))
def test_any_words_give_a_command_or_an_error(words: list[str]) -> None:
    """Only GrammarError is raised, and the words of a command give the same command again."""
    try:
        command = parse(words)
    except GrammarError as error:
        assert str(error).isprintable()
    else:
        assert parse(command.words) == command


def test_only_show_is_for_everybody() -> None:
    """A caller who may only look may only `show`."""
    assert [form.name for form in FORMS.values() if not form.changes] == ["show"]
    assert {meaning[0] for _, meaning in GOOD} == set(FORMS)
    assert form_named("int") is FORMS["interface"]


def test_the_usage_is_the_guides() -> None:
    """The usage is as in guide 4.1, 4.2 and 4.6, without a misspelling."""
    assert FORMS["address"].usage() == (
        "mpt addr[ess] {add | del} IP_ADDRESS[/PREF_LEN] dev INTERFACE\n\n"
        "IP_ADDRESS: The IP address (can be v4 or v6) to manipulate\n"
        "PREF_LEN:   The prefix length of the manipulated address\n"
        "            Default prefix length: 24 for IPv4, 64 for IPv6.\n"
        "INTERFACE:  The name of the interface related to the manipulated address"
    )
    assert FORMS["interface"].usage() == (
        "mpt int[erface] INTERFACE {up | down}\n\nINTERFACE: The name of the interface e.g. eth0"
    )
    assert (
        FORMS["save"]
        .usage()
        .startswith("mpt save [FILENAME]\n\nFILENAME:   Save changed connection information to config file (Optional)")
    )
