# SPDX-License-Identifier: Apache-2.0
"""TCP options: RFC 9293 section 3.2 (MSS), RFC 7323 (window scale, timestamps), RFC 2018 (SACK).

A known kind with a length that is not its own is kept raw in ``others``, as an unknown one is: peers ignore it, and
so may we. Of an option given twice the last counts, as it does in Linux.
"""

from __future__ import annotations

from struct import Struct, error

from controller.core.errors import LocalError, RemoteError
from controller.core.segment import NO_OPTIONS, TcpOptions, Timestamps

END, NOP, MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
MAX_SIZE = 40
"""Bytes of options that fit a TCP header."""

_MSS = Struct("!BBH")
_SCALE = Struct("!BBB")
_STAMPS = Struct("!II")
_EDGES = Struct("!II")
_ONLY_STAMPS = b"\x01\x01\x08\x0a"


def decode_options(data: bytes) -> TcpOptions:
    """Parse the options of a TCP header, padding included; raises RemoteError for an option that overruns it."""
    size = len(data)
    if not size:
        return NO_OPTIONS
    if size == 12 and data[:4] == _ONLY_STAMPS:  # all but the first few segments of most connections
        return TcpOptions(timestamps=Timestamps(*_STAMPS.unpack_from(data, 4)))
    mss = scale = stamps = None
    permitted = False
    sack: tuple[tuple[int, int], ...] = ()
    others: list[tuple[int, bytes]] = []
    at = 0
    while at < size:
        kind = data[at]
        if kind == NOP:
            at += 1
            continue
        if kind == END:
            break
        length = data[at + 1] if at + 1 < size else 0
        if length < 2 or at + length > size:
            raise RemoteError(f"TCP option {kind} overruns the header")
        body = data[at + 2 : at + length]
        if kind == MSS and length == 4:
            mss = int.from_bytes(body, "big")
        elif kind == WINDOW_SCALE and length == 3:
            scale = body[0]
        elif kind == SACK_PERMITTED and length == 2:
            permitted = True
        elif kind == SACK and length > 2 and length % 8 == 2:
            sack = tuple(_EDGES.iter_unpack(body))
        elif kind == TIMESTAMPS and length == 10:
            stamps = Timestamps(*_STAMPS.unpack(body))
        else:
            others.append((kind, body))
        at += length
    return TcpOptions(mss, scale, permitted, sack, stamps, tuple(others))


def encode_options(options: TcpOptions) -> bytes:
    """Lay options out as Linux does (aligned with NOPs), without NOPs where that alone makes them fit.

    Whatever `decode_options` returned fits. Raises LocalError for options beyond 40 bytes or a number out of range.
    """
    if options == NO_OPTIONS:
        return b""
    try:
        data = _layout(options, aligned=True)
        if len(data) > MAX_SIZE:
            data = _layout(options, aligned=False)
    except (error, ValueError) as reason:
        raise LocalError(f"TCP options out of range: {reason}") from reason
    if len(data) > MAX_SIZE:
        raise LocalError(f"TCP options take {len(data)} bytes; a header has room for {MAX_SIZE}")
    return data + bytes(-len(data) % 4)


def _layout(options: TcpOptions, aligned: bool) -> bytes:
    parts: list[bytes] = []
    pad = b"\x01\x01" if aligned else b""
    if options.mss is not None:
        parts.append(_MSS.pack(MSS, 4, options.mss))
    if options.timestamps is not None:
        lead = b"\x04\x02" if options.sack_permitted else pad
        parts.append(lead + b"\x08\x0a" + _STAMPS.pack(*options.timestamps))
    elif options.sack_permitted:
        parts.append(pad + b"\x04\x02")
    if options.window_scale is not None:
        parts.append(pad[1:] + _SCALE.pack(WINDOW_SCALE, 3, options.window_scale))
    if options.sack:
        edges = b"".join(_EDGES.pack(*block) for block in options.sack)
        parts.append(pad + bytes((SACK, len(edges) + 2)) + edges)
    parts.extend(bytes((kind, len(body) + 2)) + body for kind, body in options.others)
    return b"".join(parts)
