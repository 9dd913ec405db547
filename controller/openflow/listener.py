# SPDX-License-Identifier: Apache-2.0
"""Where switches reach the controller: TCP as the framework does, and a Unix socket in the private run directory.

A pathname socket crosses network namespaces, so a switch in a namespace of its own needs no link to the controller.
A lock file beside the socket tells a live controller from a crashed one: the lock of a dead process is gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Any

from controller.core.errors import BatonError
from controller.openflow.framework import CONF, hub, openflow_controller
from controller.openflow.threads import spawn

SOCKET_NAME = "openflow.sock"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 6653


class ListenError(BatonError):
    """The controller cannot listen; the text says why and the mend."""


class Listener:
    """The Unix socket ``RUN/openflow.sock``: claimed by one controller at a time, mode 0600."""

    def __init__(self, directory: Path) -> None:
        """Claim the directory and listen; raises ListenError when another controller has it or it cannot be used."""
        self.path = directory / SOCKET_NAME
        self._lock = _claim(directory / "openflow.lock")
        try:
            _remove_stale(self.path)
            self._socket = hub.listen(str(self.path), family=socket.AF_UNIX, reuse_port=False)
            self.path.chmod(0o600)
        except OSError as error:
            os.close(self._lock)
            raise ListenError(f"cannot listen on {self.path}: {error.strerror or error}") from error

    def start(self) -> None:
        """Accept switches in the background."""
        spawn(self._accept)

    def close(self) -> None:
        """Stop listening, remove the socket, give up the claim."""
        self._socket.close()
        self.path.unlink(missing_ok=True)
        os.close(self._lock)

    def _accept(self) -> None:
        """Hand each connection to the framework, as its own listener does."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            spawn(openflow_controller.datapath_connection_factory, UnixStream(connection), f"unix:{self.path}")


RECEIVE = 65_536
"""Bytes taken from the switch at once."""


class UnixStream:
    """A connected Unix socket that takes TCP options with a smile: the framework sets TCP_NODELAY on all it serves."""

    def __init__(self, connection: Any) -> None:
        """Wrap a connected socket."""
        self._connection = connection
        self.sendall = connection.sendall

    def recv(self, size: int) -> bytes:
        """Return whatever has come, however little is asked for.

        The framework asks for 8 bytes, then for the rest of that message, and copes with more: two system calls for
        each message become one for each burst.
        """
        data: bytes = self._connection.recv(max(size, RECEIVE))
        return data

    def setsockopt(self, level: int, *rest: Any) -> None:
        """Set an option unless it is one of TCP."""
        if level != socket.IPPROTO_TCP:
            self._connection.setsockopt(level, *rest)

    def __getattr__(self, name: str) -> Any:
        """Leave the rest to the socket."""
        return getattr(self._connection, name)


def mend_disconnection() -> None:
    """Let OS-Ken notice that a switch has gone.

    With native threads it waits for its sending thread, which waits for something to send: no state change is ever
    reported, and a thread is lost with each reconnection. A last empty message ends that thread.
    """
    datapath = openflow_controller.Datapath
    if hub.__name__ != "os_ken.lib.hub" or not hasattr(hub, "HubThread") or hasattr(datapath, "ends_sending"):
        return
    receive = datapath._recv_loop

    def _recv_loop(self: Any) -> None:
        try:
            receive(self)
        finally:
            self.send(b"", close_socket=True)

    datapath._recv_loop = _recv_loop
    datapath.ends_sending = True


def prepare_tcp() -> None:
    """Make the framework listen on 127.0.0.1:6653 unless its options say otherwise, after a look whether that is free.

    The framework's default is every interface, without authentication; and it shares a port in use (SO_REUSEPORT),
    so that two controllers would each get some of the switches. Raises ListenError when the port is taken.
    """
    CONF.set_default("ofp_listen_host", DEFAULT_HOST)
    if not CONF.ofp_tcp_listen_port and not CONF.ofp_ssl_listen_port:
        CONF.set_default("ofp_tcp_listen_port", DEFAULT_PORT)
        CONF.set_default("ofp_ssl_listen_port", DEFAULT_PORT)
    if CONF.ofp_tcp_listen_port:
        check_port(CONF.ofp_listen_host, CONF.ofp_tcp_listen_port)


def check_port(host: str, port: int) -> None:
    """Raise ListenError if a TCP port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ListenError(
                    f"TCP port {port} is in use, probably by another controller: stop it ('ss -ltnp sport = :{port}' "
                    f"shows its process), or choose another port with --ofp-tcp-listen-port"
                ) from error
            raise ListenError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose an address of this machine with "
                f"--ofp-listen-host"
            ) from error


def _claim(path: Path) -> int:
    """Lock the file and write the process id into it; raises ListenError when a live process has it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ListenError(f"cannot open {path}: {error.strerror}; is BATON_RUN_DIR a directory of yours?") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise ListenError(
            f"a controller (process {holder}) is running already with {path.parent}: stop it, or give this one a "
            f"directory of its own with BATON_RUN_DIR"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _remove_stale(path: Path) -> None:
    """Remove the socket that a crashed controller left; raises ListenError when the path is something else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} is in the way and not a socket: move it away")
    path.unlink()
