# SPDX-License-Identifier: Apache-2.0
"""Two whole TCP peers with the gate between them: every byte reaches exactly one server, once, in order."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.network import Faults, Network
from simulation.peer import Capabilities

from controller.core.events import AlertRaised, MigrationCompleted, MigrationFailed, Verdict
from controller.core.policy import Policy, Rule, Server, Service
from controller.core.segment import Endpoint

CLIENT = Endpoint("10.0.0.3", 40_000)
ORIGIN, TARGET = Endpoint("10.0.0.1", 11_111), Endpoint("10.0.0.2", 22_222)
MACS = {"10.0.0.1": "02:00:00:00:00:01", "10.0.0.2": "02:00:00:00:00:02", "10.0.0.3": "02:00:00:00:00:03"}

origin, target = Server("server1", ORIGIN), Server("server2", TARGET)
POLICY = Policy(
    servers={"server1": origin, "server2": target},
    services=(Service("echo", origin),),
    rules=(
        Rule(Verdict.FORWARD, sid=1_000_001),
        Rule(Verdict.MIGRATE, "server2", sid=1_000_002),
        Rule(Verdict.DROP, sid=1_000_003),
    ),
    analyser_port="ids0",
)


def alert(sid: int) -> AlertRaised:
    """Return the alert that a rule raises on the client's request."""
    return AlertRaised(0.0, "suricata", sid, 1, 1, "", "", 3, CLIENT, ORIGIN)


def build(random: Random, faults: Faults | None = None, *, located: bool = True) -> Network:
    """Return the demo's network."""
    network = Network(POLICY, random, faults)
    network.start()
    for port, (address, mac) in enumerate(MACS.items(), 1):
        network.add_host(address, mac, port, located)
    network.run(0.1)
    return network


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
    sid=st.sampled_from([1_000_001, 1_000_002, 1_000_002, 1_000_002]),
    alert_after=st.sampled_from([0.000_2, 0.001, 0.01, 0.09]),
    isn=st.sampled_from([None, 2**32 - 1, 2**32 - 20, 0]),
    request=st.integers(1, 5_000),
)
def test_every_byte_reaches_one_server_once(seed, mine, first, second, links, sid, alert_after, isn, request):
    """Whatever the options, numbers, faults and verdict."""
    random = Random(seed)
    network = build(random, links)
    at_origin = network.listen(ORIGIN, MACS["10.0.0.1"], first)
    at_target = network.listen(TARGET, MACS["10.0.0.2"], second)
    client = network.dial(CLIENT, MACS["10.0.0.3"], ORIGIN, MACS["10.0.0.1"], mine, isn)
    network.run(8.0)
    if client.state != "established":
        return
    sent = random.randbytes(request)
    network.act(client, lambda peer: peer.write(network.now, sent))
    network.at(alert_after, lambda: network.tell(alert(sid)))
    network.run(12.0)

    moved = [event for event in network.events if isinstance(event, MigrationCompleted)]
    failed = [event for event in network.events if isinstance(event, MigrationFailed)]
    server = at_target[-1] if moved else at_origin[-1]
    if sid == 1_000_002 and not can_take_over(mine, first, second):
        assert not moved
    if sid == 1_000_002 and not links.loss and can_take_over(mine, first, second):
        assert moved, failed
    assert bytes(server.received) == sent
    if moved:
        assert at_origin[-1].received == b""
    answer = random.randbytes(3_000)
    network.act(server, lambda peer: peer.write(network.now, answer))
    more = random.randbytes(2_000)
    network.act(client, lambda peer: peer.write(network.now, more))
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
    complaints = client.complaints + server.complaints
    assert not complaints, complaints
    if not links.loss:
        assert client.retransmissions == 0
