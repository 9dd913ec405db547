# SPDX-License-Identifier: Apache-2.0
"""``baton connections``, ``migrate``, ``return``, ``drain``, ``watch`` and ``events``: the operator's side of the bus.

Exit code 0: done; 1: asked for, but it failed; 2: it could not be asked for.
"""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from controller.bus_client import BusClient, BusError
from controller.cli.operate import RequestError, drain_server, find_connection, move_connection, servers_of
from controller.cli.report import connections_table, console, event_line, row_record, servers_line
from controller.config import run_dir
from controller.core.errors import ConfigError
from controller.core.events import ConnectionReported
from controller.core.policy import CutPolicy
from controller.journal import NAME as JOURNAL
from controller.journal_reader import follow_journal, read_journal
from controller.wire.event_record import record_of

app = typer.Typer(help="Connections of a running controller.", no_args_is_help=True)

FAILED, NOT_ASKED = 1, 2
PAUSE = 0.1
"""Seconds between two looks at a journal that is followed."""
REFRESH = 1.0
"""Seconds after which `watch` looks at the table again when nothing has happened."""

Command = TypeVar("Command", bound=Callable[..., None])
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ConnectionArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONN", help="The client's address:port or port, or how the connection's name begins, if only one does."
    ),
]
CutOption = Annotated[
    CutPolicy | None,
    typer.Option(
        "--cut",
        help="When to cut: now, when nothing is under way, or before the last request (default: as the service says).",
    ),
]
DeadlineOption = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the outcome.")]


def told(command: Command) -> Command:
    """Turn what cannot be asked for into a message and an exit code; ``--json`` gets the message as JSON."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except (BusError, ConfigError, RequestError) as error:
            if options.get("as_json"):
                print(json.dumps({"ok": False, "error": str(error)}))
            else:
                typer.echo(f"baton: {error}", err=True)
            raise typer.Exit(NOT_ASKED) from None

    return run  # type: ignore[return-value]


@app.command()
@told
def connections(
    match: Annotated[str, typer.Argument(help="Only those of this client's port, or whose name begins so.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List connections: who, where they are now, and for how long. (Bytes are counted in the switch alone.)"""
    with BusClient() as client:
        pages = list(client.pages(match))
    rows = [row for page, _ in pages for row in page]
    servers: Counter[str] = Counter()
    for _, end in pages:
        servers.update(dict(end.servers))
    role = pages[-1][1].role
    if as_json:
        shown = {"connections": [row_record(row) for row in rows], "servers": dict(servers)}
        print(json.dumps(shown | ({"role": role} if role else {})))
        return
    screen = console()
    if rows:
        screen.print(connections_table(rows))
    else:
        screen.print("no connections" + (f" match {match!r}" if match else ""), markup=False)
    screen.print(servers_line(servers.items(), role), style="dim", markup=False)


@app.command()
@told
def migrate(
    connection: ConnectionArgument,
    to: Annotated[str, typer.Option("--to", help="Name of the server to move to.")],
    cut: CutOption = None,
    deadline: DeadlineOption = 15.0,
    as_json: JsonOption = False,
) -> None:
    """Move a connection to another server and wait until it is there, or has stayed."""
    with BusClient() as client:
        servers = servers_of(client)
        if to not in servers:
            raise RequestError(f"no server is called {to} (known: {', '.join(servers)})")
        _move(client, find_connection(client, connection), to, cut, deadline, as_json)


@app.command("return")
@told
def go_back(
    connection: ConnectionArgument,
    cut: CutOption = None,
    deadline: DeadlineOption = 15.0,
    as_json: JsonOption = False,
) -> None:
    """Move a connection back to the server that accepted it."""
    with BusClient() as client:
        row = find_connection(client, connection)
        _move(client, row, row.origin, cut, deadline, as_json)


def _move(
    client: BusClient, row: ConnectionReported, target: str, cut: CutPolicy | None, deadline: float, as_json: bool
) -> NoReturn:
    outcome = move_connection(client, row, target, deadline, cut and cut.value)
    if as_json:
        print(json.dumps({"ok": outcome.ok, **outcome.facts}))
    else:
        typer.echo(outcome.text, err=not outcome.ok)
    raise typer.Exit(0 if outcome.ok else FAILED)


@app.command()
@told
def drain(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Name of the server to empty.")],
    to: Annotated[
        str | None, typer.Option("--to", help="Where to; else home, or to servers free to take them.")
    ] = None,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds without any progress to wait for.")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Move every connection away from a server; clients that dial it afterwards are still served by it."""
    with BusClient() as client, _progress(server, as_json) as step:
        outcome = drain_server(client, server, to, patience, step)
    if as_json:
        print(json.dumps({"ok": outcome.ok, **outcome.facts}))
    else:
        typer.echo(outcome.text, err=not outcome.ok)
    raise typer.Exit(0 if outcome.ok else FAILED)


@contextmanager
def _progress(server: str, as_json: bool) -> Iterator[Callable[[int, int], object]]:
    """Give a function that shows how many of how many connections are dealt with."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(), disable=as_json, transient=True) as bar:
        task = bar.add_task(f"draining {server}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command()
@told
def watch(as_json: JsonOption = False) -> None:
    """Show the table of connections and what happens, live; Ctrl-C ends it. In a pipe, or with --json: events only."""
    screen = console()
    try:
        with BusClient() as client:
            if as_json or not screen.is_terminal:
                while True:
                    record = record_of(client.receive()) | {"wall": time.time()}
                    print(json.dumps(record) if as_json else event_line(record), flush=True)
            _show(client, screen)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _show(client: BusClient, screen: Console) -> NoReturn:
    lately: list[str] = []
    with Live(console=screen, auto_refresh=False, screen=True) as live:
        while True:
            room = max(4, screen.height - 10)
            rows, end = next(iter(client.pages()))
            more = "" if len(rows) <= room and not end.more else "(and more)"
            counts = Text(f"{servers_line(end.servers, end.role)}  {more}", style="dim")
            recent = Text("\n".join(lately[-6:]), style="dim", no_wrap=True, overflow="ellipsis")
            live.update(Group(counts, connections_table(rows[:room]), Text(""), recent), refresh=True)
            until = time.monotonic() + REFRESH
            event = client.receive(REFRESH)
            while event is not None:
                lately.append(event_line(record_of(event) | {"wall": time.time()}))
                del lately[:-6]
                # Many events are one change of the picture: the table is not asked for more than ten times a second.
                event = client.receive(max(0.0, min(PAUSE, until - time.monotonic())))


@app.command()
@told
def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones; Ctrl-C ends it.")] = False,
    last: Annotated[int, typer.Option(min=0, help="How many of the newest; 0: all.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Print the journal: what happened so far, whether or not a controller runs now."""
    path = run_dir() / JOURNAL
    records = follow_journal(path, lambda: time.sleep(PAUSE), last) if follow else iter(read_journal(path, last))
    try:
        for record in records:
            print(json.dumps(record) if as_json else event_line(record), flush=follow)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
