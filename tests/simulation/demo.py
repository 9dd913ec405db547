# SPDX-License-Identifier: Apache-2.0
"""The demo's network, simulated: one service, its origin, a target, and rules that forward, migrate or drop."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from controller.core.events import AlertRaised, Verdict
from controller.core.policy import Policy, Rule, Server, Service
from controller.core.segment import Endpoint

from .network import Faults, Network
from .peer import Capabilities, Peer

CLIENT = Endpoint("10.0.0.3", 40_000)
ORIGIN, TARGET = Endpoint("10.0.0.1", 11_111), Endpoint("10.0.0.2", 22_222)
MACS = {"10.0.0.1": "02:00:00:00:00:01", "10.0.0.2": "02:00:00:00:00:02", "10.0.0.3": "02:00:00:00:00:03"}
PORTS = {address: number for number, address in enumerate(MACS, 1)}
FORWARD, MIGRATE, DROP, GO_BACK = 1_000_001, 1_000_002, 1_000_003, 1_000_004

origin, target = Server("server1", ORIGIN), Server("server2", TARGET)
POLICY = Policy(
    servers={"server1": origin, "server2": target},
    services=(Service("echo", origin),),
    rules=(
        Rule(Verdict.FORWARD, sid=FORWARD),
        Rule(Verdict.MIGRATE, "server2", sid=MIGRATE),
        Rule(Verdict.DROP, sid=DROP),
        Rule(Verdict.RETURN, sid=GO_BACK),
    ),
    analyser_port="ids0",
)


def alert(sid: int, **changes: Any) -> AlertRaised:
    """Return the alert that a rule raises on the client's request."""
    return replace(AlertRaised(0.0, "suricata", sid, 1, 1, "", "", 3, CLIENT, ORIGIN), **changes)


class Demo(Network):
    """The network with both servers listening; ``events`` holds what was published."""

    def __init__(
        self,
        random: Random | None = None,
        faults: Faults | None = None,
        *,
        policy: Policy = POLICY,
        first: Capabilities | None = None,
        second: Capabilities | None = None,
        located: bool = True,
        greet: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        """Connect the switch, start the servers; ``first`` and ``second`` are what origin and target can do."""
        super().__init__(policy, random or Random(1), faults)
        self.start()
        for address, mac in MACS.items():
            self.add_host(address, mac, PORTS[address], located)
        self.at_origin = self.listen(ORIGIN, MACS["10.0.0.1"], first or Capabilities(), greet[0])
        self.at_target = self.listen(TARGET, MACS["10.0.0.2"], second or Capabilities(), greet[1])
        self.run(0.1)

    def connect(self, can: Capabilities | None = None, isn: int | None = None, seconds: float = 0.1) -> Peer:
        """Dial the service and let time pass."""
        client = self.dial(CLIENT, MACS["10.0.0.3"], ORIGIN, MACS["10.0.0.1"], can or Capabilities(), isn)
        self.run(seconds)
        return client

    def say(self, peer: Peer, data: bytes) -> None:
        """Let a peer write."""
        self.act(peer, lambda one: one.write(self.now, data))

    def happened(self, kind: type) -> list[Any]:
        """Return the published events of one kind."""
        return [event for event in self.events if type(event) is kind]
