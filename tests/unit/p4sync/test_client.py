# SPDX-License-Identifier: Apache-2.0
"""The P4Runtime client against a real server: the embedded target in this process, without ports, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from unit.p4sync.switch_stand import BUILD, Ear, Stand, until

from controller.p4sync import entries, protocol
from controller.p4sync.client import client as client_module
from controller.p4sync.client.channel import Certificates, open_channel
from controller.p4sync.client.client import Connection, P4Client
from controller.p4sync.client.schema import Schema
from controller.p4sync.entries import Change, TableEntry, TableWrite
from controller.p4sync.errors import NotPrimaryError, SettingsError, SwitchError, WriteError
from controller.p4sync.protocol import Mark, Token

PROGRAM = (BUILD / "flow_state.json").read_bytes()
COOKIE = 77


@asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    made = Stand(folder)
    try:
        yield made
    finally:
        await made.end()


def run(tmp_path: Path, body: Callable[[Stand], Any]) -> None:
    async def inside() -> None:
        async with stand(tmp_path) as made:
            await body(made)

    asyncio.run(inside())


def test_the_program_is_loaded_once(tmp_path: Path) -> None:
    async def body(made: Stand) -> None:
        client, _ = await made.client()
        assert await client.read_cookie() is None
        await client.push_pipeline(PROGRAM, COOKIE)
        assert await client.read_cookie() == COOKIE
        with pytest.raises(SwitchError, match="load the pipeline"):
            await client.push_pipeline(b"{}", 5)
        assert await client.read_cookie() == COOKIE

    run(tmp_path, body)


def test_entries_in_batches_with_an_error_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BATCH", 8)

    async def body(made: Stand) -> None:
        client, _ = await made.client()
        await client.push_pipeline(PROGRAM, COOKIE)
        wanted = [entries.marker(1, token) for token in range(20)]
        await client.write(TableWrite(Change.INSERT, entry) for entry in wanted)
        assert sorted(e.match["token"] for e in await client.read_entries(protocol.MARKERS)) == list(range(20))
        again = [entries.marker(1, token) for token in (30, 5, 31, 32, 33, 34, 35, 36, 37, 19, 38)]
        with pytest.raises(WriteError, match="ALREADY_EXISTS") as raised:
            await client.write(TableWrite(Change.INSERT, entry) for entry in again)
        assert [(index, code) for index, code, _ in raised.value.failures] == [(1, 6), (9, 6)]
        assert len(await client.read_entries(protocol.MARKERS)) == 29
        with pytest.raises(WriteError, match="NOT_FOUND"):
            await client.write([TableWrite(Change.MODIFY, entries.staging_mark(9, Mark.OPEN))])

    run(tmp_path, body)


def test_entries_come_back_as_they_went(tmp_path: Path) -> None:
    keys = entries.SessionKeys((1 << 64) - 1, 0, (1 << 120) - 1, 5)
    ids = (protocol.Suite.SIPHASH, 1, 65535)
    wanted = [
        entries.sync_out(7, keys, *ids, 3),
        entries.sync_in(7, keys, *ids, 510),
        entries.staging_mark(7, Mark.DISCARDED),
        *entries.service(0x0A000001, 6, 80, 7),
        entries.forward(1, None, 2, 4),
        entries.forward(None, 0x020000000001, 3, 5),
    ]

    async def body(made: Stand) -> None:
        client, _ = await made.client()
        await client.push_pipeline(PROGRAM, COOKIE)
        await client.write(TableWrite(Change.INSERT, entry) for entry in wanted)
        for table in {entry.table for entry in wanted}:
            found = await client.read_entries(table)
            expected = [entry for entry in wanted if entry.table == table]
            assert sorted(found, key=str) == sorted(expected, key=str)

    run(tmp_path, body)


def test_packets_counters_clone_sessions_and_digest_requests(tmp_path: Path) -> None:
    async def body(made: Stand) -> None:
        client, ear = await made.client()
        await client.push_pipeline(PROGRAM, COOKIE)
        for _ in range(2):
            await client.insert_clone_session(1, 509)
            await client.insert_digest(protocol.COLLISION)
        client.send_packet({"kind": Token.READ_FLOW, "argument": 5}, protocol.PADDING)
        client.send_packet({"kind": 99, "argument": 6}, protocol.PADDING)
        await until(lambda: len(ear.packets) == 2)
        assert [fields["detail"] for fields, _ in ear.packets] == [5, 6]
        assert len(ear.packets[0][1]) == 512
        counts = await client.read_counter(protocol.EVENTS)
        assert len(counts) == len(protocol.EVENT_NAMES)
        assert counts[protocol.EVENT_NAMES.index("token_refused")] == 1

    run(tmp_path, body)


def test_the_primary_is_followed_by_the_next(tmp_path: Path) -> None:
    async def body(made: Stand) -> None:
        low, low_ear = await made.client(1)
        await low.push_pipeline(PROGRAM, COOKIE)
        high, _ = await made.client(5)
        await until(lambda: low.connection is Connection.BACKUP)
        assert "election id 5, ours is 1" in low.detail
        for action in (
            lambda: low.write([TableWrite(Change.INSERT, entries.marker(1, 1))]),
            lambda: low.push_pipeline(PROGRAM, 3),
        ):
            with pytest.raises(NotPrimaryError, match="another controller"):
                await action()
        with pytest.raises(NotPrimaryError):
            low.send_packet({"kind": Token.REPORT_OUT}, protocol.PADDING)
        assert await high.read_entries(protocol.MARKERS) == []
        assert await high.read_cookie() == COOKIE
        made.cancel(1)
        await until(lambda: low.connection is Connection.PRIMARY)
        await low.write([TableWrite(Change.INSERT, entries.marker(1, 1))])
        states = [connection for connection, _ in low_ear.connections]
        assert states == [Connection.PRIMARY, Connection.BACKUP, Connection.PRIMARY]

    run(tmp_path, body)


def test_the_same_election_id_twice(tmp_path: Path) -> None:
    async def body(made: Stand) -> None:
        first, _ = await made.client(3)
        second, ear = await made.client(3, wanted=None)
        await until(lambda: bool(ear.connections))
        assert second.connection is Connection.DOWN
        assert "election id 3 belongs to another client" in second.detail
        assert first.connection is Connection.PRIMARY

    run(tmp_path, body)


def test_a_switch_that_dies_and_comes_back(tmp_path: Path) -> None:
    async def body(made: Stand) -> None:
        client, ear = await made.client()
        await client.push_pipeline(PROGRAM, COOKIE)
        made.stop()
        await until(lambda: client.connection is Connection.DOWN)
        with pytest.raises(NotPrimaryError):
            client.send_packet({"kind": Token.REPORT_OUT}, protocol.PADDING)
        with pytest.raises(SwitchError, match=r"cannot be reached|no answer"):
            await client.read_cookie()
        made.start()
        await until(lambda: client.connection is Connection.PRIMARY)
        assert await client.read_cookie() is None
        assert ear.packets == [], "no token of the time before reaches a switch that was started anew"

    run(tmp_path, body)


def test_a_switch_that_nobody_started(tmp_path: Path) -> None:
    async def body() -> None:
        schema = Schema.load(BUILD / "flow_state.p4info.txtpb")
        ear = Ear()
        client = P4Client("s", f"unix:{tmp_path / 'no.sock'}", schema, ear)
        task = asyncio.get_running_loop().create_task(client.run())
        await until(lambda: bool(ear.connections))
        assert "start it" in client.detail
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(body())


def test_a_stopped_switch_does_not_hold_up_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls end at their deadline; the loop goes round meanwhile."""
    monkeypatch.setattr(client_module, "DEADLINE", 0.3)

    async def body(made: Stand) -> None:
        client, _ = await made.client()
        await client.push_pipeline(PROGRAM, COOKIE)
        rounds = 0

        async def tick() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0.001)

        task = asyncio.get_running_loop().create_task(tick())
        with made.device.lock, pytest.raises(SwitchError, match="no answer in time"):
            await client.write([TableWrite(Change.INSERT, entries.marker(1, 1))])
        task.cancel()
        assert rounds > 10

    run(tmp_path, body)


