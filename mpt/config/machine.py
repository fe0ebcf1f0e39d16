"""Warnings about interfaces and addresses that a configuration names and this machine lacks; they may still come.

Pure: the caller passes the interfaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpt.config.parser import Section
from mpt.config.schema import nearest
from mpt.model import Address, Interface
from mpt.values import PRIVATE

MAX_NAMED = 8  # interfaces or addresses in one warning


def check_path(section: Section, interfaces: Mapping[str, Interface]) -> None:
    """Warn if the interface of this path is missing, or lacks the local address."""
    values = section.values
    name: str | None = values.get("interface_name")
    if name is None:
        return
    interface = interfaces.get(name)
    if interface is None:
        others = [other for other in interfaces if other != "lo"]
        near = nearest(name, others)
        meant = f": is {near!r} meant?" if near else ""
        section.warn("interface_name", f"is no interface of this host now; {_there_are(others)}{meant}")
        return
    key = PRIVATE if values.get(PRIVATE) is not None else "public_ipaddr"
    address: Address | None = values.get(key)
    if address is None or address.is_unspecified:
        return
    searched = [interface] if values.get("bind_to_device", True) else interfaces.values()
    if any(_has(each, address) for each in searched):
        return
    homes = [each.name for each in interfaces.values() if _has(each, address)]
    own = [str(each.ip) for each in interface.addresses if each.version == address.version]
    where = (
        f"it is on {homes[0]}" if homes else f"{name} has {_some(own) if own else f'no IPv{address.version} address'}"
    )
    behind_nat = ". Behind NAT write private_ipaddr, too" if key == "public_ipaddr" and own and not homes else ""
    section.warn(key, f"is not on {name} now: {where}{behind_nat}")


def _has(interface: Interface, address: Address) -> bool:
    return any(each.ip.packed == address.packed for each in interface.addresses)


def _there_are(names: Iterable[str]) -> str:
    found = sorted(names)
    return f"there are {_some(found)}" if found else "there is none but lo"


def _some(words: list[str]) -> str:
    return ", ".join(words[:MAX_NAMED]) + (f" and {len(words) - MAX_NAMED} more" if len(words) > MAX_NAMED else "")
