# SPDX-License-Identifier: Apache-2.0
"""Events as JSON objects: what the journal holds and what crosses the bus between processes.

Each object has ``event`` (the class name), ``schema`` (of this format) and the event's fields; a connection reads
``client>service``, an end ``address:port``, bytes are base64. Unknown fields are refused: both ends run one version.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any

from controller.core import events
from controller.core.errors import RemoteError
from controller.core.segment import ConnectionKey, Endpoint

SCHEMA = 1


def _is_public(value: object) -> bool:
    """Return whether a name of ``core.events`` is an event that may leave the process: one of known simple fields."""
    return isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == events.__name__


EVENTS: dict[str, type[Any]] = {name: value for name, value in vars(events).items() if _is_public(value)}
"""Every event class of the core by name."""

INTERNAL = (
    events.SegmentReceived,
    events.HostLocated,
    events.IcmpErrorReceived,
    events.TimerExpired,
    events.BarrierReplied,
    events.CommandRefused,
    events.FlowRemoved,
    events.FlowsReported,
)
"""What adapters tell the core: too much, and nobody else's business."""

CROSSING = [kind for kind in EVENTS.values() if kind not in INTERNAL]
"""What crosses rooms, and may cross to other processes."""


def decode_endpoint(text: str) -> Endpoint:
    """Return the end that ``10.0.0.1:80`` or ``[fd00::1]:80`` names; raises ValueError."""
    address, colon, port = text.rpartition(":")
    if not colon or not address:
        raise ValueError(f"{text!r} is not address:port")
    return Endpoint(address.removeprefix("[").removesuffix("]"), int(port))


def decode_connection(text: str) -> ConnectionKey:
    """Return the connection that ``client>service`` names; raises ValueError."""
    client, arrow, service = text.partition(">")
    if not arrow:
        raise ValueError(f"{text!r} is not client>service")
    return ConnectionKey(decode_endpoint(client), decode_endpoint(service))


_FIELDS: dict[type[Any], tuple[str, ...]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind)) for kind in EVENTS.values()
}
_write = json.JSONEncoder(separators=(",", ":")).encode


def record_of(event: object) -> dict[str, Any]:
    """Return an event as a JSON object."""
    kind = type(event)
    record: dict[str, Any] = {"event": kind.__name__, "schema": SCHEMA}
    for name in _FIELDS[kind]:
        value = getattr(event, name)
        record[name] = value if type(value) in _AS_IS else _plain(value)
    return record


def encode_record(record: dict[str, Any]) -> str:
    """Return a record as one line of JSON without the line's end."""
    return _write(record)


def encode_event(event: object) -> bytes:
    """Return an event as one line of JSON without the line's end."""
    return _write(record_of(event)).encode()


def decode_event(line: bytes | str) -> Any:
    """Return the event that a line of JSON holds; raises RemoteError for anything else."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict) or record.pop("schema", None) != SCHEMA:
            raise ValueError(f"not an event of schema {SCHEMA}")
        kind = EVENTS[record.pop("event")]
        hints = typing.get_type_hints(kind)
        return kind(**{name: _typed(hints[name], value) for name, value in record.items()})
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, binascii.Error) as error:
        raise RemoteError(f"not an event: {error}") from error


_AS_IS = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    """Return a field's value as JSON knows it."""
    if isinstance(value, (ConnectionKey, Endpoint)):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def _scalar(kind: type[Any]) -> Callable[[Any], Any]:
    """Return a check that lets only values of one JSON type pass; a whole number is a good float."""

    def check(value: Any) -> Any:
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{value!r} is not {kind.__name__}")
        return float(value) if kind is float else value

    return check


_READERS: dict[Any, Callable[[Any], Any]] = {
    int: _scalar(int),
    float: _scalar(float),
    str: _scalar(str),
    bool: _scalar(bool),
    bytes: lambda value: base64.b64decode(value, validate=True),
    Endpoint: decode_endpoint,
    ConnectionKey: decode_connection,
}


def _typed(hint: Any, value: Any) -> Any:
    """Return a JSON value as the type that a field asks for; raises ValueError, TypeError or KeyError."""
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in hint.__args__:
            return None
        hint = next(choice for choice in hint.__args__ if choice is not type(None))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is not a list")
        inside = typing.get_args(hint)
        each = inside[:1] * len(value) if inside[1:] == (...,) else inside
        return tuple(_typed(one, item) for one, item in zip(each, value, strict=True))
    if hint not in _READERS:
        raise TypeError(f"a field of {hint} does not leave the process")
    if hint in (Endpoint, ConnectionKey):
        _READERS[str](value)
    return _READERS[hint](value)
