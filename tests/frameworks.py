# SPDX-License-Identifier: Apache-2.0
"""Which of the two frameworks a test may go without: Ryu where it cannot be installed, and none anywhere else."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from controller.openflow.choice import FRAMEWORKS

RYU_ENDS = (3, 12)
"""The first Python that Ryu cannot be installed on."""
NO_RYU = "Ryu cannot be installed on Python 3.12 or newer"


def need(framework: str) -> None:
    """Skip the test on a Python that can never have this framework; fail it, with the mend, where it is missing."""
    assert framework in FRAMEWORKS
    if framework == "ryu" and sys.version_info >= RYU_ENDS:
        pytest.skip(NO_RYU)
    if find_spec(framework) is None:
        pytest.fail(f"{framework} is not installed in this Python: run 'make setup'", pytrace=False)
