# SPDX-License-Identifier: Apache-2.0
"""The bus from the other side: what `baton`, benchmarks and other programs talk to a running controller with."""

from __future__ import annotations

import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

from controller.config import run_dir
from controller.core.errors import LocalError, RemoteError
from controller.core.events import ConnectionReported, StatusReported, StatusRequested
from controller.wire.bus import FrameReader, encode_frame

NAME = "bus.sock"
"""The socket in the run directory."""
ANSWER_TIME = 10.0
"""Seconds that a controller gets for a page of its table: one that is busy may need a moment."""


class BusError(LocalError):
    """The controller cannot be talked to; the text says what to do."""


class BusClient:
    """A connection to the controller's bus, to be used from one thread; events wait in it until they are received.

    A program that stays connected has to go on receiving, else it is cut off.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Connect to the socket (default: the one in the run directory); raises BusError."""
        self.path = path or run_dir() / NAME
        self._reader = FrameReader()
        self._waiting: deque[Any] = deque()
        self._stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
        except OSError as error:
            self._stream.close()
            raise BusError(_mend(self.path, error)) from error

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._stream.close()

    def fileno(self) -> int:
        """Return the descriptor, to wait for several things at once."""
        return self._stream.fileno()

    def send(self, event: object) -> None:
        """Send an event; its ``time`` is replaced by the controller's. Raises BusError."""
        try:
            self._stream.settimeout(ANSWER_TIME)
            self._stream.sendall(encode_frame(event))
        except OSError as error:
            raise BusError(f"the controller has gone ({error.strerror or error}); start it again") from error

    def receive(self, timeout: float | None = None) -> Any:
        """Return the next event, or None when none has come within ``timeout`` seconds; raises BusError."""
        return self._waiting.popleft() if self._waiting else self._read(timeout)

    def wait_for(self, is_meant: Callable[[Any], bool], timeout: float) -> Any:
        """Return the next event that is meant, or None in the end; others before it are dropped. Raises BusError."""
        end = monotonic() + timeout
        while (left := end - monotonic()) > 0:
            event = self.receive(left)
            if event is not None and is_meant(event):
                return event
        return None

    def connections(self, match: str = "") -> list[ConnectionReported]:
        """Return the rows of the table that ``match`` means, by number; raises BusError."""
        return [row for page, _ in self.pages(match) for row in page]

    def pages(self, match: str = "") -> Iterator[tuple[list[ConnectionReported], StatusReported]]:
        """Yield the table page by page, as it is fetched; raises BusError."""
        after, more = 0, True
        while more:
            request = secrets.token_hex(8)
            self.send(StatusRequested(monotonic(), request, match, after))
            rows, end = self._answer(request)
            yield rows, end
            more = end.more and end.last > after
            after = end.last

    def _answer(self, request: str) -> tuple[list[ConnectionReported], StatusReported]:
        """Gather the answer to a request; all other events are kept for later."""
        rows: list[ConnectionReported] = []
        deadline = monotonic() + ANSWER_TIME
        others: list[Any] = []
        try:
            while True:
                event = self.receive(max(0.0, deadline - monotonic()))
                if event is None:
                    raise BusError("the controller does not answer: does it run apps/tcp_migration.py?")
                if getattr(event, "request", None) != request:
                    others.append(event)
                elif isinstance(event, StatusReported):
                    return rows, event
                else:
                    rows.append(event)
        finally:
            self._waiting.extendleft(reversed(others))

    def _connect(self) -> None:
        """Connect; while others do so faster than the controller accepts them, try again."""
        self._stream.settimeout(ANSWER_TIME)
        end = monotonic() + ANSWER_TIME
        while True:
            try:
                self._stream.connect(str(self.path))
                return
            except BlockingIOError:
                if monotonic() > end:
                    raise
                sleep(0.01)

    def _read(self, timeout: float | None) -> Any:
        end = None if timeout is None else monotonic() + timeout
        while not self._waiting:
            left = None if end is None else end - monotonic()
            try:
                # A timeout of 0 means "do not wait": what is there is still read.
                self._stream.settimeout(None if left is None else max(0.0, left))
                data = self._stream.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError as error:
                raise BusError(f"the controller has gone ({error.strerror or error}); start it again") from error
            if not data:
                raise BusError("the controller has gone, or has cut this program off (its log says why)")
            try:
                self._waiting.extend(self._reader.feed(data))
            except RemoteError as error:
                raise BusError(f"the controller speaks another version of the bus: {error}") from error
        return self._waiting.popleft()


def _mend(path: Path, error: OSError) -> str:
    """Say what to do about a bus that cannot be joined."""
    start = "start one with 'ryu-manager apps/tcp_migration.py'"
    if isinstance(error, PermissionError):
        return f"{path} belongs to another user: run this as the one who runs the controller (sudo)"
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return f"no controller is running at {path.parent}: {start}, or set BATON_RUN_DIR to its run directory"
    return f"cannot join the bus at {path}: {error.strerror or error}; {start}"
