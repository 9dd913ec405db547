# SPDX-License-Identifier: Apache-2.0
"""What a controller makes of the flows that it finds; ``test_killed_anywhere.py`` plays whole histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, DROP, FORWARD, MIGRATE, ORIGIN, POLICY, TARGET, Demo, alert
from simulation.gate import KEY, attempt_of, begin, until
from simulation.observe import connection_of as observed_connection
from simulation.observe import goes_on, move, observed
from simulation.peer import Capabilities

from controller.core import pipeline, takeover
from controller.core.commands import FlowAdd, Match, Output, PacketOut
from controller.core.connection import Phase, State
from controller.core.cookie import Cookie, Kind, decode_cookie
from controller.core.events import (
    CommandRefused,
    ConnectionClosed,
    ConnectionsTakenOver,
    DrainRequested,
    FlowRemoved,
    FlowsReported,
    FoundFlow,
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    SegmentReceived,
    StatusRequested,
    SwitchConnected,
    SwitchLost,
    TimerExpired,
    Verdict,
    VerdictReached,
)
from controller.core.policy import Policy
from controller.core.segment import ACK, SYN, ConnectionKey, Endpoint, Segment

OBSERVE = replace(POLICY, services=(replace(POLICY.services[0], gated=False),))


def connection_of(demo: Demo):
    """Return the one connection."""
    return demo.engine.world.connections[KEY]


def again(demo: Demo, forget: bool = False) -> ConnectionsTakenOver:
    """Kill the controller and start another, which has read the journal unless it shall ``forget``."""
    if forget:
        demo.events.clear()
    demo.kill()
    demo.run(2.0)
    demo.restart()
    demo.run(0.05)
    return demo.happened(ConnectionsTakenOver)[-1]


def numbered(demo: Demo) -> list[FlowAdd]:
    """Return the flows of single connections."""
    return [flow for flow in demo.switch.flows.values() if decode_cookie(flow.cookie).number]


@pytest.fixture
def served() -> Demo:
    """A gated connection that its origin serves."""
    demo = Demo()
    client = begin(demo)
    demo.tell(alert(FORWARD))
    demo.engine.world.connections[KEY].pending = None
    demo.run(1.0)
    assert client.state == "established"
    return demo


def test_a_served_connection_is_read_off_its_flows(served: Demo) -> None:
    """All that the core goes by is as it was, and the flows are the same objects as before."""
    before, flows = connection_of(served), dict(served.switch.flows)
    told = again(served)
    after = connection_of(served)
    for name in ("key", "number", "switch", "client_port", "path", "state", "version", "agreement", "opened", "mss"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.service is before.service
    assert (after.client.isn, after.origin.isn) == (before.client.isn, before.origin.isn)
    assert after.syn.eth_src == before.syn.eth_src
    assert {key: served.switch.flows[key] for key in flows} == flows
    assert (told.served, told.gated, told.released, told.undone) == (1, 0, 0, 0)
    assert served.engine.world.targets.keys() == {ConnectionKey(CLIENT, TARGET)}


def test_an_untouched_path_leads_to_the_origin() -> None:
    """No rewrite means: where the client sends it."""
    demo = Demo(policy=OBSERVE)
    demo.connect()
    path = connection_of(demo).path
    again(demo)
    assert connection_of(demo).path == path
    assert connection_of(demo).path.server is POLICY.services[0].origin
    assert not demo.engine.world.targets


def test_a_server_that_left_the_settings(served: Demo) -> None:
    """The connection lives on; the place goes by its address."""
    servers = {"server1": POLICY.servers["server1"]}
    served.engine.world.policy = Policy(servers, POLICY.services)
    again(served)
    assert connection_of(served).path.server.name == str(TARGET)


def test_a_service_that_left_the_settings(served: Demo) -> None:
    """Its connections are left alone: not listed, not disturbed."""
    other = replace(POLICY.services[0], origin=POLICY.servers["server2"])
    served.engine.world.policy = replace(POLICY, services=(other,))
    flows = numbered(served)
    served.kill()
    served.restart()
    served.run(0.05)
    assert not served.engine.world.connections
    assert not served.happened(ConnectionsTakenOver)
    assert numbered(served) == flows


def test_a_gate_that_is_shut_stays_shut() -> None:
    """The journal tells what was agreed on; the verdict on the data that comes again moves the connection."""
    demo = Demo()
    client = demo.connect()
    told = again(demo)
    assert (told.gated, connection_of(demo).state) == (1, State.GATED)
    demo.say(client, b"hello")
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(1.0)
    assert demo.at_target[0].received == b"hello"
    assert not demo.at_origin[0].received


def test_what_an_origin_said_while_nobody_listened_counts() -> None:
    """A banner that no controller has seen lies before the cut all the same."""
    demo = Demo()
    client = demo.connect()
    demo.kill()
    demo.say(demo.at_origin[0], b"welcome ")
    demo.run(2.0)
    demo.restart()
    demo.run(0.05)
    demo.say(client, b"hello")
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(1.0)
    demo.say(demo.at_target[0], b"and on")
    demo.run(0.1)
    assert client.received == b"welcome and on"
    assert not client.complaints


def test_without_the_origins_own_word_a_gate_opens_to_nobody_else() -> None:
    """Its answer to our question is lost: the connection cannot be cut exactly, so the origin serves."""
    demo = Demo()
    client = demo.connect()
    demo.kill()
    receive, demo.at_origin[0].receive = demo.at_origin[0].receive, lambda now, segment: None
    demo.run(1.0)
    demo.restart()
    demo.run(0.05)
    demo.say(client, b"hello")
    demo.run(0.001)
    demo.at_origin[0].receive = receive
    demo.tell(alert(MIGRATE))
    demo.run(1.0)
    assert demo.at_origin[0].received == b"hello"
    assert demo.happened(MigrationFailed)


@pytest.mark.parametrize("verdict", [Verdict.FORWARD, Verdict.DROP])
def test_a_gate_that_nobody_remembers_gets_the_default_verdict(verdict: Verdict) -> None:
    """Held when its controller died, and the journal is silent: it does not wait for ever."""
    demo = Demo(policy=replace(POLICY, services=(replace(POLICY.services[0], default_verdict=verdict),)))
    client = demo.connect()
    demo.say(client, b"hello")
    demo.run(0.001)
    told = again(demo, forget=True)
    demo.run(2.0)
    assert told.released == 1
    assert demo.happened(VerdictReached)[0].cause == "takeover"
    if verdict is Verdict.DROP:
        assert demo.at_origin[0].state == "reset"
        assert demo.happened(ConnectionClosed)
        return
    assert demo.at_origin[0].received == b"hello"
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    demo.run(0.1)
    (failed,) = demo.happened(MigrationFailed)
    assert failed.reason == "unknown"


def test_closing_connections_linger_on(served: Demo) -> None:
    """A connection that is over goes as it would have."""
    client = served.peers[CLIENT, ORIGIN]
    for peer in (client, served.at_target[0]):
        served.act(peer, lambda one: one.close(served.now))
        served.run(0.1)
    again(served)
    assert connection_of(served).state is State.CLOSING


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.PROBING])
def test_a_half_made_connection_with_a_target_is_reset(phase: Phase) -> None:
    """And kept from the client."""
    demo = Demo()
    begin(demo)
    until(demo, phase)
    told = again(demo)
    assert told.undone == 1
    assert all(peer.state == "reset" for peer in demo.at_target)
    (silence,) = [flow for flow in numbered(demo) if flow.match.ip_src == TARGET.address]
    assert silence.actions == ()


def test_the_origin_of_a_moved_request_is_reset(served: Demo) -> None:
    """The controller may have died before it could."""
    served.at_origin[0].state = "established"
    again(served)
    assert served.at_origin[0].state == "reset"


def test_a_freeze_ends_at_once() -> None:
    """The flows of a freeze go, and both ends hear of each other's windows again."""
    demo = Demo(policy=OBSERVE)
    client = demo.connect()
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    until(demo, Phase.BRAKING)
    demo.run(0.001)
    demo.say(client, b"hello")
    demo.run(0.001)
    demo.kill()
    demo.restart()
    demo.run(0.05)
    assert demo.happened(ConnectionsTakenOver)[-1].undone == 1
    assert not [flow for flow in numbered(demo) if flow.priority == pipeline.P_FROZEN]
    assert demo.at_origin[0].received == b"hello"


