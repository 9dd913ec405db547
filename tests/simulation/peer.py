# SPDX-License-Identifier: Apache-2.0
"""A TCP endpoint without sockets or clock: enough of RFC 9293, 7323, 2018 and 2883 to notice any fault in the middle.

It is strict on purpose: what a real peer would silently drop (PAWS, an acknowledgement of bytes never sent) is counted
in ``complaints``, since nothing that a correct middle does may cause it.

Where the RFCs leave room it does what Linux does (``tcp_input.c``): silence to a pure ACK that is old in number and
timestamp (6.14), one answer in half a second to any other segment without data that is out of the window, no notice of
the acknowledgement and window of either; nothing is taken of a segment that acknowledges what lies before the first
byte ever acknowledged (6.7); and under a closed window its own ACKs carry the number at which the window ends, which
the other end may find old (``tcp_acceptable_seq``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from controller.core import seq
from controller.core.segment import ACK, FIN, PSH, RST, SYN, Endpoint, Segment, TcpOptions, Timestamps

RTO = 0.2
REFUSALS = 0.5
"""Seconds between two answers to unacceptable segments without data (``tcp_invalid_ratelimit``)."""
DUPLICATES = 3
"""Duplicate acknowledgements that mean a loss (RFC 5681)."""


@dataclass
class Capabilities:
    """Which options an endpoint uses."""

    mss: int = 1460
    window_scale: int | None = 7
    sack: bool = True
    timestamps: bool = True
    clock: int = 1000
    """What its timestamp clock shows at time 0; it ticks 1,000 times a second."""
    window: int = 60_000
    ttl: int = 64
    ip_id: int = 0
    """Identification of its first packet; the next ones count up. 0: all have 0."""


@dataclass
class Peer:
    """One end of one connection; ``emit`` collects what it sends."""

    local: Endpoint
    remote: Endpoint
    mac: str
    remote_mac: str
    can: Capabilities
    isn: int
    state: str = "closed"
    sending: bytes = b""
    received: bytearray = field(default_factory=bytearray)
    emit: list[Segment] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    retransmissions: int = 0
    send_una: int = 0
    send_next: int = 0
    recv_next: int = 0
    irs: int = 0
    close_after: bool = False
    fin_sent: bool = False
    fin_received: bool = False
    out_of_order: dict[int, bytes] = field(default_factory=dict)
    sack: bool = False
    timestamps: bool = False
    peer_scale: int = 0
    own_scale: int = 0
    peer_window: int = 0
    peer_mss: int = 536
    ts_recent: int = 0
    timer: float | None = None
    refused_at: float = -1e9
    window_from: int | None = None
    """Sequence number of the segment that last told the window (SND.WL1)."""
    duplicates: int = 0
    repaired: int | None = None
    """Up to where the last fast retransmission went: not twice for one loss."""
    syn_options: TcpOptions | None = None
    sent: int = 0
    bytes_acked: int = 0

    def connect(self, now: float) -> None:
        """Send a SYN."""
        self.state = "syn-sent"
        self.send_una, self.send_next = self.isn, seq.add(self.isn, 1)
        self._transmit(now, SYN, self.isn, options=self._offer(now))
        self.timer = now + 1.0

    def write(self, now: float, data: bytes) -> None:
        """Queue bytes for the other end."""
        self.sending += data
        self._push(now)

    def close(self, now: float) -> None:
        """Send FIN behind all that is queued."""
        self.close_after = True
        self._push(now)

    def tick(self, now: float) -> None:
        """Retransmit if the timer has run out."""
        if self.timer is None or now < self.timer:
            return
        self.timer = None
        if self.state == "syn-sent":
            self.retransmissions += 1
            self._transmit(now, SYN, self.isn, options=self._offer(now))
            self.timer = now + 1.0
        elif self.state == "syn-received":
            self._transmit(now, SYN | ACK, self.isn, options=self._answer(now))
            self.timer = now + 1.0
        elif self.state == "established" and self.send_una == self.send_next and self._wants_window():
            self._transmit(now, ACK, seq.add(self.send_una, -1))  # a window probe, as Linux makes them
            self.timer = now + RTO
        elif self.state == "established" and self.send_una != self.send_next:
            self.retransmissions += 1
            self._repair(now)
            self.timer = now + RTO

    def receive(self, now: float, segment: Segment) -> None:
        """Take a segment."""
        if segment.flags & RST:
            if self.state == "syn-sent" or segment.seq == self.recv_next:
                self.state = "reset"
            return
        if self.state == "syn-sent":
            self._receive_synack(now, segment)
        elif self.state == "closed":
            if segment.flags & SYN and not segment.flags & ACK:
                self._receive_syn(now, segment)
            else:
                self.emit.append(self._reset_for(segment))
        elif self.state in ("syn-received", "established"):
            self._receive(now, segment)

    # ---- handshake ------------------------------------------------------------------------------------------------

    def _offer(self, now: float) -> TcpOptions:
        stamps = Timestamps(self._clock(now), 0) if self.can.timestamps else None
        return TcpOptions(self.can.mss, self.can.window_scale, self.can.sack, (), stamps)

    def _answer(self, now: float) -> TcpOptions:
        stamps = Timestamps(self._clock(now), self.ts_recent) if self.timestamps else None
        return TcpOptions(self.can.mss, self.can.window_scale if self.scaled else None, self.sack, (), stamps)

    scaled: bool = False

    def _agree(self, theirs: TcpOptions) -> None:
        self.sack = self.can.sack and theirs.sack_permitted
        self.timestamps = self.can.timestamps and theirs.timestamps is not None
        self.scaled = self.can.window_scale is not None and theirs.window_scale is not None
        self.peer_scale = theirs.window_scale or 0 if self.scaled else 0
        self.own_scale = self.can.window_scale or 0 if self.scaled else 0
        self.peer_mss = theirs.mss or 536
        if theirs.timestamps is not None:
            self.ts_recent = theirs.timestamps.value

    def _receive_syn(self, now: float, segment: Segment) -> None:
        self.remote, self.remote_mac = segment.src, segment.eth_src
        self.syn_options = segment.options
        self._agree(segment.options)
        self.irs, self.recv_next = segment.seq, seq.add(segment.seq, 1)
        self.send_una, self.send_next = self.isn, seq.add(self.isn, 1)
        self.peer_window = segment.window
        self.state = "syn-received"
        self._transmit(now, SYN | ACK, self.isn, options=self._answer(now))
        self.timer = now + 1.0

    def _receive_synack(self, now: float, segment: Segment) -> None:
        if not segment.has(SYN | ACK) or segment.ack != self.send_next:
            return
        self._agree(segment.options)
        self.irs, self.recv_next = segment.seq, seq.add(segment.seq, 1)
        self.send_una = segment.ack
        self.peer_window = segment.window
        self.state, self.timer = "established", None
        self._ack(now)
        self._push(now)

    # ---- established ----------------------------------------------------------------------------------------------

    def _receive(self, now: float, segment: Segment) -> None:
        stamps = segment.options.timestamps
        end = seq.add(segment.seq, segment.length)
        if self.timestamps and stamps is None:
            self.complaints.append("a segment without timestamps")
            return
        if segment.flags & SYN:
            if self.state == "syn-received":
                self._transmit(now, SYN | ACK, self.isn, options=self._answer(now))
            else:
                self._ack(now)  # RFC 5961 section 4
            return
        is_old = seq.is_before(end, self.recv_next)
        if stamps is not None and self.timestamps and seq.is_before(stamps.value, self.ts_recent):
            if segment.payload and seq.is_after(end, self.recv_next):
                self.complaints.append(f"PAWS: {stamps.value} after {self.ts_recent}")
            if segment.length or not is_old:
                self._refuse(now, segment)
            return
        if is_old or (self.state == "syn-received" and segment.length and end == self.recv_next):
            self._refuse(now, segment)
            return
        if not seq.is_within(segment.seq, seq.add(self.recv_next, -self.can.window), self.can.window * 3):
            if segment.length:
                self.complaints.append("a segment outside the window")
            self._refuse(now, segment)
            return
        if stamps is not None and not seq.is_after(segment.seq, self.recv_next):
            self.ts_recent = seq.later(self.ts_recent, stamps.value)
        if not segment.flags & ACK:
            return
        if seq.is_after(segment.ack, self.send_next):
            self.complaints.append("an acknowledgement of bytes never sent")
            self._ack(now)
            return
        if seq.offset(segment.ack, self.send_una) > min(self.bytes_acked, 65_535):
            if segment.length:
                self.complaints.append("data with an acknowledgement from before the first byte")
            self._ack(now)
            return
        if self.state == "syn-received":
            self.state, self.timer = "established", None
        self._acknowledged(now, segment)
        self._check_sack(segment)
        if segment.length and end == self.recv_next:
            self._ack(now, (segment.seq, end))
        elif segment.length:
            self._take(now, segment)
        self._push(now)

    def _refuse(self, now: float, segment: Segment) -> None:
        """Answer what is not acceptable with the numbers as they are."""
        end = seq.add(segment.seq, segment.length)
        if self.state == "syn-received":
            self._transmit(now, ACK, seq.add(self.isn, 1))
        elif segment.length:
            self._ack(now, None if seq.is_after(end, self.recv_next) else (segment.seq, end))
        elif now - self.refused_at >= REFUSALS:
            self.refused_at = now
            self._ack(now)

    def _acknowledged(self, now: float, segment: Segment) -> None:
        advance = seq.distance(self.send_una, segment.ack)
        advanced = 0 < advance <= seq.distance(self.send_una, self.send_next)
        if advanced:
            if self.send_una == self.isn:
                advance -= 1
                self.send_una = seq.add(self.isn, 1)
            self.sending = self.sending[advance:]
            self.bytes_acked += advance
            self.send_una, self.duplicates = segment.ack, 0
            self.timer = now + RTO if self.send_una != self.send_next else None
            if self._repairs():
                self._repair(now)
        elif advance:
            return  # an old acknowledgement: its window is old too
        elif not segment.length and self.send_una != self.send_next:
            self.duplicates += 1
            if self.duplicates == DUPLICATES and not self._repairs():
                self.repaired = self.send_next
                self._repair(now)
        stamps = segment.options.timestamps
        if stamps is not None and stamps.echo and seq.is_after(stamps.echo, self._clock(now)):
            self.complaints.append("an echo of a time that has not come")
        window, first = segment.window << self.peer_scale, self.window_from
        is_newer = advanced or first is None or seq.is_after(segment.seq, first)
        if is_newer or (segment.seq == first and (window > self.peer_window or not window)):
            self.peer_window, self.window_from = window, segment.seq

    def _repairs(self) -> bool:
        """Return whether a fast retransmission is under way (RFC 6582)."""
        return self.repaired is not None and seq.is_before(self.send_una, self.repaired)

    def _repair(self, now: float) -> None:
        """Send the oldest segment again."""
        self._send_range(now, self.send_una, min(self._mss(), seq.distance(self.send_una, self.send_next)))

    def _check_sack(self, segment: Segment) -> None:
        for left, right in segment.options.sack:
            inside = seq.distance(self.send_una, right) <= seq.distance(self.send_una, self.send_next)
            duplicate = not seq.is_after(right, self.send_una)
            if not self.sack or not (inside or duplicate) or seq.is_after(left, right):
                self.complaints.append(f"a SACK block of bytes never sent: {left}-{right}")

    def _take(self, now: float, segment: Segment) -> None:
        data, start = segment.payload, segment.seq
        skip = seq.distance(start, self.recv_next) if seq.is_before(start, self.recv_next) else 0
        if segment.flags & FIN:
            data += b"\xff"
        self.out_of_order.setdefault(seq.add(start, skip), b"")
        key = seq.add(start, skip)
        if len(data) - skip > len(self.out_of_order[key]):
            self.out_of_order[key] = data[skip:]
        fin_at = seq.add(start, len(segment.payload)) if segment.flags & FIN else None
        if fin_at is not None:
            self._fin_at = fin_at
        for left in sorted(self.out_of_order, key=lambda n: seq.offset(self.recv_next, n)):
            if seq.is_after(left, self.recv_next):
                break
            piece = self.out_of_order.pop(left)[seq.distance(left, self.recv_next) :]
            for byte in (piece,) if piece else ():
                self._deliver(byte)
        self._ack(now)

    _fin_at: int | None = None

    def _deliver(self, piece: bytes) -> None:
        end = seq.add(self.recv_next, len(piece))
        if self._fin_at is not None and end == seq.add(self._fin_at, 1):
            self.received += piece[:-1]
            self.fin_received = True
        else:
            self.received += piece
        self.recv_next = end

    # ---- sending --------------------------------------------------------------------------------------------------

    def _mss(self) -> int:
        return min(self.peer_mss, self.can.mss) - (12 if self.timestamps else 0)

    def _push(self, now: float) -> None:
        if self.state != "established":
            return
        while True:
            flight = seq.distance(self.send_una, self.send_next)
            size = min(self._mss(), len(self.sending) - flight, self.peer_window - flight)
            if size <= 0 or self.fin_sent:
                break
            start, self.send_next = self.send_next, seq.add(self.send_next, size)
            self._send_range(now, start, size)
        if self.close_after and not self.fin_sent and seq.distance(self.send_una, self.send_next) == len(self.sending):
            self.fin_sent = True
            self.sending += b"\xff"
            start, self.send_next = self.send_next, seq.add(self.send_next, 1)
            self._send_range(now, start, 1)
        if self.timer is None and (self.send_una != self.send_next or self._wants_window()):
            self.timer = now + RTO

    def _wants_window(self) -> bool:
        """Return whether data waits for the other end to open its window."""
        return bool(self.sending) and not self.fin_sent and self.peer_window == 0

    def _send_range(self, now: float, start: int, size: int) -> None:
        offset = seq.distance(self.send_una, start)
        data = self.sending[offset : offset + size]
        last = self.fin_sent and seq.add(start, size) == self.send_next
        flags = ACK | PSH | (FIN if last else 0)
        self._transmit(now, flags, start, data[:-1] if last else data)

    def _ack(self, now: float, duplicate: tuple[int, int] | None = None) -> None:
        blocks: list[tuple[int, int]] = [duplicate] if duplicate is not None and self.sack else []
        if self.sack:
            for left, data in sorted(self.out_of_order.items()):
                blocks.append((left, seq.add(left, len(data))))
        end = seq.add(self.send_una, self.peer_window)
        number = end if self.state == "established" and seq.is_before(end, self.send_next) else self.send_next
        self._transmit(now, ACK, number, sack=tuple(blocks[:3]))

    def _clock(self, now: float) -> int:
        return seq.add(self.can.clock, int(now * 1000))

    def _transmit(
        self,
        now: float,
        flags: int,
        number: int,
        payload: bytes = b"",
        options: TcpOptions | None = None,
        sack: tuple[tuple[int, int], ...] = (),
    ) -> None:
        if options is None:
            stamps = Timestamps(self._clock(now), self.ts_recent) if self.timestamps else None
            options = TcpOptions(timestamps=stamps, sack=sack)
        scale = 0 if flags & SYN else self.own_scale
        segment = Segment(
            self.local,
            self.remote,
            number,
            self.recv_next if flags & ACK else 0,
            flags,
            min(65_535, self.can.window >> scale),
            options,
            payload,
            self.mac,
            self.remote_mac,
            ttl=self.can.ttl,
            ip_id=(self.can.ip_id + self.sent) & 0xFFFF if self.can.ip_id and not flags & SYN else 0,
        )
        self.sent += not flags & SYN
        self.emit.append(segment)

    def _reset_for(self, segment: Segment) -> Segment:
        number = segment.ack if segment.flags & ACK else 0
        reset = replace(segment, src=segment.dst, dst=segment.src, seq=number, flags=RST | ACK, options=TcpOptions())
        ack = seq.add(segment.seq, segment.length)
        return replace(reset, ack=ack, payload=b"", eth_src=self.mac, eth_dst=segment.eth_src)

    def drain(self) -> Iterator[Segment]:
        """Yield and forget what was sent since the last call."""
        sent, self.emit = self.emit, []
        yield from sent
