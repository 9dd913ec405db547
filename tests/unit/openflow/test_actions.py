# SPDX-License-Identifier: Apache-2.0
"""The custom actions in the parsers of both frameworks, for every version of OpenFlow that has them."""

from __future__ import annotations

import pytest

from controller.openflow import actions

BYTES = {
    # (class, argument): the action on the wire, OpenFlow 1.3 and later (type, length, Nicira, subtype, body)
    ("NXActionIncTcpSeq", 1): "ffff0010 00002320 0050 0000 00000001",
    ("NXActionIncTcpSeq", 0xFFFFFFFF): "ffff0010 00002320 0050 0000 ffffffff",
    ("NXActionDecTcpSeq", 0x12345678): "ffff0010 00002320 0051 0000 12345678",
    ("NXActionIncTcpAck", 0): "ffff0010 00002320 0052 0000 00000000",
    ("NXActionDecTcpAck", 0x80000000): "ffff0010 00002320 0053 0000 80000000",
    ("NXActionIncTcpTsval", 7): "ffff0010 00002320 0054 0000 00000007",
    ("NXActionIncTcpTsecr", 0xDEADBEEF): "ffff0010 00002320 0055 0000 deadbeef",
    ("NXActionShiftTcpWindow", 3): "ffff0010 00002320 0056 03 0000000000",
    ("NXActionShiftTcpWindow", -2): "ffff0010 00002320 0056 fe 0000000000",
    ("NXActionSetTcpWindow", 0): "ffff0010 00002320 0057 0000 00000000",
    ("NXActionSetTcpWindow", 0xFFFF): "ffff0010 00002320 0057 ffff 00000000",
    ("NXActionIncIpId", 0x1234): "ffff0010 00002320 0058 1234 00000000",
}


@pytest.mark.parametrize(("name", "value"), BYTES)
def test_bytes_and_back(parser, name, value):
    action = getattr(parser, name)(value)
    buffer = bytearray()
    action.serialize(buffer, 0)
    assert buffer == bytes.fromhex(BYTES[name, value])
    parsed = parser.OFPAction.parser(bytes(buffer), 0)
    assert type(parsed) is getattr(parser, name)
    row = next(row for row in actions.ACTIONS if row.name == name)
    assert getattr(parsed, row.argument) == value
    assert f"{row.argument}={value}" in str(parsed)


@pytest.mark.parametrize("row", actions.ACTIONS, ids=lambda row: row.name)
def test_arguments_outside_their_range_are_refused(parser, row):
    make = getattr(parser, row.name)
    for value in (row.lowest - 1, row.highest + 1):
        with pytest.raises(ValueError, match=row.name):
            make(value)
    assert getattr(make(**{row.argument: row.highest}), row.argument) == row.highest


@pytest.mark.parametrize("row", actions.ACTIONS, ids=lambda row: row.name)
def test_an_action_survives_the_frameworks_json(parser, row):
    action = getattr(parser, row.name)(3)
    rebuilt = type(action).from_jsondict(action.to_jsondict()[row.name])
    assert getattr(rebuilt, row.argument) == 3


def test_registering_again_keeps_the_classes(parser):
    before = [getattr(parser, row.name) for row in actions.ACTIONS]
    actions.register_with(parser)
    assert [getattr(parser, row.name) for row in actions.ACTIONS] == before


def test_no_subtype_of_the_framework_is_replaced(parser):
    ours = {row.subtype for row in actions.ACTIONS}
    assert len(ours) == len(actions.ACTIONS)
    for subtype, action in parser.NXAction._subtypes.items():
        assert (subtype in ours) == (action.__name__ in {row.name for row in actions.ACTIONS})
