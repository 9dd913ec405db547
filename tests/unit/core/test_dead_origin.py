# SPDX-License-Identifier: Apache-2.0
"""Who asks for an origin that has lost its connections to others is told where it is, be it dead."""

from __future__ import annotations

import pytest
from simulation.demo import CLIENT, MACS, ORIGIN
from simulation.observe import connection_of, move, observed

from controller.core.commands import AnswerHost
from controller.core.events import FlowRemoved, HostLocated

ASKED = HostLocated(1, 3, CLIENT.address, MACS[CLIENT.address], ORIGIN.address)


def answers(demo, event=ASKED):
    """Return what is answered to a question."""
    return [command for command in demo.engine.handle(event, demo.now) if isinstance(command, AnswerHost)]


@pytest.mark.parametrize("known", [True, False])
def test_the_clients_of_moved_connections_are_answered(known: bool) -> None:
    """With the MAC that the origin was last heard with, else with the one that the client has been using."""
    demo, _ = observed()
    assert not answers(demo)
    move(demo)
    if not known:
        demo.engine.world.locations.forget_switch(1)
    mac = MACS[ORIGIN.address]
    assert answers(demo) == [AnswerHost(1, 3, ORIGIN.address, mac, CLIENT.address, MACS[CLIENT.address])]


def test_others_are_not() -> None:
    """Other hosts, other addresses, another switch; and nobody once the connection is over."""
    demo, _ = observed()
    move(demo)
    for event in (
        HostLocated(1, 3, "10.0.0.9", MACS[CLIENT.address], ORIGIN.address),
        HostLocated(1, 3, CLIENT.address, MACS[CLIENT.address], "10.0.0.9"),
        HostLocated(1, 3, CLIENT.address, MACS[CLIENT.address]),
        HostLocated(2, 3, CLIENT.address, MACS[CLIENT.address], ORIGIN.address),
    ):
        assert not answers(demo, event)
    connection = connection_of(demo)
    cookie = next(flow.cookie for flow in demo.switch.flows.values() if flow.notify_removed)
    demo.tell(FlowRemoved(1, cookie, "idle", 0, 0))
    assert connection.key not in demo.engine.world.connections
    assert not demo.engine.world.away
    assert not answers(demo)
