# SPDX-License-Identifier: Apache-2.0
"""``baton eccp``: connections that survive address changes (see docs/eccp.md)."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.cli.eccp_events import Reporter
from controller.config import make_run_dir, run_dir
from controller.eccp.daemon_settings import (
    DEFAULT_PORT,
    DaemonSettings,
    load_identity,
    load_psk,
    make_credentials,
    parse_identity,
    parse_inner,
    parse_target,
    parse_weight,
)
from controller.eccp.errors import ConfigError
from controller.eccp.scheduler import Policy
from controller.eccp.transport.control import ControlServer, ask, is_alive, socket_path

app = typer.Typer(help="Connections that survive address changes.", no_args_is_help=True)
NameOption = Annotated[str, typer.Option("--name", help="Which daemon; also names its tunnel device eccp-NAME.")]


def _fail(error: ConfigError) -> typer.Exit:
    typer.echo(f"baton eccp: {error}", err=True)
    return typer.Exit(1)


def _identity_path(path: Path | None, name: str) -> Path:
    if path is not None:
        return path
    home = Path("/etc/baton") if os.geteuid() == 0 else Path.home() / ".config" / "baton"
    return home / f"eccp-{name}.key"


@app.command()
def keygen(
    name: NameOption = "main",
    identity: Annotated[Path | None, typer.Option(help="Identity file, made if missing.")] = None,
) -> None:
    """Print this host's identity, which its peers must be told."""
    try:
        key = load_identity(_identity_path(identity, name))
    except ConfigError as error:
        raise _fail(error) from error
    typer.echo(key.public_key().public_bytes_raw().hex())


@app.command()
def up(
    name: NameOption = "main",
    inner: Annotated[list[str] | None, typer.Option(help="Address inside the tunnel, e.g. 10.77.0.1/24.")] = None,
    connect: Annotated[list[str] | None, typer.Option(help="Peer: HOST:PORT#IDENTITY.")] = None,
    authorize: Annotated[list[str] | None, typer.Option(help="Identity that may connect.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Identity file, made if missing.")] = None,
    psk: Annotated[Path | None, typer.Option(help="File with a pre-shared key of 64 hexadecimal digits.")] = None,
    port: Annotated[int, typer.Option(help="UDP port at every address; 0 takes a free one.")] = DEFAULT_PORT,
    interface: Annotated[list[str] | None, typer.Option(help="Use only these, first preferred.")] = None,
    rendezvous: Annotated[str | None, typer.Option(help="Rendezvous to use: HOST:PORT#IDENTITY.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Do not encrypt inner packets (both ends must say so).")
    ] = False,
    early_data: Annotated[bool, typer.Option(help="Send to a new address before it is validated, within 3x.")] = True,
    multipath: Annotated[bool, typer.Option("--multipath", help="A flow on every interface.")] = False,
    policy: Annotated[Policy, typer.Option(help="Which flow carries data.")] = Policy.PRIMARY_BACKUP,
    weight: Annotated[list[str] | None, typer.Option(help="With weighted: INTERFACE=NUMBER, 1 if not named.")] = None,
    keepalive: Annotated[float, typer.Option(help="Seconds of silence after which a path is probed.")] = 15.0,
    probe_after: Annotated[float, typer.Option(help="Seconds of unanswered data after which it is.")] = 1.0,
    loopback: Annotated[bool, typer.Option("--loopback", help="Use loopback addresses too.")] = False,
    mtu: Annotated[int, typer.Option(help="Inner packet size.")] = 1380,
    foreground: Annotated[bool, typer.Option("--foreground", help="Do not go into the background.")] = False,
    test_delay: Annotated[float, typer.Option(hidden=True)] = 0.0,
) -> None:
    """Start a daemon: programs reach the peers at their inner addresses, wherever either end moves."""
    try:
        settings = _settings(
            name, inner or [], connect or [], authorize or [], identity, psk,
            port=port, interfaces=tuple(interface or ()), rendezvous=parse_target(rendezvous) if rendezvous else None,
            sealed_data=not plain, early_data=early_data, multipath=multipath, policy=policy, keepalive=keepalive,
            probe_after=probe_after, loopback=loopback, mtu=mtu, test_delay=test_delay,
            weights=dict(parse_weight(text) for text in weight or ()),
        )  # fmt: skip
        _start(settings, foreground=foreground)
    except ConfigError as error:
        raise _fail(error) from error


@app.command()
def rendezvous(
    name: NameOption = "rendezvous",
    authorize: Annotated[list[str] | None, typer.Option(help="Identity that may register.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Identity file, made if missing.")] = None,
    port: Annotated[int, typer.Option(help="UDP port.")] = DEFAULT_PORT,
    foreground: Annotated[bool, typer.Option("--foreground", help="Do not go into the background.")] = False,
    loopback: Annotated[bool, typer.Option("--loopback", help="Use loopback addresses too.")] = False,
) -> None:
    """Pass address changes on between hosts that moved at the same moment; run it at a stable address."""
    try:
        settings = _settings(
            name, [], [], authorize or [], identity, None, port=port, is_rendezvous=True, loopback=loopback
        )
        _start(settings, foreground=foreground)
    except ConfigError as error:
        raise _fail(error) from error


