# SPDX-License-Identifier: Apache-2.0
"""The thread that moves packets: ports and PacketOut in, passes of recirculated packets between them.

bmv2 gives recirculated packets strict priority over ports, so that a session stops its traffic. Here one pass and a
burst from every port take turns.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

from .ports import Port
from .switch import Switch

BURST = 16
INBOX = 4096
"""PacketOuts that may wait; further ones are dropped."""


class DataPlane:
    """Runs a switch, once there is one. `tick` is called between bursts and says how long it may be left alone."""

    def __init__(self, ports: list[Port], cpu_port: int | None, tick: Callable[[], float | None]) -> None:
        """`on_fault` is called from the thread should it die; `fault` then says of what."""
        self._ports = {port.fileno(): port for port in ports}
        self._cpu_port = cpu_port
        self._tick = tick
        self._inbox: deque[bytes] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.epoll()
        for descriptor in (*self._ports, self._wake):
            self._poll.register(descriptor, select.EPOLLIN)
        self._stopped = False
        self.switch: Switch | None = None
        self.fault: Exception | None = None
        self.on_fault: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="dataplane", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(5)

    def packet_out(self, frame: bytes) -> bool:
        """Send a frame into the CPU port; False: too many wait."""
        if len(self._inbox) >= INBOX:
            return False
        self._inbox.append(frame)
        os.eventfd_write(self._wake, 1)
        return True

    def wake(self) -> None:
        """Something else has changed: another switch, another deadline."""
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._turn()
        except Exception as fault:
            self.fault = fault
            self.on_fault()

    def _turn(self) -> None:
        switch = self.switch
        again = switch is not None and switch.waiting
        left = self._tick()
        timeout = 0 if again or self._inbox else -1 if left is None else max(left, 0)
        for descriptor, _ in self._poll.poll(timeout):
            port = self._ports.get(descriptor)
            if port is None:
                os.eventfd_read(self._wake)
                continue
            for _ in range(BURST):
                frame = port.receive()
                if frame is None:
                    break
                if switch is not None:
                    switch.receive(port.number, frame)
        for _ in range(min(BURST, len(self._inbox))):
            frame = self._inbox.popleft()
            if switch is not None and self._cpu_port is not None:
                switch.receive(self._cpu_port, frame)
        if switch is not None and switch.waiting:
            switch.again()
