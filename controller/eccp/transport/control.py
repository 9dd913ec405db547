# SPDX-License-Identifier: Apache-2.0
"""The daemon's control socket: one JSON object a line each way, in the private run directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.eccp.errors import ConfigError

MAX_REQUEST = 1 << 16
MAX_REPLY = 1 << 28  # ten thousand connections take some megabytes
Reply = dict[str, Any]


def socket_path(run_dir: Path, name: str) -> Path:
    """Where the daemon ``name`` listens."""
    return run_dir / f"eccp-{name}.sock"


class ControlServer:
    """Accepts requests; each connection carries one request and gets one reply."""

    def __init__(self, path: Path, handle: Callable[[Reply], Reply]) -> None:
        """Listen at ``path``, in place of a daemon that died.  Raises `ConfigError` if one is alive."""
        if path.exists() and is_alive(path):
            raise ConfigError(
                f"a daemon already answers at {path}; `baton eccp down` ends it, or choose another --name"
            )
        path.unlink(missing_ok=True)
        self._path = path
        self._handle = handle
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"cannot listen at {path}: {error.strerror}") from error
        finally:
            os.umask(mask)
        self._socket.listen(16)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def serve(self) -> None:
        """Answer one waiting client; a broken or slow one is dropped."""
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:
            return
        with client:
            client.settimeout(0.5)
            try:
                request = json.loads(_read_line(client, MAX_REQUEST))
                reply = self._handle(request if isinstance(request, dict) else {})
            except (OSError, ValueError, RecursionError) as error:
                reply = {"error": f"not a request: {error}"}
            try:
                client.sendall(json.dumps(reply).encode() + b"\n")
            except OSError:
                return

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def ask(path: Path, request: Reply, timeout: float = 5.0) -> Reply:
    """Send one request to a daemon and return its reply.  Raises `ConfigError` if none answers or it refuses."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(client, MAX_REPLY))
    except (OSError, ValueError) as error:
        raise ConfigError(f"no daemon answers at {path} ({error}); start one with `baton eccp up`") from error
    if "error" in reply:
        raise ConfigError(str(reply["error"]))
    return dict(reply)


def is_alive(path: Path) -> bool:
    """Whether a daemon listens at this socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            client.connect(str(path))
            return True
    except OSError:
        return False


def _read_line(client: socket.socket, limit: int) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = client.recv(1 << 16)
        if not piece or len(data) > limit:
            raise ValueError("the line does not end")
        data += piece
    return bytes(data)
