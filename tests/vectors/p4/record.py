# SPDX-License-Identifier: Apache-2.0
"""Record what real bmv2 does, scenario by scenario, into JSON files beside this one (README.md has the format).

`PATH=...:$PATH python -m vectors.p4.record [NAME...]` from `tests/`, as root, with simple_switch_grpc on PATH.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import scenarios
from .bed import BMV2, Bed
from .client import TOKEN_PADDING, Client
from .registers import read_all
from .replay import Replay

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[2] / "p4src" / "build"
PORTS = (1, 2, 3, 4)
DEADLINE = 10.0
SETTLE = 0.08  # nothing more came for this long: the switch is done


class Recorder:
    """Drives one switch and notes every step with what came out of it."""

    def __init__(self, bed: Bed, program: str) -> None:
        for port in PORTS:
            bed.port("a", port)
        address = bed.start("bmv2", "a", list(PORTS))
        self.program = program
        self.client = Client(address, BUILD / f"{program}.p4info.txtpb")
        self.client.start()
        self.client.push(BUILD / f"{program}.json")
        self.sockets = {port: bed.socket("a", port) for port in PORTS}
        with bed.inside():
            self._thrift = socket.create_connection(("127.0.0.1", 9090))
        self.replay = Replay(self.client, self.sockets)
        self.steps: list[dict[str, Any]] = []

    def write(
        self,
        table: str,
        match: Mapping[str, Any],
        action: str,
        parameters: Mapping[str, int] | None = None,
        kind: str = "insert",
        priority: int = 0,
    ) -> None:
        self.client.write(table, match, action, parameters, {"insert": 1, "modify": 2, "delete": 3}[kind], priority)
        self.steps.append(
            {
                "write": {
                    "table": table,
                    "match": dict(match),
                    "action": action,
                    "parameters": {k: str(v) for k, v in (parameters or {}).items()},
                    "kind": kind,
                    "priority": priority,
                }
            }
        )

    def clone_session(self, number: int, port: int) -> None:
        self.client.clone_session(number, port)
        self.steps.append({"clone_session": {"session": number, "port": port}})

    def digest(self, name: str) -> None:
        self.client.digest(name)
        self.steps.append({"digest_entry": name})

    def token(self, expect: int = 1, ignore: Any = None, **fields: int) -> list[dict[str, Any]]:
        """A token; `expect` outputs are waited for, more are noted, fewer are an error."""
        self.client.send(fields, TOKEN_PADDING)
        return self._note(
            {"packet_out": {"fields": {k: str(v) for k, v in fields.items()}, "payload": TOKEN_PADDING.hex()}},
            expect,
            ignore,
        )

    def packet_out(self, expect: int, payload: bytes, **fields: int) -> list[dict[str, Any]]:
        self.client.send(fields, payload)
        return self._note(
            {"packet_out": {"fields": {k: str(v) for k, v in fields.items()}, "payload": payload.hex()}}, expect, None
        )

    def packet(self, port: int, frame: bytes, expect: int = 0, ignore: Any = None) -> list[dict[str, Any]]:
        self.sockets[port].send(frame)
        return self._note({"packet": {"port": port, "frame": frame.hex()}}, expect, ignore)

    def registers(self, *names: str) -> None:
        """Notes the cells that are not 0."""
        cells = {name: {str(i): str(v) for i, v in enumerate(read_all(self._thrift, name)) if v} for name in names}
        self.steps.append({"registers": cells})

    def counters(self, name: str) -> None:
        self.steps.append({"counters": {name: self.client.counters(name)}})

    def _note(self, step: dict[str, Any], expect: int, ignore: Any) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = []
        deadline = time.monotonic() + DEADLINE
        quiet = time.monotonic()
        while len(outputs) < expect or time.monotonic() - quiet < SETTLE:
            more = self.replay.outputs()
            if more:
                outputs += more
                quiet = time.monotonic()
            elif time.monotonic() > deadline:
                raise TimeoutError(f"{self.program}: {len(outputs)} of {expect} outputs for {step}")
            time.sleep(0.005)
        if len(outputs) != expect:
            raise ValueError(f"{self.program}: {len(outputs)} outputs, {expect} expected, for {step}: {outputs}")
        step["expect"] = outputs
        if ignore:
            step["ignore"] = ignore
        self.steps.append(step)
        return outputs


def record(name: str, program: str, scenario: Callable[[Recorder], None], version: str) -> None:
    with Bed() as bed:
        recorder = Recorder(bed, program)
        scenario(recorder)
        recorder.client.stop()
    document = {
        "about": (scenario.__doc__ or "").strip(),
        "program": program,
        "recorded on": f"bmv2 {version}",
        "ports": list(PORTS),
        "steps": recorder.steps,
    }
    text = json.dumps(document, indent=None, separators=(",", ":")).replace('{"write"', '\n{"write"')
    for kind in ("packet", "packet_out", "registers", "counters", "clone_session", "digest_entry"):
        opening = f'{{"{kind}":'
        text = text.replace(opening + '{"', "\n" + opening + '{"')
    (HERE / f"{name}.json").write_text(text + "\n")


def main(names: list[str]) -> int:
    version = subprocess.run([BMV2, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    for name, (program, scenario) in scenarios.ALL.items():
        if not names or name in names:
            record(name, program, scenario, version)
            print(name, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
