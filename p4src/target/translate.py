# SPDX-License-Identifier: Apache-2.0
"""A program becomes three Python functions, compiled once.

`ingress(packet, size, port, kind, now, kept)` parses and runs the ingress block:
    -> (egress_spec, mcast_grp, Rare | None, state)
`reparse(packet, size, port, kept)` makes the state of a clone of the packet as it came in:
    -> state
`egress(state, port, kind, rid, now)` runs the egress block and the deparser:
    -> None (dropped), or (frame, whether to recirculate, kept)

`kind` is an instance type, `now` microseconds since the switch started, `kept` the values of a field list
(its number first) that survive into a recirculated, resubmitted or cloned packet. `state` is a tuple of what egress
and deparser read: fields, the frame that came in (`packet`), its length (`size`), where its payload starts (`at`), and
its length as headers are added and removed (`length`). The layout is private to the three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import expressions, hashing, packing, tables
from .control import Control
from .expressions import Code
from .hashes import HASHES
from .names import Names, fields_in, private_to_actions
from .parsing import Parser
from .primitives import Actions, Module
from .program import DROP_PORT, FieldName, Program, UnsupportedError
from .writer import Writer


class Rare(NamedTuple):
    """What an ingress run asked for beside forwarding."""

    clone: int
    """Session number + 1; 0: no clone."""
    clone_kept: tuple[int, ...] | None
    digest: tuple[int, ...] | None
    """Number of the list, values."""
    resubmit: int
    resubmit_kept: tuple[int, ...] | None


@dataclass
class Pipeline:
    """A program ready to run, with all its state."""

    program: Program
    tables: dict[str, tables.Table]
    registers: dict[str, list[int]]
    counters: dict[str, tuple[list[int], list[int]]]
    """Packets and bytes."""
    ingress: Callable[..., tuple[int, int, Rare | None, Any]]
    reparse: Callable[..., Any]
    egress: Callable[..., tuple[bytes, int, tuple[int, ...] | None] | None]
    source: str


def translate(program: Program) -> Pipeline:
    """Compile a program.

    Raises:
        UnsupportedError: it uses what is not done, or is damaged.
    """
    try:
        return _Translation(program).run()
    except (LookupError, TypeError, AttributeError, RecursionError, SyntaxError) as fault:
        raise UnsupportedError(f"the device configuration is damaged: {type(fault).__name__} {fault}") from fault


class _Translation:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._names = Names(program)
        self._module = Module(dict(HASHES) | {"Rare": Rare})
        self._uses = {p["op"] for action in program.actions.values() for p in action["primitives"]}
        self._actions = Actions(program, self._names, self._module, self._egress_reads_length())
        self._share_temporaries()
        self._parser = Parser(program, self._names, self._actions, self._module)
        self._tables = {n: tables.from_json(t, program.widths, program.actions) for n, t in program.tables.items()}
        self._live: list[str] = []

    def run(self) -> Pipeline:
        egress = self._egress()
        source = "\n".join([*self._ingress(), "", *self._reparse(), "", *egress, ""])
        exec(compile(source, f"<{self._program.name} translated>", "exec"), self._module.values)
        made = self._module.values
        return Pipeline(
            program=self._program,
            tables=self._tables,
            registers=self._actions.registers,
            counters=self._actions.counters,
            ingress=made["ingress"],
            reparse=made["reparse"],
            egress=made["egress"],
            source=source,
        )

    def _standard(self, name: str) -> str:
        return self._names.plain(("standard_metadata", name))

    def _egress_reads_length(self) -> bool:
        program = self._program
        used = {number for table in program.egress["tables"] for number in table["action_ids"]}
        parts = [program.egress["conditionals"], *(program.actions[number]["primitives"] for number in used)]
        return any(("standard_metadata", "packet_length") in fields_in(p, program.calculations) for p in parts)

    def _share_temporaries(self) -> None:
        for number, private in private_to_actions(self._program).items():
            action = self._program.actions[number]
            writer = Writer()
            stage = "egress" if number in self._in_egress() else "ingress"
            parameters = tuple(Code("p", data["bitwidth"]) for data in action["runtime_data"])
            self._actions.write(writer, stage, action, parameters)
            self._names.share(action, {f for f in private if self._names.plain(f) not in writer.unset})

    def _in_egress(self) -> set[int]:
        return {number for table in self._program.egress["tables"] for number in table["action_ids"]}

    def _function(self, head: str, given: list[str], body: Writer) -> list[str]:
        """A whole function: what is read unset, and not given by its arguments, starts as zero."""
        zero = sorted(body.unset - set(given))
        initial = [f"    {' = '.join(zero[n : n + 50])} = 0" for n in range(0, len(zero), 50)]
        return [head, *initial, *body.lines]

    def _ingress(self) -> list[str]:
        port, kind, now = (self._standard(n) for n in ("ingress_port", "instance_type", "ingress_global_timestamp"))
        arguments = ["packet", "size", port, kind, now, "kept"]
        writer = Writer()
        writer.assigned |= set(arguments)
        writer.line(f"{writer.write(self._standard('packet_length'))} = size")
        writer.line(f"{writer.write('length')} = size")
        self._restore(writer)
        self._parser.write(writer)
        self._verify(writer)
        Control(self._program.ingress, self._program.actions).write(writer, self._actions, self._tables, self._module)
        self._ingress_end(writer)
        return self._function(f"def ingress({', '.join(arguments)}):", arguments, writer)

    def _ingress_end(self, writer: Writer) -> None:
        spec, group = writer.read(self._standard("egress_spec")), writer.read(self._standard("mcast_grp"))
        writer.line("rare = None")
        wanted = []
        if "clone_ingress_pkt_to_egress" in self._uses:
            wanted.append(writer.read("clone"))
        if "generate_digest" in self._uses:
            wanted.append(writer.read("digest"))
        if "resubmit" in self._uses:
            wanted.append(writer.read("resubmit"))
        if wanted:
            clone = f"clone, {self._keep(writer, 'clone_list')}" if "clone" in wanted else "0, None"
            lists = {number: fields for number, (_, fields) in self._program.digests.items()}
            digest = self._choose(writer, "digest", lists) if "digest" in wanted else "None"
            resubmit = f"resubmit, {self._keep(writer, 'resubmit')}" if "resubmit" in wanted else "0, None"
            with writer.block(f"if {' or '.join(wanted)}:"):
                writer.line(f"rare = Rare({clone}, {digest}, {resubmit})")
        for _ in writer.branches([f"{spec} == {DROP_PORT} and not {group}"]):
            writer.line(f"return {DROP_PORT}, 0, rare, None")
        state = ", ".join(writer.read(name) for name in self._live)
        writer.line(f"return {spec}, {group}, rare, ({state},)")

    def _keep(self, writer: Writer, which: str) -> str:
        return self._choose(writer, which, self._program.field_lists)

    def _choose(self, writer: Writer, which: str, lists: dict[int, tuple[FieldName, ...]]) -> str:
        """An expression: the number in `which` and the values of the fields that it stands for, or None."""
        writer.read(which)
        arms = []
        for number, fields in lists.items():
            values = ", ".join(writer.read(self._names.plain(field)) for field in fields)
            arms.append(f"({number}, {values}) if {which} == {number} else ")
        return f"({''.join(arms)}None)"

    def _restore(self, writer: Writer) -> None:
        """Fields kept from the packet's former life."""
        for number, fields in self._program.field_lists.items():
            if fields:
                for _ in writer.branches([f"kept and kept[0] == {number}"]):
                    targets = ", ".join(writer.write(self._names.plain(field)) for field in fields)
                    writer.line(f"_, {targets} = kept")

    def _verify(self, writer: Writer) -> None:
        error = self._standard("checksum_error")
        for checksum, condition, value, target in self._checksums(writer):
            if checksum["verify"]:
                for _ in writer.branches([f"{condition} and {value} != {target}"]):
                    writer.line(f"{writer.write(error)} = 1")

    def _checksums(self, writer: Writer) -> list[tuple[Any, str, str, str]]:
        """Each checksum: its JSON, when it applies, what it is, and the field that holds it."""
        found = []
        for checksum in self._program.checksums:
            read = self._actions.reader(writer)
            condition = expressions.translate(checksum["if_cond"], read) if checksum.get("if_cond") else Code("True", 1)
            field = (checksum["target"][0], checksum["target"][1])
            valid = read((field[0], "$valid$"))
            value = hashing.expression(self._program, self._names, read, checksum["calculation"])
            text = expressions.masked(value, self._program.widths[field])
            found.append((checksum, f"{valid.text} and {condition.text}", text, read(field).text))
        return found

    def _reparse(self) -> list[str]:
        port = self._standard("ingress_port")
        arguments = ["packet", "size", port, "kept"]
        writer = Writer()
        writer.assigned |= set(arguments)
        writer.line(f"{writer.write('length')} = size")
        self._parser.write(writer)
        for header in self._program.headers.values():
            if header.metadata:
                for name, _ in header.fields:
                    if self._names.plain((header.name, name)) in self._live:
                        variable = self._names.plain((header.name, name))
                        writer.line(f"{writer.write(variable)} = 0")
        self._restore(writer)
        writer.line(f"return ({', '.join(writer.read(name) for name in self._live)},)")
        return self._function(f"def reparse({', '.join(arguments)}):", arguments, writer)

    def _egress(self) -> list[str]:
        names = ("egress_port", "instance_type", "egress_rid", "egress_global_timestamp")
        arguments = ["state", *(self._standard(name) for name in names)]
        writer = Writer()
        writer.assigned |= set(arguments)
        spec = self._standard("egress_spec")
        writer.line(f"{writer.write(spec)} = 0")
        if self._egress_reads_length():
            writer.line(f"{writer.write(self._standard('packet_length'))} = {writer.read('length')}")
        if "recirculate" in self._uses:
            writer.line(f"{writer.write('recirculate')} = 0")
        Control(self._program.egress, self._program.actions).write(writer, self._actions, self._tables, self._module)
        with writer.block(f"if {spec} == {DROP_PORT}:"):
            writer.line("return None")
        for checksum, condition, value, target in self._checksums(writer):
            if checksum["update"]:
                for _ in writer.branches([condition]):
                    writer.line(f"{writer.write(target)} = {value}")
        self._deparse(writer)
        recirculate = "recirculate" if "recirculate" in self._uses else "0"
        kept = self._keep(writer, "recirculate") if "recirculate" in self._uses else "None"
        writer.line(f"return frame, {recirculate}, {kept}")
        self._live = sorted(writer.unset)
        unpack = [f"    {', '.join(self._live)}, = state"] if self._live else []
        return [f"def egress({', '.join(arguments)}):", *unpack, *writer.lines]

    def _deparse(self, writer: Writer) -> None:
        writer.line('frame = b""')
        for name in self._program.deparser:
            header = self._program.headers[name]
            variables = {field: writer.read(self._names.plain((name, field))) for field, _ in header.fields}
            valid = writer.read(self._names.plain((name, "$valid$")))
            pack = self._module.bind(f"pack_{valid}", packing.layout(header).pack)
            with writer.block(f"if {valid}:"):
                writer.line(f"frame += {packing.emit(header, variables, pack)}")
        writer.line(f"frame += {writer.read('packet')}[{writer.read('at')}:]")
