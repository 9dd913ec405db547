# SPDX-License-Identifier: Apache-2.0
"""Settings: the shipped file is good, and every mistake is named with its mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller import config
from controller.core.errors import ConfigError
from controller.core.events import Verdict
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
        (("port = 80", 'port = "80x"'), "servers.a.port"),
        (("port = 80", "port = 70000"), "servers.a.port"),
        (('address = "10.0.0.1"', 'address = "10.0.0"'), "servers.a.address"),
        (('address = "10.0.0.1"', 'address = "10.0.0.2"'), "same address and port"),
        (('origin = "a"', 'origin = "c"'), "known: a, b"),
        (('to = "b"', 'to = "c"'), "known: a, b"),
        (('to = "b"', ""), "needs `to`"),
        (('verdict = "migrate"', 'verdict = "drop"'), "goes with verdict migrate"),
        (("sid = 7", ""), "at least one of sid"),
        (('verdict = "migrate"', 'verdict = "move"'), "rules.0.verdict"),
        (("[[services]]", "[[servces]]"), "servces"),
        (("sid = 7", "sid = 7\nside = 8"), "rules.0.side"),
        (("[[rules]]", '[[services]]\nname = "web2"\norigin = "a"\n[[rules]]'), "overlap"),
        (("[[rules]]", '[[services]]\nname = "web"\norigin = "b"\n[[rules]]'), "same name"),
        (("[servers.a]", "[servers.a"), "not valid TOML"),
        (('name = "web"', 'name = "web"\nverdict_timeout = -1'), "services.0.verdict_timeout"),
    ],
)
def test_mistakes(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    """The complaint names file and key."""
    path = tmp_path / "baton.toml"
    path.write_text(GOOD.replace(*change, 1))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


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
