# SPDX-License-Identifier: Apache-2.0
"""Deaths, fights and forgeries: a clear error, nothing changed, traffic meanwhile counted; what can go on goes on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from integration.p4.lab import Weather
from integration.p4sync.agents import SERVICE, Agents
from vectors.p4.bed import ROOT
from vectors.p4.client import Client
from vectors.p4.targets import TARGETS

from controller.p4sync import keys, plan
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from controller.p4sync.links import encode_frame
from controller.p4sync.protocol import Array, Mode, flow_key

BUILD = ROOT / "p4src" / "build"
FLOWS = 32
ALL_ONCE = dict.fromkeys(range(FLOWS), 1)
DEADLINE = 60.0
BLACK_HOLE = 1.0
QUICK = "patience = 2.0\nretry = 0.1"

pytestmark = pytest.mark.parametrize("target", TARGETS)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = monotonic() + DEADLINE
    while not holds():
        if monotonic() > deadline:
            raise TimeoutError(what)
        sleep(0.01)


class Background:
    """A shipment in a thread of its own; `result` waits for its end."""

    def __init__(self, lab: Agents, source: str, destination: str, wanted: plan.Plan, detached: bool = False) -> None:
        self._done: list[dict | str] = []
        self.control = AgentControl(lab.folder / f"{source}.control")
        self._args = (destination, wanted)
        self._detached = detached
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._done.append(self.control.ship(*self._args))
        except ControlError as error:
            self._done.append(str(error))

    def result(self) -> dict | str:
        self._thread.join(DEADLINE)
        assert self._done, "the shipment does not end"
        return self._done[0]


def state(lab: Agents, name: str, side: str) -> str:
    return lab.control(name).request("status")[side]["state"]


def stuck(lab: Agents, wanted: plan.Plan | None = None) -> Background:
    """A shipment from `a` to `b` that is amid its copy, because nothing arrives."""
    assert lab.fabric is not None
    lab.fabric.weather.loss = BLACK_HOLE
    sent = lab.events("a")["sync_sent"]
    shipment = Background(lab, "a", "b", wanted or plan.drain())
    until(lambda: lab.events("a")["sync_sent"] > sent, "packets are made")
    return shipment


def as_before(lab: Agents, packets: dict[int, int]) -> None:
    """Everything is at `a`, and its next session finds it."""
    assert lab.fabric is not None
    lab.fabric.weather.loss = 0
    until(lambda: lab.packets("a") == packets, f"everything is back: {lab.packets('a')}")
    assert {flow: number for flow, number in lab.packets("b").items() if number} == {}
    done = lab.control("a").ship("b", plan.drain())
    assert done["result"] == "committed", done
    assert lab.packets("b") == packets
    assert lab.packets("a") == {}


def test_a_session_that_is_cancelled_leaves_both_as_before(target: str) -> None:
    with Agents(target, weather=Weather()) as lab:
        lab.count_all("a", range(FLOWS))
        shipment = stuck(lab)
        lab.count_all("a", range(8))
        shipment.control.close()
        until(lambda: state(lab, "a", "outgoing") == "idle", "the session ends")
        as_before(lab, ALL_ONCE | dict.fromkeys(range(8), 2))


def test_a_verdict_set_at_the_destination_meanwhile_outlives_the_commit(target: str) -> None:
    """The session that is open there brings the source's verdict, which is an older one."""
    with Agents(target, weather=Weather()) as lab:
        assert lab.fabric is not None
        lab.count_all("a", [5])
        key = flow_key("10.10.0.5", 1024 + 5, SERVICE)
        lab.control("a").request("verdict", key=key, verdict=1)
        shipment = stuck(lab, plan.single_flows([key], release=True))
        for verdict in (1, 2):
            lab.control("b").request("verdict", key=key, verdict=verdict)
        lab.fabric.weather.loss = 0
        assert shipment.result()["result"] == "committed"
        until(lambda: lab.control("b").request("flow", key=key)["flow"]["verdict"] == 2, "the newer verdict")
        assert lab.control("b").request("flow", key=key)["flow"]["packets"] == 1
        lab.control("b").request("verdict", key=key, verdict=1)
        assert lab.control("b").request("flow", key=key)["flow"]["verdict"] == 1, "nothing sets it again"


