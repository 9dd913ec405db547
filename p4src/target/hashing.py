# SPDX-License-Identifier: Apache-2.0
"""Hashes and checksums: the bytes that a calculation reads, and its result, as Python expressions."""

from __future__ import annotations

from . import expressions
from .expressions import Code
from .hashes import BITS, HASHES
from .names import Names
from .packing import combine
from .program import Json, Program, UnsupportedError


def expression(program: Program, names: Names, read: expressions.Read, name: str, action: int = -1) -> Code:
    """The value of a calculation. Fields of a header that is not valid are left out, as in bmv2.

    Raises:
        UnsupportedError: an algorithm or an input that is not done, by its name.
    """
    calculation = program.calculations[name]
    algorithm = calculation["algo"]
    if algorithm not in HASHES:
        raise UnsupportedError(f"hash algorithm {algorithm} is not supported by this target")
    parts = [_bytes(header, fields, program, read) for header, fields in _by_header(calculation["input"])]
    if not all(whole for _, whole in parts):
        parts = [_unaligned(calculation["input"], program, read)]
    data = " + ".join(text for text, _ in parts) or 'b""'
    return Code(f"{algorithm}({data})", BITS[algorithm])


def _by_header(inputs: Json) -> list[tuple[str, list[Json]]]:
    """Inputs in order, neighbours of one header together; "" for constants and the payload."""
    found: list[tuple[str, list[Json]]] = []
    for value in inputs:
        header = value["value"][0] if value["type"] == "field" else ""
        if found and header and found[-1][0] == header:
            found[-1][1].append(value)
        else:
            found.append((header, [value]))
    return found


def _sized(value: Json, program: Program, read: expressions.Read) -> tuple[str, int]:
    if value["type"] == "field":
        name = (value["value"][0], value["value"][1])
        return read(name).text, program.widths[name]
    if value["type"] == "hexstr":
        return expressions.constant(int(value["value"], 16)).text, value["bitwidth"]
    raise UnsupportedError(f"{value['type']} as the input of a hash is not supported by this target")


def _bytes(header: str, values: list[Json], program: Program, read: expressions.Read) -> tuple[str, bool]:
    """Text for the bytes of these inputs, and whether they are whole bytes."""
    if values[0]["type"] == "payload":
        return "packet[at:]", True
    fields = [_sized(value, program, read) for value in values]
    bits = sum(width for _, width in fields)
    text = f'({combine(fields)}).to_bytes({bits // 8}, "big")'
    if header and not program.headers[header].metadata:
        valid = read((header, "$valid$")).text
        text = f'({text} if {valid} else b"")'
    return text, bits % 8 == 0


def _unaligned(values: list[Json], program: Program, read: expressions.Read) -> tuple[str, bool]:
    """All inputs side by side, filled up with zero bits at the end."""
    for value in values:
        if value["type"] == "payload" or (value["type"] == "field" and not program.headers[value["value"][0]].metadata):
            raise UnsupportedError("a hash over parts of bytes of a header is not supported by this target")
    fields = [_sized(value, program, read) for value in values]
    bits = sum(width for _, width in fields)
    padding = -bits % 8
    return f'(({combine(fields)}) << {padding}).to_bytes({(bits + padding) // 8}, "big")', True
