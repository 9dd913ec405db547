# SPDX-License-Identifier: Apache-2.0
"""The `baton` command: output for people and for programs, exit codes, sub-commands."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import main
from controller.cli.doctor import Check, Finding, Status

GOOD = Finding("wheel", Status.OK, "turns", "not needed")
NOTE = Finding("bell", Status.WARNING, "is quiet", "ring [it]")
BAD = Finding("brake", Status.FAILED, "is gone", "buy [one]")


def run(*arguments):
    return CliRunner().invoke(main.app, arguments)


@pytest.fixture
def checks(monkeypatch):
    def use(*findings, slow=()):
        made = [Check(lambda repository: iter(findings)), Check(lambda repository: iter(slow), is_slow=True)]
        monkeypatch.setattr(main, "CHECKS", made)

    return use


def test_all_good(checks):
    checks(GOOD, NOTE)
    result = run("doctor")
    assert result.exit_code == 0
    assert "none of 2 checks failed" in result.output
    assert "not needed" not in result.output
    assert "mend: ring [it]" in result.output


def test_a_failure_shows_the_mend_and_the_exit_code(checks):
    checks(GOOD, BAD)
    result = run("doctor")
    assert result.exit_code == 1
    assert "brake: is gone" in result.output
    assert "mend: buy [one]" in result.output
    assert "1 of 2 checks failed" in result.output


def test_doctor_for_programs(checks):
    checks(GOOD, BAD)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["ok"] is False
    assert told["findings"] == [
        {"part": "wheel", "status": "ok", "detail": "turns", "mend": ""},
        {"part": "brake", "status": "failed", "detail": "is gone", "mend": "buy [one]"},
    ]


def test_quick_leaves_slow_checks_out(checks):
    checks(GOOD, slow=(BAD,))
    assert run("doctor", "--quick").exit_code == 0
    assert run("doctor").exit_code == 1


@pytest.fixture
def leftovers(monkeypatch):
    state = {"found": ["process 5"], "remaining": []}
    monkeypatch.setattr(main, "find_leftovers", lambda repository: state["found"])
    monkeypatch.setattr(main, "remove_leftovers", lambda repository: state["remaining"])
    return state


def test_clean_removes(leftovers):
    result = run("clean")
    assert result.exit_code == 0
    assert "process 5" in result.output
    assert "removed" in result.output


def test_clean_says_when_something_stays(leftovers):
    leftovers["remaining"] = ["process 5"]
    result = run("clean", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output) == {"found": ["process 5"], "remaining": ["process 5"]}


def test_a_dry_run_removes_nothing(leftovers, monkeypatch):
    monkeypatch.setattr(main, "remove_leftovers", lambda repository: pytest.fail("removed"))
    result = run("clean", "--dry-run")
    assert result.exit_code == 0
    assert "there" in result.output


def test_nothing_left(leftovers):
    leftovers["found"] = []
    assert "nothing is left" in run("clean").output


@pytest.fixture
def mounted(monkeypatch):
    """The app's sub-commands, as they were afterwards."""
    groups = []
    monkeypatch.setattr(main.app, "add_typer", lambda app, name: groups.append(name))
    monkeypatch.setattr(main, "SUB_COMMANDS", ("there", "absent", "broken"))
    module = ModuleType("controller.cli.there")
    module.app = typer.Typer()
    monkeypatch.setitem(sys.modules, "controller.cli.there", module)
    return groups


def test_sub_commands_that_are_there_are_mounted(mounted, monkeypatch, capsys):
    original = main.importlib.import_module

    def load(name):
        if name == "controller.cli.broken":
            raise ModuleNotFoundError("No module named 'grpc'", name="grpc")
        return original(name)

    monkeypatch.setattr(main.importlib, "import_module", load)
    main.mount_sub_commands()
    assert mounted == ["there"]
    complaint = capsys.readouterr().err
    assert "no 'broken' here: the module grpc is missing" in complaint
    assert "absent" not in complaint
