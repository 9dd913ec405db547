# SPDX-License-Identifier: Apache-2.0
"""``baton ship``: a P4 switch's state to another switch, through the agent beside it.

Exit code 0: shipped and committed; 1: asked for, but not shipped; 2: it could not be asked for.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from controller.cli.report import console
from controller.cli.ship_progress import Step, shown
from controller.config import agent_socket, load
from controller.core.errors import BatonError, ConfigError
from controller.p4sync import plan
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from controller.p4sync.plan import Plan
from controller.p4sync.protocol import Array, Mode, flow_key

app = typer.Typer(help="State of P4 switches.")

FAILED, NOT_ASKED = 1, 2
NAMED = 4
"""Flows that are named when some had to stay."""
ARRAYS = {"clients": Array.CLIENTS, "flows": Array.FLOWS}


@app.command()
def ship(
    source: Annotated[str, typer.Option("--from", help="The switch whose state moves.")],
    to: Annotated[str, typer.Option("--to", help="The switch that gets it.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Drain: everything it has counted; it forgets what counts no more.")
    ] = False,
    flow: Annotated[
        list[str] | None, typer.Option(metavar="CLIENT:PORT/SERVICE", help="Single flows (service: its number).")
    ] = None,
    array: Annotated[str | None, typer.Option(help="One whole array: clients or flows.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which it is given up.")] = 120.0,
    control: Annotated[
        Path | None, typer.Option(help="The agent's socket, if it is not where it is looked for.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    progress: Annotated[
        bool | None, typer.Option(help="Show on stderr how far it is.", show_default="unless --json")
    ] = None,
) -> None:
    """Ship a switch's state: what changed since the last time, or what the options say."""
    try:
        wanted = plan_of(everything, flow or [], array)
        is_shown = not as_json if progress is None else progress
        with AgentControl(control or _socket(source)) as agent, _progress(f"{source} -> {to}", is_shown) as step:
            done = agent.ship(to, wanted, timeout, step)
            if done["result"] == "committed":
                step({"walked": 1, "total": 1, "staged": done["packets"]})
    except BatonError as error:
        if as_json:
            print(json.dumps({"ok": False, "error": str(error)}))
        else:
            typer.echo(f"baton: {error}", err=True)
        raise typer.Exit(NOT_ASKED) from None
    good = done["result"] == "committed"
    if as_json:
        print(
            json.dumps({"ok": good, "from": source, **{key: done[key] for key in done if key not in ("kind", "job")}})
        )
    else:
        for line in describe(source, done):
            console().print(line, markup=False)
    raise typer.Exit(0 if good else FAILED)


def plan_of(everything: bool, flows: list[str], array: str | None) -> Plan:
    """Return the plan that the options ask for; raises ControlError where they contradict each other."""
    if sum((everything, bool(flows), array is not None)) > 1:
        raise ControlError("--all, --flow and --array exclude each other; choose one")
    if everything:
        return plan.drain()
    if flows:
        return plan.single_flows([key_of(text) for text in flows], release=False)
    if array is not None:
        if array not in ARRAYS:
            raise ControlError(f"no array is called {array!r}; choose clients or flows")
        return plan.whole_array(ARRAYS[array], Mode.OCCUPIED)
    return plan.changes()


def key_of(text: str) -> int:
    """Return the key of the flow that ``10.0.0.7:40000/1`` names; raises ControlError."""
    try:
        ends, _, service = text.partition("/")
        client, _, port = ends.rpartition(":")
        return flow_key(client, int(port), int(service))
    except ValueError as error:
        raise ControlError(f"{text!r} is not CLIENT:PORT/SERVICE, as in 10.0.0.7:40000/1: {error}") from error


def describe(source: str, done: dict[str, Any]) -> list[str]:
    """Return what became of it, for people."""
    way = f"{source} -> {done['to']}"
    if done["result"] != "committed":
        effect = "counts are lost" if done["result"] == "lost" else "both switches are as before"
        return [f"{way}: not shipped ({effect}): {done['reason']}"]
    again = f", {done['resent']} of them sent again" if done["resent"] else ""
    lines = [f"{way}: committed: {done['packets']} packets{again}, {done['seconds']:.2f} s"]
    for what, text in (("left", "stay: their entries there belong to other flows"), ("absent", "are not known there")):
        names = done[what]
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"  {', '.join(names[:NAMED])}{more} {text}")
    return lines


def _socket(switch: str) -> Path:
    settings = load()
    known = settings.p4sync.switches
    path = agent_socket(settings, switch)
    if switch not in known and not path.exists():
        names = ", ".join(sorted(known)) or "none; see [p4sync] in docs/p4sync.md"
        raise ConfigError(f"no P4 switch is called {switch!r} (known: {names})")
    return path


def _progress(title: str, is_wanted: bool) -> AbstractContextManager[Step]:
    return shown(title, Console(stderr=True)) if is_wanted else nullcontext(lambda frame: None)