def test_flows_of_a_connection_that_is_over_are_removed(served: Demo) -> None:
    """Its own from the client has idled out while nobody was there: the other one follows, silence stays."""
    there = pipeline.from_client(connection_of(served))
    silence = [flow for flow in numbered(served) if not flow.actions]
    assert silence
    del served.switch.flows[1, pipeline.P_CONNECTION, there]
    served.kill()
    served.restart()
    served.run(0.05)
    assert numbered(served) == silence
    assert not served.engine.world.connections


def test_a_number_used_before(served: Demo) -> None:
    """What silences another client's old server is no business of the connection that has its number now."""
    number = connection_of(served).number
    other = Match(
        ether_type=0x0800,
        ip_proto=6,
        in_port=1,
        ip_src=ORIGIN.address,
        tcp_src=ORIGIN.port,
        ip_dst="10.0.0.9",
        tcp_dst=7,
    )
    served.switch.carry_out(
        FlowAdd(1, 1, pipeline.P_CONNECTION, other, cookie=Cookie(Kind.DROP, 9, number).encode(), hard_timeout=180)
    )
    before = len(served.trace)
    again(served)
    assert connection_of(served).version == 1
    assert not [segment for _, _, segment in served.trace[before:] if segment.dst.address == "10.0.0.9"]


