# SPDX-License-Identifier: Apache-2.0
"""The way to a switch's gRPC server: a private Unix socket, or TLS with client certificates; nothing else.

Reads show session keys to whoever may connect (bmv2 asks no arbitration for them).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import grpc

from controller.p4sync.errors import SettingsError, SwitchError

OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files for TLS: the authority that the server's certificate is checked with, our key and certificate."""

    authority: Path
    key: Path
    certificate: Path


def check_socket(address: str) -> None:
    """See that a Unix socket, if it is there already, is its owner's alone; raises SwitchError with the mend."""
    if not address.startswith("unix:"):
        return
    path = Path(address.removeprefix("unix:"))
    try:
        own, folder = path.stat(), path.parent.stat()
    except OSError:
        return  # not started yet: the connection will tell
    shared = stat.S_IRWXG | stat.S_IRWXO
    if own.st_mode & shared and folder.st_mode & shared:
        raise SwitchError(
            f"{path}: others can connect to this switch and read session keys; `chmod 600 {path}`,"
            " or keep it in a directory of mode 0700"
        )
    if own.st_uid not in (os.geteuid(), 0):
        raise SwitchError(f"{path} belongs to another user; is this the right switch?")


def open_channel(address: str, certificates: Certificates | None) -> grpc.aio.Channel:
    """Return a channel; raises SettingsError where the address is neither private nor protected by TLS."""
    if address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    if certificates is None:
        raise SettingsError(
            f"{address}: an unprotected connection shows session keys; use unix:PATH, or give [tls] with"
            " authority, key and certificate"
        )
    parts = []
    for path in (certificates.authority, certificates.key, certificates.certificate):
        try:
            parts.append(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; [tls] needs authority, key and certificate") from error
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*parts), options=OPTIONS)
