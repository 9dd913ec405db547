# SPDX-License-Identifier: Apache-2.0
"""Marks, locks and early ends: what belongs to a network is found and removed, and nothing else."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from testbed import leftovers
from testbed.processes import (
    MARK,
    Stopped,
    TopoError,
    clear_run_dir,
    guarded,
    kill_marked,
    lock_run_dir,
    marked_processes,
    new_mark,
    owner_lives,
    start_reaper,
    tail,
    wait_for,
)

DEADLINE = 30
REPOSITORY = Path(__file__).resolve().parents[3]


def sleeper(mark):
    """A marked process that ignores polite signals, with a child that does too."""
    script = "trap '' TERM HUP INT; sleep 1000 & sleep 1000"
    return subprocess.Popen(["sh", "-c", script], env={**os.environ, MARK: mark}, start_new_session=True)


def dead_mark():
    """A mark whose owner has run and is gone."""
    script = "from testbed.processes import new_mark; print(new_mark())"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()


def test_marked_processes_are_killed_with_their_children_and_others_are_not():
    mine, others = new_mark(), new_mark()
    assert mine != others
    processes = [sleeper(mine), sleeper(others)]
    try:
        wait_for("both", lambda: len(marked_processes(mine)) > 1 and len(marked_processes(others)) > 1, DEADLINE)
        assert kill_marked(mine)
        assert marked_processes(mine) == []
        assert len(marked_processes(others)) > 1
        assert processes[0].wait(DEADLINE) == -signal.SIGKILL
        assert processes[1].poll() is None
    finally:
        kill_marked(others)
        for process in processes:
            process.wait(DEADLINE)


def test_a_mark_tells_whether_its_owner_lives():
    assert owner_lives(new_mark())
    pid, began, *rest = new_mark().split(".")
    assert not owner_lives(f"{pid}.{int(began) + 1}.{rest[0]}")  # the same id, used again
    assert not owner_lives(dead_mark())
    assert not owner_lives("")
    assert not owner_lives("rubbish")


def test_one_holder_of_a_run_directory_at_a_time(tmp_path):
    lock = lock_run_dir(tmp_path)
    assert lock is not None
    assert lock_run_dir(tmp_path) is None
    clear_run_dir(tmp_path, everything=False)
    assert not tmp_path.exists()
    tmp_path.mkdir()
    again = lock_run_dir(tmp_path)
    assert again is not None
    os.close(again)
    os.close(lock)


def test_clearing_leaves_what_others_put_there(tmp_path):
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "conf.db").write_text("")
    (tmp_path / "topo.json").write_text("{}")
    (tmp_path / "events.jsonl").write_text("")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(tmp_path / "openflow.sock"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as alive:
        alive.bind(str(tmp_path / "eve.sock"))
        alive.listen(1)
        clear_run_dir(tmp_path, everything=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["eve.sock", "events.jsonl"]
    clear_run_dir(tmp_path, everything=True)
    assert not tmp_path.exists()


def test_the_reaper_acts_when_its_input_ends_and_spares_a_successor(tmp_path):
    mark = new_mark()
    (tmp_path / "topo.json").write_text(json.dumps({"mark": "a successor's"}))
    (tmp_path / "s1").mkdir()
    process = sleeper(mark)
    reaper = start_reaper(mark, tmp_path, everything=False)
    assert deaf(reaper)
    reaper.send_signal(signal.SIGTERM)
    assert marked_processes(mark)
    reaper.stdin.close()
    assert reaper.wait(DEADLINE) == 0
    process.wait(DEADLINE)
    assert marked_processes(mark) == []
    assert (tmp_path / "s1").exists()


def deaf(reaper):
    """Wait until the reaper ignores SIGTERM (the kernel tells by a mask)."""

    def ignored():
        with open(f"/proc/{reaper.pid}/status") as status:
            mask = next(line.split()[1] for line in status if line.startswith("SigIgn"))
        return int(mask, 16) & (1 << (signal.SIGTERM - 1))

    return wait_for("the reaper", ignored, DEADLINE)


def test_leftovers_are_found_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path))
    mark = dead_mark()
    process = sleeper(mark)
    (tmp_path / "topo.json").write_text(json.dumps({"mark": mark, "private": True}))
    try:
        assert leftovers.orphaned_processes()[process.pid] == mark
        assert leftovers.orphaned_run_dirs()[tmp_path] is True
        living = new_mark()
        (tmp_path / "topo.json").write_text(json.dumps({"mark": living, "private": True}))
        assert tmp_path not in leftovers.orphaned_run_dirs()
        (tmp_path / "topo.json").write_text(json.dumps({"mark": mark, "private": True}))
        leftovers.remove()
    finally:
        process.kill()
        process.wait(DEADLINE)
    assert process.pid not in leftovers.orphaned_processes()
    assert not tmp_path.exists()


def test_waiting_ends_with_the_value_the_process_or_the_deadline():
    assert wait_for("x", lambda: 7) == 7
    with pytest.raises(TopoError, match="x: the process ended"):
        wait_for("x", lambda: False, alive=lambda: False)
    with pytest.raises(TopoError, match=r"x: not ready after 0\.1 s"):
        wait_for("x", lambda: False, timeout=0.1)


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (TopoError("no switch: run make setup"), 1, "prog: no switch: run make setup\n"),
        (KeyboardInterrupt(), 130, "interrupted; everything"),
        (Stopped(signal.SIGTERM), 143, "ended by SIGTERM; everything"),
    ],
)
def test_an_early_end_is_one_clear_line(capsys, raised, code, told):
    def run():
        raise raised

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert guarded("prog", run) == code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert told in capsys.readouterr().err


def test_a_signal_unwinds_the_program():
    def run():
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGHUP)).start()
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            time.sleep(0.01)
        return 0

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert guarded("prog", run) == 128 + signal.SIGHUP
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_end_of_a_log(tmp_path):
    path = tmp_path / "log"
    assert tail(path) == ""
    path.write_text("".join(f"{number}\n" for number in range(20)))
    assert tail(path, 2) == "    18\n    19"
