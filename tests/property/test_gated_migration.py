# SPDX-License-Identifier: Apache-2.0
"""Two whole TCP peers with the gate between them: every byte reaches exactly one server, once, in order."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.demo import FORWARD, MIGRATE, Demo, alert
from simulation.network import Faults
from simulation.peer import Capabilities

from controller.core.events import MigrationCompleted, MigrationFailed

capabilities = st.builds(
    Capabilities,
    mss=st.sampled_from([1460, 1400, 536]),
    window_scale=st.sampled_from([None, 0, 7, 14]),
    sack=st.booleans(),
    timestamps=st.booleans(),
    clock=st.integers(0, 2**32 - 1),
)
faults = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.0, 0.02, 0.1]),
    duplication=st.sampled_from([0.0, 0.1]),
    jitter=st.sampled_from([0.0, 0.000_5]),
)


def can_take_over(mine: Capabilities, first: Capabilities, second: Capabilities) -> bool:
    """Return whether the second server has all that client and first server agree on."""
    for name in ("sack", "timestamps"):
        if getattr(mine, name) and getattr(first, name) and not getattr(second, name):
            return False
    scaled = mine.window_scale is not None and first.window_scale is not None
    return second.mss >= first.mss and not (scaled and second.window_scale is None)


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mine=capabilities,
    first=capabilities,
    second=capabilities,
    links=faults,
    sid=st.sampled_from([FORWARD, MIGRATE, MIGRATE, MIGRATE]),
    alert_after=st.sampled_from([0.000_2, 0.001, 0.01, 0.09]),
    isn=st.sampled_from([None, 2**32 - 1, 2**32 - 20, 0]),
    request=st.integers(1, 5_000),
)
def test_every_byte_reaches_one_server_once(seed, mine, first, second, links, sid, alert_after, isn, request):
    """Whatever the options, numbers, faults and verdict."""
    random = Random(seed)
    network = Demo(random, links, first=first, second=second)
    client = network.connect(mine, isn, seconds=8.0)
    if client.state != "established":
        return
    sent = random.randbytes(request)
    network.say(client, sent)
    network.at(alert_after, lambda: network.tell(alert(sid)))
    network.run(12.0)

    moved, failed = network.happened(MigrationCompleted), network.happened(MigrationFailed)
    server = network.at_target[-1] if moved else network.at_origin[-1]
    if sid == MIGRATE and not can_take_over(mine, first, second):
        assert not moved
    if sid == MIGRATE and not links.loss and can_take_over(mine, first, second):
        assert moved, failed
    assert bytes(server.received) == sent
    if moved:
        assert network.at_origin[-1].received == b""
    answer = random.randbytes(3_000)
    network.say(server, answer)
    more = random.randbytes(2_000)
    network.say(client, more)
    network.run(12.0)
    assert bytes(client.received) == answer
    assert bytes(server.received) == sent + more
    network.act(client, lambda peer: peer.close(network.now))
    network.run(5.0)
    network.act(server, lambda peer: peer.close(network.now))
    network.run(5.0)
    assert client.fin_received
    assert server.fin_received
    assert client.state == "established"
    assert not network.complaints(client, server), network.complaints(client, server)
    if not links.loss:
        assert client.retransmissions == 0