@app.command()
def status(
    name: NameOption = "main",
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    events: Annotated[bool, typer.Option("--events", help="What happened so far.")] = False,
) -> None:
    """Show connections, flows, addresses and refused packets."""
    try:
        reply = ask(socket_path(run_dir(), name), {"command": "events" if events else "status"})
    except ConfigError as error:
        raise _fail(error) from error
    typer.echo(json.dumps(reply, indent=2) if as_json or events else _render(reply))


@app.command()
def move(
    to: Annotated[str, typer.Argument(help="Interface or address of this host.")],
    name: NameOption = "main",
    flow: Annotated[str | None, typer.Option(help="Only this flow (as `status` prints it).")] = None,
) -> None:
    """Move flows to another interface or address of this host."""
    try:
        reply = ask(socket_path(run_dir(), name), {"command": "move", "to": to, "flow": flow})
    except ConfigError as error:
        raise _fail(error) from error
    typer.echo(f"moving {', '.join(reply['moved'])} to {reply['to']}")


@app.command()
def down(name: NameOption = "main") -> None:
    """Close all connections and end the daemon."""
    path = socket_path(run_dir(), name)
    try:
        ask(path, {"command": "down"})
    except ConfigError as error:
        raise _fail(error) from error
    deadline = time.monotonic() + 5
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    typer.echo(f"{name} is down")


@app.command()
def demo() -> None:
    """Show a download that survives hops, a NAT that rebinds and both ends moving at once (Mininet, as root)."""
    from controller.eccp.demo import main as tell

    raise typer.Exit(tell())


def _settings(
    name: str,
    inner: list[str],
    connect: list[str],
    authorize: list[str],
    identity: Path | None,
    psk: Path | None,
    **rest: Any,
) -> DaemonSettings:
    targets = tuple(parse_target(text) for text in connect)
    relay = rest.get("rendezvous")
    known = {parse_identity(text) for text in authorize} | {t.identity for t in targets if t.identity}
    if relay is not None and relay.identity:
        known.add(relay.identity)
    shared = load_psk(psk) if psk else None
    credentials = make_credentials(
        load_identity(_identity_path(identity, name)), shared, frozenset(known) if known or shared is None else None
    )
    if not known and shared is None:
        raise ConfigError("nobody could connect: name a peer's identity (--authorize, --connect ...#IDENTITY) or --psk")
    return DaemonSettings(
        name=name, credentials=credentials, inner=tuple(map(parse_inner, inner)), targets=targets, **rest
    )


def _start(settings: DaemonSettings, *, foreground: bool) -> None:
    path = socket_path(make_run_dir(), settings.name)
    if is_alive(path):
        raise ConfigError(f"a daemon already answers at {path}; `baton eccp down --name {settings.name}` ends it")
    if foreground:
        _run(settings, path)
        return
    log = path.with_suffix(".log")
    with log.open("ab") as output:
        command = [sys.executable, "-m", "controller.cli.eccp", *sys.argv[_own_arguments() :], "--foreground"]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + 10
    while not is_alive(path):
        if process.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ConfigError(lines[-1].removeprefix("baton eccp: ") if lines else "the daemon ended at once")
        if time.monotonic() > deadline:
            process.terminate()
            raise ConfigError(f"the daemon did not start within 10 s; see {log}")
        time.sleep(0.02)
    typer.echo(f"{settings.name} is up (process {process.pid}); `baton eccp status --name {settings.name}`")


def _own_arguments() -> int:
    """Where, in sys.argv, this sub-command's words begin."""
    return 1 if Path(sys.argv[0]).stem == "eccp" else sys.argv.index("eccp") + 1


def _run(settings: DaemonSettings, path: Path) -> None:
    from controller.eccp.daemon import Daemon  # pyroute2 takes a moment to import: only the daemon needs it

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    reporter = Reporter(path.parent)
    daemon = Daemon(settings, reporter)
    try:
        server = ControlServer(path, daemon.handle_request)
    except ConfigError:
        daemon.close()
        raise
    daemon.loop.add_callback(server.fileno(), server.serve)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    try:
        daemon.run()
    finally:
        server.close()
        daemon.close()
        reporter.close()


def _render(reply: dict[str, Any]) -> str:
    lines = [f"{reply['name']}  identity {reply['identity']}  inner {' '.join(reply['inner']) or '-'}"]
    lines += [f"  at {place['address']} on {place['interface']}" for place in reply["places"]]
    lines.append(f"  inner MTU {reply['mtu']}, datapath: {reply['datapath']}")
    for connection in reply["connections"]:
        state = "established" if connection["established"] else "opening"
        lines.append(f"connection {connection['connection']} {state}, peer {connection['identity'] or '?'}")
        lines += [
            f"  flow {f['flow']} {f['state']} v{f['own_version']}  {f['own']} -> {f['peer']}  rtt {f['rtt_ms']} ms"
            + ("  LOST" if f["lost"] else "")
            for f in connection["flows"]
        ]
    if reply["refused"]:
        lines.append("refused: " + ", ".join(f"{n} {reason}" for reason, n in sorted(reply["refused"].items())))
    return "\n".join(lines)


if __name__ == "__main__":
    app()
