# SPDX-License-Identifier: Apache-2.0
"""The controller's [p4sync] section: switches stand before servers that exist, services have numbers of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller import config
from controller.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
GOOD = """
[servers.one]
address = "10.0.0.1"
port = 80
[servers.two]
address = "10.0.0.2"
port = 80
[[services]]
name = "web"
origin = "one"
[[services]]
name = "other"
origin = "two"
[p4sync.services]
web = 7
other = 8
[p4sync.switches.p1]
server = "one"
[p4sync.switches.p2]
server = "two"
control = "/elsewhere/p2.sock"
port = "s1-p2"
"""


def load(folder: Path, text: str) -> config.Settings:
    (folder / "baton.toml").write_text(text)
    return config.load(folder / "baton.toml")


def test_where_agents_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path / "run"))
    settings = load(tmp_path, GOOD)
    assert config.agent_socket(settings, "p1") == tmp_path / "run" / "p4sync" / "p1.control"
    assert config.agent_socket(settings, "p2") == Path("/elsewhere/p2.sock")
    assert config.agent_socket(settings, "p9") == tmp_path / "run" / "p4sync" / "p9.control"
    assert settings.p4sync.switches["p2"].port == "s1-p2"


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('server = "two"', 'server = "three"', "'three' is no server"),
        ('server = "two"', 'server = "one"', "p1 and p2 stand before the same server"),
        ("other = 8", "other = 7", "have the same number"),
        ("other = 8", "another = 8", "'another' is no service"),
        ("other = 8", "other = 0", "p4sync.services.other"),
        ('port = "s1-p2"', 'prt = "s1-p2"', "prt"),
    ],
)
def test_mistakes(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    assert before in GOOD
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, GOOD.replace(before, after))


def test_the_section_in_the_documentation_can_be_used(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "p4sync.md").read_text(), re.DOTALL)
    section = next(block for block in blocks if "[p4sync.services]" in block)
    settings = load(tmp_path, (ROOT / "baton.toml").read_text() + section)
    assert settings.p4sync.services == {"echo": 7}
    assert set(settings.p4sync.switches) == {"p1", "p2"}
