# SPDX-License-Identifier: Apache-2.0
"""Headers and nonces made by the run are those made one by one, whatever wraps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.eccp.batch import headers, heads_apart, nonces, pieces_of
from controller.wire.eccp import HEADER_SIZE, INDEX_ONE, Kind, encode_header

NUMBERS = st.one_of(st.integers(0, 2**64 - 200), st.integers(0, 2**56 - 2).map(lambda n: n * 256 + 250))


@given(number=NUMBERS, count=st.integers(1, 120), index=st.integers(0, 5), flow=st.integers(0, 2**64 - 1))
def test_a_run_of_headers(number: int, count: int, index: int, flow: int) -> None:
    aux = 120 + index * INDEX_ONE
    one_by_one = tuple(
        encode_header(Kind.DATA, flow, number + at, aux + at * INDEX_ONE) + b"rest" for at in range(count)
    )
    assert headers(Kind.DATA, aux, flow, number, count, b"rest") == one_by_one


@given(number=NUMBERS, count=st.integers(1, 120))
def test_a_run_of_nonces(number: int, count: int) -> None:
    assert nonces(number, count) == tuple(bytes(4) + (number + at).to_bytes(8, "big") for at in range(count))


@pytest.mark.parametrize("count", [1, 2, 40])
def test_headers_are_found_again_in_a_received_run(count: int) -> None:
    wanted = headers(Kind.DATA, count, 7, 1000, count)
    run = b"".join(header + bytes(80) for header in wanted)[: -79 or None]
    assert heads_apart(HEADER_SIZE + 80, count).unpack_from(run) == wanted
    assert pieces_of(3, count).unpack(b"abc" * count) == (b"abc",) * count
