# SPDX-License-Identifier: Apache-2.0
"""The model accepts runs of the machine, and refuses runs that were tampered with."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from controller.eccp.tracing import TraceWriter
from controller.eccp.walk import RENDEZVOUS, Walk
from models.conformance import Judge, TraceRefused, accept, main
from models.mutants import MUTANTS, kill_by_conformance

Rows = list[dict[str, Any]]


def walk(seed: int, steps: int = 400) -> Rows:
    rows: Rows = []
    Walk(seed, TraceWriter(rows.append, ("a", "b"), rendezvous=RENDEZVOUS)).run(steps)
    return rows


def judged(rows: Rows) -> int:
    judge = Judge()
    for row in rows:
        judge(row)
    return judge.steps


@pytest.mark.parametrize("seed", range(20))
def test_random_runs_are_accepted(seed: int) -> None:
    rows = walk(seed)
    assert judged(rows) == len(rows) - 1


def first(rows: Rows, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    return next(row for row in rows[1:] if wanted(row))


def bump(field: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[len(rows) // 2]["after"][field] += 1

    return change


def forge(rows: Rows) -> None:
    first(rows, lambda r: r["in"] is not None)["in"]["version"] += 1


def replay(rows: Rows) -> None:
    row = first(rows, lambda r: r["in"] is not None and r["in"]["kind"] == "PING")
    rows.insert(rows.index(row) + 1, copy.deepcopy(row))


def misdirect(rows: Rows) -> None:
    first(rows, lambda r: r["out"] and r["out"][0]["kind"] == "ACK")["out"][0]["dst"] = "elsewhere"


def rewind(rows: Rows) -> None:
    rows[-1]["out"] = [{"kind": "DATA", "version": 1, "pn": 0, "src": "x", "dst": "y"}]


def wrong_action(rows: Rows) -> None:
    first(rows, lambda r: r["action"] == "RECV_RSYN")["action"] = "RECV_PING"


def unknown_host(rows: Rows) -> None:
    rows[3]["host"] = "c"


def no_state(rows: Rows) -> None:
    del rows[3]["after"]


TAMPERING = [bump("own_version"), bump("confirmed_version"), bump("peer_version"), bump("highest_pn"), bump("peer_nonce"),
             forge, replay, misdirect, rewind, wrong_action, unknown_host, no_state]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERING)
def test_tampered_runs_are_refused(tamper: Callable[[Rows], None]) -> None:
    rows = walk(3)
    tamper(rows)
    with pytest.raises(TraceRefused):
        judged(rows)


def test_refusal_names_step_and_rule() -> None:
    rows = walk(3)
    bump("own_version")(rows)
    with pytest.raises(TraceRefused, match=r"step \d+: .*own_version is"):
        judged(rows)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"trace": "eccp", "format": 2}', '{"step": 1}'])
def test_bad_lines_are_refused(text: str) -> None:
    with pytest.raises(TraceRefused):
        accept([text])


def test_command_accepts_a_file_and_refuses_a_cut_one(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in walk(1))
    good.write_text(text, encoding="utf-8")
    cut = tmp_path / "cut.jsonl"
    cut.write_text(text[:-40], encoding="utf-8")
    assert main([str(good)]) == 0
    assert main([str(cut), str(tmp_path / "missing")]) == 1
    said = capsys.readouterr()
    assert "accepted, 400 steps" in said.out
    assert "cut short" in said.err
    assert "cannot be read" in said.err


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.killer == "conformance"], ids=lambda m: m.name)
def test_changed_machine_is_refused(mutant: Any) -> None:
    assert kill_by_conformance(mutant) is not None
