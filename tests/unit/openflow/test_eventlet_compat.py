# SPDX-License-Identifier: Apache-2.0
"""Ryu on today's eventlet: the name that is put back, and when it is."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from frameworks import NO_RYU, RYU_ENDS

from controller.openflow.eventlet_compat import AlreadyHandled, restore


def run(code):
    """Run code in a fresh interpreter, start-up lines included; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_a_module_without_the_name_gets_it():
    module = ModuleType("eventlet.wsgi")
    module.WSGI_LOCAL = SimpleNamespace(already_handled=False)
    restore(module)
    assert list(module.ALREADY_HANDLED) == []
    assert module.WSGI_LOCAL.already_handled is True


def test_a_module_that_has_the_name_keeps_it():
    module = ModuleType("eventlet.wsgi")
    module.ALREADY_HANDLED = marker = object()
    restore(module)
    assert module.ALREADY_HANDLED is marker


def test_iterating_without_eventlets_thread_local_is_harmless():
    assert list(AlreadyHandled(ModuleType("eventlet.wsgi"))) == []


@pytest.mark.skipif(sys.version_info >= RYU_ENDS, reason=NO_RYU)
class TestInstalled:
    """The start-up line that installing the project puts beside the packages."""

    def test_ryu_imports_in_a_fresh_interpreter(self):
        out, _ = run("import ryu.app.wsgi, eventlet.wsgi; print(type(eventlet.wsgi.ALREADY_HANDLED).__name__)")
        assert out == "AlreadyHandled"

    def test_nothing_else_is_imported_at_start(self):
        out, _ = run("import sys; print([m for m in sys.modules if m.startswith(('eventlet', 'ryu', 'controller.'))])")
        assert out == "['controller.openflow', 'controller.openflow.eventlet_compat']"

    def test_eventlets_advice_to_leave_it_is_not_shown(self):
        _, err = run("import eventlet")
        assert err == ""
