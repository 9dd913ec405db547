# SPDX-License-Identifier: Apache-2.0
"""Finds what networks left whose owner and whose reaper were both killed: ``python -m testbed.leftovers [--remove]``.

Only processes that carry a network's mark and run directories that hold one are looked at, and only where the process
that made them is gone. Exit code: 0 nothing is left (any more), 1 something is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from testbed.processes import MARK, clear_run_dir, kill_marked, lock_run_dir, owner_lives

RUN_DIRS = ("/run/baton", "/run/baton-*")


def orphaned_processes() -> dict[int, str]:
    """Return the ids of processes that belong to no living network, with their marks."""
    found = {}
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if not entry.name.isdigit():
                continue
            for word in Path(entry.path, "environ").read_bytes().split(b"\0"):
                name, _, mark = word.decode("utf-8", "replace").partition("=")
                if name == MARK and not owner_lives(mark):
                    found[int(entry.name)] = mark
    return found


def orphaned_run_dirs() -> dict[Path, bool]:
    """Return the run directories of networks that are gone; true for those made for one network alone."""
    chosen = os.environ.get("BATON_RUN_DIR")
    candidates = [path for pattern in RUN_DIRS for path in Path("/").glob(pattern[1:])]
    found = {}
    for path in [*candidates, *([Path(chosen)] if chosen else [])]:
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = json.loads((path / "topo.json").read_text())
            if not owner_lives(state["mark"]):
                found[path] = bool(state["private"])
    return found


def remove() -> None:
    """Kill the orphaned processes and remove the orphaned run directories."""
    for mark in set(orphaned_processes().values()):
        kill_marked(mark)
    for path, everything in orphaned_run_dirs().items():
        lock = lock_run_dir(path)
        if lock is not None:
            clear_run_dir(path, everything)
            os.close(lock)


def main() -> int:
    """List what is left, or remove it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testbed.leftovers", description=__doc__.partition("\n")[0])
    parser.add_argument("--remove", action="store_true", help="end and remove what is found")
    if parser.parse_args().remove:
        remove()
    processes, directories = orphaned_processes(), orphaned_run_dirs()
    for pid, mark in processes.items():
        print(f"process {pid} of network {mark}, whose owner is gone")
    for path in directories:
        print(f"run directory {path} of a network that is gone")
    return 1 if processes or directories else 0


if __name__ == "__main__":
    sys.exit(main())
