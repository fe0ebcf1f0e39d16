"""The status port: the page, the documents behind it, and metrics, over HTTP, to look at only.

It listens on an address of this host or on a unix socket, if `status_listen` says so. A request must name this host as
it is known (RFC 9110 section 7.2), so that no page of somebody else reads it through a browser (DNS rebinding).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from mpt.errors import HostError
from mpt.local.grammar import GrammarError
from mpt.local.status import StatusDocument
from mpt.model import StatusPlace

log = Logger()

ASSETS: Final = {
    b"": ("index.html", "text/html; charset=utf-8"),
    b"page.js": ("page.js", "text/javascript; charset=utf-8"),
    b"page.css": ("page.css", "text/css; charset=utf-8"),
    b"uPlot.iife.min.js": ("uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    b"uPlot.min.css": ("uPlot.min.css", "text/css; charset=utf-8"),
}
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "mpt",
}
IDLE: Final = 60.0  # s for which a caller may be silent
MOST_CALLERS: Final = 64
LONGEST_REQUEST: Final = 4096  # octets of a body, which nothing here needs
METRICS_MISSING: Final = "the metrics need prometheus_client: pip install '.[metrics]'\n"


class StatusPort(Service):
    """Serves at `place`; `status()`, `history(name)` and `events(after)` are those of the operations, `metrics()` makes
    the text for Prometheus, in slices."""

    def __init__(
        self,
        reactor: Any,
        place: StatusPlace,
        status: Callable[[], StatusDocument],
        history: Callable[[str], Mapping[str, Any]],
        events: Callable[[int], Mapping[str, Any]],
        metrics: Callable[[], Coroutine[Any, Any, bytes]],
    ) -> None:
        self._reactor = reactor
        self._place = place
        root = _Root()
        for name, (file, kind) in ASSETS.items():
            root.putChild(name, _Asset(self._hosts, file, kind))
        root.putChild(b"status.json", _Answer(self._hosts, lambda request: _json(status().as_json())))
        root.putChild(b"history.json", _Answer(self._hosts, lambda request: _json(history(_name(request)))))
        root.putChild(b"events.json", _Answer(self._hosts, lambda request: _json(events(_number(request)))))
        root.putChild(b"metrics", _Metrics(self._hosts, metrics))
        site = Site(root, timeout=IDLE)
        site.displayTracebacks = False
        self._callers = _Callers(site)
        self._callers.noisy = site.noisy = False
        self._listening: Any = None

    def startService(self) -> None:
        """Listen; raises HostError if that is refused."""
        super().startService()
        try:
            if self._place.path is not None:
                self._listening = self._reactor.listenUNIX(self._place.path, self._callers, mode=0o660, wantPID=False)
            else:
                self._listening = self._reactor.listenTCP(
                    self._place.port, self._callers, interface=str(self._place.address)
                )
        except CannotListenError as error:
            raise HostError(f"status_listen = {self._place}: {error.socketError}") from error
        log.info("the status page is at {place}", place=self._place.url)

    def stopService(self) -> Any:
        """Listen no more."""
        super().stopService()
        listening, self._listening = self._listening, None
        return listening.stopListening() if listening is not None else None

    @property
    def _hosts(self) -> frozenset[str]:
        """Return how a request may call this host; none: by any name, as on a unix socket, which no browser reaches."""
        if self._place.path is not None:
            return frozenset()
        address = self._place.address
        names = {str(address)} if not address.is_unspecified else set()
        if address.is_loopback or address.is_unspecified:
            names |= {"localhost", "127.0.0.1", "::1"}
        return frozenset(names)


class _Callers(WrappingFactory):
    """No more than MOST_CALLERS at once: each takes a descriptor, of which the tunnels need some, too."""

    def buildProtocol(self, addr: Any) -> Any:
        """Return what serves a caller; None closes its connection."""
        return super().buildProtocol(addr) if len(self.protocols) < MOST_CALLERS else None


class _Page(Resource):
    """Answers GET and HEAD of callers that name this host."""

    isLeaf = True

    def __init__(self, hosts: Callable[[], frozenset[str]] | frozenset[str]) -> None:
        super().__init__()
        self._hosts = hosts if isinstance(hosts, frozenset) else hosts()

    def render(self, request: Request) -> bytes | int:
        """Return the whole answer, or NOT_DONE_YET."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", "GET, HEAD")
            return _plain(request, 405, "only to look at: GET or HEAD\n")
        host = _host_of(request)
        if self._hosts and host not in self._hosts and not _is_address(host):
            return _plain(request, 421, f"this host is not known as {host!r} here\n")
        octets = _plain(request, 404, "there is nothing here\n") if request.postpath else self.answer(request)
        return NOT_DONE_YET if octets is None else _content(request, octets)

    def answer(self, request: Request) -> bytes | None:
        """Return the content; None: it comes later. Here is nothing."""
        return _plain(request, 404, "there is nothing here\n")


