# SPDX-License-Identifier: Apache-2.0
"""A wire between two network namespaces, an analyser at one end, and a listener for what it reports."""

import itertools
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

from controller.alerts.parser import AlertParser
from controller.wire.classification import decode_classifications

REPOSITORY = Path(__file__).resolve().parents[3]
RULES = REPOSITORY / "snort_rules"
DEADLINE = 60.0
NUMBERS = itertools.count()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def until(condition, what):
    end = monotonic() + DEADLINE
    while not (value := condition()):
        assert monotonic() < end, f"waited in vain for {what}"
        threading.Event().wait(0.02)
    return value


class Wire:
    """Namespaces `client` and `server` with one link between them (10.77.0.1 and 10.77.0.2, on both ends `wire`)."""

    def __init__(self):
        mark = f"baton-an{os.getpid()}-{next(NUMBERS)}"
        self.client, self.server = f"{mark}-c", f"{mark}-s"
        run("ip", "netns", "add", self.client)
        try:
            run("ip", "netns", "add", self.server)
            run(*f"ip -n {self.client} link add wire type veth peer name wire netns {self.server}".split())
            for name, address in ((self.client, "10.77.0.1/24"), (self.server, "10.77.0.2/24")):
                run(*f"ip -n {name} address add {address} dev wire".split())
                run(*f"ip -n {name} link set wire up".split())
                run(*f"ip -n {name} link set lo up".split())
        except BaseException:
            self.close()
            raise
        self._senders = []

    def sender(self):
        """A function that puts a frame on the wire from the client's end, through a socket that stays open."""
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.client, sys.executable, "-c", SENDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._senders.append(child)
        assert child.stdout.readline() == "ready\n"

        def send(frame):
            child.stdin.write(bytes(frame).hex() + "\n")
            child.stdin.flush()

        return send

    def close(self):
        for child in getattr(self, "_senders", ()):
            child.stdin.close()
            child.wait(DEADLINE)
            child.stdout.close()
        for name in (self.client, self.server):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


SENDER = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("wire", 0))
print("ready", flush=True)
for line in sys.stdin:
    wire.send(bytes.fromhex(line))
"""


class Alerts:
    """Listens on `eve.sock` as the controller does and keeps the alerts parsed."""

    def __init__(self, directory):
        parser = AlertParser(lambda: decode_classifications((RULES / "classification.config").read_text()))
        self.queue = queue.Queue()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(directory / "eve.sock"))
        self._listener.listen(4)

        def read(stream):
            with stream.makefile("rb") as lines:
                for line in lines:
                    event = parser.from_eve(line, monotonic())
                    if event is not None:
                        self.queue.put(event)

        def accept():
            while True:
                try:
                    stream, _ = self._listener.accept()
                except OSError:
                    return
                threading.Thread(target=read, args=(stream,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def next(self):
        return self.queue.get(timeout=DEADLINE)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Command:
    """A command whose output lines are kept and can be waited for."""

    def __init__(self, *command, environment):
        self.lines = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def expect(self, pattern, count=1):
        """Wait until `count` lines match; returns the last match."""

        def matches():
            return [found for line in self.lines if (found := re.search(pattern, line))]

        with self._changed:
            arrived = self._changed.wait_for(
                lambda: len(matches()) >= count or not self._reader.is_alive(), timeout=DEADLINE
            )
            found = matches()
        assert arrived, f"no {pattern!r} in {self.lines}"
        assert len(found) >= count, f"no {pattern!r} in {self.lines}"
        return found[-1]

    def end(self, number=signal.SIGTERM):
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        self.process.stdout.close()
        return code


@pytest.fixture
def directory(tmp_path):
    """A run directory of one's own, with a path short enough for sockets."""
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def rules(tmp_path):
    """A copy of the shipped rules to edit."""
    made = tmp_path / "rules"
    made.mkdir()
    for name in ("baton.rules", "classification.config"):
        shutil.copy(RULES / name, made)
    return made


@pytest.fixture
def wire():
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def alerts(directory):
    made = Alerts(directory)
    yield made
    made.close()


@pytest.fixture
def start(directory, rules):
    """Start `python -m controller.analyser` with more arguments; ended with the test."""
    started = []

    def begin(*arguments, place=directory):
        environment = {"BATON_RUN_DIR": str(place), "BATON_CONFIG": str(REPOSITORY / "baton.toml")}
        command = (sys.executable, "-m", "controller.analyser", "--rules", str(rules), "--engine", "suricata")
        made = Command(*command, *arguments, environment=environment)
        started.append(made)
        return made

    yield begin
    for command in started:
        command.end()
