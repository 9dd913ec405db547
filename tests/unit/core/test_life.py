# SPDX-License-Identifier: Apache-2.0
"""The life of a gated connection: verdicts, and what each input does in each state."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from simulation.demo import CLIENT, DROP, FORWARD, GO_BACK, MIGRATE, ORIGIN, POLICY, Demo, alert
from simulation.gate import KEY, connection_of, forwarded, from_client
from simulation.peer import Capabilities

from controller.core import life
from controller.core.connection import State
from controller.core.cookie import Cookie, Kind
from controller.core.errors import TransitionError
from controller.core.events import (
    ConnectionClosed,
    ConnectionOpened,
    RequestHeld,
    SegmentReceived,
    TimerExpired,
    Verdict,
    VerdictReached,
)
from controller.core.segment import ACK, FIN, RST, SYN, ConnectionKey, Endpoint, Segment, TcpOptions


def test_every_state_meets_every_input() -> None:
    """No pair is forgotten, and one that is not listed raises."""
    assert set(life.TABLE) == set(product(State, life.Input))
    demo = Demo()
    demo.connect()
    with pytest.raises(TransitionError, match="no transition from"):
        life.handle(demo.engine.world, connection_of(demo), "weather", None)  # type: ignore[arg-type]


def test_handshake_opens() -> None:
    """The client is connected to the origin, its first data is held, the gate is shut."""
    demo = Demo()
    client = demo.connect()
    assert client.state == demo.at_origin[0].state == "established"
    assert [event.origin for event in demo.happened(ConnectionOpened)] == ["server1"]
    demo.say(client, b"hello")
    demo.run(0.01)
    assert demo.happened(RequestHeld)[0].bytes == 5
    assert demo.at_origin[0].received == b""
    assert connection_of(demo).state is State.HELD


def test_default_verdict_after_silence() -> None:
    """Nobody says anything: the service's default."""
    demo = Demo()
    demo.say(demo.connect(), b"hello")
    demo.run(0.3)
    assert [(event.verdict, event.cause) for event in demo.happened(VerdictReached)] == [(Verdict.FORWARD, "default")]
    assert demo.at_origin[0].received == b"hello"


def test_default_verdict_drop() -> None:
    """A service may distrust by default: the origin is reset, the client is left alone with its retransmissions."""
    strict = replace(POLICY, services=(replace(POLICY.services[0], default_verdict=Verdict.DROP),))
    demo = Demo(policy=strict)
    client = demo.connect()
    demo.say(client, b"hello")
    demo.run(0.5)
    assert demo.at_origin[0].state == "reset"
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["dropped"]
    assert client.state == "established"
    assert not demo.engine.world.connections


def test_drop_verdict() -> None:
    """A rule may drop."""
    demo = Demo()
    demo.say(demo.connect(), b"hello")
    demo.tell(alert(DROP))
    demo.run(0.1)
    assert demo.at_origin[0].state == "reset"


def test_alert_before_its_packet() -> None:
    """The analyser may be faster than the controller's own copy: the verdict waits for the data."""
    demo = Demo()
    client = demo.connect()
    demo.tell(alert(FORWARD))
    demo.tell(alert(MIGRATE))
    assert not demo.happened(VerdictReached)
    demo.say(client, b"hello")
    demo.run(0.01)
    assert [event.cause for event in demo.happened(VerdictReached)] == [f"sid {FORWARD}"]


def test_alert_before_the_handshake_is_done() -> None:
    """Even while the connection is half open."""
    demo = Demo()
    client = demo.connect(seconds=0.000_4)
    assert connection_of(demo).state is State.OPENING
    demo.tell(alert(FORWARD, src=ORIGIN, dst=CLIENT))
    demo.run(0.1)
    demo.say(client, b"hello")
    demo.run(0.01)
    assert demo.happened(VerdictReached)


@pytest.mark.parametrize(
    "foreign",
    [
        alert(FORWARD, src=None),
        alert(FORWARD, dst=None),
        alert(FORWARD, src=Endpoint("10.0.0.9", 1)),
        alert(77),
        alert(GO_BACK),
    ],
)
def test_alerts_that_say_nothing(foreign) -> None:
    """Without a packet, of an unknown connection, without a rule, or a return of what has not moved."""
    demo = Demo()
    demo.say(demo.connect(), b"hello")
    demo.tell(foreign)
    demo.run(0.05)
    assert not demo.happened(VerdictReached)


def test_late_alert_changes_nothing() -> None:
    """In gate mode the verdict is final."""
    demo = Demo()
    forwarded(demo, demo.connect())
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert len(demo.happened(VerdictReached)) == 1


def test_stragglers_go_through_the_tables() -> None:
    """A packet that an outdated megaflow punted after the verdict still arrives."""
    demo = Demo()
    client = demo.connect()
    server = forwarded(demo, client)
    late = from_client(ACK, client.send_next, client.recv_next, payload=b"!", options=client.emit or TcpOptions())
    late = replace(late, options=TcpOptions(timestamps=None))
    server.timestamps = False
    demo.tell(SegmentReceived(1, 3, late, Cookie(Kind.PUNT, 0, 1).encode()))
    demo.run(0.01)
    assert server.received == b"hello!"


def test_stale_timers() -> None:
    """Timers of a connection long gone, or of an older version."""
    demo = Demo()
    demo.connect()
    demo.tell(TimerExpired(None, 0, "verdict"))
    demo.tell(TimerExpired(ConnectionKey(CLIENT, CLIENT), 0, "verdict"))
    demo.tell(TimerExpired(KEY, 7, "half-open"))
    demo.tell(TimerExpired(KEY, 0, "half-open"))
    demo.tell(TimerExpired(KEY, 0, "verdict"))
    assert connection_of(demo).state is State.GATED


def test_packets_of_nobody() -> None:
    """Of unknown connections, to unknown services, or SYNs that the switch only copied."""
    demo = Demo()
    stranger = Endpoint("10.9.9.9", 9)
    demo.tell(SegmentReceived(1, 3, Segment(stranger, ORIGIN, 1, 1, ACK, 1)))
    demo.tell(SegmentReceived(1, 3, Segment(stranger, stranger, 1, 1, ACK, 1)))
    demo.tell(SegmentReceived(1, 3, from_client(SYN | FIN, 5), Cookie(Kind.COPY).encode()))
    assert not demo.engine.world.connections


def test_copies_without_meaning() -> None:
    """A copy that neither closes nor resets needs nothing, and a punted RST has been copied already."""
    demo = Demo()
    client = demo.connect()
    demo.tell(SegmentReceived(1, 3, from_client(ACK, client.send_next, 0, payload=b"x"), Cookie(Kind.COPY).encode()))
    demo.tell(SegmentReceived(1, 3, from_client(RST, client.send_next), Cookie(Kind.PUNT).encode()))
    assert connection_of(demo).state is State.GATED


def test_client_capabilities_survive() -> None:
    """The SYN that the origin sees is the client's own."""
    demo = Demo()
    demo.connect(Capabilities(mss=1234, window_scale=3, sack=True, timestamps=False))
    assert demo.at_origin[0].syn_options == TcpOptions(1234, 3, True, (), None)
