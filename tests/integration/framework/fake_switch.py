# SPDX-License-Identifier: Apache-2.0
"""A switch made of one socket: the OpenFlow 1.4 handshake, barriers, and errors on demand."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, FEATURES_REQUEST, FEATURES_REPLY = 0, 1, 2, 3, 5, 6
PACKET_IN, FLOW_MOD, MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY = 10, 14, 18, 19, 20, 21
BUNDLE_ADD = 34
PORT_DESCRIPTION = 13
TIMEOUT = 30


def message(kind, xid, body=b""):
    return struct.pack("!BBHI", 5, kind, 8 + len(body), xid) + body


class FakeSwitch:
    """Connects, does the handshake in a thread of its own, keeps what it received as (type, xid, message)."""

    def __init__(self, address, dpid=0xB1, refuse=()):
        self.dpid = dpid
        self.refuse = set(refuse)
        self.received = []
        self.changed = threading.Condition()
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(address)
        self.socket.sendall(message(HELLO, 1))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(TIMEOUT)
        self.socket.close()

    def packet_in(self, port, frame, cookie=0):
        self.packets_in(port, [frame], cookie)

    def packets_in(self, port, frames, cookie=0):
        """Send packet-ins in one write."""
        match = struct.pack("!HHHBBI4x", 1, 12, 0x8000, 0, 4, port)
        heads = [struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 0, 0, cookie) for frame in frames]
        pairs = zip(heads, frames, strict=True)
        self.socket.sendall(b"".join(message(PACKET_IN, 0, head + match + bytes(2) + frame) for head, frame in pairs))

    def wait_for(self, kind, count=1):
        """Wait until so many messages of a kind have come; return them."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self._of(kind)) >= count, TIMEOUT), f"no message of type {kind}"
            return self._of(kind)

    def _of(self, kind):
        return [entry for entry in self.received if entry[0] == kind]

    def _run(self):
        buffer = b""
        while True:
            try:
                piece = self.socket.recv(65_536)
            except OSError:
                return
            if not piece:
                return
            buffer += piece
            while len(buffer) >= 8 and len(buffer) >= int.from_bytes(buffer[2:4]):
                length = int.from_bytes(buffer[2:4])
                self._take(buffer[:length])
                buffer = buffer[length:]

    def _take(self, data):
        kind, xid = data[1], int.from_bytes(data[4:8])
        reply = None
        if kind in self.refuse:
            reply = message(ERROR, xid, struct.pack("!HH", 2, 2) + data[:64])  # bad action, bad experimenter
        elif kind == FEATURES_REQUEST:
            reply = message(FEATURES_REPLY, xid, struct.pack("!QIBB2xII", self.dpid, 0, 254, 0, 0, 0))
        elif kind == MULTIPART_REQUEST and int.from_bytes(data[8:10]) == PORT_DESCRIPTION:
            ports = b"".join(
                struct.pack("!IH2x6s2x16sII", number, 40, bytes(6), name, 0, 0)
                for number, name in ((1, b"h1-eth0"), (4, b"ids0"), (0xFFFFFFFE, b"s1"))
            )
            reply = message(MULTIPART_REPLY, xid, struct.pack("!HH4x", PORT_DESCRIPTION, 0) + ports)
        elif kind == BARRIER_REQUEST:
            reply = message(BARRIER_REPLY, xid)
        elif kind == ECHO_REQUEST:
            reply = message(ECHO_REPLY, xid, data[8:])
        if reply:
            with contextlib.suppress(OSError):  # the controller has gone
                self.socket.sendall(reply)
        with self.changed:
            self.received.append((kind, xid, data))
            self.changed.notify_all()
