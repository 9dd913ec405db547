# SPDX-License-Identifier: Apache-2.0
"""An agent's hold on its switch: the program in it, the entries that every session needs, tokens and their reports."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from controller.p4sync import entries, protocol
from controller.p4sync.client.channel import Certificates
from controller.p4sync.client.client import Connection, P4Client
from controller.p4sync.client.schema import Schema
from controller.p4sync.entries import Change, TableEntry, TableWrite
from controller.p4sync.errors import P4SyncError, SettingsError, SwitchError, WriteError
from controller.p4sync.protocol import Array, FlowRecord, Report, Token
from controller.p4sync.settings import TRANSPORTS, AgentSettings

ASK_TIME = 1.0
"""Seconds after which an unanswered question is asked again."""
ASK_ATTEMPTS = 4
WINDOW = 32
"""Questions under way at once: bmv2's queues hold 64 packets."""
COLLISIONS = 256
"""Collisions that are remembered."""

log = logging.getLogger(__name__)


class AgentSwitch:
    """One switch; `on_found(same)`, `on_lost(reason)` and `on_report(report)` tell what happens to it."""

    def __init__(self, settings: AgentSettings) -> None:
        """Prepare; raises SettingsError where program, P4Info or certificates cannot be used."""
        own = settings.switch
        self.name = settings.name
        self._settings = settings
        try:
            self._program = own.pipeline_path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{own.pipeline_path}: {error.strerror}; it comes with the sources") from error
        schema = Schema.load(own.p4info_path)
        digest = hashlib.sha256(self._program + b"\0" + schema.info.SerializeToString(deterministic=True)).digest()
        self.cookie = int.from_bytes(digest[:8], "big") | 1
        certificates = Certificates(own.tls.authority, own.tls.key, own.tls.certificate) if own.tls else None
        self.client = P4Client(settings.name, own.address, schema, self, own.device, own.election, certificates)
        self.is_ready = False
        self.trouble = "not connected yet"
        self.collisions: list[tuple[int, int]] = []
        self.open_sessions: Callable[[], set[int]] = set
        self.on_found: Callable[[bool], None] = lambda same: None
        self.on_lost: Callable[[str], None] = lambda reason: None
        self.on_report: Callable[[Report], None] = lambda report: None
        self._preparing: asyncio.Task[None] | None = None
        self._asked: dict[tuple[int, int], asyncio.Future[Report]] = {}
        self._writing = asyncio.Lock()

    # ---- what the client says ----

    def connection_changed(self, connection: Connection, detail: str) -> None:
        """Prepare the switch once we are its primary; tell who depends on it when we are not any more."""
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None
        if connection is Connection.PRIMARY:
            self._preparing = asyncio.get_running_loop().create_task(self._prepare())
        else:
            self._lose(detail)

    def _lose(self, reason: str) -> None:
        self.trouble = reason
        was_ready, self.is_ready = self.is_ready, False
        if was_ready:
            log.warning("%s: lost: %s", self.name, reason)
            self.on_lost(reason)

    def packet_received(self, fields: Mapping[str, int], payload: bytes) -> None:
        """Hand a report to who asked, or to the sessions."""
        report = protocol.report_of(fields, payload)
        waiting = self._asked.get((report.kind, report.detail))
        if waiting is not None and not waiting.done():
            waiting.set_result(report)
        self.on_report(report)

    def digest_received(self, name: str, data: Sequence[Sequence[int]]) -> None:
        """Remember who collided with whom."""
        if name == protocol.COLLISION:
            self.collisions += [(one[0], one[1]) for one in data if len(one) == 2]
            del self.collisions[:-COLLISIONS]

    # ---- the program ----

    async def _prepare(self) -> None:
        """Load the program unless it is there, write the base entries; again and again until it works."""
        while True:
            try:
                same = await self._load()
                break
            except P4SyncError as error:
                if str(error) != self.trouble:
                    log.error("%s: %s", self.name, error)
                self.trouble = str(error)
                await asyncio.sleep(ASK_TIME)
        self.is_ready, self.trouble = True, ""
        log.info("%s: ready, %s", self.name, "with its memory" if same else "freshly loaded")
        self.on_found(same)

    async def _load(self) -> bool:
        """Return whether the switch has kept its memory since we saw it last; raises P4SyncError."""
        cookie = await self.client.read_cookie()
        if cookie is not None and cookie != self.cookie:
            raise SwitchError(
                f"{self.name} runs another program (cookie {cookie:#x}, ours is {self.cookie:#x}); nothing was"
                " changed: restart the switch, or give the agent that program"
            )
        if cookie is None:
            await self.client.push_pipeline(self._program, self.cookie)
            log.info("%s: program loaded", self.name)
        await self.client.insert_clone_session(protocol.CLONE_SESSION, protocol.CLONE_PORT)
        await self.client.insert_digest(protocol.COLLISION)
        await self._write_base(is_new=cookie is None)
        if cookie is None:
            return False
        open_here = self.open_sessions()
        there = {number for table in (protocol.SYNC_OUT, protocol.SYNC_IN) for number in await self.sessions(table)}
        return open_here <= there

    async def _write_base(self, is_new: bool) -> None:
        wanted: list[TableEntry] = []
        for service in self._settings.services:
            transport = TRANSPORTS[service.transport]
            wanted += entries.service(int(IPv4Address(service.address)), transport, service.port, service.service)
        for rule in self._settings.forward:
            address = int(rule.to.replace(":", ""), 16) if rule.to else None
            wanted.append(entries.forward(rule.in_port, address, rule.out_port, rule.priority))
        if not is_new:
            there = [entry for table in {e.table for e in wanted} for entry in await self.client.read_entries(table)]
            known = [(entry.table, dict(entry.match)) for entry in there]
            wanted = [entry for entry in wanted if (entry.table, dict(entry.match)) not in known]
        await self.client.write(TableWrite(Change.INSERT, entry) for entry in wanted)

    async def sessions(self, table: str) -> dict[int, TableEntry]:
        """Return the entries of `sync_out`, `sync_in` or `staging_mark` by session."""
        found = {}
        for entry in await self.client.read_entries(table):
            number = entry.match["session"]
            if isinstance(number, int):
                found[number] = entry
        return found

    # ---- entries and tokens ----

    async def put(self, *wanted: TableEntry) -> None:
        """Insert entries; what is there already gets the new values. Raises SwitchError."""
        async with self._writing:
            try:
                await self.client.write(TableWrite(Change.INSERT, entry) for entry in wanted)
            except WriteError as error:
                again = [TableWrite(Change.MODIFY, wanted[index]) for index, _, _ in error.failures]
                try:
                    await self.client.write(again)
                except WriteError:
                    raise error from None

    async def change(self, entry: TableEntry) -> None:
        """Modify an entry; raises WriteError where the switch refuses, SwitchError where it is not known."""
        async with self._writing:
            await self.client.write([TableWrite(Change.MODIFY, entry)])

    async def take_away(self, *unwanted: TableEntry) -> None:
        """Delete entries; those that are not there, or cannot be reached, are no trouble."""
        async with self._writing:
            with contextlib.suppress(SwitchError):
                await self.client.write(
                    TableWrite(Change.DELETE, TableEntry(entry.table, entry.match)) for entry in unwanted
                )

    def send(self, kind: Token, session: int = 0, credit: int = 0, argument: int = 0, flags: int = 0) -> None:
        """Send a token; raises NotPrimaryError."""
        fields = {"kind": kind, "session": session, "credit": credit, "argument": argument, "flags": flags}
        self.client.send_packet(fields, protocol.PADDING)

    async def ask(self, kind: Token, argument: int, flags: int = 0) -> Report:
        """Send a token whose report repeats its argument, and wait for it; raises SwitchError."""
        key = (kind, argument)
        for _ in range(ASK_ATTEMPTS):
            waiting = self._asked.setdefault(key, asyncio.get_running_loop().create_future())
            self.send(kind, argument=argument, flags=flags)
            try:
                async with asyncio.timeout(ASK_TIME):
                    return await asyncio.shield(waiting)
            except TimeoutError:
                continue
            finally:
                self._asked.pop(key, None)
        raise SwitchError(f"{self.name}: no report for {kind.name} in {ASK_TIME * ASK_ATTEMPTS:g} s; is it overloaded?")

    # ---- reading ----

    async def read_flow(self, key: int) -> FlowRecord | None:
        """Return what the switch keeps of a flow; None: nothing."""
        report = await self.ask(Token.READ_FLOW, key)
        return protocol.records_of(report.words)[0] if report.state == protocol.Answer.OK else None

    async def read_blocks(self, array: Array, numbers: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Return the words of blocks by number."""
        gate = asyncio.Semaphore(WINDOW)
        size = protocol.BLOCK[array]

        async def read(number: int) -> tuple[int, tuple[int, ...]]:
            async with gate:
                return number, (await self.ask(Token.READ_BLOCK, protocol.block_argument(array, number * size))).words

        return dict(await asyncio.gather(*(read(number) for number in numbers)))

    async def read_flows(self) -> list[FlowRecord]:
        """Return every flow that the switch keeps."""
        blocks = await self.read_blocks(Array.FLOWS, range(protocol.ENTRIES // protocol.BLOCK[Array.FLOWS]))
        return [record for number in sorted(blocks) for record in protocol.records_of(blocks[number])]

    async def read_clients(self) -> list[int]:
        """Return the clients array."""
        blocks = await self.read_blocks(Array.CLIENTS, range(protocol.ENTRIES // protocol.BLOCK[Array.CLIENTS]))
        return [value for number in sorted(blocks) for value in protocol.clients_of(blocks[number])]

    async def strangers(self, keys: Sequence[int]) -> list[int]:
        """Return which of these flows would meet another flow's entry here."""
        size = protocol.BLOCK[Array.FLOWS]
        blocks = await self.read_blocks(Array.FLOWS, sorted({protocol.entry_of(key) // size for key in keys}))
        found = []
        for key in keys:
            block, offset = divmod(protocol.entry_of(key), size)
            resident = blocks[block][4 * offset]
            if resident not in (0, key):
                found.append(key)
        return found

    async def read_events(self) -> dict[str, int]:
        """Return the counter `events` by name."""
        return dict(zip(protocol.EVENT_NAMES, await self.client.read_counter(protocol.EVENTS), strict=False))

    def describe(self) -> dict[str, Any]:
        """Return how it stands, as JSON."""
        return {
            "address": self._settings.switch.address,
            "connection": self.client.connection.value,
            "ready": self.is_ready,
            "trouble": self.trouble,
        }
