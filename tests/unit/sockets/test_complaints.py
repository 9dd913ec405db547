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
    for number in range(10):
        complain("large", "%d dropped", number)
        complain("other", "not sure")
        clock[0] += complaints.INTERVAL / 4
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"bus: {text}" for number in (0, 4, 8) for text in (f"{number} dropped", "not sure")]