def test_new_numbers_are_greater(served: Demo) -> None:
    """A connection that comes next does not get the number of one that was taken over."""
    number = connection_of(served).number
    again(served)
    assert served.engine.world.number() == number + 1


def test_flows_without_a_note_are_left_alone(served: Demo) -> None:
    """Those of another release: nothing is known of them, so nothing is done."""
    for key, flow in list(served.switch.flows.items()):
        served.switch.flows[key] = replace(flow, facts=None, cookie=flow.cookie)
    served.switch.flows[1, 1, Match()] = FlowAdd(1, 1, 1, Match(), (Output(1),), cookie=12)
    flows = numbered_or_strange(served)
    served.kill()
    served.restart()
    served.run(0.05)
    assert not served.engine.world.connections
    assert numbered_or_strange(served) == flows


def numbered_or_strange(demo: Demo) -> list[FlowAdd]:
    """Return the flows from the client, and those that are not ours."""
    return [flow for flow in demo.switch.flows.values() if flow.cookie == 12 or flow.match.ip_src == CLIENT.address]


def test_the_same_connection_at_two_switches(served: Demo) -> None:
    """The one that is known stays the one."""
    flows = tuple(FoundFlow(flow, 0, 0) for flow in numbered(served))
    known = connection_of(served)
    served.engine.handle(SwitchConnected(served.now, 2), served.now)
    token = served.engine.world.readings[2].token
    served.engine.handle(FlowsReported(2, token, flows, more=False), served.now)
    assert connection_of(served) is known


# ---- while the flows are read ---------------------------------------------------------------------------------------


def reading(policy: Policy = POLICY):
    """Return an engine whose switch 1 has connected and told nothing yet, and the token of the question."""
    demo = Demo(policy=policy)
    demo.connect()
    engine = demo.engine
    engine.handle(SwitchLost(demo.now, 1), demo.now)
    engine.handle(SwitchConnected(demo.now, 1), demo.now)
    return engine, engine.world.readings[1].token


ANOTHER = Segment(Endpoint("10.0.0.3", 50_000), ORIGIN, 1, 0, SYN, 100)
UNKNOWN = ConnectionKey(ANOTHER.src, ORIGIN)


@pytest.mark.parametrize(
    ("event", "waits"),
    [
        (SegmentReceived(1, 3, ANOTHER), True),
        (SegmentReceived(2, 3, ANOTHER), False),
        (FlowRemoved(1, 0, "idle", 0, 0), True),
        (TimerExpired(KEY, 0, "half-open"), True),
        (TimerExpired(None, 0, "verdict"), True),
        (MigrationRequested(0.0, UNKNOWN, "server2"), True),
        (MigrationRequested(0.0, KEY, "server2"), True),
        (alert(DROP), True),
        (DrainRequested(0.0, "r", "server1"), True),
        (StatusRequested(0.0, "r"), False),
        (SwitchLost(0.0, 2), False),
    ],
)
def test_who_waits_for_the_flows(event: object, waits: bool) -> None:
    """What speaks of the switch, or of a connection that may be in it."""
    engine, token = reading()
    engine.handle(event, 1.0)
    assert (engine.world.readings[1].waiting == [event]) is waits
    engine.handle(FlowsReported(1, token, (), more=False), 1.0)
    assert not engine.world.readings


def test_another_switchs_connections_do_not_wait() -> None:
    """A timer of a connection elsewhere is handled at once."""
    engine, _ = reading()
    engine.world.connections[KEY].switch = 2
    engine.handle(TimerExpired(KEY, 0, "half-open"), 1.0)
    assert not engine.world.readings[1].waiting


