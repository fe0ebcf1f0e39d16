"""iperf3 between two hosts: a TCP or UDP stream, or several at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.process import Process

PORT = 5201  # of the first server, iperf3's default; the next server has the next port
START_TIME = 10.0  # seconds that a server has to listen


@contextmanager
def iperf3(client: Host, server: Host, addresses: Sequence[str], *arguments: str) -> Iterator[list[Process]]:
    """Start an iperf3 on `client` for each of `addresses` of `server`, and its server there; end them with the block.

    `arguments` are the clients': ``"--time", "5", "--json"``; iperf3 knows whole seconds only.
    """
    servers: list[Process] = []
    clients: list[Process] = []
    try:
        for port, address in enumerate(addresses, PORT):
            argv = ["iperf3", "--server", "--one-off", "--forceflush", "--bind", address, "--port", str(port)]
            servers.append(server.start(argv))
        for listening in servers:
            listening.wait_for_output("listening", START_TIME)
        for port, address in enumerate(addresses, PORT):
            argv = ["iperf3", "--client", address, "--port", str(port), "--forceflush", *arguments]
            clients.append(client.start(argv))
        yield clients
    finally:
        for host, processes in ((client, clients), (server, servers)):
            for process in processes:
                host.end(process)


def result(client: Process, timeout: float) -> dict[str, Any]:
    """Return the JSON of a client with ``--json`` at its end; HostError if it fails or takes longer than `timeout`."""
    if client.wait(timeout) != 0:
        raise HostError(f"{' '.join(client.argv)} failed:\n{client.complaint()}")
    values: dict[str, Any] = json.loads(client.output())
    return values
