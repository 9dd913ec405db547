# SPDX-License-Identifier: Apache-2.0
"""Tables find what the rules of their kinds of match say, also right after a write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4src.target.tables import EXACT, LPM, RANGE, TERNARY, Entry, Field, Table, TableError

MISS = (1, False)


def table(*kinds: str, size: int = 64, width: int = 8) -> Table:
    fields = tuple(Field(f"f{n}", kind, width) for n, kind in enumerate(kinds))
    return Table("t", fields, ("hit", "miss"), size, MISS)


def hit(value: int) -> tuple[int | bool, ...]:
    return (0, True, value)


def lookup(made: Table, *key: int) -> tuple[int | bool, ...]:
    """As generated code looks a key up."""
    single = key[0] if len(key) == 1 else key
    if made.kind == EXACT:
        return made.exact.get(single) or made.default
    return made.memo.get(single) or made.search(single)


def test_exact() -> None:
    made = table(EXACT, EXACT)
    made.insert(Entry(((1, 0), (2, 0)), 0, hit(7)))
    assert lookup(made, 1, 2) == hit(7)
    assert lookup(made, 2, 1) == MISS
    made.delete(((1, 0), (2, 0)), 0)
    assert lookup(made, 1, 2) == MISS


def test_longest_prefix_wins_whatever_the_order() -> None:
    made = table(LPM)
    for length, action in ((4, 4), (8, 8), (0, 0), (6, 6)):
        made.insert(Entry(((0xFF << (8 - length) & 0xFF, length),), 0, hit(action)))
    assert [lookup(made, key)[2] for key in (0xFF, 0xFE, 0xF3, 0x12)] == [8, 6, 4, 0]


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)), max_size=12
    ),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=20),
)
def test_highest_priority_wins(rules: list[tuple[int, int, int, int]], keys: list[tuple[int, int]]) -> None:
    made = table(TERNARY, RANGE)
    for priority, (value, mask, one, two) in enumerate(rules, start=1):
        made.insert(Entry(((value & mask, mask), (min(one, two), max(one, two))), priority, hit(priority)))
        for first, second in keys:
            fitting = [
                number
                for number, (v, m, a, b) in enumerate(rules[:priority], start=1)
                if first & m == v & m and min(a, b) <= second <= max(a, b)
            ]
            assert lookup(made, first, second) == (hit(max(fitting)) if fitting else MISS)


def test_a_write_is_seen_by_keys_met_before() -> None:
    made = table(TERNARY)
    assert lookup(made, 5) == MISS
    made.insert(Entry(((5, 255),), 1, hit(1)))
    assert lookup(made, 5) == hit(1)
    made.modify(Entry(((5, 255),), 1, hit(2)))
    assert lookup(made, 5) == hit(2)
    made.delete(((5, 255),), 1)
    made.set_default((1, False, 9))
    assert lookup(made, 5) == (1, False, 9)
    made.set_default(None)
    assert lookup(made, 5) == MISS


def test_refusals() -> None:
    made = table(EXACT, size=1)
    first, second = Entry(((1, 0),), 0, hit(1)), Entry(((2, 0),), 0, hit(2))
    made.insert(first)
    for action, kind in (
        (lambda: made.insert(first), "exists"),
        (lambda: made.insert(second), "full"),
        (lambda: made.modify(second), "missing"),
        (lambda: made.delete(((2, 0),), 0), "missing"),
    ):
        with pytest.raises(TableError) as caught:
            action()
        assert caught.value.kind == kind
    assert lookup(made, 1) == hit(1)
    made.preset([])
    with pytest.raises(TableError) as caught:
        made.delete(((1, 0),), 0)
    assert caught.value.kind == "constant"
