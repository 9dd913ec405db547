# SPDX-License-Identifier: Apache-2.0
"""Two P4 switches, traffic and a bad fabric between them, and the plainest driver that a session can have."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vectors.p4 import reference as ref
from vectors.p4 import scenarios as sc
from vectors.p4.bed import Bed
from vectors.p4.client import DELETE, MODIFY, TOKEN_PADDING, Client, PacketIn
from vectors.p4.frames import TCP, address, ipv4
from vectors.p4.record import BUILD

FABRIC = sc.FABRIC
SERVERS = {"a": "10.0.0.1", "b": "10.0.0.2"}
DEADLINE = 60.0
SO_RCVBUFFORCE = 33


@dataclass
class Weather:
    """What happens to frames on the fabric: probabilities, from a seed."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    seed: int = 1
    dropped: int = 0
    seen: list[bytes] = field(default_factory=list)


class Fabric:
    """Carries frames between the fabric ports of two switches through a Weather."""

    def __init__(self, bed: Bed, weather: Weather) -> None:
        self.weather = weather
        self._random = random.Random(weather.seed)
        self._ends = {s: bed.socket(s, FABRIC) for s in "ab"}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def inject(self, switch: str, frame: bytes) -> None:
        """A frame of an attacker's, towards a switch."""
        self._ends[switch].send(frame)

    def _run(self) -> None:
        late: list[tuple[socket.socket, bytes]] = []
        other = {self._ends["a"]: self._ends["b"], self._ends["b"]: self._ends["a"]}
        while not self._stop.is_set():
            ready, _, _ = select.select(list(other), [], [], 0.002)
            for end in ready:
                frame, origin = end.recvfrom(4096)
                if origin[2] == socket.PACKET_OUTGOING:
                    continue
                self.weather.seen.append(frame)
                dice = self._random.random
                if dice() < self.weather.loss:
                    self.weather.dropped += 1
                elif dice() < self.weather.reordering:
                    late.append((other[end], frame))
                else:
                    other[end].send(frame)
                    if dice() < self.weather.duplication:
                        late.append((other[end], frame))
            while late and (not ready or len(late) > 3):
                end, frame = late.pop(self._random.randrange(len(late)))
                end.send(frame)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        for end in self._ends.values():
            end.close()


