# SPDX-License-Identifier: Apache-2.0
"""A small P4Runtime client for recording and replaying: any server that speaks P4Runtime 1.3 or later will do.

It is independent of the project's own client on purpose: what the vectors say must not depend on the code they test.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format

from .messages import message

StreamRequest = message("p4.v1.StreamMessageRequest")
StreamResponse = message("p4.v1.StreamMessageResponse")
WriteRequest = message("p4.v1.WriteRequest")
ReadRequest = message("p4.v1.ReadRequest")
PipelineRequest = message("p4.v1.SetForwardingPipelineConfigRequest")
P4Info = message("p4.config.v1.P4Info")

INSERT, MODIFY, DELETE = 1, 2, 3
VERIFY_AND_COMMIT = 3
DEADLINE = 10.0
TOKEN_PADDING = bytes(64)


def encode_value(value: int) -> bytes:
    """Shortest big-endian form, one byte at least (P4Runtime section 8.3)."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


@dataclass(frozen=True)
class PacketIn:
    """A PacketIn: its metadata by name, and its payload."""

    fields: Mapping[str, int]
    payload: bytes


class Client:
    """One primary on one device, over an insecure channel (a Unix socket, or loopback)."""

    def __init__(self, address: str, p4info: Path, device: int = 0, election: int = 1) -> None:
        self.device = device
        self.election = election
        self.info = text_format.Parse(p4info.read_text(), P4Info())
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 64 << 20)])
        call = self.channel.unary_unary
        name = "/p4.v1.P4Runtime/"
        self._write = call(name + "Write", lambda m: m.SerializeToString(), lambda b: b)
        self._pipeline = call(name + "SetForwardingPipelineConfig", lambda m: m.SerializeToString(), lambda b: b)
        self._read = self.channel.unary_stream(
            name + "Read", lambda m: m.SerializeToString(), message("p4.v1.ReadResponse").FromString
        )
        self._stream = self.channel.stream_stream(
            name + "StreamChannel", lambda m: m.SerializeToString(), StreamResponse.FromString
        )
        self._outgoing: queue.Queue[Any] = queue.Queue()
        self.packets: queue.Queue[PacketIn] = queue.Queue()
        self.digests: queue.Queue[Any] = queue.Queue()
        self._primary = threading.Event()
        self._tables = {t.preamble.name: t for t in self.info.tables}
        self._actions = {a.preamble.name: a for a in self.info.actions}
        self._counters = {c.preamble.name: c.preamble.id for c in self.info.counters}
        header = {c.preamble.name: c for c in self.info.controller_packet_metadata}
        self._in = {m.id: m.name for m in header["packet_in"].metadata} if "packet_in" in header else {}
        self._out = {m.name: m.id for m in header["packet_out"].metadata} if "packet_out" in header else {}

    def start(self) -> None:
        """Connect and become primary. Raises TimeoutError."""
        grpc.channel_ready_future(self.channel).result(timeout=DEADLINE)
        request = StreamRequest()
        request.arbitration.device_id = self.device
        request.arbitration.election_id.low = self.election
        self._outgoing.put(request)
        responses = self._stream(iter(self._outgoing.get, None))
        threading.Thread(target=self._listen, args=(responses,), daemon=True).start()
        if not self._primary.wait(DEADLINE):
            raise TimeoutError("the switch did not answer the arbitration")

    def _listen(self, responses: Iterable[Any]) -> None:
        try:
            for response in responses:
                which = response.WhichOneof("update")
                if which == "packet":
                    fields = {self._in[m.metadata_id]: int.from_bytes(m.value, "big") for m in response.packet.metadata}
                    self.packets.put(PacketIn(fields, response.packet.payload))
                elif which == "digest":
                    self.digests.put(response.digest)
                    self._acknowledge(response.digest)
                elif which == "arbitration" and response.arbitration.status.code == 0:
                    self._primary.set()
        except grpc.RpcError:
            return

    def _acknowledge(self, digest: Any) -> None:
        request = StreamRequest()
        request.digest_ack.digest_id = digest.digest_id
        request.digest_ack.list_id = digest.list_id
        self._outgoing.put(request)

    def stop(self) -> None:
        self._outgoing.put(None)
        self.channel.close()

    def push(self, pipeline: Path, cookie: int = 1) -> None:
        """Load a compiled program: registers and tables are empty afterwards."""
        request = PipelineRequest()
        request.device_id = self.device
        request.election_id.low = self.election
        request.action = VERIFY_AND_COMMIT
        request.config.p4info.CopyFrom(self.info)
        request.config.p4_device_config = pipeline.read_bytes()
        request.config.cookie.cookie = cookie
        self._pipeline(request, timeout=60)

    def _request(self) -> Any:
        request = WriteRequest()
        request.device_id = self.device
        request.election_id.low = self.election
        return request

    def write(
        self,
        table: str,
        match: Mapping[str, Any],
        action: str = "",
        parameters: Mapping[str, int] | None = None,
        kind: int = INSERT,
        priority: int = 0,
    ) -> None:
        """Write one entry. A match value is an int (exact) or (value, mask) (ternary; leave out a wildcard).

        Names are those of the P4Info. Without any match field the default action is modified.
        """
        request = self._request()
        update = request.updates.add()
        update.type = kind
        entry = update.entity.table_entry
        description = self._tables[table]
        entry.table_id = description.preamble.id
        entry.priority = priority
        ids = {f.name: f.id for f in description.match_fields}
        for name, value in match.items():
            field = entry.match.add()
            field.field_id = ids[name]
            if isinstance(value, tuple):
                field.ternary.value, field.ternary.mask = encode_value(value[0]), encode_value(value[1])
            else:
                field.exact.value = encode_value(value)
        if not description.match_fields:
            entry.is_default_action = True
        if action:
            chosen = self._actions[action]
            entry.action.action.action_id = chosen.preamble.id
            ids = {p.name: p.id for p in chosen.params}
            for name, value in (parameters or {}).items():
                parameter = entry.action.action.params.add()
                parameter.param_id = ids[name]
                parameter.value = encode_value(value)
        self._write(request, timeout=DEADLINE)

    def clone_session(self, number: int, port: int) -> None:
        request = self._request()
        update = request.updates.add()
        update.type = INSERT
        session = update.entity.packet_replication_engine_entry.clone_session_entry
        session.session_id = number
        replica = session.replicas.add()
        replica.egress_port = port
        replica.instance = 1
        self._write(request, timeout=DEADLINE)

    def digest(self, name: str) -> None:
        """Ask for the digests of one name, one at a time."""
        request = self._request()
        update = request.updates.add()
        update.type = INSERT
        entry = update.entity.digest_entry
        entry.digest_id = {d.preamble.name: d.preamble.id for d in self.info.digests}[name]
        entry.config.max_list_size = 1
        entry.config.ack_timeout_ns = 1_000_000_000
        self._write(request, timeout=DEADLINE)

    def send(self, fields: Mapping[str, int], payload: bytes = b"") -> None:
        """PacketOut. Fields that are left out are 0."""
        request = StreamRequest()
        request.packet.payload = payload
        for name, number in self._out.items():
            metadata = request.packet.metadata.add()
            metadata.metadata_id = number
            metadata.value = encode_value(fields.get(name, 0))
        self._outgoing.put(request)

    def receive(self, timeout: float = DEADLINE) -> PacketIn:
        """The next PacketIn. Raises queue.Empty."""
        return self.packets.get(timeout=timeout)

    def ask(self, timeout: float = DEADLINE, **fields: int) -> PacketIn:
        """Send a token and wait for the report of its kind; other reports are dropped. Raises TimeoutError."""
        self.send(fields, TOKEN_PADDING)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                report = self.receive(left)
            except queue.Empty:
                break
            if report.fields["kind"] == fields["kind"]:
                return report
        raise TimeoutError(f"no report for token {fields}")

    def counters(self, name: str) -> list[int]:
        """Packets in each cell of an indirect counter."""
        request = ReadRequest()
        request.device_id = self.device
        request.entities.add().counter_entry.counter_id = self._counters[name]
        cells = {}
        for response in self._read(request, timeout=DEADLINE):
            for entity in response.entities:
                cells[entity.counter_entry.index.index] = entity.counter_entry.data.packet_count
        return [cells[i] for i in sorted(cells)]
