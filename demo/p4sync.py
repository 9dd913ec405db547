# SPDX-License-Identifier: Apache-2.0
"""`make demo-p4sync`: a connection's state follows it from switch to switch, on a fabric that somebody tampers with.

Five scenes: counting under traffic; a migration, and its state arriving; a drain while the man in the middle drops,
doubles, delays and forges; a replay of all that he has seen; the cutover of the rest, and the exact totals. Every claim
is checked, in the end against what the servers' own interfaces have seen. Exit code 0: every check held.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main() is ready, an interrupt ends us without a word

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import topo  # noqa: E402
from controller.p4sync.protocol import Verdict, describe_key, flow_key  # noqa: E402
from demo import timeline  # noqa: E402
from demo.journal import JournalReader  # noqa: E402
from demo.p4sync_cast import FLOWS, RATE, TAPPED, Cast, settings_file  # noqa: E402
from testbed.processes import TopoError, guarded, wait_for  # noqa: E402
from topo import BatonNet  # noqa: E402

PLOT = {"loss": 0.1, "duplication": 0.1, "reordering": 0.1, "forging": 0.3}
HONEST = dict.fromkeys(PLOT, 0.0)
REFUSALS = ("sync_unexpected", "sync_malformed", "sync_foreign", "sync_forged", "sync_closed")
SHOWN = 4
SETTLE = 20.0
ECHO = 1
"""Number of the TCP service in all switches."""


class Demo:
    """One play, in a network of its own."""

    def __init__(self, net: BatonNet, out: Path, console: Console) -> None:
        self.net, self.out, self.console = net, out, console
        self.target = net.p4_switches()[0].target
        self.journal = JournalReader(net.run_dir / "events.jsonl")
        self.checks: list[tuple[bool, str]] = []
        self.rows: list[timeline.Row] = []
        self.began = time.monotonic()

    def play(self, framework: str | None) -> bool:
        """Play all scenes; return whether every check held."""
        self.console.rule("[bold]P4Sync: a flow's state follows it from switch to switch")
        self.cast = Cast(self.net)
        self.note("topo", f"p1, p2 and p3 run ({self.target}), each with its agent; a man in the middle on p1 - p2")
        self.cast.start_controller(framework)
        self.wait_ready()
        self.net.start_analyser("--rules", str(self.rules()))
        self.note("topo", "controller with apps/tcp_migration.py and apps/p4sync.py, and the analyser, run")
        self.count_scene()
        self.migrate_scene()
        self.attack_scene()
        self.replay_scene()
        self.total_scene()
        return self.verdict()

    # -- the scenes

    def count_scene(self) -> None:
        """Traffic of many flows; p1 counts it."""
        self.title("1. p1 counts, packet by packet")
        self.cast.start_traffic()
        self.note("h3", f"{RATE} packets a second to server 1, of {FLOWS} flows, each answered")
        wait_for("p1 to count", lambda: self.cast.events("p1")["counted"] > 4 * FLOWS, 30)
        flows = self.cast.agents["p1"].request("flows")["flows"]
        self.show_flows("p1", sorted(flows, key=lambda flow: -flow["packets"]))
        self.check(len(flows) > FLOWS // 2, f"p1 keeps {len(flows)} flows, p2 none of them")
        self.check(not self.cast.counted(["p2"]), "p2 has counted nothing")

    def migrate_scene(self) -> None:
        """A rule fires, the connection moves, and so does what p1 knows of it."""
        self.title("2. A connection migrates, and its state follows it to p2")
        command = [sys.executable, "client/client.py", "--json", "--interval", "0.1"]
        words = ["migrate, please", "who are you now?", "get 200000 7", "still there?"]
        client = self.net.popen("h3", [*command, *words], stdout=subprocess.PIPE, text=True)
        report = json.loads(client.communicate(timeout=60)[0])
        key = flow_key("10.0.0.3", report["local_port"], ECHO)
        served = {exchange["server"] for exchange in report["exchanges"]}
        shipped = wait_for("the state at p2", lambda: self.shipped(report["local_port"], 2), SETTLE)
        self.tell(report, shipped)
        record = self.cast.agents["p2"].request("flow", key=key)["flow"]
        self.check(
            not report["error"] and served == {"server2"},
            f"{len(report['exchanges'])} answers on one socket, every byte right, all from {', '.join(sorted(served))}",
        )
        self.check(
            record is not None and record["verdict"] == Verdict.FORWARD,
            f"p2 knows the connection: {record and record['packets']} packets, verdict forward",
        )
        began, moved = (self.time_of(f"Migration{what}", report["local_port"]) for what in ("Started", "Completed"))
        took, left = (shipped[0]["time"] - began) * 1000, (moved - shipped[0]["time"]) * 1000
        self.check(
            shipped[0]["ahead"] and left > 0,
            f"verdict and entries were at p2 {took:.1f} ms after the migration began, {left:.1f} ms before the cutover",
        )
        counted = wait_for("the last packets", lambda: self.agree(key), SETTLE)
        self.check(counted > 0, f"p1 and p2 have counted {counted} packets of it, as many as have passed them")

    def attack_scene(self) -> None:
        """A drain under traffic while the man in the middle is at work."""
        self.title("3. p1 is drained to p2 while somebody on the link drops, doubles, delays and forges")
        before, began = self.cast.events("p2"), self.cast.deeds()
        sent = self.cast.events("p1")["sync_sent"]
        self.cast.plot(**PLOT)
        self.note("mid", ", ".join(f"{name} {share:.0%}" for name, share in PLOT.items()) + ", from now on")
        self.ship()
        self.cast.plot(**HONEST)
        deeds = {name: number - began[name] for name, number in self.cast.deeds().items()}
        wait_for("the last sync packets", lambda: self.refused(before) >= deeds["forged"], SETTLE)
        after = self.cast.events("p2")
        made = self.cast.events("p1")["sync_sent"] - sent
        refused = self.refused(before)
        self.check(made == after["sync_staged"] - before["sync_staged"], f"each of {made} packets was staged once")
        lost, resent = deeds["dropped"], self.cast.events("p1")["sync_resent"]
        self.check(lost > 0 and resent > 0, f"{lost} were dropped and {deeds['delayed']} delayed, {resent} sent again")
        doubled = after["sync_duplicate"] - before["sync_duplicate"]
        self.check(refused >= deeds["forged"] > 0, f"{deeds['forged']} forged ones were refused ({refused} refusals)")
        self.note("p2", f"{doubled} copies of packets that it had were told from them")

    def replay_scene(self) -> None:
        """All that the man in the middle has seen, once more."""
        self.title("4. The man in the middle sends everything again that he has seen")
        before, flows = self.cast.events("p2"), self.cast.counted(["p2"])
        kept = self.cast.deeds()["seen"]
        self.cast.mid.ask(json.dumps({"replay": True}))
        wait_for("the replay", lambda: self.refused(before) >= kept, SETTLE)
        after = self.cast.events("p2")
        self.check(self.refused(before) == kept, f"{kept} packets replayed, {self.refused(before)} refused")
        self.check(after["sync_staged"] == before["sync_staged"], "none was staged")
        self.check(self.cast.counted(["p2"]) == flows, f"p2's {len(flows)} flows stand as they stood")

    def total_scene(self) -> None:
        """The traffic goes to server 2, the rest follows, and everything is added up."""
        self.title("5. The traffic moves to server 2, the rest of p1 follows")
        self.cast.move_traffic()
        self.note("h3", "the same flows, now to server 2")
        counted = self.cast.events("p2")["counted"]
        wait_for("p2 to count", lambda: self.cast.events("p2")["counted"] > counted + FLOWS, 30)
        self.ship()
        self.cast.stop_traffic()
        self.check(*self.totals())
        passed, held = self.passed(), self.cast.counted().total()
        self.check(passed == held, f"p1 and p2 have counted {passed} times since they began; their tables hold {held}")
        self.check(not self.cast.counted(["p1"]), "p1 has nothing left")
        self.check(self.cast.counted(["p2"]) == self.cast.counted(), "all of it is at p2, counted once")
        self.show_flows("p2", sorted(self.cast.agents["p2"].request("flows")["flows"], key=lambda f: -f["packets"]))

    # -- what they need

    def rules(self) -> Path:
        """A copy of the rules for this network."""
        folder = self.net.run_dir / "rules"
        shutil.copytree(topo.REPOSITORY / "snort_rules", folder)
        return folder

    def wait_ready(self) -> None:
        """Until the controller has found s1."""

        def ready() -> bool:
            self.journal.read()
            return any(record["event"] == "SwitchConnected" for record in self.journal.records)

        wait_for("the switch, as the controller sees it", ready, 30)

    def ship(self) -> None:
        """What an operator types: `baton ship --from p1 --to p2 --all`."""
        command = [sys.executable, "-m", "controller.cli.main", "ship", "--from", "p1", "--to", "p2", "--all"]
        self.note("operator", "baton ship --from p1 --to p2 --all")
        done = subprocess.run(
            [*command, "--json", "--progress"],
            cwd=topo.REPOSITORY,
            env={**os.environ, **self.net.environment},
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
        good = done.returncode == 0 and answer.get("result") == "committed"
        text = (
            f"committed after {answer['committed_seconds'] * 1000:.0f} ms, {answer['packets']} packets,"
            f" {answer['resent']} sent again"
            if good
            else f"not shipped: {answer.get('reason') or answer.get('error') or done.returncode}"
        )
        self.check(good, f"p1 -> p2: {text}")

    def shipped(self, port: int, times: int) -> list[dict[str, Any]]:
        """The journal's records of this client's state shipped, once there are so many; raises TopoError if refused."""
        self.journal.read()
        ours = [r for r in self.journal.of_client(f"10.0.0.3:{port}") if r["event"].startswith("State")]
        for record in ours:
            if record["event"] == "StateRejected":
                raise TopoError(f"the connection's state was not shipped: {record['reason']}")
        return ours if len(ours) >= times else []

    def time_of(self, event: str, port: int) -> float:
        """When an event of this client happened."""
        return next(float(r["time"]) for r in self.journal.of_client(f"10.0.0.3:{port}") if r["event"] == event)

    def refused(self, before: dict[str, int]) -> int:
        """How many sync packets p2 has refused since."""
        after = self.cast.events("p2")
        return sum(after[name] - before[name] for name in REFUSALS)

    def agree(self, key: int) -> int:
        """Packets of a flow, once what the switches counted is what passed them; 0 before."""
        counted, (offered, forwarded) = self.cast.counted_of(key), self.cast.seen()
        return counted if forwarded[key] <= counted <= offered[key] else 0

    def totals(self) -> tuple[bool, str]:
        """Whether every flow's count is what passed the switches (after some patience), and in words.

        bmv2 drops packets on a busy machine, before it counts them or after: then it is what lies between.
        """
        deadline = time.monotonic() + SETTLE
        while True:
            counted, (offered, forwarded) = self.cast.counted(), self.cast.seen()
            keys = {*counted, *offered, *forwarded}
            off = [key for key in keys if not forwarded[key] <= counted[key] <= offered[key]]
            lost = offered.total() - counted.total(), counted.total() - forwarded.total()
            is_exact = not off and (lost == (0, 0) or self.target == "bmv2")
            if is_exact or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        text = f"{counted.total()} packets of {len(counted)} flows: every flow's total is exact"
        if any(lost):
            text += f" ({self.target} dropped {lost[0]} packets before it counted them, {lost[1]} after)"
        if off:
            few = (f"{describe_key(k)}: {forwarded[k]} <= {counted[k]} <= {offered[k]}" for k in off[:SHOWN])
            text += f"; but {len(off)} are not: {'; '.join(few)}"
        return is_exact, text

    def passed(self) -> int:
        """How often p1 and p2 have counted a packet, by a counter that no session touches: exact on any target."""
        return sum(self.cast.events(name)["counted"] for name in TAPPED)

    # -- what is shown

    def title(self, text: str) -> None:
        """Begin a scene."""
        self.console.rule(f"[bold]{text}", align="left")

    def note(self, who: str, what: str) -> None:
        """Print one line of the story, with its milliseconds."""
        row = timeline.Row(time.monotonic() - self.began, who, what)
        self.rows.append(row)
        self.console.print(f"  {row.time * 1000:9.1f}  [cyan]{who:9}[/] {what}", highlight=False, soft_wrap=True)

    def tell(self, report: dict[str, Any], shipped: list[dict[str, Any]]) -> None:
        """Tell a connection's story: the client's, the controller's, and what was shipped."""
        rows = timeline.tell(report, self.journal.of_client(f"10.0.0.3:{report['local_port']}"))
        for record in shipped:
            part = "its verdict and counts are there" if record["ahead"] else "what was counted since is there, too"
            what = f"{record['source']} -> {record['destination']}: {part}"
            rows.append(timeline.Row(record["time"] - report["connecting"], "p4sync", what))
        for row in sorted(rows, key=lambda row: row.time):
            at = (report["connecting"] - self.began + row.time) * 1000
            self.console.print(f"  {at:9.1f}  [yellow]{row.who:9}[/] {row.what}", highlight=False, soft_wrap=True)

    def show_flows(self, switch: str, flows: list[dict[str, Any]]) -> None:
        """Print the busiest flows of a switch."""
        table = Table(
            box=None, padding=(0, 2), title=f"{switch}, the busiest of {len(flows)} flows", title_justify="left"
        )
        for heading in ("client/service", "packets", "bytes", "last seen", "verdict"):
            table.add_column(heading, justify="left" if heading == "client/service" else "right", header_style="dim")
        for flow in flows[:SHOWN]:
            ago = f"{flow['age_seconds']:.2f} s ago"
            name = Verdict(flow["verdict"]).name.lower()
            table.add_row(flow["name"], str(flow["packets"]), str(flow["bytes"]), ago, name)
        table.add_row(f"... {len(flows)} flows in all")
        self.console.print(table)

    def check(self, holds: bool, claim: str) -> None:
        """Note a claim and whether it holds."""
        self.checks.append((holds, claim))
        self.note("[green]right[/]" if holds else "[bold red]WRONG[/]", claim)

    def verdict(self) -> bool:
        """Print the sum; return whether every check held."""
        wrong = [claim for holds, claim in self.checks if not holds]
        self.console.rule()
        if wrong:
            self.console.print(f"[bold red]FAILED[/]: {len(wrong)} of {len(self.checks)} checks: {'; '.join(wrong)}")
        else:
            self.console.print(f"[bold green]The state arrived, whole and once.[/] All {len(self.checks)} checks held.")
        return not wrong

    def keep_logs(self) -> None:
        """Copy journal and logs out of the run directory, which ends with the network."""
        for path in [*self.net.run_dir.glob("*.log"), *self.net.run_dir.glob("p4sync/*.log")]:
            shutil.copy(path, self.out / path.name)
        if (self.net.run_dir / "events.jsonl").exists():
            shutil.copy(self.net.run_dir / "events.jsonl", self.out)
        story = [{"ms": round(row.time * 1000, 1), "who": row.who, "what": row.what} for row in self.rows]
        (self.out / "timeline.json").write_text(json.dumps(story, indent=1) + "\n")


def main() -> int:
    """Play; return the exit code."""
    parser = argparse.ArgumentParser(prog="demo-p4sync", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/p4sync"), help="where logs and timeline are kept")
    parser.add_argument("--framework", choices=("ryu", "os_ken"), help="what the controller runs on")
    options = parser.parse_args()
    out = options.out.resolve()
    os.chdir(topo.REPOSITORY)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TopoError(f"cannot write to {out}: {error.strerror}; choose another directory with --out") from error
    topo.setLogLevel("output")
    net = BatonNet(private=True, p4=True, tapped=TAPPED)
    net.environment["BATON_CONFIG"] = str(net.run_dir / "baton.toml")
    with net:
        settings_file(net)
        console = Console()
        demo = Demo(net, out, console if console.is_terminal else Console(width=120))
        try:
            return 0 if demo.play(options.framework) else 1
        finally:
            demo.keep_logs()


if __name__ == "__main__":
    sys.exit(guarded("demo-p4sync", main))
