# SPDX-License-Identifier: Apache-2.0
"""The line server on loopback: every answer names it, counts, and repeats; the log says what was received."""

import hashlib
import io
import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers.line_server import LineServer, parse_get, pattern

SERVERS = Path(__file__).resolve().parents[3] / "servers"


@contextmanager
def started(name="alpha"):
    log, ready = io.StringIO(), threading.Event()
    server = LineServer(name, log, quiet=True)
    report = server.report

    def report_and_tell(event, **facts):
        report(event, **facts)
        if event == "listening":
            server.port = facts["port"]
            ready.set()

    server.report = report_and_tell
    threading.Thread(target=server.run, args=("127.0.0.1", 0), daemon=True).start()
    assert ready.wait(10)
    yield server, lambda: [json.loads(line) for line in log.getvalue().splitlines()]


def exchange(port, data):
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def until_closed(events):
    deadline = threading.Event()
    for _ in range(1000):
        if any(event["event"] == "closed" for event in events()):
            return events()
        deadline.wait(0.01)
    raise AssertionError("the connection was never closed")


def test_lines_are_repeated_with_name_count_length_and_hash():
    with started() as (server, _):
        first, second = exchange(server.port, b"hello\nworld!\n").splitlines()
    assert first == b"alpha 1 5 " + hashlib.sha256(b"hello").hexdigest().encode() + b" hello"
    assert second == b"alpha 2 6 " + hashlib.sha256(b"world!").hexdigest().encode() + b" world!"


def test_a_get_is_answered_with_the_pattern():
    with started() as (server, _):
        head, _, body = exchange(server.port, b"get 100000 7\n").partition(b"\n")
    assert head == b"alpha 1 100000 " + hashlib.sha256(body).hexdigest().encode() + b" -"
    assert body == pattern(100_000, 7)


def test_the_log_tells_what_was_received():
    data = b"one\ntwo\nunfinished"
    with started() as (server, events):
        answers = exchange(server.port, data)
        told = until_closed(events)
    closed = next(event for event in told if event["event"] == "closed")
    assert (closed["received"], closed["sent"], closed["answers"]) == (len(data), len(answers), 2)
    assert closed["sha256"] == hashlib.sha256(data).hexdigest()
    assert [event["text"] for event in told if event["event"] == "request"] == ["one", "two"]
    assert next(event for event in told if event["event"] == "unfinished")["bytes"] == len("unfinished")


@pytest.mark.parametrize(("start", "size"), [(0, 1), (63, 2), (64, 64), (1000, 777), (5, 0)])
def test_a_pattern_is_one_text_wherever_it_is_cut(start, size):
    assert pattern(size, 3, start) == pattern(3000, 3)[start : start + size]


def test_patterns_differ_by_seed_and_place():
    assert pattern(64, 1) != pattern(64, 2)
    blocks = [pattern(64, 1, start) for start in range(0, 6400, 64)]
    assert len(set(blocks)) == len(blocks)


@pytest.mark.parametrize(
    "line", [b"get", b"get 1", b"get x 1", b"get 1 x", b"get 1 2 3", b"get -1 2", b"get 1 %d" % (1 << 64), b"put 1 2"]
)
def test_other_lines_are_no_gets(line):
    assert parse_get(line) == (-1, 0)


def test_a_taken_port_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, str(SERVERS / "server1.py"), "--address", "127.0.0.1", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "cannot serve at 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
