# SPDX-License-Identifier: Apache-2.0
"""Settings: the shipped file is good, and every mistake is named with its mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller import config
from controller.core.errors import ConfigError
from controller.core.events import Verdict
from controller.core.policy import CutPolicy
from controller.core.segment import Endpoint

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = """
[servers.a]
address = "10.0.0.1"
port = 80
[servers.b]
address = "10.0.0.2"
port = 80
[[services]]
name = "web"
origin = "a"
[[rules]]
sid = 7
verdict = "migrate"
to = "b"
"""


def test_shipped_settings() -> None:
    """The demo's: two servers, FORWARD and MIGRATE."""
    policy = config.policy_of(config.load(REPOSITORY / "baton.toml"))
    assert policy.services[0].origin.endpoint == Endpoint("10.0.0.1", 11_111)
    assert [(rule.sid, rule.verdict, rule.target) for rule in policy.rules] == [
        (1_000_001, Verdict.FORWARD, None),
        (1_000_002, Verdict.MIGRATE, "server2"),
    ]
    assert policy.analyser_port == "ids0"


def test_good(tmp_path: Path) -> None:
    """Defaults where nothing is said."""
    path = tmp_path / "baton.toml"
    path.write_text(GOOD)
    settings = config.load(path)
    assert settings.services[0].verdict_timeout == 0.1
    assert config.policy_of(settings).limits.half_open == 4_096


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("port = 80", 'port = "80"'), 'servers.a.port: must be a whole number, not "80"'),
        (("port = 80", "port = true"), "servers.a.port: must be a whole number, not true"),
        (("port = 80", "port = 80.0"), "servers.a.port: must be a whole number, not 80.0"),
        (("port = 80", "port = 2026-01-01"), "servers.a.port: must be a whole number, not 2026-01-01"),
        (("port = 80", "port = 70000"), "servers.a.port: must be at most 65535, not 70000"),
        (("port = 80", ""), "servers.a.port: is missing; add port = 80"),
        (('address = "10.0.0.1"', "address = 10"), "servers.a.address: must be text in quotes, not 10"),
        (('address = "10.0.0.1"', 'address = "10.0.0"'), "servers.a.address: '10.0.0' is no IPv4 or IPv6 address"),
        (('address = "10.0.0.1"', 'address = "10.0.0.1/8"'), "without prefix length"),
        (('address = "10.0.0.1"', 'address = "127.0.0.1"'), "give the server's own"),
        (('address = "10.0.0.1"', 'address = "224.0.0.1"'), "give the server's own"),
        (
            ('address = "10.0.0.1"', 'address = "10.0.0.2"'),
            "servers a and b have the same address and port",
        ),
        (('address = "10.0.0.2"', 'address = "fd00::2"'), "rule 1 migrates to b, which has an address of the other IP"),
        (("port = 80", 'port = 80\nmac = "02-00-00-00-00-01"'), "leave it out and it is learned"),
        (("[servers.a]", '[servers.""]\naddress = "10.0.0.9"\nport = 1\n[servers.a]'), "text that is not empty"),
        (("[servers.a]", "[[servers]]"), "servers: must be tables, each begun with [servers.NAME]"),
        (("[servers.a]", "[servers.a"), "not valid TOML"),
        (("[servers.a]", "[server.a]"), "server: there is no such key; did you mean servers?"),
        (('origin = "a"', 'origin = "c"'), "service web: origin 'c' is no server (known: a, b)"),
        (("[[services]]", "[services]"), "must be a list of tables, each begun with [[services]]"),
        (("[[services]]", "[[servces]]"), "servces: there is no such key; did you mean services?"),
        (("[[rules]]", '[[services]]\nname = "web2"\norigin = "a"\n[[rules]]'), "services web and web2 overlap"),
        (("[[rules]]", '[[services]]\nname = "web"\norigin = "b"\n[[rules]]'), "same name; give each its own"),
        (('name = "web"', 'name = ""'), "services.0.name: must be text that is not empty"),
        (('name = "web"', 'name = "web"\nmode = "gated"'), "must be 'gate' or 'observe', not \"gated\""),
        (('name = "web"', 'name = "web"\nverdict_timeout = -1'), "verdict_timeout: must be more than 0, not -1"),
        (('name = "web"', 'name = "web"\nverdict_timeout = "soon"'), 'verdict_timeout: must be a number, not "soon"'),
        (('name = "web"', 'name = "web"\nverdict_timeout = nan'), "verdict_timeout: must be a finite number"),
        (('name = "web"', 'name = "web"\nidle_timeout = 1'), "idle_timeout: must be at least 60, not 1"),
        (('to = "b"', 'to = "c"'), "rule 1 migrates to 'c', which is no server (known: a, b)"),
        (('to = "b"', ""), "needs `to`"),
        (('verdict = "migrate"', 'verdict = "drop"'), "goes with verdict migrate"),
        (
            ('verdict = "migrate"', 'verdict = "move"'),
            "verdict: must be 'forward', 'migrate', 'return' or 'drop'",
        ),
        (("sid = 7", ""), "at least one of sid"),
        (("sid = 7", 'sid = "7"'), 'rules.0.sid: must be a whole number, not "7"'),
        (("sid = 7", "sid = 7\nx = 8"), "rules.0.x: there is no such key; remove it"),
        (("[[rules]]", '[[rules]]\nsid = 7\nverdict = "drop"\n[[rules]]'), "rules 1 and 2 match the same alerts"),
        (("[[rules]]", '[analyser]\neve_socket = "snort_alert"\n[[rules]]'), "give each its own path"),
        (("[[rules]]", '[analyser]\nsnort_socket = "bus.sock"\n[[rules]]'), "choose another name"),
        (("[[rules]]", "[analyser]\nport = 3\n[[rules]]"), "analyser.port: must be text in quotes, not 3"),
        (("[[rules]]", "[limits]\nsyn_rate = 5000000000\n[[rules]]"), "must be at most 4294967295"),
    ],
)
def test_mistakes(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    """The complaint names file and key, says what is wrong there and the mend, and nothing besides."""
    path = tmp_path / "baton.toml"
    path.write_text(GOOD.replace(*change, 1))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "validation" not in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """What is only a consequence of another is not."""
    path = tmp_path / "baton.toml"
    path.write_text(GOOD.replace("port = 80", "port = 0", 1).replace('origin = "a"', "origin = 1").replace("7", "0"))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).removeprefix(f"{path}: ").split("; ") == [
        "servers.a.port: must be at least 1, not 0",
        "services.0.origin: must be text in quotes, not 1",
        "rules.0.sid: must be at least 1, not 0",
    ]


