# SPDX-License-Identifier: Apache-2.0
"""Moving a gated connection: the numbers come out right, and every failure leaves it with its origin."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from simulation.demo import CLIENT, MACS, MIGRATE, ORIGIN, POLICY, PORTS, TARGET, Demo, alert, target
from simulation.peer import Capabilities, Peer

from controller.core import migration, seq
from controller.core.commands import FlowAdd
from controller.core.connection import Phase, State
from controller.core.cookie import Cookie, Kind
from controller.core.errors import TransitionError
from controller.core.events import (
    BarrierReplied,
    CommandRefused,
    ConnectionClosed,
    FlowRemoved,
    MigrationCompleted,
    MigrationFailed,
    MigrationStarted,
    SegmentReceived,
    SwitchConnected,
    SwitchLost,
    TargetEstablished,
    TimerExpired,
)
from controller.core.segment import ACK, CWR, ECE, FIN, RST, SYN, ConnectionKey, Segment, TcpOptions
from controller.core.target import RETRIES

KEY = ConnectionKey(CLIENT, ORIGIN)
GATED = (Phase.LOCATING, Phase.CONNECTING, Phase.PROBING, Phase.COMMITTING)
"""The phases that a gated connection goes through."""
REQUEST = b"please migrate me"


def begin(demo: Demo, can: Capabilities | None = None, data: bytes = REQUEST) -> Peer:
    """Connect, send the request, raise the alert; no time passes after it."""
    client = demo.connect(can)
    demo.say(client, data)
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    return client


def attempt_of(demo: Demo):
    """Return the migration under way."""
    return demo.engine.world.connections[KEY].attempt


def until(demo: Demo, phase: Phase) -> None:
    """Let time pass until the migration has come so far."""
    for _ in range(200):
        if attempt_of(demo).phase is phase:
            return
        demo.run(0.000_02)
    raise AssertionError(f"never reached {phase}")


def served_by_origin(demo: Demo, client: Peer, data: bytes = REQUEST) -> None:
    """Check that the origin has the request and answers it, and that nothing of the attempt is left."""
    demo.run(0.5)
    world = demo.engine.world
    assert demo.at_origin[0].received == data
    demo.say(demo.at_origin[0], b"answer")
    demo.run(0.1)
    assert client.received.endswith(b"answer")
    assert client.state == "established"
    assert not demo.happened(MigrationCompleted)
    assert not world.targets
    assert not world.tokens
    assert not any(world.locating.values())
    assert world.connections[KEY].attempt is None
    assert not client.complaints


def test_every_phase_meets_every_input() -> None:
    """No pair is forgotten, and one that is not listed raises."""
    assert set(migration.TABLE) == set(product(Phase, migration.Input))
    demo = Demo()
    begin(demo)
    with pytest.raises(TransitionError):
        migration.handle(demo.engine.world, demo.engine.world.connections[KEY], "weather", None)  # type: ignore[arg-type]


def test_moves() -> None:
    """The target has the request, the origin nothing; answers come back as if the origin had sent them."""
    demo = Demo()
    client = begin(demo)
    demo.run(0.1)
    server = demo.at_target[0]
    assert server.received == REQUEST
    assert demo.at_origin[0].received == b""
    assert demo.at_origin[0].state == "reset"
    started, established = demo.happened(MigrationStarted)[0], demo.happened(TargetEstablished)[0]
    completed = demo.happened(MigrationCompleted)[0]
    assert (started.origin, started.target) == ("server1", "server2")
    assert established.target == "server2"
    assert completed.client_delta == 0
    assert completed.server_delta == seq.distance(client.irs, server.isn)
    assert completed.frozen == 0.0
    assert completed.client_cut == seq.add(client.isn, 1)
    assert completed.server_cut == seq.add(client.irs, 1)
    assert completed.held_bytes == len(REQUEST)
    demo.say(server, b"x" * 50_000)
    demo.run(0.1)
    assert client.received == b"x" * 50_000
    assert not client.complaints + server.complaints
    assert client.retransmissions == 0


def test_target_sees_the_clients_own_syn() -> None:
    """Cut down to what the origin agreed to."""
    demo = Demo(first=Capabilities(sack=False, window_scale=None, mss=1400))
    begin(demo, Capabilities(mss=1300, clock=77))
    demo.run(0.1)
    options = demo.at_target[0].syn_options
    assert options is not None
    assert (options.mss, options.window_scale, options.sack_permitted) == (1300, None, False)
    assert options.timestamps is not None


@pytest.mark.parametrize(("first", "second"), [(7, 7), (2, 9), (9, 2), (0, 14)])
def test_window_scale(first: int, second: int) -> None:
    """The client goes on reading windows with the origin's scale."""
    demo = Demo(first=Capabilities(window_scale=first), second=Capabilities(window_scale=second, window=50_000))
    client = begin(demo)
    demo.run(0.1)
    granularity = 1 << max(first, second)
    shown = min(50_000 // (1 << second) << second, 65_535 << first)
    assert abs(client.peer_window - shown) < granularity


def test_clock_never_goes_back() -> None:
    """Whatever the target's timestamp clock shows, the client's view goes on from the origin's."""
    for clock in (0, 5, 2**31, 2**32 - 1):
        demo = Demo(first=Capabilities(clock=2**32 - 50), second=Capabilities(clock=clock))
        client = begin(demo)
        demo.run(0.1)
        before = client.ts_recent
        demo.say(demo.at_target[0], b"later")
        demo.run(0.1)
        assert 0 <= seq.offset(before, client.ts_recent) < 1_000
        assert client.received == b"later"
        assert not client.complaints + demo.at_target[0].complaints


def test_ecn_is_offered_and_required() -> None:
    """The SYN to the target asks for ECN if client and origin use it; a target without it is refused."""
    demo = Demo()
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, 9, 0, SYN | ECE | CWR, 99, TcpOptions(mss=1460))))
    demo.tell(SegmentReceived(1, 1, Segment(ORIGIN, CLIENT, 4, 10, SYN | ACK | ECE, 99, TcpOptions(mss=1460))))
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, 10, 5, ACK, 99)))
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, 10, 5, ACK, 99, payload=b"x")))
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    asked = [segment for _, place, segment in demo.trace if place == f"port {PORTS['10.0.0.2']}"]
    assert asked[0].flags == SYN | ECE | CWR
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["options"]


