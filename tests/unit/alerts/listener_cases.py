# SPDX-License-Identifier: Apache-2.0
"""`python listener_cases.py HUB CASE DIRECTORY` runs a case of `test_listener.py`; its last line says it passed."""

import json
import socket
import subprocess
import sys

from hub_case import DIRECTORY, HUB, hub, logger_into, run, until

from controller.alerts import listener as room
from controller.alerts.listener import AlertListener
from controller.alerts.parser import AlertParser
from controller.wire.snort_alert import LARGEST, USUAL_SIZE, SnortAlert, encode_snort_alert

FLOOD = """
import socket, sys
flooder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
flooder.connect(sys.argv[1])
while True:
    flooder.send(bytes(65864))
"""


class Bench:
    """A listener whose events are collected in a list."""

    def __init__(self, deliver=None):
        self.events = []
        self.eve, self.snort = DIRECTORY / "eve.sock", DIRECTORY / "snort_alert"
        self.logged = []
        self.listener = AlertListener(
            hub, hub.spawn, AlertParser(), deliver or self.events.append, self.eve, self.snort, logger_into(self.logged)
        )
        self.counters = self.listener.counters
        self.threads = self.listener.start()

    def connect(self):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(str(self.eve))
        return stream

    def datagrams(self):
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(str(self.snort))
        return sender


def line(sid):
    record = {"timestamp": "2026-01-01T00:00:00+0000", "event_type": "alert", "alert": {"signature_id": sid}}
    return json.dumps(record).encode() + b"\n"


def alert(sid):
    return encode_snort_alert(SnortAlert("MIGRATE", 1, sid, 1, 0, 1, 1.0, False))


def sids(bench):
    return [event.sid for event in bench.events]


def eve_lines_in_pieces(bench):
    stream = bench.connect()
    data = line(1) + b'{"event_type":"stats"}\n' + line(2)
    for at in range(0, len(data), 7):
        stream.sendall(data[at : at + 7])
        hub.sleep(0.001)
    stream.sendall(line(3) + line(4))
    until(lambda: len(bench.events) == 4)
    assert sids(bench) == [1, 2, 3, 4]
    assert bench.counters.malformed == 0


def analysers_come_and_go(bench):
    first, second = bench.connect(), bench.connect()
    first.sendall(line(1))
    until(lambda: sids(bench) == [1])
    first.close()
    second.sendall(line(2))
    until(lambda: sids(bench) == [1, 2])
    third = bench.connect()
    third.sendall(line(3)[:20])
    third.close()  # in the middle of a line
    until(lambda: bench.counters.malformed == 1)
    again = bench.connect()
    again.sendall(line(4))
    until(lambda: sids(bench) == [1, 2, 4])


def snort_datagrams(bench):
    with bench.datagrams() as sender:
        for sid in range(1, 31):
            sender.sendall(alert(sid))
    until(lambda: len(bench.events) == 30)
    assert sids(bench) == list(range(1, 31))


def garbage_never_kills(bench):
    stream = bench.connect()
    stream.sendall(b"\0\xff garbage\n\n[]\n" + b'{"event_type":"alert"}\n' + line(1))
    with bench.datagrams() as sender:
        for data in (b"", b"x", bytes(USUAL_SIZE), bytes(LARGEST), bytes(LARGEST + 1), bytes(100_000), alert(2)):
            sender.sendall(data)
    until(lambda: sorted(sids(bench)) == [1, 2])
    assert bench.counters.malformed == 10, bench.counters
    assert sum("malformed" in text for text in bench.logged) == 1, bench.logged


def a_fault_of_ours_never_kills(bench):
    class Parser:
        @staticmethod
        def from_eve(text, now):
            raise ZeroDivisionError("a fault")

    sound, bench.listener._parser = bench.listener._parser, Parser
    stream = bench.connect()
    stream.sendall(line(1))
    until(lambda: bench.counters.malformed == 1)
    assert any("ZeroDivisionError: a fault" in text for text in bench.logged)
    bench.listener._parser = sound
    stream.sendall(line(2))
    until(lambda: sids(bench) == [2])


def flood_is_counted(bench):
    gate = hub.Semaphore(0)
    bench.listener._deliver = lambda event: (gate.acquire(), bench.events.append(event))
    stream = bench.connect()
    count = room.QUEUE_LIMIT + 500
    for sid in range(1, count + 1):
        stream.sendall(line(sid))
    until(lambda: bench.counters.dropped and bench.counters.dropped + room.QUEUE_LIMIT + 1 >= count)
    for _ in range(count):
        gate.release()
    until(lambda: bench.counters.delivered + bench.counters.dropped == count)
    assert sids(bench) == list(range(1, len(bench.events) + 1)), "the oldest are kept, in order"
    stream.sendall(line(9_999))
    gate.release()
    until(lambda: bench.events[-1].sid == 9_999)
    assert sum("dropped" in text for text in bench.logged) == 1, bench.logged


def too_many_streams(bench):
    streams = [bench.connect() for _ in range(room.STREAM_LIMIT)]
    for number, stream in enumerate(streams, start=1):
        stream.sendall(line(number))
    until(lambda: len(bench.events) == room.STREAM_LIMIT)
    assert bench.connect().recv(1) == b"", "one too many is hung up on"
    assert bench.listener.streams.refused == 1
    streams.pop().close()
    until(lambda: len(bench.listener.streams) < room.STREAM_LIMIT)
    bench.connect().sendall(line(99))
    until(lambda: bench.events[-1].sid == 99)


def endless_line(bench):
    stream = bench.connect()
    for _ in range(room.LINE_LIMIT // 65_536 * 3):
        stream.sendall(b"x" * 65_536)
    stream.sendall(b"\n" + line(1))
    until(lambda: sids(bench) == [1])
    assert bench.counters.malformed == 1


def stop_ends_threads(bench):
    stream = bench.connect()
    stream.sendall(line(1))
    until(lambda: sids(bench) == [1])
    bench.listener.stop()
    bench.listener.stop()
    assert stream.recv(1) == b""
    for thread in bench.threads:
        hub.join(thread)


def order_is_kept(bench):
    stream = bench.connect()
    stream.sendall(b"".join(line(sid) for sid in range(1, 1_001)))
    until(lambda: len(bench.events) == 1_000)
    assert sids(bench) == list(range(1, 1_001))


def a_burst_lets_others_in(bench):
    ticks, seen = [0], []

    def tick():
        while not bench.listener._stopping:
            ticks[0] += 1
            hub.sleep(0)

    class Parser:
        @staticmethod
        def from_eve(text, now):
            seen.append(ticks[0])

    bench.listener._parser = Parser
    hub.spawn(tick)
    stream = bench.connect()
    stream.sendall(b"\n" * 1_000)  # one chunk, read at once
    until(lambda: len(seen) == 1_000)
    if HUB == "eventlet":  # native threads are interrupted anyway
        assert len(set(seen)) >= 1_000 // room.TURN, len(set(seen))


def others_get_their_turn(bench):
    # a process of its own: a green thread here would depend on the listener's turns
    flooder = subprocess.Popen([sys.executable, "-c", FLOOD, str(bench.snort)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: bench.counters.malformed > 100)
        before = bench.counters.malformed
        turns = 0
        while bench.counters.malformed < before + 2_000:
            hub.sleep(0)
            turns += 1
        assert turns >= 10, turns
        stream = bench.connect()
        stream.sendall(line(1))
        until(lambda: sids(bench) == [1])
    finally:
        flooder.kill()
        flooder.wait()


bench = Bench()
run(globals(), bench, bench.listener.stop)
