# SPDX-License-Identifier: Apache-2.0
"""One analyser as a child process: started and awaited, its rules exchanged while it runs, ended for certain."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic

from controller.analyser.command_socket import ask
from controller.analyser.engines import Engine, Places, complaints_of
from controller.analyser.errors import AnalyserError, RulesRefusedError
from controller.analyser.rules import Contents, RuleStore, read_rules

CHECK_TIMEOUT = 120.0
STOP_TIMEOUT = 10.0


class Analyser:
    """An engine at work on one interface; everything it needs is under ``directory`` (a private run directory).

    ``netns`` is the path of a network namespace (`/run/netns/NAME`, `/proc/PID/ns/net`), None for the caller's own.
    ``eve`` and ``snort`` are the sockets on which `apps/alerts.py` listens.
    """

    def __init__(
        self, engine: Engine, interface: str, rules: Path, directory: Path, eve: Path, snort: Path, netns: Path | None
    ) -> None:
        """Claim the working directory; raises AnalyserError when another analyser has it or paths do not fit."""
        if snort.name != "snort_alert" and not engine.has_socket:
            raise AnalyserError(
                f"Snort's socket is always named snort_alert; snort_socket = {snort.name!r} cannot work"
            )
        self.engine = engine
        self._interface = interface
        self._source = rules
        self._netns = netns
        work = directory / "analyser"
        try:
            work.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise AnalyserError(f"another analyser works in {work}; stop it, or set BATON_RUN_DIR") from error
        except OSError as error:
            raise AnalyserError(f"cannot use {work}: {error.strerror}; set BATON_RUN_DIR") from error
        self._store = RuleStore(work)
        self._places = Places(work, self._store.current, eve, directory / "suricata-cmd.sock", snort.parent)
        self._process: subprocess.Popen[str] | None = None
        self._is_ready = threading.Event()
        self._reader_done = threading.Event()
        self._output: deque[str] = deque(maxlen=200)

    def start(self, timeout: float, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Check the rules, start the engine and wait until it reads packets, or until ``is_cancelled()``.

        Raises RulesRefusedError for broken rules and AnalyserError when it ends or is not ready within ``timeout`` s.
        """
        self._store.accept(self._check(read_rules(self._source)))
        config = self.engine.configure(self._places)
        command = self.engine.run(self._interface, config, self._places)
        command = ["setpriv", "--pdeathsig", "KILL", *command]  # a crash of ours leaves no analyser behind
        if self._netns is not None:
            command = ["nsenter", f"--net={self._netns}", *command]
        deadline = monotonic() + timeout
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self._places.work,
                start_new_session=True,  # the terminal's Ctrl-C is for us: we end the child in order
            )
        except OSError as error:
            raise AnalyserError(f"cannot run {command[0]}: {error.strerror}") from error
        threading.Thread(target=self._read_output, args=(self._process,), daemon=True).start()
        while not self._is_ready.wait(0.05) and not is_cancelled():
            if self._process.poll() is not None:
                raise AnalyserError(f"{self.engine.name} could not start on {self._interface}: {self.last_words()}")
            if monotonic() > deadline:
                self.stop()
                raise AnalyserError(f"{self.engine.name} reads no packets after {timeout:g} s: {self.last_words()}")

    def reload(self) -> int:
        """Exchange the rules for the files' present contents; returns how many rules are loaded (-1: not known).

        Raises RulesRefusedError for files the engine does not accept, and AnalyserError when they cannot be loaded: the
        rules before stay in force.
        """
        assert self._process is not None, "reload() goes after start()"
        before = self._store.current.resolve()
        self._store.accept(self._check(read_rules(self._source)))
        try:
            self.engine.configure(self._places)
            if not self.engine.has_socket:
                self._process.send_signal(signal.SIGHUP)
                return -1
            _, stats = ask(self._places.command, "reload-rules", "ruleset-stats")
        except AnalyserError:
            self._store.accept(before)
            raise
        return sum(int(one.get("rules_loaded", 0)) for one in stats)

    def has_ended(self) -> bool:
        """Whether the engine has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """End the engine, with force if it does not end by itself; safe to call again."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._places.command.unlink(missing_ok=True)

    def last_words(self) -> str:
        """What the engine said about its trouble, as one line."""
        if self._process is not None and self._process.poll() is not None:
            self._reader_done.wait(2)
        errors = [line for line in self._output if "error" in line.lower() or "fatal" in line.lower()]
        return "; ".join((errors or list(self._output))[-3:]) or "it said nothing"

    def _check(self, contents: Contents) -> Path:
        """Stage ``contents`` and let the engine check them; returns the staged directory."""
        candidate = self._store.stage(contents)
        config = self.engine.configure(replace(self._places, rules=candidate))
        try:
            done = subprocess.run(
                self.engine.check(config),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=CHECK_TIMEOUT,
                start_new_session=True,  # a Ctrl-C in the middle is no fault of the rules
                cwd=self._places.work,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AnalyserError(f"{self.engine.name} has not checked the rules within {CHECK_TIMEOUT:g} s") from error
        except OSError as error:
            raise AnalyserError(f"cannot run {self.engine.program}: {error.strerror}") from error
        finally:
            config.unlink(missing_ok=True)
        if done.returncode:
            shutil.rmtree(candidate, ignore_errors=True)
            raise RulesRefusedError(complaints_of(self.engine, done.stdout))
        return candidate

    def _read_output(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with (self._places.work / "log").open("w", encoding="utf-8") as log:
            for line in process.stdout:
                self._output.append(line.strip())
                log.write(line)
                log.flush()
                if self.engine.ready.search(line):
                    self._is_ready.set()
        self._reader_done.set()
