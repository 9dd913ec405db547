# SPDX-License-Identifier: Apache-2.0
"""Frames through a Linux interface: whole, with their VLAN tag, none of our own, none lost in silence."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from vectors.p4.bed import Bed

from p4src.target.ports import Port, PortError


@pytest.fixture
def ends() -> Iterator[tuple[Port, socket.socket, Bed]]:
    """A port and a raw socket at its other end."""
    with Bed() as bed:
        bed.port("a", 1)
        with bed.inside():
            port = Port(1, "ap1")
        raw = bed.socket("a", 1)
        yield port, raw, bed
        raw.close()
        port.close()


def receive(port: Port) -> bytes | None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        frame = port.receive()
        if frame is not None:
            return frame
        time.sleep(0.001)
    return None


def test_both_ways(ends: tuple[Port, socket.socket, Bed]) -> None:
    port, raw, _ = ends
    raw.send(b"\2" * 12 + b"\x90\0there")
    assert receive(port) == b"\2" * 12 + b"\x90\0there"
    port.send(b"\4" * 12 + b"\x90\0back")
    raw.settimeout(5)
    while (frame := raw.recvfrom(100))[1][2] == socket.PACKET_OUTGOING:
        pass
    assert frame[0] == b"\4" * 12 + b"\x90\0back"
    assert port.receive() is None


def test_vlan_tag_stays(ends: tuple[Port, socket.socket, Bed]) -> None:
    port, raw, _ = ends
    frame = b"\2" * 12 + b"\x81\0\x60\x05\x90\x01" + b"q" * 40
    raw.send(frame)
    assert receive(port) == frame


def test_losses_are_counted(ends: tuple[Port, socket.socket, Bed]) -> None:
    port, _, bed = ends
    port.send(bytes(3000))
    assert port.lost == 1
    bed.sh("ip", "link", "set", "ap1", "down")
    port.send(bytes(60))
    assert port.lost == 2
    assert port.receive() is None


def test_no_such_interface() -> None:
    with pytest.raises(PortError, match="nosuchif0"):
        Port(1, "nosuchif0")
