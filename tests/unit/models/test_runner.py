# SPDX-License-Identifier: Apache-2.0
"""The manifest is whole, verdicts are read right, counterexamples are drawn."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import models
from models.msc import draw, message_names, parse
from models.mutants import MUTANTS
from models.spin import MODELS, Run, Settings, SpinError, _verdict, execute, load_manifest, matches, require_tools
from models.verify import main

ROOM = Path(models.__file__).parent


def test_manifest_names_files_that_exist_and_is_used_in_full() -> None:
    _, runs = load_manifest()
    assert len({run.name for run in runs}) == len(runs)
    assert {run.model for run in runs} == {path.name for path in ROOM.glob("*.pml")}
    assert all(run.expect in {"pass", "cycle", "assertion"} for run in runs)


def test_default_budget_is_under_ten_minutes_on_two_cores() -> None:
    _, runs = load_manifest()
    assert sum(run.budget for run in runs if run.group == "default") / 2 < 600


def test_no_model_has_a_hidden_variable() -> None:
    """SPIN does not restore one when it backs out of a d_step: what it explored after that was another system."""
    for model in [*ROOM.glob("*.pml"), *ROOM.glob("*.inc")]:
        code = re.sub(r"/\*.*?\*/", "", model.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"\bhidden\b", code), model.name


def test_searches_that_pass_have_their_state_count() -> None:
    _, runs = load_manifest()
    assert [run.name for run in runs if run.expect == "pass" and run.group == "default" and run.states is None] == []


def test_sizes_that_were_promised_are_in_the_manifest() -> None:
    _, runs = load_manifest()
    text = {run.name: run.defines for run in runs if run.group == "default"}
    assert "-DMOVES=20" in text["base-safety"]
    assert "-DMOVES=6 -DCAP=3" in text["full-safety"]
    assert "-DMOVES=3" in text["full-liveness"]


def test_unknown_key_in_a_manifest_is_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "m.toml"
    bad.write_text('[[run]]\nname = "x"\nkind = "safety"\nspeed = 3\n', encoding="utf-8")
    with pytest.raises(SpinError, match="speed"):
        load_manifest(bad)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("pan:1: acceptance cycle (at depth 3)\nFull statespace", "cycle"),
        ("pan:1: assertion violated x\n", "assertion"),
        ("pan:1: invalid end state (at depth 2)\nFull statespace search", "deadlock"),
        ("Full statespace\ninvalid end states +\nerrors: 0\n", "pass"),
        ("error: max search depth too small\nFull statespace errors: 0\n", "not finished (max search depth too small)"),
        ("", "no result"),
    ],
)
def test_verdicts(said: str, verdict: str) -> None:
    assert _verdict(said) == verdict


def test_unknown_run_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nothing"]) == 2
    assert "--list shows them" in capsys.readouterr().err


def test_every_seeded_fault_of_the_promela_model_is_hunted() -> None:
    seeded = {int(n) for n in re.findall(r"BUG [!=]= (\d+)", (ROOM / "eccp.inc").read_text(encoding="utf-8"))}
    assert seeded == {m.fault[0] for m in MUTANTS if m.killer == "SPIN"}
    assert len(MUTANTS) >= 40
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)


SMALL = [
    Run("small-base", "", "eccp_base.pml", "-DMOVES=1 -DCAP=2", "safety", "pass", 5),
    Run("small-sequence", "", "eccp_base.pml", "-DMOVES=2 -DCAP=2 -DLIVE -DEXACT -DESTABLISHED_AT_START -DMOBILE=1 -DBUG=1", "heals", "cycle", 5),
    Run("small-hip", "", "hip.pml", "-DREADING=1", "heals", "cycle", 5, draw="x"),
    Run("small-tcp", "", "tcp_migrate.pml", "-DREADING=1", "heals", "cycle", 5, draw="x"),
]  # fmt: skip


@pytest.mark.parametrize("run", SMALL, ids=lambda run: run.name)
def test_small_runs_give_what_they_should(run: Run) -> None:
    require_tools()  # without SPIN the test fails and says how to install it
    outcome = execute(run, Settings())
    assert matches(run, outcome) is None
    if run.draw:
        events = parse(outcome.trace, message_names(MODELS / run.model))
        assert any(event.what == "move" for event in events)
        assert any(event.what == "cycle" for event in events)
        ET.fromstring(draw(events, "title <&>", ("a", "b"), "note"))


def test_drawing_ties_receipts_to_sends() -> None:
    lines = [
        "MSC send 0 1 2 0",
        "MSC send 0 1 3 0",
        "MSC recv 1 1 2 0",
        "MSC recv 1 1 2 0",
        "noise",
        "MSC quiesce 0 0 0 0",
    ]
    events = parse(lines, {1: "HELLO"})
    assert [event.partner for event in events] == [None, None, 0, 0, None]
    text = draw(events, "t", ("a", "b"), "n")
    assert text.count("HELLO 2") == 1
    assert 'class="again"' in text
    assert 'class="lost"' in text
