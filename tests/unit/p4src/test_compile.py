# SPDX-License-Identifier: Apache-2.0
"""The compiled P4 programs belong to their sources, and the protocol's page to the compiled programs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from p4src import compile as p4compile

PAGE = p4compile.ROOM.parent / "docs" / "p4sync-protocol.md"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    copy = tmp_path / "p4src"
    shutil.copytree(p4compile.ROOM, copy, ignore=shutil.ignore_patterns("__pycache__", "target"))
    return copy


def test_compiled_files_are_in_step() -> None:
    assert p4compile.stale() == []


@pytest.mark.parametrize(
    "changed", ["flow_state.p4", "include/siphash.p4", "build/flow_state.json", "build/baseline.p4info.txtpb"]
)
def test_a_changed_file_is_noticed(room: Path, changed: str) -> None:
    file = room / changed
    file.write_text(file.read_text() + "\n")
    assert any(changed in problem for problem in p4compile.stale(room))


def test_a_missing_output_is_noticed(room: Path) -> None:
    (room / "build" / "flow_state.json").unlink()
    assert any("flow_state.json is missing" in problem for problem in p4compile.stale(room))


def test_a_new_include_is_noticed(room: Path) -> None:
    (room / "include" / "more.p4").write_text("// nothing\n")
    egress = room / "include" / "egress.p4"
    egress.write_text('#include "more.p4"\n' + egress.read_text())
    assert any("include/more.p4 is not in the manifest" in problem for problem in p4compile.stale(room))


def test_a_broken_manifest_is_said(room: Path) -> None:
    (room / "manifest.json").write_text("{")
    assert "cannot be read" in p4compile.stale(room)[0]


def test_without_a_compiler_the_message_says_so(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p4compile, "find_compiler", lambda: None)
    with pytest.raises(p4compile.CompileError, match="not on PATH"):
        p4compile.build(room)


def test_a_program_that_does_not_compile_leaves_everything_as_it_was(room: Path) -> None:
    if p4compile.find_compiler() is None:
        pytest.skip("p4c-bm2-ss is not on PATH")
    before = (room / "manifest.json").read_bytes()
    (room / "siphash_check.p4").write_text("control {")
    with pytest.raises(p4compile.CompileError, match="siphash_check"):
        p4compile.build(room)
    assert (room / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("program", p4compile.PROGRAMS)
def test_recompiling_gives_what_is_committed(program: str) -> None:
    compiler = p4compile.find_compiler()
    if compiler is None:
        pytest.skip("p4c-bm2-ss is not on PATH")
    manifest = json.loads(p4compile.MANIFEST.read_text())
    if f"p4c {p4compile.compiler_version(compiler)}" != manifest["compiler"]:
        pytest.skip(f"committed files are from {manifest['compiler']}, this is another version")
    made = p4compile.compile_program(program, compiler)
    assert made.json == (p4compile.BUILD / f"{program}.json").read_bytes()
    assert made.p4info == (p4compile.BUILD / f"{program}.p4info.txtpb").read_bytes()


def names(kind: str) -> set[str]:
    """Names of one kind of object in flow_state's P4Info."""
    text = (p4compile.BUILD / "flow_state.p4info.txtpb").read_text()
    return {match.group(1) for match in re.finditer(kind + r' \{\s+preamble \{\s+id: \d+\s+name: "([^"]+)"', text)}


def test_the_page_names_every_table_and_counter() -> None:
    page = PAGE.read_text()
    objects = names("tables") | names("counters")
    assert "SwitchIngress.sync_in" in objects
    assert {name for name in objects if name.startswith("SwitchIngress.") and f"`{name}`" not in page} == set()


def test_no_path_of_the_compiling_machine_is_kept() -> None:
    for file in p4compile.BUILD.iterdir():
        assert b"p4include" not in file.read_bytes(), file
        assert b"source_info" not in file.read_bytes(), file
