# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from scapy.layers.inet import TCP

from controller.core.errors import LocalError, RemoteError
from controller.core.segment import NO_OPTIONS, TcpOptions, Timestamps
from controller.wire.tcp_options import decode_options, encode_options
from tests.unit.wire.strategies import OPTIONS


@given(OPTIONS)
def test_whatever_fits_a_header_survives_the_round_trip(options):
    data = encode_options(options)
    assert len(data) <= 40
    assert len(data) % 4 == 0
    assert decode_options(data) == options


@pytest.mark.parametrize(
    ("options", "layout"),
    [
        (NO_OPTIONS, ""),
        (TcpOptions(mss=1460), "020405b4"),
        (TcpOptions(timestamps=Timestamps(1, 2)), "0101080a0000000100000002"),
        (TcpOptions(mss=1460, window_scale=7, sack_permitted=True), "020405b40101040201030307"),
        (
            TcpOptions(1460, 7, True, timestamps=Timestamps(1, 0)),
            "020405b40402080a000000010000000001030307",
        ),
        (
            TcpOptions(timestamps=Timestamps(1, 2), sack=((3, 4),)),
            "0101080a00000001000000020101050a0000000300000004",
        ),
        (TcpOptions(others=((34, b"abc"),)), "2205616263000000"),
    ],
)
def test_the_layout_is_the_one_linux_sends(options, layout):
    assert encode_options(options).hex() == layout


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("", NO_OPTIONS),
        ("01010101", NO_OPTIONS),
        ("00ffffff", NO_OPTIONS),  # nothing is read behind the end mark
        ("020405b4", TcpOptions(mss=1460)),
        ("02030501", TcpOptions(others=((2, b"\x05"),))),  # a length that is not MSS's own
        ("0304070000000000", TcpOptions(others=((3, b"\x07\x00"),))),
        ("0403000000000000", TcpOptions(others=((4, b"\x00"),))),
        ("05020000", TcpOptions(others=((5, b""),))),
        ("0506000000010000", TcpOptions(others=((5, b"\0\0\0\1"),))),
        ("0806000000010000", TcpOptions(others=((8, b"\0\0\0\1"),))),
        ("020405b40204055a", TcpOptions(mss=1370)),  # given twice: the last counts
        ("080a00000001000000020101", TcpOptions(timestamps=Timestamps(1, 2))),
        ("0303070204055a00", TcpOptions(mss=1370, window_scale=7)),
    ],
)
def test_layouts_of_others(data, options):
    assert decode_options(bytes.fromhex(data)) == options


@pytest.mark.parametrize("data", ["02", "0200", "0201", "020405", "01010105", "080a0000", "22ff0000"])
def test_an_option_that_overruns_the_header_is_a_remote_error(data):
    with pytest.raises(RemoteError, match="overruns"):
        decode_options(bytes.fromhex(data))


def test_full_options_lose_their_padding_rather_than_an_option():
    options = TcpOptions(timestamps=Timestamps(1, 2), sack=((1, 2), (3, 4), (5, 6)), others=((30, b""),))
    assert len(encode_options(options)) == 40
    assert decode_options(encode_options(options)) == options


@pytest.mark.parametrize(
    "options",
    [
        TcpOptions(sack=tuple((n, n + 1) for n in range(5))),
        TcpOptions(mss=70_000),
        TcpOptions(window_scale=-1),
        TcpOptions(timestamps=Timestamps(1 << 32, 0)),
        TcpOptions(others=((256, b""),)),
    ],
)
def test_what_no_header_can_hold_is_a_local_error(options):
    with pytest.raises(LocalError, match="TCP options"):
        encode_options(options)


def test_scapy_reads_what_we_write():
    options = TcpOptions(1460, 7, True, timestamps=Timestamps(5, 6))
    packet = TCP(bytes(TCP(dataofs=10))[:20] + encode_options(options))
    assert packet.options == [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (5, 6)), ("NOP", None), ("WScale", 7)]
