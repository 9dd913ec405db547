# SPDX-License-Identifier: Apache-2.0
"""Agents and switches as they run: shipped, verified, committed, again and again, in every direction."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from time import monotonic, sleep

import pytest
from integration.p4.lab import Weather
from integration.p4sync.agents import SERVICE, Agents
from vectors.p4.targets import TARGETS

from controller.p4sync import keys, plan
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from controller.p4sync.protocol import Array, Mode, client_entry_of, entry_of, flow_key

FLOWS = 64
STORM = {"loss": 0.1, "duplication": 0.1, "reordering": 0.1}


@pytest.fixture(scope="module", params=TARGETS)
def pair(request: pytest.FixtureRequest) -> Iterator[Agents]:
    """Two switches that every test here leaves with everything at `a`, or nothing anywhere."""
    with Agents(request.param) as lab:
        yield lab


def key_of(flow: int) -> int:
    return flow_key(f"10.{10 + (flow >> 16)}.{flow >> 8 & 255}.{flow & 255}", 1024 + flow, SERVICE)


def clients_of(packets: dict[int, int]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for flow, number in packets.items():
        found[client_entry_of(key_of(flow) >> 32)] += number
    return {entry: number for entry, number in found.items() if number}


def ship(lab: Agents, source: str, destination: str, wanted: plan.Plan) -> dict:
    done = lab.control(source).ship(destination, wanted)
    assert done["result"] == "committed", (done, lab.log(source)[-2000:])
    return done


def empty(lab: Agents) -> None:
    """Ship what is left at either switch away, and see it arrive."""
    before = Counter(lab.packets("a")) + Counter(lab.packets("b"))
    ship(lab, "a", "b", plan.drain())
    assert lab.packets("a") == {}
    assert lab.packets("b") == before


def test_there_and_back_again(pair: Agents) -> None:
    start = Counter(pair.packets("a"))
    pair.count_all("a", range(FLOWS))
    expected = dict(start + Counter(dict.fromkeys(range(FLOWS), 1)))
    for trip in range(4):
        source, destination = ("a", "b") if trip % 2 == 0 else ("b", "a")
        ship(pair, source, destination, plan.drain())
        assert pair.packets(source) == {}
        assert pair.clients(source) == {}
        assert pair.packets(destination) == expected
        assert pair.clients(destination) == clients_of(expected)


def test_a_single_flow_keeps_its_name_until_it_is_released(pair: Agents) -> None:
    pair.count_all("a", [500, 501])
    key = key_of(500)
    pair.control("a").request("verdict", key=key, verdict=1)
    ship(pair, "a", "b", plan.single_flows([key], release=False))
    there = pair.control("b").request("flow", key=key)["flow"]
    assert (there["packets"], there["verdict"]) == (1, 1)
    assert pair.control("a").request("flow", key=key)["flow"]["packets"] == 0
    pair.count_all("a", [500])
    ship(pair, "a", "b", plan.single_flows([key], release=True))
    assert pair.control("b").request("flow", key=key)["flow"]["packets"] == 2
    assert pair.control("a").request("flow", key=key)["flow"] is None
    assert pair.control("a").request("flow", key=key_of(501))["flow"]["packets"] == 1
    ship(pair, "b", "a", plan.single_flows([key], release=True))


def test_a_verdict_takes_effect_behind_the_move(pair: Agents) -> None:
    pair.count_all("a", [510])
    key = key_of(510)
    pair.control("a").request("verdict", key=key, verdict=2)
    ship(pair, "a", "b", plan.single_flows([key], release=True))
    dropped = pair.events("b")["verdict_drop"]
    pair.count_all("b", [510])
    assert pair.events("b")["verdict_drop"] == dropped + 1
    ship(pair, "b", "a", plan.single_flows([key], release=True))


def test_flows_that_are_not_there_are_named(pair: Agents) -> None:
    pair.count_all("a", [520, 521, 522])
    wanted = [key_of(flow) for flow in (520, 999, 521, 998, 522)]
    done = ship(pair, "a", "b", plan.single_flows(wanted, release=True))
    assert len(done["absent"]) == 2
    assert all(name.startswith("10.10.3.") for name in done["absent"])
    assert {flow: pair.packets("b")[flow] for flow in (520, 521, 522)} == {520: 1, 521: 1, 522: 1}
    ship(pair, "b", "a", plan.drain())


def test_only_what_changed_is_sent(pair: Agents) -> None:
    ship(pair, "a", "b", plan.drain())
    ship(pair, "b", "a", plan.drain())
    ship(pair, "a", "b", plan.changes())
    pair.count_all("a", [1, 2, 3])
    done = ship(pair, "a", "b", plan.changes())
    assert 2 <= done["packets"] <= 6
    assert ship(pair, "a", "b", plan.changes())["packets"] == 0
    ship(pair, "b", "a", plan.drain())


def test_a_whole_array_is_512_packets(pair: Agents) -> None:
    done = ship(pair, "a", "b", plan.whole_array(Array.CLIENTS))
    assert 512 <= done["packets"] <= 514
    done = ship(pair, "b", "a", plan.whole_array(Array.CLIENTS, Mode.ALL, 0, 1023))
    assert 8 <= done["packets"] <= 10
    ship(pair, "b", "a", plan.drain())


def test_counted_once_under_traffic(pair: Agents) -> None:
    start = Counter(pair.packets("a"))
    sent: Counter[int] = Counter()
    stop = threading.Event()

    def talk() -> None:
        generator, due = random.Random(5), monotonic()
        while not stop.is_set():
            flow = generator.randrange(FLOWS)
            pair.count("a", flow)
            sent[flow] += 1
            due += 1 / 500
            sleep(max(0.0, due - monotonic()))

    before = pair.counted("a")
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        for _ in range(3):
            ship(pair, "a", "b", plan.drain())
    finally:
        stop.set()
        thread.join()
    pair.until_counted("a", before + sent.total())
    ship(pair, "a", "b", plan.drain())
    assert Counter(pair.packets("b")) == start + sent
    assert pair.packets("a") == {}
    ship(pair, "b", "a", plan.drain())


def test_progress_is_told(pair: Agents) -> None:
    frames: list[dict] = []
    done = pair.control("a").ship("b", plan.whole_array(Array.CLIENTS), progress=frames.append)
    assert done["result"] == "committed"
    assert frames
    assert frames[-1]["staged"] <= done["packets"]
    assert [frame["made"] for frame in frames] == sorted(frame["made"] for frame in frames)
    ship(pair, "b", "a", plan.drain())


def test_flows_whose_entries_are_taken_stay_and_are_named(pair: Agents) -> None:
    """The other flow's key is found by trial: the same entry, another client."""
    pair.count_all("a", [600, 601])
    key, service = key_of(600), SERVICE
    stranger = next(
        candidate
        for number in range(1 << 24)
        if entry_of(candidate := flow_key(str(ref_address(number)), 2000, service)) == entry_of(key)
        and candidate != key
    )
    pair.control("b").request("verdict", key=stranger, verdict=1)
    expected = pair.packets("a")
    done = ship(pair, "a", "b", plan.drain())
    assert done["left"] == [f"10.10.2.88:{1024 + 600}/{service}"]
    assert pair.packets("a") == {600: expected.pop(600)}
    moved = pair.flows("b")
    assert moved[stranger]["packets"] == 0
    assert {flow: n for flow, n in pair.packets("b").items() if flow in expected} == expected
    single = pair.control("a").ship("b", plan.single_flows([key], release=True))
    assert single["result"] == "aborted"
    assert "entries" in single["reason"]
    ship(pair, "b", "a", plan.single_flows([k for k in moved if k != stranger], release=True))
    ship(pair, "b", "a", plan.whole_array(Array.CLIENTS, Mode.OCCUPIED))


