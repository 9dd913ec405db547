# SPDX-License-Identifier: Apache-2.0
"""What the network does when an ECCP host moves: flows for the new place are installed before its packets need them.

Pure: `FlowMoved` and switches in, flow changes out.  Newer versions supersede, older ones are ignored, as in the
protocol itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from controller.core.commands import FlowAdd, FlowDelete, Match, Output, Port
from controller.core.events import FlowMoved, SwitchConnected, SwitchLost
from controller.core.segment import Endpoint

TABLE = 0
PRIORITY = 40  # below everything that watches TCP and ARP, above the default
IDLE = 60  # seconds after which an unused place is forgotten
UDP = 17
ETHER_IPV4, ETHER_IPV6 = 0x0800, 0x86DD
COOKIE_MARK = 0xECC0 << 48
COOKIE_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a flow's two ends are, and at which version of the end that moved last."""

    own: Endpoint
    peer: Endpoint


class Mobility:
    """Remembers where flows are and which switches there are."""

    def __init__(self) -> None:
        self.switches: set[int] = set()
        self.places: dict[tuple[str, str], Place] = {}
        self._versions: dict[tuple[str, str, str], int] = {}

    def handle(self, event: object) -> list[FlowAdd | FlowDelete]:
        """The flow changes that an event calls for; other events call for none."""
        if isinstance(event, SwitchConnected):
            self.switches.add(event.switch)
            return [change for key in self.places for change in self._install(key, event.switch)]
        if isinstance(event, SwitchLost):
            self.switches.discard(event.switch)
        if isinstance(event, FlowMoved):
            return self._moved(event)
        return []

    def _moved(self, event: FlowMoved) -> list[FlowAdd | FlowDelete]:
        key = (event.host, event.flow)
        turn = (*key, event.who)
        if event.version < self._versions.get(turn, 0):
            return []
        self._versions[turn] = event.version
        place = Place(event.own, event.peer)
        if self.places.get(key) == place:
            return []
        known = key in self.places
        self.places[key] = place
        changes: list[FlowAdd | FlowDelete] = []
        for switch in sorted(self.switches):
            if known:
                changes.append(FlowDelete(switch, TABLE, cookie=cookie_of(*key), cookie_mask=COOKIE_MASK))
            changes.extend(self._install(key, switch))
        return changes

    def _install(self, key: tuple[str, str], switch: int) -> Iterator[FlowAdd]:
        place = self.places[key]
        for src, dst in ((place.own, place.peer), (place.peer, place.own)):
            match = Match(
                ether_type=ETHER_IPV6 if ":" in src.address else ETHER_IPV4,
                ip_proto=UDP,
                ip_src=src.address,
                ip_dst=dst.address,
            )
            yield FlowAdd(
                switch, TABLE, PRIORITY, match, (Output(Port.NORMAL),), cookie=cookie_of(*key), idle_timeout=IDLE
            )


def cookie_of(host: str, flow: str) -> int:
    """The OpenFlow cookie of a flow's entries: a mark and 48 bits that follow from its name."""
    return COOKIE_MARK | int.from_bytes(blake2b(f"{host}/{flow}".encode(), digest_size=6).digest(), "big")


def describe(event: FlowMoved) -> str:
    """One line for people."""
    mover = event.host if event.who == "own" else f"the peer of {event.host}"
    return f"{mover} moved: flow {event.flow} version {event.version} now between {event.own} and {event.peer}"
