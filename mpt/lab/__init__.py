"""Hosts and links on one machine: the stage of the demo, the namespace tests and the benchmarks.

from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping

with Lab() as lab:                                    # everything inside is gone when the block ends
    a, b = lab.host("a"), lab.host("b")               # namespaces mpt-PID.N-a and mpt-PID.N-b
    link = lab.link(                                  # eth1 here and eth1 there, up and addressed
        a, b,
        [("10.1.1.2/24", "10.1.1.3/24"), ("fd01::2/64", "fd01::3/64")],
        Shape(rate_mbit=50, delay_ms=10, jitter_ms=1, loss_percent=0.1),
    )
    site = lab.host("site")                           # a network behind a, which then has to forward
    lab.link(site, a, [("11.1.1.2/24", "11.1.1.1/24")])
    a.sysctl({"net/ipv4/ip_forward": "1"})            # or lab.host("a", forwarding=True)
    site.ip("route add default via 11.1.1.1")

    server = b.start(["iperf3", "-s"])                # a Process: pid, output(), stop(), cpu_seconds(), ...
    print(a.run(["iperf3", "-c", "10.1.1.3"]))        # to its end; HostError if it fails
    udp = a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)   # our own socket, inside a
    print(ping(a, "10.1.1.3", count=3))               # [0.0213, 0.0209, 0.0212]

    link.pull(); link.plug()                          # carrier loss at both ends; pull("a"): only a sees it
    link.black_hole(); link.restore()                 # frames swallowed, no event; black_hole("ab"): one way
    link.change(rate_mbit=20)                         # while traffic runs
    link.remove_interface("a"); link.return_interface("a")

    nat = Nat(b, "eth2", "203.0.113.5/24")            # mpt.lab.nat: b translates the addresses of what it forwards
    nat.move("203.0.113.77/24"); nat.flush()
    with Eavesdropper(link, "ab") as man:             # mpt.lab.eavesdropper: sees, keeps, changes, forges datagrams
        print(man.seen)

    # two daemons (mpt.lab.tunnel) and a measured, checked TCP stream through them (mpt.lab.transfer)
    tunnel = Tunnel(Description([link], reorder_window=500), lab.directory)
    transfer = Transfer(a, b, "10.0.0.2", seconds=5)  # runs; transfer.poll() tells how far it is
    result = transfer.finish()                        # mbit, longest_gap, verified; HostError if a byte was wrong
    print(result.mbit, tunnel.daemons[0].process.cpu_seconds(), tunnel.stop())
"""
