# SPDX-License-Identifier: Apache-2.0
"""The few OpenFlow 1.3 messages that show when a flow mod takes effect, with as little time between them as possible.

`ovs-ofctl` ends a process after each message, which takes longer than what is looked for here.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

VERSION = 4
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, PACKET_OUT, FLOW_MOD, BARRIER_REQUEST, BARRIER_REPLY = (
    0,
    1,
    2,
    3,
    13,
    14,
    20,
    21,
)
ADD, MODIFY_STRICT, DELETE_STRICT = 0, 2, 4
ANY = 0xFFFFFFFF
IN_PORT_CONTROLLER = 0xFFFFFFFD
HEADER = struct.Struct("!BBHI")
PORT_FIELDS = {6: (13, 14), 17: (15, 16)}  # IP protocol -> OXM numbers of source and destination port


@dataclass(frozen=True)
class Connection:
    """One direction of a TCP (6) or UDP (17) connection over IPv4."""

    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int

    def oxm(self) -> bytes:
        """Return the match fields that select exactly this."""
        ports = PORT_FIELDS[self.protocol]
        fields = [
            (5, struct.pack("!H", 0x0800)),
            (10, bytes([self.protocol])),
            (11, ipaddress.ip_address(self.source).packed),
            (12, ipaddress.ip_address(self.destination).packed),
            (ports[0], struct.pack("!H", self.source_port)),
            (ports[1], struct.pack("!H", self.destination_port)),
        ]
        return b"".join(struct.pack("!HBB", 0x8000, number << 1, len(value)) + value for number, value in fields)


def pad(data: bytes) -> bytes:
    """Fill up to a multiple of 8 bytes."""
    return data + b"\0" * (-len(data) % 8)


def output(port: int) -> bytes:
    """Return an output action."""
    return struct.pack("!HHIH6x", 0, 16, port, 0)


def match(connection: Connection) -> bytes:
    """Return an OXM match."""
    fields = connection.oxm()
    return pad(struct.pack("!HH", 1, 4 + len(fields)) + fields)


class OpenFlowClient:
    """A controller that connects to a bridge's own socket, RUN/BRIDGE.mgmt."""

    def __init__(self, run_dir: Path, bridge: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(30)
        self.socket.connect(str(run_dir / f"{bridge}.mgmt"))
        self.xid = 0
        self.buffer = b""
        self._send(HELLO)

    def __enter__(self) -> OpenFlowClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _message(self, kind: int, body: bytes = b"") -> bytes:
        self.xid += 1
        return HEADER.pack(VERSION, kind, HEADER.size + len(body), self.xid) + body

    def _send(self, kind: int, body: bytes = b"") -> None:
        self.socket.sendall(self._message(kind, body))

    def _exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the switch has closed the OpenFlow connection")
            self.buffer += data
        piece, self.buffer = self.buffer[:size], self.buffer[size:]
        return piece

    def flow_mod(self, command: int, connection: Connection, priority: int, port: int) -> bytes:
        """Return a flow mod that brings the connection to `port`."""
        actions = output(port)
        instructions = struct.pack("!HH4x", 4, 8 + len(actions)) + actions
        fixed = struct.pack("!QQBBHHHIIIHH", 0, 0, 0, command, 0, 0, priority, ANY, ANY, ANY, 0, 0)
        return self._message(FLOW_MOD, fixed + match(connection) + instructions)

    def packet_out(self, frame: bytes, port: int) -> bytes:
        """Return a packet-out of `frame` to `port`."""
        actions = output(port)
        fixed = struct.pack("!IIH6x", ANY, IN_PORT_CONTROLLER, len(actions))
        return self._message(PACKET_OUT, fixed + actions + frame)

    def commit(self, *messages: bytes) -> None:
        """Send messages and a barrier request at once; return when the barrier reply is there."""
        barrier = self._message(BARRIER_REQUEST)
        self.socket.sendall(b"".join(messages) + barrier)
        while True:
            _, kind, size, xid = HEADER.unpack(self._exactly(HEADER.size))
            body = self._exactly(size - HEADER.size)
            if kind == ERROR:
                raise RuntimeError(f"OpenFlow error {struct.unpack('!HH', body[:4])}")
            if kind == ECHO_REQUEST:
                self._send(ECHO_REPLY, body)
            if kind == BARRIER_REPLY and xid == self.xid:
                return
