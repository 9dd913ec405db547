# SPDX-License-Identifier: Apache-2.0
"""What a source's agent signs about a whole session, as its switch reported it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Statement:
    """Session, nonce, switches, what was shipped (a plan as JSON), number of packets, MAC of the last one."""

    session: int
    nonce: int
    source: int
    destination: int
    shipped: dict[str, Any]
    count: int
    digest: int

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def statement_of(record: dict[str, Any]) -> Statement:
    """Return the statement that JSON says; raises ValueError."""
    try:
        statement = Statement(**record)
    except TypeError as error:
        raise ValueError(f"not a statement: {error}") from error
    numbers = (
        statement.session,
        statement.nonce,
        statement.source,
        statement.destination,
        statement.count,
        statement.digest,
    )
    if not all(type(number) is int and 0 <= number < 1 << 64 for number in numbers):
        raise ValueError("a statement's numbers have 64 bits")
    if not isinstance(statement.shipped, dict):
        raise ValueError("a statement says what was shipped")
    return statement
