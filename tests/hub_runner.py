# SPDX-License-Identifier: Apache-2.0
"""Runs cases on native and on green threads, each in a process of its own (see `hub_case`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

HUBS = ("native", "eventlet")


def cases_of(program: Path) -> list[str]:
    """Return the names of a program's cases: its functions of a bench."""
    return re.findall(r"^def (\w+)\(bench\)", program.read_text(), re.MULTILINE)


def check_case(program: Path, hub: str, case: str, directory: Path) -> None:
    """Run a case in an empty directory; it has to pass, silently, and to leave nothing there."""
    done = subprocess.run(
        [sys.executable, str(program), hub, case, str(directory)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"case": case, "hub": hub, "passed": True}
    assert not list(directory.iterdir()), "sockets were left behind"
