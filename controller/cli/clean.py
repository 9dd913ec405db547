# SPDX-License-Identifier: Apache-2.0
"""Finds and removes what crashed runs left: networks by their mark, named namespaces by the process in their name.

Networks (processes and run directories) are looked after by ``testbed.leftovers``, run as a command. A namespace is
ours if its name is ``baton-`` or ``eccp-`` and somewhere the id of the process that made it; it goes only when that
process has gone and nothing runs inside. Nothing is ever ended by its name.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

from controller.config import run_dir
from controller.sockets.unix import is_used

NAMESPACES = Path("/run/netns")
OURS = re.compile(r"(?:baton|eccp)\D*(\d+)")


def find_leftovers(repository: Path) -> list[str]:
    """Return a line for each thing that an earlier run left."""
    return [
        *_networks(repository, remove=False),
        *(f"network namespace {name}" for name in orphaned_namespaces()),
        *(f"socket {path}" for path in stale_sockets()),
    ]


def remove_leftovers(repository: Path) -> list[str]:
    """Remove them; return what could not be removed."""
    _networks(repository, remove=True)
    for name in orphaned_namespaces():
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    for path in stale_sockets():
        path.unlink(missing_ok=True)
    return find_leftovers(repository)


def _networks(repository: Path, *, remove: bool) -> list[str]:
    """Ask the networks' own cleaner; it prints a line for each thing that is left."""
    command = [sys.executable, "-m", "testbed.leftovers", *(["--remove"] if remove else [])]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode not in (0, 1) or done.stderr:
        return [f"the networks of {repository}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}"]
    return done.stdout.splitlines()


def orphaned_namespaces() -> list[str]:
    """Return named network namespaces of ours whose maker is gone and in which no process runs."""
    found = []
    for name in sorted(os.listdir(NAMESPACES)) if NAMESPACES.is_dir() else []:
        maker = OURS.match(name)
        if maker and not Path(f"/proc/{maker.group(1)}").exists() and not _is_inhabited(NAMESPACES / name):
            found.append(name)
    return found


def _is_inhabited(namespace: Path) -> bool:
    """Tell whether a process runs in a namespace; unknown counts as yes."""
    try:
        wanted = namespace.stat()
    except OSError:
        return True
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                inside = os.stat(f"/proc/{entry.name}/ns/net")
            except OSError:
                continue
            if (inside.st_dev, inside.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def stale_sockets() -> list[Path]:
    """Return the sockets in the run directory that nobody listens on, if no controller holds its lock."""
    try:
        lock = os.open(run_dir() / "openflow.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return sorted(path for path in run_dir().iterdir() if path.is_socket() and not is_used(path))
    except OSError:
        return []
    finally:
        os.close(lock)
