# SPDX-License-Identifier: Apache-2.0
"""Between election, switches and app: which answer counts, what an error means, when an app has a switch."""

from __future__ import annotations

import struct

import pytest

from controller.core.mastership import NONE_HEARD, Role
from controller.openflow.election import Election
from controller.openflow.standby import BAD_REQUEST, IS_SLAVE, ROLE_REQUEST_FAILED, STALE, Standby

LEASE = 3.0


class Channel:
    """A switch's connection that keeps the role requests: (role, generation, xid)."""

    def __init__(self, number=7):
        self.id, self.xid, self.asked = number, 0xFFFFFFFE, []

    def send(self, message):
        version, kind, length, xid = struct.unpack_from("!BBHI", message)
        assert (version, kind, length, len(message)) == (5, 24, 24, 24)
        role, generation = struct.unpack_from("!I4xQ", message, 8)
        self.asked.append((role, generation, xid))


class Owner:
    """The app: what it was told."""

    def __init__(self):
        self.told = []

    def elected(self, generation, before):
        self.told.append(("elected", generation))

    def resigned(self, reason):
        self.told.append(("resigned", reason))

    def begin(self, channel):
        self.told.append(("begin", channel))

    def end(self, channel):
        self.told.append(("end", channel))


class Bench:
    """One controller, and the clock."""

    def __init__(self, directory, name):
        self.now = 100.0
        self.owner = Owner()
        self.election = Election(directory / "shared", directory / name, LEASE)
        self.standby = Standby(self.election, self.owner, lambda: self.now)

    def answer(self, channel, generation=NONE_HEARD, role=None):
        """The switch answers the newest request."""
        asked, _, xid = channel.asked[-1]
        self.standby.answered(channel, xid, asked if role is None else role, generation)

    def master_of(self, channel):
        """Become the master of a switch."""
        self.standby.opened(channel)
        self.standby.tick()
        self.answer(channel)
        self.answer(channel, channel.asked[-1][1])
        assert self.owner.told[-1] == ("begin", channel)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, "one")
    yield made
    made.standby.close()


@pytest.fixture
def other(tmp_path):
    made = Bench(tmp_path, "two")
    yield made
    made.standby.close()


def test_a_switch_is_the_apps_once_it_has_accepted_us(bench):
    channel = Channel()
    assert bench.standby.role == "standby"
    bench.standby.opened(channel)
    bench.standby.tick()
    assert bench.owner.told == [("elected", 1)]
    bench.answer(channel)
    assert [asked[:2] for asked in channel.asked] == [(Role.NOCHANGE, 0), (Role.MASTER, 1)]
    assert [xid for _, _, xid in channel.asked] == [0xFFFFFFFF, 0]
    bench.answer(channel, 1)
    assert bench.owner.told == [("elected", 1), ("begin", channel)]
    assert bench.standby.role == "master"


def test_answers_to_older_requests_say_nothing(bench):
    channel = Channel()
    bench.standby.opened(channel)
    older = channel.asked[-1][2]
    bench.answer(channel)
    bench.standby.answered(channel, older, 0, 5)
    bench.standby.answered(Channel(8), 1, 0, 5)
    assert len(channel.asked) == 2


def test_another_role_than_asked_for_is_none(bench, caplog):
    channel = Channel()
    bench.standby.opened(channel)
    bench.answer(channel)
    bench.answer(channel, role=Role.EQUAL)
    assert "has no controller roles" in caplog.text


def test_errors(bench, caplog):
    """Old: ask again. Any other to a request: no roles. Not ours: the switch's own business."""
    channel, plain = Channel(), Channel(9)
    bench.standby.opened(channel)
    bench.standby.opened(plain)
    bench.answer(channel)
    assert bench.standby.refused(channel, channel.asked[-1][2], ROLE_REQUEST_FAILED, STALE)
    assert channel.asked[-1][0] == Role.NOCHANGE
    assert not bench.standby.refused(channel, 4_711, 5, 1)
    assert not bench.standby.refused(Channel(8), 1, BAD_REQUEST, IS_SLAVE)
    assert bench.standby.refused(plain, plain.asked[-1][2], BAD_REQUEST, 1)
    assert "0000000000000009 has no controller roles" in caplog.text


@pytest.mark.parametrize("by", ["status", "error"])
def test_a_foreign_master(bench, by):
    """Give way, and run again only after the lease."""
    channel = Channel()
    bench.master_of(channel)
    bench.standby.told(channel, Role.MASTER)
    assert bench.standby.role == "master"
    if by == "status":
        bench.standby.told(channel, Role.SLAVE)
    else:
        assert not bench.standby.refused(channel, 4_711, BAD_REQUEST, IS_SLAVE)
    assert [what for what, _ in bench.owner.told[-2:]] == ["end", "resigned"]
    told = len(bench.owner.told)
    bench.now += LEASE - 0.1
    bench.standby.tick()
    assert len(bench.owner.told) == told
    bench.now += 0.2
    bench.standby.tick()
    assert bench.owner.told[-1] == ("elected", 2)
    assert channel.asked[-1][:2] == (Role.MASTER, 2)


def test_one_that_hangs_is_replaced(bench, other):
    channel, same = Channel(), Channel()
    bench.master_of(channel)
    other.standby.opened(same)
    other.answer(same, 1)
    assert same.asked[-1][:2] == (Role.SLAVE, 1)
    other.answer(same, 1)
    other.now = bench.now + LEASE
    other.standby.tick()
    assert same.asked[-1][:2] == (Role.MASTER, 2)
    bench.now = other.now + 1
    bench.standby.tick()
    assert [what for what, _ in bench.owner.told[-2:]] == ["end", "resigned"]
    assert channel.asked[-1][0] == Role.SLAVE


def test_a_switch_that_has_heard_more_raises_the_generation(bench, other):
    channel = Channel()
    bench.standby.opened(channel)
    bench.standby.tick()
    with other.election._guarded():
        bench.answer(channel, 40)
        assert len(channel.asked) == 1
    bench.standby.tick()
    assert channel.asked[-1][:2] == (Role.MASTER, 41)
    assert bench.election.read().generation == 41


def test_a_switch_that_comes_back_is_asked_again(bench):
    channel, again = Channel(), Channel()
    bench.master_of(channel)
    bench.standby.opened(again)
    bench.standby.closed(channel)
    bench.standby.told(channel, Role.SLAVE)
    assert bench.standby.role == "master"
    bench.answer(again, 1)
    bench.answer(again, 1)
    assert bench.owner.told[-1] == ("begin", again)
    bench.standby.closed(again)
    bench.standby.answered(again, again.asked[-1][2], Role.MASTER, 1)


def test_a_full_disk_is_told(bench, monkeypatch, caplog):
    def fail(now):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.election, "poll", fail)
    bench.standby.tick()
    assert "No space left" in caplog.text
    assert bench.standby.role == "standby"
