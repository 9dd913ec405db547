# SPDX-License-Identifier: Apache-2.0
"""The TCP rewriting actions of the modified Open vSwitch, as Nicira actions of the framework's parsers.

``register()`` adds ``NXActionIncTcpSeq`` and the rest to the parsers of every OpenFlow version for which the
frameworks have Nicira actions (1.0, 1.3, 1.4, 1.5), as if they were the framework's: ``parser.NXActionIncTcpSeq(5)``
serializes, flow statistics parse into it. Each body is padded here so that the whole action is a multiple of 8 bytes,
which the framework leaves to the action. A row of ``ACTIONS`` is (class name, subtype, format of the body after the
subtype, name of its one argument, smallest and largest value).
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from controller.openflow import framework

PARSERS = (
    framework.ofproto_v1_0_parser,
    framework.ofproto_v1_3_parser,
    framework.ofproto_v1_4_parser,
    framework.ofproto_v1_5_parser,
)
NX_EXPERIMENTER = 0x00002320
UINT32, UINT16 = 0xFFFFFFFF, 0xFFFF


class ActionRow(NamedTuple):
    """One of our actions: how it is called, numbered and laid out."""

    name: str
    subtype: int
    body: str
    argument: str
    lowest: int
    highest: int


ACTIONS = (
    ActionRow("NXActionIncTcpSeq", 80, "!2xI", "amount", 0, UINT32),
    ActionRow("NXActionDecTcpSeq", 81, "!2xI", "amount", 0, UINT32),
    ActionRow("NXActionIncTcpAck", 82, "!2xI", "amount", 0, UINT32),
    ActionRow("NXActionDecTcpAck", 83, "!2xI", "amount", 0, UINT32),
    ActionRow("NXActionIncTcpTsval", 84, "!2xI", "amount", 0, UINT32),
    ActionRow("NXActionIncTcpTsecr", 85, "!2xI", "amount", 0, UINT32),
    ActionRow("NXActionShiftTcpWindow", 86, "!b5x", "shift", -14, 14),
    ActionRow("NXActionSetTcpWindow", 87, "!H4x", "window", 0, UINT16),
    ActionRow("NXActionIncIpId", 88, "!H4x", "amount", 0, UINT16),
)


def register() -> None:
    """Add the actions to the framework's parsers. Calling it again changes nothing."""
    for parser in PARSERS:
        register_with(parser)


def register_with(parser: Any) -> None:
    """Add the actions to one parser module."""
    for row in ACTIONS:
        if not hasattr(parser, row.name):
            action = _make(parser, row)
            setattr(parser, row.name, action)
            parser.NXAction.register(action)


def _make(parser: Any, row: ActionRow) -> Any:
    """Return the class of one action for one version of the protocol."""

    def __init__(self: Any, *values: int, **named: Any) -> None:  # noqa: N807
        # The framework rebuilds an action from its attributes: type_, len_, experimenter and subtype come along.
        (value,) = values or (named[row.argument],)
        if not row.lowest <= value <= row.highest:
            raise ValueError(f"{row.name}: {row.argument} {value} is not in {row.lowest}..{row.highest}")
        parser.NXAction.__init__(self)
        setattr(self, row.argument, value)

    def from_body(cls: Any, body: bytes) -> Any:
        return cls(*struct.unpack_from(row.body, body, 0))

    def serialize_body(self: Any) -> bytearray:
        return bytearray(struct.pack(row.body, getattr(self, row.argument)))

    namespace = {
        "__init__": __init__,
        "__doc__": f"Nicira subtype {row.subtype}, {row.argument} in {row.lowest}..{row.highest}.",
        "__module__": parser.__name__,
        "_subtype": row.subtype,
        "_fmt_str": row.body,
        "parser": classmethod(from_body),
        "serialize_body": serialize_body,
    }
    return type(row.name, (parser.NXAction,), namespace)


register()
