# SPDX-License-Identifier: Apache-2.0
"""Translated expressions have the value that unbounded integers and p4c's masks give, and stay within their bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4src.target import expressions
from p4src.target.expressions import Code
from p4src.target.program import UnsupportedError

WIDTHS = {("m", "a"): 8, ("m", "b"): 32, ("m", "c"): 64, ("m", "d"): 1}


def field(name: str) -> dict[str, Any]:
    return {"type": "field", "value": ["m", name]}


def number(value: int) -> dict[str, Any]:
    return {"type": "hexstr", "value": hex(value)}


def node(op: str, left: Any, right: Any, **more: Any) -> dict[str, Any]:
    return {"type": "expression", "value": {"op": op, "left": left, "right": right, **more}}


def masked(value: Any, bits: int) -> dict[str, Any]:
    return node("&", value, number((1 << bits) - 1))


LEAVES = st.one_of(
    st.sampled_from([field(name) for _, name in WIDTHS]), st.integers(0, 1 << 70).map(number), st.just(number(0))
)
BITS = st.sampled_from([1, 8, 16, 32, 64, 128])


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    binary = st.builds(node, st.sampled_from(["+", "-", "*", "&", "|", "^"]), inner, inner)
    shift = st.builds(node, st.sampled_from(["<<", ">>"]), inner, st.integers(0, 70).map(number))
    compare = st.builds(node, st.sampled_from(list(expressions.COMPARE)), inner, inner)
    logic = st.builds(node, st.sampled_from(["and", "or"]), compare, compare)
    choice = st.builds(lambda c, a, b: node("?", a, b, cond=c), compare, inner, inner)
    as_number = st.builds(lambda c: node("b2d", None, c), st.one_of(compare, logic))
    inverted = st.builds(lambda v: node("~", None, v), inner)
    return st.one_of(binary, shift, choice, as_number, inverted, st.builds(masked, inner, BITS))


TREES = st.recursive(LEAVES, grown, max_leaves=12)


def value_of(tree: Any, fields: dict[str, int]) -> int:
    """The tree interpreted, node by node."""
    if tree["type"] == "field":
        return fields[tree["value"][1]]
    if tree["type"] == "hexstr":
        return int(tree["value"], 16)
    inner = tree["value"]
    if inner["op"] == "?":
        return value_of(inner["left"] if value_of(inner["cond"], fields) else inner["right"], fields)
    right = value_of(inner["right"], fields)
    if inner["left"] is None:
        return {"b2d": lambda: int(bool(right)), "~": lambda: ~right}[inner["op"]]()
    left = value_of(inner["left"], fields)
    return {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "&": lambda: left & right,
        "|": lambda: left | right,
        "^": lambda: left ^ right,
        "<<": lambda: left << right,
        ">>": lambda: left >> right,
        "==": lambda: int(left == right),
        "!=": lambda: int(left != right),
        "<": lambda: int(left < right),
        ">": lambda: int(left > right),
        "<=": lambda: int(left <= right),
        ">=": lambda: int(left >= right),
        "and": lambda: int(bool(left) and bool(right)),
        "or": lambda: int(bool(left) or bool(right)),
    }[inner["op"]]()


def read(name: tuple[str, str]) -> Code:
    return Code(name[1], WIDTHS[name])


VALUES = st.fixed_dictionaries({name: st.integers(0, (1 << width) - 1) for (_, name), width in WIDTHS.items()})


@given(TREES, VALUES)
def test_value_and_bound(tree: Any, fields: dict[str, int]) -> None:
    code = expressions.translate(tree, read)
    value = eval(code.text, {}, dict(fields))
    assert value == value_of(tree, fields)
    assert code.bits >= expressions.UNBOUNDED or 0 <= value < 1 << code.bits


@given(TREES, VALUES, BITS)
def test_cut_to_a_field(tree: Any, fields: dict[str, int], bits: int) -> None:
    text = expressions.masked(expressions.translate(tree, read), bits)
    assert eval(text, {}, dict(fields)) == value_of(tree, fields) % (1 << bits)


def test_a_mask_that_changes_nothing_is_left_out() -> None:
    rotated = node("|", masked(node("<<", field("c"), number(13)), 64), node(">>", field("c"), number(51)))
    assert expressions.translate(masked(rotated, 64), read).text == "(((c << 13) & 0xffffffffffffffff) | (c >> 51))"


@pytest.mark.parametrize("operator", ["sat_cast", "two_comp_mod", "/", "access_field"])
def test_unknown_operator_is_named(operator: str) -> None:
    with pytest.raises(UnsupportedError, match=operator):
        expressions.translate(node(operator, field("a"), field("b")), read)


def test_unbounded_shift_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="shift"):
        expressions.translate(node("<<", field("a"), field("b")), read)


def test_unknown_operand_is_named() -> None:
    with pytest.raises(UnsupportedError, match="stack_field"):
        expressions.translate({"type": "stack_field", "value": []}, read)
