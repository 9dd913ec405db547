# SPDX-License-Identifier: Apache-2.0
"""The operator's commands against the real core and a real bus; only the network below is simulated."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from simulation.demo import CLIENT, MACS, ORIGIN, POLICY, TARGET, Demo
from simulation.peer import Capabilities
from typer.testing import CliRunner

from controller import bus_client
from controller.bus_server import BusServer
from controller.cli.migration import app
from controller.cli.report import duration, size
from controller.core.drain import PATIENCE
from controller.core.events import (
    BackendFailed,
    ConnectionClosed,
    DrainRequested,
    MigrationRequested,
    MigrationRolledBack,
    MigrationStarted,
    StatusRequested,
)
from controller.core.policy import Server
from controller.core.segment import ConnectionKey, Endpoint
from controller.journal import Journal

THIRD = Server("server3", Endpoint("10.0.0.4", 33_333))
OBSERVE = replace(
    POLICY,
    servers={**POLICY.servers, "server3": THIRD},
    services=(replace(POLICY.services[0], gated=False),),
)
KEY = ConnectionKey(CLIENT, ORIGIN)


class Threads:
    """What the bus needs of a hub."""

    Semaphore = threading.Semaphore
    sleep = staticmethod(time.sleep)


def spawn(task, *arguments):
    thread = threading.Thread(target=task, args=arguments, daemon=True)
    thread.start()
    return thread


class Controller:
    """The core with a simulated network, behind a bus; its time passes when somebody asks for something."""

    def __init__(self, run_dir: Path, clients: int = 2) -> None:
        self.demo = Demo(policy=OBSERVE)
        for number in range(clients):
            end = Endpoint(CLIENT.address, CLIENT.port + number)
            self.demo.dial(end, MACS[end.address], ORIGIN, MACS["10.0.0.1"], Capabilities(), None)
        self.demo.run(0.1)
        accepted = (MigrationRequested, DrainRequested, StatusRequested)
        logger = logging.getLogger("test bus")
        self.asked: list[object] = []
        self.bus = BusServer(Threads, spawn, run_dir / bus_client.NAME, accepted, self.deliver, logger)
        self.thread = self.bus.start()
        self.lock = threading.Lock()

    def deliver(self, event: object) -> None:
        with self.lock:
            self.asked.append(event)
            self.answer(event)

    def answer(self, event: object) -> None:
        """Let the core answer; tests put another answer in its place."""
        self.demo.events.clear()
        self.demo.tell(event)
        if isinstance(event, StatusRequested):
            self.demo.run(3 * self.demo.CONTROL_DELAY)  # the switch is asked for its counters
        else:
            self.demo.run(PATIENCE + 1.0 if isinstance(event, DrainRequested) else 1.0)
            for known in self.demo.engine.world.connections.values():
                for left in {ORIGIN, TARGET} - {known.path.server.endpoint}:
                    self.demo.peers.pop((left, known.key.client), None)  # a reset half does not accept again
        for fact in self.demo.events:
            self.bus.publish(fact)

    def places(self) -> list[str]:
        return [known.path.server.name for known in self.demo.engine.world.connections.values()]


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def controller(run_dir):
    made = Controller(run_dir)
    yield made
    made.bus.stop()
    made.thread.join(10)


def baton(*words: str, code: int = 0) -> str:
    """Run a command and return what it printed; its exit code is as expected."""
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def baton_json(*words: str, code: int = 0) -> dict:
    """Do so with --json."""
    return json.loads(baton(*words, "--json", code=code))


def test_connections(controller):
    text = baton("connections")
    assert "10.0.0.3:40000" in text
    assert "echo (10.0.0.1:11111)" in text
    assert "server1: 2, server2: 0, server3: 0" in text
    told = baton_json("connections", "40001")
    (row,) = told["connections"]
    assert (row["connection"], row["server"], row["state"]) == (
        "10.0.0.3:40001>10.0.0.1:11111",
        "server1",
        "served",
    )
    assert told["servers"] == {"server1": 2, "server2": 0, "server3": 0}
    assert "no connections match '7'" in baton("connections", "7")


def test_many_connections_are_fetched_in_pages(controller, monkeypatch):
    monkeypatch.setattr("controller.core.status.PAGE", 1)
    assert len(baton_json("connections")["connections"]) == 2


@pytest.mark.parametrize("name", ["40000", "10.0.0.3:40000", "10.0.0.3:40000>", str(KEY)])
def test_migrate_and_return(controller, name):
    assert "moved from server1 to server2 (version 1" in baton("migrate", name, "--to", "server2")
    assert controller.places() == ["server2", "server1"]
    assert "is at server2 already" in baton("migrate", name, "--to", "server2")
    told = baton_json("return", name)
    assert (told["ok"], told["result"], told["target"], told["version"]) == (True, "MigrationCompleted", "server1", 2)
    assert controller.places() == ["server1", "server1"]
    assert baton_json("return", name)["result"] == "unchanged"


@pytest.mark.parametrize("cut", [None, "now", "quiet"])
def test_when_to_cut(controller, cut):
    words = () if cut is None else ("--cut", cut)
    assert "moved from" in baton("migrate", "40000", "--to", "server2", *words)
    assert "moved from" in baton("return", "40000", *words)
    asked = [event.policy for event in controller.asked if isinstance(event, MigrationRequested)]
    assert asked == [cut, cut]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("migrate", "10.0.0.3", "--to", "server2"), "means several connections: 10.0.0.3:40000>"),
        (("migrate", "5", "--to", "server2"), "no connection matches '5'; 'baton connections' lists them"),
        (("migrate", "40000", "--to", "server9"), "no server is called server9 (known: server1, server2, server3)"),
        (("return", ""), "means several connections"),
        (("drain", "server9"), "no server is called server9"),
        (("drain", "server1", "--to", "server1"), "to itself"),
    ],
)
def test_what_cannot_be_asked_for(controller, words, complaint):
    assert complaint in baton(*words, code=2)
    told = baton_json(*words, code=2)
    assert told["ok"] is False
    assert complaint in told["error"]
    assert controller.places() == ["server1"] * 2


def test_a_client_named_exactly_is_not_mistaken(run_dir):
    """The name of one connection may be how another's begins."""
    controller = Controller(run_dir, clients=0)
    try:
        for port in (4_000, 40_000):
            end = Endpoint(CLIENT.address, port)
            controller.demo.dial(end, MACS[end.address], ORIGIN, MACS["10.0.0.1"], Capabilities(), None)
        controller.demo.run(0.1)
        assert baton_json("migrate", "10.0.0.3:4000", "--to", "server2")["connection"].startswith("10.0.0.3:4000>")
    finally:
        controller.bus.stop()


