# SPDX-License-Identifier: Apache-2.0
"""The data path in C: bytes, counts and refusals are those of the one in Python, and no access is out of bounds.

`BATON_FUZZ=N` makes it N thirds as long.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.eccp.compare_datapaths import compare

from controller.eccp.datapath.choice import LIBRARY
from controller.eccp.datapath.in_c import InC

ROUNDS = 5000 * int(os.environ.get("BATON_FUZZ", "3"))
ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "controller" / "eccp" / "datapath" / "runs.c"
SANITIZERS = "-fsanitize=address,undefined"


@pytest.mark.parametrize("seed", range(3))
def test_both_do_the_same(seed: int) -> None:
    assert LIBRARY.exists(), "run 'make setup', which compiles it"
    assert compare(InC(LIBRARY), seed, ROUNDS) > ROUNDS / 10


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with address and undefined behaviour sanitizers, all warnings being errors."""
    path = tmp_path_factory.mktemp("sanitized") / "runs.so"
    strict = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
    command = ["cc", "-std=c11", "-O1", "-g", *strict, SANITIZERS, "-fno-sanitize-recover=all", "-fPIC", "-shared"]
    made = subprocess.run([*command, "-o", path, SOURCE, "-lcrypto"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return path


def _run(library: Path, rounds: str) -> subprocess.CompletedProcess[str]:
    """Run the comparison in a process whose memory the sanitizer watches, Python's own small objects included."""
    runtime = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }
    script = Path(__file__).with_name("compare_datapaths.py")
    return subprocess.run(
        [sys.executable, script, library, rounds], capture_output=True, text=True, check=False, env=environment
    )


def test_no_access_is_out_of_bounds(sanitized: Path) -> None:
    result = _run(sanitized, str(ROUNDS))
    assert result.returncode == 0, result.stderr[-3000:]
    assert int(result.stdout) > ROUNDS / 10


def test_an_access_out_of_bounds_would_be_seen(sanitized: Path) -> None:
    result = _run(sanitized, "overrun")
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stderr
