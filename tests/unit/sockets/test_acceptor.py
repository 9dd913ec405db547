# SPDX-License-Identifier: Apache-2.0
"""Connections up to a limit; room again when one is released; what cannot be accepted is outlived."""

import logging
import socket
import threading
import time
from queue import Queue

import pytest

from controller.core.errors import ConfigError
from controller.sockets.acceptor import Acceptor
from controller.sockets.complaints import Complaints

DEADLINE = 30


@pytest.fixture
def taken():
    return Queue()


@pytest.fixture
def acceptor(tmp_path, taken):
    made = Acceptor(time, tmp_path / "s", 2, taken.put, Complaints(logging.getLogger("test"), "test"), "a caller")
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not (tmp_path / "s").exists()


def call(tmp_path):
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(DEADLINE)
    stream.connect(str(tmp_path / "s"))
    return stream


def test_one_too_many_is_hung_up_on_and_others_are_not(acceptor, taken, tmp_path, caplog):
    first, second = call(tmp_path), call(tmp_path)
    served = [taken.get(timeout=DEADLINE) for _ in range(2)]
    assert call(tmp_path).recv(1) == b""
    assert (len(acceptor), acceptor.refused) == (2, 1)
    assert "refused a caller: 2 are connected already" in caplog.text
    acceptor.release(served[0])
    assert first.recv(1) == b""
    third = call(tmp_path)
    served[0] = taken.get(timeout=DEADLINE)
    for stream, end in ((second, served[1]), (third, served[0])):
        stream.sendall(b"x")
        assert end.recv(1) == b"x"


def test_stopping_wakes_who_reads(acceptor, taken, tmp_path):
    stream = call(tmp_path)
    end = taken.get(timeout=DEADLINE)
    acceptor.stop()
    assert end.recv(1) == b""
    assert stream.recv(1) == b""


def test_trouble_with_accepting_is_told_and_outlived(tmp_path, taken, caplog):
    made = Acceptor(time, tmp_path / "s", 2, taken.put, Complaints(logging.getLogger("test"), "test"), "a caller")
    sound, failures = made._listener, [OSError(24, "Too many open files")] * 2

    class Exhausted:
        """A listener that twice has no descriptor left."""

        close = sound.close

        @staticmethod
        def accept():
            if failures:
                raise failures.pop()
            return sound.accept()

    made._listener = Exhausted
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    stream = call(tmp_path)
    taken.get(timeout=DEADLINE)
    assert caplog.text.count("Too many open files") == 1
    made.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    stream.close()


def test_given_up_before_it_ran_it_leaves_nothing(tmp_path, taken):
    complain = Complaints(logging.getLogger("test"), "test")
    made = Acceptor(time, tmp_path / "s", 2, taken.put, complain, "a caller")
    with pytest.raises(ConfigError, match="in use"):
        Acceptor(time, tmp_path / "s", 2, taken.put, complain, "a caller")
    made.abandon()
    assert not (tmp_path / "s").exists()
