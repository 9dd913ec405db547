# SPDX-License-Identifier: Apache-2.0
"""The listener on real sockets, on native threads and on eventlet's green ones.

Each case runs in a process of its own: eventlet patches the modules of the process that uses it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("listener_cases.py")
CASES = (
    "eve_lines_in_pieces",
    "analysers_come_and_go",
    "snort_datagrams",
    "garbage_never_kills",
    "a_fault_of_ours_never_kills",
    "flood_is_counted",
    "too_many_streams",
    "endless_line",
    "stop_ends_threads",
    "order_is_kept",
    "a_burst_lets_others_in",
    "others_get_their_turn",
)


@pytest.mark.parametrize("hub", ["native", "eventlet"])
@pytest.mark.parametrize("case", CASES)
def test_listener(case, hub, tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), hub, case, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"case": case, "hub": hub, "passed": True}
    assert not list(tmp_path.iterdir()), "sockets were left behind"
