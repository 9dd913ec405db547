# SPDX-License-Identifier: Apache-2.0
"""The packet replication engine: multicast groups and clone sessions (P4Runtime specification, section 9.5)."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_SESSION = 32_767
MAX_GROUP = 65_535


@dataclass(frozen=True)
class Replica:
    """A copy: the port it leaves by, and its `egress_rid`."""

    port: int
    instance: int


@dataclass
class Replication:
    """Groups and sessions by number. A write replaces a whole tuple: packets see the old one or the new one."""

    groups: dict[int, tuple[Replica, ...]] = field(default_factory=dict)
    sessions: dict[int, tuple[Replica, ...]] = field(default_factory=dict)
