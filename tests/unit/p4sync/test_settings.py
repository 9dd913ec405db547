# SPDX-License-Identifier: Apache-2.0
"""An agent's settings: every mistake is found at the start, with the key and the mend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from controller.p4sync import keys
from controller.p4sync.errors import SettingsError
from controller.p4sync.settings import BUILD, load_settings

ROOT = Path(__file__).resolve().parents[3]
GOOD = """
name = "p1"
id = 1
key = "p1.key"
control = "p1.control"
listen = "unix:p1.peer"
[switch]
address = "unix:p1.sock"
[peers.p2]
id = 2
key = "/keys/p2.pub"
address = "10.0.0.9:7000"
port = 3
[[services]]
address = "10.0.0.1"
port = 80
service = 7
[[forward]]
in_port = 1
out_port = 2
[times]
window = 24
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "p1.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    assert settings.key == tmp_path / "p1.key"
    assert settings.listen == f"unix:{tmp_path}/p1.peer"
    assert settings.switch.address == f"unix:{tmp_path}/p1.sock"
    assert (settings.peers["p2"].key, settings.peers["p2"].address) == (Path("/keys/p2.pub"), "10.0.0.9:7000")
    assert settings.pace.window == 24
    assert settings.switch.pipeline_path == BUILD / "flow_state.json"
    assert settings.switch.p4info_path.exists()


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('name = "p1"', 'name = "P 1"', "name"),
        ("id = 1", "id = 0", "id"),
        ("id = 2", "id = 1", "two switches have the same id"),
        ("[peers.p2]", "[peers.p1]", "is this agent itself"),
        ('key = "p1.key"', "", "key"),
        ("port = 3", "port = 511", "peers.p2.port"),
        ('"unix:p1.sock"', '"somewhere"', "switch.address"),
        ('"10.0.0.1"', '"fd00::1"', "services.0.address"),
        ("service = 7", "service = 0", "services.0.service"),
        ("window = 24", "window = 1", "times.window"),
        ("window = 24", "wndow = 24", "times.wndow"),
        ('listen = "unix:p1.peer"', 'listen = "unix:p1.peer"\nsuite = "none"', 'goes with program "baseline"'),
        ('"unix:p1.sock"', '"unix:p1.sock"\nprogram = "baseline"', 'goes with program "baseline"'),
        ("[switch]", "[switch", "not valid TOML"),
        ("[[forward]]", "[[forward]]\nto = 'x'", "forward.0.to"),
    ],
)
def test_mistakes(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    assert before in GOOD
    with pytest.raises(SettingsError, match=complaint) as raised:
        load_settings(write(tmp_path, GOOD.replace(before, after, 1)))
    assert "p1.toml" in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"docs/p4sync\.md"):
        load_settings(tmp_path / "missing.toml")


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "controller.p4sync", str(path), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def test_the_command_checks_keys_and_programs_too(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("/keys/", ""))
    for name in ("p1", "p2"):
        keys.new_pair(keys.ED25519, tmp_path / f"{name}.key", tmp_path / f"{name}.pub")
    good = check(path)
    assert (good.returncode, good.stderr) == (0, "")
    (tmp_path / "p1.key").chmod(0o644)
    bad = check(path)
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "chmod 600" in bad.stderr
    (tmp_path / "p1.key").chmod(0o600)
    (tmp_path / "p2.pub").write_bytes((tmp_path / "p1.pub").read_bytes())
    assert "own public key" in check(path).stderr
    path.write_text(path.read_text().replace("[switch]", f'[switch]\np4info = "{BUILD}/siphash_check.p4info.txtpb"'))
    (tmp_path / "p2.pub").unlink()
    keys.new_pair(keys.RSA, tmp_path / "q.key", tmp_path / "p2.pub")
    wrong = check(path)
    assert wrong.returncode == 2
    assert "not the P4Info of a program for state shipping" in wrong.stderr
