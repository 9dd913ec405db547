# SPDX-License-Identifier: Apache-2.0
"""Settings of a `Peer`, checked once when they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from controller.eccp.datapath.choice import best
from controller.eccp.datapath.interface import Datapath
from controller.eccp.errors import ConfigError
from controller.eccp.handshake import Credentials
from controller.eccp.scheduler import Policy


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How this host behaves; all times in seconds.

    ``random(n)`` gives n random bytes.  ``sealed_data`` off sends inner packets in clear (they are sealed if either
    end wants it).  ``early_data`` off holds back data until a moved peer's address is validated.
    """

    credentials: Credentials
    random: Callable[[int], bytes]
    service: int = 0
    accepts: bool = True
    sealed_data: bool = True
    early_data: bool = True
    policy: Policy = Policy.PRIMARY_BACKUP
    inner: tuple[IPv4Address | IPv6Address, ...] = ()
    is_rendezvous: bool = False
    keepalive: float = 15.0
    probe_after: float = 1.0
    probes_until_lost: int = 3
    open_timeout: float = 15.0
    close_timeout: float = 3.0
    idle_timeout: float = 7200.0
    linger: float = 5.0
    cookie_above: int = 128
    max_half_open: int = 1024
    max_connections: int = 65536
    max_flows: int = 64
    datapath: Datapath = field(default_factory=best)

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        positive = ("keepalive", "probe_after", "open_timeout", "close_timeout", "idle_timeout", "linger")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0 seconds")
        if self.probes_until_lost < 1 or self.max_flows < 1 or self.max_half_open < 1:
            raise ConfigError("probes_until_lost, max_flows and max_half_open must be at least 1")
        if not 0 <= self.service < 2**32:
            raise ConfigError(f"service {self.service} is not a 32-bit number")
