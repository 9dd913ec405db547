# SPDX-License-Identifier: Apache-2.0
"""Write: what one update of a batch does (specification, sections 9 and 12)."""

from __future__ import annotations

from typing import Any

from . import entries
from .device import Device, Loaded
from .digests import Config
from .errors import Code, RefusedError, invalid, not_done
from .messages import DELETE, INSERT, MODIFY
from .replication import MAX_GROUP, MAX_SESSION, Replica
from .tables import Entry, TableError

TABLE_CODES = {
    "exists": Code.ALREADY_EXISTS,
    "missing": Code.NOT_FOUND,
    "full": Code.RESOURCE_EXHAUSTED,
    "constant": Code.PERMISSION_DENIED,
}


def apply(device: Device, loaded: Loaded, update: Any) -> None:
    """Do one update. Raises RefusedError: nothing has changed."""
    if update.type not in (INSERT, MODIFY, DELETE):
        raise invalid("the update has no type")
    kind = update.entity.WhichOneof("entity")
    if kind == "table_entry":
        _table_entry(loaded, update.type, update.entity.table_entry)
    elif kind == "packet_replication_engine_entry":
        _replication(device, update.type, update.entity.packet_replication_engine_entry)
    elif kind == "digest_entry":
        _digest(device, loaded, update.type, update.entity.digest_entry)
    elif kind == "counter_entry":
        _counter(loaded, update.type, update.entity.counter_entry)
    else:
        raise not_done(f"writing {kind or 'an empty entity'}")


def _table_entry(loaded: Loaded, kind: int, entry: Any) -> None:
    found = entries.table_of(loaded.schema, entry.table_id)
    table = found.table
    for what in ("meter_config", "counter_data", "idle_timeout_ns"):
        value = getattr(entry, what)
        if value if isinstance(value, int) else entry.HasField(what):
            raise not_done(f"{what} in a table entry")
    try:
        if entry.is_default_action:
            if kind != MODIFY or entry.match or entry.priority:
                raise invalid("a default action can only be modified, and has neither match nor priority")
            given = entry.HasField("action")
            table.set_default(entries.decode_action(loaded.schema, found, entry.action, True) if given else None)
            return
        match, priority = entries.decode_match(found, entry)
        if kind == DELETE:
            table.delete(match, priority)
            return
        action = entries.decode_action(loaded.schema, found, entry.action, False)
        (table.insert if kind == INSERT else table.modify)(Entry(match, priority, action))
    except TableError as fault:
        raise RefusedError(TABLE_CODES[fault.kind], str(fault)) from None


def _replication(device: Device, kind: int, entry: Any) -> None:
    which = entry.WhichOneof("type")
    if which == "multicast_group_entry":
        group = entry.multicast_group_entry
        _put(device.replication.groups, "multicast group", group.multicast_group_id, MAX_GROUP, kind, group)
    elif which == "clone_session_entry":
        session = entry.clone_session_entry
        if session.packet_length_bytes:
            raise not_done("a clone session that cuts packets")
        _put(device.replication.sessions, "clone session", session.session_id, MAX_SESSION, kind, session)
    else:
        raise invalid("neither a multicast group nor a clone session")


def _put(known: dict[int, tuple[Replica, ...]], what: str, number: int, most: int, kind: int, entry: Any) -> None:
    if not 0 < number <= most:
        raise invalid(f"{number} is no valid number of a {what}: 1 to {most}")
    if kind == INSERT and number in known:
        raise RefusedError(Code.ALREADY_EXISTS, f"{what} {number} exists already: modify it")
    if kind != INSERT and number not in known:
        raise RefusedError(Code.NOT_FOUND, f"there is no {what} {number}")
    if kind == DELETE:
        del known[number]
        return
    replicas = tuple(Replica(_port(replica), replica.instance) for replica in entry.replicas)
    if len(set(replicas)) != len(replicas):
        raise invalid(f"two replicas of {what} {number} are the same")
    known[number] = replicas


def _port(replica: Any) -> int:
    if replica.WhichOneof("port_kind") == "port":
        return entries.number(replica.port, 32, "the port of a replica")
    return int(replica.egress_port)


def _digest(device: Device, loaded: Loaded, kind: int, entry: Any) -> None:
    number = entry.digest_id
    if number not in loaded.schema.digests:
        raise invalid(f"no digest has number {number}")
    known = device.digests.configs()
    if kind == INSERT and number in known:
        raise RefusedError(Code.ALREADY_EXISTS, f"digest {number} is configured already: modify it")
    if kind != INSERT and number not in known:
        raise RefusedError(Code.NOT_FOUND, f"digest {number} is not configured")
    if kind == DELETE:
        device.digests.remove(number)
        return
    config = entry.config
    device.digests.configure(number, Config(config.max_timeout_ns, config.max_list_size, config.ack_timeout_ns))


def _counter(loaded: Loaded, kind: int, entry: Any) -> None:
    if kind != MODIFY:
        raise invalid("a counter can only be modified")
    if entry.counter_id not in loaded.schema.counters:
        raise invalid(f"no counter has number {entry.counter_id}")
    packets, sizes = loaded.pipeline.counters[loaded.schema.counters[entry.counter_id]]
    cells = range(len(packets))
    if entry.HasField("index"):
        if entry.index.index not in cells:
            raise RefusedError(
                Code.OUT_OF_RANGE, f"the counter has {len(packets)} cells, none numbered {entry.index.index}"
            )
        cells = range(entry.index.index, entry.index.index + 1)
    for cell in cells:
        packets[cell], sizes[cell] = entry.data.packet_count, entry.data.byte_count