def test_waiting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood while the flows are read costs no memory."""
    monkeypatch.setattr(takeover, "WAITING", 3)
    engine, _ = reading()
    for _ in range(9):
        assert engine.handle(SegmentReceived(1, 3, ANOTHER), 1.0) == []
    assert len(engine.world.readings[1].waiting) == 3


def test_parts_of_the_answer_are_joined() -> None:
    """Nothing is decided before the last one; what has waited is handled then."""
    engine, token = reading()
    engine.handle(SegmentReceived(1, 3, ANOTHER), 1.0)
    flows = tuple(FoundFlow(flow, 0, 0) for flow in pipeline.gate_flows(engine.world.connections[KEY], 1, ()))
    assert engine.handle(FlowsReported(1, token, flows[:1], more=True), 1.0) == []
    commands = engine.handle(FlowsReported(1, token, flows[1:], more=False), 1.0)
    assert not [c for c in commands if isinstance(c, FlowAdd) and c.match == flows[0].flow.match]
    assert not [c for c in commands if isinstance(c, PacketOut)]  # the port of the origin is not known again yet


def test_answers_of_an_earlier_question_are_ignored() -> None:
    """The channel went meanwhile."""
    engine, token = reading()
    assert engine.handle(FlowsReported(1, token + 1, (), more=False), 1.0) == []
    assert engine.handle(FlowsReported(2, token, (), more=False), 1.0) == []
    assert engine.handle(CommandRefused(1, token + 1, "no"), 1.0) == []
    engine.handle(SwitchLost(1.0, 1), 1.0)
    assert engine.handle(FlowsReported(1, token, (), more=False), 1.0) == []


def test_a_switch_that_does_not_tell_its_flows() -> None:
    """It counts as empty: what we know of is put in again."""
    engine, token = reading()
    commands = engine.handle(CommandRefused(1, token, "no"), 1.0)
    assert [c.match.ip_src for c in commands if isinstance(c, FlowAdd) and c.match != Match()] == [
        CLIENT.address,
        ORIGIN.address,
    ]


# ---- the same controller, a channel that went -----------------------------------------------------------------------


def test_a_confirmation_lost_with_the_channel() -> None:
    """The final flows stand: the target may have had bytes, so the migration is complete, not undone."""
    demo = Demo(policy=OBSERVE)
    client = demo.connect()
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    until(demo, Phase.BRAKING)
    demo.run(0.001)
    until(demo, Phase.COMMITTING)
    demo.run(demo.CONTROL_DELAY)
    demo.channel += 1
    demo.say(client, b"hello")
    demo.run(1.0)
    assert attempt_of(demo).phase is Phase.COMMITTING
    demo.tell(SwitchLost(demo.now, 1))
    demo.tell(SwitchConnected(demo.now, 1, ()))
    demo.run(1.0)
    assert demo.happened(MigrationCompleted)
    assert demo.at_target[0].received == b"hello"
    assert demo.at_origin[0].state == "reset"


def test_an_unread_stragglers_flow_is_put_in_again() -> None:
    """One of the two flows is gone, for whatever reason."""
    demo = Demo(policy=OBSERVE)
    demo.connect()
    connection = connection_of(demo)
    back = pipeline.from_server(connection, connection.path.server, connection.path.port)
    del demo.switch.flows[1, pipeline.P_CONNECTION, back]
    demo.tell(SwitchLost(demo.now, 1))
    demo.tell(SwitchConnected(demo.now, 1, ()))
    demo.run(0.05)
    assert (1, pipeline.P_CONNECTION, back) in demo.switch.flows


def test_flows_that_stand_are_not_put_in_again(served: Demo) -> None:
    """A switch that kept its flows gets none of them a second time."""
    served.tell(SwitchLost(served.now, 1))
    sent = []
    carry_out = served.switch.carry_out
    served.switch.carry_out = lambda command: (sent.append(command), carry_out(command))  # type: ignore[method-assign]
    served.tell(SwitchConnected(served.now, 1, ()))
    served.run(0.05)
    assert not [c for c in sent if isinstance(c, FlowAdd) and decode_cookie(c.cookie).number]
    assert not [c for c in sent if isinstance(c, PacketOut) and c.packet.has(ACK)]


def test_a_gate_without_timestamps_stays_shut_too() -> None:
    """No clock is made up for a connection that has none."""
    demo = Demo()
    client = demo.connect(Capabilities(timestamps=False))
    again(demo)
    assert connection_of(demo).origin.timestamps is None
    demo.say(client, b"hello")
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(1.0)
    assert demo.at_target[0].received == b"hello"


@pytest.mark.parametrize("kept", [True, False])
def test_a_connection_that_has_moved_lately_is_not_stopped_again(kept: bool) -> None:
    """Where the journal says that its move is complete; where that was lost, both ends are asked."""
    demo, client = observed()
    move(demo)
    assert [event.version for event in demo.happened(MigrationCompleted)] == [1]
    demo.kill()
    demo.run(0.01)
    if not kept:
        demo.events = [event for event in demo.events if not isinstance(event, MigrationCompleted)]
    before = len(demo.trace)
    demo.restart()
    demo.run(0.1)
    assert observed_connection(demo).path.server.name == "server2"
    assert (len(demo.trace) == before) is kept
    goes_on(demo, client, demo.at_target[0])
