# SPDX-License-Identifier: Apache-2.0
"""The compiled program as p4c writes it for bmv2, checked: what this target does not do is refused by name.

Expressions, primitives and control nodes stay the JSON that bmv2's `docs/JSON_format.md` describes; the files that
translate them know their shapes, and refuse what they do not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Json = Any
FieldName = tuple[str, str]
"""Header instance and field."""

NOT_DONE = (
    "header_stacks",
    "header_union_types",
    "header_unions",
    "header_union_stacks",
    "parse_vsets",
    "meter_arrays",
    "extern_instances",
)
DROP_PORT = 511
"""`standard_metadata.egress_spec` of a packet that is to be dropped."""


class UnsupportedError(ValueError):
    """The program uses something that this target does not do; the message names it."""


@dataclass(frozen=True)
class Header:
    """One header instance. `metadata`: is not on the wire, always valid, zero at the start of each packet."""

    name: str
    fields: tuple[tuple[str, int], ...]
    metadata: bool

    @property
    def length(self) -> int:
        """Bytes on the wire."""
        return sum(width for _, width in self.fields) // 8


@dataclass(frozen=True)
class Program:
    """A program, its parts by name or by id."""

    name: str
    headers: dict[str, Header]
    widths: dict[FieldName, int]
    errors: dict[str, int]
    parser: Json
    deparser: tuple[str, ...]
    actions: dict[int, Json]
    tables: dict[str, Json]
    ingress: Json
    egress: Json
    registers: dict[str, tuple[int, int]]
    """Cells, bits of each."""
    counters: dict[str, int]
    calculations: dict[str, Json]
    checksums: tuple[Json, ...]
    field_lists: dict[int, tuple[FieldName, ...]]
    digests: dict[int, tuple[str, tuple[FieldName, ...]]]


def load(text: str | bytes) -> Program:
    """Read a compiled program.

    Raises:
        UnsupportedError: it is no program for bmv2's simple_switch, or uses what this target does not do.
    """
    try:
        document = json.loads(text)
    except ValueError as fault:
        raise UnsupportedError(f"the device configuration is no JSON: compile with p4c-bm2-ss ({fault})") from None
    if not isinstance(document, dict) or not {"header_types", "parsers", "pipelines", "actions"} <= document.keys():
        raise UnsupportedError("the device configuration is not what p4c-bm2-ss writes")
    for section in NOT_DONE:
        for part in document.get(section, ()):
            raise UnsupportedError(f"{section}: {part.get('name', part)} is not supported by this target")
    try:
        return _program(document)
    except (KeyError, IndexError, TypeError) as fault:
        raise UnsupportedError(f"the device configuration is damaged near {fault}") from None


def _program(document: Json) -> Program:
    headers = _headers(document)
    pipelines = {pipeline["name"]: pipeline for pipeline in document["pipelines"]}
    for pipeline in pipelines.values():
        for profile in pipeline["action_profiles"]:
            raise UnsupportedError(f"action profile {profile['name']} is not supported by this target")
    tables = {table["name"]: table for pipeline in pipelines.values() for table in pipeline["tables"]}
    for table in tables.values():
        _check_table(table)
    for counter in document["counter_arrays"]:
        if counter["is_direct"]:
            raise UnsupportedError(f"direct counter {counter['name']} is not supported by this target")
    if len(document["parsers"]) != 1 or len(document["deparsers"]) != 1:
        raise UnsupportedError("a program with more than one parser or deparser is not supported by this target")
    if document["deparsers"][0]["primitives"]:
        raise UnsupportedError("statements in the deparser are not supported by this target")
    return Program(
        name=document.get("program", ""),
        headers=headers,
        widths={(h.name, name): width for h in headers.values() for name, width in h.fields}
        | {(h.name, "$valid$"): 1 for h in headers.values()},
        errors=dict(document["errors"]),
        parser=document["parsers"][0],
        deparser=tuple(document["deparsers"][0]["order"]),
        actions={action["id"]: action for action in document["actions"]},
        tables=tables,
        ingress=pipelines["ingress"],
        egress=pipelines["egress"],
        registers={r["name"]: (r["size"], r["bitwidth"]) for r in document["register_arrays"]},
        counters={counter["name"]: counter["size"] for counter in document["counter_arrays"]},
        calculations={calculation["name"]: calculation for calculation in document["calculations"]},
        checksums=tuple(document["checksums"]),
        field_lists={entry["id"]: _fields(entry) for entry in document["field_lists"]},
        digests={entry["id"]: (entry["name"], _fields(entry)) for entry in document["learn_lists"]},
    )


def _headers(document: Json) -> dict[str, Header]:
    types = {kind["name"]: kind["fields"] for kind in document["header_types"]}
    headers = {}
    for instance in document["headers"]:
        fields = []
        for field in types[instance["header_type"]]:
            if not isinstance(field[1], int):
                raise UnsupportedError(f"field {instance['name']}.{field[0]} of variable width is not supported")
            if len(field) > 2 and field[2]:
                raise UnsupportedError(f"signed field {instance['name']}.{field[0]} is not supported by this target")
            fields.append((field[0], field[1]))
        header = Header(instance["name"], tuple(fields), instance["metadata"])
        if not header.metadata and sum(width for _, width in fields) % 8:
            raise UnsupportedError(f"header {header.name} is not made of whole bytes")
        headers[header.name] = header
    return headers


def _fields(entry: Json) -> tuple[FieldName, ...]:
    for element in entry["elements"]:
        if element["type"] != "field":
            raise UnsupportedError(f"a {element['type']} in field list {entry.get('name')} is not supported")
    return tuple((element["value"][0], element["value"][1]) for element in entry["elements"])


def _check_table(table: Json) -> None:
    for what in ("with_counters", "direct_meters", "support_timeout"):
        if table.get(what):
            raise UnsupportedError(f"table {table['name']}: {what} is not supported by this target")
    if table["type"] != "simple":
        raise UnsupportedError(f"table {table['name']} of type {table['type']} is not supported by this target")
    if "default_entry" not in table:
        raise UnsupportedError(f"table {table['name']} has no default action")
