# SPDX-License-Identifier: Apache-2.0
"""The control socket: requests, replies of any size, and clients that misbehave."""

import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.eccp.errors import ConfigError
from controller.eccp.transport.control import ControlServer, ask, is_alive


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Any], Path]]:
    """Starts a server with a handler and returns its path; it serves until the test ends."""
    servers: list[ControlServer] = []
    stop = threading.Event()

    def start(handle: Any) -> Path:
        path = tmp_path / "eccp-x.sock"
        server = ControlServer(path, handle)
        servers.append(server)

        def work() -> None:
            while not stop.is_set():
                server.serve()
                stop.wait(0.005)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        threads.append(thread)
        return path

    threads: list[threading.Thread] = []
    yield start
    stop.set()
    for thread in threads:
        thread.join(5)
    for server in servers:
        server.close()


def test_a_request_gets_its_reply(serve: Callable[[Any], Path]) -> None:
    path = serve(lambda request: {"echo": request})
    assert ask(path, {"command": "x"}) == {"echo": {"command": "x"}}
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_large_reply_arrives_whole(serve: Callable[[Any], Path]) -> None:
    rows = [{"flow": f"{number:016x}"} for number in range(20_000)]
    assert ask(serve(lambda request: {"rows": rows}), {})["rows"] == rows


def test_an_error_reply_is_raised_with_its_sentence(serve: Callable[[Any], Path]) -> None:
    with pytest.raises(ConfigError, match="turn it on first"):
        ask(serve(lambda request: {"error": "turn it on first"}), {})


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"{", b"[1]\n", b"\xff\xfe\n", b"[" * 60_000 + b"\n", b"x" * 200_000, b'"a"\n']
)
def test_nonsense_is_answered_or_dropped_and_the_next_client_served(serve: Callable[[Any], Path], raw: bytes) -> None:
    path = serve(lambda request: {"got": request})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        try:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(1 << 16)
        except OSError:
            answer = b""
    if answer:
        assert set(json.loads(answer)) <= {"error", "got"}
    assert ask(path, {"a": 1}) == {"got": {"a": 1}}


def test_two_daemons_of_one_name_are_refused_and_a_dead_ones_socket_is_replaced(serve: Callable[[Any], Path]) -> None:
    path = serve(lambda request: {})
    with pytest.raises(ConfigError, match="already answers"):
        ControlServer(path, lambda request: {})
    dead = path.with_name("eccp-dead.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
        gone.bind(str(dead))
    assert not is_alive(dead)
    ControlServer(dead, lambda request: {}).close()
    assert not dead.exists()


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="baton eccp up"):
        ask(tmp_path / "nothing.sock", {})
