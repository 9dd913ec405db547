# SPDX-License-Identifier: Apache-2.0
"""Any graph of conditions and tables, written as nested ifs, takes the path that following the graph takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4src.target.program import UnsupportedError
from p4src.target.translate import Pipeline

from .common import document, pipeline

NODES = 7
KIND = {"type": "field", "value": ["scalars", "metadata_t.hash16"]}
TRACE = {"type": "field", "value": ["scalars", "metadata_t.wide"]}


def hexstr(value: int) -> dict[str, Any]:
    return {"type": "hexstr", "value": hex(value)}


def expression(op: str, left: Any, right: Any) -> dict[str, Any]:
    return {"type": "expression", "value": {"op": op, "left": left, "right": right}}


def table(number: int, following: str | None) -> tuple[Any, Any]:
    """A table whose only action notes that it ran: bit `number` of the trace."""
    noted = expression("|", TRACE, hexstr(1 << number))
    action = {
        "name": f"note{number}",
        "id": 1000 + number,
        "runtime_data": [],
        "primitives": [{"op": "assign", "parameters": [TRACE, noted]}],
    }
    made = {
        "name": f"n{number}",
        "id": 1000 + number,
        "key": [],
        "match_type": "exact",
        "type": "simple",
        "max_size": 1,
        "action_ids": [action["id"]],
        "actions": [action["name"]],
        "base_default_next": following,
        "next_tables": {action["name"]: following},
        "default_entry": {
            "action_id": action["id"],
            "action_const": True,
            "action_data": [],
            "action_entry_const": True,
        },
    }
    return made, action


def condition(number: int, true: str | None, false: str | None) -> Any:
    bit = expression("&", expression(">>", KIND, hexstr(number)), hexstr(1))
    return {
        "name": f"n{number}",
        "id": 1000 + number,
        "expression": expression("==", bit, hexstr(1)),
        "true_next": true,
        "false_next": false,
    }


def program_of(graph: list[tuple[int | None, int | None]]) -> Pipeline:
    """The egress block of `features` becomes this graph; a node with two different followers is a condition.

    Its input is the register cell 0, its output the trace in the register cell 1.
    """
    made = document()
    egress = next(p for p in made["pipelines"] if p["name"] == "egress")
    read = {"op": "register_read", "parameters": [KIND, {"type": "register_array", "value": REGISTER}, hexstr(0)]}
    write = {"op": "register_write", "parameters": [{"type": "register_array", "value": REGISTER}, hexstr(1), TRACE]}
    egress["tables"], egress["conditionals"] = [], []
    for number, (one, two) in enumerate(graph):
        names = [f"n{n}" if n is not None else "last" for n in (one, two)]
        if one == two:
            node, action = table(number, names[0])
            egress["tables"].append(node)
            made["actions"].append(action)
        else:
            egress["conditionals"].append(condition(number, *names))
    for name, number, primitives, following in (("first", 20, [read], "n0"), ("last", 21, [write], None)):
        node, action = table(number, following)
        node["name"], action["primitives"] = name, primitives
        egress["tables"].append(node)
        made["actions"].append(action)
    egress["init_table"] = "first"
    return pipeline(made)


REGISTER = "FeaturesIngress.last"


def followed(graph: list[tuple[int | None, int | None]], value: int) -> int:
    """The trace that walking the graph leaves."""
    trace, node = 0, 0 if graph else None
    while node is not None:
        one, two = graph[node]
        if one == two:
            trace |= 1 << node
            node = one
        else:
            node = one if value >> node & 1 else two
    return trace


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[int | None, int | None]]:
    found = []
    for number in range(NODES):
        later = st.sampled_from([None, *range(number + 1, NODES)])
        one = draw(later)
        found.append((one, draw(st.one_of(st.just(one), later))))
    return found


@given(graphs(), st.lists(st.integers(0, (1 << NODES) - 1), min_size=1, max_size=8))
def test_the_path_is_that_of_the_graph(graph: list[tuple[int | None, int | None]], values: list[int]) -> None:
    made = program_of(graph)
    state = made.reparse(b"\0" * 14, 14, 1, None)
    for value in values:
        made.registers[REGISTER][:] = [value, 0, 0]
        made.egress(state, 1, 0, 0, 0)
        assert made.registers[REGISTER][1] == followed(graph, value)


def test_what_follows_both_arms_is_written_once() -> None:
    source = program_of([(1, 2), (3, 3), (3, 3), (4, 4), (5, 5), (6, 6), (None, None)]).source
    assert source.count(f"| {1 << 6}") == 1


def test_a_circle_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="circles"):
        program_of([(1, 1), (0, 0)])
