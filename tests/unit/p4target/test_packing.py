# SPDX-License-Identifier: Apache-2.0
"""Headers of any fields come off the wire and go back as plain slicing of bits has it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p4src.target import packing
from p4src.target.program import Header

WIDTHS = st.lists(
    st.one_of(st.integers(1, 70), st.sampled_from([8, 16, 32, 48, 64, 128, 512])), min_size=1, max_size=12
)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    widths = draw(WIDTHS)
    rest = -sum(widths) % 8
    widths += [rest] if rest else []
    return Header("h", tuple((f"f{n}", width) for n, width in enumerate(widths)), metadata=False)


@given(headers(), st.data())
def test_extract_and_emit(header: Header, data: st.DataObject) -> None:
    wire = data.draw(st.binary(min_size=header.length, max_size=header.length))
    names = {name: f"v_{name}" for name, _ in header.fields}
    layout = packing.layout(header)
    scope: dict[str, Any] = {
        "unpack": layout.unpack_from,
        "pack": layout.pack,
        "from_bytes": int.from_bytes,
        "packet": b"xyz" + wire + b"tail",
    }
    exec("\n".join(packing.extract(header, names, "unpack", "packet, 3")), scope)
    whole, left = int.from_bytes(wire, "big"), header.length * 8
    for name, width in header.fields:
        left -= width
        assert scope[names[name]] == whole >> left & (1 << width) - 1
    assert eval(packing.emit(header, names, "pack"), scope) == wire


def test_whole_fields_need_no_arithmetic() -> None:
    header = Header("ports", (("source", 16), ("destination", 16)), metadata=False)
    assert packing.extract(header, {"source": "s", "destination": "d"}, "u", "p, 0") == ["s, d, = u(p, 0)"]
