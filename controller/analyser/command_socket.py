# SPDX-License-Identifier: Apache-2.0
"""Suricata's unix command socket: JSON lines, a version first, then a command and its answer at a time."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from time import monotonic
from typing import Any

from controller.analyser.errors import AnalyserError

PROTOCOL = "0.2"


def ask(path: Path, *commands: str, timeout: float = 60.0) -> list[Any]:
    """Give commands in order and return their answers' messages.

    Raises AnalyserError when Suricata is not there, refuses one, or has not answered all within ``timeout`` seconds.
    """
    deadline = monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.settimeout(timeout)
            stream.connect(str(path))
            _exchange(stream, {"version": PROTOCOL}, deadline)
            return [_exchange(stream, {"command": command}, deadline).get("message") for command in commands]
        except TimeoutError as error:
            raise AnalyserError(f"Suricata has not answered on {path} within {timeout:g} s") from error
        except OSError as error:
            raise AnalyserError(f"cannot talk to Suricata on {path}: {error.strerror}; is it running?") from error


def _exchange(stream: socket.socket, request: dict[str, str], deadline: float) -> dict[str, Any]:
    stream.sendall(json.dumps(request).encode() + b"\n")
    data = b""
    while True:
        stream.settimeout(max(deadline - monotonic(), 0.001))
        chunk = stream.recv(65_536)
        if not chunk:
            raise AnalyserError("Suricata has closed its command socket in the middle of an answer")
        data += chunk
        try:
            answer = json.loads(data)
        except ValueError:
            continue  # not whole yet: an answer has no reliable end mark
        break
    if not isinstance(answer, dict) or answer.get("return") != "OK":
        raise AnalyserError(f"Suricata refused {request}: {answer}")
    return answer
