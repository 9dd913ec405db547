# SPDX-License-Identifier: Apache-2.0
"""What counts as left by a crashed run, and what is somebody else's."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controller.cli import clean

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def gone():
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.fixture
def namespaces(tmp_path, monkeypatch):
    """A directory that stands for /run/netns; the files in it are no namespaces, so nothing runs in them."""
    monkeypatch.setattr(clean, "NAMESPACES", tmp_path)
    return tmp_path


def test_a_namespace_whose_maker_is_gone_is_left_over(namespaces, gone):
    (namespaces / f"baton-an{gone}-0-c").touch()
    (namespaces / f"eccp-{gone}-new").touch()
    assert clean.orphaned_namespaces() == [f"baton-an{gone}-0-c", f"eccp-{gone}-new"]


def test_a_namespace_whose_maker_lives_is_in_use(namespaces):
    (namespaces / f"baton-{os.getpid()}-c").touch()
    assert clean.orphaned_namespaces() == []


@pytest.mark.parametrize("name", ["web-{}", "my-baton-{}", "baton", "baton-new", "{}"])
def test_other_names_are_somebody_elses(namespaces, gone, name):
    (namespaces / name.format(gone)).touch()
    assert clean.orphaned_namespaces() == []


def test_a_namespace_in_which_something_runs_stays(namespaces, gone):
    (namespaces / f"baton-{gone}").symlink_to("/proc/self/ns/net")
    assert clean.orphaned_namespaces() == []


def test_without_named_namespaces_nothing_is_left(namespaces, monkeypatch):
    monkeypatch.setattr(clean, "NAMESPACES", namespaces / "missing")
    assert clean.orphaned_namespaces() == []


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path))
    for name, kind in (("openflow.sock", socket.SOCK_STREAM), ("snort_alert", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_UNIX, kind) as crashed:
            crashed.bind(str(tmp_path / name))
    (tmp_path / "events.jsonl").touch()
    return tmp_path


def test_the_socket_of_a_dead_controller_is_stale(run_dir):
    (run_dir / "openflow.lock").touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as alive:
        alive.bind(str(run_dir / "another.sock"))
        alive.listen(1)
        assert clean.stale_sockets() == [run_dir / "openflow.sock", run_dir / "snort_alert"]


def test_the_socket_of_a_living_controller_is_not(run_dir):
    with (run_dir / "openflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clean.stale_sockets() == []


def test_a_socket_without_a_lock_is_not_ours(run_dir):
    assert clean.stale_sockets() == []


def test_removing_removes_what_was_found_and_nothing_else(run_dir, namespaces, monkeypatch):
    (run_dir / "openflow.lock").touch()
    monkeypatch.setattr(clean, "_networks", lambda repository, remove: [])
    assert clean.find_leftovers(REPOSITORY) == [
        f"socket {run_dir / 'openflow.sock'}",
        f"socket {run_dir / 'snort_alert'}",
    ]
    assert clean.remove_leftovers(REPOSITORY) == []
    assert not (run_dir / "openflow.sock").exists()
    assert {path.name for path in run_dir.iterdir()} == {"openflow.lock", "events.jsonl"}


def test_a_cleaner_that_fails_is_told(monkeypatch, tmp_path):
    assert clean._networks(tmp_path, remove=False) == [
        f"the networks of {tmp_path}: {sys.executable}: "
        f"Error while finding module specification for 'testbed.leftovers' (ModuleNotFoundError: "
        f"No module named 'testbed')"
    ]
