# SPDX-License-Identifier: Apache-2.0
"""Actions: their primitives into Python statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import expressions, hashing
from .expressions import Code
from .names import Names
from .program import DROP_PORT, FieldName, Json, Program, UnsupportedError
from .writer import Writer

QUEUEING = {
    ("standard_metadata", name) for name in ("enq_timestamp", "enq_qdepth", "deq_timedelta", "deq_qdepth", "priority")
}
"""There are no queues to measure."""
ONLY_IN = {
    "clone_ingress_pkt_to_egress": "ingress",
    "resubmit": "ingress",
    "generate_digest": "ingress",
    "recirculate": "egress",
}


@dataclass
class Module:
    """What the generated functions find as globals."""

    values: dict[str, Any] = field(default_factory=dict)

    def bind(self, name: str, value: Any) -> str:
        self.values[name] = value
        return name


class Actions:
    """Writes action bodies into a function; knows the registers and counters by their global names."""

    def __init__(self, program: Program, names: Names, module: Module, track_length: bool) -> None:
        self._program = program
        self._names = names
        self._track_length = track_length
        self._registers = {name: f"R{n}" for n, name in enumerate(program.registers)}
        self._counters = {name: f"C{n}" for n, name in enumerate(program.counters)}
        self.registers = {name: [0] * size for name, (size, _) in program.registers.items()}
        self.counters = {name: ([0] * size, [0] * size) for name, size in program.counters.items()}
        for name, variable in self._registers.items():
            module.bind(variable, self.registers[name])
        for name, variable in self._counters.items():
            module.bind(variable, self.counters[name][0])
            module.bind(f"{variable}_bytes", self.counters[name][1])

    def reader(self, writer: Writer, action: int = -1) -> expressions.Read:
        """How expressions read fields, inside this action."""

        def read(name: FieldName) -> Code:
            if name not in self._program.widths or name in QUEUEING:
                raise UnsupportedError(f"field {'.'.join(name)} is not supported by this target")
            if name[1] == "$valid$" and self._program.headers[name[0]].metadata:
                return Code("True", 1)
            return Code(writer.read(self._names.within(action, name)), self._program.widths[name])

        return read

    def write(self, writer: Writer, stage: str, action: Json, parameters: tuple[Code, ...]) -> None:
        """The body of an action; `stage`: ingress or egress. Raises UnsupportedError for a primitive not done."""
        _Body(self, writer, stage, action, parameters).write(0, len(action["primitives"]))


class _Body:
    """One action body on its way into a writer."""

    def __init__(
        self, actions: Actions, writer: Writer, stage: str, action: Json, parameters: tuple[Code, ...]
    ) -> None:
        self._all = actions
        self._writer = writer
        self._stage = stage
        self._action = action
        self._parameters = parameters
        self._read = actions.reader(writer, action["id"])

    def write(self, start: int, end: int) -> None:
        """Primitives `start` to `end`; p4c's forward jumps become if and else again."""
        primitives = self._action["primitives"]
        position = start
        while position < end:
            primitive = primitives[position]
            if primitive["op"] != "_jump_if_zero":
                self._primitive(primitive)
                position += 1
                continue
            condition, target = (self._code(p) for p in primitive["parameters"])
            otherwise = int(target.text, 0)
            after = otherwise
            last = primitives[min(otherwise, end) - 1]
            if last["op"] == "_jump" and otherwise - 1 > position:
                after = int(last["parameters"][0]["value"], 16)
            if not position < otherwise <= after <= end:
                raise UnsupportedError(f"action {self._action['name']} jumps in a way this target does not support")
            arms = [condition.text, ""] if after > otherwise else [condition.text]
            inside = otherwise - 1 if after > otherwise else otherwise
            for arm in self._writer.branches(arms):
                self.write(*((position + 1, inside) if arm else (otherwise, after)))
            position = after

    def _code(self, value: Json) -> Code:
        return expressions.translate(value, self._read, self._parameters)

    def _primitive(self, primitive: Json) -> None:
        name = primitive["op"]
        method = getattr(self, f"_do_{name}", None)
        if method is None:
            raise UnsupportedError(f"primitive {name} (action {self._action['name']}) is not supported by this target")
        if ONLY_IN.get(name, self._stage) != self._stage:
            raise UnsupportedError(f"primitive {name} in {self._stage} is not supported by this target")
        method(*primitive["parameters"])

    def _target(self, value: Json) -> tuple[str, int]:
        """Variable and width of a field that is set. Call it after everything else was read."""
        name = (value["value"][0], value["value"][1])
        if value["type"] != "field" or name not in self._all._program.widths:
            raise UnsupportedError(f"assignment to a {value['type']} (action {self._action['name']}) is not supported")
        return self._all._names.within(self._action["id"], name), self._all._program.widths[name]

    def _set(self, variable: str, text: str) -> None:
        self._writer.line(f"{self._writer.write(variable)} = {text}")

    def _checked(self, index: Json, size: int) -> tuple[str, str]:
        """An index: its text, and the condition under which it lies in the array ("" for always)."""
        code = self._code(index)
        if code.bits < expressions.UNBOUNDED and (1 << code.bits) <= size:
            return code.text, ""
        if code.text.isalnum() and code.text[0].isdigit():
            return code.text, "" if int(code.text, 0) < size else "False"
        return "i", f"(i := {code.text}) < {size}"

    def _do_assign(self, target: Json, value: Json) -> None:
        code = self._code(value)
        variable, width = self._target(target)
        self._set(variable, expressions.masked(code, width))

    def _do_register_read(self, target: Json, array: Json, index: Json) -> None:
        size, bits = self._all._program.registers[array["value"]]
        text, condition = self._checked(index, size)
        variable, width = self._target(target)
        value = expressions.masked(Code(f"{self._all._registers[array['value']]}[{text}]", bits), width)
        if condition:
            value += f" if {condition} else {self._writer.read(variable)}"
        self._set(variable, value)

    def _do_register_write(self, array: Json, index: Json, value: Json) -> None:
        size, bits = self._all._program.registers[array["value"]]
        text, condition = self._checked(index, size)
        code = self._code(value)
        self._guarded(condition, [f"{self._all._registers[array['value']]}[{text}] = {expressions.masked(code, bits)}"])

    def _do_count(self, array: Json, index: Json) -> None:
        text, condition = self._checked(index, self._all._program.counters[array["value"]])
        counter = self._all._counters[array["value"]]
        size = self._writer.read("size")
        self._guarded(condition, [f"{counter}[{text}] += 1", f"{counter}_bytes[{text}] += {size}"])

    def _guarded(self, condition: str, statements: list[str]) -> None:
        if condition:
            with self._writer.block(f"if {condition}:"):
                for statement in statements:
                    self._writer.line(statement)
        else:
            for statement in statements:
                self._writer.line(statement)

    def _do_modify_field_with_hash_based_offset(self, target: Json, base: Json, name: Json, size: Json) -> None:
        digest = hashing.expression(self._all._program, self._all._names, self._read, name["value"], self._action["id"])
        offset, modulus = self._code(base), self._code(size)
        text = f"({digest.text} % ({modulus.text} or 1) + {offset.text})"
        variable, width = self._target(target)
        self._set(variable, expressions.masked(Code(text, max(modulus.bits, offset.bits) + 1), width))

    def _do_mark_to_drop(self, _: Json) -> None:
        self._set(self._all._names.plain(("standard_metadata", "egress_spec")), str(DROP_PORT))
        self._set(self._all._names.plain(("standard_metadata", "mcast_grp")), "0")

    def _validity(self, value: Json) -> tuple[str, str]:
        return value["value"], self._all._names.plain((value["value"], "$valid$"))

    def _do_add_header(self, value: Json) -> None:
        name, valid = self._validity(value)
        header = self._all._program.headers[name]
        fields = [self._all._names.plain((name, field)) for field, _ in header.fields]
        for _ in self._writer.branches([f"not {self._writer.read(valid)}"]):
            self._set(valid, "1")
            self._writer.line(" = ".join([*fields, "0"]))
            self._length(f"+= {header.length}")
        self._writer.write(valid)

    def _do_remove_header(self, value: Json) -> None:
        name, valid = self._validity(value)
        if self._all._track_length:
            for _ in self._writer.branches([self._writer.read(valid)]):
                self._length(f"-= {self._all._program.headers[name].length}")
        self._set(valid, "0")

    def _length(self, change: str) -> None:
        if self._all._track_length:
            self._writer.line(f"{self._writer.read('length')} {change}")

    def _do_generate_digest(self, _: Json, identity: Json) -> None:
        self._set("digest", self._code(identity).text)

    def _do_clone_ingress_pkt_to_egress(self, session: Json, fields: Json) -> None:
        self._set("clone", f"{self._code(session).text} + 1")
        self._set("clone_list", self._code(fields).text)

    def _do_resubmit(self, fields: Json) -> None:
        self._set("resubmit", self._code(fields).text)

    def _do_recirculate(self, fields: Json) -> None:
        self._set("recirculate", self._code(fields).text)