def test_a_target_that_is_not_there(controller):
    assert "stays at server1: timeout: nobody answered" in baton("migrate", "40000", "--to", "server3", code=1)
    told = baton_json("migrate", "40000", "--to", "server3", code=1)
    assert (told["ok"], told["result"], told["reason"]) == (False, "MigrationFailed", "timeout")


def scripted(controller, *facts):
    """Let a request be answered by these facts alone."""
    real = controller.answer

    def answer(event):
        if isinstance(event, StatusRequested):
            real(event)
        else:
            for fact in facts:
                controller.bus.publish(fact)

    controller.answer = answer


def test_a_migration_that_is_undone(controller):
    """Another version's end, and another connection's, are not taken for this one's."""
    other = replace_client(KEY, 9)
    scripted(
        controller,
        MigrationRolledBack(1.0, KEY, 6, "server2", "superseded"),
        MigrationStarted(1.0, KEY, 7, "server1", "server2"),
        ConnectionClosed(1.0, other, 1, "fin"),
        MigrationRolledBack(1.0, KEY, 6, "server2", "superseded"),
        MigrationRolledBack(1.0, KEY, 7, "server3", "elsewhere"),
        BackendFailed(1.0, "server1", ""),
        MigrationRolledBack(1.0, KEY, 7, "server2", "timeout"),
    )
    assert "stays at server1: timeout" in baton("migrate", "40000", "--to", "server2", code=1)


def test_a_connection_that_ends_meanwhile(controller):
    scripted(controller, ConnectionClosed(1.0, KEY, 1, "rst"))
    assert "ended (rst) before it was moved" in baton("migrate", "40000", "--to", "server2", code=1)


def replace_client(key: ConnectionKey, port: int) -> ConnectionKey:
    return ConnectionKey(Endpoint(key.client.address, port), key.service)


def test_a_migration_of_which_nothing_is_heard(controller):
    scripted(controller)
    words = ("migrate", "40000", "--to", "server2", "--deadline", "0.1")
    assert "nothing was heard of the migration for 0.1 s" in baton(*words, code=1)
    assert baton_json(*words, code=1)["result"] == "timeout"


def test_drain(controller):
    assert "server1: 2 moved" in baton("drain", "server1", "--to", "server2")
    assert controller.places() == ["server2"] * 2
    told = baton_json("drain", "server2")
    assert told == {
        "ok": True,
        "server": "server2",
        "moved": 2,
        "failed": 0,
        "skipped": 0,
        "reasons": {},
    }
    assert controller.places() == ["server1"] * 2


def test_a_drain_that_fails(controller):
    assert "0 moved, 2 stayed (timeout " in baton("drain", "server1", "--to", "server3", code=1)
    assert set(baton_json("drain", "server1", "--to", "server3", code=1)["reasons"]) == {"timeout"}


