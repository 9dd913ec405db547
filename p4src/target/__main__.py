# SPDX-License-Identifier: Apache-2.0
r"""The target's command line; understands the options of `simple_switch_grpc` that this project uses.

python -m p4src.target [--json X.json --p4info X.p4info.txtpb] -i 1@veth1 -i 2@veth2 --grpc-server-addr ADDR \
    --cpu-port 255
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import grpc
from google.protobuf import text_format

from .device import Device
from .errors import RefusedError
from .messages import PipelineConfig
from .ports import Port, PortError
from .server import serve

SWITCH_INTERVAL = 0.001
"""Seconds after which a busy thread yields: at Python's 5 ms data plane and gRPC's threads wait for each other."""
SOCKET_MASK = 0o177
"""A Unix socket can be used by its owner alone: reads show session keys."""


class SetupError(Exception):
    """The target cannot start, or go on; the message says what to mend."""


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m p4src.target", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument(
        "-i", "--interface", action="append", default=[], metavar="PORT@INTERFACE", help="a switch port"
    )
    parser.add_argument("--json", type=Path, help="compiled program (default: a client pushes one)")
    parser.add_argument("--p4info", type=Path, help="its P4Info, in text form")
    parser.add_argument("--no-p4", action="store_true", help="start without a program")
    parser.add_argument(
        "--grpc-server-addr", default="127.0.0.1:9559", metavar="ADDRESS", help="host:port or unix:PATH"
    )
    parser.add_argument("--cpu-port", type=int, help="port of PacketIn and PacketOut (default: none)")
    parser.add_argument("--device-id", type=int, default=0)
    parser.add_argument("--grpc-server-ssl", action="store_true", help="TLS, with the three files that follow")
    parser.add_argument("--grpc-server-cacert", type=Path, help="certificate authority of the clients")
    parser.add_argument("--grpc-server-cert", type=Path)
    parser.add_argument("--grpc-server-key", type=Path)
    parser.add_argument("--grpc-server-with-client-auth", action="store_true", help="clients need a certificate")
    return parser.parse_args([word for word in words if word != "--"])


def open_ports(words: list[str]) -> list[Port]:
    """Ports from PORT@INTERFACE. Raises SetupError."""
    ports: dict[int, Port] = {}
    for word in words:
        number, _, interface = word.partition("@")
        if not number.isdigit() or not interface or int(number) > 510:
            raise SetupError(f"-i {word}: write PORT@INTERFACE, with a port from 0 to 510")
        if int(number) in ports:
            raise SetupError(f"-i {word}: port {number} is given twice")
        try:
            ports[int(number)] = Port(int(number), interface)
        except PortError as fault:
            raise SetupError(str(fault)) from None
    return list(ports.values())


def credentials(chosen: argparse.Namespace) -> grpc.ServerCredentials | None:
    """For TLS. Raises SetupError."""
    if not chosen.grpc_server_ssl:
        return None
    files = (chosen.grpc_server_key, chosen.grpc_server_cert)
    if None in files or (chosen.grpc_server_with_client_auth and not chosen.grpc_server_cacert):
        raise SetupError("--grpc-server-ssl needs --grpc-server-key and --grpc-server-cert (and a CA for client auth)")
    key, certificate = (_content(path) for path in files)
    authority = _content(chosen.grpc_server_cacert) if chosen.grpc_server_cacert else None
    return grpc.ssl_server_credentials(((key, certificate),), authority, chosen.grpc_server_with_client_auth)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise SetupError(f"{path}: {fault.strerror}") from None


def preload(device: Device, program: Path, info: Path | None) -> None:
    """Load a program before any client is there. Raises SetupError."""
    config = PipelineConfig()
    config.p4_device_config = _content(program)
    if info is not None:
        try:
            text_format.Parse(_content(info).decode(), config.p4info)
        except (text_format.ParseError, UnicodeDecodeError) as fault:
            raise SetupError(f"{info}: no P4Info in text form ({fault})") from None
    try:
        device.commit(device.verify(config))
    except RefusedError as fault:
        raise SetupError(f"{program}: {fault.message}") from None


def run(chosen: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT. Raises SetupError."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    ports = open_ports(chosen.interface)
    if chosen.cpu_port in [port.number for port in ports]:
        raise SetupError(f"--cpu-port {chosen.cpu_port} is a port with an interface, too: choose another number")
    device = Device(chosen.device_id, ports, chosen.cpu_port)
    if chosen.json and not chosen.no_p4:
        preload(device, chosen.json, chosen.p4info)
    certificates = credentials(chosen)
    if chosen.grpc_server_addr.startswith("unix:"):
        os.umask(SOCKET_MASK)
    device.dataplane.on_fault = done.set
    device.dataplane.start()
    try:
        server = serve(device, chosen.grpc_server_addr, certificates)
    except RuntimeError as fault:
        raise SetupError(f"--grpc-server-addr {chosen.grpc_server_addr}: cannot listen there ({fault})") from None
    done.wait()
    server.stop(grace=0.2).wait()
    device.dataplane.stop()
    for port in ports:
        port.close()
    defect = device.dataplane.fault
    if defect is not None:
        place = traceback.extract_tb(defect.__traceback__)[-1]
        raise SetupError(f"stopped by a defect of the target: {defect!r} in {place.name}, line {place.lineno}")


def main(words: list[str]) -> int:
    try:
        run(arguments(words))
    except SetupError as fault:
        print(f"p4src.target: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
