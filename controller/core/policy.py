# SPDX-License-Identifier: Apache-2.0
"""What the operator wants, as plain values: servers, services, and which alerts lead to which verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from controller.core.events import AlertRaised, Verdict
from controller.core.segment import Endpoint


class CutPolicy(Enum):
    """At which moment a connection that is served may be cut."""

    NOW = "now"
    """At once: the target takes over in the middle of whatever is going on."""
    QUIET = "quiet"
    """When nothing is under way either way: no request is torn, no answer lost."""
    REQUEST = "request"
    """Before the client's last request, which the target is given too: the one exception to exactly once."""


class Hold(Enum):
    """Whether a cutover waits until the connection's state is in the P4 switch before the target (`apps/p4sync.py`)."""

    STAY = "stay"
    """It waits; without the state the connection stays where it is."""
    GO = "go"
    """It waits, and goes on without the state where that is refused, or does not come in time."""
    OFF = "off"
    """It does not wait: the state arrives when it does."""


@dataclass(frozen=True, slots=True)
class Server:
    """A place where connections can live; ``mac`` None means that it is learned."""

    name: str
    endpoint: Endpoint
    mac: str | None = None
    discards_banner: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """What clients dial, who serves it first, and how its connections are judged (times in seconds)."""

    name: str
    origin: Server
    gated: bool = True
    verdict_timeout: float = 0.1
    default_verdict: Verdict = Verdict.FORWARD
    handshake_timeout: float = 0.15
    mirror_bytes: int = 1 << 20
    idle_timeout: int = 7_440
    cut_policy: CutPolicy = CutPolicy.NOW
    quiet_timeout: float = 5.0
    """For how long a quiet moment is waited for."""
    allow_torn_response: bool = False
    """Whether a request may move although the old server has answered part of it."""
    hold_for_state: Hold = Hold.STAY
    state_timeout: float = 0.3
    """For how long the cutover waits, once the target stands, for state that goes ahead."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Maps alerts to a verdict; every part that is not None must be equal to the alert's."""

    verdict: Verdict
    target: str | None = None
    sid: int | None = None
    message: str | None = None
    classtype: str | None = None

    def matches(self, alert: AlertRaised) -> bool:
        """Return whether this rule speaks of the alert."""
        return (
            (self.sid is None or self.sid == alert.sid)
            and (self.message is None or self.message == alert.message)
            and (self.classtype is None or self.classtype == alert.classtype)
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what strangers can make the controller keep or do."""

    connections: int = 200_000
    half_open: int = 4_096
    held_bytes: int = 262_144
    syn_rate: int = 5_000


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it; ``analyser_port`` is the name of the switch port that leads to the analyser, if there is one."""

    servers: dict[str, Server]
    services: tuple[Service, ...]
    rules: tuple[Rule, ...] = ()
    analyser_port: str | None = None
    limits: Limits = Limits()
    rewriting: frozenset[int] = frozenset()
    """Switches that rewrite; empty: the first one does."""

    def judge(self, alert: AlertRaised) -> Rule | None:
        """Return the first rule that speaks of the alert."""
        return next((rule for rule in self.rules if rule.matches(alert)), None)
