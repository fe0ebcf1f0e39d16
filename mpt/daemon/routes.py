"""Keeps the routes that the connections want, even if other programs remove them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from twisted.application.service import Service
from twisted.logger import Logger

from mpt.errors import HostError
from mpt.host.netlink import NetlinkApi
from mpt.host.rtnetlink import Changes
from mpt.model import Interface, Network, Route

log = Logger()

RoutePlace = tuple[Network, int | None, str]  # destination, metric and interface: the kernel keeps one route for each


class RouteKeeper(Service):
    """Adds routes, puts them back when another program has removed them, and removes them at the end.

    A user, which is any name, says with `keep` which routes it wants. A route that several users want is there until
    the last gives it up. If users want different gateways for one place, the first user's route stays. A route that
    another program has added serves as well as ours, and is never removed. A refusal is logged, not raised, for the
    paths may work without the route; after a change it is tried again.

    The kernel is asked once for our routes and the default routes, and again only where they are in `doubt`. An event
    about other interfaces costs nothing.
    """

    def __init__(self, netlink: NetlinkApi) -> None:
        self._netlink = netlink
        self._wanted: dict[Hashable, Sequence[Route]] = {}
        self._wishes: dict[RoutePlace, dict[Hashable, Route]] = {}
        self._own: dict[RoutePlace, Route] = {}  # added by us, and still there
        self._foreign: set[RoutePlace] = set()  # another program has added the same route
        self._disagreements: set[RoutePlace] = set()  # logged already
        self._refusals: dict[RoutePlace, str] = {}
        self._defaults: dict[tuple[str, int], Route | None] = {}
        self._is_sure = False  # nothing has changed since `restore`
        self.doubts = 0  # how often default routes were in doubt

    def startService(self) -> None:
        """Remove the routes that killed daemons have left."""
        super().startService()
        removed = self._netlink.claim_routes()
        if removed:
            log.info("{count} routes of an earlier daemon are removed", count=removed)

    def stopService(self) -> None:
        """Remove all added routes."""
        super().stopService()
        for place in list(self._own):
            self._delete(place)
        self._wanted.clear()
        self._wishes.clear()

    def keep(self, user: Hashable, routes: Sequence[Route]) -> None:
        """Keep `routes` for `user` from now on, in place of all earlier ones."""
        before = self._wanted.get(user, ())
        if before == routes:
            return
        self._is_sure = False
        places = {_place(route): route for route in routes}
        for place in {_place(route) for route in before} - places.keys():
            wishes = self._wishes[place]
            del wishes[user]
            if not wishes:
                del self._wishes[place]
            self._settle(place)
        for place, route in places.items():
            self._wishes.setdefault(place, {})[user] = route
            self._settle(place)
        self._wanted[user] = routes
        if not routes:
            del self._wanted[user]

    @property
    def is_complete(self) -> bool:
        """Return whether no wanted route is refused."""
        return not self._refusals

    def refusal(self, route: Route) -> str | None:
        """Return why `route`, which a user wants, is refused; None if it is there."""
        return self._refusals.get(_place(route))

    def default_route(self, interface: str, version: int) -> Route | None:
        """Return the default route over `interface`, as `Netlink.default_route` does, from memory if possible."""
        key = interface, version
        if key not in self._defaults:
            self._defaults[key] = self._netlink.default_route(interface, version)
        return self._defaults[key]

    def doubt(self, changes: Changes, interfaces: Mapping[str, Interface]) -> None:
        """Forget the routes that `changes` may have changed, and list ours again; `interfaces` are as they are now.

        An interface that goes down, or loses an address, loses routes without an event.
        """
        names = {name for name, each in interfaces.items() if each.index in changes.interfaces}
        everything = changes.routes or changes.lost

        def is_doubtful(interface: str) -> bool:
            return everything or interface in names or interface not in interfaces

        certain = {key: route for key, route in self._defaults.items() if not is_doubtful(key[0])}
        if len(certain) < len(self._defaults):
            self._defaults = certain
            self.doubts += 1
        if any(is_doubtful(interface) for _, _, interface in self._wishes):
            self._is_sure = False
            self._foreign.clear()
            versions = {destination.version for destination, _, _ in self._wishes}
            listed = [route for version in sorted(versions) for route in self._netlink.own_routes(version)]
            self._own = {_place(route): route for route in listed if _place(route) in self._wishes}

    def restore(self) -> None:
        """Put lost routes back, and try refused ones again. Costs nothing if no route was in doubt."""
        if self._is_sure and self.is_complete:
            return
        self._is_sure = True
        for place, wishes in self._wishes.items():
            self._settle(place)
            if len(wishes) > 1 and len(set(wishes.values())) > 1 and place not in self._disagreements:
                self._disagreements.add(place)
                log.error(
                    "{users} want different routes to {destination} over {interface}: the route of the first stays",
                    users=self._users(place),
                    destination=place[0],
                    interface=place[2],
                )

    def _settle(self, place: RoutePlace) -> None:
        """Make the route at `place` as it is wanted there."""
        wanted = next(iter(self._wishes.get(place, {}).values()), None)
        if wanted is None:
            self._refusals.pop(place, None)
            self._foreign.discard(place)
        if place in self._own and self._own[place] != wanted:
            self._delete(place)
        if wanted is not None and place not in self._own and place not in self._foreign:
            self._add(place, wanted)

    def _add(self, place: RoutePlace, route: Route) -> None:
        try:
            if self._netlink.add_route(route):
                self._own[place] = route
            else:
                self._foreign.add(place)
        except HostError as error:
            if self._refusals.get(place) != str(error):
                log.error("{users}: {error}", users=self._users(place), error=error)
            self._refusals[place] = str(error)
            return
        self._refusals.pop(place, None)

    def _delete(self, place: RoutePlace) -> None:
        try:
            self._netlink.delete_route(self._own.pop(place))
        except HostError as error:
            log.warn("{error}", error=error)

    def _users(self, place: RoutePlace) -> str:
        return ", ".join(map(str, self._wishes[place]))


def _place(route: Route) -> RoutePlace:
    return route.destination, route.metric, route.interface
