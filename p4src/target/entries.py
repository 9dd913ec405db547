# SPDX-License-Identifier: Apache-2.0
"""Table entries between P4Runtime's messages and the tables (specification, sections 8.3 and 9.1)."""

from __future__ import annotations

from typing import Any

from .errors import Code, RefusedError, invalid
from .schema import Schema, TableSchema
from .tables import EXACT, LPM, RANGE, TERNARY, Action, Entry, Field, Match

KINDS = {EXACT: "exact", LPM: "lpm", TERNARY: "ternary", RANGE: "range"}


def number(value: bytes, width: int, what: str) -> int:
    """A P4Runtime byte string as a number. Raises RefusedError."""
    if not value:
        raise invalid(f"{what} is empty")
    result = int.from_bytes(value, "big")
    if result.bit_length() > width:
        raise RefusedError(Code.INVALID_ARGUMENT, f"{what} does not fit within {width} bits")
    return result


def canonical(value: int) -> bytes:
    """The shortest byte string for a number, one byte at least."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def table_of(schema: Schema, identity: int) -> TableSchema:
    try:
        return schema.tables[identity]
    except KeyError:
        raise invalid(f"no table has number {identity}: not the pipeline you think it is?") from None


def decode_match(found: TableSchema, entry: Any) -> tuple[Match, int]:
    """The match and the priority of an entry. Raises RefusedError."""
    given: dict[int, Any] = {}
    for field in entry.match:
        if field.field_id not in found.fields:
            raise invalid(f"table {found.table.name} has no match field {field.field_id}")
        if field.field_id in given:
            raise invalid(f"match field {field.field_id} is given twice")
        given[field.field_id] = field
    match = tuple(
        _field(field, given.get(identity)) for identity, field in zip(found.fields, found.table.fields, strict=True)
    )
    if found.table.has_priorities and entry.priority <= 0:
        raise invalid(f"entries of table {found.table.name} need a priority above 0")
    if not found.table.has_priorities and entry.priority:
        raise invalid(f"entries of table {found.table.name} have no priority")
    return match, entry.priority


def _field(field: Field, given: Any) -> tuple[int, int]:
    everything = (1 << field.width) - 1
    if given is None:
        if field.kind == EXACT:
            raise invalid(f"exact match field {field.name} is missing")
        return (0, everything) if field.kind == RANGE else (0, 0)
    if given.WhichOneof("field_match_type") != KINDS[field.kind]:
        raise invalid(f"match field {field.name} is of kind {field.kind}")
    if field.kind == EXACT:
        return number(given.exact.value, field.width, field.name), 0
    if field.kind == LPM:
        return _prefix(field, given.lpm)
    if field.kind == TERNARY:
        value = number(given.ternary.value, field.width, field.name)
        mask = number(given.ternary.mask, field.width, f"the mask of {field.name}")
        if not mask:
            raise invalid(f"the mask of {field.name} is 0: leave the field out")
        if value & ~mask:
            raise invalid(f"{field.name} has bits set that its mask does not cover")
        return value, mask
    low = number(given.range.low, field.width, field.name)
    high = number(given.range.high, field.width, field.name)
    if low > high:
        raise invalid(f"the range of {field.name} ends before it starts")
    if (low, high) == (0, everything):
        raise invalid(f"the range of {field.name} is everything: leave the field out")
    return low, high


def _prefix(field: Field, given: Any) -> tuple[int, int]:
    value = number(given.value, field.width, field.name)
    length = given.prefix_len
    if not 0 < length <= field.width:
        raise invalid(f"the prefix length of {field.name} is {length}, not 1 to {field.width} (0: leave the field out)")
    if value & ((1 << (field.width - length)) - 1):
        raise invalid(f"{field.name} has bits set behind its prefix")
    return value, length


def decode_action(schema: Schema, found: TableSchema, given: Any, default: bool) -> Action:
    """The action of an entry as packets see it. Raises RefusedError."""
    if given.WhichOneof("type") != "action":
        raise invalid(f"an entry of table {found.table.name} needs an action (this target has no action profiles)")
    identity = given.action.action_id
    if identity not in found.actions:
        raise invalid(f"action {identity} is none of table {found.table.name}")
    if identity in found.default_only and not default:
        raise RefusedError(
            Code.PERMISSION_DENIED, f"action {identity} of table {found.table.name} is for the default only"
        )
    action = schema.actions[identity]
    values = {parameter.param_id: parameter.value for parameter in given.action.params}
    if len(values) != len(given.action.params) or set(values) != {p for p, _, _ in action.parameters}:
        raise invalid(f"action {action.name} takes parameters {[name for _, name, _ in action.parameters]}, each once")
    numbers = (number(values[p], width, f"{action.name}: {name}") for p, name, width in action.parameters)
    return (found.actions[identity], not default, *numbers)


def encode(schema: Schema, found: TableSchema, entry: Entry, message: Any) -> None:
    """Write an entry into a TableEntry message."""
    message.table_id = found.identity
    message.priority = entry.priority
    for identity, field, (first, second) in zip(found.fields, found.table.fields, entry.match, strict=True):
        if field.kind == EXACT:
            match = message.match.add(field_id=identity)
            match.exact.value = canonical(first)
        elif field.kind == LPM and second:
            match = message.match.add(field_id=identity)
            match.lpm.value, match.lpm.prefix_len = canonical(first), second
        elif field.kind == TERNARY and second:
            match = message.match.add(field_id=identity)
            match.ternary.value, match.ternary.mask = canonical(first), canonical(second)
        elif field.kind == RANGE and (first, second) != (0, (1 << field.width) - 1):
            match = message.match.add(field_id=identity)
            match.range.low, match.range.high = canonical(first), canonical(second)
    encode_action(schema, found, entry.action, message)


def encode_action(schema: Schema, found: TableSchema, action: Action, message: Any) -> None:
    identity = next((number for number, position in found.actions.items() if position == action[0]), 0)
    message.action.action.action_id = identity
    for (parameter, _, _), value in zip(schema.actions[identity].parameters, action[2:], strict=True):
        message.action.action.params.add(param_id=parameter, value=canonical(int(value)))
