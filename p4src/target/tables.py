# SPDX-License-Identifier: Apache-2.0
"""Match-action tables: what they hold, and how a key finds its entry.

Packets look things up while the control plane writes. An entry is seen wholly or not at all: an exact table is one
dict; any other keeps a memo of the keys seen lately in front of its ordered entries, and a write begins a new memo.

An action as packets see it is a tuple: its position in the table's list, whether an entry was hit, its parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from .program import Json, UnsupportedError

EXACT, LPM, TERNARY, RANGE = "exact", "lpm", "ternary", "range"
MEMO_SIZE = 65_536

Match = tuple[tuple[int, int], ...]
"""Per field: exact (value, 0); lpm (value, prefix length); ternary (value, mask); range (low, high)."""
Action = tuple[int | bool, ...]


class TableError(Exception):
    """The entry cannot be written. `kind`: exists, missing, full, constant."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Field:
    name: str
    kind: str
    width: int


@dataclass(frozen=True)
class Entry:
    match: Match
    priority: int
    action: Action


class Table:
    """One table. `fields` are in the order of the program's key; `actions` are the names, by position."""

    def __init__(
        self, name: str, fields: tuple[Field, ...], actions: tuple[str, ...], size: int, default: Action
    ) -> None:
        self.name = name
        self.fields = fields
        self.actions = actions
        self.size = size
        self.initial_default = default
        self.default = default
        self.default_is_constant = False
        self.constant = False
        kinds = {field.kind for field in fields}
        self.kind = RANGE if RANGE in kinds else TERNARY if TERNARY in kinds else LPM if LPM in kinds else EXACT
        self.entries: dict[tuple[Match, int], Entry] = {}
        self.exact: dict[int | tuple[int, ...], Action] = {}
        self.memo: dict[int | tuple[int, ...], Action] = {}
        self._ordered: tuple[Entry, ...] = ()

    @property
    def has_priorities(self) -> bool:
        return self.kind in (TERNARY, RANGE)

    def insert(self, entry: Entry) -> None:
        """Add an entry. Raises TableError."""
        self._writable()
        if (entry.match, entry.priority) in self.entries:
            raise TableError("exists", f"table {self.name} holds an entry with this match already: modify it")
        if len(self.entries) >= self.size:
            raise TableError("full", f"table {self.name} is full ({self.size} entries): delete some")
        self._put(entry)

    def modify(self, entry: Entry) -> None:
        """Give an entry another action. Raises TableError."""
        self._writable()
        self.find(entry.match, entry.priority)
        self._put(entry)

    def delete(self, match: Match, priority: int) -> None:
        """Raises TableError."""
        self._writable()
        self.find(match, priority)
        del self.entries[match, priority]
        if self.kind == EXACT:
            del self.exact[self._key(match)]
        else:
            self._reorder()

    def find(self, match: Match, priority: int) -> Entry:
        """Raises TableError."""
        try:
            return self.entries[match, priority]
        except KeyError:
            raise TableError("missing", f"table {self.name} holds no entry with this match") from None

    def set_default(self, action: Action | None) -> None:
        """Another default action; None: the program's own. Raises TableError."""
        if self.default_is_constant:
            raise TableError("constant", f"the default action of table {self.name} is constant")
        self.default = self.initial_default if action is None else action
        self.memo = {}

    def preset(self, entries: list[Entry]) -> None:
        """The program's own constant entries; nobody else may write afterwards."""
        for entry in entries:
            self._put(entry)
        self.constant = True

    def _writable(self) -> None:
        if self.constant:
            raise TableError("constant", f"the entries of table {self.name} are constant")

    def _put(self, entry: Entry) -> None:
        self.entries[entry.match, entry.priority] = entry
        if self.kind == EXACT:
            self.exact[self._key(entry.match)] = entry.action
        else:
            self._reorder()

    def _key(self, match: Match) -> int | tuple[int, ...]:
        values = tuple(value for value, _ in match)
        return values[0] if len(values) == 1 else values

    def _reorder(self) -> None:
        """First match wins: the longest prefix, or the highest priority."""
        lpm = next((n for n, field in enumerate(self.fields) if field.kind == LPM), 0)
        rank = (lambda e: -e.priority) if self.has_priorities else (lambda e: -e.match[lpm][1])
        self._ordered = tuple(sorted(self.entries.values(), key=rank))
        self.memo = {}

    def search(self, key: int | tuple[int, ...]) -> Action:
        """The action for a key that the memo does not know."""
        memo = self.memo  # of before the search: what a write makes stale is put where nobody looks
        if len(memo) >= MEMO_SIZE:
            memo = self.memo = {}
        values = key if isinstance(key, tuple) else (key,)
        found = next((e.action for e in self._ordered if self._matches(e.match, values)), self.default)
        memo[key] = found
        return found

    def _matches(self, match: Match, values: tuple[int, ...]) -> bool:
        for field, (first, second), value in zip(self.fields, match, values, strict=True):
            if field.kind == TERNARY:
                hit = value & second == first
            elif field.kind == RANGE:
                hit = first <= value <= second
            elif field.kind == LPM:
                hit = (value ^ first) >> (field.width - second) == 0
            else:
                hit = value == first
            if not hit:
                return False
        return True


def from_json(table: Json, widths: dict[tuple[str, str], int], actions: dict[int, Json]) -> Table:
    """A table as the program declares it, with its default action and its constant entries.

    Raises:
        UnsupportedError: a kind of match that is not done.
    """
    fields = []
    for key in table["key"]:
        if key["match_type"] not in (EXACT, LPM, TERNARY, RANGE):
            raise UnsupportedError(f"match kind {key['match_type']} of table {table['name']} is not supported")
        target = (key["target"][0], key["target"][1])
        if target not in widths:
            raise UnsupportedError(f"key {'.'.join(target)} of table {table['name']} is not supported by this target")
        fields.append(Field(key["name"], key["match_type"], widths[target]))
    positions = table["action_ids"]

    def action(entry: Json, hit: bool) -> Action:
        data = (int(value, 16) for value in entry.get("action_data", ()))
        return (positions.index(entry["action_id"]), hit, *data)

    names = tuple(actions[number]["name"] for number in positions)
    made = Table(table["name"], tuple(fields), names, table["max_size"], action(table["default_entry"], False))
    made.default_is_constant = bool(table["default_entry"].get("action_const"))
    if "entries" in table:
        # The compiled form counts them from 1, the most important first; only some kinds of table have priorities.
        top = len(table["entries"]) + 1 if made.has_priorities else 0
        made.preset(
            [
                Entry(_match(e, fields), max(top - e.get("priority", 0), 0), action(e["action_entry"], True))
                for e in table["entries"]
            ]
        )
    return made


def _match(entry: Json, fields: list[Field]) -> Match:
    pairs = []
    for key, field in zip(entry["match_key"], fields, strict=True):
        everything = (1 << field.width) - 1
        if field.kind == RANGE:
            pairs.append((int(key["start"], 16), int(key["end"], 16)))
        elif field.kind == LPM:
            pairs.append((int(key["key"], 16), key["prefix_length"]))
        elif field.kind == TERNARY:
            mask = int(key["mask"], 16) & everything
            pairs.append((int(key["key"], 16) & mask, mask))
        else:
            pairs.append((int(key["key"], 16), 0))
    return tuple(pairs)
