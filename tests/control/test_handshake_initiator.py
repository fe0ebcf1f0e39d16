"""The asking side of the handshake."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from itertools import product

import pytest

from mpt.control import initiator
from mpt.control.initiator import (
    Endpoint,
    Initiator,
    Input,
    Output,
    State,
    create_request,
    path_status_request,
)
from mpt.errors import PeerError
from mpt.model import AuthType, Permission
from mpt.wire import command
from mpt.wire.command import NO_RANDOM, Result
from tests.control.peers import A_END, B_END, KEY, TEXT, Asked, NotingHost, Side, begin, connection, octets, reply_to

OWN, PEER = ip_address("10.1.1.2"), ip_address("10.1.1.3")
RANDOM = b"\x01\x02\x03\x04"


def ask(auth_type: AuthType = AuthType.NONE, up: bool = False) -> Asked:
    config = connection(auth_type=auth_type)
    return begin(Side(NotingHost([config])), path_status_request(config, OWN, PEER, up))


def ask_create() -> Asked:
    config = connection()
    return begin(Side(NotingHost([config])), create_request(config, TEXT))


def test_the_table_has_every_state_and_input() -> None:
    """Every pair has a row, and an ended handshake stays ended."""
    assert initiator.TABLE.keys() == set(product(State, Input))
    assert all(initiator.TABLE[State.ENDED, event] == (State.ENDED, Output.IGNORE) for event in Input)


@pytest.mark.parametrize(("state", "event"), list(product(State, Input)))
def test_every_state_takes_every_input_as_the_table_says(state: State, event: Input) -> None:
    """An initiator in each state, given each input as a datagram or a deadline, does what stands in the table."""
    config = connection(auth_type=AuthType.RANDOM)
    asked = Initiator(path_status_request(config, OWN, PEER, False), B_END, Counter())
    first = command.decode(asked.start(0.0)[0])
    round_2 = reply_to(first, random=RANDOM)
    if state is not State.AWAIT_ROUND_2:
        asked.receive(octets(round_2), round_2, 0.0)
    third = replace(first, round=3, random=asked._random)
    if state is State.ENDED:
        asked.receive(b"", reply_to(third), 0.0)
    replies = {
        Input.ROUND_2: round_2,
        Input.ROUND_4: reply_to(third),
        Input.REFUSED_IN_2: reply_to(first, Result.NO_PATH),
        Input.REFUSED_IN_4: reply_to(third, Result.NO_PATH),
    }
    if event in replies:
        sent = asked.receive(octets(replies[event]), replies[event], 0.0)
    else:
        times = initiator.ATTEMPTS if event is Input.ATTEMPTS_OVER else 1
        for count in range(1, times + 1):
            sent = asked.deadline_reached(0.5 * count)
    after, output = initiator.TABLE[state, event]
    assert asked.state is after
    assert bool(sent) is (output in (Output.SEND_ROUND_3, Output.SEND_AGAIN))
    assert (asked.outcome is not None) is (after is State.ENDED)


@pytest.mark.parametrize("auth_type", AuthType)
def test_four_rounds_change_a_path(auth_type: AuthType) -> None:
    """Round 3 takes the random number of round 2 along; round 4 is the end."""
    asked = ask(auth_type)
    assert (asked.last.round, asked.last.value, asked.last.payload) == (1, 0x80, command.encode_size(32))
    random = NO_RANDOM if auth_type is AuthType.NONE else RANDOM
    asked.reply(octets(reply_to(asked.last, random=random)))
    assert (asked.last.round, asked.last.random) == (3, random)
    assert asked.last.payload == command.encode_path(OWN, PEER)
    asked.reply(octets(reply_to(asked.last)))
    assert [outcome.ok for outcome in asked.outcomes] == [True]
    assert asked.host.handshakes.next_deadline() is None


def test_each_round_is_sent_six_times() -> None:
    """An attempt goes every 500 ms; after 3 seconds there is no answer."""
    asked = ask()
    asked.wait(2.9)
    assert len(asked.sent) == 6 and len(set(asked.sent)) == 1 and not asked.outcomes
    asked.wait(0.2)
    assert [outcome.result for outcome in asked.outcomes] == [Result.NO_ANSWER]
    asked = ask()
    asked.reply(octets(reply_to(asked.last)))
    asked.wait(3.0)
    assert len(asked.sent) == 7 and [outcome.result for outcome in asked.outcomes] == [Result.NO_ANSWER]


def test_replies_of_the_c_program_come_twice() -> None:
    """A second reply neither restarts a round nor ends the next one."""
    asked = ask()
    round_2 = octets(reply_to(asked.last))
    asked.reply(round_2)
    asked.reply(round_2)
    assert len(asked.sent) == 2 and not asked.outcomes
    round_4 = octets(reply_to(asked.last))
    asked.reply(round_4)
    asked.reply(round_4)
    assert len(asked.outcomes) == 1
    assert asked.host.counters == {"reply_repeated": 1, "reply_unexpected": 1}


@pytest.mark.parametrize(
    ("change", "source"),
    [
        ({}, A_END),
        ({}, (PEER, 60457)),
        ({}, (ip_address("10.2.2.3"), 60456)),
        ({"command": command.CREATE}, B_END),
        ({"sender": ip_address("10.0.0.9")}, B_END),
        ({"receiver": ip_address("10.0.0.9")}, B_END),
        ({"auth_type": AuthType.NONE}, B_END),
        ({"auth_type": AuthType.SHA256}, B_END),
    ],
)
def test_only_the_asked_endpoint_answers_for_what_was_asked(change: dict[str, object], source: Endpoint) -> None:
    """A reply from elsewhere, or for something else, is counted and changes nothing."""
    asked = ask(AuthType.RANDOM)
    asked.reply(octets(replace(reply_to(asked.last, random=RANDOM), **change)), source)  # type: ignore[arg-type]
    assert len(asked.sent) == 1 and not asked.outcomes and asked.host.counters.total() == 1


def test_a_wrong_random_number_in_round_4_does_not_count() -> None:
    """Such a reply answers another handshake, or is forged."""
    asked = ask(AuthType.RANDOM)
    asked.reply(octets(reply_to(asked.last, random=RANDOM)))
    asked.reply(octets(reply_to(asked.last, random=b"\1\1\1\1")))
    assert not asked.outcomes and asked.host.counters["reply_random"] == 1


def test_a_forged_digest_ends_nothing_but_is_reported() -> None:
    """The true answer may still come; without it the keys are probably not equal."""
    asked = ask(AuthType.SHA256)
    good = reply_to(asked.last, random=RANDOM)
    asked.reply(octets(good, "another key"))
    assert len(asked.sent) == 1 and not asked.outcomes
    asked.reply(octets(good))
    assert len(asked.sent) == 2
    asked = ask(AuthType.SHA256)
    asked.reply(octets(good, "another key"))
    asked.wait(3.1)
    assert asked.outcomes[0].result == Result.AUTH_FAILED
    assert "auth_key" in asked.outcomes[0].explanation()


def test_a_refusal_that_is_not_signed_is_believed_only_in_the_end() -> None:
    """Anybody can forge a refusal, so the handshake goes on as long as without it."""
    asked = ask(AuthType.SHA256)
    asked.reply(command.encode(reply_to(asked.last, Result.NO_CONNECTION)))
    assert not asked.outcomes
    asked.wait(3.1)
    assert asked.outcomes[0].result == Result.NO_CONNECTION


def test_a_refusal_ends_it() -> None:
    """An authenticated refusal ends it, with a known code or an unknown one."""
    for code in (Result.NO_PATH, Result.NOT_PERMITTED, 42):
        asked = ask(AuthType.SHA256)
        asked.reply(octets(reply_to(asked.last, code)))
        assert asked.outcomes[0].result == code and not asked.outcomes[0].ok and asked.outcomes[0].explanation()


def test_a_round_mismatch_may_be_about_an_older_datagram() -> None:
    """A mismatch does not end the handshake; time does."""
    asked = ask()
    asked.reply(octets(reply_to(asked.last, Result.ROUND_MISMATCH)))
    assert not asked.outcomes
    asked.wait(3.1)
    assert asked.outcomes[0].result == Result.ROUND_MISMATCH


def test_a_create_with_the_c_program_has_random_number_0_and_loses_its_end() -> None:
    """A C server offers 0, echoes it, and sends 36 octets too few: a comment is lost, the digest is over the rest."""
    asked = ask_create()
    assert asked.last.payload == command.encode_size(len(TEXT))
    asked.reply(octets(reply_to(asked.last)))
    assert (asked.last.auth_type, asked.last.random, asked.last.payload) == (AuthType.SHA256, NO_RANDOM, TEXT.encode())
    answer = TEXT + "[path_0]\nstatus = 0\n" + "#" * 35 + "\n"
    datagram = octets(reply_to(asked.last, payload=answer.encode()[:-36]))
    asked.reply(datagram)
    asked.reply(datagram)
    assert asked.outcomes[0].ok and asked.outcomes[0].text == answer[:-36]


def test_a_create_that_exists_says_so() -> None:
    """And whether that may be our own doing, for the C program answers so when its first answer was lost."""
    asked = ask_create()
    asked.reply(octets(reply_to(asked.last)))
    asked.wait(0.5)
    asked.reply(octets(reply_to(asked.last, Result.ALREADY_EXISTS, b"\x01")))
    assert asked.outcomes[0].result == Result.ALREADY_EXISTS
    assert "this very request" in asked.outcomes[0].explanation()


def test_a_create_answered_with_rubbish_fails() -> None:
    """An answer without a text makes no connection."""
    asked = ask_create()
    asked.reply(octets(reply_to(asked.last)))
    asked.reply(octets(reply_to(asked.last, payload=b"\x01")))
    assert asked.outcomes[0].result == Result.NO_CONNECTION and asked.host.counters["create_start"] == 1


def test_one_request_of_a_kind_at_a_time() -> None:
    """Replies to two could not be told apart; another kind, or another connection, is no trouble."""
    config = connection()
    asked = begin(Side(NotingHost([config])), path_status_request(config, OWN, PEER, False))
    with pytest.raises(PeerError, match="still being asked"):
        begin(asked.host, path_status_request(config, OWN, PEER, True))
    begin(asked.host, create_request(config, TEXT))
    begin(asked.host, path_status_request(replace(config, ip_remote=ip_address("10.0.0.4")), OWN, PEER, True))
    asked.wait(3.1)
    begin(asked.host, path_status_request(config, OWN, PEER, True))


def test_what_may_not_be_sent_is_said_before() -> None:
    """A request without permission to SEND, without a key, or too long is refused at once."""
    config = connection(auth_type=AuthType.SHA256)
    for permission in (Permission.NONE, Permission.RECEIVE):
        with pytest.raises(PeerError, match=r"1 \(SEND\) or 3"):
            path_status_request(replace(config, permission=permission), OWN, PEER, True)
    with pytest.raises(PeerError, match="allow_default_key"):
        path_status_request(replace(config, auth_key=""), OWN, PEER, True)
    with pytest.raises(PeerError, match="allow_default_key"):
        create_request(replace(config, auth_key="", auth_type=AuthType.NONE), TEXT)
    with pytest.raises(PeerError, match="too long"):
        create_request(config, ";" * 100_000)
    assert create_request(replace(config, auth_key=""), TEXT, allow_default_key=True).key != KEY
    assert KEY not in repr(config)
