# SPDX-License-Identifier: Apache-2.0
"""`baton ship` and `baton keys`: what is asked for, what is printed, exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from controller.cli import keys as keys_command
from controller.cli import ship
from controller.cli.ship_progress import shown
from controller.p4sync import plan
from controller.p4sync.errors import ControlError
from controller.p4sync.protocol import Array, Mode, flow_key

CONFIG = Path(__file__).resolve().parents[3] / "baton.toml"
DONE = {
    "kind": "done",
    "job": "j",
    "to": "p2",
    "result": "committed",
    "reason": "",
    "sessions": [1],
    "packets": 12,
    "resent": 2,
    "left": [],
    "absent": [],
    "committed_seconds": 0.1,
    "seconds": 0.25,
}


class Agent:
    """Stands in for an agent's control connection."""

    done: dict[str, Any] = DONE
    wanted: list[plan.Plan]

    def __init__(self, path: Path) -> None:
        type(self).wanted = []

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ship(self, to: str, wanted: plan.Plan, timeout: float, progress: Any) -> dict[str, Any]:
        if to == "nowhere":
            raise ControlError("p1 has no peer 'nowhere'")
        for walked in range(101):
            progress({"staged": walked // 2, "made": walked, "walked": walked, "total": 100})
        self.wanted.append(wanted)
        return self.done


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> type[Agent]:
    monkeypatch.setattr(ship, "AgentControl", Agent)
    monkeypatch.setattr(Agent, "done", DONE)
    return Agent


def run(*words: str) -> Result:
    return CliRunner().invoke(ship.app, ["--from", "p1", "--control", "x", *words])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], plan.changes()),
        (["--all"], plan.drain()),
        (["--array", "clients"], plan.whole_array(Array.CLIENTS, Mode.OCCUPIED)),
        (["--flow", "10.0.0.7:40000/1"], plan.single_flows([flow_key("10.0.0.7", 40000, 1)], False)),
    ],
)
def test_what_is_asked_for(agent: type[Agent], words: list[str], wanted: plan.Plan) -> None:
    result = run("--to", "p2", *words)
    assert result.exit_code == 0, result.output
    assert agent.wanted == [wanted]
    assert "p1 -> p2: committed: 12 packets, 2 of them sent again, 0.25 s" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["--to", "p2", "--all", "--array", "flows"],
        ["--to", "p2", "--array", "meters"],
        ["--to", "p2", "--flow", "10.0.0.7:40000"],
        ["--to", "p2", "--flow", "10.0.0.7/1"],
        ["--to", "p2", "--flow", "[fd00::1]:5/1"],
        ["--to", "nowhere"],
    ],
)
def test_what_cannot_be_asked_for(agent: type[Agent], words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.output.startswith("baton: ")
    told = json.loads(run(*words, "--json").output)
    assert told["ok"] is False
    assert told["error"]


def test_where_there_is_no_terminal_progress_is_told_in_lines(agent: type[Agent]) -> None:
    told = [line for line in run("--to", "p2").output.splitlines() if "packets there" in line]
    assert told == [f"p1 -> p2: {share} %, {share // 2} packets there" for share in (20, 40, 60, 80, 100)]


def test_programs_see_progress_if_they_want_it(agent: type[Agent]) -> None:
    assert "there" not in run("--to", "p2", "--json").output
    assert "there" not in run("--to", "p2", "--no-progress").output
    *progress, last = run("--to", "p2", "--json", "--progress").output.splitlines()
    assert len(progress) == 5
    assert json.loads(last)["ok"] is True


def test_on_a_terminal_progress_is_a_bar_that_stays() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with shown("p1 -> p2", screen) as step:
        step({"staged": 3, "made": 4, "walked": 5, "total": 10})
        step({"staged": 9, "made": 9, "walked": 10, "total": 10})
    assert isinstance(screen.file, io.StringIO)
    last = screen.file.getvalue().rpartition("\n")[0].splitlines()[-1]
    assert "p1 -> p2" in last
    assert "100%" in last
    assert "9 packets" in last
    assert "\u2501" * 10 in last


@pytest.mark.parametrize(("result", "words"), [("aborted", "as before"), ("lost", "counts are lost")])
def test_what_was_not_shipped(agent: type[Agent], monkeypatch: pytest.MonkeyPatch, result: str, words: str) -> None:
    monkeypatch.setattr(agent, "done", DONE | {"result": result, "reason": "because"})
    told = run("--to", "p2")
    assert told.exit_code == 1
    assert words in told.output
    assert "because" in told.output
    assert json.loads(run("--to", "p2", "--json").output)["ok"] is False


def test_flows_that_stayed_are_named(agent: type[Agent], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "done", DONE | {"left": [f"10.0.0.{n}:1/1" for n in range(6)], "absent": ["x"]})
    output = run("--to", "p2").output
    assert "10.0.0.3:1/1 and 2 more stay" in output
    assert "x are not known there" in output


def test_for_programs(agent: type[Agent]) -> None:
    told = json.loads(run("--to", "p2", "--json").output)
    assert told["ok"] is True
    assert (told["from"], told["to"], told["packets"]) == ("p1", "p2", 12)


def test_a_switch_that_is_not_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BATON_CONFIG", str(CONFIG))
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path))
    result = CliRunner().invoke(ship.app, ["--from", "p9", "--to", "p2"])
    assert result.exit_code == 2
    assert "no P4 switch is called 'p9'" in result.output
    (tmp_path / "p4sync").mkdir()
    (tmp_path / "p4sync" / "p9.control").touch()
    result = CliRunner().invoke(ship.app, ["--from", "p9", "--to", "p2"])
    assert "start it with" in result.output


def test_new_keys(tmp_path: Path) -> None:
    words = ["new", "p1", "--dir", str(tmp_path)]
    first = CliRunner().invoke(keys_command.app, words)
    assert first.exit_code == 0
    assert (tmp_path / "p1.key").stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(keys_command.app, words)
    assert again.exit_code == 1
    assert "there already" in again.output
    told = json.loads(CliRunner().invoke(keys_command.app, [*words, "--json"]).output)
    assert told["ok"] is False
    other = CliRunner().invoke(keys_command.app, ["new", "p2", "--dir", str(tmp_path), "--json"])
    assert json.loads(other.output)["public"] == str(tmp_path / "p2.pub")
