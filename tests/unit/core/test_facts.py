# SPDX-License-Identifier: Apache-2.0
"""What a SYN-ACK says survives as pairs of name and number."""

from __future__ import annotations

import pytest

from controller.core.facts import Opened, opened_of, pairs_of
from controller.core.options import Agreement

FULL = Opened(7, 8, Agreement(1460, 1400, 7, 0, sack=True, timestamps=True, ecn=False))
BARE = Opened(7, 0, Agreement(536, 536, None, None, sack=False, timestamps=False, ecn=True))


@pytest.mark.parametrize("opened", [FULL, BARE])
def test_round_trip(opened: Opened) -> None:
    """With every option and with none; a scale of 0 is not the same as none."""
    assert opened_of(pairs_of(opened)) == opened


@pytest.mark.parametrize("pairs", [(), pairs_of(FULL)[1:], (*pairs_of(FULL), ("more", 1))])
def test_other_pairs(pairs: tuple[tuple[str, int], ...]) -> None:
    """Those of another release tell nothing."""
    assert opened_of(pairs) is None
