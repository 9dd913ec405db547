# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from controller.alerts import classes
from controller.alerts.classes import ClassFile


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(classes, "monotonic", lambda: now[0])
    return now


def write(path, name):
    """Replace the file as an editor does: under another name first."""
    new = path.with_suffix(".new")
    new.write_text(f"config classification: {name},Some text,1\n")
    os.replace(new, path)


def test_the_first_place_that_exists_counts(tmp_path, clock):
    file = ClassFile([tmp_path / "first", tmp_path / "second"])
    assert file.current().by_number(1) == ""
    write(tmp_path / "second", "b")
    clock[0] += 1
    assert file.current().by_number(1) == "b"
    write(tmp_path / "first", "a")
    clock[0] += 1
    assert file.current().by_number(1) == "a"


def test_a_change_is_seen_after_the_interval(tmp_path, clock):
    path = tmp_path / "c"
    write(path, "old")
    file = ClassFile([path])
    assert file.current().by_number(1) == "old"
    write(path, "new")
    clock[0] += classes.LOOK_INTERVAL / 2
    assert file.current().by_number(1) == "old"
    clock[0] += classes.LOOK_INTERVAL
    assert file.current().by_number(1) == "new"


def test_what_was_read_stays_when_the_file_goes(tmp_path, clock):
    path = tmp_path / "c"
    write(path, "name")
    file = ClassFile([path])
    assert file.current().by_number(1) == "name"
    path.unlink()
    clock[0] += 1
    assert file.current().by_number(1) == "name"
