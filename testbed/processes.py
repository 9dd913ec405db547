# SPDX-License-Identifier: Apache-2.0
"""Processes that leave nothing behind: every one carries its network's mark, and a reaper outlives their owner.

Whatever a network starts has ``BATON_NET=<mark>`` in its environment, children of children included. Ending the network
is killing what carries the mark and removing its run directory, nothing else: two networks never touch each other. The
reaper, a process of its own, does the same when the owner could not (SIGKILL, a crash, an interrupt at a bad moment).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

MARK = "BATON_NET"
"""Environment variable that every process of a network carries: its value tells whose it is."""


class TopoError(Exception):
    """The network cannot be set up or used; the text says why and what to do."""


class Stopped(BaseException):
    """A signal other than SIGINT asked us to end; not an Exception, so that nobody swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def tail(path: Path, lines: int = 8) -> str:
    """Return the last lines of a text file, indented; nothing where it cannot be read."""
    try:
        return "\n".join(f"    {line}" for line in path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def new_mark() -> str:
    """Return a mark for a network of this process: its id, when it began (ids are used again), and a random part."""
    return f"{os.getpid()}.{_began(os.getpid())}.{secrets.token_hex(4)}"


def owner_lives(mark: str) -> bool:
    """Tell whether the process that made a network still runs."""
    pid, began, *_ = (*mark.split("."), "", "")
    return pid.isdigit() and _began(int(pid)) == began


def _began(pid: int) -> str:
    """Return when a process began (field 22 of /proc/PID/stat, clock ticks since boot); empty for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def marked_processes(mark: str) -> list[int]:
    """Return the ids of all running processes that carry ``MARK=mark`` (zombies have no environment left)."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def kill_marked(mark: str, timeout: float = 10.0) -> bool:
    """Kill every process that carries the mark, until there is none; tell whether that came true in time."""
    deadline = time.monotonic() + timeout
    while pids := marked_processes(mark):
        if time.monotonic() > deadline:
            return False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return True


def wait_for(what: str, ready: Callable[[], Any], timeout: float = 10.0, alive: Callable[[], Any] | None = None) -> Any:
    """Poll until ``ready()`` is true and return its value; TopoError when time is up or ``alive()`` is false."""
    deadline = time.monotonic() + timeout
    while not (value := ready()):
        if alive is not None and not alive():
            raise TopoError(f"{what}: the process ended")
        if time.monotonic() > deadline:
            raise TopoError(f"{what}: not ready after {timeout:g} s")
        time.sleep(0.005)
    return value


def lock_run_dir(run_dir: Path) -> int | None:
    """Take the run directory's lock and return its descriptor; None while another network holds it."""
    while True:
        lock = os.open(run_dir / "topo.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == (run_dir / "topo.lock").stat().st_ino:
                return lock
        except FileNotFoundError:
            pass  # its holder has just removed it: take the next one
        except OSError:
            os.close(lock)
            return None
        os.close(lock)


def clear_run_dir(run_dir: Path, everything: bool) -> None:
    """Remove what a network puts into its run directory (the lock must be held), or the directory as a whole."""
    if everything:
        shutil.rmtree(run_dir, ignore_errors=True)
        return
    for path in run_dir.glob("*"):
        if path.is_socket() and not _is_used(path):  # of a controller or analyser that was killed with the network
            path.unlink(missing_ok=True)
    for name in ("s1", "p4sync", "topo.json", "topo.lock"):
        path = run_dir / name
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with contextlib.suppress(OSError):
        run_dir.rmdir()  # only where nobody else keeps something there


def _is_used(path: Path) -> bool:
    """Tell whether a living process listens on the socket at ``path``: a controller may have been started elsewhere."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN, errno.EPROTOTYPE)


def reap(mark: str, run_dir: Path, everything: bool) -> None:
    """Wait until stdin ends (the network's owner is gone, however it went), then remove what the network left.

    Runs as a process of its own, started before anything else is made, deaf to signals.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    kill_marked(mark)
    if everything:
        clear_run_dir(run_dir, everything)  # its name is the mark: nobody else's
    elif _holds(run_dir, mark) and (lock := lock_run_dir(run_dir)) is not None:
        if _holds(run_dir, mark):  # still: between the two another network may have begun
            clear_run_dir(run_dir, everything)
        os.close(lock)


def _holds(run_dir: Path, mark: str) -> bool:
    """Tell whether a run directory is that of the network with this mark."""
    try:
        return bool(json.loads((run_dir / "topo.json").read_text())["mark"] == mark)
    except (OSError, ValueError, KeyError):
        return False


def start_reaper(mark: str, run_dir: Path, everything: bool) -> subprocess.Popen[bytes]:
    """Start the reaper of a network; it acts when its standard input is closed, by us or by our end."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), mark, str(run_dir), str(everything)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


@contextlib.contextmanager
def quiet_signals() -> Iterator[None]:
    """Hold SIGINT, SIGTERM and SIGHUP off while a clean-up runs (in the main thread; elsewhere nothing to do)."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_on_signals() -> None:
    """Make SIGTERM and SIGHUP unwind the program as SIGINT does."""

    def unwind(number: int, _frame: object) -> NoReturn:
        raise Stopped(number)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, unwind)
    signal.signal(signal.SIGHUP, unwind)


def guarded(program: str, run: Callable[[], int]) -> int:
    """Run a program and turn whatever ends it early into one clear line and an exit code."""
    try:
        stop_on_signals()
        return run()
    except TopoError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; everything it had started is stopped and removed", file=sys.stderr)
        return 130
    except Stopped as error:
        print(f"\n{program}: ended by {error}; everything it had started is stopped and removed", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    reap(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "True")
