# SPDX-License-Identifier: Apache-2.0
"""The Mininet prompt and the terminals, used as a person would, without a display."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.terminals import open_tmux, terminals
from topo import BatonNet, wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
PROMPT = "mininet> "
TOPO = [sys.executable, str(REPOSITORY / "topo.py")]


def at_prompt(tmp_path, commands, *options):
    """Type commands as a person does, each when the prompt is back (Mininet gives what comes before to the command)."""
    output = tmp_path / "output"
    environment = {**os.environ, "BATON_RUN_DIR": str(tmp_path / "run"), "PYTHONUNBUFFERED": "1"}
    with output.open("wb") as file:
        topo = subprocess.Popen(
            [*TOPO, *options], stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, text=True
        )
    try:
        for number, command in enumerate(commands, start=1):
            wait_for(PROMPT, lambda n=number: output.read_text().count(PROMPT) >= n or topo.poll() is not None, 90)
            if topo.poll() is not None:
                break
            topo.stdin.write(f"{command}\n")
            topo.stdin.flush()
        topo.communicate(timeout=60)
    finally:
        topo.kill()
        topo.wait()
    return topo.returncode, output.read_text()


def test_the_prompt_runs_the_scenario_by_hand(tmp_path):
    commands = [
        "h1 python3 servers/server1.py &",
        "h2 python3 servers/server2.py &",
        "h1 timeout 30 sh -c 'until ss -Htln | grep -q :11111; do sleep 0.1; done'",
        "h2 timeout 30 sh -c 'until ss -Htln | grep -q :22222; do sleep 0.1; done'",
        'h3 python3 client/client.py "please migrate" "who are you now?"',
        "s1 ovs-ofctl dump-flows s1",
        "dpctl dump-flows",
        "sh ovs-vsctl show",
        "nodes",
        "exit",
    ]
    code, printed = at_prompt(tmp_path, commands, "--controller")
    assert code == 0, printed
    assert "2 answers from server2, every byte right" in printed
    assert printed.count("cookie=") > 5
    assert "datapath_type: netdev" in printed
    assert "c0 h1 h2 h3 ids s1" in printed
    assert "h3 python3 client/client.py" in printed.split("mininet>", maxsplit=1)[0]
    assert "Traceback" not in printed
    left = [path.name for path in (tmp_path / "run").iterdir()] if (tmp_path / "run").exists() else []
    assert "s1" not in left
    assert "topo.json" not in left


class Person:
    """Sits at a terminal and types."""

    def __init__(self, *command, run_dir):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["BATON_RUN_DIR"] = str(run_dir)
            os.chdir(REPOSITORY)
            os.execvp(command[0], command)
        self.ended = None

    def sees(self, text):
        """Read until a text appears (or all there is, for None); return what was read."""
        seen, end = b"", time.monotonic() + 90
        while text is None or text.encode() not in seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not appear: {seen.decode(errors='replace')}"
            try:
                seen += os.read(self.terminal, 65_536)
            except OSError:  # the other side has gone
                assert text is None, seen.decode(errors="replace")
                break
        return seen.decode(errors="replace")

    def types(self, text):
        os.write(self.terminal, text.encode())

    def leave(self):
        """Wait for the end; return the exit code."""
        self.ended = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.ended

    def close(self):
        if self.ended is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


def test_at_a_terminal(tmp_path):
    """Ctrl-C ends a command, never the network; Ctrl-D leaves; nothing but the records stays."""
    person = Person(*TOPO, "--controller", "--no-analyser", run_dir=tmp_path / "run")
    try:
        printed = person.sees(PROMPT)
        assert "h3 python3 client/client.py" in printed
        person.types("\x03")
        printed += person.sees(PROMPT)
        person.types("h3 ping 10.0.0.1\n")
        printed += person.sees("bytes from 10.0.0.1")
        person.types("\x03")
        printed += person.sees(PROMPT)
        person.types("no such command\n")
        printed += person.sees(PROMPT)
        person.types("h3 python3 client/client.py hello\n")
        printed += person.sees("is a server listening at 10.0.0.1:11111")
        printed += person.sees(PROMPT)
        person.types("\x04")
        printed += person.sees(None)
        assert person.leave() == 0
    finally:
        person.close()
    assert "Traceback" not in printed
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left <= {"controller.log", "events.jsonl", "openflow.lock"}, left


def test_hosts_reach_each_other_through_the_controller(tmp_path):
    code, printed = at_prompt(tmp_path, ["pingall", "exit"], "--controller", "--no-analyser")
    assert code == 0
    assert "0% dropped (6/6 received)" in printed, printed


def test_a_second_network_in_the_same_run_directory_is_refused(tmp_path):
    with BatonNet(tmp_path / "run"):
        code, printed = at_prompt(tmp_path, ["exit"], "--no-analyser")
    assert code == 1
    assert "another network runs in" in printed
    assert "Traceback" not in printed


def test_xterm_without_a_display_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    code, printed = at_prompt(tmp_path, ["exit"], "--xterm", "--no-analyser")
    assert code == 1
    assert "--tmux" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("wrong", [["--nonsense"], ["--framework", "pox"]])
def test_wrong_usage(tmp_path, wrong):
    code, printed = at_prompt(tmp_path, [], *wrong)
    assert code == 2
    assert "Traceback" not in printed


def test_tmux_panes_run_the_scenario(tmp_path):
    with BatonNet(private=True) as net:
        net.start_analyser()
        open_tmux(net, terminals(with_controller=True, framework=None))
        tmux = ["tmux", "-L", f"baton-{net.mark}"]

        def pane(number):
            return subprocess.run(
                [*tmux, "capture-pane", "-p", "-t", f"baton:0.{number}"], capture_output=True, text=True, check=True
            ).stdout

        wait_for("the switch to find the controller", net.switch.connected, 60)
        wait_for("server 1", lambda: "listening" in pane(1), 60)
        wait_for("server 2", lambda: "listening" in pane(2), 60)
        wait_for("the client's command", lambda: "client/client.py" in pane(3), 60)
        subprocess.run([*tmux, "send-keys", "-t", "baton:0.3", "Enter"], check=True)
        wait_for("the client's answers", lambda: "answers from server2" in pane(3), 60)
    assert subprocess.run([*tmux, "ls"], capture_output=True, check=False).returncode != 0
