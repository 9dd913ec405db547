# SPDX-License-Identifier: Apache-2.0
"""What the checker of the settings found, in the words of a TOML file: where it stands, what is wrong, the mend."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

LONGEST_SHOWN = 40
EXAMPLES = {
    "servers": "a table [servers.NAME] for each server",
    "services": "a table [[services]] for each service",
    "address": 'address = "10.0.0.1"',
    "port": "port = 80",
    "name": 'name = "web"',
    "origin": 'origin = "the name of a server"',
    "verdict": 'verdict = "migrate"',
}
"""What to add where a key is missing."""

WANTED = {
    # kind of finding: what should stand there
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "string_too_short": "text that is not empty",
    "tuple_type": "a list of tables, each begun with [[{key}]]",
    "dict_type": "tables, each begun with [{key}.NAME]",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt:.10g}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le:.10g}",
}
LOST_ENTRIES = "too_short"
"""Found as well where every entry of a list has a mistake of its own; alone, the list is empty."""


def complain(findings: Sequence[Mapping[str, Any]], known: Collection[str]) -> str:
    """Return all findings of pydantic (``ValidationError.errors()``) as one line; ``known`` are all keys there are."""
    spoilt = {item["loc"][0] for item in findings if item["loc"] and item["type"] != LOST_ENTRIES}
    told = [item for item in findings if item["type"] != LOST_ENTRIES or item["loc"][0] not in spoilt]
    return "; ".join(_sentence(item, known) for item in told)


def _sentence(item: Mapping[str, Any], known: Collection[str]) -> str:
    where = ".".join(str(part) for part in item["loc"])
    text = _text(item, str(item["loc"][-1]) if item["loc"] else "", known)
    return f"{where}: {text}" if where else text


def _text(item: Mapping[str, Any], key: str, known: Collection[str]) -> str:
    kind = item["type"]
    if kind in ("missing", LOST_ENTRIES):
        return f"is missing; add {EXAMPLES.get(key, f'{key} = ...')}"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, known, 1)
        return f"there is no such key; did you mean {near[0]}?" if near else "there is no such key; remove it"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind in WANTED:
        wanted = WANTED[kind].format_map({"key": key, **item.get("ctx", {})})
        return f"must be {wanted}, not {_shown(item['input'])}"
    return str(item["msg"])


def _shown(value: Any) -> str:
    """Return a value about as it stands in the file, in few words where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:  # a date
        text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
