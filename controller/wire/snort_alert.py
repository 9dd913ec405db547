# SPDX-License-Identifier: Apache-2.0
"""The alert datagram of Snort 2.9 (`-A unsock`) and Snort 3 (`alert_unixsock`): its `Alertpkt` structure.

It is a C structure as the sender's memory holds it, so in host byte order, and its size tells which build sent it:

| bytes | build | times | event at |
|---|---|---|---|
| 65,864 | usual | 32 bits | 65,828 |
| 65,928 | with OpenAppID: 64 bytes of application name at the end | 32 bits | 65,828 |
| 65,888 | old, with the C library's own `timeval` | 64 bits | 65,840 |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

from controller.core.errors import RemoteError

MESSAGE_SIZE = 256
PACKET_SIZE = 65_535
USUAL_SIZE, OPEN_APP_ID_SIZE, NATIVE_TIME_SIZE = 65_864, 65_928, 65_888
LARGEST = OPEN_APP_ID_SIZE
NO_PACKET = 1
"""The bit of ``val`` that says that there is no packet behind the alert."""

_HEAD = Struct("=256s 2I 2I 4II")
_NATIVE_HEAD = Struct("=256s 2Q 2I 4II")
_EVENT = Struct("=7I 2I")
_NATIVE_EVENT = Struct("=7I 4x 2Q")
_LAYOUTS = {
    USUAL_SIZE: (_HEAD, _EVENT, 65_828),
    OPEN_APP_ID_SIZE: (_HEAD, _EVENT, 65_828),
    NATIVE_TIME_SIZE: (_NATIVE_HEAD, _NATIVE_EVENT, 65_840),
}


@dataclass(frozen=True, slots=True)
class SnortAlert:
    """One alert; ``classification`` is the class's number (0: none), ``raised_at`` the packet's wall time."""

    message: str
    gid: int
    sid: int
    rev: int
    classification: int
    priority: int
    raised_at: float
    is_snort3: bool
    packet: bytes = field(default=b"", repr=False)


def decode_snort_alert(datagram: bytes | memoryview) -> SnortAlert:
    """Parse an alert datagram; raises RemoteError for a size no build sends and for contents that cannot be.

    Snort 3 leaves the quotes of the rule's ``msg`` on, which is how it is told from Snort 2.
    """
    layout = _LAYOUTS.get(len(datagram))
    if layout is None:
        raise RemoteError(f"a datagram of {len(datagram)} bytes is no Snort alert ({', '.join(map(str, _LAYOUTS))})")
    head, event, event_at = layout
    text, seconds, micros, captured, _, _, _, _, _, valid = head.unpack_from(datagram)
    gid, sid, rev, classification, priority, _, _, event_seconds, event_micros = event.unpack_from(datagram, event_at)
    if captured > PACKET_SIZE:
        raise RemoteError(f"a Snort alert with a packet of {captured} bytes")
    if not sid:
        raise RemoteError("a Snort alert that names no rule (sid 0)")
    has_packet = not valid & NO_PACKET
    message = text.partition(b"\0")[0].decode("utf-8", "replace")
    is_snort3 = len(message) >= 2 and message[0] == message[-1] == '"'
    return SnortAlert(
        message=message[1:-1] if is_snort3 else message,
        gid=gid,
        sid=sid,
        rev=rev,
        classification=classification,
        priority=priority,
        raised_at=seconds + micros / 1e6 if has_packet else event_seconds + event_micros / 1e6,
        is_snort3=is_snort3,
        packet=bytes(datagram[head.size : head.size + captured]) if has_packet else b"",
    )


def encode_snort_alert(alert: SnortAlert, size: int = USUAL_SIZE) -> bytes:
    """The datagram that a build of this ``size`` sends: for tests, benchmarks and analysers of one's own.

    Raises KeyError for a size no build sends and struct.error for numbers out of range.
    """
    head, event, event_at = _LAYOUTS[size]
    text = f'"{alert.message}"' if alert.is_snort3 else alert.message
    seconds, micros = divmod(round(alert.raised_at * 1_000_000), 1_000_000)
    datagram = bytearray(size)
    length = len(alert.packet)
    valid = 0 if length else NO_PACKET
    head.pack_into(
        datagram, 0, text.encode()[: MESSAGE_SIZE - 1], seconds, micros, length, length, 0, 14, 34, 54, valid
    )
    datagram[head.size : head.size + length] = alert.packet
    numbers = (alert.gid, alert.sid, alert.rev, alert.classification, alert.priority, 1, 1, seconds, micros)
    event.pack_into(datagram, event_at, *numbers)
    return bytes(datagram)