def test_a_drain_of_which_nothing_is_heard(controller):
    scripted(controller, BackendFailed(1.0, "server1", ""))
    assert "nothing was heard of the drain" in baton("drain", "server1", "--patience", "0.1", code=2)


def test_progress_of_a_drain(controller, monkeypatch):
    """Is told as often as the core tells it."""
    monkeypatch.setattr("controller.core.drain.TELL_AFTER", 0.0)
    monkeypatch.setattr("controller.core.drain.IN_FLIGHT", 1)
    assert "server1: 2 moved" in baton("drain", "server1", "--to", "server2")


@pytest.mark.parametrize(
    "words", [("connections",), ("migrate", "x", "--to", "y"), ("return", "x"), ("drain", "x"), ("watch",)]
)
def test_without_a_controller(run_dir, words):
    """One line says what to start."""
    text = baton(*words, code=2)
    assert "no controller is running" in text
    assert "ryu-manager apps/tcp_migration.py" in text
    assert "no controller is running" in baton_json(*words, code=2)["error"]


def test_watch_in_a_pipe(controller):
    """Prints events as they come, and says so when the controller ends."""

    def act():
        while not controller.bus.clients:
            time.sleep(0.01)
        (watcher,) = controller.bus._clients.values()
        controller.bus.publish(ConnectionClosed(1.0, KEY, 3, "fin"))
        while watcher.sent < watcher.put:
            time.sleep(0.01)
        controller.bus.stop()

    actor = threading.Thread(target=act)
    actor.start()
    text = baton("watch", code=2)
    actor.join()
    assert "ConnectionClosed     10.0.0.3:40000>10.0.0.1:11111 v3 reason=fin" in text
    assert "has gone" in text


def test_watch_on_a_terminal(controller, monkeypatch):
    """Shows the table, and what happens below it; the newest events stay in sight."""
    screen = io.StringIO()
    made = Console(file=screen, force_terminal=True, width=120, height=30, highlight=False)
    monkeypatch.setattr("controller.cli.migration.console", lambda: made)
    monkeypatch.setattr("controller.cli.migration.REFRESH", 0.05)

    def act():
        while "10.0.0.3:40001" not in screen.getvalue():
            time.sleep(0.01)
        for number in range(9):
            controller.bus.publish(BackendFailed(1.0, f"server{number}", ""))
        while "server=server8" not in screen.getvalue():
            time.sleep(0.01)
        controller.bus.stop()

    actor = threading.Thread(target=act)
    actor.start()
    assert "has gone" in baton("watch", code=2)
    actor.join()
    last = screen.getvalue().rpartition("client")[2]
    assert "server=server8" in last
    assert "server=server2" not in last


def test_watch_ends_when_interrupted(controller, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("controller.bus_client.BusClient.receive", interrupt)
    assert baton("watch") == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.9, "59.9s"), (61, "1m01s"), (7_265, "2h01m"), (90_000, "1d01h")]
)
def test_ages(seconds, text):
    assert duration(seconds) == text


def test_events(run_dir):
    journal = Journal(run_dir)
    for number in range(60):
        journal.append(BackendFailed(1.0, f"server{number}", "\x1b[31mred" if number == 59 else ""))
    journal.append(ConnectionClosed(1.0, KEY, 3, "fin"))
    journal.close()
    lines = baton("events").splitlines()
    assert len(lines) == 50
    assert lines[-1].endswith("ConnectionClosed     10.0.0.3:40000>10.0.0.1:11111 v3 reason=fin")
    assert "\x1b" not in lines[-2]
    assert len(baton("events", "--last", "0").splitlines()) == 61
    (record,) = map(json.loads, baton("events", "--last", "1", "--json").splitlines())
    assert record["event"] == "ConnectionClosed"
    assert record["wall"] > 0


def test_events_without_a_journal(run_dir):
    assert "no controller has run there" in baton("events", code=2)
    assert "no controller has run there" in baton("events", "--follow", code=2)


def test_following_events_until_interrupted(run_dir, monkeypatch):
    journal = Journal(run_dir)
    journal.append(BackendFailed(1.0, "before", ""))

    def pause(seconds):
        if journal_has("after"):
            raise KeyboardInterrupt
        journal.append(BackendFailed(1.0, "after", ""))

    def journal_has(word):
        return word in (run_dir / "events.jsonl").read_text()

    monkeypatch.setattr("controller.cli.migration.time.sleep", pause)
    lines = baton("events", "--follow").splitlines()
    journal.close()
    assert [line.rpartition("=")[2] for line in lines] == ["before", "after"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_960, "1.0 MB"),
        (5 * 10**9, "5.0 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text