def test_a_socket_that_others_can_use_is_refused(tmp_path: Path) -> None:
    async def body(made: Stand) -> None:
        path = Path(made.address.removeprefix("unix:"))
        path.chmod(0o666)
        path.parent.chmod(0o755)
        client, ear = await made.client(wanted=None)
        await until(lambda: bool(ear.connections))
        assert "chmod 600" in client.detail
        path.chmod(0o600)
        await until(lambda: client.connection is Connection.PRIMARY)

    run(tmp_path, body)


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "dns:///switch:1"])
def test_an_unprotected_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="unix:PATH"):
        open_channel(address, None)


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "x.pem"
    with pytest.raises(SettingsError, match=r"x\.pem"):
        open_channel("127.0.0.1:1", Certificates(missing, missing, missing))


# ---- P4Info ----


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('name: "SwitchIngress.sync_out"', 'name: "SwitchIngress.sync_0ut"', "table SwitchIngress.sync_out is missing"),
        ('name: "poly"\n    bitwidth: 120', 'name: "poly"\n    bitwidth: 112', "use_session"),
        ('name: "SwitchIngress.events"', 'name: "SwitchIngress.other"', "counter SwitchIngress.events"),
        ('name: "packet_in"', 'name: "packet_inn"', "packet header packet_in"),
    ],
)
def test_a_p4info_that_lacks_something(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    text = (BUILD / "flow_state.p4info.txtpb").read_text()
    assert before in text
    path = tmp_path / "x.txtpb"
    path.write_text(text.replace(before, after))
    with pytest.raises(SettingsError, match=complaint):
        Schema.load(path)


def test_what_is_no_p4info(tmp_path: Path) -> None:
    path = tmp_path / "x.txtpb"
    with pytest.raises(SettingsError, match="comes with"):
        Schema.load(path)
    for text in ("tables {", "nothing: 3"):
        path.write_text(text)
        with pytest.raises(SettingsError, match="no P4Info"):
            Schema.load(path)
    with pytest.raises(SettingsError, match="not the P4Info of a program for state shipping"):
        Schema.load(BUILD / "siphash_check.p4info.txtpb")


def test_names_that_the_program_lacks() -> None:
    schema = Schema.load(BUILD / "baseline.p4info.txtpb")
    with pytest.raises(KeyError):
        schema.table_id("SwitchIngress.nothing")
    from controller.p4sync.client.messages import Entity

    with pytest.raises(KeyError):
        schema.fill_entry(Entity().table_entry, TableEntry(protocol.MARKERS, {"colour": 1}))
