# SPDX-License-Identifier: Apache-2.0
"""The runner with a stand-in for Snort, which no Debian suite has: same options, words, signals and datagrams."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.wire.snort_alert import decode_snort_alert

REPOSITORY = Path(__file__).resolve().parents[3]
DEADLINE = 60.0
STAND_IN = f"""#!{sys.executable}
import os, re, signal, socket, sys, time
arguments = sys.argv[1:]
if arguments == ["-V"]:
    sys.exit("Version " + os.environ["SNORT"])
config = arguments[arguments.index("-c") + 1]

def sids():
    found = []
    for path in re.findall(r"^include (\\S+[.]rules)$", open(config).read(), re.M):
        for number, line in enumerate(open(path), start=1):
            if "nonsense" in line:
                place = f"{{path}}:{{number}}" if os.environ["SNORT"] > "3" else f"{{path}}({{number}})"
                sys.exit(f"ERROR: {{place}} Unknown rule option: 'nonsense'.")
            found += map(int, re.findall(r"^alert.*sid:(\\d+)", line))
    return found

if "-T" in arguments:
    sids()
    sys.exit(0)
mode = os.environ.get("SNORT_MODE")
if mode == "fails":
    sys.exit("FATAL: no such device")
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "slow":
    time.sleep(600)

def report(number, frame):
    from controller.wire.snort_alert import SnortAlert, encode_snort_alert
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(arguments[arguments.index("-l") + 1] + "/snort_alert")
    for sid in sids():
        sender.send(encode_snort_alert(SnortAlert("X", 1, sid, 1, 1, 1, 1.0, os.environ["SNORT"] > "3")))

signal.signal(signal.SIGHUP, report)
print("Commencing packet processing (pid=1)", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def snort(tmp_path):
    """`snort(version, mode)` starts the runner with the stand-in and returns (process, rules, socket)."""
    room, rules, directory = tmp_path / "bin", tmp_path / "rules", tmp_path / "run"
    for made in (room, rules, directory):
        made.mkdir(mode=0o700)
    (room / "snort").write_text(STAND_IN)
    (room / "snort").chmod(0o755)
    (rules / "baton.rules").write_text('alert tcp any any -> any any (msg:"X"; sid:5;)\n')
    (rules / "classification.config").write_text("")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(directory / "snort_alert"))
    listener.settimeout(DEADLINE)
    started = []

    def start(version="2.9.20", mode="", *arguments):
        environment = {
            "BATON_CONFIG": str(REPOSITORY / "baton.toml"),
            **os.environ,
            "PATH": f"{room}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "BATON_RUN_DIR": str(directory),
            "SNORT": version,
            "SNORT_MODE": mode,
        }
        command = [sys.executable, "-m", "controller.analyser", "--interface", "lo", "--rules", str(rules), *arguments]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process, rules / "baton.rules", listener

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    listener.close()


@pytest.mark.parametrize(("version", "is_snort3"), [("2.9.20", False), ("3.1.84.0", True)])
def test_snorts_rules_are_exchanged_by_signal(snort, version, is_snort3):
    process, rules, listener = snort(version)
    assert process.stdout.readline() == "ready\n"
    rules.write_text('alert tcp any any -> any any (msg:"X"; sid:6;)\n')
    assert process.stdout.readline() == "rules loaded\n"
    alert = decode_snort_alert(listener.recv(70_000))
    assert (alert.sid, alert.is_snort3) == (6, is_snort3)
    rules.write_text("alert tcp any any -> any any (nonsense; sid:7;)\n")
    assert process.stdout.readline() == "rules refused: baton.rules line 1: Unknown rule option: 'nonsense'\n"
    assert process.stdout.readline() == "rules unchanged: mend the file, the rules before stay in force\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("mode", "arguments", "message"),
    [
        ("fails", (), "baton: snort2 could not start on lo: FATAL: no such device\n"),
        ("slow", ("--timeout", "0.5"), "baton: snort2 reads no packets after 0.5 s: it said nothing\n"),
    ],
)
def test_a_start_that_fails_says_why(snort, mode, arguments, message):
    process, _, _ = snort("2.9.20", mode, *arguments)
    assert process.stdout.read() == message
    assert process.wait(DEADLINE) == 2


def test_a_signal_during_the_start_ends_it_at_once(snort):
    process, _, _ = snort("2.9.20", "slow", "--timeout", "600")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + DEADLINE
    while "slow" not in [running_mode(pid) for pid in children.read_text().split()]:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0
    assert process.stdout.read() == ""


def running_mode(pid):
    """The stand-in's mode, once it has been started to run (not to show its version or check rules)."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return None
    mode = [text.removeprefix("SNORT_MODE=") for text in variables if text.startswith("SNORT_MODE=")]
    return mode[0] if mode and "-l" in arguments else None


def test_an_engine_that_does_not_end_is_killed(snort):
    process, _, _ = snort("2.9.20", "stubborn")
    assert process.stdout.readline() == "ready\n"
    engine = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0
    assert not Path(f"/proc/{engine}").exists()


def test_a_socket_that_snort_cannot_name_is_refused(snort, tmp_path, monkeypatch):
    config = tmp_path / "baton.toml"
    text = (REPOSITORY / "baton.toml").read_text()
    config.write_text(text.replace("[analyser]", '[analyser]\nsnort_socket = "alerts.sock"'))
    monkeypatch.setenv("BATON_CONFIG", str(config))
    process, _, _ = snort()
    assert "always named snort_alert" in process.stdout.read()
    assert process.wait(DEADLINE) == 2
