# SPDX-License-Identifier: Apache-2.0
"""`python bus_cases.py HUB CASE DIRECTORY` runs a case of `test_bus_server.py`; its last line says it passed."""

import random
import socket
import stat
import time

import pytest
from hub_case import DEADLINE, DIRECTORY, HUB, hub, logger_into, run, until

from controller import bus_server as room
from controller.bus_client import BusClient, BusError
from controller.bus_server import BusServer
from controller.core.events import (
    BackendFailed,
    ConnectionReported,
    DrainRequested,
    MigrationRequested,
    StatusReported,
    StatusRequested,
)
from controller.core.segment import ConnectionKey, Endpoint
from controller.wire.bus import LARGEST, encode_frame

KEY = ConnectionKey(Endpoint("10.0.0.3", 4_000), Endpoint("10.0.0.1", 80))


class Bench:
    """A server whose deliveries are collected in a list."""

    def __init__(self):
        self.path = DIRECTORY / "bus.sock"
        self.delivered, self.logged = [], []
        accepted = (MigrationRequested, DrainRequested, StatusRequested)
        self.server = BusServer(hub, hub.spawn, self.path, accepted, self._deliver, logger_into(self.logged))
        self.thread = self.server.start()

    def _deliver(self, event):
        self.deliver(event)

    def deliver(self, event):
        """Keep it; cases put something else in its place."""
        self.delivered.append(event)

    def connect(self):
        """Join, and wait until the server knows."""
        before = self.server.clients
        client = BusClient(self.path)
        until(lambda: self.server.clients > before)
        return client

    def raw(self):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(str(self.path))  # without a timeout yet: with one, a full backlog is an error
        stream.settimeout(DEADLINE)
        return stream


def fact(number):
    return BackendFailed(float(number), f"server{number}", "")


def is_deaf(stream):
    """Return whether the server has hung up."""
    try:
        while stream.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def everybody_hears_everything_in_order(bench):
    clients = [bench.connect() for _ in range(3)]
    for number in range(500):
        bench.server.publish(fact(number))
    for client in clients:
        assert [client.receive(DEADLINE) for _ in range(500)] == [fact(number) for number in range(500)]
        assert client.receive(0) is None


def requests_arrive_with_the_time_of_their_arrival(bench):
    client = bench.connect()
    before = time.monotonic()
    for number in range(100):
        client.send(MigrationRequested(-1e9, KEY, f"server{number}"))
    until(lambda: len(bench.delivered) == 100)
    assert [event.target for event in bench.delivered] == [f"server{number}" for number in range(100)]
    assert all(before <= event.time <= time.monotonic() for event in bench.delivered)


def an_answer_goes_to_who_asked(bench):
    def answer(event):
        if isinstance(event, StatusRequested):
            row = ConnectionReported(1.0, event.request, KEY, 0, event.after + 1, "echo", "a", "a", "served", 1.0)
            bench.server.publish(row)
            bench.server.publish(StatusReported(1.0, event.request, event.after < 2, event.after + 1))

    bench.deliver = answer
    first, second = bench.connect(), bench.connect()
    bench.server.publish(fact(1))
    assert [row.number for row in first.connections()] == [1, 2, 3]
    bench.server.publish(fact(2))
    assert [first.receive(DEADLINE) for _ in range(2)] == [fact(1), fact(2)], "kept while the answer was awaited"
    assert [second.receive(DEADLINE) for _ in range(2)] == [fact(1), fact(2)]
    assert second.receive(0) is None
    bench.server.publish(StatusReported(1.0, "somebody inside asked", False, 0))
    bench.server.publish(StatusReported(1.0, "77:who is gone", False, 0))
    bench.server.publish(fact(3))
    assert first.receive(DEADLINE) == second.receive(DEADLINE) == fact(3)


