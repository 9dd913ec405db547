# SPDX-License-Identifier: Apache-2.0
"""Every action in the bytes that ``ovs-ofctl`` made of it, through both frameworks' classes and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controller.openflow import actions

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "ovs_actions" / "vectors.json").read_text())


def class_name(action: str) -> str:
    """Return the name of the class of an action: inc_tcp_seq is NXActionIncTcpSeq."""
    return "NXAction" + "".join(word.capitalize() for word in action.split("_"))


def test_every_action_has_vectors_of_every_version() -> None:
    """The smallest and the largest argument among them."""
    assert VECTORS["versions"] == [f"OpenFlow1{minor}" for minor in range(6)]
    for row in actions.ACTIONS:
        told = [vector["argument"] for vector in VECTORS["vectors"] if class_name(vector["action"]) == row.name]
        assert {row.lowest, row.highest} <= set(told), row.name


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["text"])
def test_bytes_of_ofctl_and_back(parser, vector) -> None:
    """Parsed into the right class with the right argument; what that serializes to is what ovs-ofctl made."""
    encoded = bytes.fromhex(vector["hex"])
    row = next(row for row in actions.ACTIONS if row.name == class_name(vector["action"]))
    assert row.subtype == vector["subtype"]
    parsed = parser.OFPAction.parser(encoded, 0)
    assert type(parsed) is getattr(parser, row.name)
    assert getattr(parsed, row.argument) == vector["argument"]
    for action in (parsed, getattr(parser, row.name)(vector["argument"])):
        buffer = bytearray()
        action.serialize(buffer, 0)
        assert buffer == encoded


@pytest.mark.parametrize("listed", VECTORS["lists"], ids=lambda listed: listed["text"])
def test_a_list_keeps_its_order(parser, listed) -> None:
    """Each action is found behind the one before, by the length in its header."""
    encoded = bytes.fromhex(listed["hex"])
    offset, found = 0, []
    while offset < len(encoded):
        action = parser.OFPAction.parser(encoded, offset)
        row = next(row for row in actions.ACTIONS if row.name == type(action).__name__)
        found.append((row.name, getattr(action, row.argument)))
        offset += action.len
    told = [word.split(":") for word in listed["text"].split(",")]
    assert found == [(class_name(name), int(value)) for name, value in told]
