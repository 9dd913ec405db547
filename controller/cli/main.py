# SPDX-License-Identifier: Apache-2.0
"""The ``baton`` command: what each room offers on the command line, under one name."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from controller.cli.clean import find_leftovers, remove_leftovers
from controller.cli.doctor import CHECKS, Finding, Status

REPOSITORY = Path(__file__).resolve().parents[2]
SUB_COMMANDS = ("migration", "ship", "keys", "p4sync", "eccp")
"""Modules of this room whose ``app`` is mounted under their name, if they are there and their libraries too."""
TOP_LEVEL = ("migration", "ship")
"""Those of them whose commands stand directly under ``baton``."""

MARKS = {Status.OK: "[green]ok[/]", Status.WARNING: "[yellow]note[/]", Status.FAILED: "[red]FAILED[/]"}

app = typer.Typer(
    help="Hand live TCP connections from one server to another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def doctor(
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Start no switch and no framework.")] = False,
) -> None:
    """Check each part of the installation and print the mend for what is wrong; exit code 1 if anything is."""
    findings: list[Finding] = []
    console = Console()
    for check in CHECKS:
        if quick and check.is_slow:
            continue
        for finding in check.run(REPOSITORY):
            findings.append(finding)
            if not as_json:
                mend = "" if finding.status is Status.OK else f"\n         [bold]mend:[/] {escape(finding.mend)}"
                console.print(
                    f"{MARKS[finding.status]:<22}{escape(finding.part)}: {escape(finding.detail)}{mend}",
                    highlight=False,
                    soft_wrap=True,
                )
    failed = [finding for finding in findings if finding.status is Status.FAILED]
    if as_json:
        print(json.dumps({"ok": not failed, "findings": [finding.as_dict() for finding in findings]}))
    elif failed:
        console.print(f"[red]{len(failed)} of {len(findings)} checks failed[/]")
    else:
        notes = sum(finding.status is Status.WARNING for finding in findings)
        console.print(f"[green]none of {len(findings)} checks failed[/]{f', {notes} to note' if notes else ''}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def clean(
    as_json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove what crashed runs of Baton left: only what carries its mark and whose maker is gone."""
    left = find_leftovers(REPOSITORY)
    remaining = left if dry_run else remove_leftovers(REPOSITORY)
    if as_json:
        print(json.dumps({"found": left, "remaining": remaining}))
    elif not left:
        print("nothing is left of earlier runs")
    else:
        table = Table("what", "state")
        for what in left:
            table.add_row(escape(what), "there" if what in remaining else "removed")
        Console().print(table)
    raise typer.Exit(1 if remaining and not dry_run else 0)


def mount_sub_commands() -> None:
    """Add the sub-commands whose modules are there; one whose library is missing is left out, others stay usable."""
    for name in SUB_COMMANDS:
        module = f"controller.cli.{name}"
        try:
            app.add_typer(importlib.import_module(module).app, name=None if name in TOP_LEVEL else name)
        except ModuleNotFoundError as error:
            if error.name != module:
                print(f"baton: no '{name}' here: the module {error.name} is missing; run 'make setup'", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    mount_sub_commands()
    app()


if __name__ == "__main__":
    main()
