# SPDX-License-Identifier: Apache-2.0
"""What of a connection its flows' matches and actions do not say: each flow from the client carries it as a note.

The switch outlives its controller, so it is the one memory that a new controller can trust: notes change with the
flows, in the same atomic step. Only a connection whose gate is shut has facts elsewhere: what its ends agreed on comes
with the SYN-ACK, after the flows; the journal's ``ConnectionOpened`` tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from controller.core.options import Agreement
from controller.core.segment import ConnectionKey


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one connection; numbers are in the client's view, ``opened`` is monotonic time.

    Without ``agreement`` the origin has not answered yet and ``origin_isn``, ``server_clock``, ``server_window`` mean
    nothing. The clocks are the newest TSval known when the flow was made, 0 without timestamps; ``server_ttl`` is what
    the client sees of the server, 0 if it was not heard.
    """

    client_isn: int
    origin_isn: int
    client_mac: str
    service_mac: str
    client_port: int
    syn_window: int
    ttl: int
    tos: int
    opened: float
    client_clock: int = 0
    server_clock: int = 0
    client_window: int = 0
    server_window: int = 0
    window_shift: int = 0
    agreement: Agreement | None = None
    server_ttl: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """What an origin's SYN-ACK adds to the facts of a connection whose gate is shut."""

    origin_isn: int
    server_clock: int
    agreement: Agreement


_NO_SCALE = -1
_OPTIONAL = ("window_scale", "client_window_scale")
_FLAGS = ("sack", "timestamps", "ecn")


def pairs_of(opened: Opened) -> tuple[tuple[str, int], ...]:
    """Return the facts of a SYN-ACK as pairs of name and number, as an event can carry them."""
    pairs = [("origin_isn", opened.origin_isn), ("server_clock", opened.server_clock)]
    for field in fields(Agreement):
        value = getattr(opened.agreement, field.name)
        pairs.append((field.name, _NO_SCALE if value is None else int(value)))
    return tuple(pairs)


def opened_of(pairs: tuple[tuple[str, int], ...]) -> Opened | None:
    """Return the facts that the pairs tell, or None where one is missing or is none of ours."""
    told = dict(pairs)
    if set(told) != {"origin_isn", "server_clock", *(field.name for field in fields(Agreement))}:
        return None
    origin_isn, server_clock = told.pop("origin_isn"), told.pop("server_clock")
    options: dict[str, int | None] = dict(told)
    options |= {name: None for name in _OPTIONAL if told[name] == _NO_SCALE}
    options |= {name: bool(told[name]) for name in _FLAGS}
    return Opened(origin_isn, server_clock, Agreement(**options))  # type: ignore[arg-type]


@dataclass(slots=True)
class Recollection:
    """What earlier controllers have left written; of two, the newer one is merged into the older."""

    opened: dict[tuple[ConnectionKey, int], Opened]
    """How connections were opened that are not closed, by name and number."""
    completed: dict[ConnectionKey, int]
    """The newest version of each whose move is complete: both ends have been told to go on."""

    def __ior__(self, newer: Recollection) -> Self:
        """Take what a newer one knows, too."""
        self.opened |= newer.opened
        self.completed |= newer.completed
        return self
