# SPDX-License-Identifier: Apache-2.0
"""Frames of the bus between processes: four bytes of length (network order), then an event as JSON.

The JSON is `event_record`'s, with its schema number: a peer of another version is refused, not misunderstood.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from controller.core.errors import LocalError, RemoteError
from controller.wire.event_record import decode_event, encode_event

LARGEST = 1 << 20
"""Bytes of JSON in a frame: an alert with 64 KiB of payload takes a tenth of it."""

_LENGTH = Struct("!I")


def encode_frame(event: object) -> bytes:
    """The frame of an event; raises LocalError for one that is too large to send."""
    data = encode_event(event)
    if len(data) > LARGEST:
        raise LocalError(f"a {type(event).__name__} of {len(data)} bytes; the bus carries up to {LARGEST}")
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Cuts a stream into events, however it arrives."""

    def __init__(self, largest: int = LARGEST) -> None:
        """Begin at the start of a stream whose frames hold up to ``largest`` bytes of JSON."""
        self._largest = largest
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The events that ``data`` completes, in order.

        Raises RemoteError for a length or an event that cannot be; nothing behind it can be trusted, so the stream is
        to be closed then.
        """
        self._pending += data
        events: list[Any] = []
        at = 0
        while len(self._pending) - at >= _LENGTH.size:
            length = _LENGTH.unpack_from(self._pending, at)[0]
            if length > self._largest:
                raise RemoteError(f"a bus frame of {length} bytes; up to {self._largest} are allowed")
            end = at + _LENGTH.size + length
            if end > len(self._pending):
                break
            events.append(decode_event(bytes(self._pending[at + _LENGTH.size : end])))
            at = end
        del self._pending[:at]
        return events

    @property
    def is_amid_frame(self) -> bool:
        """Whether a stream that ends here was cut off."""
        return bool(self._pending)