def test_what_is_needed_at_least(tmp_path: Path) -> None:
    """An empty file is told what to begin with, an unreadable one what it is."""
    path = tmp_path / "baton.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match=r"\[servers\.NAME\].*\[\[services\]\]"):
        config.load(path)
    path.write_text("services = []\n[servers]\n")
    with pytest.raises(ConfigError, match=r"\[servers\.NAME\].*\[\[services\]\]"):
        config.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load(path)
    with pytest.raises(ConfigError, match="BATON_CONFIG"):
        config.load(tmp_path)


def test_every_setting_reaches_the_core(tmp_path: Path) -> None:
    """None is read, checked and then forgotten."""
    path = tmp_path / "baton.toml"
    more = 'name = "web"\nmode = "observe"\nmirror_bytes = 7\nidle_timeout = 61\ndefault_verdict = "drop"'
    text = GOOD.replace(
        'name = "web"',
        f'{more}\nhandshake_timeout = 2\nverdict_timeout = 1\ncut_policy = "quiet"\nallow_torn_response = true',
    )
    path.write_text(text.replace("port = 80", 'port = 80\nmac = "02:00:00:00:00:0A"\nbanner = "discard"', 1))
    policy = config.policy_of(config.load(path))
    (service,) = policy.services
    assert (service.gated, service.mirror_bytes, service.idle_timeout) == (False, 7, 61)
    assert (service.cut_policy, service.quiet_timeout) == (CutPolicy.QUIET, 5.0)
    assert service.allow_torn_response
    assert (service.default_verdict, service.handshake_timeout, service.verdict_timeout) == (Verdict.DROP, 2, 1)
    assert (service.origin.mac, service.origin.discards_banner) == ("02:00:00:00:00:0a", True)


def test_no_file(tmp_path: Path) -> None:
    """It says what to write."""
    with pytest.raises(ConfigError, match=r"docs/configuration\.md"):
        config.load(tmp_path / "none.toml")


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, then here, then the shipped one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATON_CONFIG", raising=False)
    assert config.config_path() == REPOSITORY / "baton.toml"
    (tmp_path / "baton.toml").write_text(GOOD)
    assert config.config_path() == Path("baton.toml")
    monkeypatch.setenv("BATON_CONFIG", "/elsewhere.toml")
    assert config.config_path() == Path("/elsewhere.toml")


def test_run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private, or refused."""
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path / "a" / "run"))
    assert config.make_run_dir() == tmp_path / "a" / "run"
    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o700
    (tmp_path / "a" / "run").chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        config.make_run_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path / "file" / "run"))
    with pytest.raises(ConfigError, match="BATON_RUN_DIR"):
        config.make_run_dir()


def test_default_run_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's and other users'."""
    monkeypatch.delenv("BATON_RUN_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.run_dir() == Path("/run/baton")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert config.run_dir() == Path("/run/user/1000/baton")
