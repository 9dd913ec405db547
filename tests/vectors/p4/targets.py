# SPDX-License-Identifier: Apache-2.0
"""Which targets a test runs on: the embedded one always, bmv2 where it is installed; the test's name says which."""

from __future__ import annotations

import shutil

import pytest

from .bed import BMV2

TARGETS = [
    "embedded",
    pytest.param(
        "bmv2",
        marks=pytest.mark.skipif(shutil.which(BMV2) is None, reason=f"{BMV2} is not on PATH (no registry has it)"),
    ),
]
