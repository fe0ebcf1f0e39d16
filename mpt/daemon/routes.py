"""The routes that connections want, installed once however many want them, and removed with the last one."""

from __future__ import annotations

from twisted.logger import Logger

from mpt.errors import HostError
from mpt.host.netlink import NetlinkApi
from mpt.model import Network, Route

log = Logger()


class RouteKeeper:
    """Adds routes and remembers which are its own: a route that was there already stays when mpt stops."""

    def __init__(self, netlink: NetlinkApi) -> None:
        self._netlink = netlink
        self._users: dict[Route, set[str]] = {}
        self._own: set[Route] = set()

    def want(self, route: Route, user: str) -> None:
        """`user` needs `route`, perhaps again after the kernel has dropped it. A refusal is logged, not raised: the
        paths may work without. An own route that differs only in its gateway, because that has changed, makes way."""
        again = route in self._users
        self._users.setdefault(route, set()).add(user)
        for old in [each for each in self._own if each != route and _place(each) == _place(route)]:
            if user not in self._users[old]:
                continue
            self._users[old].discard(user)
            if self._users[old]:
                return  # what has changed for this user has changed for the others, too: the last one moves the route
            del self._users[old]
            self._delete(old)
        try:
            if self._netlink.add_route(route, again):
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
                self._delete(route)

    def _delete(self, route: Route) -> None:
        self._own.discard(route)
        try:
            self._netlink.delete_route(route)
        except HostError as error:
            log.warn("{error}", error=error)


def _place(route: Route) -> tuple[Network, int | None, str]:
    """The kernel keeps one route for each of these."""
    return route.destination, route.metric, route.interface
