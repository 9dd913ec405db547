# SPDX-License-Identifier: Apache-2.0
"""UDP sockets bound to one local address each, with segmentation offload both ways and fragmentation forbidden."""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
import struct
from enum import Enum

from controller.eccp.errors import ConfigError
from controller.eccp.outputs import Datagram
from controller.wire.eccp import Address

UDP_SEGMENT, UDP_GRO = 103, 104
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
BUFFER_BYTES = 8 << 20
RECEIVE_SIZE = 1 << 16
ANCILLARY = socket.CMSG_SPACE(4)
_SEGMENT = struct.Struct("=H")
_GRO = struct.Struct("=i")


class SendResult(Enum):
    """What became of a send."""

    SENT = "sent"
    TOO_BIG = "too-big"  # above the path MTU: smaller inner packets are needed
    FAILED = "failed"  # no route, interface down, buffer full: as if lost


class UdpSocket:
    """One bound socket; ``own`` is the address that the protocol knows it by."""

    def __init__(self, host: str, port: int, interface: str | None = None) -> None:
        """Bind to ``host`` (and to ``interface``, so that packets leave there).  Raises `ConfigError`."""
        is_v6 = ipaddress.ip_address(host).version == 6
        self._socket = socket.socket(
            socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        try:
            if interface:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
                try:
                    self._socket.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
                except OSError:
                    self._socket.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
            if is_v6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
            self._socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            where = f"{host} port {port}" + (f" on {interface}" if interface else "")
            raise ConfigError(f"cannot listen at {where}: {error.strerror}") from error
        self.own = Address(host, self._socket.getsockname()[1])
        self.interface = interface
        self.buffer = memoryview(bytearray(RECEIVE_SIZE))
        self._last_source: tuple[object, Address] = (None, self.own)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def receive(self) -> tuple[memoryview, int, Address] | None:
        """Bytes (valid until the next call), segment size (0: one datagram) and source; None when nothing waits."""
        try:
            size, ancillary, _, name = self._socket.recvmsg_into([self.buffer], ANCILLARY)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:  # a pending ICMP error: reported once, then the socket works on
            return self.buffer[:0], 0, self.own
        segment = 0
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                segment = _GRO.unpack_from(data)[0]
        known, source = self._last_source
        if name != known:
            source = Address(name[0].partition("%")[0], name[1])
            self._last_source = name, source
        return self.buffer[:size], segment, source

    def send(self, datagram: Datagram) -> SendResult:
        """Send a datagram or a batch of equal segments."""
        control = []
        if datagram.segment:
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT.pack(datagram.segment))]
        for _ in range(2):
            try:
                self._socket.sendmsg(datagram.parts, control, 0, datagram.to)
                return SendResult.SENT
            except BlockingIOError:
                select.select([], [self._socket], [], 0.05)  # the interface's queue is full: wait for it, briefly
            except OSError as error:
                big = error.errno == errno.EMSGSIZE or (error.errno == errno.EINVAL and datagram.segment)
                return SendResult.TOO_BIG if big else SendResult.FAILED
        return SendResult.FAILED

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
