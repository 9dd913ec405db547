# SPDX-License-Identifier: Apache-2.0
"""Which data path runs: the one in C if set-up has compiled it, else the one in Python.

`BATON_ECCP_DATAPATH` set to ``c`` or ``python`` insists on one.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

from controller.eccp.datapath.in_c import InC
from controller.eccp.datapath.in_python import InPython
from controller.eccp.datapath.interface import Datapath
from controller.eccp.errors import ConfigError

logger = logging.getLogger(__name__)
LIBRARY = Path(__file__).resolve().parents[3] / "build" / "eccp" / "runs.so"


def best() -> Datapath:
    """The data path of this host.  Raises `ConfigError` if the one insisted on cannot be had."""
    return _load(os.environ.get("BATON_ECCP_DATAPATH", ""))


@cache
def _load(wish: str) -> Datapath:
    if wish not in {"", "c", "python"}:
        raise ConfigError(f"BATON_ECCP_DATAPATH is {wish!r}; it may be c or python")
    if wish == "python":
        return InPython()
    try:
        return InC(LIBRARY)
    except ConfigError as error:
        if wish:
            raise
        logger.warning("%s; Python does its work meanwhile, several times slower", error)
        return InPython()
