# SPDX-License-Identifier: Apache-2.0
"""Run SPIN on one entry of models/manifest.toml and say what came out."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import time
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parent
TIMEOUT_FACTOR = 10  # a run may take so many times its budget before it is stopped (a busy machine is no error)
# Depth limits tried in turn for a short counterexample to draw.
SHORT_DEPTHS = (40, 60, 80, 100, 120, 140, 160, 200, 300, 400, 600)

_PAN = {
    "safety": (["-DSAFETY"], []),
    "heals": (["-DNFAIR=4"], ["-a", "-f", "-N", "heals"]),
    "lasts": ([], ["-a", "-N", "lasts"]),
}


@dataclass(frozen=True)
class Run:
    """One entry of the manifest."""

    name: str
    about: str
    model: str
    defines: str
    kind: str
    expect: str
    budget: float
    states: int | None = None
    group: str = "default"
    draw: str | None = None


@dataclass(frozen=True)
class Settings:
    nice: int = 15
    memory_mb: int = 6000
    cflags: str = "-O2"


@dataclass(frozen=True)
class Outcome:
    """What a run gave: verdict pass, cycle, assertion, or why there is none."""

    verdict: str
    states: int
    transitions: int
    memory_mb: float
    seconds: float
    trace: tuple[str, ...] = ()


class SpinError(Exception):
    """SPIN, the compiler or the search failed; the text says what to do."""


def load_manifest(path: Path = MODELS / "manifest.toml") -> tuple[Settings, list[Run]]:
    """The settings and runs.  Raises SpinError on an unknown or missing key."""
    with path.open("rb") as file:
        data = tomllib.load(file)
    known = {f.name for f in fields(Run)}
    runs = []
    for entry in data["run"]:
        if set(entry) - known or entry.get("kind") not in _PAN:
            raise SpinError(f"{path}: run {entry.get('name')!r}: unknown key or kind in {sorted(entry)}")
        runs.append(Run(**entry))
    return Settings(**data.get("settings", {})), runs


def require_tools() -> None:
    for tool, package in (("spin", "spin"), ("gcc", "gcc")):
        if shutil.which(tool) is None:
            raise SpinError(f"{tool} is not installed: apt-get install {package}")


def _call(command: list[str], cwd: Path, timeout: float, nice: int) -> str:
    try:
        done = subprocess.run(
            ["nice", "-n", str(nice), *command], cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise SpinError(f"{shlex.join(command)} took more than {timeout:.0f} s; is the machine busy?") from None
    return done.stdout + done.stderr


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0


def _verdict(text: str) -> str:
    if "acceptance cycle" in text:
        return "cycle"
    if "assertion violated" in text:
        return "assertion"
    if "invalid end state" in text.split("Full statespace", maxsplit=1)[0]:
        return "deadlock"
    for sign in ("max search depth too small", "Search not completed", "out of memory", "reached -DMEMLIM"):
        if sign in text:
            return f"not finished ({sign})"
    return "pass" if "errors: 0" in text else "no result"


def build(run: Run, work: Path, settings: Settings) -> Path:
    """Generate and compile the verifier of a run in `work`.  Raises SpinError with the tools' own words."""
    extra, _ = _PAN[run.kind]
    said = _call(["spin", "-a", *shlex.split(run.defines), str(MODELS / run.model)], work, 120, settings.nice)
    if not (work / "pan.c").exists() or "Error" in said:
        raise SpinError(f"{run.name}: spin refused {run.model}:\n{said.strip()}")
    flags = [*shlex.split(settings.cflags), *extra, f"-DMEMLIM={settings.memory_mb}"]
    said = _call(["gcc", *flags, "-w", "-o", "pan", "pan.c"], work, 900, settings.nice)
    if not (work / "pan").exists():
        raise SpinError(f"{run.name}: the C compiler refused the verifier:\n{said.strip()[-2000:]}")
    return work / "pan"


def execute(run: Run, settings: Settings) -> Outcome:
    """Verify one run in a directory of its own, removed afterwards."""
    _, arguments = _PAN[run.kind]
    with tempfile.TemporaryDirectory(prefix="baton-spin-") as directory:
        work = Path(directory)
        pan = build(run, work, settings)
        start = time.monotonic()
        text = _call(
            [str(pan), "-m5000000", "-w22", *arguments], work, max(60, TIMEOUT_FACTOR * run.budget), settings.nice
        )
        seconds = time.monotonic() - start
        outcome = Outcome(
            _verdict(text), int(_number(r"(\d+) states, stored", text)), int(_number(r"(\d+) transitions", text)),
            _number(r"([\d.]+)\s+total actual memory usage", text), seconds,
            _counterexample(run, pan, work, arguments, settings) if run.draw else (),
        )  # fmt: skip
    return outcome


def _counterexample(run: Run, pan: Path, work: Path, arguments: list[str], settings: Settings) -> tuple[str, ...]:
    """The lines that the model prints along a short counterexample."""
    for depth in SHORT_DEPTHS:
        for old in work.glob("*.trail"):
            old.unlink()
        text = _call([str(pan), f"-m{depth}", "-w20", *arguments], work, 120, settings.nice)
        if _verdict(text) in ("cycle", "assertion"):
            break
    trail = next(iter(work.glob("*.trail")), None)
    if trail is None:
        return ()
    said = _call(
        ["spin", "-t", "-k", trail.name, *shlex.split(run.defines), str(MODELS / run.model)], work, 120, settings.nice
    )
    return tuple(line.strip() for line in said.splitlines() if "MSC " in line or "START OF CYCLE" in line)


def matches(run: Run, outcome: Outcome) -> str | None:
    """None if the outcome is what the manifest says, else what differs."""
    if outcome.verdict != run.expect:
        return f"expected {run.expect}, got {outcome.verdict}"
    if run.states is not None and outcome.states != run.states:
        return f"expected {run.states} states, got {outcome.states}"
    return None


def as_row(run: Run, outcome: Outcome, fault: str | None) -> dict[str, Any]:
    """One line of out/models/summary.json."""
    return {"name": run.name, "about": run.about, "expect": run.expect, "verdict": outcome.verdict, "states": outcome.states,
            "transitions": outcome.transitions, "memory_mb": outcome.memory_mb, "seconds": round(outcome.seconds, 2), "fault": fault}  # fmt: skip
