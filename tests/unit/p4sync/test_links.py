# SPDX-License-Identifier: Apache-2.0
"""Frames between agents: whatever arrives is a frame, the end, or PeerError; only the signer's body is believed."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.p4sync import keys, links
from controller.p4sync.errors import PeerError, SettingsError
from controller.p4sync.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def receive_all(data: bytes) -> list[Any]:
    """Feed a stream to a link; its frames, with the error it ended with, if it did."""

    async def run() -> list[Any]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        link = links.Link(reader, None)  # type: ignore[arg-type]
        found: list[Any] = []
        try:
            while (frame := await link.receive()) is not None:
                found.append(frame)
        except PeerError as error:
            found.append(error)
        return found

    return asyncio.run(run())


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    assert all(isinstance(found, (dict, PeerError)) for found in receive_all(data))


@given(json_values)
def test_any_json(value: Any) -> None:
    data = json.dumps(value).encode()
    found = receive_all(struct.pack("!I", len(data)) + data)
    good = isinstance(value, dict) and isinstance(value.get("kind"), str)
    assert (found == [value]) if good else isinstance(found[0], PeerError)


def test_frames_one_behind_the_other() -> None:
    frames = [{"kind": "a", "n": 1}, {"kind": "b"}]
    data = b"".join(map(links.encode_frame, frames))
    assert receive_all(data) == frames
    assert receive_all(data[:-1]) == frames[:1]
    assert isinstance(receive_all(b"\xff\xff\xff\xff")[0], PeerError)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Any, Any]:
    keys.new_pair(keys.ED25519, tmp_path / "k", tmp_path / "p")
    return keys.load_private(tmp_path / "k"), keys.load_public(tmp_path / "p")


def test_only_what_was_signed_is_opened(pair: tuple[Any, Any]) -> None:
    frame = links.signed(pair[0], "submit", {"session": 5})
    assert links.opened(pair[1], frame) == {"session": 5}
    for changes in (
        {"kind": "discard"},
        {"body": '{"session":6}'},
        {"body": None},
        {"signature": "00"},
        {"signature": "xx"},
        {"signature": None},
    ):
        with pytest.raises(PeerError):
            links.opened(pair[1], frame | changes)
    for text in ("[]", "{", "3"):
        signature = keys.sign(pair[0], "submit", text.encode()).hex()
        with pytest.raises(PeerError, match="without a body"):
            links.opened(pair[1], {"kind": "submit", "body": text, "signature": signature})


@pytest.mark.parametrize("value", [None, "1", -2, 1 << 64, 1.0, True])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(PeerError, match="session"):
        links.number({"kind": "look", "session": value}, "session")


def test_a_socket_of_somebody_who_lives_is_not_taken(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"

    async def nothing(link: links.Link) -> None:
        await link.receive()

    async def run() -> None:
        server = await links.listen(address, nothing)
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        with pytest.raises(SettingsError, match="already"):
            await links.listen(address, nothing)
        server.close()
        await server.wait_closed()
        if not (tmp_path / "s").exists():
            (tmp_path / "s").touch()
        again = await links.listen(address, nothing)
        again.close()
        with pytest.raises(SettingsError, match="cannot listen"):
            await links.listen(f"unix:{tmp_path}/no/s", nothing)

    asyncio.run(run())


def test_the_settings_in_the_documentation_can_be_used(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "p4sync.md").read_text(), re.DOTALL)
    path = tmp_path / "p1.toml"
    path.write_text(next(block for block in blocks if 'name = "p1"' in block))
    settings = load_settings(path)
    assert (settings.name, settings.peers["p2"].port, settings.suite) == ("p1", 3, "polynomial")
