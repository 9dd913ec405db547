# SPDX-License-Identifier: Apache-2.0
"""Receives alerts from analysers on two sockets and hands them on, one at a time, in the order of their arrival.

`eve.sock` is a stream on which Suricata writes EVE lines (several may connect, and come back); `snort_alert` takes the
datagrams of Snort 2.9 and 3. Between reading and handing on stands a bounded queue: a flood costs counted drops,
never memory and never the reader's turn. Works on green threads and on native ones alike: the caller says which.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from controller.alerts.parser import AlertParser
from controller.core.errors import RemoteError
from controller.core.events import AlertRaised
from controller.sockets.acceptor import Acceptor
from controller.sockets.complaints import Complaints
from controller.sockets.unix import bind_unix, retire_unix
from controller.wire.snort_alert import LARGEST

QUEUE_LIMIT = 1_024
"""Alerts parsed and not handed on; each may carry 64 KiB of payload."""
LINE_LIMIT = 1 << 20
"""Bytes of an EVE line: a packet of 64 KiB in base64, twice, and room to spare."""
STREAM_LIMIT = 8
"""Analysers connected to the stream at once."""
TURN = 16
"""Alerts read before others get a turn: green threads switch only when asked."""


@dataclass(slots=True)
class Counters:
    """What became of everything that arrived."""

    delivered: int = 0
    dropped: int = 0
    malformed: int = 0


class AlertListener:
    """Listens, parses, queues and delivers from `start` to `stop`.

    ``hub`` offers ``sleep`` and ``Semaphore`` (a framework's hub does), ``spawn`` runs a function beside the caller;
    ``deliver`` gets each event in a thread of its own and may block. Raises ConfigError when a socket cannot be made.
    """

    def __init__(
        self,
        hub: Any,
        spawn: Callable[..., Any],
        parser: AlertParser,
        deliver: Callable[[AlertRaised], None],
        eve_path: Path,
        snort_path: Path,
        logger: logging.Logger,
    ) -> None:
        """Bind both sockets: from now on analysers can connect and send, though nobody reads yet."""
        self.counters = Counters()
        self._hub = hub
        self._spawn = spawn
        self._parser = parser
        self._deliver = deliver
        self._eve_path, self._snort_path = eve_path, snort_path
        self._log = logger
        self._queue: deque[AlertRaised | None] = deque()
        self._queued = hub.Semaphore(0)
        self._stopping = False
        self._complain = Complaints(logger, "alerts")
        self.streams = Acceptor(hub, eve_path, STREAM_LIMIT, self._take_stream, self._complain, "an analyser")
        try:
            self._snort = bind_unix(snort_path, socket.SOCK_DGRAM)
        except BaseException:
            self.streams.abandon()
            raise

    def start(self) -> list[Any]:
        """Begin to read; returns the threads, which end after `stop`."""
        self._log.info("alerts: listening on %s (Suricata) and %s (Snort)", self._eve_path, self._snort_path)
        return [self._spawn(task) for task in (self._send_on, self._read_datagrams, self.streams.run)]

    def stop(self) -> None:
        """Close everything and let the threads end; alerts still queued are given up. Safe to call again."""
        if self._stopping:
            return
        self._stopping = True
        self.streams.stop()
        retire_unix(self._snort_path, socket.SOCK_DGRAM)
        self._queue.clear()
        self._queue.append(None)
        self._queued.release()

    def _send_on(self) -> None:
        while True:
            self._queued.acquire()
            event = self._queue.popleft() if self._queue else None
            if event is None:
                if self._stopping:
                    return
                continue
            self._deliver(event)
            self.counters.delivered += 1

    def _read_datagrams(self) -> None:
        buffer = bytearray(LARGEST + 1)  # one more than the largest, so that a larger one does not pass for it
        view = memoryview(buffer)
        taken = 0
        while True:
            try:
                size = self._snort.recv_into(buffer)
            except OSError as error:
                if not self._stopping:
                    self._complain("socket", "cannot read %s: %s", self._snort_path, error)
                size = None
            if self._stopping:
                self._snort.close()
                return
            if size is None:
                self._hub.sleep(0.1)
                continue
            self._take(self._parser.from_snort, view[:size])
            taken += 1
            if taken % TURN == 0:
                self._hub.sleep(0)

    def _take_stream(self, stream: socket.socket) -> None:
        self._spawn(self._read_stream, stream)

    def _read_stream(self, stream: socket.socket) -> None:
        self._log.info("alerts: an analyser has connected")
        pending = bytearray()
        is_overlong = False
        taken = 0
        try:
            while chunk := stream.recv(65_536):
                pending += chunk
                *lines, rest = pending.split(b"\n")
                pending = rest
                for line in lines:
                    if is_overlong:
                        is_overlong = False  # the end of the line that was given up
                        continue
                    self._take(self._parser.from_eve, bytes(line))
                    taken += 1
                    if taken % TURN == 0:
                        self._hub.sleep(0)
                if len(pending) > LINE_LIMIT:
                    pending.clear()
                    if not is_overlong:
                        is_overlong = True
                        self._reject(f"an EVE line of more than {LINE_LIMIT} bytes")
        except OSError as error:
            self._log.debug("alerts: an analyser's connection broke: %s", error)
        finally:
            self.streams.release(stream)
        if pending or is_overlong:
            self._reject("an EVE line that ended with its connection")
        self._log.info("alerts: an analyser has disconnected")

    def _take(self, parse: Callable[[Any, float], AlertRaised | None], data: bytes | memoryview) -> None:
        """Parse one alert and queue its event; whatever it contains, the reader lives on."""
        try:
            event = parse(data, monotonic())
        except RemoteError as error:
            self._reject(str(error))
            return
        except Exception as error:  # a fault of ours, and no reason to go deaf
            self._reject(f"{type(error).__name__}: {error}")
            return
        if event is None:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self.counters.dropped += 1
            self._complain("dropped", "too many alerts at once: %d dropped so far", self.counters.dropped)
            return
        self._queue.append(event)
        self._queued.release()

    def _reject(self, reason: str) -> None:
        self.counters.malformed += 1
        self._complain("malformed", "ignored %d malformed alerts so far; the last: %s", self.counters.malformed, reason)
