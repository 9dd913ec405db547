# SPDX-License-Identifier: Apache-2.0
"""The checks of ``baton doctor``: each looks at one part and says what it found and, if wrong, the mend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from controller.analyser.engines import choose_engine
from controller.analyser.errors import AnalyserError
from controller.cli.clean import find_leftovers
from controller.cli.trial_switch import TrialError, try_switch
from controller.config import config_path, load, make_run_dir
from controller.core.errors import BatonError, ConfigError

SETUP = "run 'sudo make setup'"
ACTIONS = (
    "inc_tcp_seq:1",
    "dec_tcp_seq:1",
    "inc_tcp_ack:1",
    "dec_tcp_ack:1",
    "inc_tcp_tsval:1",
    "inc_tcp_tsecr:1",
    "shift_tcp_window:1",
    "set_tcp_window:0",
    "inc_ip_id:1",
)
COMMANDS = {"ip": "iproute2", "ethtool": "ethtool", "tcpdump": "tcpdump", "tmux": "tmux"}
OPENFLOW_PORT = 6653


class Status(StrEnum):
    """How a part is; a warning is something to know that stops nothing."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found of one part."""

    part: str
    status: Status
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields for JSON; no mend where none is needed."""
        return asdict(self) | ({"mend": ""} if self.status is Status.OK else {})


@dataclass(frozen=True, slots=True)
class Check:
    """A function of the repository that yields findings; slow ones start processes of their own."""

    run: Callable[[Path], Iterator[Finding]]
    is_slow: bool = False


def _judge(part: str, good: bool, detail: str, mend: str) -> Finding:
    """Return an OK or FAILED finding."""
    return Finding(part, Status.OK if good else Status.FAILED, detail, "" if good else mend)


def ovs_prefix(repository: Path) -> Path:
    """Return where the modified Open vSwitch is: $BATON_OVS_PREFIX, else build/ovs."""
    return Path(os.environ.get("BATON_OVS_PREFIX") or repository / "build" / "ovs")


def check_user(repository: Path) -> Iterator[Finding]:
    """Networks need root."""
    root = os.geteuid() == 0
    detail = "root" if root else "not root: unit tests work, networks do not"
    yield Finding("user", Status.OK if root else Status.WARNING, detail, "use sudo for demo, tests and topo.py")


def check_python(repository: Path) -> Iterator[Finding]:
    """The interpreter, its framework, and the pinned packages."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield _judge("Python", sys.version_info >= (3, 11), f"{version} in {sys.prefix}", "use Debian 12 or newer")
    wrong = []
    for name, wanted in pinned_packages((repository / "requirements.txt").read_text()):
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != wanted:
            wrong.append(f"{name} {found} instead of {wanted}")
    yield _judge("Python packages", not wrong, ", ".join(wrong) or "as pinned in requirements.txt", SETUP)
    seen = find_spec("mininet") is not None
    yield _judge("Mininet", seen, "its Python module is seen" if seen else "no module mininet", SETUP)


