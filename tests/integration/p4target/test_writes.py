# SPDX-License-Identifier: Apache-2.0
"""Errors of single updates: the canonical codes of the P4Runtime specification, on every target that is here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from vectors.p4.client import DELETE, INSERT, MODIFY
from vectors.p4.messages import message
from vectors.p4.targets import TARGETS

from .lab import Lab, Lpm, Range, Ternary, running

INVALID, NOT_FOUND, EXISTS, DENIED = 3, 5, 6, 7
ROUTE, CLASSIFY = "FeaturesIngress.route", "FeaturesIngress.classify"
TO_PORT, SET_HASH = "FeaturesIngress.to_port", "FeaturesIngress.set_hash"
DESTINATION, ETHERTYPE = "hdr.ipv4.destination", "hdr.ethernet.ethertype"
LENGTH, VALID, TOS = "hdr.ipv4.total_length", "hdr.ipv4.$valid$", "hdr.ipv4.tos"
HERE = {DESTINATION: Lpm(0x0A020000, 24), ETHERTYPE: 0x800}


@pytest.fixture(scope="module", params=TARGETS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with running(request.param) as made:
        made.controller.insert(ROUTE, {DESTINATION: Lpm(0x0A000000, 8), ETHERTYPE: 0x800}, TO_PORT, {"port": 2})
        yield made


def route(
    match: dict[str, Any], parameters: dict[str, int] | None = None, action: str = TO_PORT, priority: int = 0
) -> Any:
    return lambda lab: lab.controller.entry(
        ROUTE, match, action, {"port": 3} if parameters is None else parameters, priority
    )


def classify(match: dict[str, Any], action: str = SET_HASH, priority: int = 5) -> Any:
    return lambda lab: lab.controller.entry(CLASSIFY, {VALID: 1, **match}, action, priority=priority)


def unknown_table(lab: Lab) -> Any:
    entity = route(HERE)(lab)
    entity.table_entry.table_id = 12345
    return entity


def default_of_route(lab: Lab) -> Any:
    entity = lab.controller.entry(ROUTE, {}, TO_PORT, {"port": 1})
    entity.table_entry.is_default_action = True
    return entity


def group(number: int) -> Any:
    def make(_: Lab) -> Any:
        entity = message("p4.v1.Entity")()
        entity.packet_replication_engine_entry.multicast_group_entry.multicast_group_id = number
        return entity

    return make


CASES: dict[str, tuple[int, int, Callable[[Lab], Any]]] = {
    "entry there already": (EXISTS, INSERT, route({DESTINATION: Lpm(0x0A000000, 8), ETHERTYPE: 0x800})),
    "modify what is not there": (NOT_FOUND, MODIFY, route(HERE)),
    "delete what is not there": (NOT_FOUND, DELETE, route(HERE)),
    "prefix of length 0": (INVALID, INSERT, route({DESTINATION: Lpm(0, 0), ETHERTYPE: 0x800})),
    "bits behind the prefix": (INVALID, INSERT, route({DESTINATION: Lpm(0x0A010001, 16), ETHERTYPE: 0x800})),
    "prefix too long": (INVALID, INSERT, route({DESTINATION: Lpm(0x0A010001, 33), ETHERTYPE: 0x800})),
    "exact field missing": (INVALID, INSERT, route({DESTINATION: Lpm(0x0A020000, 24)})),
    "value too wide": (INVALID, INSERT, route({DESTINATION: Lpm(0x0A020000, 24), ETHERTYPE: 0x10000})),
    "wrong kind of match": (INVALID, INSERT, route({DESTINATION: 5, ETHERTYPE: 0x800})),
    "parameter too wide": (INVALID, INSERT, route(HERE, {"port": 512})),
    "parameter missing": (INVALID, INSERT, route(HERE, {})),
    "no action": (INVALID, INSERT, route(HERE, action="")),
    "action of another table": (INVALID, INSERT, route(HERE, {}, SET_HASH)),
    "priority where there is none": (INVALID, INSERT, route(HERE, priority=3)),
    "unknown table": (INVALID, INSERT, unknown_table),
    "no priority": (INVALID, INSERT, classify({TOS: Ternary(1, 255)}, priority=0)),
    "mask 0": (INVALID, INSERT, classify({TOS: Ternary(0, 0)})),
    "bits beside the mask": (INVALID, INSERT, classify({TOS: Ternary(3, 1)})),
    "range that ends before it starts": (INVALID, INSERT, classify({LENGTH: Range(3, 1)})),
    "action for the default only": (DENIED, INSERT, classify({TOS: Ternary(4, 255)}, "NoAction")),
    "default action inserted": (INVALID, INSERT, default_of_route),
    "default action deleted": (INVALID, DELETE, default_of_route),
    "group 0": (INVALID, INSERT, group(0)),
    "no such group": (NOT_FOUND, DELETE, group(9)),
}


@pytest.mark.parametrize("name", CASES)
def test_code(lab: Lab, name: str) -> None:
    code, kind, make = CASES[name]
    assert lab.controller.update(make(lab), kind=kind) == [code]


def test_a_batch_goes_on_after_an_error(lab: Lab) -> None:
    fine = classify({TOS: Ternary(64, 255)})(lab)
    assert lab.controller.update(route(HERE, {"port": 512})(lab), fine) == [INVALID, 0]
    assert lab.controller.update(fine) == [EXISTS]
    assert lab.controller.update(fine, kind=DELETE) == [0]


def test_what_was_written_can_be_read(lab: Lab) -> None:
    entity = classify({LENGTH: Range(5, 9), TOS: Ternary(8, 12)})(lab)
    assert lab.controller.update(entity) == [0]
    asked = message("p4.v1.Entity")()
    asked.table_entry.table_id = entity.table_entry.table_id
    assert [e.table_entry.match for e in lab.controller.read(asked)] == [sorted(entity.table_entry.match, key=_number)]
    assert lab.controller.update(entity, kind=DELETE) == [0]
    assert lab.controller.read(asked) == []


def _number(field: Any) -> int:
    return int(field.field_id)


def test_not_primary(lab: Lab) -> None:
    request = lab.controller.request()
    request.election_id.low = 9
    with pytest.raises(grpc.RpcError) as caught:
        lab.controller.write_request(request)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_atomic_writes_are_not_done(lab: Lab) -> None:
    request = lab.controller.request()
    request.atomicity = 2
    with pytest.raises(grpc.RpcError) as caught:
        lab.controller.write_request(request)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
