# SPDX-License-Identifier: Apache-2.0
"""A P4Runtime server in this process (the embedded target, without ports), and clients that remember what they hear."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from controller.p4sync.client.client import Connection, P4Client
from controller.p4sync.client.schema import Schema
from p4src.target.device import Device
from p4src.target.server import serve

BUILD = Path(__file__).resolve().parents[3] / "p4src" / "build"
DEADLINE = 20.0


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.connections: list[tuple[Connection, str]] = []
        self.packets: list[tuple[Mapping[str, int], bytes]] = []
        self.digests: list[tuple[str, Sequence[Sequence[int]]]] = []

    def connection_changed(self, connection: Connection, detail: str) -> None:
        self.connections.append((connection, detail))

    def packet_received(self, fields: Mapping[str, int], payload: bytes) -> None:
        self.packets.append((fields, payload))

    def digest_received(self, name: str, data: Sequence[Sequence[int]]) -> None:
        self.digests.append((name, data))


class Stand:
    """A switch, and clients of it."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder / 'switch.sock'}"
        self.schema = Schema.load(BUILD / "flow_state.p4info.txtpb")
        self._tasks: list[asyncio.Task[None]] = []
        self.start()

    def start(self) -> None:
        self.device = Device(0, [], 255)
        self.device.dataplane.start()
        mask = os.umask(0o177)
        self._server = serve(self.device, self.address)
        os.umask(mask)

    def stop(self) -> None:
        self._server.stop(0).wait()
        self.device.dataplane.stop()

    async def client(self, election: int = 1, wanted: Connection | None = Connection.PRIMARY) -> tuple[P4Client, Ear]:
        ear = Ear()
        client = P4Client("s", self.address, self.schema, ear, election=election)
        self._tasks.append(asyncio.get_running_loop().create_task(client.run()))
        if wanted is not None:
            await until(lambda: client.connection is wanted)
        return client, ear

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.stop()

    def cancel(self, number: int) -> None:
        self._tasks[number].cancel()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await asyncio.sleep(0.005)
