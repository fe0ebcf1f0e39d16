"""The clients of `bench.sealedscale`: one program that speaks for many sealed clients, each with a key of its own.

The handshakes and the life of sessions are those of the daemon (`mpt.control`); around them are one UDP socket and a
loop. A client has two paths, which are two addresses of its own, and no tunnel: it sends keepalives, answers what asks,
and takes no packets. The input has commands, a line each; the output has the answer to each, an object in JSON:

    begin N KEY  let so many clients of the server with this key, in hex, begin at once
    state        how many clients are up, on both paths; the seconds that it took; handshakes by their results
    ask          let every client ask for an answer over both paths, spread over a second; the answer comes later, with
                 the asks that nobody has answered within two seconds
    renew S      let every client renew its session, spread over S seconds
"""

from __future__ import annotations

import heapq
import json
import select
import socket
import sys
import time
from ipaddress import IPv4Address

from bench.sealedscale import CLIENTS, KEEPALIVE, PATHS, SERVER, SERVER_OUTER, identity, outer
from mpt.control.keyexchange import Established, Failure, Place, Send, Terms
from mpt.control.keyexchanges import KeyExchanges
from mpt.control.session import RENEW_NUMBERS, Action, Add, Begin, Cancel, End, SendWith, Sessions
from mpt.daemon.tls import TlsKey
from mpt.errors import DecodeError
from mpt.lab.tunnel import DATA_PORT
from mpt.wire import message
from mpt.wire.hello import Hello, HelloPath
from mpt.wire.seal import ENVELOPE, Cipher, Opener, Sealer, envelope, stamp

PORT = 40_000  # of all clients
ASK_AGAIN = 1.0  # s, until a path is up
ANSWER_TIME = 2.0  # s
BUFFER = 8 << 20  # octets
_INFO = 12  # octets of struct in_pktinfo: interface index, our address, destination
_PLACES = [Place(path, (str(SERVER_OUTER), DATA_PORT)) for path in range(PATHS)]


