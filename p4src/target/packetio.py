# SPDX-License-Identifier: Apache-2.0
"""PacketIn and PacketOut: the metadata is a header before the frame on the CPU port (specification, section 16)."""

from __future__ import annotations

from typing import Any

from .entries import canonical, number
from .errors import invalid
from .messages import StreamResponse

Fields = tuple[tuple[int, int], ...]
"""Number and width of each metadata field, in the order of the header."""


def frame_of(packet: Any, fields: Fields) -> bytes:
    """What a PacketOut sends into the CPU port. Raises RefusedError."""
    values = {metadata.metadata_id: metadata.value for metadata in packet.metadata}
    if set(values) != {identity for identity, _ in fields} or len(values) != len(packet.metadata):
        raise invalid(f"a PacketOut has metadata {[identity for identity, _ in fields]}, each once")
    header = bits = 0
    for identity, width in fields:
        header = header << width | number(values[identity], width, f"metadata {identity}")
        bits += width
    return (header << -bits % 8).to_bytes((bits + 7) // 8, "big") + packet.payload


def packet_in(frame: bytes, fields: Fields) -> Any:
    """The message for a frame that left by the CPU port; None: it is shorter than the metadata."""
    bits = sum(width for _, width in fields)
    length = (bits + 7) // 8
    if len(frame) < length:
        return None
    header = int.from_bytes(frame[:length], "big") >> -bits % 8
    message = StreamResponse()
    message.packet.payload = frame[length:]
    for identity, width in fields:
        bits -= width
        message.packet.metadata.add(metadata_id=identity, value=canonical(header >> bits & (1 << width) - 1))
    return message
