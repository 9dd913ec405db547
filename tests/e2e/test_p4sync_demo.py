# SPDX-License-Identifier: Apache-2.0
"""`make demo-p4sync` as a user starts it: plays on every target there is, ends with an exit code, leaves nothing."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vectors.p4.targets import TARGETS

from testbed.leftovers import orphaned_processes, orphaned_run_dirs

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "demo.p4sync"]
SCENES = ("1. p1 counts", "2. A connection migrates", "3. p1 is drained", "4. The man in", "5. The traffic moves")


def environment(target: str) -> dict[str, str]:
    """Ours; without the directories that have bmv2 where the embedded target is meant."""
    paths = os.environ["PATH"].split(os.pathsep)
    if target == "embedded":
        paths = [path for path in paths if shutil.which("simple_switch_grpc", path=path) is None]
    return {**os.environ, "PATH": os.pathsep.join(paths)}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", TARGETS)
def test_the_demo_plays_by_itself(target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPOSITORY,
        env=environment(target),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    for told in (*SCENES, f"run ({target})", "every flow's total is exact", "The state arrived, whole and once"):
        assert told in done.stdout, told
    assert re.search(r"p1 -> p2: 100 %, \d+ packets there", done.stderr), "how far a long shipment is can be seen"
    story = json.loads((tmp_path / "out" / "timeline.json").read_text())
    assert len(story) > 20
    events = [json.loads(line)["event"] for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert events.count("StateShipped") >= 4
    assert "StateRejected" not in events
    assert (orphaned_processes(), orphaned_run_dirs()) == ({}, {})


@pytest.mark.timeout(400)
@pytest.mark.parametrize("after", [random.Random(seed).uniform(0.3, 25) for seed in range(4)])
def test_an_interrupt_at_any_moment_leaves_nothing(after: float, tmp_path: Path) -> None:
    before = set(os.listdir("/run/netns")) if Path("/run/netns").is_dir() else set()
    process = subprocess.Popen(
        [*COMMAND, "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )
    try:
        time.sleep(after)  # the moment is what is tested; nothing is awaited
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, 130, -signal.SIGINT), said
    assert "Traceback" not in said
    assert (orphaned_processes(), orphaned_run_dirs()) == ({}, {})
    after_all = set(os.listdir("/run/netns")) if Path("/run/netns").is_dir() else set()
    assert not {name for name in after_all - before if str(process.pid) in name}


def test_an_output_directory_that_cannot_be_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [*COMMAND, "--out", str(tmp_path / "file")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 1
    assert "--out" in done.stderr
    assert "Traceback" not in done.stderr
