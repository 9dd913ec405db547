# SPDX-License-Identifier: Apache-2.0
"""Serial arithmetic across the wrap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import seq

TOP = 2**32 - 1
numbers = st.integers(0, TOP)


@pytest.mark.parametrize(
    ("number", "amount", "expected"),
    [(0, 0, 0), (TOP, 1, 0), (0, -1, TOP), (TOP, TOP, TOP - 1), (5, 2**32, 5), (5, -(2**32), 5)],
)
def test_add(number: int, amount: int, expected: int) -> None:
    """Both ways round the end of the space."""
    assert seq.add(number, amount) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 0, 0), (TOP, 0, 1), (0, TOP, -1), (0, 2**31, -(2**31)), (2**31, 0, -(2**31)), (10, 3, -7)],
)
def test_offset(start: int, end: int, expected: int) -> None:
    """Signed, with exactly half the space counted as behind."""
    assert seq.offset(start, end) == expected


@given(numbers, st.integers(1, 2**31 - 1))
def test_order(number: int, step: int) -> None:
    """What lies less than half the space ahead is after; never both, never neither."""
    ahead = seq.add(number, step)
    assert seq.is_before(number, ahead)
    assert seq.is_after(ahead, number)
    assert not seq.is_before(ahead, number)
    assert not seq.is_after(number, ahead)
    assert seq.later(number, ahead) == seq.later(ahead, number) == ahead
    assert not seq.is_before(number, number)
    assert not seq.is_after(number, number)


@given(numbers, numbers)
def test_distance_undoes_add(start: int, end: int) -> None:
    """The way forward leads there."""
    assert seq.add(start, seq.distance(start, end)) == end
    assert seq.add(start, seq.offset(start, end)) == end


@given(numbers, st.integers(0, TOP), st.integers(0, TOP))
def test_within(start: int, size: int, step: int) -> None:
    """A window holds exactly its size."""
    assert seq.is_within(seq.add(start, step), start, size) == (step < size)