class _Root(Resource):
    """The names at the top."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        """Return the answer to a name that is not here."""
        return _Page(frozenset())


class _Asset(_Page):
    """A file of the page."""

    def __init__(self, hosts: frozenset[str], file: str, kind: str) -> None:
        super().__init__(hosts)
        self._file = file
        self._kind = kind

    def answer(self, request: Request) -> bytes:
        request.setHeader("Content-Type", self._kind)
        return _read(self._file)


@cache
def _read(file: str) -> bytes:
    return (files("mpt.page") / file).read_bytes()


class _Answer(_Page):
    """What `make` returns: content and its type; whatever it raises is an answer of status 400 or 404."""

    def __init__(self, hosts: frozenset[str], make: Callable[[Request], tuple[bytes, str]]) -> None:
        super().__init__(hosts)
        self._make = make

    def answer(self, request: Request) -> bytes:
        try:
            octets, kind = self._make(request)
        except GrammarError as error:
            return _plain(request, 400, f"{error}\n")
        except HostError as error:
            return _plain(request, 404, f"{error}\n")
        request.setHeader("Content-Type", kind)
        return octets


class _Metrics(_Page):
    """What `make` returns after a while, with packets between its slices; made once for all who ask meanwhile."""

    def __init__(self, hosts: frozenset[str], make: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        super().__init__(hosts)
        self._make = make
        self._waiting: list[Request] = []
        self._gone: set[Request] = set()

    def answer(self, request: Request) -> None:
        """Let the caller wait; the first one lets it be made."""
        is_first = not self._waiting
        self._waiting.append(request)
        request.notifyFinish().addErrback(lambda _: self._gone.add(request))
        if is_first:
            ensureDeferred(self._answer_all())

    async def _answer_all(self) -> None:
        code, kind = 200, "text/plain; charset=utf-8"
        try:
            octets = await self._make()
            from mpt.local.metrics import CONTENT_TYPE

            kind = CONTENT_TYPE
        except ImportError:
            code, octets = 503, METRICS_MISSING.encode()
        except Exception:
            log.failure("a bug while metrics are made")
            code, octets = 500, b"a bug: the log has it\n"
        waiting, self._waiting = self._waiting, []
        gone, self._gone = self._gone, set()
        for request in waiting:
            if request not in gone:
                request.setResponseCode(code)
                request.setHeader("Content-Type", kind)
                request.write(_content(request, octets))
                request.finish()


def _content(request: Request, octets: bytes) -> bytes:
    """Return what is sent of `octets`; HEAD wants their length alone."""
    request.setHeader("Content-Length", str(len(octets)))
    return octets if request.method == b"GET" else b""


def _plain(request: Request, code: int, text: str) -> bytes:
    request.setResponseCode(code, b"Misdirected Request" if code == 421 else None)
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    return text.encode()


def _host_of(request: Request) -> str:
    """Return the host of the Host field, without its port."""
    field = (request.getHeader("host") or "").strip().lower()
    if field.startswith("["):
        return field[1:].partition("]")[0]
    return field.rpartition(":")[0] if field.count(":") == 1 else field


def _is_address(host: str) -> bool:
    """Return whether a host is named by an address: no name of somebody else leads here then."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _name(request: Request) -> str:
    name = _word(request, b"name")
    if not name:
        raise GrammarError("the name of a connection is missing: /history.json?name=NAME, as /status.json has it")
    return name


def _number(request: Request) -> int:
    text = _word(request, b"after")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise GrammarError(
            f"after={text[:60]} is no number of an event: /events.json?after=NUMBER, or without it for all"
        )
    return int(text)


def _word(request: Request, name: bytes) -> str | None:
    """Return the value of a parameter, None if it is not given."""
    values: list[bytes] | None = (request.args or {}).get(name)
    return values[0].decode("utf-8", "replace") if values else None


def _json(value: Any) -> tuple[bytes, str]:
    return json.dumps(value).encode(), "application/json"
