# SPDX-License-Identifier: Apache-2.0
"""Where hosts are: learned from ARP, neighbour discovery and the segments that they send."""

from __future__ import annotations

from typing import NamedTuple


class Location(NamedTuple):
    """A switch port and the MAC address heard behind it."""

    port: int
    mac: str


class Locations:
    """Address to location, one entry for each switch and address; the newest word counts."""

    def __init__(self) -> None:
        """Begin knowing nobody."""
        self._known: dict[tuple[int, str], Location] = {}

    def learn(self, switch: int, address: str, port: int, mac: str) -> None:
        """Remember where ``address`` was heard."""
        self._known[switch, address] = Location(port, mac)

    def find(self, switch: int, address: str) -> Location | None:
        """Return where ``address`` was last heard on this switch."""
        return self._known.get((switch, address))

    def forget_switch(self, switch: int) -> None:
        """Drop all that was learned at a switch: it may come back with other port numbers."""
        self._known = {place: location for place, location in self._known.items() if place[0] != switch}
