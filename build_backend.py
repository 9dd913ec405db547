# SPDX-License-Identifier: Apache-2.0
"""PEP 517 build backend: setuptools, plus the start-up line that lets Ryu run on today's eventlet.

A ``.pth`` file beside the installed packages is run by ``site`` at every interpreter start. setuptools has no
setting that puts one there for ``pip install -e .`` as well, so the two wheel hooks add it to the finished wheel.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 (hooks that the front end calls)
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

PTH_NAME = "baton_ryu.pth"
# Must never raise: the interpreter would complain at every start after the checkout has moved.
PTH_LINE = (
    'import sys; exec("try:\\n from controller.openflow.eventlet_compat import install\\n'
    'except ImportError:\\n pass\\nelse:\\n install()")\n'
)


def build_wheel(directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build the wheel and add the start-up line."""
    return _with_pth(directory, build_meta.build_wheel(directory, config_settings, metadata_directory))


def build_editable(directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build the editable wheel and add the start-up line."""
    return _with_pth(directory, build_meta.build_editable(directory, config_settings, metadata_directory))


def _with_pth(directory: str, name: str) -> str:
    """Rewrite the wheel with ``baton_ryu.pth`` in it and listed in its RECORD, so that uninstalling removes it."""
    path = Path(directory) / name
    finished = path.with_suffix(".tmp")
    line = PTH_LINE.encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(line).digest()).rstrip(b"=").decode()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(finished, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                data += f"{PTH_NAME},sha256={digest},{len(line)}\n".encode()
            new.writestr(item, data)
        new.writestr(PTH_NAME, line)
    os.replace(finished, path)
    return name
