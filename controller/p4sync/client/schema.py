# SPDX-License-Identifier: Apache-2.0
"""What a P4Info says: names to ids and back, and entries to messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from controller.p4sync import protocol
from controller.p4sync.client.messages import P4Info, StreamRequest
from controller.p4sync.entries import TableEntry
from controller.p4sync.errors import SettingsError

NEEDED_TABLES = {
    protocol.SYNC_OUT: {"session": 32},
    protocol.SYNC_IN: {"port": 9, "session": 32},
    protocol.STAGING_MARK: {"session": 32},
    protocol.MARKERS: {"session": 32, "token": 64},
    protocol.SERVICE_BY_DESTINATION: {"address": 32, "protocol": 8, "port": 16},
    protocol.SERVICE_BY_SOURCE: {"address": 32, "protocol": 8, "port": 16},
    protocol.FORWARD: {"port": 9, "address": 48},
}
"""Match fields and their bits: what a program must have to be driven by this room."""
NEEDED_ACTIONS = {
    protocol.USE_SESSION: {
        "key0": 64,
        "key1": 64,
        "poly": 120,
        "suite": 16,
        "nonce": 64,
        "source": 16,
        "destination": 16,
        "port": 9,
    },
    protocol.SET_MARK: {"mark": 8},
    protocol.EXPECT_MARKER: {},
    protocol.CLIENT_TO_SERVER: {"service": 16},
    protocol.SERVER_TO_CLIENT: {"service": 16},
    protocol.TO_PORT: {"port": 9},
}
NEEDED_HEADERS = {
    "packet_out": {"kind": 8, "flags": 8, "credit": 16, "session": 32, "argument": 64, "port": 16},
    "packet_in": {
        "kind": 8,
        "state": 8,
        "round": 16,
        "session": 32,
        "count": 32,
        "links": 32,
        "detail": 64,
        "digest": 64,
    },
}


def encode_value(value: int) -> bytes:
    """Return a number in its shortest big-endian form, one byte at least (P4Runtime section 8.3)."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def decode_value(value: bytes) -> int:
    """Return the number that some big-endian bytes are."""
    return int.from_bytes(value, "big")


class Schema:
    """One program's P4Info."""

    def __init__(self, info: Any, name: str) -> None:
        """Take a P4Info message; ``name`` is what errors call it."""
        self.info = info
        self.name = name
        self._tables = {table.preamble.name: table for table in info.tables}
        self._actions = {action.preamble.name: action for action in info.actions}
        self._table_names = {table.preamble.id: table.preamble.name for table in info.tables}
        self._action_names = {action.preamble.id: action.preamble.name for action in info.actions}
        self._headers = {header.preamble.name: header.metadata for header in info.controller_packet_metadata}
        self._reports = {field.id: field.name for field in self._headers.get("packet_in", ())}
        self._tokens = {field.name: field.id for field in self._headers.get("packet_out", ())}
        self.counters = {counter.preamble.name: counter.preamble.id for counter in info.counters}
        self.digests = {digest.preamble.name: digest.preamble.id for digest in info.digests}

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a P4Info in text form and see that it has what the protocol needs; raises SettingsError."""
        try:
            info = text_format.Parse(path.read_text(encoding="utf-8"), P4Info())
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; it comes with the compiled program") from error
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: no P4Info in text form ({error}); recompile the program") from error
        schema = cls(info, str(path))
        complaints = schema.complaints()
        if complaints:
            raise SettingsError(
                f"{path}: not the P4Info of a program for state shipping: {'; '.join(complaints[:3])};"
                " use that of flow_state.p4"
            )
        return schema

    def complaints(self) -> list[str]:
        """Return what the protocol needs and this P4Info has not, or has with other widths."""
        found = []
        for kind, needed, given in (
            ("table", NEEDED_TABLES, {name: _widths(t.match_fields) for name, t in self._tables.items()}),
            ("action", NEEDED_ACTIONS, {name: _widths(a.params) for name, a in self._actions.items()}),
            ("packet header", NEEDED_HEADERS, {name: _widths(fields) for name, fields in self._headers.items()}),
        ):
            for name, widths in needed.items():
                if name not in given:
                    found.append(f"{kind} {name} is missing")
                elif given[name] != widths:
                    found.append(f"{kind} {name} has fields {given[name]} instead of {widths}")
        if protocol.EVENTS not in self.counters:
            found.append(f"counter {protocol.EVENTS} is missing")
        return found

    def table_id(self, name: str) -> int:
        """Return the id of a table."""
        return int(self._tables[name].preamble.id)

    def fill_entry(self, message: Any, entry: TableEntry) -> None:
        """Write an entry into a p4.v1.TableEntry message. Raises KeyError for names that the program lacks."""
        table = self._tables[entry.table]
        message.table_id = table.preamble.id
        message.priority = entry.priority
        ids = {field.name: field.id for field in table.match_fields}
        for name, value in entry.match.items():
            field = message.match.add(field_id=ids[name])
            if isinstance(value, tuple):
                field.ternary.value, field.ternary.mask = (encode_value(part) for part in value)
            else:
                field.exact.value = encode_value(value)
        if entry.action:
            action = self._actions[entry.action]
            message.action.action.action_id = action.preamble.id
            ids = {parameter.name: parameter.id for parameter in action.params}
            for name, value in entry.parameters.items():
                message.action.action.params.add(param_id=ids[name], value=encode_value(value))

    def read_entry(self, message: Any) -> TableEntry:
        """Return what a p4.v1.TableEntry message says."""
        table = self._tables[self._table_names[message.table_id]]
        names = {field.id: field.name for field in table.match_fields}
        match: dict[str, int | tuple[int, int]] = {}
        for field in message.match:
            if field.HasField("ternary"):
                match[names[field.field_id]] = (decode_value(field.ternary.value), decode_value(field.ternary.mask))
            else:
                match[names[field.field_id]] = decode_value(field.exact.value)
        chosen = message.action.action
        action = self._actions[self._action_names[chosen.action_id]]
        names = {parameter.id: parameter.name for parameter in action.params}
        values = {names[parameter.param_id]: decode_value(parameter.value) for parameter in chosen.params}
        return TableEntry(table.preamble.name, match, action.preamble.name, values, message.priority)

    def packet_out(self, fields: Mapping[str, int], payload: bytes) -> Any:
        """Return the stream message of a PacketOut; fields left out are 0."""
        request = StreamRequest()
        request.packet.payload = payload
        for name, number in self._tokens.items():
            request.packet.metadata.add(metadata_id=number, value=encode_value(fields.get(name, 0)))
        return request

    def packet_in(self, packet: Any) -> tuple[dict[str, int], bytes]:
        """Return a PacketIn's metadata by name, and its payload."""
        fields = {self._reports[field.metadata_id]: decode_value(field.value) for field in packet.metadata}
        return fields, packet.payload


def _widths(fields: Any) -> dict[str, int]:
    return {field.name: field.bitwidth for field in fields}
