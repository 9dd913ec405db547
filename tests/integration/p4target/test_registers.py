# SPDX-License-Identifier: Apache-2.0
"""The recordings of real bmv2 again, with the register contents compared: here they can be read over P4Runtime."""

from __future__ import annotations

import contextlib

import pytest
from vectors.p4 import record, replay
from vectors.p4.bed import Bed
from vectors.p4.client import DEADLINE, ReadRequest
from vectors.p4.replay import Replay

from .lab import Controller

WITH_REGISTERS = [name for name in replay.RECORDED if any("registers" in step for step in replay.load(name)["steps"])]

MOST = (1 << 63) - 1
"""bmv2's Thrift service, which the recordings were read through, has signed numbers and reports larger ones as this."""


def read_all(client: Controller, register: str) -> list[int]:
    identity = next(r.preamble.id for r in client.info.registers if r.preamble.name == register)
    request = ReadRequest()
    request.device_id = client.device
    request.entities.add().register_entry.register_id = identity
    cells = {}
    for response in client._read(request, timeout=6 * DEADLINE):
        for entity in response.entities:
            value = entity.register_entry.data.bitstring
            cells[entity.register_entry.index.index] = int.from_bytes(value, "big")
    return [min(cells[index], MOST) for index in range(len(cells))]


@pytest.mark.parametrize("name", WITH_REGISTERS)
def test_registers_as_recorded(name: str) -> None:
    recording = replay.load(name)
    with Bed() as bed, contextlib.ExitStack() as stack:
        for port in recording["ports"]:
            bed.port("a", port)
        address = bed.start("embedded", "a", recording["ports"])
        client = Controller(address, record.BUILD / f"{recording['program']}.p4info.txtpb")
        client.start()
        stack.callback(client.stop)
        client.push(record.BUILD / f"{recording['program']}.json")
        sockets = {port: stack.enter_context(bed.socket("a", port)) for port in recording["ports"]}
        replayed = Replay(client, sockets, lambda register: read_all(client, register))
        assert replayed.run(recording["steps"]) == []
