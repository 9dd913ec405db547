# SPDX-License-Identifier: Apache-2.0
"""One line of a kind at a time."""

import logging

import pytest

from controller.sockets import complaints


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is told otherwise."""
    now = [1_000.0]
    monkeypatch.setattr(complaints, "monotonic", lambda: now[0])
    return now


def test_a_kind_is_told_once_in_an_interval(clock, caplog):
    complain = complaints.Complaints(logging.getLogger("test"), "bus")
    for number in range(1_000):
        complain("large", "%d dropped", number)
        complain("other", "100 % sure")  # without facts nothing is formatted
        clock[0] += complaints.INTERVAL / 500
    told = [record.getMessage() for record in caplog.records if "dropped" in record.message]
    assert told == ["bus: 0 dropped", "bus: 500 dropped"]
