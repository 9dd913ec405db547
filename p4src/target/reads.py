# SPDX-License-Identifier: Apache-2.0
"""Read: the entities that a request asks for (specification, section 13)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import entries
from .device import Device, Loaded
from .errors import Code, RefusedError, invalid, not_done
from .messages import Entity
from .schema import TableSchema
from .tables import Entry, TableError


def entities(device: Device, loaded: Loaded, asked: Any) -> Iterator[Any]:
    """What matches one entity of the request. Raises RefusedError."""
    kind = asked.WhichOneof("entity")
    if kind == "table_entry":
        yield from _table_entries(loaded, asked.table_entry)
    elif kind == "counter_entry":
        yield from _counters(loaded, asked.counter_entry)
    elif kind == "register_entry":
        yield from _registers(loaded, asked.register_entry)
    elif kind == "packet_replication_engine_entry":
        yield from _replication(device, asked.packet_replication_engine_entry)
    elif kind == "digest_entry":
        yield from _digests(device, asked.digest_entry)
    else:
        raise not_done(f"reading {kind or 'an empty entity'}")


def _table_entries(loaded: Loaded, asked: Any) -> Iterator[Any]:
    if not asked.table_id:
        chosen = list(loaded.schema.tables.values())
    else:
        chosen = [entries.table_of(loaded.schema, asked.table_id)]
    for found in chosen:
        if asked.is_default_action:
            entity = Entity()
            entity.table_entry.table_id = found.identity
            entity.table_entry.is_default_action = True
            entries.encode_action(loaded.schema, found, found.table.default, entity.table_entry)
            yield entity
            continue
        for entry in _chosen(found, asked):
            entity = Entity()
            entries.encode(loaded.schema, found, entry, entity.table_entry)
            yield entity


def _chosen(found: TableSchema, asked: Any) -> list[Entry]:
    if not asked.match:
        return [e for e in found.table.entries.values() if not asked.priority or e.priority == asked.priority]
    match, priority = entries.decode_match(found, asked)
    try:
        return [found.table.find(match, priority)]
    except TableError:
        return []


def _cells(
    asked: Any, identity: int, names: dict[int, str], what: str, size: dict[str, int]
) -> Iterator[tuple[int, str, int]]:
    """Number, name, index of every cell asked for; number 0: all arrays, no index: all cells."""
    if identity and identity not in names:
        raise invalid(f"no {what} has number {identity}")
    for number in [identity] if identity else list(names):
        cells = range(size[names[number]])
        if identity and asked.HasField("index"):
            if asked.index.index not in cells:
                raise RefusedError(Code.OUT_OF_RANGE, f"{what} {names[number]} has {len(cells)} cells")
            cells = range(asked.index.index, asked.index.index + 1)
        for cell in cells:
            yield number, names[number], cell


def _counters(loaded: Loaded, asked: Any) -> Iterator[Any]:
    size = loaded.pipeline.program.counters
    for number, name, cell in _cells(asked, asked.counter_id, loaded.schema.counters, "counter", size):
        packets, sizes = loaded.pipeline.counters[name]
        entity = Entity()
        entity.counter_entry.counter_id = number
        entity.counter_entry.index.index = cell
        entity.counter_entry.data.packet_count = packets[cell]
        entity.counter_entry.data.byte_count = sizes[cell]
        yield entity


def _registers(loaded: Loaded, asked: Any) -> Iterator[Any]:
    size = {name: cells for name, (cells, _) in loaded.pipeline.program.registers.items()}
    for number, name, cell in _cells(asked, asked.register_id, loaded.schema.registers, "register", size):
        entity = Entity()
        entity.register_entry.register_id = number
        entity.register_entry.index.index = cell
        entity.register_entry.data.bitstring = entries.canonical(loaded.pipeline.registers[name][cell])
        yield entity


def _replication(device: Device, asked: Any) -> Iterator[Any]:
    which = asked.WhichOneof("type")
    if which not in ("multicast_group_entry", "clone_session_entry"):
        raise invalid("neither a multicast group nor a clone session")
    groups = which == "multicast_group_entry"
    known = device.replication.groups if groups else device.replication.sessions
    wanted = asked.multicast_group_entry.multicast_group_id if groups else asked.clone_session_entry.session_id
    if wanted and wanted not in known:
        raise RefusedError(Code.NOT_FOUND, f"there is no such {which}: {wanted}")
    for number in [wanted] if wanted else list(known):
        entity = Entity()
        entry = getattr(entity.packet_replication_engine_entry, which)
        setattr(entry, "multicast_group_id" if groups else "session_id", number)
        for replica in known.get(number, ()):
            entry.replicas.add(egress_port=replica.port, instance=replica.instance)
        yield entity


def _digests(device: Device, asked: Any) -> Iterator[Any]:
    for number, config in device.digests.configs().items():
        if asked.digest_id in (0, number):
            entity = Entity()
            entity.digest_entry.digest_id = number
            entity.digest_entry.config.max_timeout_ns = config.max_timeout_ns
            entity.digest_entry.config.max_list_size = config.max_list_size
            entity.digest_entry.config.ack_timeout_ns = config.ack_timeout_ns
            yield entity
