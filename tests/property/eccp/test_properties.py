# SPDX-License-Identifier: Apache-2.0
"""Properties of ECCP's parts, for whatever hypothesis thinks of."""

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.eccp.cases import established, frame, move, only_flow
from unit.eccp.test_slices import check_headers, software_segments, tcp_frame

from controller.eccp.names import FlowState
from controller.eccp.replay import WINDOW, ReplayWindow
from controller.eccp.simulation import Link
from controller.eccp.slices import cut, join
from controller.wire import eccp as wire
from controller.wire.eccp import Address

u64 = st.integers(1, 2**64 - 1)
hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
addresses = st.builds(Address, hosts, st.integers(1, 65535))
lists = st.lists(addresses, max_size=16).map(tuple)
messages = st.one_of(
    st.builds(wire.Syn, st.integers(0, 2**32 - 1), u64, u64, st.binary(max_size=64), st.binary(max_size=1000)),
    st.builds(wire.Rsyn, st.integers(0, 2**32 - 1), lists),
    st.builds(wire.RsynAck, u64, u64),
    st.builds(wire.FlowSynAck, u64, u64, u64),
    st.builds(wire.Fin, st.booleans(), st.integers(0, 65535)),
    st.builds(wire.Relay, addresses, st.binary(max_size=1200)),
)


@given(messages)
def test_messages_round_trip(message: wire.Message) -> None:
    assert wire.decode_body(wire.kind_of(message), wire.encode_body(message)) == message


@given(st.sampled_from(sorted(set(wire.Kind) - wire.DATA_KINDS)), st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(kind: wire.Kind, body: bytes) -> None:
    try:
        message = wire.decode_body(kind, body)
    except wire.MalformedMessageError:
        return
    assert wire.encode_body(message, 1200).rstrip(b"\0") == body.rstrip(b"\0")


@given(st.lists(st.tuples(st.integers(0, 3 * WINDOW), st.integers(1, 50)), max_size=30))
def test_replay_window_is_a_set_with_a_floor(runs: list[tuple[int, int]]) -> None:
    window, seen = ReplayWindow(), set()
    for number, count in runs:
        wanted = range(number, number + count)
        highest = max(seen, default=-1)
        fresh = [n not in seen and n > highest - WINDOW for n in wanted]
        assert [window.is_fresh(n) for n in wanted] == fresh
        assert window.is_fresh_run(number, count) == all(fresh)
        window.mark(number, count)
        seen |= set(wanted)


@given(
    st.binary(min_size=1, max_size=6000),
    st.integers(40, 1500),
    st.booleans(),
    st.lists(st.integers(1, 200), max_size=12),
    st.sets(st.integers(0, 200)),
)
def test_slices_survive_any_grouping_and_loss(
    payload: bytes, mss: int, v6: bool, groups: list[int], lost: set[int]
) -> None:
    original = tcp_frame(payload, mss, v6=v6)
    wanted = software_segments(original)
    arrived = []
    offset = 0
    for part in cut(original):
        count, at = len(part.pieces), 0
        sizes = iter(groups)
        while at < count:
            size = min(next(sizes, 1), count - at)
            if offset + at not in lost:
                joined = b"".join(join(part.head, at, part.pieces[at : at + size], count))
                check_headers(joined)
                arrived += software_segments(joined)
            else:
                del wanted[len(arrived) : len(arrived) + size]
            at += size
        offset += count
    assert arrived == wanted


@settings(max_examples=25)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.floats(0, 0.05)), max_size=15),
    st.floats(0, 0.4),
)
def test_when_moves_stop_both_ends_find_each_other(
    seed: int, moves: list[tuple[bool, int, float]], loss: float
) -> None:
    """Liveness: one listed address of each host stays its own, the path delivers again and again."""
    network, a, b, connection = established(seed, Link(loss=loss, duplicate=0.2, jitter=0.02), open_timeout=120.0)
    flow, other = connection.flows[0], only_flow(b)
    homes = {host.name: next(iter(host.places)) for host in (a, b)}
    for host in (a, b):
        host.peer.set_addresses([homes[host.name]])
        host.peer.announce(network.now)
    network.run(30)
    for is_a, place, pause in moves:
        host, entry = (a, flow) if is_a else (b, other)
        move(network, host, entry, Address(f"10.{1 + is_a}.{place}.9", 4500))
        host.places.add(homes[host.name])  # the listed address lives on
        network.run(pause)
    network.run(300)
    assert flow.flow.state is other.flow.state is FlowState.ESTABLISHED
    a.delivered.clear()
    b.delivered.clear()
    network.link = Link()
    a.peer.send_frame(connection, frame(b"ping"), network.now)
    b.peer.send_frame(other.connection, frame(b"pong"), network.now)
    network.run(1)
    assert (len(a.delivered), len(b.delivered)) == (1, 1)
