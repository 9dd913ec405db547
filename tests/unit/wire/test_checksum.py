# SPDX-License-Identifier: Apache-2.0
import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.wire.checksum import finish, ones_sum, pseudo_header


@given(st.binary(min_size=1, max_size=3000).filter(any))
def test_it_equals_the_oracle(data):
    assert finish(ones_sum(data)) == dpkt.in_cksum(data)


@given(st.binary(max_size=200).map(lambda data: data + b"\0" * (len(data) % 2)), st.binary(min_size=1).filter(any))
def test_sums_add_up_over_pieces(first, second):
    assert finish(ones_sum(first) + ones_sum(second)) == finish(ones_sum(first + second))


@pytest.mark.parametrize(
    ("words", "checksum"),
    [
        (b"\x00\x01", 0xFFFE),
        (b"\xff\xff", 0x0000),  # a sum of all ones stays all ones: it is not zero
        (b"\xff\xff\xff\xff", 0x0000),
        (b"\xff\xff\x00\x01", 0xFFFE),
        (bytes.fromhex("0001f203f4f5f6f7"), 0x220D),  # the example of RFC 1071
    ],
)
def test_known_sums(words, checksum):
    assert finish(ones_sum(words)) == checksum


def test_the_pseudo_header_counts_a_length_beyond_sixteen_bits():
    short = pseudo_header(b"\1" * 16, b"\2" * 16, 6, 0)
    assert pseudo_header(b"\1" * 16, b"\2" * 16, 6, 0x1_0002) == short + 3
