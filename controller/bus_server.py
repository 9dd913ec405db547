# SPDX-License-Identifier: Apache-2.0
"""The bus between processes: a Unix stream socket on which others hear the controller's events and send a few.

Frames are `controller.wire.bus`'s. Every client gets every event, except that an answer goes to who asked for it alone.
A client that does not read, sends what it may not, or talks nonsense is cut off; the others and the controller notice
nothing. Works on green threads and on native ones alike: the caller says which.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from controller.core.errors import LocalError, RemoteError
from controller.core.events import ConnectionReported, StatusReported, StatusRequested
from controller.sockets.acceptor import Acceptor
from controller.sockets.complaints import Complaints
from controller.wire.bus import FrameReader, encode_frame

CLIENT_LIMIT = 64
"""Processes connected at once."""
QUEUE_LIMIT = 4 << 20
"""Bytes that wait for one client; one that lets more come together does not read."""
REQUEST_LIMIT = 4_096
"""Bytes of an event that a client may send."""
WRITE_SIZE = 1 << 16
"""Bytes written at once, about."""
TURN = 16
"""Events taken from a client before others get a turn: green threads switch only when asked."""

ANSWERS = (ConnectionReported, StatusReported)
"""What only the client that asked gets to hear."""


class Client:
    """A connected process; its frames wait here until it reads them."""

    def __init__(self, hub: Any, stream: socket.socket, number: int) -> None:
        """Begin with nothing to send."""
        self.stream, self.number = stream, number
        self.frames: deque[bytes] = deque()
        self.queued = hub.Semaphore(0)
        self.written = hub.Semaphore(0)
        """Released when the writer has ended: the stream may be closed."""
        self.put = 0
        self.sent = 0
        """Bytes put in by the publisher alone and taken out by the writer alone, so neither needs a lock."""
        self.is_gone = False


class BusServer:
    """Listens, broadcasts what `publish` gets and delivers what clients send, from `start` to `stop`.

    ``hub`` offers ``sleep`` and ``Semaphore``; ``spawn`` runs a function beside the caller; ``deliver`` gets each event
    of a class in ``accepted`` and may block. Raises ConfigError when the socket cannot be made.
    """

    def __init__(
        self,
        hub: Any,
        spawn: Callable[..., Any],
        path: Path,
        accepted: Collection[type],
        deliver: Callable[[Any], None],
        logger: logging.Logger,
    ) -> None:
        """Bind the socket: from now on clients can connect, though nobody answers yet."""
        self._hub, self._spawn = hub, spawn
        self._log = logger
        self._accepted = frozenset(accepted)
        self._deliver = deliver
        self._clients: dict[int, Client] = {}
        self._numbers = itertools.count(1)
        self._stopping = False
        self._complain = Complaints(logger, "bus")
        self.streams = Acceptor(hub, path, CLIENT_LIMIT, self._join, self._complain, "a client")

    def start(self) -> Any:
        """Begin to accept clients; returns the thread, which ends after `stop`."""
        return self._spawn(self.streams.run)

    def stop(self) -> None:
        """Disconnect everybody and let the threads end. Safe to call again."""
        if self._stopping:
            return
        self._stopping = True
        self.streams.stop()
        for client in list(self._clients.values()):
            self._drop(client)

    def publish(self, event: object) -> None:
        """Queue an event for whom it concerns; never blocks. To be called from one thread only."""
        clients = self._listeners_of(event)
        if not clients:
            return
        if isinstance(event, ANSWERS):
            event = replace(event, request=event.request.partition(":")[2])
        try:
            frame = encode_frame(event)
        except LocalError as error:
            self._complain("large", "an event stays inside: %s", error)
            return
        for client in clients:
            if client.put - client.sent + len(frame) > QUEUE_LIMIT:
                self._cut_off(client, f"{QUEUE_LIMIT} bytes wait for it and it does not read")
                continue
            client.frames.append(frame)
            client.put += len(frame)
            client.queued.release()

    @property
    def clients(self) -> int:
        """Return how many are connected."""
        return len(self._clients)

    def _listeners_of(self, event: object) -> list[Client]:
        if not isinstance(event, ANSWERS):
            return list(self._clients.values())
        number = event.request.partition(":")[0]
        client = self._clients.get(int(number)) if number.isdecimal() else None
        return [] if client is None else [client]

    # ---- threads ----

    def _join(self, stream: socket.socket) -> None:
        client = Client(self._hub, stream, next(self._numbers))
        self._clients[client.number] = client
        self._spawn(self._write, client)
        self._spawn(self._read, client)

    def _write(self, client: Client) -> None:
        try:
            while not client.is_gone:
                client.queued.acquire()
                data = bytearray()
                while client.frames and len(data) < WRITE_SIZE:
                    data += client.frames.popleft()
                if data:
                    client.stream.sendall(data)
                    client.sent += len(data)
        except OSError as error:
            self._log.debug("bus: a client's connection broke: %s", error)
        finally:
            self._drop(client)
            client.written.release()

    def _read(self, client: Client) -> None:
        reader = FrameReader(REQUEST_LIMIT)
        taken = 0
        try:
            while not client.is_gone and (data := client.stream.recv(WRITE_SIZE)):
                for event in reader.feed(data):
                    self._take(client, event)
                    taken += 1
                    if taken % TURN == 0:
                        self._hub.sleep(0)
        except RemoteError as error:
            self._cut_off(client, str(error))
        except OSError as error:
            self._log.debug("bus: a client's connection broke: %s", error)
        except Exception as error:  # a fault of ours, and no reason to go deaf
            self._cut_off(client, f"{type(error).__name__}: {error}")
        finally:
            self._drop(client)
            client.written.acquire()
            self.streams.release(client.stream)

    def _take(self, client: Client, event: Any) -> None:
        """Hand on an event with the time of its arrival; raises RemoteError for one that a client may not send."""
        if client.is_gone:
            return
        if type(event) not in self._accepted:
            raise RemoteError(f"clients may not send {type(event).__name__}")
        if isinstance(event, StatusRequested):
            event = replace(event, request=f"{client.number}:{event.request}")
        self._deliver(replace(event, time=monotonic()))

    # ---- the end of a client ----

    def _cut_off(self, client: Client, reason: str) -> None:
        if not client.is_gone:
            self._complain("cut off", "cut off a client: %s", reason)
            self._drop(client)

    def _drop(self, client: Client) -> None:
        """Wake both threads of a client; the reader closes the stream."""
        client.is_gone = True
        self._clients.pop(client.number, None)
        client.frames.clear()
        client.queued.release()
        with contextlib.suppress(OSError):
            client.stream.shutdown(socket.SHUT_RDWR)
