# SPDX-License-Identifier: Apache-2.0
"""`baton eccp`: bad input gets a sentence with the mend, and never a traceback."""

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.bus_client import NAME
from controller.cli.eccp import app
from controller.cli.eccp_events import Reporter
from controller.wire.bus import FrameReader

RUNNER = CliRunner()
IDENTITY = "ab" * 32


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory and a home of the test's own."""
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    monkeypatch.setenv("BATON_RUN_DIR", str(run_dir))
    return tmp_path


def up(private: Path, *arguments: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["up", "--foreground", "--identity", str(private / "id.key"), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_keygen_is_stable(private: Path) -> None:
    key = str(private / "id.key")
    first, second = (RUNNER.invoke(app, ["keygen", "--identity", key]).output for _ in range(2))
    assert first == second
    assert len(bytes.fromhex(first.strip())) == 32


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (("--inner", "10.77.0.1/24"), "name a peer's identity"),
        (("--authorize", IDENTITY), "give this host an address inside the tunnel"),
        (("--authorize", "xyz", "--inner", "10.77.0.1/24"), "64 hexadecimal digits"),
        (("--authorize", IDENTITY, "--inner", "10.77.0.1.2"), "such as 10.77.0.1/24"),
        (("--connect", "server.example:1", "--inner", "10.77.0.1/24"), "numeric address"),
        (("--authorize", IDENTITY, "--inner", "10.77.0.1/24", "--port", "70000"), "between 0 and 65535"),
        (("--authorize", IDENTITY, "--inner", "10.77.0.1/24", "--mtu", "100"), "between 576 and 9000"),
        (("--authorize", IDENTITY, "--inner", "10.77.0.1/24", "--name", "Far too long a name"), "1-11 of a-z"),
        (("--authorize", IDENTITY, "--inner", "10.77.0.1/24", "--weight", "wlan0"), "such as wlan0=3"),
        (("--authorize", IDENTITY, "--inner", "10.77.0.1/24", "--weight", "wlan0=-1"), "such as wlan0=3"),
        (("--authorize", IDENTITY, "--inner", "10.77.0.1/24", "--weight", "wlan0=nan"), "such as wlan0=3"),
        (("--psk", "/nonexistent", "--inner", "10.77.0.1/24"), "cannot read the pre-shared key"),
    ],
)
def test_bad_settings(private: Path, arguments: tuple[str, ...], mend: str) -> None:
    code, output = up(private, *arguments)
    assert code == 1
    assert mend in output


@pytest.mark.parametrize("command", [["status"], ["move", "wlan0"], ["down"]])
def test_without_a_daemon(command: list[str]) -> None:
    result = RUNNER.invoke(app, command)
    assert result.exit_code == 1
    assert "start one with `baton eccp up`" in result.output


def test_a_run_directory_open_to_others_is_refused(private: Path) -> None:
    (private / "run").chmod(0o755)
    code, output = up(private, "--authorize", IDENTITY, "--inner", "10.77.0.1/24")
    assert code == 1
    assert "chmod 700" in output


FACTS = {
    "time": 1.0, "host": "a", "identity": "ab", "flow": "01", "version": 2, "who": "own",
    "own": "10.0.0.1:4500", "peer": "[2001:db8::1]:4500", "address": "ignored",
}  # fmt: skip


def test_without_a_controller_moves_reach_the_journal(private: Path) -> None:
    reporter = Reporter(private / "run")
    reporter("FlowMoved", FACTS)
    reporter("FlowOpened", {"flow": "01"})
    reporter.close()
    lines = (private / "run" / "events.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["event"] == "FlowMoved"
    assert json.loads(lines[0])["peer"] == "[2001:db8::1]:4500"


def test_with_a_controller_moves_reach_the_bus(private: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bus:
        bus.bind(str(private / "run" / NAME))
        bus.listen()
        bus.settimeout(5)
        reporter = Reporter(private / "run")
        reporter("FlowMoved", FACTS)
        client, _ = bus.accept()
        with client:
            client.settimeout(5)
            reader, events = FrameReader(), []
            while not events:
                events = reader.feed(client.recv(4096))
        reporter.close()
    assert (events[0].version, events[0].own.address) == (2, "10.0.0.1")
    assert not (private / "run" / "events.jsonl").exists()
