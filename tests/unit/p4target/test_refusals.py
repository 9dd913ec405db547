# SPDX-License-Identifier: Apache-2.0
"""What a program uses and this target does not do is refused when it is loaded, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from p4src.target import program
from p4src.target.program import UnsupportedError

from .common import document, pipeline


def _primitive(name: str) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        next(a for a in made["actions"] if a["primitives"])["primitives"].append({"op": name, "parameters": []})

    return change


def _table(**values: Any) -> Callable[[Any], None]:
    return lambda made: made["pipelines"][0]["tables"][0].update(values)


def _match_kind(made: Any) -> None:
    next(t for t in made["pipelines"][0]["tables"] if t["key"])["key"][0]["match_type"] = "optional"


def _parser_operation(made: Any) -> None:
    made["parsers"][0]["parse_states"][0]["parser_ops"].append({"op": "verify", "parameters": []})


def _parser_loop(made: Any) -> None:
    for state in made["parsers"][0]["parse_states"]:
        for transition in state["transitions"]:
            transition["next_state"] = "start"


def _hash(made: Any) -> None:
    made["calculations"][0]["algo"] = "crc32_custom"


def _variable_field(made: Any) -> None:
    made["header_types"][-1]["fields"].append(["options", "*"])


def _queueing(made: Any) -> None:
    condition = made["pipelines"][0]["conditionals"][0]["expression"]
    condition["value"] = {
        "op": ">",
        "left": {"type": "field", "value": ["standard_metadata", "enq_qdepth"]},
        "right": {"type": "hexstr", "value": "0x1"},
    }


def _jump(made: Any) -> None:
    action = next(a for a in made["actions"] if a["primitives"])
    condition = {"type": "hexstr", "value": "0x1"}
    action["primitives"].insert(
        0, {"op": "_jump_if_zero", "parameters": [condition, {"type": "hexstr", "value": "0xff"}]}
    )


CASES: dict[str, Callable[[Any], None]] = {
    "meter_arrays: m1": lambda made: made["meter_arrays"].append({"name": "m1"}),
    "header_stacks: tags": lambda made: made["header_stacks"].append({"name": "tags"}),
    "extern_instances: e": lambda made: made["extern_instances"].append({"name": "e"}),
    "parse_vsets: v": lambda made: made["parse_vsets"].append({"name": "v"}),
    "action profile p": lambda made: made["pipelines"][0]["action_profiles"].append({"name": "p"}),
    "direct counter c": lambda made: made["counter_arrays"].append({"name": "c", "is_direct": True, "size": 1}),
    "with_counters": _table(with_counters=True),
    "support_timeout": _table(support_timeout=True),
    "direct_meters": _table(direct_meters="m"),
    "indirect": _table(type="indirect"),
    "optional": _match_kind,
    "primitive truncate": _primitive("truncate"),
    "primitive exit": _primitive("exit"),
    "primitive clone_egress_pkt_to_egress": _primitive("clone_egress_pkt_to_egress"),
    "parser operation verify": _parser_operation,
    "goes round in circles": _parser_loop,
    "crc32_custom": _hash,
    "options of variable width": _variable_field,
    "enq_qdepth": _queueing,
    "jumps": _jump,
}


@pytest.mark.parametrize("name", CASES)
def test_refused_by_name(name: str) -> None:
    made = document()
    CASES[name](made)
    with pytest.raises(UnsupportedError, match=name):
        pipeline(made)


def test_recirculate_in_ingress_is_refused() -> None:
    made = document()
    parameters = [{"type": "hexstr", "value": "0x1"}]
    action = next(a for a in made["actions"] if a["name"] == "FeaturesIngress.drop")
    for same in (a for a in made["actions"] if a["name"] == action["name"]):
        same["primitives"].append({"op": "recirculate", "parameters": parameters})
    with pytest.raises(UnsupportedError, match="recirculate in ingress"):
        pipeline(made)


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"header_types": [], "parsers": [], "pipelines": [], "actions": []}']
)
def test_no_program(text: str) -> None:
    with pytest.raises(UnsupportedError, match=r"device configuration|parser"):
        program.load(text)


NEEDED = [
    *("actions", "calculations", "checksums", "counter_arrays", "deparsers", "errors", "field_lists", "header_types"),
    *("headers", "learn_lists", "parsers", "pipelines", "register_arrays"),
]


@pytest.mark.parametrize("part", NEEDED)
def test_a_part_left_out_is_an_error_and_no_traceback(part: str) -> None:
    made = document()
    del made[part]
    with pytest.raises(UnsupportedError, match="device configuration"):
        pipeline(made)
