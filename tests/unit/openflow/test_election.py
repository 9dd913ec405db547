# SPDX-License-Identifier: Apache-2.0
"""Who is master: the lock of a dead process is free, one that hangs is deposed, generations only grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from controller.openflow.election import STATE, Deposed, Elected, Election, ElectionError

LEASE = 3.0


@pytest.fixture
def join(tmp_path):
    """Make controllers that take part; each has file descriptors, and so locks, of its own."""
    joined = []

    def make(name):
        joined.append(Election(tmp_path / "shared", tmp_path / name, LEASE))
        return joined[-1]

    yield make
    for one in joined:
        one.close()


def test_the_first_is_elected_and_stays(join, tmp_path):
    one, two = join("one"), join("two")
    told = one.poll(100.0)
    assert isinstance(told, Elected)
    assert (told.generation, told.before.generation) == (1, 0)
    for tick in range(200):
        assert one.poll(100.0 + tick / 10) is None
        assert two.poll(100.05 + tick / 10) is None
    assert two.read().run_dir == str(tmp_path / "one")
    assert two.read().pid == os.getpid()


def test_the_lock_of_a_dead_master_is_free_at_once(join, tmp_path):
    """A process that is killed has no time to say so."""
    program = (
        "import sys, time; from pathlib import Path; from controller.openflow.election import Election\n"
        "one = Election(Path(sys.argv[1]), Path(sys.argv[2]), 3.0); print(one.poll(time.monotonic()), flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "shared"), str(tmp_path / "one")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert "generation=1" in process.stdout.readline()
        two = join("two")
        now = two.read().renewed + 0.01
        assert two.poll(now) is None
        process.kill()
        process.wait()
        told = two.poll(now)
    assert isinstance(told, Elected)
    assert (told.generation, told.before.run_dir) == (2, str(tmp_path / "one"))


def test_a_master_that_hangs_is_deposed_and_gives_way(join):
    one, two = join("one"), join("two")
    one.poll(100.0)
    assert two.poll(100.0 + LEASE - 0.01) is None
    told = two.poll(100.0 + LEASE)
    assert isinstance(told, Elected)
    assert told.generation == 2
    assert one.raise_above(9, 104.0) is None
    deposed = one.poll(104.0)
    assert isinstance(deposed, Deposed)
    assert deposed.by.generation == 2
    # The lock is free now, though the master is awake: it is not the other's to take.
    assert one.poll(104.1) is None
    assert two.poll(104.5) is None
    assert two.read().locked
    for tick in range(100):
        assert one.poll(105.0 + tick / 10) is None
        assert two.poll(105.0 + tick / 10) is None


def test_one_that_gives_way_lets_the_other_be_elected(join):
    one, two = join("one"), join("two")
    one.poll(100.0)
    one.stand_back(100.1)
    assert one.poll(100.2) is None
    assert two.poll(100.2).generation == 2
    assert one.poll(100.1 + LEASE) is None


def test_one_alone_that_gave_way_is_elected_again_after_the_lease(join):
    one = join("one")
    one.poll(100.0)
    one.stand_back(100.0)
    assert one.poll(100.0 + LEASE - 0.01) is None
    assert one.poll(100.0 + LEASE).generation == 2


def test_generations_are_raised_above_what_a_switch_has_heard(join):
    one, two = join("one"), join("two")
    one.poll(100.0)
    assert one.raise_above(56, 100.1) == 57
    assert one.poll(100.1 + LEASE / 2) is None
    one.stand_back(102.0)
    assert two.poll(102.0).generation == 58


def test_what_cannot_be_read_counts_as_nothing(join, tmp_path):
    """The switches still know better; see Mastership."""
    one = join("one")
    for rubbish in ("", "{", "[]", '{"generation": "x"}', json.dumps({"generation": 3, "more": 1})):
        (tmp_path / "shared" / STATE).write_text(rubbish)
        assert one.read().generation == 0
    assert one.poll(100.0).generation == 1


def test_after_a_restart_of_the_machine_its_clock_begins_anew(join):
    one, two = join("one"), join("two")
    one.poll(90_000.0)
    one.stand_back(90_000.0)
    assert two.poll(5.0).generation == 2


def test_somebody_writes_just_now(join):
    """Neither waits for the other: it is for the next time."""
    one, two = join("one"), join("two")
    with two._guarded() as is_ours:
        assert is_ours
        assert one.poll(100.0) is None
    assert one.poll(100.0).generation == 1
    with two._guarded():
        assert one.raise_above(9, 100.0) is None
        assert one.poll(102.0) is None
    assert one.raise_above(9, 100.0) == 10


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ElectionError, match=r"cannot use the directory .*file"):
        Election(tmp_path / "file", tmp_path, LEASE)
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ElectionError, match="chmod 700"):
        Election(tmp_path / "open", tmp_path, LEASE)
