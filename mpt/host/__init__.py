"""Linux: TUN devices, sockets, netlink. No Twisted here."""
