# SPDX-License-Identifier: Apache-2.0
"""The command line of `python -m controller.manager`; what it starts is tested in tests/integration/framework."""

from __future__ import annotations

import pytest

from controller import manager
from controller.openflow.choice import ENVIRONMENT, FrameworkError


@pytest.mark.parametrize(
    ("arguments", "framework", "rest"),
    [
        ([], None, []),
        (["apps/x.py"], None, ["apps/x.py"]),
        (["--framework", "ryu", "apps/x.py"], "ryu", ["apps/x.py"]),
        (["apps/x.py", "--framework=os_ken", "--verbose"], "os_ken", ["apps/x.py", "--verbose"]),
    ],
)
def test_the_framework_is_taken_out_of_the_arguments(arguments, framework, rest):
    assert manager.split_framework(arguments) == (framework, rest)


@pytest.mark.parametrize("arguments", [["--framework"], ["--framework", "pox"], ["--framework="], ["--framework=pox"]])
def test_a_missing_or_unknown_framework_is_refused(arguments):
    with pytest.raises(FrameworkError, match="takes one of ryu, os_ken"):
        manager.split_framework(arguments)


@pytest.fixture
def launched(monkeypatch):
    """What was launched instead of a framework."""
    calls = []
    monkeypatch.setenv(ENVIRONMENT, "")
    monkeypatch.setattr(manager, "choose", lambda: "os_ken")
    monkeypatch.setattr(manager, "launch", lambda name, rest: calls.append((name, rest)))
    return calls


def test_apps_are_launched(launched):
    assert manager.main(["--verbose", "apps/x.py"]) == 0
    assert launched == [("os_ken", ["--verbose", "apps/x.py"])]


def test_wrong_usage_is_one_line_and_exit_code_2(launched, capsys):
    assert manager.main(["--framework", "pox", "apps/x.py"]) == 2
    assert capsys.readouterr().err == "baton: --framework takes one of ryu, os_ken, not 'pox'\n"
    assert launched == []


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 0), (ModuleNotFoundError("No module named 'apps/x'", name="apps/x"), 2)],
)
def test_how_it_ends(monkeypatch, launched, capsys, raised, code):
    def launch(name, rest):
        raise raised

    monkeypatch.setattr(manager, "launch", launch)
    assert manager.main(["apps/x.py"]) == code
    if code:
        assert "there is no app apps/x.py" in capsys.readouterr().err


def test_a_library_that_is_missing_is_not_called_an_app(monkeypatch, launched):
    def launch(name, rest):
        raise ModuleNotFoundError("No module named 'grpc'", name="grpc")

    monkeypatch.setattr(manager, "launch", launch)
    with pytest.raises(ModuleNotFoundError, match="grpc"):
        manager.main(["apps/x.py"])
