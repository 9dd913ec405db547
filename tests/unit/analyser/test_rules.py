# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from controller.analyser.errors import AnalyserError
from controller.analyser.rules import RuleStore, Watcher, read_rules


def test_rules_and_classes_are_read_and_nothing_else(tmp_path):
    for name in ("b.rules", "a.rules", "classification.config", "snort.conf", "a.rules~"):
        (tmp_path / name).write_text(name)
    assert dict(read_rules(tmp_path)) == {
        "a.rules": b"a.rules",
        "b.rules": b"b.rules",
        "classification.config": b"classification.config",
    }


def test_a_directory_without_rules_is_an_error_that_says_so(tmp_path):
    (tmp_path / "classification.config").write_text("")
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(AnalyserError, match=r"no \*\.rules file in .*--rules"):
            read_rules(place)


def test_what_is_accepted_is_replaced_as_a_whole(tmp_path):
    store = RuleStore(tmp_path)
    store.accept(store.stage({"a.rules": b"1", "b.rules": b"1"}))
    assert (store.current / "a.rules").read_bytes() == b"1"
    candidate = store.stage({"a.rules": b"2"})
    assert (store.current / "a.rules").read_bytes() == b"1", "staging changes nothing"
    store.accept(candidate)
    assert (store.current / "a.rules").read_bytes() == b"2"
    assert not (store.current / "b.rules").exists()


def test_the_copy_before_can_be_had_back(tmp_path):
    store = RuleStore(tmp_path)
    store.accept(store.stage({"a.rules": b"1"}))
    before = store.current.resolve()
    store.accept(store.stage({"a.rules": b"2"}))
    store.accept(before)
    assert (store.current / "a.rules").read_bytes() == b"1"


def test_staging_over_what_a_crash_left(tmp_path):
    (tmp_path / "rules.a").mkdir()
    (tmp_path / "rules.a" / "old.rules").write_text("old")
    (tmp_path / "rules.new").symlink_to("nowhere")
    store = RuleStore(tmp_path)
    store.accept(store.stage({"a.rules": b"1"}))
    assert [path.name for path in store.current.iterdir()] == ["a.rules"]


def look(watcher, times=2):
    return [watcher.has_changed() for _ in range(times)]


def test_a_change_counts_once_and_when_at_rest(tmp_path):
    path = tmp_path / "a.rules"
    path.write_text("1")
    watcher = Watcher(tmp_path)
    assert look(watcher) == [False, False]
    path.write_text("22")
    assert watcher.has_changed() is False, "it may be half written"
    path.write_text("333")
    assert look(watcher, 3) == [False, True, False]


@pytest.mark.parametrize("act", ["replace", "add", "remove", "class"])
def test_every_kind_of_change_is_seen(tmp_path, act):
    path = tmp_path / "a.rules"
    path.write_text("1")
    watcher = Watcher(tmp_path)
    if act == "replace":
        (tmp_path / "new").write_text("1")
        os.replace(tmp_path / "new", path)
    elif act == "add":
        (tmp_path / "b.rules").write_text("1")
    elif act == "remove":
        path.unlink()
    else:
        (tmp_path / "classification.config").write_text("1")
    assert look(watcher, 3) == [False, True, False]


def test_other_files_are_no_change(tmp_path):
    (tmp_path / "a.rules").write_text("1")
    watcher = Watcher(tmp_path)
    (tmp_path / ".a.rules.swp").write_text("1")
    (tmp_path / "notes").write_text("1")
    assert look(watcher, 3) == [False, False, False]


def test_a_change_that_is_taken_back_is_none(tmp_path):
    path = tmp_path / "a.rules"
    path.write_text("1")
    (tmp_path / "b.rules").write_text("1")
    watcher = Watcher(tmp_path)
    os.rename(path, tmp_path / "kept")
    assert watcher.has_changed() is False
    os.rename(tmp_path / "kept", path)
    assert look(watcher, 3) == [False, False, False]
