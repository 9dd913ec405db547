# SPDX-License-Identifier: Apache-2.0
"""What topo.py runs for --demo, --tmux and --xterm: they need more than topo.py itself may import."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main() is ready, an interrupt ends us without a word

import argparse  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import topo  # noqa: E402
from demo import scenario, terminals  # noqa: E402
from testbed.processes import guarded  # noqa: E402


def main() -> int:
    """Do what the command line (topo.py's) says; return the exit code."""
    options = topo.parse()
    topo.setLogLevel("output")
    if options.demo:
        return scenario.run(Path(options.out).resolve(), options.framework, tso=not options.no_tso)
    return topo.prompt(options, lambda net: open_windows(net, options))


def open_windows(net: topo.BatonNet, options: argparse.Namespace) -> None:
    """Open the terminals that were asked for."""
    opened = terminals.terminals(not options.controller, options.framework)
    (terminals.open_tmux if options.tmux else terminals.open_xterm)(net, opened)


if __name__ == "__main__":
    sys.exit(guarded("topo.py", main))
