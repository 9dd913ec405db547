# SPDX-License-Identifier: Apache-2.0
"""One device: its pipeline, its state, and the messages between the data plane and the clients.

The control plane holds `lock` while it writes. The data plane never waits for it.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import packetio, program, schema
from .arbitration import Arbitration
from .dataplane import DataPlane
from .digests import Digests, Values
from .entries import canonical
from .errors import Code, RefusedError, invalid
from .messages import StreamResponse
from .ports import Port
from .replication import Replication
from .switch import Switch
from .translate import Pipeline, translate


@dataclass(frozen=True)
class Loaded:
    """A committed pipeline and the message it came in."""

    config: Any
    schema: schema.Schema
    pipeline: Pipeline


class Device:
    """`ports`: opened by the caller, closed by him. `cpu_port` None: no PacketIn, no PacketOut."""

    def __init__(self, identity: int, ports: list[Port], cpu_port: int | None) -> None:
        self.lock = threading.RLock()
        self.arbitration = Arbitration(identity)
        self.digests = Digests(self._send_digests)
        self.replication = Replication()
        self.loaded: Loaded | None = None
        self.lost = 0
        self._cpu_port = cpu_port
        self._outputs: dict[int, Callable[[bytes], None]] = {port.number: port.send for port in ports}
        if cpu_port is not None:
            self._outputs[cpu_port] = self._packet_in
        self.dataplane = DataPlane(ports, cpu_port, self.digests.tick)

    def need(self) -> Loaded:
        """The committed pipeline. Raises RefusedError."""
        if self.loaded is None:
            raise RefusedError(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device: push one")
        return self.loaded

    def verify(self, config: Any) -> Loaded:
        """Translate a pipeline without using it. Raises RefusedError."""
        try:
            pipeline = translate(program.load(config.p4_device_config))
        except program.UnsupportedError as fault:
            raise invalid(str(fault)) from None
        return Loaded(config, schema.bind(config.p4info, pipeline.program, pipeline.tables), pipeline)

    def commit(self, loaded: Loaded) -> None:
        """Use a pipeline from the next packet on; tables and registers are as the program begins, all else is gone."""
        with self.lock:
            self.replication.groups.clear()
            self.replication.sessions.clear()
            self.digests.clear()
            self.loaded = loaded
            self.dataplane.switch = Switch(loaded.pipeline, self.replication, self._outputs, self._on_digest)
            self.dataplane.wake()
            _settle_memory()

    def packet_out(self, packet: Any) -> None:
        """Raises RefusedError."""
        loaded = self.need()
        if self._cpu_port is None:
            raise RefusedError(Code.FAILED_PRECONDITION, "this target was started without --cpu-port: no PacketOut")
        if not self.dataplane.packet_out(packetio.frame_of(packet, loaded.schema.packet_out)):
            raise RefusedError(Code.RESOURCE_EXHAUSTED, "too many PacketOuts wait: send them more slowly")

    def _packet_in(self, frame: bytes) -> None:
        primary, loaded = self.arbitration.primary, self.loaded
        if primary is None or loaded is None:
            return
        message = packetio.packet_in(frame, loaded.schema.packet_in)
        if message is None or not primary.send(message):
            self.lost += 1

    def _on_digest(self, list_number: int, values: Values) -> None:
        loaded = self.loaded
        if loaded is not None:
            for number, of_program in loaded.schema.digests.items():
                if of_program == list_number:
                    self.digests.add(number, values)

    def _send_digests(self, number: int, list_number: int, digests: list[Values]) -> None:
        primary, loaded = self.arbitration.primary, self.loaded
        if primary is None or loaded is None:
            return
        scalar = loaded.schema.scalar_digests
        message = StreamResponse()
        message.digest.digest_id = number
        message.digest.list_id = list_number
        for values in digests:
            data = message.digest.data.add()
            if number in scalar:
                data.bitstring = canonical(values[0])
            else:
                for value in values:
                    data.struct.members.add().bitstring = canonical(value)
        if not primary.send(message):
            self.lost += 1


def _settle_memory() -> None:
    """Free the pipeline before, and keep the collector from walking through the new one's registers ever again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
