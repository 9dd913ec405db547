# SPDX-License-Identifier: Apache-2.0
"""``baton keys``: key pairs of the agents that ship state between switches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from controller.p4sync import keys
from controller.p4sync.errors import P4SyncError

app = typer.Typer(help="Keys of the agents beside P4 switches.", no_args_is_help=True)

FAILED = 1


@app.callback()
def group() -> None:
    """Keys of the agents beside P4 switches."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The agent's name: NAME.key and NAME.pub are made.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where to put them.")] = Path(),
    kind: Annotated[str, typer.Option("--type", help=" or ".join(keys.KINDS))] = keys.ED25519,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Make a key pair: NAME.key stays with the agent, NAME.pub goes to its peers."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    try:
        keys.new_pair(kind, private, public)
    except P4SyncError as error:
        if as_json:
            print(json.dumps({"ok": False, "error": str(error)}))
        else:
            typer.echo(f"baton: {error}", err=True)
        raise typer.Exit(FAILED) from None
    if as_json:
        print(json.dumps({"ok": True, "type": kind, "private": str(private), "public": str(public)}))
    else:
        typer.echo(f"{private}: the agent's own key ({kind}), for it alone (mode 0600)")
        typer.echo(f"{public}: for its peers, who pin it")