def test_a_fabric_that_carries_nothing_aborts_the_session(target: str) -> None:
    with Agents(target, weather=Weather(), times=QUICK) as lab:
        lab.count_all("a", range(FLOWS))
        done = stuck(lab, plan.whole_array(Array.FLOWS, Mode.OCCUPIED)).result()
        assert done["result"] == "aborted"
        assert "no headway" in done["reason"]
        as_before(lab, ALL_ONCE)


@pytest.mark.parametrize("who", ["a", "b"])
def test_an_agent_that_is_killed_is_followed_by_one_that_goes_on(target: str, who: str) -> None:
    with Agents(target, weather=Weather()) as lab:
        lab.count_all("a", range(FLOWS))
        shipment = stuck(lab)
        lab.kill(f"agent {who}")
        lab.fabric.weather.loss = 0
        lab.start_agent(who)
        lab.control(who).wait_ready()
        if who == "b":
            assert shipment.result()["result"] == "committed"
        else:
            assert "gone" in shipment.result()
        until(lambda: lab.control("a").request("status")["jobs"] == 0, "the job goes on by itself")
        assert lab.packets("b") == ALL_ONCE
        assert lab.packets("a") == {}


def test_agents_that_have_lost_their_journals_find_the_session_in_the_switches(target: str) -> None:
    with Agents(target, weather=Weather()) as lab:
        lab.count_all("a", range(FLOWS))
        stuck(lab)
        for name in "ab":
            lab.kill(f"agent {name}")
            (lab.folder / f"{name}.journal").unlink()
        for name in "ab":
            lab.start_agent(name)
        for name in "ab":
            lab.control(name).wait_ready()
        as_before(lab, ALL_ONCE)


def test_a_source_that_dies_with_its_agent_is_said_to_have_lost_something(target: str) -> None:
    with Agents(target, weather=Weather()) as lab:
        lab.count_all("a", range(FLOWS))
        stuck(lab)
        lab.kill("agent a")
        lab.kill_switch("a")
        lab.start_switch("a")
        lab.fabric.weather.loss = 0
        lab.start_agent("a")
        lab.control("a").wait_ready()
        assert lab.control("a").request("status")["jobs"] == 0
        assert "is lost" in lab.log("a")
        lab.count_all("a", range(3))
        assert lab.control("a").ship("b", plan.drain())["result"] == "committed"
        assert lab.packets("b") == dict.fromkeys(range(3), 1)


def test_a_destination_that_dies_before_the_commit_gets_it_again(target: str) -> None:
    with Agents(target, weather=Weather(), times="patience = 30.0") as lab:
        lab.count_all("a", range(FLOWS))
        shipment = stuck(lab)
        lab.kill_switch("b")
        lab.count_all("a", range(4))
        lab.fabric.weather.loss = 0
        lab.start_switch("b")
        done = shipment.result()
        assert done["result"] == "committed", done
        assert len(done["sessions"]) >= 2
        done = lab.control("a").ship("b", plan.drain())
        assert lab.packets("b") == ALL_ONCE | dict.fromkeys(range(4), 2)
        assert lab.packets("a") == {}


def test_a_source_that_dies_loses_what_it_held_and_says_so(target: str) -> None:
    with Agents(target, weather=Weather()) as lab:
        lab.count_all("a", range(FLOWS))
        shipment = stuck(lab)
        lab.kill_switch("a")
        lab.start_switch("a")
        done = shipment.result()
        assert done["result"] == "lost"
        assert "restarted" in done["reason"]
        assert lab.packets("b") == {}
        lab.fabric.weather.loss = 0
        lab.count_all("a", range(3))
        assert lab.control("a").ship("b", plan.drain())["result"] == "committed"
        assert lab.packets("b") == dict.fromkeys(range(3), 1)


