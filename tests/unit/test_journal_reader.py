# SPDX-License-Identifier: Apache-2.0
"""The journal read back: the last records, new ones as they come, over a change of files and half-written lines."""

import json

import pytest

from controller.core.errors import ConfigError
from controller.core.events import BackendFailed
from controller.journal import Journal
from controller.journal_reader import follow_journal, read_journal


class StopError(Exception):
    """Ends the pause of a reader."""


def names(records):
    return [record["server"] for record in records]


def write(path, *servers, limit=1 << 20):
    journal = Journal(path.parent, limit)
    for server in servers:
        journal.append(BackendFailed(1.0, server, ""))
    journal.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def follow(path, *steps, last=0):
    """Follow while each pause does one of the steps; return what was yielded until they are used up."""
    steps = iter(steps)

    def pause():
        try:
            next(steps)()
        except StopIteration:
            raise StopError from None

    seen = []
    with pytest.raises(StopError):
        seen.extend(record["server"] for record in follow_journal(path, pause, last))
    return seen


def test_the_last_ones(path):
    write(path, "a", "b", "c")
    assert names(read_journal(path)) == ["a", "b", "c"]
    assert names(read_journal(path, 2)) == ["b", "c"]


def test_what_is_no_record_is_left_out(path):
    path.write_bytes(b'\xff\n[]\n{"no":1}\n7\n' + json.dumps({"event": "X", "server": "a"}).encode() + b"\n{")
    assert names(read_journal(path)) == ["a"]


def test_new_ones_are_followed(path):
    write(path, "a", "b")
    assert follow(path, lambda: write(path, "c"), lambda: None, lambda: write(path, "d")) == ["a", "b", "c", "d"]
    assert follow(path, lambda: write(path, "e"), last=1) == ["d", "e"]


def test_a_line_written_in_two_steps(path):
    write(path, "a")
    line = json.dumps({"event": "X", "server": "b"}).encode() + b"\n"

    def add(data):
        with path.open("ab") as file:
            file.write(data)

    assert follow(path, lambda: add(line[:9]), lambda: add(line[9:])) == ["a", "b"]


def test_a_new_file_begins(path):
    """What was written to the old one after the last look is not lost."""
    write(path, "a")

    def change():
        write(path, "b", "c", limit=1)  # each fills a file; only the last old one is kept
        write(path, "d")

    assert follow(path, lambda: write(path, "b", limit=1), lambda: write(path, "c")) == ["a", "b", "c"]
    assert follow(path, change)[-1] == "d"


def test_a_journal_that_is_removed_ends_nothing(path):
    write(path, "a")
    assert follow(path, path.unlink, lambda: write(path, "b")) == ["a", "b"]


def test_no_journal(path):
    with pytest.raises(ConfigError, match="no controller has run there"):
        read_journal(path)
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        read_journal(path)
