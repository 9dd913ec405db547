# SPDX-License-Identifier: Apache-2.0
"""The series' own groups in Open vSwitch's test-suite, run by the script that users run them with.

`ovs_actions/build.sh --tests` without a selection runs upstream's groups of the parts that the series touches as well.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SERIES = REPOSITORY / "ovs_actions"
KEYWORDS = ("tcp_edit", "shift_tcp_window", "eviction", "checksums", "offloads", "segment")
"""A word of the title of each group that a patch adds."""
LIMIT = 900


def added_groups():
    """Return the titles of the groups that the patches add."""
    text = "".join(path.read_text() for path in sorted(SERIES.glob("*.patch")))
    added = re.findall(r"^\+AT_SETUP\(\[(.*)\]\)", text, re.MULTILINE)
    removed = re.findall(r"^-AT_SETUP\(\[(.*)\]\)", text, re.MULTILINE)
    return [title for title in added if title not in removed]


@pytest.mark.parametrize("title", added_groups())
def test_every_group_is_selected(title):
    words = re.findall(r"[\w-]+", title)
    assert set(words) & set(KEYWORDS), title


@pytest.mark.timeout(LIMIT)
def test_our_groups_pass():
    selection = " ".join(f"-k {word}" for word in KEYWORDS)
    done = subprocess.run(
        [SERIES / "build.sh", "--tests"],
        env={**os.environ, "OVS_TESTS": selection},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"All (\d+) tests were successful", done.stdout)  # of earlier runs too, this one's last
    assert passed, done.stdout
    assert int(passed[-1]) >= len(added_groups())
