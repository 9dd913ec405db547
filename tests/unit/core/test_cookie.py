# SPDX-License-Identifier: Apache-2.0
"""Cookies name connection and version, and only ours do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.cookie import Cookie, Kind, decode_cookie


@given(st.sampled_from(Kind), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1))
def test_round_trip(kind: Kind, version: int, number: int) -> None:
    """Whatever fits comes back."""
    value = Cookie(kind, version, number).encode()
    assert 0 <= value < 2**64
    assert decode_cookie(value) == (kind, version, number)


def test_counters_wrap() -> None:
    """Versions and numbers beyond their bits do not spill into their neighbours."""
    assert decode_cookie(Cookie(Kind.PATH, 2**16 + 3, 2**32 + 4).encode()) == (Kind.PATH, 3, 4)


@pytest.mark.parametrize("value", [0, 2**64 - 1, 0xBA6 << 52, 0xBA7 << 52 | 0xF << 48])
def test_strangers(value: int) -> None:
    """Another application's cookie, or an unknown kind."""
    assert decode_cookie(value) is None