def test_another_primary_stops_the_agent_and_gives_way_again(target: str) -> None:
    with Agents(target, weather=Weather()) as lab:
        lab.count_all("a", range(FLOWS))
        shipment = stuck(lab)
        lab.count_all("a", [0])
        rival = Client(f"unix:{lab.folder / 'a.sock'}", BUILD / "flow_state.p4info.txtpb", election=9)
        rival.start()
        try:
            until(lambda: not lab.control("a").request("status")["ready"], "the agent notices")
            trouble = lab.control("a").request("status")["switch"]
            assert trouble["connection"] == "backup"
            assert "election id 9" in trouble["trouble"]
            with pytest.raises(ControlError, match="another controller"):
                lab.control("a").ship("b", plan.drain())
        finally:
            rival.stop()
        lab.fabric.weather.loss = 0
        assert shipment.result()["result"] == "committed"
        lab.control("a").ship("b", plan.drain())
        assert lab.packets("b") == ALL_ONCE | {0: 2}


def test_two_agents_of_one_switch(target: str) -> None:
    """The same election id, and another one: the first goes on in peace."""
    with Agents(target) as lab:
        lab.count_all("a", range(FLOWS))
        second = run_agent(lab.write_settings("a"))
        assert second.returncode == 2
        assert "is running already" in second.stderr
        text = lab.settings("a").replace('control = "a.control"', 'control = "x.control"')
        lab.write_settings("x", text.replace("a.peer", "x.peer"))
        lab.start_agent("x")
        try:
            until((lab.folder / "x.control").exists, "it listens")
            with AgentControl(lab.folder / "x.control") as control:
                until(lambda: "election" in control.request("status")["switch"]["trouble"].lower(), "it tries")
                with pytest.raises(ControlError, match="not ready"):
                    control.ship("b", plan.drain())
            assert lab.control("a").ship("b", plan.drain())["result"] == "committed"
            assert lab.packets("b") == ALL_ONCE
        finally:
            lab.processes["agent x"].terminate()


def run_agent(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller.p4sync", str(path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=ROOT,
        check=False,
    )


def test_a_switch_with_another_program_is_left_alone(target: str) -> None:
    with Agents(target) as lab:
        lab.count_all("a", range(FLOWS))
        lab.kill("agent a")
        lab.write_settings("a", lab.settings("a").replace("polynomial", "none").replace("flow_state", "baseline"))
        lab.start_agent("a")
        until(lambda: "another program" in lab.control("a").request("status")["switch"]["trouble"], "it is told")
        with pytest.raises(ControlError, match="another program"):
            lab.control("a").ship("b", plan.drain())
        lab.kill("agent a")
        lab.write_settings("a")
        lab.start_agent("a")
        lab.control("a").wait_ready()
        assert lab.packets("a") == ALL_ONCE


def test_an_agent_that_starts_again_does_not_load_the_program_again(target: str) -> None:
    with Agents(target) as lab:
        lab.count_all("a", range(FLOWS))
        lab.kill("agent a")
        lab.start_agent("a")
        lab.control("a").wait_ready()
        assert lab.packets("a") == ALL_ONCE
        lab.count_all("a", range(FLOWS))
        assert lab.packets("a") == dict.fromkeys(range(FLOWS), 2)
        assert lab.control("a").ship("b", plan.drain())["result"] == "committed"


@pytest.mark.parametrize(
    ("side", "whose"), [("a", "b"), ("b", "a")], ids=["a trusts another key for b", "b trusts another key for a"]
)
def test_the_wrong_key_moves_nothing(target: str, side: str, whose: str) -> None:
    with Agents(target, times=QUICK) as lab:
        lab.count_all("a", range(FLOWS))
        keys.new_pair(keys.ED25519, lab.folder / "mallory.key", lab.folder / "mallory.pub")
        lab.kill(f"agent {side}")
        lab.write_settings(side, lab.settings(side).replace(f'"{whose}.pub"', '"mallory.pub"'))
        lab.start_agent(side)
        lab.control(side).wait_ready()
        done = lab.control("a").ship("b", plan.drain())
        assert done["result"] == "aborted"
        assert lab.packets("a") == ALL_ONCE
        assert lab.packets("b") == {}
        assert lab.events("b")["sync_staged"] == 0
        assert "signature" in lab.log("a") + lab.log("b")


