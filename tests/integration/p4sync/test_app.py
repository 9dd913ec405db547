# SPDX-License-Identifier: Apache-2.0
"""apps/p4sync.py as it runs, on both frameworks: migrations and requests become shipments, shipments become events."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from frameworks import need
from integration.p4sync.agents import SERVICE, Agents
from integration.p4sync.migrating_app import CONNECTION
from vectors.p4.bed import ROOT
from vectors.p4.targets import TARGETS

from controller.bus_client import BusClient, BusError
from controller.core.events import StateRejected, StateShipped, StateShipRequested
from controller.openflow.choice import FRAMEWORKS
from controller.p4sync import plan
from controller.p4sync.protocol import flow_key

HERE = Path(__file__).resolve().parent
DEADLINE = 60.0
KEY = flow_key(CONNECTION.client.address, CONNECTION.client.port, SERVICE)
CONFIG = """
[servers.one]
address = "10.0.0.1"
port = 80
[servers.two]
address = "10.0.0.2"
port = 80
[[services]]
name = "web"
origin = "one"
[p4sync.services]
web = 7
[p4sync.switches.a]
server = "one"
control = "{folder}/a.control"
[p4sync.switches.b]
server = "two"
control = "{folder}/b.control"
"""


@pytest.fixture(scope="module", params=TARGETS)
def lab(request: pytest.FixtureRequest) -> Iterator[Agents]:
    with Agents(request.param) as made:
        yield made


@pytest.fixture(params=FRAMEWORKS)
def bus(request: pytest.FixtureRequest, lab: Agents, tmp_path: Path) -> Iterator[BusClient]:
    """The bus of a controller with the app."""
    need(request.param)
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    (tmp_path / "baton.toml").write_text(CONFIG.format(folder=lab.folder))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "controller.manager", "--framework", request.param]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--ofp-tcp-listen-port", str(port), str(HERE / "migrating_app.py")],
            env={**os.environ, "BATON_RUN_DIR": str(run), "BATON_CONFIG": str(tmp_path / "baton.toml")},
            stdout=log,
            stderr=log,
            cwd=ROOT,
        )
    try:
        yield connect(run / "bus.sock", process, tmp_path / "log")
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def connect(path: Path, process: subprocess.Popen[bytes], log: Path) -> BusClient:
    deadline = monotonic() + DEADLINE
    while True:
        try:
            return BusClient(path)
        except BusError:
            assert process.poll() is None, log.read_text()
            assert monotonic() < deadline, log.read_text()
            sleep(0.05)


def ask(bus: BusClient, request: str, source: str = "a", destination: str = "b", what: str = "changes") -> Any:
    """Send a request and return the event that answers it."""
    bus.send(StateShipRequested(0.0, request, source, destination, what))
    answers = (StateShipped, StateRejected)
    found = bus.wait_for(lambda event: isinstance(event, answers) and event.request == request, DEADLINE)
    assert found is not None
    return found


def of_connection(bus: BusClient) -> Any:
    found = bus.wait_for(
        lambda event: isinstance(event, (StateShipped, StateRejected)) and event.connection == CONNECTION, DEADLINE
    )
    assert isinstance(found, StateShipped), found
    return found


def test_state_follows_a_migration(lab: Agents, bus: BusClient) -> None:
    lab.count_all("a", [5])
    before = lab.control("a").request("flow", key=KEY)["flow"]["packets"]
    bus.send(StateShipRequested(0.0, "verdict started", "a", "b", "changes"))
    assert (of_connection(bus).source, lab.control("a").request("flow", key=KEY)["flow"]["packets"]) == ("a", 0)
    there = lab.control("b").request("flow", key=KEY)["flow"]
    assert (there["packets"], there["verdict"]) == (before, 1), "verdict and counts are there before the cutover"
    lab.count_all("a", [5])
    bus.send(StateShipRequested(0.0, "completed", "a", "b", "changes"))
    of_connection(bus)
    assert lab.control("a").request("flow", key=KEY)["flow"] is None
    assert lab.control("b").request("flow", key=KEY)["flow"]["packets"] == before + 1
    assert lab.control("b").ship("a", plan.single_flows([KEY], release=True))["result"] == "committed"


def test_a_failed_migration_brings_back_what_went_ahead(lab: Agents, bus: BusClient) -> None:
    lab.count_all("a", [5])
    before = lab.control("a").request("flow", key=KEY)["flow"]["packets"]
    bus.send(StateShipRequested(0.0, "started failed", "a", "b", "changes"))
    assert of_connection(bus).destination == "b"
    assert of_connection(bus).destination == "a"
    assert lab.control("b").request("flow", key=KEY)["flow"] is None
    assert lab.control("a").request("flow", key=KEY)["flow"]["packets"] == before


def test_requests_over_the_bus(lab: Agents, bus: BusClient) -> None:
    lab.count_all("a", [6, 7])
    shipped = ask(bus, "first", what="all")
    assert isinstance(shipped, StateShipped)
    assert shipped.packets >= 1
    assert lab.packets("a") == {}
    assert isinstance(ask(bus, "back", "b", "a", "all"), StateShipped)
    for number, (source, destination, what, complaint) in enumerate(
        (("z", "b", "all", "known: a, b"), ("a", "z", "all", "known: b"), ("a", "b", "half", "all or changes"))
    ):
        refused = ask(bus, f"bad {number}", source, destination, what)
        assert isinstance(refused, StateRejected)
        assert complaint in refused.reason


def test_what_others_ship_is_told_too(lab: Agents, bus: BusClient) -> None:
    ask(bus, "the watch has begun")
    deadline = monotonic() + DEADLINE
    while True:
        assert lab.control("a").ship("b", plan.changes())["result"] == "committed"
        told = bus.wait_for(lambda event: isinstance(event, StateShipped) and not event.request, 2.0)
        if told is not None:
            break
        assert monotonic() < deadline
    assert (told.source, told.destination, told.connection) == ("a", "b", None)
