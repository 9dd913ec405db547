# SPDX-License-Identifier: Apache-2.0
"""Plays the scenario: a forwarded connection, a migrated one, a rule edited while everything runs.

Every claim of the verdict is checked: by the client (each byte of each answer), by the servers' logs (who got which
bytes), by the journal. What was seen is written to the output directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo import sequence_diagram, steps, timeline
from demo.capture import PORT_NAMES, read_pcap, recording
from demo.journal import JournalReader, belongs_to
from demo.openflow_log import read_messages
from topo import HOSTS, REPOSITORY, SERVER1, SERVER2, BatonNet, TopoError, check_machine, wait_for

OUTPUTS = ("openflow.txt", "events.jsonl", "flows.txt", "sequence.svg", "controller.log", "analyser.log")
PYTHON = sys.executable
STYLES = {"client": "cyan", "controller": "yellow", "analyser": "red"}


class Scenario:
    """One play of the demo in a network of its own."""

    def __init__(self, net: BatonNet, out: Path, console: Console) -> None:
        self.net, self.out, self.console = net, out, console
        self.journal = JournalReader(net.run_dir / "events.jsonl")
        self.checks: list[tuple[bool, str]] = []
        self.rules = net.run_dir / "rules" / "baton.rules"

    # -- the scenes

    def play(self, framework: str | None) -> bool:
        """Play all scenes; return whether every check held."""
        self.console.rule("[bold]Baton: a live TCP connection moves because a rule fired")
        self.start(framework)
        with recording(self.net, self.out):
            forwarded = self.scene(
                "1. A connection that stays: its request says forward", ["forward, please", "who are you?"]
            )
            self.check_served(forwarded, "server1", "forwarded")
            migrated = self.scene(
                "2. A connection that moves: its request says migrate",
                ["migrate, please", "who are you now?", "get 200000 7", "still the same socket?"],
                show_flows=True,
            )
            self.check_served(migrated, "server2", "migrated")
            self.check_bytes(migrated)
            self.edit_scene()
        self.draw(migrated)
        return self.verdict()

    def start(self, framework: str | None) -> None:
        """Start servers, controller and analyser."""
        shutil.copytree(REPOSITORY / "snort_rules", self.rules.parent)
        for node, (_, port) in (("h1", SERVER1), ("h2", SERVER2)):
            name = PORT_NAMES[node]
            log = self.net.run_dir / f"{name}.jsonl"
            command = [PYTHON, f"servers/{name}.py", "--quiet", "--log", str(log)]
            server = self.net.popen(node, command, stdout=subprocess.DEVNULL)
            wait_for(
                name, lambda path=log: path.exists() and path.stat().st_size, 10, lambda s=server: s.poll() is None
            )
            self.say(f"{name} listens at {self.net[node].IP()}:{port}")
        self.net.start_controller(framework)
        self.wait_ready()
        self.say(f"the controller runs, s1 is connected to it through {self.net.run_dir}/openflow.sock")
        self.net.start_analyser("--rules", str(self.rules.parent))
        self.say("the analyser runs behind the switch's port ids0")

    def wait_ready(self) -> None:
        """Wait until the controller has found the switch fit; TopoError with its own words when it does not."""
        log = self.net.run_dir / "controller.log"

        def ready() -> bool:
            if " lacks " in (text := log.read_text(errors="replace")):
                raise TopoError(next(line for line in text.splitlines() if " lacks " in line))
            self.journal.read()
            return any(record["event"] == "SwitchConnected" for record in self.journal.records)

        wait_for("the switch, as the controller sees it", ready, 20)

    def scene(self, title: str, requests: Sequence[str], show_flows: bool = False) -> dict[str, Any]:
        """Let a client ask, tell what happens while it does, then the whole story in milliseconds."""
        self.console.rule(f"[bold]{title}", align="left")
        client = self.client(requests, "--interval", "0.1")
        flows = ""
        while client.poll() is None:
            for record in self.journal.read():
                if (row := timeline.of_record(record)) and record["event"] != "ConnectionClosed":
                    self.say(f"[{STYLES[row.who]}]{row.who}[/]: {row.what}")
                if record["event"] in ("MigrationCompleted", "VerdictReached") and show_flows:
                    flows = self.net.switch.ofctl("dump-flows", "--names", "s1")
            time.sleep(0.01)
        report = self.report(client)
        who = f"10.0.0.3:{report['local_port']}"
        if not report["error"]:
            self.wait_closed(who)
        self.show_timeline(report, self.journal.of_client(who))
        if flows:
            self.show_flows(flows, report["local_port"])
        return report

    def edit_scene(self) -> None:
        """Change the word that triggers, with a connection open; neither it nor the controller may notice."""
        self.console.rule("[bold]3. The rule is edited while everything runs: the word is now teleport", align="left")
        witness = self.client(["forward, please"], "--count", "40", "--interval", "0.1")
        before = self.ask_once("teleport me")
        self.check(before == "server1", f"before the edit, 'teleport' is served by {before}")
        text = self.rules.read_text()
        self.rules.write_text(text.replace('content:"migrate"', 'content:"teleport"').replace("rev:1;", "rev:2;"))
        self.say(f'edited {self.rules.name}: content:"migrate" is now content:"teleport"')
        edited = time.monotonic()
        after = wait_for("the edited rule", lambda: self.ask_once("teleport me") == "server2" and "server2", 20)
        self.check(
            after == "server2", f"{(time.monotonic() - edited):.1f} s after the edit, 'teleport' is served by {after}"
        )
        old = self.ask_once("migrate, please")
        self.check(old == "server1", f"the old word is served by {old}")
        controller = self.net.controller
        self.check(controller is not None and controller.poll() is None, "the controller was not restarted")
        report = self.report(witness)
        self.check(
            not report["error"], f"a connection open all the while lost nothing ({len(report['exchanges'])} answers)"
        )

    # -- clients

    def client(self, requests: Sequence[str], *options: str) -> subprocess.Popen[str]:
        """Start a client in h3."""
        command = [PYTHON, "client/client.py", "--json", *options, *requests]
        return self.net.popen("h3", command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def report(self, client: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for a client and return its report."""
        try:
            out, err = client.communicate(timeout=30)
            report: dict[str, Any] = json.loads(out)
        except (subprocess.TimeoutExpired, ValueError):
            raise TopoError(
                f"the client gave no report: {err.strip() if client.poll() is not None else 'no end'}"
            ) from None
        return report

    def ask_once(self, request: str) -> str:
        """Return which server answers this request on a connection of its own; the error where none does."""
        report = self.report(self.client([request]))
        return str(report["error"] or report["exchanges"][0]["server"])

    def wait_closed(self, client: str) -> None:
        """Wait until the controller has freed the connection's state."""

        def closed() -> bool:
            self.journal.read()
            return any(r["event"] == "ConnectionClosed" and belongs_to(r, client) for r in self.journal.records)

        wait_for(f"the end of the connection of {client} in the journal", closed, 10)

    # -- what is checked

    def check(self, holds: bool, claim: str) -> None:
        """Note a claim and whether it holds."""
        self.checks.append((holds, claim))
        self.say(f"[green]right[/]: {claim}" if holds else f"[bold red]WRONG[/]: {claim}")

    def check_served(self, report: dict[str, Any], server: str, name: str) -> None:
        """The client's one socket got all its answers, byte-exact, from one server."""
        servers = {exchange["server"] for exchange in report["exchanges"]}
        claim = (
            f"the {name} connection (port {report['local_port']}): {len(report['exchanges'])} answers on one socket,"
        )
        claim += f" every byte right, all from {' and '.join(sorted(servers)) or 'nobody'}"
        self.check(not report["error"] and servers == {server}, f"{claim} {report['error']}".strip())

    def check_bytes(self, report: dict[str, Any]) -> None:
        """Server 2 received all that the client sent, server 1 nothing of it."""
        sent = sum(exchange["bytes_sent"] for exchange in report["exchanges"])
        peer = f"10.0.0.3:{report['local_port']}"
        received = {}
        for name in ("server1", "server2"):
            lines = (self.net.run_dir / f"{name}.jsonl").read_text().splitlines()
            closed = (event for event in map(json.loads, lines) if event["event"] == "closed" and event["peer"] == peer)
            received[name] = sum(event["received"] for event in closed)
        claim = f"of the client's {sent} bytes server2 received {received['server2']}, server1 {received['server1']}"
        self.check(received == {"server1": 0, "server2": sent}, claim)

    # -- what is shown

    def say(self, text: str) -> None:
        """Print one line of the story."""
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def show_timeline(self, report: dict[str, Any], records: list[dict[str, Any]]) -> None:
        """Print the story of one connection in milliseconds."""
        table = Table(box=None, padding=(0, 2), title_justify="left")
        for heading, justify in (("ms", "right"), ("who", "left"), ("what", "left")):
            table.add_column(heading, justify=justify, header_style="dim")  # type: ignore[arg-type]
        for row in timeline.tell(report, records):
            table.add_row(f"{row.time * 1000:.1f}", f"[{STYLES[row.who]}]{row.who}[/]", row.what)
        self.console.print(table)
        parts = timeline.handoff(report, records)
        if "alert to cutover" in parts:
            for name, took in parts.items():
                self.say(f"[bold]{took:6.1f} ms[/] {name}")

    def show_flows(self, flows: str, port: int) -> None:
        """Print the flows of s1 that belong to a connection, without what a reader does not need."""
        (self.out / "flows.txt").write_text(flows)
        self.say("flows of s1 for this connection (all of them: flows.txt):")
        for line in flows.splitlines():
            if str(port) in line:
                self.say(f"[dim]{readable_flow(line)}[/]".replace("[dim]", "[dim]  "))

    def draw(self, report: dict[str, Any]) -> None:
        """Draw the migrated connection from the captures."""
        macs = {host.name: host.mac for host in HOSTS}
        packets = [
            packet
            for node, name in PORT_NAMES.items()
            for packet in read_pcap(self.out / f"{name}.pcap", name, macs.get(node))
        ]
        messages = list(read_messages((self.out / "openflow.txt").read_text(errors="replace").splitlines()))
        client = f"10.0.0.3:{report['local_port']}"
        ports = {str(number): PORT_NAMES[node] for number, node in self.net.ports().items()}
        offset = time.time() - time.monotonic()
        joined = steps.join(packets, messages, self.journal.records, client, ports, offset)
        if joined:
            title = f"One connection moves from server 1 to server 2 (client {client})"
            picture = sequence_diagram.draw(steps.fold(steps.relative(joined)), title)
            (self.out / "sequence.svg").write_text(picture, encoding="utf-8")

    def verdict(self) -> bool:
        """Print the sum; return whether every check held."""
        wrong = [claim for holds, claim in self.checks if not holds]
        self.console.rule()
        if wrong:
            self.console.print(f"[bold red]FAILED[/]: {len(wrong)} of {len(self.checks)} checks: {'; '.join(wrong)}")
        else:
            self.console.print(
                f"[bold green]The connection moved, and nobody noticed.[/] All {len(self.checks)} checks held."
            )
        self.say(f"captures, flows, journal and sequence.svg are in {os.path.relpath(self.out)}/")
        return not wrong

    def keep_logs(self) -> None:
        """Copy journal and logs out of the run directory, which ends with the network."""
        for name in ("events.jsonl", "controller.log", "analyser.log"):
            if (self.net.run_dir / name).exists():
                shutil.copy(self.net.run_dir / name, self.out / name)


def readable_flow(line: str) -> str:
    """Return one line of `ovs-ofctl dump-flows` with only priority, match, packet count and actions."""
    match, _, actions = line.strip().partition(" actions=")
    words = [word.strip() for word in match.replace(", ", " ").split(" ") if word.strip()]
    kept = [word for word in words if not word.startswith(("cookie=", "duration=", "table=", "n_bytes=", "idle_age="))]
    return f"{' '.join(kept)} -> {actions}"


def run(out: Path, framework: str | None, tso: bool) -> int:
    """Play the demo; return 0 when every check held, 1 when one did not."""
    net = BatonNet(private=True, tso=tso)
    check_machine(net.prefix)  # first of all: who is not root cannot write to an earlier run's directory either
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (*OUTPUTS, *(f"{place}.pcap" for place in PORT_NAMES.values())):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise TopoError(f"cannot write to {out}: {error.strerror}; choose another directory with --out") from error
    with net:
        console = Console()
        scenario = Scenario(net, out, console if console.is_terminal else Console(width=120))
        try:
            return 0 if scenario.play(framework) else 1
        finally:
            scenario.keep_logs()
