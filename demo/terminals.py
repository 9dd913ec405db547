# SPDX-License-Identifier: Apache-2.0
"""Opens a terminal for each part of the demo: panes of a tmux session of its own, or xterm windows."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple

from topo import BatonNet, TopoError, controller_command


class Terminal(NamedTuple):
    """What runs where; ``typed`` is a command left at the shell's prompt for the user to start."""

    node: str
    title: str
    command: str
    typed: str = ""


def terminals(with_controller: bool, framework: str | None) -> list[Terminal]:
    """Return the terminals in the order in which their programs should start."""
    opened = [
        Terminal("h1", "server 1 (h1)", "python3 servers/server1.py"),
        Terminal("h2", "server 2 (h2)", "python3 servers/server2.py"),
        Terminal("h3", "client (h3)", "", 'python3 client/client.py "please migrate" "who are you now?"'),
        Terminal("s1", "switch (s1)", "watch -n 1 ovs-ofctl dump-flows --no-stats s1"),
    ]
    if with_controller:
        opened.insert(0, Terminal("c0", "controller (c0)", shlex.join(controller_command(framework))))
    return opened


def shell(net: BatonNet, terminal: Terminal) -> list[str]:
    """Return the command that runs the terminal's program in its node and leaves a shell when that ends."""
    script = f"{terminal.command}; exec bash --norc" if terminal.command else "exec bash --norc"
    if terminal.typed:
        # `read -e -i` shows the command for editing; Enter starts it.
        script = f"read -e -i {shlex.quote(terminal.typed)} -p '{terminal.node}> ' line; eval \"$line\"; {script}"
    return ["mnexec", "-a", str(net[terminal.node].pid), "bash", "--norc", "-c", script]


def environment(net: BatonNet) -> dict[str, str]:
    """Return the environment of windows: marked as the network's own, with the switch's tools at hand."""
    return {**os.environ, **net.switch.environment, "PS1": r"\w \$ "}


def open_tmux(net: BatonNet, opened: list[Terminal]) -> None:
    """Start a tmux server of the network's own with a pane per terminal, and attach to it where we have a terminal."""
    if not shutil.which("tmux"):
        raise TopoError("tmux is not installed: apt-get install tmux, or use --xterm")
    tmux = ["tmux", "-L", f"baton-{net.mark}"]
    inner = {name: value for name, value in environment(net).items() if name != "TMUX"}

    def do(*arguments: str) -> None:
        done = subprocess.run([*tmux, *arguments], env=inner, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TopoError(f"tmux {arguments[0]}: {done.stderr.strip()}")

    for number, terminal in enumerate(opened):
        place = ["split-window"] if number else ["new-session", "-d", "-s", "baton", "-x", "200", "-y", "60"]
        do(*place, shlex.join(shell(net, terminal)))
        do("select-pane", "-T", terminal.title)
        do("select-layout", "tiled")
    for option in ("pane-border-status top", "mouse on"):
        do("set-option", "-g", *option.split())
    attach = [*tmux, "attach"]
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("In tmux: C-b d leaves the panes (they go on) and comes back to the Mininet prompt.")
        subprocess.run(attach, env=inner, check=False)
    print(f"The panes are at: {shlex.join(attach)}")


def open_xterm(net: BatonNet, opened: list[Terminal]) -> None:
    """Open an xterm for each terminal on the display that $DISPLAY names."""
    if not os.environ.get("DISPLAY"):
        raise TopoError("--xterm needs a display (DISPLAY is not set): use --tmux, which needs none")
    if not shutil.which("xterm"):
        raise TopoError("xterm is not installed: apt-get install xterm, or use --tmux")
    for terminal in opened:
        net.adopt(subprocess.Popen(["xterm", "-T", terminal.title, "-e", *shell(net, terminal)], env=environment(net)))
