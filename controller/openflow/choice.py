# SPDX-License-Identifier: Apache-2.0
"""Which framework this process uses, told without importing either: Ryu has to patch modules before any is used.

Ryu where it is installed (Python <= 3.11), else OS-Ken, its maintained fork with the same interfaces. The environment
variable ``BATON_FRAMEWORK`` decides otherwise. Both cannot live in one process: what is loaded already is kept.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from controller.core.errors import BatonError

FRAMEWORKS = ("ryu", "os_ken")
ENVIRONMENT = "BATON_FRAMEWORK"


class FrameworkError(BatonError):
    """Neither framework can be used, or the one asked for is not there; the text says the mend."""


def choose() -> str:
    """Return ``ryu`` or ``os_ken``.

    Raises FrameworkError when none is installed, the one asked for is missing, or the other one is loaded already.
    """
    wanted = os.environ.get(ENVIRONMENT, "")
    if wanted and wanted not in FRAMEWORKS:
        raise FrameworkError(f"{ENVIRONMENT}={wanted}: it must be one of {', '.join(FRAMEWORKS)}")
    loaded = [name for name in FRAMEWORKS if f"{name}.base.app_manager" in sys.modules]
    if loaded:
        if wanted and wanted not in loaded:
            raise FrameworkError(f"{ENVIRONMENT}={wanted}, but {loaded[0]} is running already: unset the variable")
        return loaded[0]
    installed = [name for name in FRAMEWORKS if find_spec(name)]
    if wanted:
        if wanted not in installed:
            raise FrameworkError(f"{wanted} is not installed in this Python: run 'make setup'")
        return wanted
    if not installed:
        raise FrameworkError("neither Ryu nor OS-Ken is installed in this Python: run 'make setup'")
    return installed[0]
