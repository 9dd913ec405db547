# SPDX-License-Identifier: Apache-2.0
"""An agent from the controller's side: requests over its private socket, blocking, with a deadline on each.

A plain socket and no event loop of its own: works on green threads too, and needs neither gRPC nor keys.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from controller.p4sync import plan
from controller.p4sync.errors import ControlError
from controller.p4sync.plan import Plan

ANSWER_TIME = 30.0
LARGEST = 64 << 20
_LENGTH = struct.Struct("!I")


class AgentControl:
    """A connection to one agent, to be used from one thread. A job that is under way ends with the connection."""

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        """Connect to an agent's control socket; raises ControlError."""
        self.path = path
        self._stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stream.settimeout(timeout)
        try:
            self._stream.connect(str(path))
        except OSError as error:
            self._stream.close()
            raise ControlError(
                f"no agent answers at {path} ({error.strerror or error}); start it with"
                " `python -m controller.p4sync AGENT.toml`"
            ) from error

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect; a job of ours that is not detached is given up."""
        self._stream.close()

    def is_alive(self) -> bool:
        """Return whether the agent still holds the other end."""
        self._stream.settimeout(0)
        try:
            return bool(self._stream.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, TimeoutError):
            return True
        except OSError:
            return False

    def request(self, kind: str, timeout: float = ANSWER_TIME, **fields: Any) -> dict[str, Any]:
        """Send a request and return its answer; raises ControlError."""
        self.send(kind, **fields)
        return self.receive(timeout, "answer")

    def send(self, kind: str, **fields: Any) -> None:
        """Send a request; raises ControlError."""
        data = json.dumps({"kind": kind, **fields}).encode()
        try:
            self._stream.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise ControlError(f"the agent at {self.path} has gone ({error.strerror or error})") from error

    def receive(self, timeout: float, *kinds: str) -> dict[str, Any]:
        """Return the next frame of these kinds (none given: of any); raises ControlError, also for an error frame."""
        deadline = monotonic() + timeout
        while True:
            frame: dict[str, Any] = json.loads(self._frame(deadline))
            if frame["kind"] == "error":
                raise ControlError(frame["error"])
            if not kinds or frame["kind"] in kinds:
                return frame

    def wait(self, kind: str, timeout: float) -> dict[str, Any] | None:
        """Return the next frame of a kind, None if none has begun to come in time; raises ControlError."""
        if not self._waits_for_data(timeout):
            return self.receive(ANSWER_TIME, kind)
        return None

    def _frame(self, deadline: float) -> bytes:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return self._read(length, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        if size > LARGEST:
            raise ControlError(f"{self.path} is no agent")
        data = bytearray()
        while len(data) < size:
            left = deadline - monotonic()
            try:
                self._stream.settimeout(max(0.001, left))
                part = self._stream.recv(size - len(data))
            except TimeoutError as error:
                if left <= 0:
                    raise ControlError(f"the agent at {self.path} does not answer") from error
                continue
            except OSError as error:
                raise ControlError(f"the agent at {self.path} has gone ({error.strerror or error})") from error
            if not part:
                raise ControlError(f"the agent at {self.path} has gone")
            data += part
        return bytes(data)

    # ---- requests ----

    def wait_ready(self, timeout: float = 15.0) -> dict[str, Any]:
        """Wait until the agent's switch is ready; returns its status. Raises ControlError."""
        deadline = monotonic() + timeout
        while True:
            status = self.request("status")
            if status["ready"]:
                return status
            if monotonic() > deadline:
                raise ControlError(f"{status['name']}: its switch is not ready: {status['switch']['trouble']}")
            self._waits_for_data(0.02)

    def _waits_for_data(self, seconds: float) -> bool:
        """Return whether nothing has come in this time; raises ControlError where the agent has gone."""
        self._stream.settimeout(seconds)
        try:
            if self._stream.recv(1, socket.MSG_PEEK):
                return False
        except TimeoutError:
            return True
        except OSError as error:
            raise ControlError(f"the agent at {self.path} has gone ({error.strerror or error})") from error
        raise ControlError(f"the agent at {self.path} has gone")

    def ship(
        self,
        to: str,
        wanted: Plan,
        timeout: float = 120.0,
        progress: Callable[[dict[str, Any]], None] = lambda frame: None,
        begun: Callable[[str], None] = lambda job: None,
    ) -> dict[str, Any]:
        """Ship a plan to a peer and wait for the end.

        Returns the job's result: ``result`` is ``committed``, ``aborted`` or ``lost``, ``reason`` says why. Raises
        ControlError where it cannot be asked for, or the deadline has passed (the job is given up then).
        """
        job = self.request("ship", to=to, plan=plan.record_of(wanted))["job"]
        begun(job)
        deadline = monotonic() + timeout
        while (left := deadline - monotonic()) > 0:
            if self._waits_for_data(left):
                break
            frame = self.receive(ANSWER_TIME, "progress", "done")
            if frame.get("job") != job:
                continue
            if frame["kind"] == "done":
                return frame
            progress(frame)
        raise ControlError(f"not shipped within {timeout:g} s, and given up; the agent's log says what holds it up")
