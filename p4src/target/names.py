# SPDX-License-Identifier: Apache-2.0
"""What the fields of a program are called in the generated functions.

A field is a local variable. p4c makes thousands of temporaries, nearly all of them used inside one action only: those
share a few names, since a Python call with thousands of locals costs more than a small program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .program import FieldName, Json, Program


def fields_in(value: Json, calculations: dict[str, Json]) -> Iterator[FieldName]:
    """Every field in a piece of JSON, in the order of the text; those that a calculation reads as well."""
    if isinstance(value, dict):
        kind = value.get("type")
        if kind == "field":
            yield (value["value"][0], value["value"][1])
        elif kind == "calculation":
            yield from fields_in(calculations[value["value"]]["input"], calculations)
        else:
            for part in value.values():
                yield from fields_in(part, calculations)
    elif isinstance(value, list):
        for part in value:
            yield from fields_in(part, calculations)


class Names:
    """One distinct Python name for each field, action by action."""

    def __init__(self, program: Program) -> None:
        self._plain: dict[FieldName, str] = {}
        taken: set[str] = set()
        for header, name in program.widths:
            plain = re.sub(r"\W", "_", f"f_{header}_{name}")
            while plain in taken:
                plain += "_"
            taken.add(plain)
            self._plain[header, name] = plain
        self._calculations = program.calculations
        self._shared: dict[int, dict[FieldName, str]] = {}

    def plain(self, field: FieldName) -> str:
        return self._plain[field]

    def within(self, action: int, field: FieldName) -> str:
        return self._shared.get(action, {}).get(field) or self._plain[field]

    def share(self, action: Json, temporaries: set[FieldName]) -> None:
        """Give these fields of an action names from a pool: two that live at the same time get different ones.

        A temporary lives from its first to its last appearance in the text; jumps only go forward.
        """
        first: dict[FieldName, int] = {}
        last: dict[FieldName, int] = {}
        for position, primitive in enumerate(action["primitives"]):
            for field in fields_in(primitive, self._calculations):
                if field in temporaries:
                    first.setdefault(field, position)
                    last[field] = position
        names: dict[FieldName, str] = {}
        free: list[str] = []
        alive: list[tuple[int, str]] = []
        for field in sorted(first, key=first.__getitem__):
            ended = [entry for entry in alive if entry[0] < first[field]]
            alive = [entry for entry in alive if entry[0] >= first[field]]
            free += [name for _, name in ended]
            name = free.pop() if free else f"t{len(alive)}"
            names[field] = name
            alive.append((last[field], name))
        self._shared[action["id"]] = names


def private_to_actions(program: Program) -> dict[int, set[FieldName]]:
    """For each action the metadata fields that appear in it and nowhere else."""
    elsewhere: set[FieldName] = {field for fields in program.field_lists.values() for field in fields}
    elsewhere |= {field for _, fields in program.digests.values() for field in fields}
    for part in (program.parser, list(program.checksums)):
        elsewhere |= set(fields_in(part, program.calculations))
    for checksum in program.checksums:
        elsewhere |= set(fields_in(program.calculations[checksum["calculation"]]["input"], program.calculations))
    for pipeline in (program.ingress, program.egress):
        elsewhere |= set(fields_in(pipeline["conditionals"], program.calculations))
        elsewhere |= {(k["target"][0], k["target"][1]) for table in pipeline["tables"] for k in table["key"]}
    owner: dict[FieldName, int] = {}
    for action in program.actions.values():
        for field in set(fields_in(action["primitives"], program.calculations)):
            if owner.setdefault(field, action["id"]) != action["id"]:
                elsewhere.add(field)
    private: dict[int, set[FieldName]] = {}
    for field, action_id in owner.items():
        if field not in elsewhere and field[0] != "standard_metadata" and program.headers[field[0]].metadata:
            private.setdefault(action_id, set()).add(field)
    return private
