# SPDX-License-Identifier: Apache-2.0
"""A P4Runtime client on asyncio: stays connected, stays primary if it can, and never waits without a deadline.

It says what it hears through a `Listener`: the connection's state, packets, digests. One client serves one switch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import grpc

from controller.p4sync.client import failures, messages
from controller.p4sync.client.channel import Certificates, check_socket, open_channel
from controller.p4sync.client.schema import Schema
from controller.p4sync.entries import TableEntry, TableWrite
from controller.p4sync.errors import NotPrimaryError, SwitchError, WriteError

DEADLINE = 5.0
"""Seconds for a call."""
PUSH_DEADLINE = 30.0
RETRY = 0.2
"""Seconds between two attempts to connect."""
BATCH = 256
"""Updates in one Write."""
SERVICE = "/p4.v1.P4Runtime/"

log = logging.getLogger(__name__)


class Connection(Enum):
    """What a client is to its switch; `BACKUP`: another controller with a higher election id is primary."""

    DOWN = "down"
    BACKUP = "backup"
    PRIMARY = "primary"


class Listener(Protocol):
    """Who hears what a switch says; called on the event loop, must not block."""

    def connection_changed(self, connection: Connection, detail: str) -> None:
        """Tell that the client has another standing; ``detail`` says why."""

    def packet_received(self, fields: Mapping[str, int], payload: bytes) -> None:
        """Hand over a PacketIn."""

    def digest_received(self, name: str, data: Sequence[Sequence[int]]) -> None:
        """Hand over the members of a digest list, which is acknowledged already."""


class P4Client:
    """One switch; `run` keeps the stream, everything else fails with SwitchError at once when there is none."""

    def __init__(
        self,
        name: str,
        address: str,
        schema: Schema,
        listener: Listener,
        device: int = 0,
        election: int = 1,
        certificates: Certificates | None = None,
    ) -> None:
        """Prepare; raises SettingsError for an address that is not protected."""
        self.name = name
        self.schema = schema
        self.connection = Connection.DOWN
        self.detail = "not connected yet"
        self._address, self._device, self._election = address, device, election
        self._listener = listener
        self._channel = open_channel(address, certificates)
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        unary, serialize = self._channel.unary_unary, _serialize
        self._write_call = unary(SERVICE + "Write", serialize, messages.WriteResponse.FromString)
        self._push_call = unary(
            SERVICE + "SetForwardingPipelineConfig", serialize, messages.SetPipelineResponse.FromString
        )
        self._pipeline_call = unary(
            SERVICE + "GetForwardingPipelineConfig", serialize, messages.GetPipelineResponse.FromString
        )
        self._read_call = self._channel.unary_stream(SERVICE + "Read", serialize, messages.ReadResponse.FromString)
        self._stream_call = self._channel.stream_stream(
            SERVICE + "StreamChannel", serialize, messages.StreamResponse.FromString
        )
        self._digest_names = {number: name for name, number in schema.digests.items()}

    # ---- the stream ----

    async def run(self) -> None:
        """Connect, again and again, until cancelled."""
        try:
            while True:
                detail = await self._stay()
                self._change(Connection.DOWN, detail)
                await asyncio.sleep(RETRY)
        finally:
            self._change(Connection.DOWN, "closed")
            await self.close()

    async def close(self) -> None:
        """Give up the connection for good."""
        await self._channel.close(grace=None)

    async def _stay(self) -> str:
        """Keep one stream until it ends; returns why."""
        self._outgoing = asyncio.Queue()
        try:
            check_socket(self._address)
        except SwitchError as error:
            return str(error)
        self._outgoing.put_nowait(self._arbitration())
        call = self._stream_call(_drain(self._outgoing))
        try:
            async with asyncio.timeout(DEADLINE) as limit:
                async for response in call:
                    if response.WhichOneof("update") == "arbitration":
                        limit.reschedule(None)
                    self._take(response)
            return "the switch has closed the stream"
        except TimeoutError:
            return f"the switch did not answer the arbitration within {DEADLINE:g} s"
        except grpc.aio.AioRpcError as error:
            return str(failures.describe(self.name, "connect", error))
        finally:
            call.cancel()

    def _arbitration(self) -> Any:
        request = messages.StreamRequest()
        request.arbitration.device_id = self._device
        request.arbitration.election_id.low = self._election
        return request

    def _take(self, response: Any) -> None:
        kind = response.WhichOneof("update")
        if kind == "packet":
            fields, payload = self.schema.packet_in(response.packet)
            self._listener.packet_received(fields, payload)
        elif kind == "arbitration":
            update = response.arbitration
            if update.status.code == 0:
                self._change(Connection.PRIMARY, "")
            else:
                other = update.election_id.low | update.election_id.high << 64
                self._change(
                    Connection.BACKUP,
                    f"another controller (election id {other}, ours is {self._election}) is primary of {self.name}",
                )
        elif kind == "digest":
            self._acknowledge(response.digest)
            data = [_members(one) for one in response.digest.data]
            self._listener.digest_received(self._digest_names.get(response.digest.digest_id, ""), data)
        elif kind == "error":
            log.warning("%s: the switch complains: %s", self.name, response.error.message)

    def _acknowledge(self, digest: Any) -> None:
        """Acknowledge a list: bmv2 suppresses identical digests until then."""
        request = messages.StreamRequest()
        request.digest_ack.digest_id, request.digest_ack.list_id = digest.digest_id, digest.list_id
        self._outgoing.put_nowait(request)

    def _change(self, connection: Connection, detail: str) -> None:
        changed = (connection, detail) != (self.connection, self.detail)
        self.connection, self.detail = connection, detail
        if changed:
            self._listener.connection_changed(connection, detail)

    def need_primary(self) -> None:
        """Raise NotPrimaryError unless this client may write."""
        if self.connection is not Connection.PRIMARY:
            raise NotPrimaryError(f"{self.name}: {self.detail or 'not connected'}")

    def send_packet(self, fields: Mapping[str, int], payload: bytes) -> None:
        """Queue a PacketOut; raises NotPrimaryError."""
        self.need_primary()
        self._outgoing.put_nowait(self.schema.packet_out(fields, payload))

    # ---- the pipeline ----

    async def read_cookie(self) -> int | None:
        """Return the cookie of the program that the switch runs, 0 if it has none; None: it runs no program."""
        request = messages.GetPipelineRequest(device_id=self._device, response_type=messages.COOKIE_ONLY)
        try:
            response = await self._pipeline_call(request, timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return None
            raise failures.describe(self.name, "read the pipeline's cookie", error) from error
        return int(response.config.cookie.cookie)

    async def push_pipeline(self, program: bytes, cookie: int) -> None:
        """Load a program: registers and tables of the switch are empty afterwards."""
        self.need_primary()
        request = messages.SetPipelineRequest(device_id=self._device, action=messages.VERIFY_AND_COMMIT)
        request.election_id.low = self._election
        request.config.p4info.CopyFrom(self.schema.info)
        request.config.p4_device_config = program
        request.config.cookie.cookie = cookie
        try:
            await self._push_call(request, timeout=PUSH_DEADLINE)
        except grpc.aio.AioRpcError as error:
            raise failures.describe(self.name, "load the pipeline", error) from error

    # ---- writing and reading ----

    async def write(self, writes: Iterable[TableWrite]) -> None:
        """Write entries, in batches; raises WriteError (with the index of each refused one) or SwitchError.

        A batch with a refused update does not keep the following batches from being written.
        """
        updates = []
        for write in writes:
            update = messages.Update(type=write.change)
            self.schema.fill_entry(update.entity.table_entry, write.entry)
            updates.append(update)
        await self._write_updates(updates, "write entries")

    async def insert_clone_session(self, number: int, port: int) -> None:
        """Make a clone session with one replica; one that is there already is left as it is."""
        request = messages.ReadRequest(device_id=self._device)
        wanted = request.entities.add().packet_replication_engine_entry.clone_session_entry
        wanted.session_id = number
        try:
            if any([entity.HasField("packet_replication_engine_entry") async for entity in self._read(request)]):
                return
        except SwitchError as error:
            log.debug("%s: no clone session read: %s", self.name, error)
        update = messages.Update(type=1)
        session = update.entity.packet_replication_engine_entry.clone_session_entry
        session.session_id = number
        session.replicas.add(egress_port=port, instance=1)
        await self._write_updates([update], "make a clone session")

    async def insert_digest(self, name: str) -> None:
        """Ask for a digest's messages, each at once; a request that is there already is left as it is."""
        update = messages.Update(type=1)
        entry = update.entity.digest_entry
        entry.digest_id = self.schema.digests[name]
        entry.config.max_list_size = 1
        entry.config.ack_timeout_ns = 1_000_000_000
        with contextlib.suppress(WriteError):  # it is there: INSERT of bmv2 says so with several codes
            await self._write_updates([update], "ask for digests")

    async def _write_updates(self, updates: Sequence[Any], what: str) -> None:
        self.need_primary()
        failed: list[tuple[int, int, str]] = []
        text = ""
        for start in range(0, len(updates), BATCH):
            request = messages.WriteRequest(device_id=self._device, updates=updates[start : start + BATCH])
            request.election_id.low = self._election
            try:
                await self._write_call(request, timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                raised = failures.describe(self.name, what, error)
                if not isinstance(raised, WriteError):
                    raise raised from error
                text = text or str(raised)
                failed += [(start + index, code, message) for index, code, message in raised.failures]
        if failed:
            raise WriteError(text, tuple(failed))

    async def read_entries(self, table: str) -> list[TableEntry]:
        """Return the entries of a table, without its default."""
        request = messages.ReadRequest(device_id=self._device)
        request.entities.add().table_entry.table_id = self.schema.table_id(table)
        return [
            self.schema.read_entry(entity.table_entry)
            async for entity in self._read(request)
            if not entity.table_entry.is_default_action
        ]

    async def read_counter(self, name: str) -> list[int]:
        """Return the packets in each cell of an indirect counter."""
        request = messages.ReadRequest(device_id=self._device)
        request.entities.add().counter_entry.counter_id = self.schema.counters[name]
        cells = {
            entity.counter_entry.index.index: entity.counter_entry.data.packet_count
            async for entity in self._read(request)
        }
        return [cells[index] for index in sorted(cells)]

    async def _read(self, request: Any) -> AsyncIterator[Any]:
        try:
            async for response in self._read_call(request, timeout=DEADLINE):
                for entity in response.entities:
                    yield entity
        except grpc.aio.AioRpcError as error:
            raise failures.describe(self.name, "read", error) from error


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


async def _drain(queue: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while True:
        yield await queue.get()


def _members(data: Any) -> list[int]:
    """Return the numbers of one digest: a struct of bit strings, or a single one."""
    parts = data.struct.members if data.HasField("struct") else [data]
    return [int.from_bytes(part.bitstring, "big") for part in parts]
