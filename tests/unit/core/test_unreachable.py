# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about connections that have moved reach who sent the segment, in its own terms."""

from __future__ import annotations

from simulation.demo import CLIENT, MACS, ORIGIN, TARGET, Demo
from simulation.observe import connection_of, move, observed

from controller.core import seq
from controller.core.commands import Output, PacketOut
from controller.core.events import IcmpErrorReceived
from controller.core.segment import Endpoint, IcmpError

ROUTER = "10.0.0.99"


def told(demo: Demo, error: IcmpError, switch: int = 1) -> list[tuple[IcmpError, int]]:
    """Return what is told to whom, because of an error."""
    commands = demo.engine.handle(IcmpErrorReceived(switch, error), demo.now)
    outs = [one for one in commands if isinstance(one, PacketOut) and isinstance(one.packet, IcmpError)]
    return [(one.packet, one.actions[0].port) for one in outs if isinstance(one.actions[0], Output)]  # type: ignore[misc]


def about(src: Endpoint, dst: Endpoint, number: int, by: str = ROUTER) -> IcmpError:
    """Return an error about a segment."""
    return IcmpError(by, src.address, src, dst, number, "02:00:00:00:00:99", MACS[src.address], b"")


def test_the_client_hears_of_its_own_segments() -> None:
    """It sent them to the origin, with other numbers."""
    demo, client = observed()
    move(demo)
    path = connection_of(demo).path
    ((error, port),) = told(demo, about(CLIENT, TARGET, seq.add(client.send_next, path.client_delta)))
    assert port == 3
    assert (error.src, error.dst, error.about_src, error.about_dst) == (ROUTER, CLIENT.address, CLIENT, ORIGIN)
    assert (error.seq, error.eth_src, error.eth_dst) == (client.send_next, MACS[ORIGIN.address], MACS[CLIENT.address])


def test_what_the_target_tells_itself_has_the_origins_face() -> None:
    """As its segments have."""
    demo, _ = observed()
    move(demo)
    ((error, _),) = told(demo, about(CLIENT, TARGET, 1, by=TARGET.address))
    assert error.src == ORIGIN.address


def test_the_target_hears_of_its_own_segments() -> None:
    """On the client's side they were the origin's."""
    demo, client = observed()
    move(demo)
    server = demo.at_target[0]
    ((error, port),) = told(demo, about(ORIGIN, CLIENT, client.recv_next))
    assert port == 2
    assert (error.src, error.dst, error.about_src, error.about_dst) == (ROUTER, TARGET.address, TARGET, CLIENT)
    assert (error.seq, error.eth_dst) == (server.send_next, MACS[TARGET.address])


def test_other_errors_are_nobodys_here() -> None:
    """About a connection that has not moved, one of strangers, or by way of another switch."""
    demo, _ = observed()
    assert not told(demo, about(ORIGIN, CLIENT, 1))
    assert not told(demo, about(CLIENT, ORIGIN, 1))
    move(demo)
    assert not told(demo, about(CLIENT, TARGET._replace(port=1), 1))
    assert not told(demo, about(CLIENT, TARGET, 1), switch=2)
