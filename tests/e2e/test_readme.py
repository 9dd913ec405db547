# SPDX-License-Identifier: Apache-2.0
"""What the README tells people to type and to read works: commands, make targets, files, settings, rules."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from controller.config import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the shell commands, without their comments."""
    lines = [line.partition(" # ")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the clone."""
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


def test_first_screen() -> None:
    """The two commands that a newcomer needs come before anything else."""
    assert commands()[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", commands())
def test_command(command: str) -> None:
    """Make targets resolve, programs exist and know their options; what is quick and harmless is run."""
    words = [word for word in shlex.split(command) if word != "sudo"]
    if words[0] == "make":
        done = run("make", "--dry-run", *words[1:])
    elif words[:2] == ["python3", "topo.py"]:
        done = run(sys.executable, "topo.py", *words[2:], "--help")
    elif words[0] == ".venv/bin/baton":
        done = run(sys.executable, "-m", "controller.cli.main", *words[1:], "--help")
    else:
        pytest.fail(f"the README has a command that this test does not know how to check: {command}")
    assert done.returncode == 0, done.stderr


def test_files_that_are_linked_exist() -> None:
    """In the README and in every page of the documentation."""
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_programs_in_the_prompt_exist() -> None:
    """What is typed at the Mininet prompt names files of the clone."""
    typed = re.findall(r"^mininet> (?:c0|h\d) (.*)$", README, re.MULTILINE)
    assert len(typed) == 4
    for line in typed:
        script = next(word for word in shlex.split(line) if word.endswith(".py"))
        assert (REPOSITORY / script).exists()


def test_settings_shown_are_accepted() -> None:
    """The rule shown, put into the shipped settings, is one of them."""
    (shown,) = blocks("toml")
    shipped = tomllib.loads((REPOSITORY / "baton.toml").read_text(encoding="utf-8"))
    rule = tomllib.loads(shown)["rules"][0]
    assert rule in shipped["rules"]
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    for text in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        Settings.model_validate(tomllib.loads(text))


def test_rule_shown_is_the_shipped_one() -> None:
    """Word for word."""
    shown = re.search(r"^alert tcp .*$", README, re.MULTILINE)
    assert shown
    assert shown.group() in (REPOSITORY / "snort_rules" / "baton.rules").read_text(encoding="utf-8")
