# SPDX-License-Identifier: Apache-2.0
"""Expressions of the JSON into Python's, with a bound on what they can be.

bmv2 computes with unbounded integers and cuts when a field is set; p4c writes a mask wherever the language cuts
before. Python's integers are the same, so a mask can be left out wherever the bound shows that it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .program import FieldName, Json, UnsupportedError

UNBOUNDED = 1 << 30
"""Bits of a value that may be negative."""
MAX_SHIFT_BITS = 8

COMPARE = {"==": "==", "!=": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
LOGIC = {"and": "and", "or": "or"}


@dataclass(frozen=True)
class Code:
    """Python text that needs no parentheses around it, and the bits that its value fits in (a condition: 1)."""

    text: str
    bits: int


Read = Callable[[FieldName], Code]


def constant(value: int) -> Code:
    text = str(value) if -10 < value < 10000 else hex(value)
    return Code(text if value >= 0 else f"({text})", value.bit_length() if value >= 0 else UNBOUNDED)


def masked(code: Code, bits: int) -> str:
    """The value cut to so many bits."""
    return code.text if code.bits <= bits else f"({code.text} & {hex((1 << bits) - 1)})"


def translate(value: Json, read: Read, parameters: tuple[Code, ...] = ()) -> Code:
    """One operand or expression.

    Raises:
        UnsupportedError: an operator or operand that is not done, by its name.
    """
    kind = value["type"]
    if kind == "expression":
        inner = value["value"]
        return translate(inner, read, parameters) if "type" in inner else _operation(inner, read, parameters)
    if kind == "field":
        return read((value["value"][0], value["value"][1]))
    if kind == "hexstr":
        return constant(int(value["value"], 16))
    if kind == "bool":
        return Code("True" if value["value"] else "False", 1)
    if kind in ("runtime_data", "local"):
        return parameters[value["value"]]
    raise UnsupportedError(f"operand of type {kind} is not supported by this target")


def _operation(node: Json, read: Read, parameters: tuple[Code, ...]) -> Code:
    operator = node["op"]
    right = translate(node["right"], read, parameters)
    if operator == "?":
        condition = translate(node["cond"], read, parameters)
        left = translate(node["left"], read, parameters)
        return Code(f"({left.text} if {condition.text} else {right.text})", max(left.bits, right.bits))
    if node.get("left") is None:
        return _unary(operator, right)
    left = translate(node["left"], read, parameters)
    if operator in COMPARE:
        return Code(f"({left.text} {COMPARE[operator]} {right.text})", 1)
    if operator in LOGIC:
        return Code(f"({left.text} {LOGIC[operator]} {right.text})", 1)
    if operator == "&":
        return _and(left, right)
    return _arithmetic(operator, left, right)


def _unary(operator: str, right: Code) -> Code:
    if operator == "d2b":
        return Code(right.text if right.bits <= 1 else f"({right.text} != 0)", 1)
    if operator == "b2d":
        return Code(f"(1 if {right.text} else 0)", 1)
    if operator == "not":
        return Code(f"(not {right.text})", 1)
    if operator in ("~", "-"):
        return Code(f"({operator}{right.text})", UNBOUNDED)
    raise UnsupportedError(f"operator {operator} is not supported by this target")


def _literal(code: Code) -> int | None:
    try:
        return int(code.text, 0)
    except ValueError:
        return None


def _and(left: Code, right: Code) -> Code:
    for value, mask in ((left, right), (right, left)):
        number = _literal(mask)
        if number is not None and number + 1 == 1 << mask.bits and value.bits <= mask.bits:
            return value
    return Code(f"({left.text} & {right.text})", min(left.bits, right.bits))


def _arithmetic(operator: str, left: Code, right: Code) -> Code:
    widest = max(left.bits, right.bits)
    if operator in ("|", "^"):
        if "0" in (left.text, right.text):
            return right if left.text == "0" else left
        return Code(f"({left.text} {operator} {right.text})", widest)
    if operator == "+":
        return Code(f"({left.text} + {right.text})", min(widest + 1, UNBOUNDED))
    if operator == "-":
        return Code(f"({left.text} - {right.text})", UNBOUNDED)
    if operator == "*":
        return Code(f"({left.text} * {right.text})", min(left.bits + right.bits, UNBOUNDED))
    if operator in ("<<", ">>"):
        return _shift(operator, left, right)
    raise UnsupportedError(f"operator {operator} is not supported by this target")


def _shift(operator: str, left: Code, right: Code) -> Code:
    amount = _literal(right)
    if amount == 0:
        return left
    if operator == ">>":
        bits = left.bits if amount is None or left.bits == UNBOUNDED else max(left.bits - amount, 0)
        return Code(f"({left.text} >> {right.text})", bits)
    if amount is None and right.bits > MAX_SHIFT_BITS:
        raise UnsupportedError(
            f"a shift to the left by a variable of {right.bits} bits is not supported by this target"
        )
    most = amount if amount is not None else (1 << right.bits) - 1
    return Code(f"({left.text} << {right.text})", min(left.bits + most, UNBOUNDED))
