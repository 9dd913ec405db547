# SPDX-License-Identifier: Apache-2.0
"""Do again what was recorded, on any running target, and say where it differs."""

from __future__ import annotations

import json
import queue
import select
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .client import Client

HERE = Path(__file__).resolve().parent
KINDS = {"insert": 1, "modify": 2, "delete": 3}
DEADLINE = 10.0
SETTLE = 0.05
RECORDED = sorted(path.stem for path in HERE.glob("*.json") if path.stem != "siphash24")


def load(name: str) -> dict[str, Any]:
    return dict(json.loads((HERE / f"{name}.json").read_text()))


def masked(data: str, ranges: list[list[int]]) -> str:
    """Hex with byte ranges blanked."""
    for start, end in ranges:
        if len(data) >= 2 * end:
            data = data[: 2 * start] + "-" * (2 * (end - start)) + data[2 * end :]
    return data


def comparable(outputs: list[dict[str, Any]], ignore: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Outputs by where they came out, in order, without what may differ from run to run."""
    sorted_out: dict[str, list[Any]] = {}
    for output in outputs:
        if "port" in output:
            sorted_out.setdefault(f"port {output['port']}", []).append(masked(output["frame"], ignore.get("frame", [])))
        elif "packet_in" in output:
            fields = {k: v for k, v in output["packet_in"].items() if k not in ignore.get("fields", [])}
            sorted_out.setdefault("packet_in", []).append(
                (fields, masked(output["payload"], ignore.get("payload", [])))
            )
        else:
            sorted_out.setdefault("digest", []).append([int(member, 16) for member in output["digest"]])
    return sorted_out


class Replay:
    """One recording on one switch. `registers` reads all cells of an array, where the target offers that."""

    def __init__(
        self, client: Client, sockets: Mapping[int, socket.socket], registers: Callable[[str], list[int]] | None = None
    ) -> None:
        self.client = client
        self.sockets = sockets
        self.registers = registers

    def outputs(self) -> list[dict[str, Any]]:
        """What has come out since the last call."""
        found: list[dict[str, Any]] = []
        while True:
            try:
                report = self.client.packets.get_nowait()
            except queue.Empty:
                break
            found.append({"packet_in": {k: str(v) for k, v in report.fields.items()}, "payload": report.payload.hex()})
        while True:
            try:
                digest = self.client.digests.get_nowait()
            except queue.Empty:
                break
            found += [{"digest": [member.bitstring.hex() for member in data.struct.members]} for data in digest.data]
        for port, raw in self.sockets.items():
            while select.select([raw], [], [], 0)[0]:
                frame, origin = raw.recvfrom(4096)
                if origin[2] != socket.PACKET_OUTGOING:
                    found.append({"port": port, "frame": frame.hex()})
        return found

    def collect(self, expect: int) -> list[dict[str, Any]]:
        """Waits for `expect` outputs and for quiet after them; what came until the deadline otherwise."""
        found: list[dict[str, Any]] = []
        start = quiet = time.monotonic()
        while time.monotonic() - start < DEADLINE and (len(found) < expect or time.monotonic() - quiet < SETTLE):
            more = self.outputs()
            if more:
                found += more
                quiet = time.monotonic()
            else:
                time.sleep(0.002)
        return found

    def step(self, step: Mapping[str, Any]) -> str | None:
        """Do one step; None, or how it differed."""
        if "write" in step:
            w = step["write"]
            match = {k: tuple(v) if isinstance(v, list) else v for k, v in w["match"].items()}
            parameters = {k: int(v) for k, v in w["parameters"].items()}
            self.client.write(w["table"], match, w["action"], parameters, KINDS[w["kind"]], w["priority"])
        elif "clone_session" in step:
            self.client.clone_session(step["clone_session"]["session"], step["clone_session"]["port"])
        elif "digest_entry" in step:
            self.client.digest(step["digest_entry"])
        elif "counters" in step:
            for name, expected in step["counters"].items():
                if (cells := self.client.counters(name)) != expected:
                    return f"counter {name}: {cells}, recorded {expected}"
        elif "registers" in step:
            return self._compare_registers(step["registers"])
        else:
            return self._compare_outputs(step)
        return None

    def _compare_registers(self, recorded: Mapping[str, Mapping[str, str]]) -> str | None:
        if self.registers is None:
            return None
        for name, expected in recorded.items():
            cells = {str(i): str(v) for i, v in enumerate(self.registers(name)) if v}
            if cells != expected:
                changed = {
                    i: (cells.get(i), expected.get(i)) for i in {*cells, *expected} if cells.get(i) != expected.get(i)
                }
                return f"register {name}, (cell now, recorded): {dict(list(changed.items())[:8])}"
        return None

    def _compare_outputs(self, step: Mapping[str, Any]) -> str | None:
        if "packet" in step:
            self.sockets[step["packet"]["port"]].send(bytes.fromhex(step["packet"]["frame"]))
        else:
            fields = {k: int(v) for k, v in step["packet_out"]["fields"].items()}
            self.client.send(fields, bytes.fromhex(step["packet_out"]["payload"]))
        ignore = step.get("ignore", {})
        now = comparable(self.collect(len(step["expect"])), ignore)
        recorded = comparable(step["expect"], ignore)
        return None if now == recorded else f"came out {now}, recorded {recorded}"

    def run(self, steps: list[dict[str, Any]]) -> list[str]:
        """Do all steps; the first difference found, if any, with its step."""
        for number, step in enumerate(steps):
            difference = self.step(step)
            if difference:
                return [f"step {number} {json.dumps({**step, 'expect': '...'})[:300]}: {difference[:1500]}"]
        return []
