# SPDX-License-Identifier: Apache-2.0
"""P4Info: the numbers by which P4Runtime names things, tied to the program's own names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import RefusedError, invalid
from .program import Program
from .tables import Table


@dataclass(frozen=True)
class Action:
    name: str
    parameters: tuple[tuple[int, str, int], ...]
    """Number, name, width of each, in the program's order."""


@dataclass(frozen=True)
class TableSchema:
    identity: int
    table: Table
    fields: tuple[int, ...]
    """The match fields' numbers in the order of the key."""
    actions: dict[int, int]
    """Action number to position in the table's list."""
    default_only: frozenset[int]


@dataclass(frozen=True)
class Schema:
    """What P4Info says, looked up by number."""

    tables: dict[int, TableSchema]
    actions: dict[int, Action]
    counters: dict[int, str]
    registers: dict[int, str]
    digests: dict[int, int]
    """Digest number to the number of its list in the program."""
    scalar_digests: frozenset[int]
    """Those of one value that is no struct."""
    packet_in: tuple[tuple[int, int], ...]
    """Number and width of each metadata field."""
    packet_out: tuple[tuple[int, int], ...]


def bind(info: Any, program: Program, tables: dict[str, Table]) -> Schema:
    """Tie a P4Info message to a program.

    Raises:
        RefusedError: they do not belong together.
    """
    actions = {
        a.preamble.id: Action(a.preamble.name, tuple((p.id, p.name, p.bitwidth) for p in a.params))
        for a in info.actions
    }
    for kind, parts, known in (
        ("counter", info.counters, program.counters),
        ("register", info.registers, program.registers),
    ):
        for part in parts:
            if part.preamble.name not in known:
                raise _foreign(f"{kind} {part.preamble.name}")
    lists = {name: number for number, (name, _) in program.digests.items()}
    for digest in info.digests:
        if digest.preamble.name not in lists:
            raise _foreign(f"digest {digest.preamble.name}")
    headers = {h.preamble.name: tuple((m.id, m.bitwidth) for m in h.metadata) for h in info.controller_packet_metadata}
    return Schema(
        tables={t.preamble.id: _table(t, tables, actions) for t in info.tables},
        actions=actions,
        counters={c.preamble.id: c.preamble.name for c in info.counters},
        registers={r.preamble.id: r.preamble.name for r in info.registers},
        digests={d.preamble.id: lists[d.preamble.name] for d in info.digests},
        scalar_digests=frozenset(d.preamble.id for d in info.digests if d.type_spec.HasField("bitstring")),
        packet_in=headers.get("packet_in", ()),
        packet_out=headers.get("packet_out", ()),
    )


def _foreign(what: str) -> RefusedError:
    return invalid(
        f"the P4Info does not belong to this program: {what} differs or is not in it (compile both together)"
    )


def _table(info: Any, tables: dict[str, Table], actions: dict[int, Action]) -> TableSchema:
    name = info.preamble.name
    table = tables.get(name)
    if table is None or [f.bitwidth for f in info.match_fields] != [f.width for f in table.fields]:
        raise _foreign(f"table {name}")
    positions = {}
    for reference in info.action_refs:
        action = actions.get(reference.id)
        if action is None or action.name not in table.actions:
            raise _foreign(f"action {action.name if action else reference.id} of table {name}")
        positions[reference.id] = table.actions.index(action.name)
    return TableSchema(
        identity=info.preamble.id,
        table=table,
        fields=tuple(field.id for field in info.match_fields),
        actions=positions,
        default_only=frozenset(r.id for r in info.action_refs if r.scope == 2),
    )
