# SPDX-License-Identifier: Apache-2.0
"""Starting the embedded target: what is wrong is said in one line, and it stops when it is told to."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vectors.p4.client import Client

from .lab import PROGRAMS

ROOT = Path(__file__).resolve().parents[3]
FEATURES = ["--json", str(PROGRAMS / "features.json"), "--p4info", str(PROGRAMS / "features.p4info.txtpb")]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "p4src.target", *words]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-i", "1"], "PORT@INTERFACE"),
        (["-i", "700@lo"], "0 to 510"),
        (["--json", "/nonexistent"], "/nonexistent: No such file"),
        (["--json", __file__], "p4c-bm2-ss"),
        (["--json", str(PROGRAMS / "features.json"), "--p4info", __file__], "no P4Info"),
        (["--grpc-server-addr", "unix:/nonexistent/p4.sock"], "cannot listen"),
        (["--grpc-server-ssl"], "--grpc-server-key"),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interface_that_is_not_there() -> None:
    done = subprocess.run(
        command("-i", "1@nosuchif0"), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "interface nosuchif0" in done.stderr
    assert "Traceback" not in done.stderr


def test_preloaded_private_and_stopped(tmp_path: Path) -> None:
    """`--` and `--no-p4`'s neighbours are those of simple_switch_grpc; the socket is for its owner alone."""
    path = tmp_path / "p4.sock"
    words = command(*FEATURES, "--cpu-port", "255", "--", "--grpc-server-addr", f"unix:{path}")
    with subprocess.Popen(words, cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + 30
            while not path.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            client = Client(f"unix:{path}", PROGRAMS / "features.p4info.txtpb")
            client.start()
            assert client.counters("FeaturesIngress.seen") == [0, 0, 0, 0]
            client.stop()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
