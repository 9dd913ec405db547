# SPDX-License-Identifier: Apache-2.0
"""The listener on real sockets, on native threads and on eventlet's green ones."""

from pathlib import Path

import pytest
from hub_runner import HUBS, cases_of, check_case

PROGRAM = Path(__file__).with_name("listener_cases.py")


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("case", cases_of(PROGRAM))
def test_listener(case, hub, tmp_path):
    check_case(PROGRAM, hub, case, tmp_path)
