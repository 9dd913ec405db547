# SPDX-License-Identifier: Apache-2.0
"""The client's side: what it says when there is nobody to talk to, and when nonsense comes back."""

import os
import socket
import threading

import pytest

from controller import bus_client
from controller.bus_client import BusClient, BusError
from controller.core.events import BackendFailed, MigrationRequested
from controller.core.segment import ConnectionKey, Endpoint
from controller.wire.bus import encode_frame

FACT = BackendFailed(1.0, "server1", "no answer")
KEY = ConnectionKey(Endpoint("10.0.0.3", 4_000), Endpoint("10.0.0.1", 80))


@pytest.fixture
def pair(tmp_path):
    """A client, and the stream at the other end."""
    path = tmp_path / "bus.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with BusClient(path) as client:
            other, _ = listener.accept()
            with other:
                yield client, other


def test_no_controller(tmp_path, monkeypatch):
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path))
    with pytest.raises(BusError, match=r"no controller is running at .*ryu-manager apps/tcp_migration.py"):
        BusClient()


def test_a_controller_that_crashed(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "bus.sock"))
    with pytest.raises(BusError, match="no controller is running"):
        BusClient(tmp_path / "bus.sock")


def test_somebody_elses_controller(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(BusClient, "_connect", refuse)
    with pytest.raises(BusError, match="another user"):
        BusClient(tmp_path / "bus.sock")


def test_a_path_that_cannot_be(tmp_path):
    with pytest.raises(BusError, match="cannot join"):
        BusClient(tmp_path / ("x" * 200))


def test_a_controller_that_accepts_nobody(tmp_path, monkeypatch):
    """Tried for a while, then given up."""
    monkeypatch.setattr(bus_client, "ANSWER_TIME", 0.05)
    path = tmp_path / "bus.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with BusClient(path), pytest.raises(BusError, match="cannot join"):
            BusClient(path)


def test_events_in_pieces(pair):
    client, other = pair
    data = encode_frame(FACT) * 2
    other.sendall(data[:7])
    assert client.receive(0) is None
    assert client.receive(0.01) is None
    other.sendall(data[7:])
    assert [client.receive(5), client.receive(5)] == [FACT, FACT]
    assert isinstance(client.fileno(), int)


def test_what_is_sent(pair):
    client, other = pair
    request = MigrationRequested(1.0, KEY, "server2")
    client.send(request)
    assert other.recv(65_536) == encode_frame(request)


def test_waiting_for_one_event(pair):
    client, other = pair
    wanted = BackendFailed(2.0, "server2", "")
    other.sendall(encode_frame(FACT) + encode_frame(wanted))
    assert client.wait_for(lambda event: event.server == "server2", 5) == wanted
    assert client.wait_for(lambda event: True, 0.01) is None


def test_waiting_among_events_that_never_end(pair):
    """The deadline holds however much else happens."""
    client, other = pair
    stop = threading.Event()

    def chatter():
        while not stop.is_set():
            try:
                other.sendall(encode_frame(FACT))
            except OSError:
                return

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        assert client.wait_for(lambda event: False, 0.05) is None
    finally:
        stop.set()
        client.close()
        thread.join()


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "has gone"), (b"\xff\xff\xff\xff", "another version"), (b"\0\0\0\2{}", "another version")],
)
def test_the_end_and_nonsense(pair, data, words):
    client, other = pair
    other.sendall(data)
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(BusError, match=words):
        client.receive(5)


def test_sending_to_nobody(pair):
    client, other = pair
    other.close()
    with pytest.raises(BusError, match="has gone"):
        client.send(FACT)


def test_a_controller_without_the_app(pair, monkeypatch):
    """It joins the bus and never answers."""
    client, _ = pair
    monkeypatch.setattr(bus_client, "ANSWER_TIME", 0.05)
    with pytest.raises(BusError, match="does it run apps"):
        client.connections()


def test_the_run_directory_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(tmp_path / "bus.sock"))
        listener.listen()
        with BusClient() as client:
            assert client.path == tmp_path / "bus.sock"
