# SPDX-License-Identifier: Apache-2.0
"""Flow cookies: which connection and version a flow belongs to, and what a packet punted by it means.

Layout, most significant first: 12 bits mark (0xBA7), 4 bits kind, 16 bits version, 32 bits connection number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

MARK = 0xBA7


class Kind(IntEnum):
    """What a flow does; of those that reach the controller, whether it must pass the packet on."""

    PLAIN = 0
    """Part of the standing pipeline; never punts TCP."""
    SYN = 1
    """Punts SYNs of services: the controller must pass them on."""
    COPY = 2
    """The switch has passed the packet on; the controller gets a copy."""
    PUNT = 3
    """Only the controller has the packet."""
    PATH = 4
    """Carries an established connection; a packet that is punted by it all the same must be passed on."""
    DROP = 5
    """Silences an abandoned side."""
    REWRITES = 6
    """Marks a switch that takes connections in hand; what it knows no connection of, it drops."""
    FORWARDS = 7
    """Marks a switch that only forwards."""


class Cookie(NamedTuple):
    """The parts of a cookie; the version counts modulo 2^16, the number modulo 2^32."""

    kind: Kind
    version: int = 0
    number: int = 0

    def encode(self) -> int:
        """Return the 64-bit cookie."""
        return MARK << 52 | self.kind << 48 | (self.version & 0xFFFF) << 32 | (self.number & 0xFFFFFFFF)


def decode_cookie(value: int) -> Cookie | None:
    """Return the parts of a cookie, or None if it is not one of ours."""
    kind = value >> 48 & 0xF
    if value >> 52 != MARK or kind > max(Kind):
        return None
    return Cookie(Kind(kind), value >> 32 & 0xFFFF, value & 0xFFFFFFFF)