def ref_address(number: int) -> str:
    return f"10.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("suite", "kind"), [("siphash", keys.RSA), ("none", keys.ED25519)])
def test_other_suites_and_keys(target: str, suite: str, kind: str) -> None:
    with Agents(target, suite=suite, kind=kind) as lab:
        lab.count_all("a", range(FLOWS))
        ship(lab, "a", "b", plan.drain())
        assert lab.packets("b") == dict.fromkeys(range(FLOWS), 1)


@pytest.mark.parametrize("target", TARGETS)
def test_one_to_several_and_several_to_one(target: str) -> None:
    with Agents(target, "abc") as lab:
        lab.count_all("a", range(FLOWS))
        jobs = {"b": [key_of(f) for f in range(0, FLOWS, 2)], "c": [key_of(f) for f in range(1, FLOWS, 2)]}
        done = run_all(lab, [("a", to, plan.single_flows(wanted, release=True)) for to, wanted in jobs.items()])
        assert {one["result"] for one in done} == {"committed"}
        assert lab.packets("b") == dict.fromkeys(range(0, FLOWS, 2), 1)
        assert lab.packets("c") == dict.fromkeys(range(1, FLOWS, 2), 1)
        assert lab.packets("a") == {}
        done = run_all(lab, [("b", "a", plan.drain()), ("c", "a", plan.drain())])
        assert {one["result"] for one in done} == {"committed"}
        assert lab.packets("a") == dict.fromkeys(range(FLOWS), 1)
        done = run_all(lab, [("a", "b", plan.drain()), ("b", "a", plan.drain()), ("c", "b", plan.drain())])
        assert {one["result"] for one in done} == {"committed"}
        total = sum((Counter(lab.packets(name)) for name in "abc"), Counter())
        assert total == dict.fromkeys(range(FLOWS), 1)


