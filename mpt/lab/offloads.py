"""Switch the offloads of a network device, as ``ethtool -K`` does, without the program.

A shaped link stands for a real wire, which carries frames of the MTU. With segmentation offload a virtual device would
carry frames of 64 KB, which no delay, loss or capture should see.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946  # linux/sockios.h
ETHTOOL_GSTRINGS, ETHTOOL_GSSET_INFO, ETHTOOL_SFEATURES = 0x1B, 0x37, 0x3B  # linux/ethtool.h
ETH_SS_FEATURES = 4
NAME_LENGTH = 32

SEGMENTATION = (
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
)
CHECKSUM = ("tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-sctp")


def switch(interface: str, features: tuple[str, ...], on: bool) -> None:
    """Switch `features` of `interface`, by ethtool's names of single features; unknown names are skipped."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        names = _feature_names(control, interface)
        blocks = (len(names) + 31) // 32
        valid, wanted = [0] * blocks, [0] * blocks
        for index, name in enumerate(names):
            if name in features:
                valid[index // 32] |= 1 << index % 32
                wanted[index // 32] |= (1 << index % 32) * on
        pairs = [word for pair in zip(valid, wanted, strict=True) for word in pair]
        _ioctl(control, interface, struct.pack(f"II{len(pairs)}I", ETHTOOL_SFEATURES, blocks, *pairs))


def _feature_names(control: socket.socket, interface: str) -> list[str]:
    """Return the kernel's feature names in the order of their bits."""
    answer = _ioctl(control, interface, struct.pack("=IIQI", ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0))
    count: int = struct.unpack_from("=I", answer, 16)[0]
    request = struct.pack("=III", ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count) + bytes(count * NAME_LENGTH)
    answer = _ioctl(control, interface, request)[12:]
    chunks = (answer[start : start + NAME_LENGTH] for start in range(0, count * NAME_LENGTH, NAME_LENGTH))
    return [chunk.rstrip(b"\0").decode() for chunk in chunks]


def _ioctl(control: socket.socket, interface: str, request: bytes) -> bytes:
    """Return the ethtool structure `request` as the kernel left it after SIOCETHTOOL."""
    buffer = array.array("B", request)
    address, _ = buffer.buffer_info()
    fcntl.ioctl(control.fileno(), SIOCETHTOOL, struct.pack("16sP", interface.encode(), address))
    return buffer.tobytes()
