# SPDX-License-Identifier: Apache-2.0
"""The note that a flow carries: 62 bytes, in network order, that mean nothing to the switch.

They are the argument of Nicira's ``note`` action (``nicira-ext.h``: "does nothing at all, just like it says"). The
first byte is the layout's version, so that flows of another release are recognised and left alone.
"""

from __future__ import annotations

import math
import struct

from controller.core.errors import RemoteError
from controller.core.facts import Facts
from controller.core.options import Agreement
from controller.wire.address import decode_mac, encode_mac

VERSION = 1
_NOTE = struct.Struct("!BBII6s6sIHBBdIIHHbHHbbB4x")
SIZE = _NOTE.size
AGREED, SACK, TIMESTAMPS, ECN = 1, 2, 4, 8
_NO_SCALE = -1


def encode_note(facts: Facts) -> bytes:
    """Return the note of a connection; raises struct.error for values that no field can hold."""
    agreement = facts.agreement or Agreement(0, 0, None, None, False, False, False)
    flags = AGREED if facts.agreement is not None else 0
    flags |= SACK * agreement.sack | TIMESTAMPS * agreement.timestamps | ECN * agreement.ecn
    return _NOTE.pack(
        VERSION,
        flags,
        facts.client_isn,
        facts.origin_isn,
        encode_mac(facts.client_mac),
        encode_mac(facts.service_mac),
        facts.client_port,
        facts.syn_window,
        facts.ttl,
        facts.tos,
        facts.opened,
        facts.client_clock,
        facts.server_clock,
        facts.client_window,
        facts.server_window,
        facts.window_shift,
        agreement.mss,
        agreement.client_mss,
        _NO_SCALE if agreement.window_scale is None else agreement.window_scale,
        _NO_SCALE if agreement.client_window_scale is None else agreement.client_window_scale,
        facts.server_ttl,
    )


def decode_note(note: bytes) -> Facts:
    """Return the facts of a note (bytes behind it are padding); raises RemoteError for one that is not ours."""
    if len(note) < SIZE or note[0] != VERSION or any(note[SIZE:]):
        raise RemoteError(f"not a note of layout {VERSION}: {note.hex()}")
    (
        _,
        flags,
        client_isn,
        origin_isn,
        client_mac,
        service_mac,
        client_port,
        syn_window,
        ttl,
        tos,
        opened,
        client_clock,
        server_clock,
        client_window,
        server_window,
        window_shift,
        mss,
        client_mss,
        scale,
        client_scale,
        server_ttl,
    ) = _NOTE.unpack_from(note)
    if not math.isfinite(opened):
        raise RemoteError(f"a note without a time: {note.hex()}")
    agreement = None
    if flags & AGREED:
        agreement = Agreement(
            mss,
            client_mss,
            None if scale == _NO_SCALE else scale,
            None if client_scale == _NO_SCALE else client_scale,
            bool(flags & SACK),
            bool(flags & TIMESTAMPS),
            bool(flags & ECN),
        )
    return Facts(
        client_isn,
        origin_isn,
        decode_mac(client_mac),
        decode_mac(service_mac),
        client_port,
        syn_window,
        ttl,
        tos,
        opened,
        client_clock,
        server_clock,
        client_window,
        server_window,
        window_shift,
        agreement,
        server_ttl,
    )
