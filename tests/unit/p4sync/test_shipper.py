# SPDX-License-Identifier: Apache-2.0
"""The controller's side of an agent: requests, results and what becomes of them on the bus, with a stand-in agent."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.core.events import StateRejected, StateShipped, StateShipRequested
from controller.core.segment import ConnectionKey, Endpoint
from controller.p4sync import plan
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from controller.p4sync.following import SetVerdict, ShipFlow
from controller.p4sync.protocol import Verdict, describe_key, marker_frame
from controller.p4sync.shipper import Shipper

CONNECTION = ConnectionKey(Endpoint("10.0.9.9", 40000), Endpoint("10.0.0.1", 80))
DONE = {"kind": "done", "to": "p2", "result": "committed", "reason": "", "packets": 3, "left": [], "seconds": 0.5}
DEADLINE = 10.0


class StandIn:
    """An agent that answers as it is told, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = {}
        self.watchers: list[socket.socket] = []
        self._streams: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            self._streams.append(stream)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def hang_up(self) -> None:
        """End every connection, as an agent that dies does."""
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def _serve(self, stream: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            self._answer(stream)

    def _answer(self, stream: socket.socket) -> None:
        while head := stream.recv(4, socket.MSG_WAITALL):
            frame = json.loads(stream.recv(struct.unpack("!I", head)[0], socket.MSG_WAITALL))
            self.asked.append(frame)
            if frame["kind"] == "watch":
                self.watchers.append(stream)
            answers = self.answers.get(frame["kind"], lambda _: [{"kind": "answer"}])(frame)
            if not answers:
                stream.close()
                return
            for answer in answers:
                self.say(stream, answer)

    @staticmethod
    def say(stream: socket.socket, frame: dict[str, Any]) -> None:
        data = json.dumps(frame).encode()
        stream.sendall(struct.pack("!I", len(data)) + data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[StandIn]:
    made = StandIn(tmp_path / "p1.control")
    made.answers["ship"] = lambda _: [{"kind": "answer", "job": "j1"}, DONE | {"job": "j1"}]
    yield made
    made.close()


class Work:
    def __init__(self, path: Path, settle: float = 0.0) -> None:
        self.told: queue.Queue[object] = queue.Queue()
        self.slept: list[float] = []
        self.frames: list[bytes] = []
        self.carries_frames = False
        self.shipper = Shipper(
            "p1", path, self.told.put, time.monotonic, queue.Queue, self._sleep, settle, self._send_frame
        )
        works = (self.shipper.go_ahead, self.shipper.follow, self.shipper.watch)
        self._threads = [threading.Thread(target=run, daemon=True) for run in works]
        for thread in self._threads:
            thread.start()

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        time.sleep(0.005)

    def _send_frame(self, frame: bytes) -> bool:
        self.frames.append(frame)
        return self.carries_frames

    def event(self) -> Any:
        return self.told.get(timeout=DEADLINE)

    def end(self) -> None:
        self.shipper.stop()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


@pytest.fixture
def work(tmp_path: Path, agent: StandIn) -> Iterator[Work]:
    made = Work(tmp_path / "p1.control", settle=3.0)
    yield made
    made.end()


def flow(release: bool) -> ShipFlow:
    return ShipFlow("p1", "p2", 5, release, CONNECTION, 4)


def test_a_connections_state_is_shipped(work: Work, agent: StandIn) -> None:
    work.shipper.add(SetVerdict("p1", 5, Verdict.FORWARD))
    work.shipper.add(flow(False))
    event = work.event()
    assert isinstance(event, StateShipped)
    assert (event.source, event.destination, event.packets) == ("p1", "p2", 3)
    assert (event.connection, event.version, event.ahead) == (CONNECTION, 4, True)
    asked = [frame for frame in agent.asked if frame["kind"] != "watch"]
    assert asked[0] == {"kind": "verdict", "key": 5, "verdict": 1}
    assert plan.plan_of(asked[1]["plan"]) == plan.single_flows([5], False)
    assert not [seconds for seconds in work.slept if 2.0 < seconds < 3.1]


def test_after_the_cutover_a_marker_tells_that_the_last_packets_have_passed(work: Work, agent: StandIn) -> None:
    work.carries_frames = True
    agent.answers["marker"] = lambda asked: [
        {"kind": "answer", "frame": marker_frame(asked["session"], asked["token"]).hex()},
        {"kind": "marked", "token": asked["token"], "port": 1},
    ]
    work.shipper.add(flow(True))
    assert isinstance(work.event(), StateShipped)
    assert not [seconds for seconds in work.slept if 2.0 < seconds < 3.1]
    (asked,) = [frame for frame in agent.asked if frame["kind"] == "marker"]
    assert work.frames == [marker_frame(asked["session"], asked["token"])]


@pytest.mark.parametrize("carries", [False, True])
def test_without_a_marker_the_last_packets_are_waited_for(work: Work, agent: StandIn, carries: bool) -> None:
    work.carries_frames = carries
    agent.answers["marker"] = lambda asked: [
        {"kind": "answer", "frame": "00"},
        {"kind": "error", "error": "the marker did not arrive in time"},
    ]
    work.shipper.add(flow(True))
    assert isinstance(work.event(), StateShipped)
    assert [seconds for seconds in work.slept if 2.0 < seconds <= 3.0]
    assert next(frame for frame in agent.asked if frame["kind"] == "ship")["plan"]["release"] is True


def test_what_goes_ahead_does_not_wait_for_what_follows(work: Work, agent: StandIn) -> None:
    """A marker that is lost holds up only what follows cutovers."""
    go_on = threading.Event()
    work.carries_frames = True

    def lost(_: dict[str, Any]) -> list[dict[str, Any]]:
        go_on.wait(DEADLINE)
        return [{"kind": "answer", "frame": "00"}, {"kind": "error", "error": "the marker did not arrive in time"}]

    agent.answers["marker"] = lost
    work.shipper.add(flow(True))
    work.shipper.add(flow(False))
    first = work.event()
    go_on.set()
    assert (first.ahead, work.event().ahead) == (True, False)


def test_flows_that_take_the_same_way_share_a_session(agent: StandIn, tmp_path: Path) -> None:
    """Also where one of them has to stay, which is told of that one alone."""
    made = Work(tmp_path / "p1.control")
    agent.answers["ship"] = lambda _: [
        {"kind": "answer", "job": "j1"},
        DONE | {"job": "j1", "left": [describe_key(6)]},
    ]
    began, go_on = threading.Event(), threading.Event()

    def slow(_: dict[str, Any]) -> list[dict[str, Any]]:
        began.set()
        go_on.wait(DEADLINE)
        return [{"kind": "answer"}]

    agent.answers["verdict"] = slow
    made.shipper.add(SetVerdict("p1", 5, Verdict.FORWARD))
    assert began.wait(DEADLINE)
    wishes = [
        ShipFlow("p1", to, key, False, CONNECTION, version)
        for version, (to, key) in enumerate([("p2", 5), ("p3", 5), ("p2", 6), ("p2", 7)])
    ]
    for wish in wishes:
        made.shipper.add(wish)
    go_on.set()
    told = sorted((made.event() for _ in wishes), key=lambda event: event.version)
    assert [type(event) for event in told] == [StateShipped, StateShipped, StateRejected, StateShipped]
    assert "belongs to another flow" in told[2].reason
    shipped = [(frame["to"], plan.plan_of(frame["plan"])) for frame in agent.asked if frame["kind"] == "ship"]
    assert shipped == [("p2", plan.single_flows([5, 6, 7], False)), ("p3", plan.single_flows([5], False))]
    made.end()


def test_a_request_is_answered_with_its_name(work: Work, agent: StandIn) -> None:
    work.shipper.add(StateShipRequested(0.0, "r1", "p1", "p2"))
    assert work.event().request == "r1"
    work.shipper.add(StateShipRequested(0.0, "r2", "p1", "p2", "everything"))
    event = work.event()
    assert isinstance(event, StateRejected)
    assert event.request == "r2"
    assert "all or changes" in event.reason


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([{"kind": "error", "error": "p1 has no peer"}], "no peer"),
        ([], "has gone"),
        (
            [{"kind": "answer", "job": "j"}, DONE | {"job": "j", "result": "lost", "reason": "restarted"}],
            "lost: restarted",
        ),
        ([{"kind": "answer", "job": "j"}, DONE | {"job": "j", "result": "aborted", "reason": "forged"}], "forged"),
    ],
)
def test_what_is_not_shipped_is_rejected(work: Work, agent: StandIn, answers: list, reason: str) -> None:
    good = agent.answers["ship"]
    agent.answers["ship"] = lambda _: answers
    work.shipper.add(flow(False))
    event = work.event()
    assert isinstance(event, StateRejected)
    assert reason in event.reason
    assert event.connection == CONNECTION
    agent.answers["ship"] = good
    work.shipper.add(flow(False))
    assert isinstance(work.event(), StateShipped), "it goes on with the next"


