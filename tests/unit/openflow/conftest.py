# SPDX-License-Identifier: Apache-2.0
"""The frameworks' own parsers, which know our actions once these are registered."""

from __future__ import annotations

import importlib

import pytest
from frameworks import need

from controller.openflow import actions
from controller.openflow.choice import FRAMEWORKS

WITH_NICIRA = (0, 3, 4, 5)
"""Minor versions of OpenFlow for which the frameworks have Nicira actions at all."""


@pytest.fixture(params=[(name, version) for name in FRAMEWORKS for version in WITH_NICIRA], ids=str)
def parser(request):
    """Each framework's parser of each version, with our actions."""
    name, version = request.param
    need(name)
    module = importlib.import_module(f"{name}.ofproto.ofproto_v1_{version}_parser")
    actions.register_with(module)
    return module
