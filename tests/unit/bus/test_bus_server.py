# SPDX-License-Identifier: Apache-2.0
"""The bus on real sockets, on native threads and on eventlet's green ones.

Each case runs in a process of its own: eventlet patches the modules of the process that uses it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("bus_cases.py")
CASES = re.findall(r"^def (\w+)\(bench\)", PROGRAM.read_text(), re.MULTILINE)


@pytest.mark.parametrize("hub", ["native", "eventlet"])
@pytest.mark.parametrize("case", CASES)
def test_bus(case, hub, tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), hub, case, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"case": case, "hub": hub, "passed": True}
    assert not list(tmp_path.iterdir()), "the socket was left behind"
