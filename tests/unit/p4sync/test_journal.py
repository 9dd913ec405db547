# SPDX-License-Identifier: Apache-2.0
"""The journal: what is written is remembered, numbers are never used twice, one agent alone writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.p4sync import journal
from controller.p4sync.errors import SettingsError
from controller.p4sync.journal import Decision, Journal, Memory

sessions = st.integers(1, 6)
records = st.one_of(
    st.builds(lambda s: {"what": "opened", "session": s, "nonce": s * 7, "peer": 2, "side": "out"}, sessions),
    st.builds(lambda s: {"what": "submitted", "session": s, "side": "out"}, sessions),
    st.builds(lambda s: {"what": "opening", "session": s, "nonce": s * 9, "peer": 3, "side": "in"}, sessions),
    st.builds(
        lambda s, w, d: {"what": w, "session": s, "side": d, "reason": "r"},
        sessions,
        st.sampled_from(["committed", "discarded"]),
        st.sampled_from(["in", "out"]),
    ),
    st.builds(lambda s, d: {"what": "closed", "session": s, "side": d}, sessions, st.sampled_from(["in", "out"])),
    st.builds(lambda n: {"what": "number", "number": n}, st.integers(0, 99)),
    st.builds(lambda n: {"what": "job", "job": n, "to": "b", "at": 0, "plans": []}, st.sampled_from("xyz")),
    st.builds(lambda n: {"what": "job done", "job": n}, st.sampled_from("xyz")),
)


@given(st.lists(records, max_size=40))
def test_a_shortened_journal_says_the_same(written: list[dict]) -> None:
    memory, again = Memory(), Memory()
    for record in written:
        memory.apply(record)
    for record in memory.records():
        again.apply(record)
    assert again == memory


def test_it_is_read_again(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    first.write({"what": "opening", "session": 4, "nonce": 5, "peer": 6, "side": "in"})
    first.write({"what": "committed", "session": 4, "side": "in"})
    first.write({"what": "opened", "session": 9, "nonce": 8, "peer": 7, "side": "out"})
    first.close()
    memory = Journal(tmp_path / "j").memory
    assert memory.decisions == {4: Decision(True, "", 5, 6)}
    assert memory.outgoing[9]["submitted"] is False
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_numbers_are_never_used_twice(tmp_path: Path) -> None:
    used: list[int] = []
    for at_least in (1, 50, 3, 200, 1, 1):
        book = Journal(tmp_path / "j")
        used += [book.take_number(at_least), book.take_number(), book.take_number(at_least)]
        book.close()
    assert used == sorted(set(used))
    assert used[0] == 1


def test_all_numbers_used_up(tmp_path: Path) -> None:
    book = Journal(tmp_path / "j")
    assert book.take_number((1 << 32) - 1) == (1 << 32) - 1
    with pytest.raises(OverflowError, match="restart both switches"):
        book.take_number()


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    book = Journal(tmp_path / "j")
    book.write({"what": "number", "number": 7})
    book.close()
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"what": "numb')
    book = Journal(tmp_path / "j")
    assert book.memory.number == 7
    book.write({"what": "number", "number": 8})
    book.close()
    assert Journal(tmp_path / "j").memory.number == 8


@pytest.mark.parametrize("line", [b"junk", b"{}", b'{"what": "dance"}', b'{"what": "number"}', b"[]", b"\xff"])
def test_what_is_no_journal_is_left_alone(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "j").write_bytes(line + b"\n")
    with pytest.raises(SettingsError, match="line 1"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == line + b"\n"


def test_one_agent_alone(tmp_path: Path) -> None:
    book = Journal(tmp_path / "j")
    with pytest.raises(SettingsError, match="running already"):
        Journal(tmp_path / "j")
    book.close()
    Journal(tmp_path / "j").close()
    with pytest.raises(SettingsError, match="keeps its journal"):
        Journal(tmp_path / "no" / "j")


def test_it_is_shortened_when_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "REWRITE", 2_000)
    book = Journal(tmp_path / "j")
    for number in range(1, 400):
        session = book.take_number()
        assert session == number
        book.write({"what": "opened", "session": session, "nonce": 1, "peer": 2, "side": "out"})
        book.write({"what": "closed", "session": session, "side": "out"})
    book.write({"what": "opened", "session": 400, "nonce": 1, "peer": 2, "side": "out"})
    assert (tmp_path / "j").stat().st_size < 2_500
    with pytest.raises(SettingsError, match="running already"):
        Journal(tmp_path / "j")
    book.close()
    again = Journal(tmp_path / "j")
    assert set(again.memory.outgoing) == {400}
    assert again.take_number() >= 400
