# SPDX-License-Identifier: Apache-2.0
"""One switch of a given target with the program `features` on it, and a client that can write every kind of match."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from vectors.p4.bed import Bed
from vectors.p4.client import DEADLINE, INSERT, Client, ReadRequest, encode_value
from vectors.p4.messages import message

PROGRAMS = Path(__file__).resolve().parents[2] / "unit" / "p4target" / "programs"
PORTS = (1, 2, 3)
SETTLE = 0.1
"""Nothing more came for so long: the switch is done."""
Status = message("google.rpc.Status")
Error = message("p4.v1.Error")


@dataclass(frozen=True)
class Lpm:
    value: int
    length: int


@dataclass(frozen=True)
class Range:
    low: int
    high: int


@dataclass(frozen=True)
class Ternary:
    value: int
    mask: int


def outcomes(fault: grpc.RpcError) -> list[int]:
    """The canonical codes of a failed Write, update by update."""
    trailer = dict(fault.trailing_metadata() or ())
    status = Status.FromString(trailer["grpc-status-details-bin"])
    codes = []
    for detail in status.details:
        error = Error.FromString(detail.value)
        codes.append(error.canonical_code)
    return codes


class Controller(Client):
    """The recording's client, with all kinds of match, whole batches, and reads."""

    def request(self) -> Any:
        return self._request()

    def entry(
        self,
        table: str,
        match: Mapping[str, Any],
        action: str = "",
        parameters: Mapping[str, int] | None = None,
        priority: int = 0,
    ) -> Any:
        """An Entity with a table entry in it."""
        entity = message("p4.v1.Entity")()
        entry = entity.table_entry
        description = self._tables[table]
        entry.table_id, entry.priority = description.preamble.id, priority
        ids = {f.name: f.id for f in description.match_fields}
        for name, value in match.items():
            field = entry.match.add(field_id=ids[name])
            if isinstance(value, Lpm):
                field.lpm.value, field.lpm.prefix_len = encode_value(value.value), value.length
            elif isinstance(value, Range):
                field.range.low, field.range.high = encode_value(value.low), encode_value(value.high)
            elif isinstance(value, Ternary):
                field.ternary.value, field.ternary.mask = encode_value(value.value), encode_value(value.mask)
            else:
                field.exact.value = encode_value(value)
        if action:
            chosen = self._actions[action]
            entry.action.action.action_id = chosen.preamble.id
            ids = {p.name: p.id for p in chosen.params}
            for name, number in (parameters or {}).items():
                entry.action.action.params.add(param_id=ids[name], value=encode_value(number))
        return entity

    def update(self, *entities: Any, kind: int = INSERT) -> list[int]:
        """Write a batch; the canonical code of each update."""
        request = self._request()
        for entity in entities:
            update = request.updates.add(type=kind)
            update.entity.CopyFrom(entity)
        return self.write_request(request)

    def write_request(self, request: Any) -> list[int]:
        try:
            self._write(request, timeout=DEADLINE)
        except grpc.RpcError as fault:
            if fault.code() is not grpc.StatusCode.UNKNOWN:
                raise
            return outcomes(fault)
        return [0] * len(request.updates)

    def insert(self, *entry: Any, **more: Any) -> None:
        """One entry that has to be taken."""
        assert self.update(self.entry(*entry, **more)) == [0]

    def read(self, *entities: Any) -> list[Any]:
        request = ReadRequest()
        request.device_id = self.device
        request.entities.extend(entities)
        return [entity for response in self._read(request, timeout=DEADLINE) for entity in response.entities]


@dataclass
class Lab:
    """A running switch, its controller, raw sockets on its ports."""

    bed: Bed
    address: str
    controller: Controller
    sockets: dict[int, socket.socket]

    def send(self, port: int, frame: bytes, expect: int) -> dict[int, list[bytes]]:
        """A frame into a port; what comes out, by port, once `expect` frames and then no more have come."""
        self.sockets[port].send(frame)
        return self.collect(expect)

    def collect(self, expect: int) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        start = quiet = time.monotonic()
        while time.monotonic() - start < DEADLINE:
            count = sum(len(frames) for frames in found.values())
            if count >= expect and time.monotonic() - quiet > SETTLE:
                break
            for number, raw in self.sockets.items():
                with contextlib.suppress(BlockingIOError):
                    frame, origin = raw.recvfrom(65536, socket.MSG_DONTWAIT)
                    if origin[2] != socket.PACKET_OUTGOING:
                        found.setdefault(number, []).append(frame)
                        quiet = time.monotonic()
            time.sleep(0.001)
        return found


@contextlib.contextmanager
def running(target: str, program: str = "features", push: bool = True) -> Iterator[Lab]:
    with Bed() as bed, contextlib.ExitStack() as stack:
        for port in PORTS:
            bed.port("a", port)
        address = bed.start(target, "a", list(PORTS))
        controller = Controller(address, PROGRAMS / f"{program}.p4info.txtpb")
        controller.start()
        stack.callback(controller.stop)
        if push:
            controller.push(PROGRAMS / f"{program}.json")
        sockets = {port: stack.enter_context(bed.socket("a", port)) for port in PORTS}
        yield Lab(bed, address, controller, sockets)
