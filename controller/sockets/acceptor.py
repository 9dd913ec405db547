# SPDX-License-Identifier: Apache-2.0
"""Accepts connections on a Unix stream socket, so many at once and no more, from `run` to `stop`.

Works on green threads and on native ones alike: the caller says which.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.sockets.complaints import Complaints
from controller.sockets.unix import bind_unix, retire_unix

PAUSE = 0.1
"""Seconds of patience when a connection cannot be taken: out of descriptors, most likely."""


class Acceptor:
    """Listens at ``path`` for at most ``limit`` connections at once, each called a ``caller`` in complaints.

    ``hub`` offers ``sleep``; ``take`` gets each connection and returns at once; who serves it calls `release` at last.
    Raises ConfigError when the socket cannot be made; from then on others can connect, though nobody answers yet.
    """

    def __init__(
        self, hub: Any, path: Path, limit: int, take: Callable[[socket.socket], None], complain: Complaints, caller: str
    ) -> None:
        self.refused = 0
        self._hub, self._path, self._limit = hub, path, limit
        self._take, self._complain, self._caller = take, complain, caller
        self._streams: set[socket.socket] = set()
        self._stopping = False
        self._listener = bind_unix(path, socket.SOCK_STREAM)
        self._listener.listen(limit)

    def __len__(self) -> int:
        """Return how many connections are open."""
        return len(self._streams)

    def run(self) -> None:
        """Take connections until `stop`; the body of a thread."""
        while True:
            stream = None
            try:
                stream, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    self._complain("socket", "cannot accept on %s: %s", self._path, error)
            if self._stopping:
                self._listener.close()
                if stream is not None:
                    stream.close()
                return
            if stream is None:
                self._hub.sleep(PAUSE)
            elif len(self._streams) >= self._limit:
                self.refused += 1
                self._complain("refused", "refused %s: %d are connected already", self._caller, self._limit)
                stream.close()
            else:
                self._streams.add(stream)
                self._take(stream)

    def release(self, stream: socket.socket) -> None:
        """Close a connection that was taken: there is room for another one."""
        self._streams.discard(stream)
        stream.close()

    def stop(self) -> None:
        """Remove the path, end `run`, and wake whoever reads from a connection."""
        self._stopping = True
        retire_unix(self._path, socket.SOCK_STREAM)
        for stream in list(self._streams):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Give the socket up before `run` was ever begun."""
        self._listener.close()
        self._path.unlink(missing_ok=True)
