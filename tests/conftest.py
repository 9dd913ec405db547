# SPDX-License-Identifier: Apache-2.0
"""Rules for all tests: quick rooms first, root where it is needed, nothing left behind, coverage that never falls.

What cannot be tested fails with the mend; only what no machine like this one can have is skipped, with its reason in
the summary (`-ra`). Processes inherit a token of this session, so what a test has
forgotten is found whatever it is called; named network namespaces carry the id of the process that made them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("unit", "property", "fuzz", "integration", "e2e")
NEED_ROOT = ("integration", "e2e")
TOKEN_NAME = "BATON_TEST_SESSION"
TOKEN = secrets.token_hex(8)
RATCHET = ROOT / "tests" / "coverage.json"
GRACE = 10.0


def pytest_configure(config):
    """Mark all that this session starts; no property test is timed."""
    settings.register_profile("baton", deadline=None)
    settings.load_profile("baton")
    os.environ[TOKEN_NAME] = TOKEN


def room_of(item):
    """Return the first directory of a test below tests/."""
    try:
        return item.path.relative_to(ROOT / "tests").parts[0]
    except ValueError:
        return ""


def pytest_collection_modifyitems(items):
    """Run quick rooms first."""
    items.sort(key=lambda item: ROOMS.index(room_of(item)) if room_of(item) in ROOMS else len(ROOMS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Fail what needs root, with the mend, where we are not: a skip would pass for tested."""
    if os.geteuid() != 0 and room_of(item) in NEED_ROOT:
        pytest.fail("needs root for network namespaces: run 'sudo make test'; 'make unit' needs none", pytrace=False)


def named_namespaces():
    """Return the names of the network namespaces that have one."""
    try:
        return set(os.listdir("/run/netns"))
    except OSError:
        return set()


def forgotten_namespaces(before):
    """Return namespaces that came during the session and carry this process's id: another's may run beside us."""
    ours = re.compile(rf"(baton|eccp)\D*{os.getpid()}(?!\d)")
    return [name for name in named_namespaces() - before if ours.match(name)]


def forgotten_processes():
    """Return "pid command" of living processes that this session started, itself left out."""
    wanted = f"{TOKEN_NAME}={TOKEN}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"{entry.name} {command.strip()}")
            except OSError:
                continue
    return found


def pytest_sessionstart(session):
    """Remember what was there before."""
    session.config.stash[BEFORE] = named_namespaces()


BEFORE = pytest.StashKey[set]()
COMPLAINTS = pytest.StashKey[list]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Fail the session for what was left behind and for coverage that fell."""
    complaints = session.config.stash.setdefault(COMPLAINTS, [])
    deadline = time.monotonic() + GRACE
    while True:
        left = [f"process {text}" for text in forgotten_processes()]
        left += [f"namespace {name}" for name in forgotten_namespaces(session.config.stash[BEFORE])]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    complaints += [f"left behind: {thing}" for thing in left]
    if os.environ.get("BATON_COVERAGE") == "check" and exitstatus == 0:
        complaints += coverage_complaints()
    if complaints and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config):
    """Say what was wrong beside the tests."""
    for complaint in config.stash.get(COMPLAINTS, []):
        terminalreporter.write_line(f"ERROR {complaint}", red=True)


def coverage_complaints():
    """Compare the branch coverage of each room with its floor in coverage.json."""
    import coverage

    floors = json.loads(RATCHET.read_text())
    data = coverage.Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml"))
    data.load()
    report = ROOT / "build" / "coverage.json"
    report.parent.mkdir(exist_ok=True)
    data.json_report(outfile=str(report), ignore_errors=True)
    rooms = {}
    incomplete = {}
    for name, facts in json.loads(report.read_text())["files"].items():
        room = "/".join(Path(name).parts[:2]) if len(Path(name).parts) > 2 else Path(name).parts[0]
        summary = facts["summary"]
        done, total = rooms.get(room, (0, 0))
        done += summary["covered_lines"] + summary["covered_branches"]
        rooms[room] = (done, total + summary["num_statements"] + summary["num_branches"])
        if facts["missing_lines"] or facts["missing_branches"]:
            missing = [str(line) for line in facts["missing_lines"]]
            missing += [f"{start}->{end}" for start, end in facts["missing_branches"]]
            incomplete.setdefault(room, []).append(f"{name}: {', '.join(missing[:12])}")
    complaints = []
    for room, floor in floors.items():
        done, total = rooms.get(room, (0, 0))
        percent = 100 * done / total if total else 0.0
        if percent < floor:
            complaints.append(f"coverage of {room} is {percent:.1f} %, its floor {floor} % (tests/coverage.json)")
            complaints += [f"  {line}" for line in incomplete.get(room, [])[:20]]
    return complaints
