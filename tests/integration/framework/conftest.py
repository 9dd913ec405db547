# SPDX-License-Identifier: Apache-2.0
"""A controller process on each framework, in a run directory of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from frameworks import need

from controller.openflow.choice import FRAMEWORKS

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
TIMEOUT = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Controller:
    """`python -m controller.manager` with the probe app; its events are read as they come."""

    def __init__(self, framework, run_dir, port, apps=(HERE / "probe_app.py",)):
        self.run_dir, self.port = run_dir, port
        command = [sys.executable, "-m", "controller.manager", "--framework", framework]
        self.process = subprocess.Popen(
            [*command, "--ofp-tcp-listen-port", str(port), *map(str, apps)],
            cwd=REPOSITORY,
            env={**os.environ, "BATON_RUN_DIR": str(run_dir)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events = queue.Queue()
        self.complaints = []
        self.readers = [threading.Thread(target=reader, daemon=True) for reader in (self._read, self._complain)]
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def _complain(self):
        self.complaints.extend(self.process.stderr)

    def next(self, event):
        """Wait for the next event of a kind; others before it are dropped."""
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                told = self.events.get(timeout=0.5)
            except queue.Empty:
                assert self.process.poll() is None, f"ended with {self.process.returncode}: {''.join(self.complaints)}"
                assert time.monotonic() < end, f"no {event}"
                continue
            if told["event"] == event:
                return told

    def end(self, number=signal.SIGTERM):
        """Ask it to end; return (exit code, what it wrote on stderr)."""
        if self.process.poll() is None and number is not None:
            self.process.send_signal(number)
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            for reader in self.readers:
                reader.join(TIMEOUT)
        return self.process.returncode, "".join(self.complaints)


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    need(request.param)
    return request.param


@pytest.fixture
def start(framework, tmp_path):
    """Start controllers; all are ended at last."""
    started = []
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)

    def run(port=None, directory=run_dir, **options):
        controller = Controller(framework, directory, port or free_port(), **options)
        started.append(controller)
        return controller

    yield run
    for controller in started:
        controller.end()
