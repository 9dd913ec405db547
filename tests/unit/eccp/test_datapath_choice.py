# SPDX-License-Identifier: Apache-2.0
"""Which data path is taken, and what is said when the one in C cannot be."""

import ctypes.util
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.eccp.datapath import choice
from controller.eccp.datapath.in_c import InC
from controller.eccp.datapath.interface import Labels
from controller.eccp.errors import ConfigError, LocalError
from controller.eccp.keys import Key
from controller.wire.eccp import Kind


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What one test has loaded is not the next one's."""
    choice._load.cache_clear()
    yield
    choice._load.cache_clear()


def test_c_is_taken_where_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATON_ECCP_DATAPATH", raising=False)
    assert choice.LIBRARY.exists(), "run 'make setup', which compiles it"
    assert choice.best().name == "c"
    monkeypatch.setenv("BATON_ECCP_DATAPATH", "python")
    assert choice.best().name == "python"


def test_without_it_python_does_the_work_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("BATON_ECCP_DATAPATH", raising=False)
    monkeypatch.setattr(choice, "LIBRARY", tmp_path / "runs.so")
    with caplog.at_level(logging.WARNING):
        assert choice.best().name == "python"
    assert "make setup" in caplog.text


def test_who_insists_on_c_gets_it_or_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BATON_ECCP_DATAPATH", "c")
    monkeypatch.setattr(choice, "LIBRARY", tmp_path / "runs.so")
    with pytest.raises(ConfigError, match="make setup"):
        choice.best()
    monkeypatch.setenv("BATON_ECCP_DATAPATH", "rust")
    with pytest.raises(ConfigError, match="may be c or python"):
        choice.best()


def test_another_library_is_not_taken_for_it(tmp_path: Path) -> None:
    other = ctypes.util.find_library("crypto")
    assert other is not None
    with pytest.raises(ConfigError, match="make setup"):
        InC(Path(other))
    (tmp_path / "runs.so").write_bytes(b"not a library")
    with pytest.raises(ConfigError, match="make setup"):
        InC(tmp_path / "runs.so")


def test_a_library_of_other_sources_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.eccp.datapath.in_c.INTERFACE", -1)
    with pytest.raises(ConfigError, match="another version"):
        InC(choice.LIBRARY)


def test_keys_of_a_wrong_size_are_refused() -> None:
    key = Key(bytes(32))
    key.raw = bytes(16)
    with pytest.raises(LocalError, match="AES-256-GCM"):
        InC(choice.LIBRARY).seal(key, Labels(Kind.DATA, 1, 1, 1), bytes(8), b"x", 0, 1, 1)
