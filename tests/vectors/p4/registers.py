# SPDX-License-Identifier: Apache-2.0
"""Register cells of a running bmv2, through its Thrift service `standard` (P4Runtime cannot read them).

Only `bm_register_read_all` is needed: one call of the Thrift binary protocol, written out.
Cells wider than 64 bits come back truncated by bmv2, so such registers cannot be recorded.
"""

from __future__ import annotations

import socket
import struct

CALL = 0x80010001
STOP, I32, STRING, I64, LIST = 0, 8, 11, 10, 15


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the switch closed its Thrift connection")
        data += part
    return data


def read_all(connection: socket.socket, register: str) -> list[int]:
    """All cells of a register array, as unsigned numbers. Raises LookupError when the switch knows no such array."""
    method, name = b"standard:bm_register_read_all", register.encode()
    request = struct.pack(">Ii", CALL, len(method)) + method + struct.pack(">i", 1)
    request += struct.pack(">Bhi", I32, 1, 0)
    request += struct.pack(">Bhi", STRING, 2, len(name)) + name
    connection.sendall(request + struct.pack(">B", STOP))
    _, length = struct.unpack(">Ii", _receive(connection, 8))
    _receive(connection, length + 4)
    kind, number = struct.unpack(">Bh", _receive(connection, 3))
    if (kind, number) != (LIST, 0):
        raise LookupError(f"the switch refuses to read register {register}")
    _, count = struct.unpack(">Bi", _receive(connection, 5))
    cells = struct.unpack(f">{count}Q", _receive(connection, 8 * count))
    _receive(connection, 1)
    return list(cells)