def test_fin_behind_the_request_goes_to_the_target() -> None:
    """A client that shuts down its half right after the request."""
    demo = Demo()
    client = demo.connect()
    demo.say(client, REQUEST)
    demo.act(client, lambda peer: peer.close(demo.now))
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST
    assert demo.at_target[0].fin_received
    assert demo.at_origin[0].received == b""
    demo.say(demo.at_target[0], b"bye")
    demo.act(demo.at_target[0], lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert client.received == b"bye"
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["fin"]


def test_more_data_while_moving() -> None:
    """What the client goes on sending is held too and arrives behind."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.say(client, b" and more")
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST + b" and more"


def test_banner_of_the_origin() -> None:
    """What the origin said before the move stays said: the target's numbers start behind it."""
    demo = Demo(greet=(b"220 origin\r\n", b""))
    client = begin(demo)
    demo.run(0.1)
    demo.say(demo.at_target[0], b"from the target")
    demo.run(0.1)
    assert client.received == b"220 origin\r\nfrom the target"
    assert not client.complaints


def test_banner_of_the_target_is_refused_or_discarded() -> None:
    """The client has had its greeting: a second one may be thrown away, if the operator says so."""
    demo = Demo(greet=(b"220 origin\r\n", b"220 target\r\n"))
    client = begin(demo)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["banner"]
    discarding = replace(target, discards_banner=True)
    demo = Demo(
        policy=replace(POLICY, servers={**POLICY.servers, "server2": discarding}),
        greet=(b"220 origin\r\n", b"220 target\r\n"),
    )
    client = begin(demo)
    demo.run(0.1)
    demo.say(demo.at_target[0], b"250 ok\r\n")
    demo.run(0.1)
    assert client.received == b"220 origin\r\n250 ok\r\n"
    assert demo.at_target[0].received == REQUEST
    assert not client.complaints + demo.at_target[0].complaints


def test_waits_until_the_client_has_all_that_the_origin_said() -> None:
    """The server's cut: the client must have acknowledged it before the final flows."""
    demo = Demo()
    client = begin(demo)
    connection = demo.engine.world.connections[KEY]
    connection.origin.next = seq.add(connection.origin.next, 3)
    until(demo, Phase.COMMITTING)
    demo.run(0.005)
    assert not attempt_of(demo).token
    ack = Segment(CLIENT, ORIGIN, client.send_next, connection.origin.next, ACK, 100)
    demo.tell(SegmentReceived(1, 3, ack))
    demo.run(0.01)
    assert demo.happened(MigrationCompleted)


def test_acknowledgements_before_the_proof() -> None:
    """The client may acknowledge a banner while the target is still being asked."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK, 100)))
    assert attempt_of(demo).phase is Phase.PROBING


# ---- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Capabilities(sack=False), "options"),
        (Capabilities(timestamps=False), "options"),
        (Capabilities(window_scale=None), "options"),
        (Capabilities(mss=1459), "mss"),
    ],
)
def test_target_that_cannot_take_over(second: Capabilities, reason: str) -> None:
    """It lacks what client and origin use: it is reset, the origin serves."""
    demo = Demo(second=second)
    served_by_origin(demo, begin(demo))
    assert [event.reason for event in demo.happened(MigrationFailed)] == [reason]
    assert demo.at_target[0].state == "reset"


def test_target_refuses() -> None:
    """Connection refused."""
    demo = Demo()
    del demo.listeners[TARGET]
    client = begin(demo)
    until(demo, Phase.CONNECTING)
    demo.run(0.001)
    refusal = Segment(TARGET, CLIENT, 0, 12, RST | ACK, 0, eth_src=MACS["10.0.0.2"])
    demo.switch.receive(PORTS["10.0.0.2"], refusal)
    demo.run(0.001)
    assert not demo.happened(MigrationFailed)
    refusal = replace(refusal, ack=seq.add(client.isn, 1))
    demo.switch.receive(42, refusal)
    demo.tell(SegmentReceived(1, 42, refusal))
    assert not demo.happened(MigrationFailed)
    demo.switch.receive(PORTS["10.0.0.2"], refusal)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["refused"]


def test_target_is_silent() -> None:
    """The SYN is repeated, then time is up; a late SYN-ACK does not reach the client."""
    demo = Demo()
    del demo.listeners[TARGET]
    client = begin(demo)
    served_by_origin(demo, client)
    asked = [segment for _, place, segment in demo.trace if place == f"port {PORTS['10.0.0.2']}"]
    assert len(asked) == RETRIES
    assert demo.happened(MigrationFailed)[0].detail == "no SYN-ACK"
    before = len(demo.trace)
    demo.switch.receive(PORTS["10.0.0.2"], Segment(TARGET, CLIENT, 1, 2, SYN | ACK, 9))
    demo.run(0.1)
    assert len(demo.trace) == before


def test_target_with_a_full_accept_queue() -> None:
    """It answers, but never with the D-SACK of a connection that stands."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.at_target[0].receive = lambda now, segment: None  # type: ignore[method-assign]
    demo.run(0.001)
    half_open = Segment(TARGET, CLIENT, seq.add(demo.at_target[0].isn, 1), seq.add(client.isn, 1), ACK, 99)
    demo.switch.receive(PORTS["10.0.0.2"], half_open)
    served_by_origin(demo, client)
    assert "accept queue" in demo.happened(MigrationFailed)[0].detail


def test_target_closes_at_once() -> None:
    """It accepts and hangs up."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.at_target[0].receive = lambda now, segment: None  # type: ignore[method-assign]
    fin = Segment(TARGET, CLIENT, seq.add(demo.at_target[0].isn, 1), seq.add(client.isn, 1), ACK | FIN, 99)
    demo.switch.receive(PORTS["10.0.0.2"], fin)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["closed"]


def test_wrong_answers_of_the_target() -> None:
    """A SYN-ACK of something else, old numbers, numbers ahead: not believed."""
    demo = Demo()
    del demo.listeners[TARGET]
    client = begin(demo)
    until(demo, Phase.CONNECTING)
    due = seq.add(client.isn, 1)
    synack = Segment(TARGET, CLIENT, 50, due, SYN | ACK, 99, TcpOptions(1460, 7, True))
    world, connection = demo.engine.world, demo.engine.world.connections[KEY]
    connection.agreement = replace(connection.agreement, timestamps=False)
    for number, wrong in enumerate((replace(synack, ack=1), replace(synack, flags=ACK))):
        demo.tell(SegmentReceived(1, 2, wrong))
        assert attempt_of(demo).phase is Phase.CONNECTING, number
    demo.tell(SegmentReceived(1, 2, synack))
    proof = Segment(TARGET, CLIENT, 51, due, ACK, 99, TcpOptions(sack=((client.isn, due),)))
    for wrong in (
        synack,
        replace(proof, seq=50),
        replace(proof, seq=52),
        replace(proof, ack=seq.add(due, 1)),
        replace(proof, options=TcpOptions()),
    ):
        demo.tell(SegmentReceived(1, 2, wrong))
        assert attempt_of(demo).phase is Phase.PROBING
    demo.tell(SegmentReceived(1, 2, proof))
    assert attempt_of(demo).phase is Phase.COMMITTING
    assert world.targets


def test_banner_out_of_order() -> None:
    """Only the next piece of it is acknowledged."""
    policy = replace(POLICY, servers={**POLICY.servers, "server2": replace(target, discards_banner=True)})
    demo = Demo(policy=policy)
    begin(demo)
    until(demo, Phase.PROBING)
    demo.at_target[0].receive = lambda now, segment: None  # type: ignore[method-assign]
    attempt = attempt_of(demo)
    banner = Segment(TARGET, CLIENT, seq.add(attempt.target_next, 9), seq.add(attempt.syn_seq, 1), ACK, 9, payload=b"x")
    demo.tell(SegmentReceived(1, 2, banner))
    assert attempt.banner == 0
    demo.tell(SegmentReceived(1, 2, replace(banner, seq=attempt.target_next, payload=b"hello")))
    assert attempt.banner == 5


def test_unlocated_target() -> None:
    """It is asked for; when it answers, the migration goes on."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    client = begin(demo)
    assert attempt_of(demo).phase is Phase.LOCATING
    demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST
    assert client.state == "established"


def test_target_that_nobody_knows() -> None:
    """Nobody answers for its address."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    served_by_origin(demo, begin(demo))
    assert "address" in demo.happened(MigrationFailed)[0].detail
    demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
    assert not demo.at_target


def test_located_when_it_is_too_late() -> None:
    """The connection that asked has gone, or has given up, or is at another switch."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    begin(demo)
    world = demo.engine.world
    world.locating["10.0.0.2"] += [ConnectionKey(CLIENT, CLIENT)]
    connection = world.connections[KEY]
    connection.switch = 2
    demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
    assert connection.attempt.phase is Phase.LOCATING
    connection.switch = 1
    demo.run(1.0)
    assert demo.happened(MigrationFailed)


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.PROBING, Phase.COMMITTING])
def test_switch_refuses_a_flow(phase: Phase) -> None:
    """Table full: the connection stays with its origin."""
    demo = Demo()
    client = begin(demo)
    until(demo, phase)
    attempt = attempt_of(demo)
    if phase is Phase.COMMITTING:
        demo.tell(CommandRefused(1, attempt.token, "table full"))
    else:
        attempt.token = demo.engine.world.token(demo.engine.world.connections[KEY])
        demo.tell(CommandRefused(1, attempt.token, "table full"))
    served_by_origin(demo, client)
    assert "table full" in demo.happened(MigrationFailed)[0].detail
    assert demo.at_target == [] or demo.at_target[0].received == b""


