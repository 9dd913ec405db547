# SPDX-License-Identifier: Apache-2.0
"""The connection to a peer's agent: made once, made again when it is gone, and never in the way of the next session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from controller.p4sync import keys, links
from controller.p4sync.errors import PeerError
from controller.p4sync.peer_link import PeerLink

DEADLINE = 10.0


class Peer:
    """An agent that greets, and echoes every frame."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.open: list[links.Link] = []

    async def serve(self, link: links.Link) -> None:
        self.open.append(link)
        mine: list[str] = []
        self.heard.append(mine)
        link.send({"kind": "challenge", "value": "c"})
        while (frame := await link.receive()) is not None:
            mine.append(frame["kind"])
            if frame["kind"] != "hello":
                link.send(frame)


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.failures: list[str] = []

    def take(self, frame: links.Frame) -> None:
        self.frames.append(frame["kind"])

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def made(folder: Path) -> AsyncIterator[tuple[Peer, PeerLink, Ear]]:
    path = folder / "peer.sock"
    keys.new_pair(keys.ED25519, folder / "own.key", folder / "own.pub")
    peer, ear = Peer(), Ear()
    server = await links.listen(f"unix:{path}", peer.serve)
    link = PeerLink("p2", f"unix:{path}", 1, keys.load_private(folder / "own.key"))
    link.attach(ear.take, ear.failures.append)
    try:
        yield peer, link, ear
    finally:
        link.close()
        server.close()
        for one in peer.open:
            one.close()


def test_one_connection_serves_many_sessions(tmp_path: Path) -> None:
    async def go() -> None:
        async with made(tmp_path) as (peer, link, first):
            for kind in ("one", "two"):
                link.send({"kind": kind})
            await first.until(lambda: first.frames == ["one", "two"])
            link.detach()
            link.send({"kind": "late"})
            second = Ear()
            await first.until(lambda: peer.heard[0][-1:] == ["late"])
            await asyncio.sleep(0.01)  # its echo finds nobody, or the next one: that one knows what is its own
            link.attach(second.take, second.failures.append)
            link.send({"kind": "three"})
            await second.until(lambda: "three" in second.frames)
            assert peer.heard == [["hello", "one", "two", "late", "three"]]
            assert first.frames == ["one", "two"]
            assert not first.failures + second.failures

    asyncio.run(go())


def test_a_connection_that_ended_is_told_and_made_again(tmp_path: Path) -> None:
    async def go() -> None:
        async with made(tmp_path) as (peer, link, ear):
            link.send({"kind": "one"})
            await ear.until(lambda: ear.frames == ["one"])
            peer.open[0].close()
            await ear.until(lambda: bool(ear.failures))
            assert "closed the connection" in ear.failures[0]
            link.send({"kind": "two"})
            await ear.until(lambda: ear.frames == ["one", "two"])
            link.close()
            link.send({"kind": "three"})
            await ear.until(lambda: ear.frames == ["one", "two", "three"])
            assert len(peer.heard) == 3

    asyncio.run(go())


def test_an_answer_that_cannot_be_ends_the_connection(tmp_path: Path) -> None:
    async def go() -> None:
        async with made(tmp_path) as (peer, link, ear):

            def take(frame: links.Frame) -> None:
                raise PeerError("nonsense")

            link.attach(take, ear.failures.append)
            link.send({"kind": "one"})
            await ear.until(lambda: ear.failures == ["nonsense"])
            link.attach(ear.take, ear.failures.append)
            link.send({"kind": "two"})
            await ear.until(lambda: ear.frames == ["two"])
            assert len(peer.heard) == 2

    asyncio.run(go())


@pytest.mark.parametrize("is_there", [False, True])
def test_nobody_there(tmp_path: Path, is_there: bool) -> None:
    """No agent at all, or something else than one."""

    async def go() -> None:
        async with made(tmp_path) as (_, _, ear):
            path = tmp_path / "other.sock"
            server = None
            if is_there:

                async def serve(stranger: links.Link) -> None:
                    stranger.send({"kind": "welcome"})
                    await stranger.receive()

                server = await links.listen(f"unix:{path}", serve)
            link = PeerLink("p3", f"unix:{path}", 1, keys.load_private(tmp_path / "own.key"))
            link.attach(ear.take, ear.failures.append)
            link.send({"kind": "one"})
            await ear.until(lambda: bool(ear.failures))
            assert ("is no agent" if is_there else "cannot be reached") in ear.failures[0]
            link.close()
            if server is not None:
                server.close()

    asyncio.run(go())
