# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for segments and frames, shared by the tests of the codecs."""

from hypothesis import strategies as st

from controller.core.segment import Endpoint, Segment, TcpOptions, Timestamps
from controller.wire.address import decode_ip, decode_mac

U8, U16, U32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))
MACS = st.binary(min_size=6, max_size=6).map(decode_mac)


def addresses(size):
    return st.binary(min_size=size, max_size=size).map(decode_ip)


EDGES = st.lists(st.tuples(U32, U32), max_size=4).map(tuple)
UNKNOWN = st.lists(
    st.tuples(st.sampled_from((6, 19, 27, 30, 34, 76, 253, 255)), st.binary(max_size=8)), max_size=3
).map(tuple)


def raw_size(options):
    """Bytes that the options take without any padding."""
    size = 4 * (options.mss is not None) + 3 * (options.window_scale is not None) + 2 * options.sack_permitted
    size += 10 * (options.timestamps is not None) + (2 + 8 * len(options.sack) if options.sack else 0)
    return size + sum(2 + len(body) for _, body in options.others)


OPTIONS = st.builds(
    TcpOptions,
    st.none() | U16,
    st.none() | U8,
    st.booleans(),
    EDGES,
    st.none() | st.builds(Timestamps, U32, U32),
    UNKNOWN,
).filter(lambda options: raw_size(options) <= 40)


PAYLOADS = st.binary(max_size=3000)


@st.composite
def segments(draw, payload=PAYLOADS, options=OPTIONS):
    """Any segment that a frame can carry, over IPv4 or IPv6, tagged or not."""
    size = draw(st.sampled_from((4, 16)))
    return Segment(
        Endpoint(draw(addresses(size)), draw(U16)),
        Endpoint(draw(addresses(size)), draw(U16)),
        draw(U32),
        draw(U32),
        draw(U8),
        draw(U16),
        draw(options),
        draw(payload),
        draw(MACS),
        draw(MACS),
        draw(st.none() | st.integers(0, 4095)),
        draw(U8),
        draw(U8),
        draw(U16) if size == 4 else 0,
        draw(U16),
    )