def test_refusal_by_the_switch_itself() -> None:
    """The final flows are refused on the way."""
    demo = Demo()

    def refuse(flow: FlowAdd) -> str | None:
        return "no room" if flow.match.ip_src == TARGET.address and flow.cookie >> 48 & 0xF == Kind.PATH else None

    demo.switch.refuse = refuse
    served_by_origin(demo, begin(demo))
    assert "no room" in demo.happened(MigrationFailed)[0].detail


def test_answers_to_nobody() -> None:
    """Tokens of migrations that are over, or of nothing."""
    demo = Demo()
    begin(demo)
    connection = demo.engine.world.connections[KEY]
    stale = demo.engine.world.token(connection)
    for token in (0, 999, stale):
        demo.tell(BarrierReplied(1, token))
        demo.tell(CommandRefused(1, token, "late"))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)


def test_the_same_server_is_no_target() -> None:
    """Moving to where it is."""
    policy = replace(POLICY, rules=(replace(POLICY.rules[1], target="server1"),))
    demo = Demo(policy=policy)
    served_by_origin(demo, begin(demo))
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["target"]


def test_origin_that_has_closed() -> None:
    """FIN seen before the cut: refused."""
    demo = Demo()
    client = demo.connect()
    demo.act(demo.at_origin[0], lambda peer: peer.close(demo.now))
    demo.run(0.01)
    demo.say(client, REQUEST)
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["closing"]
    assert demo.at_origin[0].received == REQUEST


