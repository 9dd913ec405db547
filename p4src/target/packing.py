# SPDX-License-Identifier: Apache-2.0
"""Headers off the wire and onto it: one `struct` format a header, shifts and masks where fields share bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .program import Header

CODES = ((64, "Q"), (32, "I"), (16, "H"), (8, "B"))


@dataclass(frozen=True)
class Run:
    """Consecutive fields that together fill whole bytes: (name, width) of each, and the struct pieces they come in.

    A run wider than 64 bits is one piece of bytes (code "s").
    """

    fields: tuple[tuple[str, int], ...]
    bits: int
    pieces: tuple[tuple[str, int], ...]


def _pieces(bits: int) -> tuple[tuple[str, int], ...]:
    if bits > 64:
        return ((f"{bits // 8}s", bits),)
    pieces = []
    for width, code in CODES:
        while bits >= width:
            pieces.append((code, width))
            bits -= width
    return tuple(pieces)


def runs(header: Header) -> tuple[Run, ...]:
    found: list[Run] = []
    fields: list[tuple[str, int]] = []
    bits = 0
    for field in header.fields:
        fields.append(field)
        bits += field[1]
        if bits % 8 == 0:
            found.append(Run(tuple(fields), bits, _pieces(bits)))
            fields, bits = [], 0
    return tuple(found)


def layout(header: Header) -> struct.Struct:
    return struct.Struct(">" + "".join(code for run in runs(header) for code, _ in run.pieces))


def extract(header: Header, variables: dict[str, str], unpack: str, source: str) -> list[str]:
    """Statements that fill the variables of the fields. `source`: arguments of `unpack`, a buffer and an offset."""
    targets: list[str] = []
    after: list[str] = []
    for run in runs(header):
        if len(run.fields) == 1 and len(run.pieces) == 1 and run.bits <= 64:
            targets.append(variables[run.fields[0][0]])
            continue
        names = [f"g{len(targets) + n}" for n in range(len(run.pieces))]
        targets += names
        whole = names[0]
        if run.bits > 64:
            whole = f'from_bytes({names[0]}, "big")'
        left = run.bits
        if len(names) > 1:
            parts = []
            for name, (_, width) in zip(names, run.pieces, strict=True):
                left -= width
                parts.append(f"{name} << {left}" if left else name)
            whole = " | ".join(parts)
        if len(run.fields) == 1:
            after.append(f"{variables[run.fields[0][0]]} = {whole}")
            continue
        after.append(f"g = {whole}")
        left = run.bits
        for name, width in run.fields:
            left -= width
            shifted = f"g >> {left}" if left else "g"
            cut = f"({shifted}) & {hex((1 << width) - 1)}" if left + width < run.bits else shifted
            after.append(f"{variables[name]} = {cut}")
    return [f"{', '.join(targets)}, = {unpack}({source})", *after] if targets else []


def combine(fields: list[tuple[str, int]]) -> str:
    """One integer from fields side by side, (variable, width) each, the first on top."""
    left = sum(width for _, width in fields)
    parts = []
    for variable, width in fields:
        left -= width
        parts.append(f"{variable} << {left}" if left else variable)
    return " | ".join(parts)


def emit(header: Header, variables: dict[str, str], pack: str) -> str:
    """An expression for the header's bytes."""
    arguments: list[str] = []
    for run in runs(header):
        whole = combine([(variables[name], width) for name, width in run.fields])
        if len(run.fields) > 1:
            whole = f"({whole})"
        if run.bits > 64:
            arguments.append(f'({whole}).to_bytes({run.bits // 8}, "big")')
            continue
        left = run.bits
        for _, width in run.pieces:
            left -= width
            shifted = f"{whole} >> {left}" if left else whole
            cut = f"({shifted}) & {hex((1 << width) - 1)}" if left + width < run.bits else shifted
            arguments.append(cut)
    return f"{pack}({', '.join(arguments)})"
