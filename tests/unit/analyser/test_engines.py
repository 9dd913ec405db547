# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from controller.analyser import engines
from controller.analyser.engines import (
    SNORT2,
    SNORT3,
    SURICATA,
    TEMPLATES,
    Places,
    choose_engine,
    complaints_of,
)
from controller.analyser.errors import AnalyserError


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An empty directory that is the whole PATH; `path(name, text)` puts a program there that prints the text."""
    room = tmp_path / "bin"
    room.mkdir()
    monkeypatch.setenv("PATH", str(room))

    def put(name, text=""):
        program = room / name
        program.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
        program.chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("banner", "engine"),
    [('  ,,_  o"  )~   Version 2.9.20 GRE (Build 82)', SNORT2), ("   o)~   Version 3.1.84.0", SNORT3)],
)
def test_an_installed_snort_is_preferred_and_its_version_told(path, banner, engine):
    path("snort", banner)
    path("suricata")
    assert choose_engine() is engine


def test_else_it_is_suricata(path):
    path("suricata")
    assert choose_engine() is SURICATA


def test_the_one_asked_for_is_taken(path):
    path("snort", "Version 2.9.20")
    path("suricata")
    assert choose_engine("suricata") is SURICATA
    assert choose_engine("snort3") is SNORT3


def test_errors_say_what_to_do(path):
    with pytest.raises(AnalyserError, match="make setup"):
        choose_engine()
    with pytest.raises(AnalyserError, match="suricata is not installed"):
        choose_engine("suricata")
    path("snort", "no number")
    with pytest.raises(AnalyserError, match="--engine snort2"):
        choose_engine()


@pytest.fixture
def places(tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "b.rules").write_text("")
    (rules / "a.rules").write_text("")
    return Places(tmp_path, rules, tmp_path / "eve.sock", tmp_path / "cmd.sock", tmp_path)


@pytest.mark.parametrize("engine", [SNORT2, SNORT3, SURICATA], ids=lambda engine: engine.name)
def test_the_configuration_is_complete_and_outside_the_checked_directory(engine, places):
    config = engine.configure(places)
    text = config.read_text()
    assert config.parent == places.work
    assert not re.search(r"@[A-Z]+@", text)
    if engine is SURICATA:
        assert f"filename: {places.eve}\n" in text
        assert f"filename: {places.command}\n" in text
        assert f"default-rule-path: {places.rules}\n" in text
    else:
        at = [text.index(f"include {places.rules}/{name}.rules") for name in "ab"]
        assert at == sorted(at)
        if engine is SNORT2:
            assert f"include {places.rules}/classification.config" in text
            assert text.index("classification.config") < at[0], "classes come before the rules that use them"


def test_the_commands_of_each_engine(places):
    config = places.work / "c"
    assert SURICATA.run("ids0", config, places) == ["suricata", "-c", str(config), "--af-packet=ids0"]
    snort2 = SNORT2.run("ids0", config, places)
    assert snort2[:3] == ["snort", "-A", "unsock"]
    assert snort2[snort2.index("-l") + 1] == str(places.alerts)
    assert snort2[snort2.index("-P") + 1] == "65535"
    snort3 = SNORT3.run("ids0", config, places)
    assert snort3[:3] == ["snort", "-A", "alert_unixsock"]
    assert snort3[snort3.index("-s") + 1] == "65535"
    for engine in (SNORT2, SNORT3, SURICATA):
        command = engine.check(config)
        assert "-T" in command
        assert command[command.index("-c") + 1] == str(config)


SURICATA_OUTPUT = """\
Info: detect: 1 rule files processed. 2 rules successfully loaded, 1 rules failed, 0
Error: detect-parse: Signature missing required value "sid".
Error: detect: error parsing signature "alert tcp any any (content:"x" sid:7;)" from file /w/r.a/baton.rules at line 12
Error: detect-flags: unknown flag
Error: detect: error parsing signature "alert tcp any any (flags:Q; sid:8;)" from file /w/r.a/more.rules at line 3
Error: suricata: Loading signatures failed.
"""


@pytest.mark.parametrize(
    ("engine", "output", "complaints"),
    [
        (
            SURICATA,
            SURICATA_OUTPUT,
            ('baton.rules line 12: Signature missing required value "sid"', "more.rules line 3: unknown flag"),
        ),
        (SURICATA, "Error: conf: no such file\n\n", ("suricata says: Error: conf: no such file",)),
        (SURICATA, "", ("suricata says: no output at all",)),
        (
            SNORT2,
            "ERROR: /w/rules.a/baton.rules(12) Unknown rule option: 'nonsense'.\nFatal Error, Quitting..\n",
            ("baton.rules line 12: Unknown rule option: 'nonsense'",),
        ),
        (SNORT2, "ERROR: Cannot open it\nFatal Error, Quitting..\n", ("snort says: Cannot open it",)),
        (
            SNORT3,
            "ERROR: /w/rules.a/baton.rules:12 unknown rule keyword: nonsense.\nFATAL: see prior 1 errors\n",
            ("baton.rules line 12: unknown rule keyword: nonsense",),
        ),
    ],
)
def test_complaints_name_file_and_line(engine, output, complaints):
    assert complaints_of(engine, output) == complaints


def test_shipped_rules_keep_to_what_every_engine_accepts():
    for line in (TEMPLATES / "baton.rules").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(
                r'alert tcp any any -> any any \(msg:"[A-Z]+"; flags:PA,CE; content:"[a-z]+"; '
                r"classtype:connection-migration; sid:\d+; rev:1;\)",
                line,
            ), line


def test_an_incomplete_clone_is_told(places, monkeypatch):
    monkeypatch.setattr(engines, "TEMPLATES", places.work / "gone")
    with pytest.raises(AnalyserError, match="complete clone"):
        SURICATA.configure(places)