class Client:
    """One client of the server with `server_key`; what it sends is in `out` as path and datagram."""

    def __init__(self, number: int, server_key: bytes) -> None:
        self.out: list[tuple[int, bytes]] = []
        self.established = self.failed = 0
        self.up_at: float | None = None
        self.asked: dict[int, float] = {}  # by path, not answered yet
        own = identity(number)
        key = TlsKey(own.private_key)
        self._server_key = server_key
        self._exchanges = KeyExchanges(own.public_key, key.engine, server_key.__eq__, lambda *_: Failure.NOT_OURS)
        self._sessions = Sessions(own.public_key, time.monotonic())
        paths = tuple(HelloPath(path, f"wan{path}", 1) for path in range(PATHS))
        hello = Hello((CLIENTS + number, SERVER), (Cipher.AES_128_GCM,), paths, 1400, (), "bench")
        self._terms = Terms(self, hello, require_pq=False)
        self._openers: dict[int, Opener] = {}
        self._sealers: dict[int, Sealer] = {}
        self._session = 0  # that seals
        self._numbers = [0] * PATHS  # of this session
        self._keepalive_at = 0.0

    def start(self, now: float) -> None:
        """Begin the first handshake."""
        self._do(self._sessions.start(now), now)
        self.deadline_reached(now)

    def renew(self, now: float) -> None:
        """Begin another handshake, as one whose numbers are used up."""
        self._do(self._sessions.numbers_used(RENEW_NUMBERS, now), now)
        self.deadline_reached(now)

    def ask(self, now: float) -> None:
        """Ask for an answer over all paths."""
        for path in range(PATHS):
            self.asked[path] = now
            self._send(path, message.Keepalive(asks=True).encode(), now)

    def received(self, path: int, datagram: bytes, now: float) -> None:
        """Note a datagram of the server over `path`; the mac1 of handshakes is not looked at."""
        if datagram[0] != ENVELOPE:
            self._worked(self._exchanges.receive(datagram, _PLACES[path], now), now)
            return
        header = envelope(datagram)
        opener = self._openers.get(header.session)
        content = opener.open(header, datagram) if opener is not None else None
        if content is None:
            return
        self._do(self._sessions.opened(header.session, now), now)
        if content[2] & ENVELOPE:
            self._message(path, message.decode_message(content[2:]), len(datagram), now)

    def _message(self, path: int, said: message.SealedMessage, size: int, now: float) -> None:
        match said:
            case message.Keepalive(asks):
                if asks:
                    self._send(path, message.Keepalive().encode(), now)
                else:
                    self.asked.pop(path, None)
                    if self.up_at is None and self._session and not self.asked:
                        self.up_at = now
            case message.Challenge(nonce):
                self._send(path, message.Response(nonce, size).encode(), now)
            case message.PathStatus():
                self._send(path, message.PathStatusSeen(said.path_id, said.up).encode(), now)
            case message.SizeProbe(probed):
                self._send(path, message.SizeSeen(probed).encode(), now)
            case message.Close():
                self._do(self._sessions.closed(self._session, now), now)

    def deadline_reached(self, now: float) -> None:
        """Do what is due."""
        self._worked(self._exchanges.deadline_reached(now), now)
        self._do(self._sessions.deadline_reached(now, may_begin=True), now)
        if self._session and now >= self._keepalive_at:
            self._keepalive_at = now + KEEPALIVE
            if self.up_at is None:
                self._keepalive_at = now + ASK_AGAIN
                self.ask(now)
            for path in range(PATHS if self.up_at is not None else 0):
                self._send(path, message.Keepalive().encode(), now)

    def next_deadline(self) -> float:
        """Return when `deadline_reached` is due."""
        times = [self._exchanges.next_deadline(), self._sessions.next_deadline(may_begin=True)]
        times += [self._keepalive_at] if self._session else []
        return min(each for each in times if each is not None)

    def _send(self, path: int, content: bytes, now: float) -> None:
        sealer = self._sealers.get(self._session)
        if sealer is not None:
            self.out.append((path, sealer.seal(path, self._numbers[path], stamp(now), content)))
            self._numbers[path] += 1

    def _worked(self, sent: list[Send], now: float) -> None:
        self.out += [(place.socket, datagram) for place, datagram in sent]
        for outcome in self._exchanges.take_outcomes():
            if isinstance(outcome, Established):
                self.established += 1
                self._do(self._sessions.established(outcome, now), now)
            elif outcome.failure is not Failure.DROPPED:
                self.failed += 1
                self._do(self._sessions.failed(outcome, now), now)

    def _do(self, actions: list[Action], now: float) -> None:
        for action in actions:
            match action:
                case Begin(turn):
                    places = _PLACES[turn % PATHS :] + _PLACES[: turn % PATHS]
                    self._worked(self._exchanges.begin(self._terms, (self._server_key,), 0, places, now), now)
                case Cancel():
                    self._exchanges.cancel(self)
                case Add(keys):
                    self._openers[keys.index] = Opener(keys.cipher, keys.receive_key, keys.receive_iv)
                    self._sealers[keys.index] = Sealer(keys.cipher, keys.send_key, keys.send_iv, keys.peer_index)
                    keys.wipe()
                case SendWith(index):
                    self._session = index or 0
                    self._numbers = [0] * PATHS
                    if index is not None:  # the server learns of the new keys by what they seal
                        self._keepalive_at = now
                case End(index):
                    self._openers.pop(index, None)
                    self._sealers.pop(index, None)
                    self._exchanges.release(index)


