# SPDX-License-Identifier: Apache-2.0
"""The demo as a user starts it: plays by itself, ends with an exit code, leaves its files and nothing else."""

import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import dpkt
import pytest

from testbed.leftovers import orphaned_processes, orphaned_run_dirs

REPOSITORY = Path(__file__).resolve().parents[2]
PCAPS = ("client.pcap", "server1.pcap", "server2.pcap", "analyser.pcap")


def play(out, *options):
    command = [shutil.which("python3"), str(REPOSITORY / "topo.py"), "--demo", "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=out.parent, check=False)


@pytest.mark.parametrize("options", [(), ("--framework", "os_ken"), ("--no-tso",)], ids=["ryu", "os_ken", "no-tso"])
def test_the_demo_plays_by_itself(tmp_path, options):
    out = tmp_path / "out"
    done = play(out, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for told in ("cutover from server1 to server2", "first byte from server2", "The connection moved", "flows of s1"):
        assert told in done.stdout
    assert "WRONG" not in done.stdout
    check_files(out)
    assert (orphaned_processes(), orphaned_run_dirs()) == ({}, {})


def check_files(out):
    for name in PCAPS:
        with (out / name).open("rb") as file:
            assert len(list(dpkt.pcap.Reader(file))) > 0, name
    events = [json.loads(line)["event"] for line in (out / "events.jsonl").read_text().splitlines()]
    story = ["ConnectionOpened", "VerdictReached", "MigrationStarted", "TargetEstablished", "MigrationCompleted"]
    assert set(story) <= set(events)
    assert "actions=" in (out / "flows.txt").read_text()
    picture = ElementTree.parse(out / "sequence.svg").getroot()
    texts = ["".join(node.itertext()) for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    for told in ("SYN ACK", "alert: MIGRATE", "cutover to server2", "3  the hand-off", "state freed"):
        assert any(told in text for text in texts), told


def test_an_output_directory_that_cannot_be_is_said_clearly(tmp_path):
    (tmp_path / "file").write_text("")
    done = play(tmp_path / "file")
    assert done.returncode == 1
    assert "--out" in done.stderr
    assert "Traceback" not in done.stderr
