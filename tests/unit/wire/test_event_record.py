# SPDX-License-Identifier: Apache-2.0
"""Events survive the way through JSON; anything else is refused."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.errors import RemoteError
from controller.core.events import (
    AlertRaised,
    FlowsReported,
    IcmpErrorReceived,
    SegmentReceived,
    SwitchLost,
    Verdict,
    VerdictReached,
)
from controller.core.segment import ConnectionKey, Endpoint, Segment
from controller.wire.event_record import EVENTS, SCHEMA, decode_event, encode_event, record_of

endpoints = st.builds(Endpoint, st.sampled_from(["10.0.0.1", "fd00::1"]), st.integers(0, 65_535))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**64 - 1),
    float: st.floats(0, 1e12),
    str: st.text(),
    bool: st.booleans(),
    bytes: st.binary(),
    Endpoint: endpoints,
    ConnectionKey: st.builds(ConnectionKey, endpoints, endpoints),
    tuple[str, ...]: st.lists(st.text()).map(tuple),
    tuple[tuple[str, int], ...]: st.lists(st.tuples(st.text(), st.integers(0, 99))).map(tuple),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return values for a field."""
    if isinstance(hint, types.UnionType):
        return st.one_of(
            *(st.none() if choice is type(None) else values_of(choice) for choice in typing.get_args(hint))
        )
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    return VALUES[hint]


def events_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Return instances of an event class."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: values_of(hints[field.name]) for field in dataclasses.fields(kind)})


CROSSING = [kind for kind in EVENTS.values() if kind not in (SegmentReceived, IcmpErrorReceived, FlowsReported)]


@given(st.sampled_from(CROSSING).flatmap(events_of))
def test_round_trip(event: Any) -> None:
    """Every class, every value."""
    line = encode_event(event)
    assert b"\n" not in line
    assert decode_event(line) == event


def test_readable() -> None:
    """People read the journal: names and ends as they write them."""
    key = ConnectionKey(Endpoint("10.0.0.3", 4), Endpoint("fd00::1", 5))
    record = record_of(VerdictReached(1.5, key, 2, Verdict.MIGRATE, "sid 9", "server2"))
    assert record["event"] == "VerdictReached"
    assert record["connection"] == "10.0.0.3:4>[fd00::1]:5"
    assert record["verdict"] == "migrate"


GOOD = record_of(SwitchLost(1.0, 2))
ALERT = record_of(AlertRaised(0.0, "e", 1, 1, 1, "m", "c", 1, Endpoint("1.2.3.4", 5), None))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"7",
        b"[" * 100_000,
        json.dumps(GOOD | {"schema": SCHEMA + 1}),
        json.dumps({"event": "SwitchLost", "schema": SCHEMA}),
        json.dumps(GOOD | {"event": "Nothing"}),
        json.dumps(GOOD | {"event": []}),
        json.dumps(GOOD | {"more": 1}),
        json.dumps(GOOD | {"switch": "2"}),
        json.dumps(GOOD | {"switch": True}),
        json.dumps(GOOD | {"switch": None}),
        json.dumps(ALERT | {"src": "10.0.0.1"}),
        json.dumps(ALERT | {"src": ":5"}),
        json.dumps(ALERT | {"src": 5}),
        json.dumps(ALERT | {"payload": "!"}),
        json.dumps(ALERT | {"payload": 5}),
        json.dumps(
            {"event": "VerdictReached", "schema": 1, "time": 1, "connection": "x", "version": 1}
            | {"verdict": "drop", "cause": ""}
        ),
        *(
            json.dumps({"event": "SwitchConnected", "schema": 1, "time": 1, "switch": 1, "ports": ports})
            for ports in ("ab", {"ab": 1}, [["p1"]], [["p1", 1, 2]], [["p1", "1"]], [[1, 1]], ["p1"])
        ),
        json.dumps({"event": "SegmentReceived", "schema": 1, "switch": 1, "port": 1, "segment": {}, "cookie": 1}),
    ],
)
def test_refused(line: bytes | str) -> None:
    """With the one remote error."""
    with pytest.raises(RemoteError):
        decode_event(line)


@given(st.binary() | st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_fuzz(line: bytes | str) -> None:
    """Accept, or raise the remote error; nothing else."""
    with pytest.raises(RemoteError):
        decode_event(line)


def test_segments_stay_inside() -> None:
    """What adapters tell the core has no form outside the process."""
    end = Endpoint("1.2.3.4", 5)
    with pytest.raises(TypeError):
        encode_event(SegmentReceived(1, 2, Segment(end, end, 1, 2, 3, 4)))


@pytest.mark.parametrize("kind", CROSSING)
def test_each_class_survives(kind: type[Any]) -> None:
    """One instance of each, whatever the search above tries."""

    @settings(max_examples=25, deadline=None)
    @given(events_of(kind))
    def survives(event: Any) -> None:
        assert decode_event(encode_event(event)) == event

    survives()
