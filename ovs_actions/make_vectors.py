#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Let a real ovs-ofctl encode each of our actions and write the bytes to vectors.json.

    make_vectors.py [--ofctl PATH] [--check] [FILE]

ovs-ofctl has no command that prints what it encodes, so this program is the switch that it talks to: it
answers the OpenFlow handshake on a Unix socket and keeps the flow-mod.  With --check nothing is written; the
exit status says whether FILE (default: vectors.json beside this program) is what ovs-ofctl encodes now.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT_OFCTL = HERE.parent / "build" / "ovs" / "bin" / "ovs-ofctl"

HELLO, FLOW_MOD = 0, 14
BARRIER_REQUEST = {1: 18}  # 20 from OpenFlow 1.1 on
VERSIONS = {
    "OpenFlow10": 1,
    "OpenFlow11": 2,
    "OpenFlow12": 3,
    "OpenFlow13": 4,
    "OpenFlow14": 5,
    "OpenFlow15": 6,
}
# Where the actions begin in an OpenFlow 1.0 flow-mod; later ones have them in an instruction.
OF10_ACTIONS_OFFSET = 72

UINT32 = (0, 1, 1234, 0x12345678, 0x80000000, 0xFFFFFFFF)
UINT16 = (0, 1, 500, 0x1234, 0xFFFF)
SHIFT = (-14, -3, -1, 0, 1, 7, 14)
ACTIONS: dict[str, tuple[int, tuple[int, ...]]] = {
    "inc_tcp_seq": (80, UINT32),
    "dec_tcp_seq": (81, UINT32),
    "inc_tcp_ack": (82, UINT32),
    "dec_tcp_ack": (83, UINT32),
    "inc_tcp_tsval": (84, UINT32),
    "inc_tcp_tsecr": (85, UINT32),
    "shift_tcp_window": (86, SHIFT),
    "set_tcp_window": (87, UINT16),
    "inc_ip_id": (88, UINT16),
}


class VectorError(Exception):
    """ovs-ofctl did not do what was expected; the text says what."""


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise VectorError("ovs-ofctl closed the connection early")
        data += chunk
    return data


def serve_one_flow_mod(listener: socket.socket, version: int) -> bytes:
    """Return the flow-mod that the next client sends; answer its HELLO and its barrier."""
    connection, _ = listener.accept()
    connection.settimeout(10)
    flow_mod = b""
    with connection:
        connection.sendall(struct.pack("!BBHI", version, HELLO, 8, 0))
        while True:
            header = receive_exactly(connection, 8)
            _, kind, length, xid = struct.unpack("!BBHI", header)
            message = header + receive_exactly(connection, length - 8)
            if kind == FLOW_MOD:
                flow_mod = message
            elif kind == BARRIER_REQUEST.get(version, 20):
                connection.sendall(struct.pack("!BBHI", version, kind + 1, 8, xid))
                return flow_mod
            elif kind != HELLO:
                raise VectorError(f"unexpected message of type {kind} from ovs-ofctl")


def encode_actions(ofctl: Path, protocol: str, actions: str) -> bytes:
    """Return the bytes of the action list `actions` as `protocol` (e.g. "OpenFlow13") encodes it."""
    version = VERSIONS[protocol]
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = f"{directory}/switch"
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(10)
        command = [str(ofctl), "--no-names", "-O", protocol, "add-flow", f"unix:{path}", f"actions={actions}"]
        if version == 1:  # otherwise a Nicira flow-mod is sent
            command += ["-F", "OpenFlow10-table_id"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
            try:
                flow_mod = serve_one_flow_mod(listener, version)
            except (VectorError, OSError) as error:
                client.kill()
                complaint = client.communicate()[1].strip()
                raise VectorError(f"{protocol} {actions}: {error}: {complaint}") from error
            client.communicate(timeout=10)
    return flow_mod_actions(flow_mod, version)


def flow_mod_actions(flow_mod: bytes, version: int) -> bytes:
    if version == 1:
        return flow_mod[OF10_ACTIONS_OFFSET:]
    if version == 2:  # a fixed-size match
        offset = 48 + 88
    else:  # an OXM match, padded to 8 bytes
        match_length: int = struct.unpack_from("!H", flow_mod, 50)[0]
        offset = 48 + (match_length + 7) // 8 * 8
    instruction, length = struct.unpack_from("!HH", flow_mod, offset)
    if instruction != 4:
        raise VectorError(f"instruction {instruction} is not apply-actions")
    return flow_mod[offset + 8 : offset + length]


def make_vectors(ofctl: Path) -> dict[str, object]:
    vectors = []
    for name, (subtype, arguments) in ACTIONS.items():
        for argument in arguments:
            text = f"{name}:{argument}"
            encoded = {protocol: encode_actions(ofctl, protocol, text).hex() for protocol in VERSIONS}
            if len(set(encoded.values())) != 1:
                raise VectorError(f"{text} is not encoded alike in all versions: {encoded}")
            vectors.append(
                {
                    "action": name,
                    "subtype": subtype,
                    "argument": argument,
                    "text": text,
                    "hex": encoded["OpenFlow13"],
                }
            )
    listed = "inc_tcp_seq:1,dec_tcp_ack:2,shift_tcp_window:-3,set_tcp_window:0,inc_ip_id:5"
    return {
        "comment": "Made by make_vectors.py from what ovs-ofctl encodes; the same in OpenFlow 1.0 to 1.5.",
        "vendor": 0x2320,
        "versions": list(VERSIONS),
        "vectors": vectors,
        "lists": [{"text": listed, "hex": encode_actions(ofctl, "OpenFlow13", listed).hex()}],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=HERE / "vectors.json")
    parser.add_argument("--ofctl", type=Path, default=DEFAULT_OFCTL)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if not options.ofctl.exists():
        print(f"{options.ofctl} is not there: run ovs_actions/build.sh or use --ofctl", file=sys.stderr)
        return 1
    try:
        text = json.dumps(make_vectors(options.ofctl), indent=1) + "\n"
    except VectorError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    if options.check:
        if not options.file.exists() or options.file.read_text() != text:
            print(f"{options.file} is not what ovs-ofctl encodes: run make_vectors.py", file=sys.stderr)
            return 1
        return 0
    options.file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
