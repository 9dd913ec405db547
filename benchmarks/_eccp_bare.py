# SPDX-License-Identifier: Apache-2.0
"""A tunnel that only moves bytes, with the same devices and system calls: the most that Python can reach here.

``python -m benchmarks._eccp_bare INNER/PREFIX OWN PEER`` runs one end.  No headers, keys or checks: a frame's 10 bytes
of virtio_net_hdr go first in the first segment of a UDP batch, and the receiver takes a batch for a frame.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from ipaddress import ip_interface

from controller.eccp.transport.tun import FRAME_SIZE, Tun
from controller.eccp.transport.udp import BUFFER_BYTES, SO_RCVBUFFORCE, SO_SNDBUFFORCE, UDP_GRO, UDP_SEGMENT

PORT, SEGMENT, BURST = 4600, 1400, 16


def forward(inner: str, own: str, peer: str) -> None:
    """For ever."""
    tun = Tun("bare")
    tun.configure([ip_interface(inner)])
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
        udp.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    udp.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    udp.bind((own, PORT))
    buffer = memoryview(bytearray(FRAME_SIZE))
    control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", SEGMENT))]
    poll = select.epoll()
    for descriptor in (tun.fd, udp.fileno()):
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for ready, _ in poll.poll():
            for _ in range(BURST):
                try:
                    if ready == tun.fd:
                        frame = os.read(tun.fd, FRAME_SIZE)
                        udp.sendmsg([frame], control if len(frame) > SEGMENT else [], 0, (peer, PORT))
                    else:
                        os.write(tun.fd, buffer[: udp.recv_into(buffer)])
                except BlockingIOError:
                    break


if __name__ == "__main__":
    forward(*sys.argv[1:4])
