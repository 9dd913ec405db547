# SPDX-License-Identifier: Apache-2.0
"""Where this host is: addresses on its interfaces, and changes of them as netlink tells."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK  # type: ignore[import-untyped]

IFF_UP, IFF_RUNNING, IFF_LOOPBACK = 0x1, 0x40, 0x8
IFA_F_TENTATIVE, IFA_F_DADFAILED = 0x40, 0x08
RT_SCOPE_UNIVERSE = 0


class Place(NamedTuple):
    """An address that packets can be sent from."""

    host: str
    interface: str


class PlaceWatch:
    """Lists the usable addresses and says when they may have changed.

    ``interfaces`` limits and orders the choice (the first is preferred); empty means all but loopback and ``skip``.
    """

    def __init__(self, interfaces: Iterable[str] = (), skip: Iterable[str] = (), *, loopback: bool = False) -> None:
        self._interfaces = tuple(interfaces)
        self._skip = frozenset(skip)
        self._loopback = loopback
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._events.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        self._query = IPRoute()

    def fileno(self) -> int:
        """For the event loop: readable when something changed."""
        return self._events.fileno()

    def drain(self) -> None:
        """Swallow pending notifications: the list is read anew anyway."""
        while True:
            try:
                self._events.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: some were lost, which is as good a reason to look
                continue

    def places(self) -> list[Place]:
        """Usable addresses in order of preference."""
        names = self._running()
        found: list[tuple[int, int, Place]] = []
        for message in self._query.get_addr():
            name = names.get(message["index"])
            if name is None:
                continue
            place = _usable(message, name, loopback=self._loopback)
            if place is not None:
                rank = self._interfaces.index(name) if name in self._interfaces else len(self._interfaces)
                found.append((rank, len(found), place))
        return [place for _, _, place in sorted(found)]

    def _running(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for link in self._query.get_links():
            name = link.get_attr("IFLA_IFNAME")
            flags = link["flags"]
            if name in self._skip or (self._interfaces and name not in self._interfaces):
                continue
            if flags & IFF_LOOPBACK and not self._loopback:
                continue
            if flags & IFF_UP and flags & IFF_RUNNING:
                names[link["index"]] = name
        return names

    def close(self) -> None:
        """Release the netlink sockets."""
        self._events.close()
        self._query.close()


def _usable(message: Any, name: str, *, loopback: bool) -> Place | None:
    if message["scope"] != RT_SCOPE_UNIVERSE and not loopback:
        return None
    flags = message.get_attr("IFA_FLAGS") or 0
    if flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
        return None
    host = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if host is None or ipaddress.ip_address(host).is_link_local:
        return None
    return Place(host, name)
