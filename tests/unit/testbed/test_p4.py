# SPDX-License-Identifier: Apache-2.0
"""P4 parts of the network that need no network: the fabric, agents' settings, the witness, the man in the middle."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from vectors.p4 import reference as ref
from vectors.p4.frames import UDP, ipv4

from benchmarks._p4sync_traffic import FRAME, frame
from controller.p4sync import keys
from controller.p4sync.settings import load_settings
from testbed import p4
from testbed.p4_agents import ADDRESSES, settings
from testbed.p4_mid import BODY, MAC, SYNC, forge
from testbed.p4_witness import key_of, services

KNOWN = services(["10.0.0.1/tcp/80/7", "10.0.0.1/udp/53/8"])


def test_both_ends_of_a_fabric_link_name_it() -> None:
    for (one, other), ports in p4.FABRIC.items():
        assert (p4.fabric_port(one, other), p4.fabric_port(other, one)) == ports
    with pytest.raises(KeyError):
        p4.fabric_port("p1", "p9")


def test_no_port_of_a_switch_is_used_twice() -> None:
    for spec in p4.SWITCHES:
        ports = [p4.fabric_port(spec.name, other.name) for other in p4.SWITCHES if other != spec]
        ports += [p4.NETWORK, p4.SERVER] if spec.host else []
        assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("node", ["h3", "p3", "ids"])
def test_what_stands_before_no_host_is_itself(node: str) -> None:
    assert p4.host_behind(node) == node


def test_a_switch_before_a_host_is_seen_through() -> None:
    assert [p4.host_behind(name) for name in ("p1", "p2")] == ["h1", "h2"]


@pytest.mark.parametrize("suite", ["polynomial", "siphash", "none"])
def test_the_settings_are_what_an_agent_accepts(suite: str, tmp_path: Path) -> None:
    for spec in p4.SWITCHES:
        keys.new_pair(keys.ED25519, tmp_path / f"{spec.name}.key", tmp_path / f"{spec.name}.pub")
    for spec in p4.SWITCHES:
        path = tmp_path / f"{spec.name}.toml"
        path.write_text(settings(spec, suite))
        read = load_settings(path)
        assert read.suite == suite
        assert set(read.peers) == {other.name for other in p4.SWITCHES} - {spec.name}
        assert {service.address for service in read.services} == set(ADDRESSES.values())
        assert bool(read.forward) == (spec.host is not None)


@pytest.mark.parametrize(
    ("what", "frame", "key"),
    [
        ("to the server", ipv4("10.9.0.1", 4_000, "10.0.0.1", 80), ref.flow_key("10.9.0.1", 4_000, 7)),
        ("from the server", ipv4("10.0.0.1", 80, "10.9.0.1", 4_000), ref.flow_key("10.9.0.1", 4_000, 7)),
        ("another transport", ipv4("10.9.0.1", 4, "10.0.0.1", 53, protocol=UDP), ref.flow_key("10.9.0.1", 4, 8)),
        ("no service", ipv4("10.9.0.1", 4_000, "10.0.0.1", 81), None),
        ("another server", ipv4("10.9.0.1", 4_000, "10.0.0.2", 80), None),
        ("IP options", ipv4("10.9.0.1", 4_000, "10.0.0.1", 80, options=bytes(4)), None),
        ("a later fragment", ipv4("10.9.0.1", 4_000, "10.0.0.1", 80, fragment=300), None),
        ("neither TCP nor UDP", ipv4("10.9.0.1", 4_000, "10.0.0.1", 80, protocol=1), None),
        ("ARP", bytes(12) + b"\x08\x06" + bytes(46), None),
        ("too short", ipv4("10.9.0.1", 4_000, "10.0.0.1", 80)[:36], None),
    ],
)
def test_the_witness_counts_what_the_switch_counts(what: str, frame: bytes, key: int | None) -> None:
    assert key_of(frame, KNOWN) == key, what


def test_the_first_fragment_is_counted() -> None:
    """More fragments follow (bit 13), but the ports are in this one."""
    assert key_of(ipv4("10.9.0.1", 4_000, "10.0.0.1", 80, fragment=0x2000), KNOWN) == ref.flow_key("10.9.0.1", 4_000, 7)


def test_a_forged_packet_differs_in_one_byte_behind_the_ethernet_header() -> None:
    good = bytes(12) + SYNC + bytes(560)
    places = set()
    for seed in range(200):
        forged = forge(good, random.Random(seed))
        changed = [n for n, (a, b) in enumerate(zip(good, forged, strict=True)) if a != b]
        assert len(changed) == 1
        places.add("body" if changed[0] >= BODY else "mac" if changed[0] >= MAC else "header")
        assert changed[0] >= 14
    assert places == {"body", "mac", "header"}


def test_the_benchmark_sends_what_is_counted() -> None:
    made = frame(300, "10.0.0.1", 53)
    assert len(made) == FRAME
    assert key_of(made, KNOWN) == ref.flow_key("10.10.1.44", 1_324, 8)
