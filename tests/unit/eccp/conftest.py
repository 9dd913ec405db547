# SPDX-License-Identifier: Apache-2.0
"""Whole peers are tested with either data path; what set-up has not compiled fails, it is not left out."""

from collections.abc import Iterator

import pytest

from controller.eccp.datapath.choice import best
from controller.eccp.errors import ConfigError


@pytest.fixture(scope="module", params=["python", "c"])
def datapath(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every peer that the module makes has this data path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATON_ECCP_DATAPATH", request.param)
        try:
            assert best().name == request.param
        except ConfigError as error:
            pytest.fail(str(error), pytrace=False)
        yield request.param
