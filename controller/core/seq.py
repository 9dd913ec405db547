# SPDX-License-Identifier: Apache-2.0
"""Serial arithmetic on 32-bit TCP numbers: RFC 9293 section 3.4, RFC 7323 section 5.2.

Every operation on such a number goes through these functions: a bare ``%`` or ``<`` elsewhere is a fault.
"""

from __future__ import annotations

MODULUS = 1 << 32
HALF = 1 << 31
MASK = MODULUS - 1


def add(number: int, amount: int) -> int:
    """Return ``number + amount`` modulo 2^32; ``amount`` may be negative."""
    return (number + amount) & MASK


def distance(start: int, end: int) -> int:
    """Return how many steps lead forward from ``start`` to ``end``: 0 to 2^32 - 1."""
    return (end - start) & MASK


def offset(start: int, end: int) -> int:
    """Return the signed distance from ``start`` to ``end``: -2^31 to 2^31 - 1."""
    return ((end - start + HALF) & MASK) - HALF


def is_before(left: int, right: int) -> bool:
    """Return whether ``left`` comes strictly before ``right`` (less than half the space apart)."""
    return offset(left, right) > 0


def is_after(left: int, right: int) -> bool:
    """Return whether ``left`` comes strictly after ``right``."""
    return offset(right, left) > 0


def is_within(number: int, start: int, size: int) -> bool:
    """Return whether ``number`` lies in the ``size`` numbers that begin at ``start``."""
    return distance(start, number) < size


def later(left: int, right: int) -> int:
    """Return the later one of two numbers less than half the space apart."""
    return right if is_before(left, right) else left