class Loop:
    """All clients over one socket."""

    def __init__(self) -> None:
        self._socket = opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
        opened.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
        opened.setblocking(False)
        opened.bind(("", PORT))
        self._clients: list[Client] = []
        self._numbers: dict[IPv4Address, tuple[int, int]] = {}  # path and client, by address
        self._sources: list[list[bytes]] = []  # struct in_pktinfo, by client and path
        self._began = 0.0
        self._heap: list[tuple[float, int]] = []
        self._due: dict[int, float] = {}  # by client, its entry in the heap
        self._plans: list[tuple[float, str, int]] = []  # a heap of times, commands, clients
        self._answer_at: float | None = None

    def run(self) -> None:
        """Go on until the input ends."""
        while True:
            now = time.monotonic()
            until = min(self._next(), now + 1.0)
            ready = select.select([self._socket, sys.stdin], [], [], max(0.0, until - now))[0]
            if self._socket in ready:
                self._read()
            if sys.stdin in ready and not self._command(sys.stdin.readline().split()):
                return
            self._deadlines(time.monotonic())

    def _next(self) -> float:
        times = [heap[0][0] for heap in (self._heap, self._plans) if heap]
        return min([*times, *([self._answer_at] if self._answer_at is not None else [])], default=float("inf"))

    def _read(self) -> None:
        for _ in range(256):
            try:
                datagram, ancillary, _, _ = self._socket.recvmsg(2048, socket.CMSG_SPACE(_INFO))
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error: the server is not there yet
            path, number = self._numbers[IPv4Address(ancillary[0][2][8:12])]
            try:
                self._clients[number].received(path, datagram, time.monotonic())
            except DecodeError as error:
                print(f"client {number}: {error}", file=sys.stderr)
            self._worked(number)

    def _worked(self, number: int) -> None:
        """Send what a client has to send, and look at its deadline."""
        client = self._clients[number]
        for path, datagram in client.out:
            info = (socket.IPPROTO_IP, 8, self._sources[number][path])
            try:
                self._socket.sendmsg([datagram], [info], 0, (str(SERVER_OUTER), DATA_PORT))
            except OSError:
                continue  # it is repeated
        client.out.clear()
        due = client.next_deadline()
        if self._due.get(number) != due:
            self._due[number] = due
            heapq.heappush(self._heap, (due, number))

    def _deadlines(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            due, number = heapq.heappop(self._heap)
            if self._due.get(number) == due:
                del self._due[number]
                self._clients[number].deadline_reached(now)
                self._worked(number)
        while self._plans and self._plans[0][0] <= now:
            _, command, number = heapq.heappop(self._plans)
            client = self._clients[number]
            (client.ask if command == "ask" else client.renew)(now)
            self._worked(number)
        if self._answer_at is not None and now >= self._answer_at:
            self._answer_at = None
            self._say(unanswered=sum(len(each.asked) for each in self._clients))

    def _command(self, words: list[str]) -> bool:
        """Carry out a line of the input; return whether there was one."""
        now = time.monotonic()
        match words:
            case []:
                return False
            case ["begin", count, server_key]:
                self._begin(int(count), bytes.fromhex(server_key))
                self._say()
            case ["state"]:
                ups = [each.up_at for each in self._clients if each.up_at is not None]
                self._say(
                    up=len(ups),
                    seconds=max(ups, default=0.0) - self._began,
                    established=sum(each.established for each in self._clients),
                    failed=sum(each.failed for each in self._clients),
                )
            case ["ask"]:
                self._plan("ask", now, 1.0)
                self._answer_at = now + 1.0 + ANSWER_TIME
            case ["renew", seconds]:
                self._plan("renew", now, float(seconds))
                self._say()
        return True

    def _begin(self, count: int, server_key: bytes) -> None:
        numbers = range(count)
        self._clients = [Client(number, server_key) for number in numbers]
        self._numbers = {outer(path, number): (path, number) for path in range(PATHS) for number in numbers}
        self._sources = [
            [bytes(4) + outer(path, number).packed + bytes(4) for path in range(PATHS)] for number in numbers
        ]
        self._began = time.monotonic()
        for number, client in enumerate(self._clients):
            client.start(time.monotonic())
            self._worked(number)
            self._read()

    def _plan(self, command: str, now: float, seconds: float) -> None:
        for number in range(len(self._clients)):
            heapq.heappush(self._plans, (now + seconds * number / len(self._clients), command, number))

    def _say(self, **facts: float) -> None:
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    Loop().run()
