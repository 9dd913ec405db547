# SPDX-License-Identifier: Apache-2.0
"""Any sequence of calls, in any state, over a bad network: done, or refused as the caller's fault, nothing else."""

import contextlib
import random

import pytest
from unit.eccp.cases import A1, B1, R, frame

from controller.eccp.errors import LocalError
from controller.eccp.simulation import Host, Link, Network, make_settings
from controller.wire.eccp import Address

pytestmark = pytest.mark.usefixtures("datapath")


def _places(host: Host, rng: random.Random) -> Address:
    return Address(f"10.{ord(host.name)}.{rng.randrange(4)}.1", 4500)


def _act(network: Network, host: Host, other: Host, rng: random.Random) -> None:
    peer, now = host.peer, network.now
    own = min(host.places)
    there = min(other.places)
    flows = list(peer.flows.values())
    connections = list(peer.connections.values())
    entry = rng.choice(flows) if flows else None
    connection = rng.choice(connections) if connections else None
    choice = rng.randrange(12)
    if choice == 0 and len(connections) < 6:
        peer.connect(there, own, now)
    elif choice == 1 and connection:
        peer.add_flow(connection, there, own, now, backup=rng.random() < 0.5)
    elif choice in {2, 3} and entry:
        place = _places(host, rng)
        host.places = {place} if rng.random() < 0.7 else host.places | {place}
        peer.move(entry, place, now)
    elif choice == 4:
        place = _places(host, rng)
        old, host.places = own, {place}
        peer.move_all(old, place, now)
    elif choice == 5 and entry and rng.random() < 0.3:
        peer.close_flow(entry, now, whole=rng.random() < 0.5)
    elif choice == 6 and connection and rng.random() < 0.3:
        peer.close(connection, now)
    elif choice == 7:
        peer.set_addresses([own, there][: rng.randrange(3)])
        peer.announce(now)
    elif choice == 8:
        network.link = Link(rng.random() * 0.1, rng.random() * 0.6, rng.random() * 0.4, rng.random() * 0.1)
    elif choice == 9:
        host.places = {max(host.places)}  # all places but one are gone, without a word
    elif connection:
        peer.send_frame(connection, frame(rng.randbytes(rng.randrange(1, 1200))), now)


@pytest.mark.parametrize("seed", range(40))
def test_calls_in_any_order(seed: int) -> None:
    rng = random.Random(seed)
    network = Network(seed, Link(0.01, 0.1, 0.1, 0.02))
    a, b = (
        network.add(
            name,
            make_settings(
                number,
                [1, 2, 3],
                sealed_data=bool(seed & 1),
                early_data=bool(seed & 2),
                idle_timeout=200.0,
                max_flows=4,
            ),
            [place],
        )
        for number, name, place in ((1, "a", A1), (2, "b", B1))
    )
    network.add("r", make_settings(3, [1, 2], is_rendezvous=True, idle_timeout=200.0), [R])
    if seed & 4:
        for host in (a, b):
            host.peer.rendezvous = host.peer.connect(R, min(host.places), 0.0)
    for _ in range(120):
        host, other = (a, b) if rng.random() < 0.5 else (b, a)
        with contextlib.suppress(LocalError):
            _act(network, host, other, rng)
        network.run(rng.choice((0.0, 0.01, 0.2, 3.0)))
    network.link = Link()
    for host in (a, b):
        for connection in list(host.peer.connections.values()):
            host.peer.close(connection, network.now)
    network.run(800)
    for host in network.hosts.values():
        assert not host.peer.flows
        assert not host.peer.connections
        assert not host.peer.half_open
        assert host.peer.next_timer() is None
