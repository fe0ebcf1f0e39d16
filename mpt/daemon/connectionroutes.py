"""The routes of one connection: to its networks by the tunnel, and to its peer over each path's own line.

`mpt.control.routing` decides which routes there must be. This asks the `RouteKeeper` for them, and logs which gateways
were found, or are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.logger import Logger

from mpt.control import routing
from mpt.control.routing import NO_ROUTE, PeerRoute
from mpt.daemon.path import Path
from mpt.daemon.routes import RouteKeeper
from mpt.errors import HostError
from mpt.model import Address, ConnectionConfig, Interface

log = Logger()


class ConnectionRoutes:
    """The routes of the connection `config` on the interface `tunnel`, over `paths`, a list that may grow or shrink."""

    def __init__(self, keeper: RouteKeeper, config: ConnectionConfig, tunnel: str, paths: Sequence[Path]) -> None:
        self._keeper = keeper
        self._config = config
        self._tunnel = tunnel
        self._paths = paths
        self._peer_routes = [NO_ROUTE] * len(paths)
        self._news: dict[int, str] = {}  # by path index: the last line of the log

    def start(self) -> None:
        """Keep the routes to the networks of the connection."""
        self._keeper.keep(self._config.name, routing.tunnel_routes(self._config, self._tunnel))

    def stop(self) -> None:
        """Give all routes back."""
        for path in self._paths:
            self._keeper.keep(_owner(path), ())
        self._keeper.keep(self._config.name, ())

    def resize(self, gone: Sequence[Path]) -> None:
        """Note that there are more paths, or that some are `gone`; new ones have no route until the next look."""
        for path in gone:
            self._keeper.keep(_owner(path), ())
            self._news.pop(path.key[1], None)
        kept = self._peer_routes[: len(self._paths)]
        self._peer_routes = kept + [NO_ROUTE] * (len(self._paths) - len(kept))

    def look(self, interfaces: Mapping[str, Interface]) -> None:
        """Keep the routes to the peer that the paths now need; log which gateways were found, or are missing."""
        for index, path in enumerate(self._paths):
            found = self._peer_route(path, interfaces)
            self._keeper.keep(_owner(path), (found.route,) if found.route is not None else ())
            text = _news(found)
            if text is not None and text != self._news.get(index):
                report = log.info if found.missing is None else log.warn
                report("{path}: {text}", path=path, text=text)
                self._news[index] = text
            self._peer_routes[index] = found

    def _peer_route(self, path: Path, interfaces: Mapping[str, Interface]) -> PeerRoute:
        """Return the route to the peer; none unless the interface is up and has the address of the path."""
        interface = interfaces.get(path.config.interface_name)
        if path.port is None or interface is None or not interface.up:
            return NO_ROUTE
        try:
            return routing.peer_route(path.config, interface, self._keeper.default_route)
        except HostError as error:
            return PeerRoute(None, str(error))

    @property
    def doubts(self) -> int:
        """Return the number of times that routes were in doubt; it changes when they must be looked at."""
        return self._keeper.doubts

    def gateway(self, index: int) -> Address | None:
        """Return the gateway of path `index`; None if it is not known or not needed."""
        route = self._peer_routes[index].route
        return route.gateway if route is not None else None

    def missing(self, index: int) -> str | None:
        """Return why path `index` has no route to its peer; None if it has a route, or needs none."""
        found = self._peer_routes[index]
        return found.missing if found.route is None else self._keeper.refusal(found.route)


def _news(found: PeerRoute) -> str | None:
    """Return the line for the log about a route; None if its gateway was not looked up."""
    if found.missing is not None:
        return f"there is no route to the peer: {found.missing}"
    if not found.is_found or found.route is None:
        return None
    return f"the gateway is now {found.route.gateway}" if found.route.gateway else "no gateway is needed now"


def _owner(path: Path) -> str:
    """Return the name under which the routes to the peer of `path` are kept; its own may change with the peer."""
    return f"path_{path.key[1]} of {path.key[0]}"
