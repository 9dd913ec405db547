# SPDX-License-Identifier: Apache-2.0
"""Switch ports: Linux interfaces through raw packet sockets.

The kernel takes VLAN tags out of received frames and hands them over beside them; they are put back.
"""

from __future__ import annotations

import contextlib
import socket
import struct

SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 1, 8, 23
PACKET_MR_PROMISC = 1
ETH_P_ALL = 3
TP_STATUS_VLAN_VALID = 1 << 4
AUXDATA = struct.Struct("=IIIHHHH")
FRAME = 65_536
BUFFER = 4 << 20
"""Bytes that may wait in the kernel for each direction of a port."""


class PortError(Exception):
    """An interface cannot be used; the message says which and why."""


class Port:
    """One port."""

    def __init__(self, number: int, interface: str) -> None:
        """Raises PortError."""
        self.number = number
        self.interface = interface
        self.lost = 0
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise PortError("raw sockets need root (CAP_NET_RAW)") from None
        try:
            self._prepare()
        except OSError as fault:
            self._socket.close()
            raise PortError(f"port {number}: interface {interface}: {fault.strerror}") from None

    def _prepare(self) -> None:
        index = socket.if_nametoindex(self.interface)
        raw = self._socket
        raw.setblocking(False)
        with contextlib.suppress(OSError):  # kernels before 4.20; frames sent here are then told by their type
            raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        raw.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
        for forced, plain in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            try:
                raw.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
            except OSError:
                raw.setsockopt(socket.SOL_SOCKET, plain, BUFFER)
        raw.bind((self.interface, ETH_P_ALL))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> bytes | None:
        """The next frame; None: there is none. An interface that is down has none."""
        try:
            frame, ancillary, _, address = self._socket.recvmsg(FRAME, 64)
        except BlockingIOError:
            return None
        except OSError:
            self.lost += 1
            return None
        if address[2] == socket.PACKET_OUTGOING:
            return self.receive()
        for level, kind, data in ancillary:
            if level == SOL_PACKET and kind == PACKET_AUXDATA and len(data) >= AUXDATA.size:
                status, _, _, _, _, tag, protocol = AUXDATA.unpack_from(data)
                if status & TP_STATUS_VLAN_VALID:
                    return frame[:12] + struct.pack(">HH", protocol or 0x8100, tag) + frame[12:]
        return frame

    def send(self, frame: bytes) -> None:
        """Send a frame. One that does not fit the interface, or its full queue, is lost and counted."""
        try:
            self._socket.send(frame)
        except OSError:
            self.lost += 1
