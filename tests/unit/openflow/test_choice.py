# SPDX-License-Identifier: Apache-2.0
"""Which framework is used."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from controller.openflow import choice


@pytest.fixture
def world(monkeypatch):
    """A process in which only the named frameworks are installed, and loaded."""
    monkeypatch.delenv(choice.ENVIRONMENT, raising=False)

    def make(installed=(), loaded=(), wanted=None):
        monkeypatch.setattr(choice, "find_spec", lambda name: object() if name in installed else None)
        for name in choice.FRAMEWORKS:
            monkeypatch.delitem(sys.modules, f"{name}.base.app_manager", raising=False)
            if name in loaded:
                monkeypatch.setitem(sys.modules, f"{name}.base.app_manager", ModuleType(name))
        if wanted is not None:
            monkeypatch.setenv(choice.ENVIRONMENT, wanted)

    return make


@pytest.mark.parametrize(
    ("installed", "loaded", "wanted", "result"),
    [
        (("ryu", "os_ken"), (), None, "ryu"),
        (("os_ken",), (), None, "os_ken"),
        (("ryu", "os_ken"), (), "os_ken", "os_ken"),
        (("ryu", "os_ken"), (), "", "ryu"),
        (("ryu", "os_ken"), ("os_ken",), None, "os_ken"),
        (("ryu", "os_ken"), ("ryu",), "ryu", "ryu"),
    ],
)
def test_choice(world, installed, loaded, wanted, result):
    world(installed, loaded, wanted)
    assert choice.choose() == result


@pytest.mark.parametrize(
    ("installed", "loaded", "wanted", "says"),
    [
        ((), (), None, "make setup"),
        (("os_ken",), (), "ryu", "ryu is not installed"),
        (("ryu", "os_ken"), (), "pox", "must be one of ryu, os_ken"),
        (("ryu", "os_ken"), ("ryu",), "os_ken", "ryu is running already"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mend(world, installed, loaded, wanted, says):
    world(installed, loaded, wanted)
    with pytest.raises(choice.FrameworkError, match=says):
        choice.choose()
