"""IP packets as they arrive at an interface, octet by octet, for tests."""

from __future__ import annotations

from ipaddress import ip_address


def ip_packet(protocol: int, source: str, destination: str, payload: bytes) -> bytes:
    """An IPv4 or IPv6 packet without options; checksums are 0."""
    sender, receiver = ip_address(source), ip_address(destination)
    if sender.version == 4:
        head = bytes((0x45, 0)) + (20 + len(payload)).to_bytes(2, "big") + bytes(4) + bytes((64, protocol, 0, 0))
    else:
        head = bytes((0x60, 0, 0, 0)) + len(payload).to_bytes(2, "big") + bytes((protocol, 64))
    return head + sender.packed + receiver.packed + payload


def udp_packet(source: str, source_port: int, destination: str, port: int, payload: bytes) -> bytes:
    """A UDP datagram in an IP packet."""
    ports = source_port.to_bytes(2, "big") + port.to_bytes(2, "big")
    return ip_packet(17, source, destination, ports + (8 + len(payload)).to_bytes(2, "big") + bytes(2) + payload)


def icmp_packet(sender: str, destination: str, kind: int, code: int, about: bytes, mtu: int = 0) -> bytes:
    """An ICMP error about the packet `about`."""
    if ip_address(sender).version == 4:
        return ip_packet(1, sender, destination, bytes((kind, code, 0, 0)) + mtu.to_bytes(4, "big") + about[:28])
    return ip_packet(58, sender, destination, bytes((kind, code, 0, 0)) + mtu.to_bytes(4, "big") + about)
