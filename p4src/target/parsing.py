# SPDX-License-Identifier: Apache-2.0
"""The parser: its states become nested ifs with constant offsets, inside a loop that runs once.

A packet that ends before a header leaves the parser there, with the error noted and the header not valid; the bytes
not extracted are the payload. A state that several lead to is written for each of them.
"""

from __future__ import annotations

from . import expressions, packing
from .expressions import Code
from .names import Names
from .primitives import Actions, Module
from .program import Json, Program, UnsupportedError
from .writer import Writer

ERROR = ("standard_metadata", "parser_error")


class Parser:
    """Writes the parser into functions: `packet` is the frame there, `size` its length, `at` the payload's offset."""

    def __init__(self, program: Program, names: Names, actions: Actions, module: Module) -> None:
        self._program = program
        self._names = names
        self._actions = actions
        self._states = {state["name"]: state for state in program.parser["parse_states"]}
        for header in program.headers.values():
            if not header.metadata:
                module.bind(f"unpack_{self._safe(header.name)}", packing.layout(header).unpack_from)
        module.bind("from_bytes", int.from_bytes)

    def _safe(self, header: str) -> str:
        return self._names.plain((header, "$valid$"))

    def write(self, writer: Writer) -> None:
        writer.line(f"{writer.write('at')} = 0")
        for header in self._program.headers.values():
            if not header.metadata:
                writer.read(self._safe(header.name))
        before = set(writer.assigned)
        with writer.block("while True:"):
            self._state(writer, self._program.parser["init_state"], 0, ())
            writer.line("break")
        writer.assigned = before  # a short packet leaves anywhere

    def _state(self, writer: Writer, name: str | None, offset: int, path: tuple[str, ...]) -> None:
        if name is None:
            return
        if name in path:
            raise UnsupportedError(f"the parser goes round in circles at {name}: not supported by this target")
        state = self._states[name]
        for operation in state["parser_ops"]:
            offset = self._operation(writer, operation, offset)
        self._select(writer, state, offset, (*path, name))

    def _operation(self, writer: Writer, operation: Json, offset: int) -> int:
        name, parameters = operation["op"], operation["parameters"]
        if name == "extract" and parameters[0]["type"] == "regular":
            return self._extract(writer, parameters[0]["value"], offset)
        if name == "set":
            code = expressions.translate(parameters[1], self._actions.reader(writer))
            field = (parameters[0]["value"][0], parameters[0]["value"][1])
            text = expressions.masked(code, self._program.widths[field])
            writer.line(f"{writer.write(self._names.plain(field))} = {text}")
            return offset
        raise UnsupportedError(f"parser operation {name} is not supported by this target")

    def _extract(self, writer: Writer, name: str, offset: int) -> int:
        header = self._program.headers[name]
        end = offset + header.length
        with writer.block(f"if size < {end}:"):
            writer.line(f"{self._names.plain(ERROR)} = {self._program.errors['PacketTooShort']}")
            writer.line("break")
        variables = {field: writer.write(self._names.plain((name, field))) for field, _ in header.fields}
        valid = self._safe(name)
        for line in packing.extract(header, variables, f"unpack_{valid}", f"packet, {offset}"):
            writer.line(line)
        writer.line(f"{writer.write(valid)} = 1")
        writer.line(f"at = {end}")
        return end

    def _select(self, writer: Writer, state: Json, offset: int, path: tuple[str, ...]) -> None:
        keys = [self._key(writer, key) for key in state["transition_key"]]
        arms: dict[str, str | None] = {}
        for transition in state["transitions"]:
            if transition["type"] == "default":
                arms.setdefault("", transition["next_state"])
                break
            if transition["type"] != "hexstr":
                raise UnsupportedError(f"transition on a {transition['type']} in {state['name']} is not supported")
            condition = self._condition(keys, transition)
            arms.setdefault(condition or "True", transition["next_state"])
        arms.setdefault("", None)
        if list(arms) == [""]:
            self._state(writer, arms[""], offset, path)
            return
        for arm in writer.branches(list(arms)):
            self._state(writer, arms[arm], offset, path)

    def _key(self, writer: Writer, key: Json) -> Code:
        if key["type"] != "field":
            raise UnsupportedError(f"a parser that selects on {key['type']} is not supported by this target")
        return expressions.translate(key, self._actions.reader(writer))

    @staticmethod
    def _condition(keys: list[Code], transition: Json) -> str:
        """Value and mask hold every key field in whole bytes, the last one lowest."""
        value = int(transition["value"], 16)
        mask = int(transition["mask"], 16) if transition["mask"] else -1
        parts: list[str] = []
        for key in reversed(keys):
            bits = (key.bits + 7) // 8 * 8
            everything = (1 << key.bits) - 1
            part, wanted = mask & everything, value & everything
            if part == everything:
                parts.append(f"{key.text} == {wanted:#x}")
            elif part:
                parts.append(f"{key.text} & {part:#x} == {wanted & part:#x}")
            value >>= bits
            mask >>= bits
        return " and ".join(reversed(parts))