def pinned_packages(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, version) of each line of a requirements file that applies to this Python."""
    for line in text.splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)\s*(?:;\s*python_version\s*<\s*\"3\.(\d+)\")?", line)
        if match and (match.group(3) is None or sys.version_info < (3, int(match.group(3)))):
            yield match.group(1), match.group(2)


def check_framework(repository: Path) -> Iterator[Finding]:
    """Does the framework start? On Ryu that includes the start-up line that mends eventlet."""
    code = (
        "from controller.openflow.choice import choose\nname = choose()\n"
        "if name == 'ryu': import ryu.cmd.manager\n"
        "from importlib.metadata import version\nprint(name, version(name.replace('_', '-')))"
    )
    done = _call([sys.executable, "-c", code])
    detail = done.stdout.strip() if done.returncode == 0 else _last_line(done.stderr)
    yield _judge("OpenFlow framework", done.returncode == 0, detail, SETUP)


def check_commands(repository: Path) -> Iterator[Finding]:
    """Programs that the network is built with."""
    missing = {command: package for command, package in COMMANDS.items() if shutil.which(command) is None}
    mend = f"apt-get install --no-install-recommends {' '.join(missing.values())}"
    yield _judge("commands", not missing, f"missing: {', '.join(missing)}" if missing else "all there", mend)


def check_ovs(repository: Path) -> Iterator[Finding]:
    """The modified Open vSwitch and its actions."""
    prefix = ovs_prefix(repository)
    daemon, ofctl = prefix / "sbin" / "ovs-vswitchd", prefix / "bin" / "ovs-ofctl"
    if not daemon.exists():
        yield Finding("Open vSwitch", Status.FAILED, f"not built: there is no {daemon}", SETUP)
        return
    done = _call([str(daemon), "--version"])
    version = (done.stdout.splitlines() or [_last_line(done.stderr)])[0]
    yield _judge("Open vSwitch", done.returncode == 0, f"{version} in {prefix}", "ovs_actions/build.sh --force")
    lacking = []
    for action in ACTIONS:
        if _call([str(ofctl), "parse-flow", f"tcp,actions={action}"]).returncode != 0:
            lacking.append(action.partition(":")[0])
    detail = f"lacks {', '.join(lacking)}" if lacking else f"all {len(ACTIONS)} there"
    yield _judge(
        "TCP actions",
        not lacking,
        detail,
        "the build is not of this checkout: run 'make setup', or ovs_actions/build.sh --force",
    )


def check_datapath(repository: Path) -> Iterator[Finding]:
    """A userspace switch with TSO, and links with offload settings, in a namespace that vanishes at once."""
    if os.geteuid() != 0:
        yield Finding("datapath", Status.WARNING, "not tried: needs root", "sudo .venv/bin/baton doctor")
        return
    with tempfile.TemporaryDirectory(prefix="baton-doctor-") as directory:
        try:
            facts = try_switch(ovs_prefix(repository), Path(directory))
        except TrialError as error:
            yield Finding("datapath", Status.FAILED, str(error), error.mend)
            return
    yield Finding("datapath", Status.OK, "a userspace switch starts and forwards a TCP connection")
    detail = "TSO in the switch, offloads of links can be set" if facts.has_tso else facts.tso_log
    yield _judge("offloads", facts.has_tso, detail, "see 'Offloads' in docs/troubleshooting.md")


def check_analyser(repository: Path) -> Iterator[Finding]:
    """The intrusion-detection system."""
    try:
        engine = choose_engine()
    except (AnalyserError, BatonError) as error:
        yield Finding("analyser", Status.FAILED, str(error), SETUP)
        return
    done = _call([engine.program, "-V"])
    text = done.stdout + done.stderr
    version = re.search(r"[Vv]ersion:? (\S+)", text)
    yield _judge(
        "analyser", bool(version), f"{engine.name} {version.group(1) if version else text.strip()[:80]}", SETUP
    )


def check_settings(repository: Path) -> Iterator[Finding]:
    """The configuration and the run directory."""
    path = config_path()
    try:
        load(path)
        yield Finding("settings", Status.OK, f"{path} is valid")
    except ConfigError as error:
        yield Finding("settings", Status.FAILED, str(error), f"correct {path}")
    try:
        yield Finding("run directory", Status.OK, str(make_run_dir()))
    except ConfigError as error:
        yield Finding("run directory", Status.FAILED, str(error), "set BATON_RUN_DIR to a directory of yours")


def check_port(repository: Path) -> Iterator[Finding]:
    """Is the OpenFlow port free?"""
    listeners = _listeners(OPENFLOW_PORT)
    detail = f"TCP port {OPENFLOW_PORT} is in use" if listeners else f"TCP port {OPENFLOW_PORT} is free"
    mend = f"stop that controller ('ss -ltnp sport = :{OPENFLOW_PORT}'), or start ours with --ofp-tcp-listen-port"
    yield Finding("ports", Status.WARNING if listeners else Status.OK, detail, mend)


def _listeners(port: int) -> bool:
    """Tell whether anything listens on a TCP port of this machine, without touching it (/proc/net/tcp, state 0A)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        if any(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in map(str.split, lines)):
            return True
    return False


def check_leftovers(repository: Path) -> Iterator[Finding]:
    """What crashed runs left."""
    left = find_leftovers(repository)
    detail = "; ".join(left[:5]) + (f"; and {len(left) - 5} more" if len(left) > 5 else "")
    yield Finding("leftovers", Status.WARNING if left else Status.OK, detail or "none", "make clean")


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, at most a minute."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _last_line(text: str) -> str:
    """Return the last line of an error output: with Python that is the reason."""
    return (text.strip().splitlines() or ["no output"])[-1]


CHECKS = (
    Check(check_user),
    Check(check_python),
    Check(check_framework, is_slow=True),
    Check(check_commands),
    Check(check_ovs),
    Check(check_datapath, is_slow=True),
    Check(check_analyser),
    Check(check_settings),
    Check(check_port),
    Check(check_leftovers),
)
