# SPDX-License-Identifier: Apache-2.0
"""Frames between agents, and between an agent and who controls it: four bytes of length, then a JSON object.

What decides something is signed: such a frame carries its body as the text that was signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from controller.p4sync import keys
from controller.p4sync.errors import PeerError, SettingsError
from controller.p4sync.keys import PrivateKey, PublicKey

LARGEST = 16 << 20
"""Bytes of a frame: 65,536 keys of flows fit."""
CONNECT_TIME = 2.0
_LENGTH = struct.Struct("!I")

Frame = dict[str, Any]
Handler = Callable[["Link"], Awaitable[None]]


class Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connected stream."""
        self._reader, self._writer = reader, writer

    async def receive(self) -> Frame | None:
        """Return the next frame, None at the end; raises PeerError for nonsense."""
        try:
            head = await self._reader.readexactly(_LENGTH.size)
            (length,) = _LENGTH.unpack(head)
            if length > LARGEST:
                raise PeerError(f"a frame of {length} bytes")
            data = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return None
        try:
            frame = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise PeerError(f"not a frame: {error}") from error
        if not isinstance(frame, dict) or not isinstance(frame.get("kind"), str):
            raise PeerError("not a frame: no kind")
        return frame

    def send(self, frame: Frame) -> None:
        """Queue a frame; one for a connection that is gone is dropped."""
        if not self._writer.is_closing():
            self._writer.write(encode_frame(frame))

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


def encode_frame(frame: Frame) -> bytes:
    """Return a frame's bytes."""
    data = json.dumps(frame, separators=(",", ":")).encode()
    return _LENGTH.pack(len(data)) + data


async def connect(address: str) -> Link:
    """Connect to ``unix:PATH`` or ``HOST:PORT``; raises OSError or TimeoutError."""
    async with asyncio.timeout(CONNECT_TIME):
        if address.startswith("unix:"):
            return Link(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
        host, _, port = address.rpartition(":")
        return Link(*await asyncio.open_connection(host.strip("[]"), int(port)))


async def listen(address: str, handler: Handler) -> asyncio.Server:
    """Serve connections; a Unix socket gets mode 0600. Raises SettingsError."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        try:
            await handler(link)
        finally:
            link.close()

    try:
        if not address.startswith("unix:"):
            host, _, port = address.rpartition(":")
            return await asyncio.start_server(serve, host.strip("[]"), int(port))
        path = Path(address.removeprefix("unix:"))
        await _retire(path)
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(serve, path)
        finally:
            os.umask(mask)
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}: {error.strerror}; choose another address") from error


async def _retire(path: Path) -> None:
    """Remove the socket of an agent that is gone; raises SettingsError where one is there."""
    if not path.exists():
        return
    try:
        (await connect(f"unix:{path}")).close()
    except (OSError, TimeoutError):
        path.unlink(missing_ok=True)
        return
    raise SettingsError(f"{path}: somebody listens there already; is this agent running?")


def signed(key: PrivateKey, kind: str, body: dict[str, Any]) -> Frame:
    """Return a frame whose body is signed."""
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return {"kind": kind, "body": text, "signature": keys.sign(key, kind, text.encode()).hex()}


def opened(key: PublicKey, frame: Frame) -> dict[str, Any]:
    """Return the body of a frame that this key has signed; raises PeerError."""
    try:
        text, signature = frame["body"], bytes.fromhex(frame["signature"])
        data = text.encode()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(f"a {frame['kind']} without a signature") from error
    keys.verify(key, frame["kind"], data, signature)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise PeerError(f"a {frame['kind']} without a body")
    return body


def number(frame: Frame, name: str, most: int = (1 << 64) - 1) -> int:
    """Return a number that a frame has to have; raises PeerError."""
    value = frame.get(name)
    if type(value) is not int or not -1 <= value <= most:
        raise PeerError(f"{name} of a {frame.get('kind', 'body')} is {value!r}")
    return value


def remove(address: str) -> None:
    """Remove the socket file of ``unix:PATH``."""
    Path(address.removeprefix("unix:")).unlink(missing_ok=True)