def test_captured_packets_are_worth_nothing_afterwards(target: str) -> None:
    with Agents(target, weather=Weather()) as lab:
        lab.count_all("a", range(FLOWS))
        assert lab.control("a").ship("b", plan.drain())["result"] == "committed"
        assert lab.fabric is not None
        seen = [frame for frame in lab.fabric.weather.seen if frame[12:14] == b"\x88\xb5"]
        before = lab.events("b")
        for frame in seen:
            unexpected = lab.events("b")["sync_unexpected"]
            deadline = monotonic() + DEADLINE
            while lab.events("b")["sync_unexpected"] == unexpected:  # a capture ring may overrun: sent until seen
                assert monotonic() < deadline
                lab.fabric.inject("b", frame)
                sleep(0.002)
        assert lab.events("b")["sync_staged"] == before["sync_staged"]
        assert lab.packets("b") == ALL_ONCE


def test_strangers_at_the_agents_socket_change_nothing(target: str) -> None:
    """Nonsense, a hello that is not signed, one signed by somebody else, an old one, a session of others."""
    with Agents(target) as lab:
        lab.count_all("a", range(FLOWS))
        mallory = keys.new_pair(keys.ED25519, lab.folder / "m.key", lab.folder / "m.pub")
        assert mallory is None
        body = json.dumps({"challenge": "0" * 32, "source": 1})
        forged = keys.sign(keys.load_private(lab.folder / "m.key"), "hello", body.encode()).hex()
        old = keys.sign(keys.load_private(lab.folder / "a.key"), "hello", body.encode()).hex()
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\xff\xff",
            encode_frame({"kind": "hello"}),
            encode_frame({"kind": "hello", "body": "[]", "signature": ""}),
            encode_frame({"kind": "hello", "body": body, "signature": forged}),
            encode_frame({"kind": "hello", "body": body, "signature": old}),
            encode_frame({"kind": "submit", "body": "{}", "signature": "00"}),
            encode_frame({"kind": "discard", "session": 1}),
        ):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(10)
                stranger.connect(str(lab.folder / "b.peer"))
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(4096):
                    pass
        assert lab.control("b").request("status")["incoming"]["session"] == 0
        assert lab.control("a").ship("b", plan.drain())["result"] == "committed"
        assert lab.packets("b") == ALL_ONCE


def test_requests_that_cannot_be_say_what_to_do(target: str) -> None:
    with Agents(target) as lab:
        control = lab.control("a")
        for fields, complaint in (
            ({"kind": "dance"}, "no request is called 'dance'"),
            ({"kind": "ship", "to": "z", "plan": plan.record_of(plan.drain())}, "known: b"),
            ({"kind": "ship", "to": "b", "plan": {"steps": []}}, "not a plan"),
            ({"kind": "ship", "to": "b", "plan": {"steps": [{"array": 7}]}}, "not a plan"),
            ({"kind": "ship", "to": "b", "plan": {"steps": [{"array": 0, "first": 3}]}}, "multiple of 128"),
            ({"kind": "ship", "to": "b", "plan": "all"}, "not a plan"),
            ({"kind": "flow", "key": "1"}, "key of a flow"),
            ({"kind": "verdict", "key": 1, "verdict": 9}, "0 none, 1 forward, 2 drop"),
        ):
            with pytest.raises(ControlError, match=complaint):
                control.request(**fields)
        assert control.request("status")["ready"]


def test_the_command_ships_and_says_why_not(target: str) -> None:
    with Agents(target) as lab:
        lab.count_all("a", range(FLOWS))
        baton = [sys.executable, "-m", "controller.cli.main", "ship", "--control", str(lab.folder / "a.control")]

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            command = [*baton, "--from", "a", *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT, check=False)

        first = run("--to", "b", "--flow", f"10.10.0.3:1027/{SERVICE}", "--json")
        assert first.returncode == 0, first
        assert json.loads(first.stdout) | {"result": "committed", "packets": 1} == json.loads(first.stdout)
        second = run("--to", "b", "--all")
        assert second.returncode == 0, second
        assert "a -> b: committed" in second.stdout
        assert lab.packets("b") == ALL_ONCE
        unknown = run("--to", "nowhere", "--json")
        assert unknown.returncode == 2
        assert json.loads(unknown.stdout)["ok"] is False
        wrong = run("--to", "b", "--all", "--array", "flows")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert lab.control("b").request("flow", key=flow_key("10.10.0.3", 1027, SERVICE))["flow"]["packets"] == 1