def test_two_connections_for_one_place() -> None:
    """The client's port is taken at the target by another connection of ours: refused."""
    demo = Demo()
    client = demo.connect()
    demo.say(client, REQUEST)
    demo.run(0.001)
    world = demo.engine.world
    world.targets[ConnectionKey(CLIENT, TARGET)] = object()  # type: ignore[assignment]
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["in use"]
    assert demo.at_origin[0].received == REQUEST


@pytest.mark.parametrize("phase", GATED)
def test_client_resets_meanwhile(phase: Phase) -> None:
    """Both servers are reset, nothing is left."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    client = begin(demo)
    if phase is not Phase.LOCATING:
        demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
        until(demo, phase)
    demo.switch.receive(3, Segment(CLIENT, ORIGIN, client.send_next, 0, RST, 0))
    demo.run(1.0)
    world = demo.engine.world
    assert not world.connections
    assert not world.targets
    assert demo.at_origin[0].state == "reset"
    assert all(peer.state in ("reset", "syn-received") for peer in demo.at_target)


def test_reset_by_the_target_after_the_move() -> None:
    """Its RST reaches the client, and the connection is over."""
    demo = Demo()
    begin(demo)
    demo.run(0.1)
    server = demo.at_target[0]
    reset = Segment(TARGET, CLIENT, server.send_next, server.recv_next, RST | ACK, 0)
    demo.tell(SegmentReceived(1, 42, reset, Cookie(Kind.COPY).encode()))
    assert not demo.happened(ConnectionClosed)
    demo.switch.receive(PORTS["10.0.0.2"], reset)
    demo.run(0.1)
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["rst"]


def test_idle_connection_leaves_nothing() -> None:
    """After the move, too."""
    demo = Demo()
    begin(demo)
    demo.run(0.1)
    world = demo.engine.world
    number = world.connections[KEY].number
    demo.tell(FlowRemoved(1, Cookie(Kind.PATH, 1, number).encode(), "idle", 0, 0))
    demo.run(0.1)
    assert not world.connections
    assert not world.targets
    left = {Cookie.__name__ and flow.cookie >> 48 & 0xF for flow in demo.switch.flows.values() if flow.table == 1}
    assert left <= {Kind.PLAIN, Kind.DROP}


def test_stragglers_of_the_target() -> None:
    """Packets that the outdated handshake flow punts go through the final flows."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.COMMITTING)
    server = demo.at_target[0]
    early = Segment(TARGET, CLIENT, server.send_next, server.recv_next, ACK, 99, payload=b"so ")
    early = replace(early, options=TcpOptions(timestamps=None), eth_src=MACS["10.0.0.2"])
    demo.tell(SegmentReceived(1, 2, early))
    demo.tell(SegmentReceived(1, 2, replace(early, payload=b"")))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    client.timestamps = False
    demo.tell(SegmentReceived(1, 2, early, Cookie(Kind.PUNT, 1, 1).encode()))
    demo.tell(SegmentReceived(1, 2, replace(early, payload=b""), Cookie(Kind.COPY).encode()))
    demo.run(0.1)
    assert client.received == b"so "


