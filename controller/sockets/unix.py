# SPDX-License-Identifier: Apache-2.0
"""Unix sockets at a path: made over what a crash left behind, never over what somebody uses, gone when closed."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from controller.core.errors import ConfigError

LONGEST_PATH = 107
"""Bytes of a path that fit the kernel's `sockaddr_un`, its final zero left out."""


def bind_unix(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A socket of this kind bound to ``path``, for its owner only (mode 0600).

    A stale socket there is replaced. Raises ConfigError, with the mend, when the path is too long, taken by something
    else than a socket, listened on by a living process, or not ours to write.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ConfigError(f"{path}: a socket's path has at most {LONGEST_PATH} bytes; choose a shorter one")
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        _remove_stale(path, kind)
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {path}: {error.strerror}") from error
    except ConfigError:
        bound.close()
        raise
    return bound


def retire_unix(path: Path, kind: socket.SocketKind) -> None:
    """Wake whoever waits on the socket at ``path``, by a connection or an empty datagram, and remove the path.

    The reader closes its socket itself: a green thread is not woken when another one closes or shuts down what it
    waits on. Where the socket takes nothing more its reader has something to read, and so needs no waking.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as caller:
        caller.setblocking(False)
        caller.connect(str(path))
        if kind is socket.SOCK_DGRAM:
            caller.send(b"")
    with contextlib.suppress(OSError):
        path.unlink()


def is_used(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Tell whether a living process listens on the socket at ``path``, of whatever kind; it may see a connection."""
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN, errno.EPROTOTYPE)


def _remove_stale(path: Path, kind: socket.SocketKind) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} exists and is no socket; move it away or configure another path")
    if is_used(path, kind):
        raise ConfigError(f"{path} is in use by another process; stop that one or configure another path")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
