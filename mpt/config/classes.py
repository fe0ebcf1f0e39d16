"""The [class NAME] sections of a connection file, and the keys that only an adaptive connection has.

[class voice]
class  = realtime
ports  = 5060 10000-20000
copies = 2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpt import values
from mpt.config.parser import IniFile, Section
from mpt.config.schema import SECTIONS
from mpt.model import MAX_CLASSES, ClassConfig

_WITH_PORTS = (6, 17)  # TCP, UDP
_OF_CONNECTION = ("delay_budget",)
_OF_PATH = ("cost", "quota")
_IGNORED = "is ignored: only a sealed connection with scheduler = adaptive has it"


def read_classes(ini: IniFile) -> tuple[ClassConfig, ...]:
    """Return the classes in a connection file; errors are added to it."""
    found: list[ClassConfig] = []
    if "class" in ini.sections:
        ini.sections["class"].problem("", "has no name: write for example [class voice]")
    named: dict[str, Section] = {}
    for name, section in ini.named("class"):
        first = named.setdefault(name.lower(), section)
        if first is not section:
            section.problem("", f"has the name of [{first.title}] in line {first.line}: write another one")
        section.read("class")
        _check(name, section)
        if section.clean:
            found.append(_class(name, section.values))
        if len(found) > MAX_CLASSES:
            section.problem("", f"is one too many: a connection has at most {MAX_CLASSES} classes")
    return tuple(found)


def class_values(config: ClassConfig) -> dict[str, Any]:
    """Return the values of a class by the names of their keys."""
    return {
        "class": config.is_realtime,
        "dscp": config.dscps,
        "protocol": config.protocol,
        "ports": config.ports,
        "copies": config.copies,
    }


def follow_weights(head: Section, paths: Sequence[Section]) -> None:
    """Let a sealed connection go by its weights if they differ and its file names no scheduler."""
    weights = {section.values.get("weight_out") for section in paths}
    if "scheduler" not in head.entries and len(weights) > 1:
        head.values["scheduler"] = "cycle"


def check_scheduler(ini: IniFile, head: Section, paths: Sequence[Section], sealed: bool) -> None:
    """Check that a plain connection is not adaptive, and warn of what only an adaptive one has."""
    scheduler = head.values.get("scheduler")
    if scheduler == "adaptive" and not sealed:
        head.problem("scheduler", "must be cycle: only a connection with a peer_key, which is sealed, can be adaptive")
    if scheduler != "cycle":
        return
    for keys, sections in ((_OF_CONNECTION, [head]), (_OF_PATH, paths)):
        for section in sections:
            for key in SECTIONS[section.kind]:
                if key.name in keys and section.values.get(key.name, key.default_value()) != key.default_value():
                    section.warn(key.name, _IGNORED)
    for _name, section in ini.named("class"):
        section.warn("", _IGNORED)


def _check(name: str, section: Section) -> None:
    try:
        values.word(name)
    except ValueError as error:
        section.problem("", f"has a name that must be {error}")
    read = section.values
    if section.clean and not read["dscp"] and not read["ports"] and read["protocol"] is None:
        section.problem("", "has no condition: write dscp, ports or protocol, or several of them")
    if read.get("ports") and read.get("protocol") not in (None, *_WITH_PORTS):
        section.problem("ports", "must not stand beside this protocol, which has none: only tcp and udp have ports")
    if read.get("copies") == 2 and read.get("class") is False:
        section.problem("copies", "must be 1 for bulk: only realtime packets are copied")


def _class(name: str, read: dict[str, Any]) -> ClassConfig:
    return ClassConfig(name, read["class"], read["dscp"], read["protocol"], read["ports"], read["copies"])
