# SPDX-License-Identifier: Apache-2.0
"""The demo interrupted at any moment: a clear message, no traceback, nothing of its own left, others unharmed."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.processes import MARK
from topo import BatonNet, wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
DEMO = [sys.executable, str(REPOSITORY / "topo.py"), "--demo"]
DEADLINE = 60
MOMENTS = 10
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def marks_of(pid):
    """Return the run directories and processes of networks that the process with this id has made."""
    found = [path.name for path in Path("/run").glob(f"baton-{pid}.*")]
    wanted = f"{MARK}={pid}.".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and any(
                w.startswith(wanted) for w in (entry / "environ").read_bytes().split(b"\0")
            ):
                found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


def in_run_dir(name):
    """Return a condition: the network of a process has this file in its run directory."""
    return lambda pid: any(Path("/run").glob(f"baton-{pid}.*/{name}"))


def network_of_the_machine():
    """Return the links and the named network namespaces that a demo could have left, those of other tests aside."""
    namespaces = os.listdir("/run/netns") if Path("/run/netns").exists() else []
    return (
        {name for name in os.listdir("/sys/class/net") if not name.startswith("eccp")},
        {name for name in namespaces if not name.startswith(("baton-", "eccp"))},
    )


STAGES = {
    "at once": lambda pid: True,
    "run directory": in_run_dir(""),
    "switch directory": in_run_dir("s1"),
    "database": in_run_dir("s1/ovsdb-server.ctl"),
    "switch": in_run_dir("s1/ovs-vswitchd.ctl"),
    "first server": in_run_dir("server1.jsonl"),
    "controller": in_run_dir("openflow.sock"),
    "analyser": in_run_dir("analyser.log"),
    "journal": in_run_dir("events.jsonl"),
}


def start(tmp_path):
    with (tmp_path / "output").open("wb") as output:
        return subprocess.Popen(
            [*DEMO, "--out", str(tmp_path / "out")], stdout=output, stderr=output, start_new_session=True
        )


def finish(demo, number, tmp_path, everybody=False):
    """Send the signal, to all its processes as a terminal does if wanted; check the end; return what was printed."""
    if everybody:
        os.killpg(demo.pid, number)
    else:
        demo.send_signal(number)
    code = demo.wait(DEADLINE)
    wait_for("nothing to be left", lambda: not marks_of(demo.pid), DEADLINE)
    printed = (tmp_path / "output").read_text()
    assert "Traceback" not in printed
    assert code in (-number, 128 + number), printed
    return printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_at_every_stage(tmp_path, stage, number):
    demo = start(tmp_path)
    try:
        wait_for(stage, lambda: STAGES[stage](demo.pid), DEADLINE, lambda: demo.poll() is None)
        printed = finish(demo, number, tmp_path)
    finally:
        demo.kill()
        demo.wait()
    if number != signal.SIGKILL and stage not in ("at once", "run directory"):
        assert "everything it had started is stopped and removed" in printed


def test_interrupted_at_random_moments_beside_another_network(tmp_path):
    with BatonNet(private=True) as other:
        other.forward_all()
        ping = other.popen("h3", ["ping", "-q", "-i", "0.05", "10.0.0.1"], stdout=subprocess.PIPE, text=True)
        links, namespaces = network_of_the_machine()
        for attempt in range(MOMENTS):
            directory = tmp_path / str(attempt)
            directory.mkdir()
            demo = start(directory)
            try:
                with_timeout = random.uniform(0.1, 8)
                try:
                    demo.wait(with_timeout)
                except subprocess.TimeoutExpired:
                    finish(demo, random.choice(SIGNALS), directory, everybody=random.random() < 0.5)
            finally:
                demo.kill()
                demo.wait()
        assert network_of_the_machine() == (links, namespaces)
        assert ping.poll() is None
        ping.send_signal(signal.SIGINT)
        told = ping.communicate(timeout=DEADLINE)[0]
        assert " 0% packet loss" in told, told
        assert marks_of(os.getpid())
