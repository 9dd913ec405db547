# SPDX-License-Identifier: Apache-2.0
"""Alerts in Suricata's EVE format: one JSON object a line, binary parts in base64."""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controller.core.errors import LocalError, RemoteError
from controller.core.segment import Endpoint
from controller.wire.address import decode_ip, encode_ip

ETHERNET = 1
"""Link type of packets captured on Ethernet (LINKTYPE_ETHERNET)."""

_LARGEST_NUMBER = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class EveAlert:
    """One alert; ``src`` and ``dst`` are None unless it is about TCP; ``packet`` is there if the engine adds it.

    ``category`` is the class's description, ``link`` the link type of ``packet``, ``raised_at`` the engine's wall time.
    """

    message: str
    gid: int
    sid: int
    rev: int
    category: str
    priority: int
    raised_at: float
    src: Endpoint | None
    dst: Endpoint | None
    payload: bytes = field(default=b"", repr=False)
    packet: bytes = field(default=b"", repr=False)
    link: int = ETHERNET


def decode_eve(line: bytes | str) -> EveAlert | None:
    """Parse a line of EVE; None for an event of another type than alert. Raises RemoteError for everything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RemoteError(f"a line that is not JSON: {error}") from error
    kind = _get(record, "event_type", str)
    if kind != "alert":
        return None
    alert = _get(record, "alert", dict)
    is_tcp = _get(record, "proto", str, "") == "TCP"
    return EveAlert(
        message=_text(alert, "signature"),
        gid=_number(alert, "gid", 1),
        sid=_number(alert, "signature_id"),
        rev=_number(alert, "rev", 0),
        category=_text(alert, "category"),
        priority=_number(alert, "severity", 0),
        raised_at=_time(_get(record, "timestamp", str)),
        src=_endpoint(record, "src_ip", "src_port") if is_tcp else None,
        dst=_endpoint(record, "dest_ip", "dest_port") if is_tcp else None,
        payload=_binary(record, "payload"),
        packet=_binary(record, "packet"),
        link=_number(_get(record, "packet_info", dict, {}), "linktype", ETHERNET),
    )


def _get(record: Any, key: str, kind: type, default: Any = None) -> Any:
    """The value of a key, which has to be of this type; one without default has to be there."""
    value = record.get(key, default) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise RemoteError(f"an EVE record without a proper {key!r}")
    return value


def _text(record: Any, key: str) -> str:
    """Text that can be printed and stored: JSON's escapes can also spell halves of characters."""
    text: str = _get(record, key, str, "")
    return text.encode("utf-8", "replace").decode()


def _number(record: Any, key: str, default: int | None = None) -> int:
    value: int = _get(record, key, int, default)
    if isinstance(value, bool) or not 0 <= value <= _LARGEST_NUMBER:
        raise RemoteError(f"an EVE record with {key!r} out of range")
    return value


def _endpoint(record: Any, address: str, port: str) -> Endpoint:
    number = _number(record, port)
    try:
        text = decode_ip(encode_ip(_get(record, address, str)))
    except LocalError as error:
        raise RemoteError(f"an EVE record with an improper {address!r}: {error}") from error
    if number > 65_535:
        raise RemoteError(f"an EVE record with {port!r} out of range")
    return Endpoint(text, number)


def _binary(record: Any, key: str) -> bytes:
    text = _get(record, key, str, "")
    try:
        return b64decode(text, validate=True) if text else b""
    except (Base64Error, ValueError) as error:
        raise RemoteError(f"an EVE record with {key!r} that is not base64") from error


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise RemoteError(f"an EVE record with an improper time {text[:40]!r}") from error
