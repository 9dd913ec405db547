# SPDX-License-Identifier: Apache-2.0
"""Give ``eventlet.wsgi`` back the one name that Ryu 4.34 still imports from it.

Ryu's ``ryu.app.wsgi`` imports ``eventlet.wsgi.ALREADY_HANDLED``, which eventlet 0.31 replaced by
``WSGI_LOCAL.already_handled``; the last eventlet that has it does not import on Python 3.10 or newer.
``baton_ryu.pth`` (put beside the installed packages by ``build_backend.py``) calls ``install`` when the
interpreter starts, so ``ryu-manager`` works as it is, and no installed file is edited.
Only standard modules that the interpreter has loaded anyway are imported here: it runs at every start.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder

WATCHED = "eventlet.wsgi"


class AlreadyHandled:
    """What a WSGI application returns when it has answered by itself (a WebSocket): no body, eventlet is told so."""

    def __init__(self, module: object) -> None:
        """Remember the module whose ``WSGI_LOCAL`` tells eventlet, if it has one."""
        self._module = module

    def __iter__(self) -> object:
        """Iterate over nothing, after marking the request of this (green) thread as handled."""
        local = getattr(self._module, "WSGI_LOCAL", None)
        if local is not None:
            local.already_handled = True
        return iter(())


class _Finder:
    """A meta path finder that knows one module and leaves it to the path finder, but for the name put back."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the module's own spec with a loader that calls ``restore`` when the module has run."""
        if name == "eventlet":
            _silence_deprecation()
        if name != WATCHED:
            return None
        spec = PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: object) -> None:
            run(module)  # type: ignore[arg-type]
            restore(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _silence_deprecation() -> None:
    """Keep eventlet's advice to leave it from users, who cannot act on it: Ryu is bound to eventlet."""
    import warnings  # here, since most interpreters never get so far

    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")


def restore(module: object) -> None:
    """Add ``ALREADY_HANDLED`` to the module if it lacks it."""
    if not hasattr(module, "ALREADY_HANDLED"):
        module.ALREADY_HANDLED = AlreadyHandled(module)  # type: ignore[attr-defined]


def install() -> None:
    """Watch for the import of ``eventlet.wsgi``; mend it at once if it is loaded already. Safe to repeat."""
    loaded = sys.modules.get(WATCHED)
    if loaded is not None:
        restore(loaded)
    elif _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