class Lab:
    """Switches `a` and `b`: port 1 to the client, 2 to the server, 3 the fabric."""

    def __init__(self, target: str, weather: Weather | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self.bed = self._stack.enter_context(Bed())
        for switch in SERVERS:
            self.bed.port(switch, 1)
            self.bed.port(switch, 2)
        if weather is None:
            self.bed.wire("a", FABRIC, "b", FABRIC)
            self.fabric = None
        else:
            for switch in SERVERS:
                self.bed.port(switch, FABRIC)
            self.fabric = Fabric(self.bed, weather)
            self._stack.callback(self.fabric.close)
        self.switches: dict[str, Client] = {}
        self.sockets = {}
        self._servers = {}
        self._forwarded: dict[str, Counter[int]] = {switch: Counter() for switch in SERVERS}
        for number, (switch, server) in enumerate(SERVERS.items()):
            client = Client(self.bed.start(target, switch, [1, 2, 3], 9090 + number), BUILD / "flow_state.p4info.txtpb")
            client.start()
            self._stack.callback(client.stop)
            client.push(BUILD / "flow_state.json")
            client.clone_session(1, 509)
            for port in (1, 2):
                client.write(
                    sc.INGRESS + "forward",
                    {"port": (port, 511)},
                    sc.INGRESS + "to_port",
                    {"port": 3 - port},
                    priority=1,
                )
            match = {"address": address(server), "protocol": TCP, "port": 80}
            client.write(
                sc.INGRESS + "service_by_destination", match, sc.INGRESS + "client_to_server", {"service": sc.SERVICE}
            )
            self.switches[switch] = client
            self.sockets[switch] = self._stack.enter_context(self.bed.socket(switch, 1))
            self._servers[switch] = self._stack.enter_context(self.bed.socket(switch, 2))
            self._servers[switch].setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def count(self, switch: str, flow: int) -> None:
        """One packet of flow number `flow` at a switch."""
        client, port = f"10.{10 + (flow >> 16)}.{flow >> 8 & 255}.{flow & 255}", 1024 + flow
        self.sockets[switch].send(ipv4(client, port, SERVERS[switch], 80))

    def forwarded(self, switch: str) -> Counter[int]:
        """Packets by flow that have come out towards the server so far: what the switch has seen.

        What was sent is no measure: bmv2's capture ring holds some 30 frames, and a busy machine overruns it.
        """
        seen, server = self._forwarded[switch], self._servers[switch]
        while select.select([server], [], [], 0)[0]:
            frame, origin = server.recvfrom(4096)
            if origin[2] != socket.PACKET_OUTGOING and len(frame) >= 36:
                seen[int.from_bytes(frame[34:36], "big") - 1024] += 1
        return seen

    def settle(self) -> dict[str, Counter[int]]:
        """Waits until all that came out was counted and no more comes. Raises TimeoutError."""
        deadline = time.monotonic() + DEADLINE
        last, quiet = None, 0
        while quiet < 5:
            now = {switch: (self.forwarded(switch).total(), counted(self.events(switch))) for switch in SERVERS}
            quiet = quiet + 1 if now == last and all(out == events for out, events in now.values()) else 0
            last = now
            if time.monotonic() > deadline:
                raise TimeoutError(f"(forwarded, counted): {now}")
            time.sleep(0.02)
        return self._forwarded

    def ask(self, switch: str, **fields: int) -> PacketIn:
        return self.switches[switch].ask(**fields, timeout=DEADLINE)

    def clients(self, switch: str, last: int = ref.ENTRIES - 1) -> list[int]:
        """The live client array."""
        values: list[int] = []
        for base in range(0, last + 1, 128):
            report = self.ask(switch, kind=sc.READ_BLOCK, argument=base)
            values += ref.clients_values(struct.unpack(">64Q", report.payload))
        return values

    def flow(self, switch: str, flow: int) -> ref.Record | None:
        return self.record(switch, key_of(flow))

    def record(self, switch: str, key: int) -> ref.Record | None:
        report = self.ask(switch, kind=sc.READ_FLOW, argument=key)
        return ref.record_values(struct.unpack(">64Q", report.payload))[0] if report.fields["state"] == 0 else None

    def events(self, switch: str) -> list[int]:
        return self.switches[switch].counters(sc.EVENTS)


def counted(events: list[int]) -> int:
    """Packets of services that a switch has seen, from its `events`: counted, or the entry is another's."""
    return events[14] + events[7]


def key_of(flow: int) -> int:
    return ref.flow_key(f"10.{10 + (flow >> 16)}.{flow >> 8 & 255}.{flow & 255}", 1024 + flow, sc.SERVICE)


class Shipment:
    """One session between two switches of a lab, step by step."""

    def __init__(self, lab: Lab, source: str, destination: str, keys: ref.Session) -> None:
        self.lab, self.source, self.destination, self.keys = lab, source, destination, keys
        self.rounds = 0
        self.number = {"session": keys.number}

    def open(self) -> None:
        entry = sc.session_entry(self.keys, FABRIC)
        there, here = self.lab.switches[self.destination], self.lab.switches[self.source]
        there.write(sc.INGRESS + "staging_mark", self.number, sc.INGRESS + "set_mark", {"mark": sc.OPEN})
        there.write(sc.INGRESS + "sync_in", {"port": FABRIC, **self.number}, sc.INGRESS + "use_session", entry)
        here.write(sc.INGRESS + "sync_out", self.number, sc.INGRESS + "use_session", entry)
        for switch, kind in ((self.destination, sc.OPEN_IN), (self.source, sc.OPEN_OUT)):
            report = self.lab.ask(switch, kind=kind, **self.number)
            if report.fields["state"] != 0:
                raise RuntimeError(f"{switch} does not open: {report.fields}")

    def copy(self, array: int, mode: int, last: int = ref.ENTRIES - 1) -> int:
        """Walk one round; packets made so far."""
        self.rounds += 1
        report = self.lab.ask(
            self.source, kind=sc.ROUND, credit=self.rounds, argument=sc.blocks(array, mode, 0, last), **self.number
        )
        if report.fields["state"] != 0:
            raise RuntimeError(f"round {self.rounds}: {report.fields}")
        report = self.lab.ask(self.source, kind=sc.WALK, credit=60000, **self.number)
        if report.fields["state"] != 1:
            raise RuntimeError(f"walk: {report.fields}")
        return report.fields["count"]

    def missing(self, count: int) -> list[int]:
        """Sequence numbers below `count` that are not staged."""
        gaps = []
        for half in range(0, (count + 4095) // 4096):
            report = self.lab.ask(self.destination, kind=sc.REPORT_IN, argument=half << 32, **self.number)
            words = struct.unpack(">64Q", report.payload)
            base = half * 4096
            gaps += [base + s for s in range(min(4096, count - base)) if not words[s >> 6] >> (s & 63) & 1]
        return gaps

    def repair(self) -> PacketIn:
        """Resend until nothing is missing; the destination's report on the last packet. Raises TimeoutError."""
        deadline = time.monotonic() + DEADLINE
        here = self.lab.ask(self.source, kind=sc.REPORT_OUT, **self.number)
        count, quiet = here.fields["count"], 0
        while gaps := self.missing(count):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(gaps)} packets are still missing")
            quiet += 1
            if quiet % 3 == 0:  # what is on its way is given two looks' time
                for start, length in runs(gaps):
                    self.lab.switches[self.source].send(
                        {"kind": sc.RESEND, "argument": start, "credit": length, **self.number}, TOKEN_PADDING
                    )
        there = self.lab.ask(self.destination, kind=sc.REPORT_IN, argument=max(0, count - 1), **self.number)
        if (there.fields["count"], there.fields["links"], there.fields["digest"]) != (
            count,
            count,
            here.fields["digest"],
        ) and count:
            raise RuntimeError(f"the chain does not hold: {here.fields} {there.fields}")
        return there

    def mark(self, mark: int) -> None:
        self.lab.switches[self.destination].write(
            sc.INGRESS + "staging_mark", self.number, sc.INGRESS + "set_mark", {"mark": mark}, MODIFY
        )

    def commit(self, release: bool = True) -> None:
        self.mark(sc.COMMITTED)
        self._until_done(self.destination, sc.SWEEP)
        self._until_done(self.source, sc.RELEASE, flags=0 if release else 1)
        self.forget()

    def abort(self) -> None:
        self.mark(sc.DISCARDED)
        self._until_done(self.source, sc.RESTORE)
        self.forget()

    def forget(self) -> None:
        there, here = self.lab.switches[self.destination], self.lab.switches[self.source]
        there.write(sc.INGRESS + "sync_in", {"port": FABRIC, **self.number}, kind=DELETE)
        there.write(sc.INGRESS + "staging_mark", self.number, kind=DELETE)
        here.write(sc.INGRESS + "sync_out", self.number, kind=DELETE)

    def _until_done(self, switch: str, kind: int, **fields: int) -> None:
        report = self.lab.ask(switch, kind=kind, credit=60000, **fields, **self.number)
        if report.fields["state"] != 1:
            raise RuntimeError(f"token {kind} at {switch}: {report.fields}")


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted numbers as (start, length) of consecutive runs."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and sum(found[-1]) == number:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found


class Traffic:
    """Packets of flows 0 to `flows` - 1, `rate` of them a second, until stopped; `send` sends one of a flow."""

    def __init__(self, send: Callable[[int], object], flows: int, rate: float, seed: int = 7) -> None:
        self.send, self.flows, self.rate = send, flows, rate
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.send(self._random.randrange(self.flows))
            due += 1 / self.rate
            time.sleep(max(0.0, due - time.monotonic()))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
