# SPDX-License-Identifier: Apache-2.0
"""What differs between Snort 2.9, Snort 3 and Suricata, as data: configuration, commands, words of their output."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.analyser.errors import AnalyserError
from controller.analyser.rules import CLASSIFICATION

TEMPLATES = Path(__file__).resolve().parent.parent.parent / "snort_rules"
"""The shipped configurations."""

SNAPLEN = "65535"


@dataclass(frozen=True, slots=True)
class Places:
    """Where an engine finds and leaves its things; ``rules`` is the directory it is to load now."""

    work: Path
    rules: Path
    eve: Path
    command: Path
    alerts: Path
    """Directory of Snort's `snort_alert` socket."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One kind of analyser.

    ``configure`` writes the configuration and returns its path; ``run`` and ``check`` return command lines;
    ``ready`` matches the line of output that says packets are being read; ``fault`` finds a fault in a rule file
    (groups ``file``, ``line`` and, if the engine says it on the same line, ``what``); ``reason`` finds the reason of
    the fault that follows. ``has_socket`` is whether rules are reloaded over a command socket (else by SIGHUP).
    """

    name: str
    program: str
    configure: Callable[[Places], Path]
    run: Callable[[str, Path, Places], list[str]]
    check: Callable[[Path], list[str]]
    ready: re.Pattern[str]
    fault: re.Pattern[str]
    reason: re.Pattern[str]
    has_socket: bool = False


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _template(name: str) -> str:
    try:
        return (TEMPLATES / name).read_text(encoding="utf-8")
    except OSError as error:
        raise AnalyserError(f"cannot read {TEMPLATES / name}: {error.strerror}; is this a complete clone?") from error


def _rule_files(places: Places) -> list[Path]:
    return sorted(places.rules.resolve().glob("*.rules"))


def _configure_suricata(places: Places) -> Path:
    text = _template("suricata.yaml")
    values = {"WORK": places.work, "RULES": places.rules, "EVE": places.eve, "COMMAND": places.command}
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return _write(places.work / f"suricata-{places.rules.name}.yaml", text)


def _configure_snort2(places: Places) -> Path:
    text = _template("snort.conf").replace(f"include {CLASSIFICATION}", f"include {places.rules / CLASSIFICATION}")
    text += "".join(f"include {places.rules / path.name}\n" for path in _rule_files(places))
    return _write(places.work / f"snort-{places.rules.name}.conf", text)


def _configure_snort3(places: Places) -> Path:
    includes = "\n".join(f"include {places.rules / path.name}" for path in _rule_files(places))
    text = _template("snort.lua") + f"\nips = {{ enable_builtin_rules = false, rules = [[\n{includes}\n]] }}\n"
    return _write(places.work / f"snort-{places.rules.name}.lua", text)


SURICATA = Engine(
    name="suricata",
    program="suricata",
    configure=_configure_suricata,
    run=lambda interface, config, places: ["suricata", "-c", str(config), f"--af-packet={interface}"],
    check=lambda config: ["suricata", "-T", "-c", str(config), "--set", "outputs.0.eve-log.enabled=no"],
    ready=re.compile(r"Engine started"),
    fault=re.compile(r'error parsing signature "(?:.*)" from file (?P<file>.+) at line (?P<line>\d+)'),
    reason=re.compile(r"^(?:E|Error): detect(?:-\S+)?: (?P<what>(?!error parsing signature).+)"),
    has_socket=True,
)
SNORT2 = Engine(
    name="snort2",
    program="snort",
    configure=_configure_snort2,
    run=lambda interface, config, places: [
        "snort", "-A", "unsock", "-N", "-l", str(places.alerts), "-c", str(config),
        "-i", interface, "-P", SNAPLEN, "-k", "none",
    ],
    check=lambda config: ["snort", "-T", "-c", str(config)],
    ready=re.compile(r"Commencing packet processing"),
    fault=re.compile(r"ERROR: (?P<file>[^()]+)\((?P<line>\d+)\):? ?(?P<what>.*)"),
    reason=re.compile(r"^ERROR: (?P<what>.+)"),
)  # fmt: skip
SNORT3 = Engine(
    name="snort3",
    program="snort",
    configure=_configure_snort3,
    run=lambda interface, config, places: [
        "snort", "-A", "alert_unixsock", "-l", str(places.alerts), "-c", str(config),
        "-i", interface, "-s", SNAPLEN, "-k", "none",
    ],
    check=lambda config: ["snort", "-T", "-c", str(config)],
    ready=re.compile(r"\+\+ \[\d+\]|Commencing packet processing"),
    fault=re.compile(r"(?:ERROR|FATAL): (?P<file>\S+?):(?P<line>\d+):? (?P<what>.*)"),
    reason=re.compile(r"^(?:ERROR|FATAL): (?P<what>.+)"),
)  # fmt: skip

ENGINES = {engine.name: engine for engine in (SNORT2, SNORT3, SURICATA)}


def choose_engine(wanted: str | None = None) -> Engine:
    """The engine asked for, else Snort where it is installed, else Suricata; raises AnalyserError without any."""
    if wanted is not None:
        engine = ENGINES[wanted]
        if shutil.which(engine.program) is None:
            raise AnalyserError(f"{engine.program} is not installed; install it, or leave --engine out")
        return engine
    if shutil.which("snort"):
        return SNORT3 if _snort_version().startswith("3") else SNORT2
    if shutil.which("suricata"):
        return SURICATA
    raise AnalyserError("neither Snort nor Suricata is installed; run `make setup`, which installs Suricata")


def _snort_version() -> str:
    try:
        done = subprocess.run(["snort", "-V"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AnalyserError(f"`snort -V` does not work ({error}); mend Snort or choose --engine suricata") from error
    found = re.search(r"Version (\d\S*)", done.stdout + done.stderr)
    if not found:
        raise AnalyserError("`snort -V` shows no version; say which it is with --engine snort2 or --engine snort3")
    return found[1]


def complaints_of(engine: Engine, output: str) -> tuple[str, ...]:
    """What an engine's check found wrong: a sentence each, with file name and line; its last words if it named none."""
    found: list[str] = []
    reason = ""
    for line in output.splitlines():
        fault = engine.fault.search(line)
        if fault:
            what = fault.groupdict().get("what") or reason or "not a rule this engine accepts"
            found.append(f"{Path(fault['file']).name} line {fault['line']}: {what.strip().rstrip('.')}")
            reason = ""
            continue
        said = engine.reason.search(line)
        if said:
            reason = said["what"]
    if found:
        return tuple(found)
    last = reason or next((line for line in reversed(output.splitlines()) if line.strip()), "no output at all")
    return (f"{engine.program} says: {last.strip()}",)
