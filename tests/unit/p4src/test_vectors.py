# SPDX-License-Identifier: Apache-2.0
"""What bmv2 was recorded sending is what the protocol's page says, by a second implementation of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from vectors.p4 import reference as ref
from vectors.p4 import replay
from vectors.p4 import scenarios as sc

SOURCES = ("clients_source", "flows_source", "baseline")


def sessions(steps: list[dict[str, Any]]) -> dict[int, ref.Session]:
    """The sessions that the recorded switch was the source of."""
    found = {}
    for step in steps:
        write = step.get("write", {})
        if write.get("table") == sc.INGRESS + "sync_out":
            p = {name: int(value) for name, value in write["parameters"].items() if name != "port"}
            number = write["match"]["session"]
            found[number] = ref.Session(number=number, **p)
    return found


def sent(steps: list[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """(kind of the token, frame) for each sync packet that came out."""
    for step in steps:
        kind = int(step.get("packet_out", {}).get("fields", {}).get("kind", 0))
        for output in step.get("expect", []):
            if output.get("port") == sc.FABRIC:
                yield kind, bytes.fromhex(output["frame"])


@pytest.mark.parametrize("name", SOURCES)
def test_macs_and_links_hold(name: str) -> None:
    steps = replay.load(name)["steps"]
    keys = sessions(steps)
    chains: dict[int, list[ref.SyncPacket]] = {}
    for kind, frame in sent(steps):
        packet = ref.decode(frame)
        assert packet.encode() == frame
        assert packet.mac == ref.mac_of(packet, keys[packet.session])
        if kind != sc.RESEND:
            chains.setdefault(packet.session, []).append(packet)
    for chain in chains.values():
        assert [packet.sequence for packet in chain] == list(range(len(chain)))
        assert [packet.previous for packet in chain] == [0, *(packet.mac for packet in chain[:-1])]


@pytest.mark.parametrize("name", SOURCES)
def test_a_packet_sent_again_is_the_same_bytes(name: str) -> None:
    steps = replay.load(name)["steps"]
    first = {
        (p.session, p.sequence): frame for kind, frame in sent(steps) if kind != sc.RESEND for p in [ref.decode(frame)]
    }
    again = [(ref.decode(frame), frame) for kind, frame in sent(steps) if kind == sc.RESEND]
    assert again or name == "baseline"
    assert all(first[packet.session, packet.sequence] == frame for packet, frame in again)


def test_an_abort_adds_back_what_was_moved() -> None:
    """clients_source counts 40 packets, moves them, counts 6 more, moves 5 of those, and aborts: 46 in the end."""
    snapshots = [step["registers"] for step in replay.load("clients_source")["steps"] if "registers" in step]
    totals = [sum(map(int, s[sc.INGRESS + "client_packets"].values())) for s in snapshots]
    assert totals == [40, 1, 46]


@pytest.mark.parametrize(
    ("name", "client", "port"), [("flows_source", "10.4.0.5", 2005), ("flows_destination", "10.5.0.2", 3000)]
)
def test_the_newest_verdict_stays(name: str, client: str, port: int) -> None:
    """An abort does not bring an older one back, nor does a packet that arrives late."""
    last = [
        s["registers"] for s in replay.load(name)["steps"] if sc.INGRESS + "flow_verdict" in s.get("registers", {})
    ][-1]
    index = ref.index_of(ref.flow_key(client, port, sc.SERVICE))
    assert int(last[sc.INGRESS + "flow_verdict"][str(index)]) == 2


@pytest.mark.parametrize("suite", [ref.SIPHASH, ref.POLY_SIPHASH])
@pytest.mark.parametrize("word", [0, 1, 31, 63])
def test_every_word_of_a_body_counts(suite: int, word: int) -> None:
    keys = ref.Session(suite=suite)
    body = list(ref.clients_words(list(range(128))))
    whole = ref.sign(ref.SyncPacket(0, 1, 0, 128, 0, 0, tuple(body)), keys)
    body[word] ^= 1
    assert ref.mac_of(ref.SyncPacket(**{**whole.__dict__, "words": tuple(body)}), keys) != whole.mac


def test_the_reference_computes_the_published_vectors() -> None:
    published = json.loads((replay.HERE / "siphash24.json").read_text())["results"]
    key = bytes(range(16))
    assert [f"{ref.siphash24(key, bytes(range(n))):016x}" for n in range(64)] == published


def test_the_program_computes_the_published_vectors() -> None:
    published = json.loads((replay.HERE / "siphash24.json").read_text())["results"]
    steps = replay.load("siphash")["steps"]
    assert [step["expect"][0]["frame"][-16:] for step in steps] == published
