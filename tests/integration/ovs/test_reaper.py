# SPDX-License-Identifier: Apache-2.0
"""`ovs_actions/reaper.py`, under which Open vSwitch's own tests run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REAPER = Path(__file__).parents[3] / "ovs_actions" / "reaper.py"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, REAPER, *command], capture_output=True, text=True, timeout=30, check=False)


def test_an_orphan_becomes_the_reapers_child_and_is_reaped() -> None:
    script = """
        reaper=$PPID
        (sleep 0.2 & echo $! >&3) 3>&1 | { read -r orphan
            cat "/proc/$orphan/stat" | { read -r _ _ _ parent _; test "$parent" = "$reaper" && echo adopted; }
            while test -e "/proc/$orphan"; do sleep 0.05; done
            echo gone
        }"""
    assert run("sh", "-c", script).stdout.split() == ["adopted", "gone"]


@pytest.mark.parametrize(("command", "code"), [(("sh", "-c", "exit 3"), 3), (("sh", "-c", "kill -9 $$"), 137)])
def test_it_ends_as_the_command_did(command: tuple[str, ...], code: int) -> None:
    assert run(*command).returncode == code


def test_what_it_cannot_run_it_names() -> None:
    nothing = run("/no/such/command")
    assert (nothing.returncode, nothing.stderr) == (127, "reaper: /no/such/command: No such file or directory\n")
    assert run().returncode == 2
