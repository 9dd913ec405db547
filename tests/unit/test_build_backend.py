# SPDX-License-Identifier: Apache-2.0
"""The wheel that installing the project makes: the start-up line is in it and listed."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def backend():
    spec = importlib.util.spec_from_file_location("build_backend", ROOT / "build_backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.py", "pass\n")
        archive.writestr("x-1.dist-info/RECORD", "x.py,,\nx-1.dist-info/RECORD,,\n")
    return path


def test_the_line_is_added_and_listed(backend, wheel):
    assert backend._with_pth(str(wheel.parent), wheel.name) == wheel.name
    with zipfile.ZipFile(wheel) as archive:
        assert sorted(archive.namelist()) == ["baton_ryu.pth", "x-1.dist-info/RECORD", "x.py"]
        line = archive.read("baton_ryu.pth")
        rows = list(csv.reader(archive.read("x-1.dist-info/RECORD").decode().splitlines()))
    digest = base64.urlsafe_b64encode(hashlib.sha256(line).digest()).rstrip(b"=").decode()
    assert [row for row in rows if row[0] == "baton_ryu.pth"] == [["baton_ryu.pth", f"sha256={digest}", str(len(line))]]
    assert list(wheel.parent.iterdir()) == [wheel]


def test_the_line_is_one_import_and_survives_a_missing_project(backend):
    assert backend.PTH_LINE.startswith("import ")
    assert backend.PTH_LINE.count("\n") == 1
    missing = backend.PTH_LINE.replace("controller.openflow", "no_such_project")
    exec(missing)
