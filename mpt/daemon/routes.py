"""The routes that connections want, installed once however many want them, and removed with the last one."""

from __future__ import annotations

from twisted.logger import Logger

from mpt.errors import HostError
from mpt.host.netlink import NetlinkApi, Route

log = Logger()


class RouteKeeper:
    """Adds routes and remembers which are its own: a route that was there already stays when mpt stops."""

    def __init__(self, netlink: NetlinkApi) -> None:
        self._netlink = netlink
        self._users: dict[Route, set[str]] = {}
        self._own: set[Route] = set()

    def want(self, route: Route, user: str) -> None:
        """`user` needs `route`, perhaps again after the kernel has dropped it. A refusal is logged, not raised: the paths
        may work without."""
        self._users.setdefault(route, set()).add(user)
        try:
            if self._netlink.add_route(route):
                self._own.add(route)
        except HostError as error:
            log.error("{user}: {error}", user=user, error=error)

    def forget(self, user: str) -> None:
        """`user` is gone: remove the routes that nobody else needs and that were not there before."""
        for route, users in list(self._users.items()):
            users.discard(user)
            if users:
                continue
            del self._users[route]
            if route in self._own:
                self._own.discard(route)
                try:
                    self._netlink.delete_route(route)
                except HostError as error:
                    log.warn("{error}", error=error)