def who_does_not_read_is_cut_off(bench):
    slow, quick = bench.raw(), bench.connect()
    until(lambda: bench.server.clients == 2)
    size = 50_000
    event = BackendFailed(1.0, "x", "y" * size)
    for _ in range(2 * room.QUEUE_LIMIT // size):
        bench.server.publish(event)
        assert quick.receive(DEADLINE) == event
    until(lambda: bench.server.clients == 1)
    assert any("does not read" in text for text in bench.logged), bench.logged
    assert is_deaf(slow)
    bench.server.publish(fact(1))
    assert quick.receive(DEADLINE) == fact(1)


def what_may_not_be_sent_is_refused(bench):
    witness = bench.connect()
    for frame in (
        encode_frame(fact(1)),
        encode_frame(DrainRequested(0.0, "r", "s" * room.REQUEST_LIMIT)),
        (LARGEST + 1).to_bytes(4, "big"),
        b"\0\0\0\2{}",
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        stream = bench.raw()
        stream.sendall(frame)
        assert is_deaf(stream)
    until(lambda: bench.server.clients == 1)
    assert bench.delivered == []
    witness.send(DrainRequested(0.0, "r", "server1"))
    until(lambda: bench.delivered)
    assert sum("cut off" in text for text in bench.logged) == 1, bench.logged


def garbage_never_kills(bench):
    seed = random.Random(7)
    sound = encode_frame(MigrationRequested(0.0, KEY, "server2"))
    for _ in range(150):
        stream = bench.raw()
        data = bytearray(sound * 2)
        for _ in range(seed.randrange(1, 6)):
            data[seed.randrange(len(data))] = seed.randrange(256)
        stream.sendall(bytes(data[: seed.randrange(1, len(data))]))
        stream.close()  # often in the middle of a frame
    last = bench.raw()
    last.sendall(b"GET / HTTP/1.1")
    assert is_deaf(last), "it is taken, or refused, after all the others"
    until(lambda: len(bench.server.streams) == 0)
    witness = bench.connect()
    witness.send(DrainRequested(0.0, "r", "server1"))
    until(lambda: any(isinstance(event, DrainRequested) for event in bench.delivered))
    until(lambda: bench.server.clients == 1)
    bench.server.publish(fact(1))
    assert witness.receive(DEADLINE) == fact(1)


def a_fault_of_ours_never_kills(bench):
    def fail(event):
        raise ZeroDivisionError("a fault")

    sound, bench.deliver = bench.deliver, fail
    stream = bench.raw()
    stream.sendall(encode_frame(DrainRequested(0.0, "r", "server1")))
    assert is_deaf(stream)
    assert any("ZeroDivisionError: a fault" in text for text in bench.logged)
    bench.deliver = sound
    bench.connect().send(DrainRequested(0.0, "r", "server1"))
    until(lambda: bench.delivered)


def too_many_clients(bench):
    clients = []
    for _ in range(room.CLIENT_LIMIT):
        clients.append(bench.connect())
    assert bench.raw().recv(1) == b"", "one too many is hung up on"
    clients.pop().close()
    until(lambda: len(bench.server.streams) < room.CLIENT_LIMIT)
    late = bench.connect()
    bench.server.publish(fact(1))
    assert late.receive(DEADLINE) == clients[0].receive(DEADLINE) == fact(1)


def an_event_too_large_stays_inside(bench):
    client = bench.connect()
    bench.server.publish(BackendFailed(1.0, "x", "y" * LARGEST))
    bench.server.publish(fact(1))
    assert client.receive(DEADLINE) == fact(1)
    assert any("stays inside" in text for text in bench.logged)


def a_flood_lets_others_in(bench):
    ticks, seen = [0], []

    def tick():
        while not bench.server._stopping:
            ticks[0] += 1
            hub.sleep(0)

    bench.deliver = lambda event: seen.append(ticks[0])
    hub.spawn(tick)
    frame = encode_frame(DrainRequested(0.0, "r", "s"))
    stream = bench.raw()
    stream.sendall(frame * 500)
    until(lambda: len(seen) == 500)
    if HUB == "eventlet":  # native threads are interrupted anyway
        assert len(set(seen)) >= 500 // room.TURN, len(set(seen))


def stop_ends_everything(bench):
    client = bench.connect()
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o600
    bench.server.stop()
    bench.server.stop()
    with pytest.raises(BusError, match="has gone"):
        client.receive(DEADLINE)
    assert not bench.path.exists()
    hub.join(bench.thread)
    bench.server.publish(fact(1))


bench = Bench()
run(globals(), bench, bench.server.stop)