def run_all(lab: Agents, wanted: list[tuple[str, str, plan.Plan]]) -> list[dict]:
    """Ship at the same time, each by a controller of its own."""
    done: list[dict] = []

    def one(source: str, to: str, what: plan.Plan) -> None:
        try:
            with AgentControl(lab.folder / f"{source}.control") as control:
                done.append(control.ship(to, what))
        except ControlError as error:
            done.append({"result": str(error)})

    threads = [threading.Thread(target=one, args=args) for args in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


@pytest.mark.parametrize("suite", ["siphash", "polynomial"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_storm_on_the_fabric_is_mended(target: str, suite: str) -> None:
    with Agents(target, weather=Weather(**STORM, seed=11), suite=suite) as lab:
        lab.count_all("a", range(FLOWS))
        assert lab.fabric is not None
        resent = 0
        for trip in range(4):
            source, destination = ("a", "b") if trip % 2 == 0 else ("b", "a")
            done = ship(lab, source, destination, plan.drain())
            done2 = ship(lab, destination, source, plan.whole_array(Array.CLIENTS, Mode.ALL, 0, 8191))
            done3 = ship(lab, source, destination, plan.whole_array(Array.CLIENTS, Mode.OCCUPIED))
            resent += done["resent"] + done2["resent"] + done3["resent"]
            assert lab.packets(source) == {}
            assert lab.packets(destination) == dict.fromkeys(range(FLOWS), 1)
            assert lab.clients(destination) == clients_of(dict.fromkeys(range(FLOWS), 1))
        assert resent >= lab.fabric.weather.dropped > 0


@pytest.mark.parametrize("target", TARGETS)
def test_a_marker_tells_that_the_path_is_drained(target: str) -> None:
    with Agents(target) as lab:
        control = lab.control("a")
        control.send("marker", session=1, token=0x1234567890ABCDEF, timeout=20)
        frame = bytes.fromhex(control.receive(10, "answer")["frame"])
        lab.sockets["a"].send(frame[:-1] + b"\1")
        assert control.receive(20, "marked") == {"kind": "marked", "token": 0x1234567890ABCDEF, "port": 1}
        before = lab.events("a")["marker_unexpected"]
        lab.sockets["a"].send(frame)
        deadline = monotonic() + 20
        while lab.events("a")["marker_unexpected"] == before:
            assert monotonic() < deadline, "a marker is expected once"
            sleep(0.01)