def test_an_agent_that_was_started_anew_is_reached_anew(work: Work, agent: StandIn) -> None:
    work.shipper.add(flow(False))
    assert isinstance(work.event(), StateShipped)
    agent.hang_up()
    work.shipper.add(flow(False))
    assert isinstance(work.event(), StateShipped)


def test_no_agent(tmp_path: Path) -> None:
    made = Work(tmp_path / "missing.control")
    made.shipper.add(SetVerdict("p1", 5, Verdict.DROP))
    made.shipper.add(flow(False))
    event = made.event()
    assert isinstance(event, StateRejected)
    assert "start it" in event.reason
    made.end()


def test_what_others_shipped_is_told_once(work: Work, agent: StandIn) -> None:
    deadline = time.monotonic() + DEADLINE
    while not agent.watchers and time.monotonic() < deadline:
        time.sleep(0.005)
    watcher = agent.watchers[0]
    agent.say(watcher, DONE | {"job": "of another", "packets": 9})
    assert work.event().packets == 9
    agent.say(watcher, DONE | {"job": "of a third", "result": "aborted", "reason": "cancelled"})
    assert work.event().reason == "cancelled"


def test_the_client_gives_up_at_its_deadline(tmp_path: Path, agent: StandIn) -> None:
    agent.answers["ship"] = lambda _: [{"kind": "answer", "job": "j1"}]
    with AgentControl(tmp_path / "p1.control") as control, pytest.raises(ControlError, match="given up"):
        control.ship("p2", plan.drain(), timeout=0.1)
    agent.answers["status"] = lambda _: [
        {"kind": "answer", "name": "p1", "ready": False, "switch": {"trouble": "it is down"}}
    ]
    with AgentControl(tmp_path / "p1.control") as control, pytest.raises(ControlError, match="it is down"):
        control.wait_ready(0.1)
