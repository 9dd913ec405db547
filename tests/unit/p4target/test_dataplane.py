# SPDX-License-Identifier: Apache-2.0
"""The data plane's thread: PacketOuts reach the switch, passes and frames take turns, a defect is not silent."""

from __future__ import annotations

import os
import queue
import threading
from typing import Any

from p4src.target.dataplane import INBOX, DataPlane

DEADLINE = 10.0


class FakePort:
    """A pipe in place of an interface: one byte a frame."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)

    def fileno(self) -> int:
        return self._out

    def put(self, frame: bytes) -> None:
        os.write(self._in, frame)

    def receive(self) -> bytes | None:
        try:
            return os.read(self._out, 1)
        except BlockingIOError:
            return None

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)


class FakeSwitch:
    """Notes what it is given; a frame `again` wants `passes` more passes."""

    def __init__(self, passes: int = 0) -> None:
        self.log: queue.Queue[Any] = queue.Queue()
        self.passes = passes

    @property
    def waiting(self) -> bool:
        return self.passes > 0

    def receive(self, port: int, frame: bytes) -> None:
        if frame == b"!":
            raise ValueError("a defect")
        self.log.put((port, frame))

    def again(self) -> None:
        self.passes -= 1
        self.log.put("pass")


def made(port: FakePort, switch: FakeSwitch) -> DataPlane:
    plane = DataPlane([port], 255, lambda: None)  # type: ignore[list-item]
    plane.switch = switch  # type: ignore[assignment]
    return plane


def test_frames_and_packet_outs() -> None:
    port, switch = FakePort(3), FakeSwitch()
    plane = made(port, switch)
    plane.start()
    port.put(b"a")
    assert switch.log.get(timeout=DEADLINE) == (3, b"a")
    assert plane.packet_out(b"token")
    assert switch.log.get(timeout=DEADLINE) == (255, b"token")
    plane.stop()
    port.close()


def test_passes_do_not_starve_the_ports() -> None:
    port, switch = FakePort(3), FakeSwitch(passes=1000)
    plane = made(port, switch)
    for _ in range(20):
        port.put(b"a")
    plane.start()
    seen = [switch.log.get(timeout=DEADLINE) for _ in range(1020)]
    assert seen.index((3, b"a")) == 0
    assert max(n for n, event in enumerate(seen) if event != "pass") < 30
    plane.stop()
    port.close()


def test_too_many_packet_outs_are_refused() -> None:
    port = FakePort(3)
    plane = made(port, FakeSwitch())
    assert all(plane.packet_out(b"token") for _ in range(INBOX))
    assert not plane.packet_out(b"token")
    port.close()


def test_a_defect_is_told() -> None:
    port, told = FakePort(3), threading.Event()
    plane = made(port, FakeSwitch())
    plane.on_fault = told.set
    plane.start()
    port.put(b"!")
    assert told.wait(DEADLINE)
    assert isinstance(plane.fault, ValueError)
    plane.stop()
    port.close()
