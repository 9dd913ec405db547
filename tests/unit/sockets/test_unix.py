# SPDX-License-Identifier: Apache-2.0
import os
import socket
import threading

import pytest

from controller.core.errors import ConfigError
from controller.sockets.unix import bind_unix, retire_unix

KINDS = pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagram"])


@KINDS
def test_the_socket_is_its_owners_only(tmp_path, kind):
    with bind_unix(tmp_path / "s", kind):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


@KINDS
def test_a_retired_socket_wakes_its_reader_and_is_gone(tmp_path, kind):
    path = tmp_path / "s"
    with bind_unix(path, kind) as bound:
        woken = []
        if kind is socket.SOCK_STREAM:
            bound.listen(1)

        def read():
            woken.append(bound.accept()[0].close() if kind is socket.SOCK_STREAM else bound.recv(1))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        retire_unix(path, kind)
        reader.join(30)
        assert len(woken) == 1
        assert not path.exists()


@KINDS
def test_a_stale_socket_is_replaced(tmp_path, kind):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, kind) as crashed:
        crashed.bind(str(path))
    with bind_unix(path, kind):
        assert path.is_socket()


@KINDS
def test_a_socket_in_use_is_left_alone(tmp_path, kind):
    path = tmp_path / "s"
    with bind_unix(path, kind) as first:
        if kind is socket.SOCK_STREAM:
            first.listen(1)
        with pytest.raises(ConfigError, match="in use by another process"):
            bind_unix(path, kind)
        assert path.is_socket()


def test_a_live_socket_of_another_kind_is_left_alone(tmp_path):
    path = tmp_path / "s"
    with bind_unix(path, socket.SOCK_DGRAM), pytest.raises(ConfigError, match="in use"):
        bind_unix(path, socket.SOCK_STREAM)


@KINDS
def test_retiring_what_is_gone_is_no_trouble(tmp_path, kind):
    retire_unix(tmp_path / "s", kind)


def test_a_file_is_left_alone(tmp_path):
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is no socket"):
        bind_unix(path, socket.SOCK_STREAM)
    assert path.read_text() == "mine"


def test_a_symbolic_link_is_not_followed(tmp_path):
    path = tmp_path / "s"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is no socket"):
        bind_unix(path, socket.SOCK_STREAM)


def test_a_path_that_no_socket_can_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at most 107 bytes"):
        bind_unix(tmp_path / ("x" * 108), socket.SOCK_STREAM)


def test_a_missing_directory_is_named(tmp_path):
    path = tmp_path / "missing" / "s"
    with pytest.raises(ConfigError, match=f"{os.fspath(path)}: No such file"):
        bind_unix(path, socket.SOCK_STREAM)