# ---- the switch goes away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", GATED)
def test_switch_reconnects_empty_during_a_migration(phase: Phase) -> None:
    """The migration is given up, the origin serves."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    client = begin(demo)
    if phase is not Phase.LOCATING:
        demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
        until(demo, phase)
    demo.tell(SwitchLost(demo.now, 1))
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, (("ids0", 99),)))
    served_by_origin(demo, client)
    assert "away" in demo.happened(MigrationFailed)[0].detail


def test_switch_reconnects_empty() -> None:
    """Connections in every other state get their flows again."""
    demo = Demo()
    client = begin(demo)
    demo.run(0.1)
    flows = set(demo.switch.flows)
    demo.tell(SwitchLost(demo.now, 1))
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, (("ids0", 99),)))
    demo.run(0.1)
    assert set(demo.switch.flows) == {key for key in flows if demo_flow_is_lasting(key, demo)}
    demo.say(client, b" again")
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST + b" again"


def demo_flow_is_lasting(key: tuple[int, int, object], demo: Demo) -> bool:
    """Return whether a flow of the first life is still needed: all but the silence of the origin's reset half."""
    return getattr(key[2], "ip_src", None) != ORIGIN.address or key[0] == 0 or key[1] != 100


@pytest.mark.parametrize("state", [State.GATED, State.HELD, State.CLOSING])
def test_switch_reconnects_in_other_states(state: State) -> None:
    """Gate or lingering flows come back as they were."""
    demo = Demo()
    client = demo.connect()
    if state is State.HELD:
        demo.say(client, b"x")
        demo.run(0.001)
    elif state is State.CLOSING:
        for peer in (client, demo.at_origin[0]):
            demo.act(peer, lambda one: one.close(demo.now))
            demo.run(0.1)
    connection = demo.engine.world.connections[KEY]
    assert connection.state is state
    flows = dict(demo.switch.flows)
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, (("ids0", 99),)))
    demo.run(0.01)
    assert demo.switch.flows == flows


def test_connections_of_other_switches_are_left_alone() -> None:
    """Tokens too."""
    demo = Demo()
    begin(demo)
    until(demo, Phase.COMMITTING)
    demo.tell(SwitchLost(demo.now, 2))
    demo.tell(SwitchConnected(demo.now, 2, ()))
    assert demo.engine.world.tokens
    assert not demo.engine.world.mirror(2)


def test_timers_of_older_versions() -> None:
    """A deadline of an earlier migration does not end this one."""
    demo = Demo()
    begin(demo)
    demo.tell(TimerExpired(KEY, 0, "deadline"))
    assert attempt_of(demo) is not None


def test_client_that_never_acknowledges_the_origin() -> None:
    """The server's cut cannot be made: the origin goes on."""
    demo = Demo()
    client = begin(demo)
    connection = demo.engine.world.connections[KEY]
    connection.origin.next = seq.add(connection.origin.next, 3)
    until(demo, Phase.COMMITTING)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["timeout"]
