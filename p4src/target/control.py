# SPDX-License-Identifier: Apache-2.0
"""Control blocks: the graph of tables and conditions in the JSON becomes nested ifs.

Each node is written once in the arm where it belongs: what follows an `if` starts at the node that all its arms lead
to, its immediate postdominator.
"""

from __future__ import annotations

from . import expressions
from .expressions import Code
from .primitives import Actions, Module
from .program import Json, UnsupportedError
from .tables import EXACT, Table
from .writer import Writer

END = ""


class Control:
    """One control block, ingress or egress."""

    def __init__(self, pipeline: Json, actions: dict[int, Json]) -> None:
        self._nodes: dict[str, Json] = {n["name"]: n for n in (*pipeline["tables"], *pipeline["conditionals"])}
        self._actions = actions
        self._start: str = pipeline["init_table"] or END
        self._stage: str = pipeline["name"]
        self._join = self._postdominators()

    def _successors(self, name: str) -> list[str]:
        node = self._nodes[name]
        if "expression" in node:
            following = [node["true_next"], node["false_next"]]
        else:
            following = list(node["next_tables"].values()) or [node["base_default_next"]]
        return list(dict.fromkeys(target or END for target in following))

    def _postdominators(self) -> dict[str, str]:
        """For each node the first one that every path from it passes. Raises UnsupportedError on a cycle."""
        depth, join = {END: 0}, {END: END}
        pending: list[tuple[str, bool]] = [(self._start, False)]
        open_nodes: set[str] = set()
        while pending:
            name, done = pending.pop()
            if name in depth:
                continue
            if not done:
                if name in open_nodes:
                    raise UnsupportedError(f"the control flow goes round in circles at {name}")
                open_nodes.add(name)
                pending.append((name, True))
                pending += [(following, False) for following in self._successors(name) if following not in depth]
                continue
            common, *others = self._successors(name)
            for other in others:
                while common != other:
                    if depth[common] >= depth[other]:
                        common = join[common]
                    else:
                        other = join[other]  # noqa: PLW2901
            join[name], depth[name] = common, depth[common] + 1
            open_nodes.discard(name)
        return join

    def write(self, writer: Writer, actions: Actions, tables: dict[str, Table], module: Module) -> None:
        """The whole block into a function."""
        _ControlWriter(self, writer, actions, tables, module).sequence(self._start, END)


class _ControlWriter:
    def __init__(
        self, control: Control, writer: Writer, actions: Actions, tables: dict[str, Table], module: Module
    ) -> None:
        self._control = control
        self._writer = writer
        self._actions = actions
        self._tables = tables
        self._module = module

    def sequence(self, name: str, stop: str) -> None:
        """Nodes from `name` up to `stop`, which is not written."""
        while name != stop:
            node, join = self._control._nodes[name], self._control._join[name]
            if "expression" in node:
                self._condition(node, join)
            else:
                self._table(node, join)
            name = join

    def _condition(self, node: Json, join: str) -> None:
        condition = expressions.translate(node["expression"], self._actions.reader(self._writer))
        true, false = node["true_next"] or END, node["false_next"] or END
        if true == false:
            return
        if true == join:
            arms = {f"not {condition.text}": false}
        elif false == join:
            arms = {condition.text: true}
        else:
            arms = {condition.text: true, "": false}
        for arm in self._writer.branches(list(arms)):
            self.sequence(arms[arm], join)

    def _table(self, node: Json, join: str) -> None:
        number = node["id"]
        table = self._tables[node["name"]]
        if not node["key"] and node["default_entry"].get("action_entry_const"):
            action = self._control._actions[node["default_entry"]["action_id"]]
            values = tuple(expressions.constant(value) for value in table.default[2:])
            self._actions.write(self._writer, self._control._stage, action, values)
            self._follow(node, action["name"], join)
            return
        self._module.bind(f"T{number}", table)
        self._writer.line(f"a{number} = {self._lookup(node, table)}")
        by_hit = "__HIT__" in node["next_tables"]
        self._apply(node, join, by_hit)
        if by_hit:
            targets = {f"a{number}[1]": "__HIT__", "": "__MISS__"}
            for arm in self._writer.branches(list(targets)):
                self.sequence(node["next_tables"][targets[arm]] or END, join)

    def _lookup(self, node: Json, table: Table) -> str:
        number = node["id"]
        if not node["key"]:
            return f"T{number}.default"
        values = []
        for key in node["key"]:
            read = self._actions.reader(self._writer)
            code = expressions.translate({"type": "field", "value": key["target"]}, read)
            if key["target"][1] == "$valid$":
                code = Code(f"(1 if {code.text} else 0)", 1) if code.text == "True" else code
            values.append(code.text if key.get("mask") is None else f"{code.text} & {key['mask']}")
        key = values[0] if len(values) == 1 else f"({', '.join(values)})"
        if table.kind == EXACT:
            self._module.bind(f"X{number}", table.exact.get)
            return f"X{number}({key}) or T{number}.default"
        return f"T{number}.memo.get(k := {key}) or T{number}.search(k)"

    def _apply(self, node: Json, join: str, by_hit: bool) -> None:
        """The action that was found, and, unless hit or miss decide, what follows it."""
        number = node["id"]
        arms = [f"a{number}[0] == {position}" for position in range(len(node["action_ids"]))]
        if len(arms) == 1:
            self._one_action(node, 0, join, by_hit)
            return
        arms[-1] = ""
        for position, _ in enumerate(self._writer.branches(arms)):
            self._one_action(node, position, join, by_hit)

    def _one_action(self, node: Json, position: int, join: str, by_hit: bool) -> None:
        action = self._control._actions[node["action_ids"][position]]
        number = node["id"]
        parameters = [f"a{number}_{n}" for n in range(len(action["runtime_data"]))]
        if parameters:
            self._writer.line(f"_, _, {', '.join(parameters)} = a{number}")
        codes = tuple(Code(p, d["bitwidth"]) for p, d in zip(parameters, action["runtime_data"], strict=True))
        self._actions.write(self._writer, self._control._stage, action, codes)
        if not by_hit:
            self._follow(node, action["name"], join)

    def _follow(self, node: Json, action: str, join: str) -> None:
        following = node["next_tables"].get(action, node["base_default_next"])
        self.sequence(following or END, join)
