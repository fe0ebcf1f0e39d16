"""Random and mutated configuration files: an error or a configuration, never another exception, never a stall."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from mpt.config.directory import load_directory
from mpt.config.parser import ConfigurationErrors
from tests.config import test_clients, test_sealed
from tests.config.files import CONNECTION, CREATE_CLIENT, INTERFACE, write

ROUNDS = int(os.environ.get("MPT_FUZZ_CONFIG", "2000"))
SEED = 20_150_927
LONGEST = 2.0  # seconds of processor time that one small file may take; the usual is below a millisecond

PIECES = [
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\\\n", b"\t", b"'", b'"', b";", b"#", b"=", b"[", b"]", b"[]"),
    *(b"-1", b"0", b"65535", b"99999999999999999999", b"0x", b"0xFFFF", b"1e999", b"nan", b"0.1", b".", b"\xd9\xa3"),
    *(b"0.0.0.0", b"::", b"fe80::1%x", b"::ffff:1.2.3.4", b"10.0.0.2/24", b"/", b"%", b"private_ipaddr", b"6"),
    *(b"vpn.example 2001:db8::1", b"[client a]", b"[client laptop]", b"AAAA=", b"auto", b"peer_key = x\n"),
    *(b"[path_1]", b"[path_99]", b"[tun_0]", b"[net_0]", b"[connection]", b"[general]", b"tcp_dst = 1-65535\n"),
]


def mutated(data: bytes, dice: random.Random) -> bytes:
    """`data` with one to four changes: octets, pieces, lines and halves of lines."""
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0:
                data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + dice.randint(1, 30) :]
            case 2:
                data = data[:at] + dice.choice(PIECES) + data[at + dice.randint(0, 3) :]
            case 3:
                lines = data.split(b"\n")
                lines.insert(dice.randrange(len(lines)), dice.choice(lines))
                data = b"\n".join(lines)
            case 4:
                lines = data.split(b"\n")
                number = dice.randrange(len(lines))
                lines[number] = lines[number].partition(b"=")[0] + b"= " + dice.choice(PIECES)
                data = b"\n".join(lines)
            case _:
                lines = data.split(b"\n")
                del lines[dice.randrange(len(lines))]
                data = b"\n".join(lines)
    return data


def test_a_spoilt_file_is_an_error_or_a_configuration(tmp_path: Path) -> None:
    """Whatever a file holds, it loads or is refused with errors that say where, in a short time."""
    dice = random.Random(SEED)
    write(tmp_path)
    interface, connection = tmp_path / "interface.conf", tmp_path / "connections" / "host_b.conf"
    outcomes = {"loaded": 0, "refused": 0}
    for number in range(ROUNDS):
        change_interface = number % 4 == 0
        sample = INTERFACE if change_interface else dice.choice((CONNECTION, CREATE_CLIENT))
        data = dice.randbytes(dice.randint(0, 400)) if number % 20 == 1 else mutated(sample.encode(), dice)
        (interface if change_interface else connection).write_bytes(data)
        begun = time.process_time()
        try:
            load_directory(tmp_path)
            outcomes["loaded"] += 1
        except ConfigurationErrors as error:
            outcomes["refused"] += 1
            assert error.problems, data
            assert all(str(problem) in str(error) and problem.file for problem in error.problems), data
        except Exception as error:
            raise AssertionError(f"round {number}: {data!r}") from error
        assert time.process_time() - begun < LONGEST, f"round {number}: {data!r}"
        if change_interface:
            interface.write_text(INTERFACE)
    assert min(outcomes.values()) > ROUNDS // 20, outcomes


def test_spoilt_files_of_sealed_connections_are_errors_or_a_configuration(tmp_path: Path) -> None:
    """A connection with keys, clients, and their template."""
    dice = random.Random(SEED)
    texts = {
        "home.conf": test_sealed.CLIENT.replace("10.0.0.2", "10.0.0.1").replace("= 10.0.0.1\n\n", "= 10.0.9.9\n\n"),
        "clients.conf": test_clients.CLIENTS,
        "conf.template": test_clients.TEMPLATE,
    }
    write(tmp_path, test_clients.INTERFACE, texts)
    assert len(load_directory(tmp_path).config.connections) == 3
    outcomes = {"loaded": 0, "refused": 0}
    for number in range(ROUNDS // 5):
        name = dice.choice(list(texts))
        data = mutated(texts[name].encode(), dice)
        (tmp_path / "connections" / name).write_bytes(data)
        try:
            load_directory(tmp_path)
            outcomes["loaded"] += 1
        except ConfigurationErrors as error:
            outcomes["refused"] += 1
            assert error.problems and all(problem.file.name for problem in error.problems), data
        except Exception as error:
            raise AssertionError(f"round {number}: {data!r}") from error
        (tmp_path / "connections" / name).write_text(texts[name])
    assert min(outcomes.values()) > ROUNDS // 100, outcomes
