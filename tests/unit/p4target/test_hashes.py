# SPDX-License-Identifier: Apache-2.0
"""Hash functions against published check values and against their definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4src.target import hashes

CHECK = b"123456789"


@pytest.mark.parametrize(("name", "value"), [("crc32", 0xCBF43926), ("crc16", 0xBB3D)])
def test_check_values(name: str, value: int) -> None:
    assert hashes.HASHES[name](CHECK) == value


def test_checksum_of_rfc_1071() -> None:
    assert hashes.csum16(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@given(st.binary(max_size=60))
def test_checksum_by_its_definition(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[n : n + 2], "big") for n in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert hashes.csum16(data) == 0xFFFF - total


def test_xor_and_identity() -> None:
    assert hashes.xor16(b"\x12\x34\x01\x02\xff") == 0x1234 ^ 0x0102 ^ 0xFF00
    assert hashes.identity(b"\1\2\3\4\5\6\7\x08\x09") == 0x0102030405060708


def test_every_result_fits() -> None:
    for name, function in hashes.HASHES.items():
        assert function(b"\xff" * 30) < 1 << hashes.BITS[name]
