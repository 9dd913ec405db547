# SPDX-License-Identifier: Apache-2.0
"""From an analyser's bytes to `AlertRaised`: the same event whichever engine spoke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.alerts.packet import decode_packet
from controller.core.events import AlertRaised
from controller.wire.classification import Classifications
from controller.wire.eve import decode_eve
from controller.wire.snort_alert import decode_snort_alert


@dataclass(frozen=True, slots=True)
class AlertParser:
    """Parses alerts; ``classes()`` is what turns class numbers and descriptions into the names that rules use."""

    classes: Callable[[], Classifications] = Classifications

    def from_snort(self, datagram: bytes | memoryview, now: float) -> AlertRaised:
        """The event of a Snort datagram received at ``now``; raises RemoteError for anything else."""
        alert = decode_snort_alert(datagram)
        packet = decode_packet(alert.packet) if alert.packet else None
        return AlertRaised(
            time=now,
            engine="snort3" if alert.is_snort3 else "snort2",
            sid=alert.sid,
            gid=alert.gid,
            rev=alert.rev,
            message=alert.message,
            classtype=self.classes().by_number(alert.classification),
            priority=alert.priority,
            src=packet.src if packet else None,
            dst=packet.dst if packet else None,
            seq=packet.seq if packet else None,
            payload=packet.payload if packet else b"",
            raised_at=alert.raised_at,
        )

    def from_eve(self, line: bytes, now: float) -> AlertRaised | None:
        """The event of an EVE line received at ``now``, None for lines that are no alert; raises RemoteError.

        What the line says about the ends goes first: for an alert about a stream, the packet can be another's.
        """
        alert = decode_eve(line)
        if alert is None:
            return None
        packet = decode_packet(alert.packet, alert.link) if alert.packet else None
        if packet and (packet.src, packet.dst) != (alert.src, alert.dst):
            packet = None
        return AlertRaised(
            time=now,
            engine="suricata",
            sid=alert.sid,
            gid=alert.gid,
            rev=alert.rev,
            message=alert.message,
            classtype=self.classes().described(alert.category),
            priority=alert.priority,
            src=alert.src,
            dst=alert.dst,
            seq=packet.seq if packet else None,
            payload=packet.payload if packet else alert.payload,
            raised_at=alert.raised_at,
        )
