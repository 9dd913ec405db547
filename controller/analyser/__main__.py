# SPDX-License-Identifier: Apache-2.0
"""`python -m controller.analyser --interface ids0`: run the analyser in the foreground until a signal ends it.

Prints `ready` once packets are read, then a line for each change of the rules: loaded, or refused with file and line.
Exit codes: 0 ended by SIGINT or SIGTERM, 1 the engine ended by itself, 2 it could not be started.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from controller import config
from controller.analyser.engines import ENGINES, TEMPLATES, choose_engine
from controller.analyser.errors import AnalyserError, RulesRefusedError
from controller.analyser.rules import Watcher
from controller.analyser.runner import Analyser
from controller.core.errors import BatonError

LOOK_INTERVAL = 0.2
"""Seconds between two looks at the rule files."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parse(arguments)
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    analyser = None
    try:
        everything = config.load()
        settings, alerts = everything.analyser, config.alert_dir(everything)
        directory = config.make_run_dir()
        watcher = Watcher(options.rules)
        analyser = Analyser(
            choose_engine(options.engine),
            options.interface,
            options.rules,
            directory,
            alerts / settings.eve_socket,
            alerts / settings.snort_socket,
            _netns(options.netns),
        )
        analyser.start(options.timeout, ended.is_set)
        if not ended.is_set():
            _say("ready")
        while not ended.wait(LOOK_INTERVAL):
            if analyser.has_ended():
                raise EngineEndedError(f"{analyser.engine.name} has ended by itself: {analyser.last_words()}")
            if watcher.has_changed():
                _exchange(analyser)
    except EngineEndedError as error:
        print(f"baton: {error}", file=sys.stderr)
        return 1
    except BatonError as error:
        print(f"baton: {error}", file=sys.stderr)
        return 2
    finally:
        if analyser is not None:
            analyser.stop()
    return 0


class EngineEndedError(AnalyserError):
    """The engine was at work and is not any more."""


def _exchange(analyser: Analyser) -> None:
    """Load the rules anew and say what came of it."""
    try:
        loaded = analyser.reload()
    except RulesRefusedError as error:
        for complaint in error.complaints:
            _say(f"rules refused: {complaint}")
        _say("rules unchanged: mend the file, the rules before stay in force")
    except AnalyserError as error:
        _say(f"rules not loaded: {error}; the rules before stay in force")
    else:
        _say("rules loaded" if loaded < 0 else f"rules loaded: {loaded}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m controller.analyser", description="Run Snort or Suricata for Baton."
    )
    parser.add_argument("--interface", required=True, help="where copies of packets arrive")
    parser.add_argument("--netns", help="network namespace of the interface: a name, a process id or a path")
    parser.add_argument("--rules", type=Path, default=TEMPLATES, help="directory of *.rules and classification.config")
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), help="which one (default: Snort if installed, else Suricata)"
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait until it is ready")
    return parser.parse_args(arguments)


def _netns(text: str | None) -> Path | None:
    """The path of a namespace; raises AnalyserError when there is none."""
    if text is None:
        return None
    path = Path(text)
    if not path.is_absolute():
        path = Path(f"/proc/{text}/ns/net") if text.isdigit() else Path("/run/netns") / text
    if not path.exists():
        raise AnalyserError(f"there is no network namespace {text!r} ({path}); `ip netns` lists the named ones")
    return path


def _say(text: str) -> None:
    """Print a line at once, whoever reads it; that nobody does any more is no trouble."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = sys.stderr


if __name__ == "__main__":
    sys.exit(main())
