# SPDX-License-Identifier: Apache-2.0
"""Keys: files that others cannot read, signatures that say who, session keys that nobody else knows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controller.p4sync import agreement, keys
from controller.p4sync.errors import PeerError, SettingsError


@pytest.fixture(params=keys.KINDS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    keys.new_pair(request.param, tmp_path / "a.key", tmp_path / "a.pub")
    return tmp_path / "a.key", tmp_path / "a.pub"


def test_a_pair_signs_and_verifies(pair: tuple[Path, Path]) -> None:
    private, public = keys.load_private(pair[0]), keys.load_public(pair[1])
    assert keys.same(private, public)
    assert pair[0].stat().st_mode & 0o777 == 0o600
    signature = keys.sign(private, "submit", b"body")
    keys.verify(public, "submit", b"body", signature)
    for kind, body, other in (
        ("submit", b"bodY", signature),
        ("discard", b"body", signature),
        ("submi", b"t\0body", signature),
        ("submit", b"body", signature[:-1] + bytes([signature[-1] ^ 1])),
        ("submit", b"body", b""),
    ):
        with pytest.raises(PeerError, match="pinned"):
            keys.verify(public, kind, body, other)


def test_another_key_is_another(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    keys.new_pair(keys.ED25519, tmp_path / "b.key", tmp_path / "b.pub")
    signature = keys.sign(keys.load_private(tmp_path / "b.key"), "submit", b"body")
    with pytest.raises(PeerError):
        keys.verify(keys.load_public(pair[1]), "submit", b"body", signature)


def test_no_file_is_overwritten(pair: tuple[Path, Path]) -> None:
    before = pair[0].read_bytes()
    for private in (pair[0], pair[0].with_name("c.key")):
        with pytest.raises(SettingsError, match="there already"):
            keys.new_pair(keys.ED25519, private, pair[1])
    assert pair[0].read_bytes() == before
    assert not pair[0].with_name("c.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_private_key_that_others_may_read(pair: tuple[Path, Path], mode: int) -> None:
    pair[0].chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        keys.load_private(pair[0])


def test_a_public_key_that_others_may_change(pair: tuple[Path, Path]) -> None:
    pair[1].chmod(0o666)
    with pytest.raises(SettingsError, match="chmod 644"):
        keys.load_public(pair[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_private_key_of_somebody_else(pair: tuple[Path, Path]) -> None:
    os.chown(pair[0], 65534, 65534)
    with pytest.raises(SettingsError, match="another user"):
        keys.load_private(pair[0])


def test_what_is_no_key(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(SettingsError, match="baton keys new"):
        keys.load_private(tmp_path / "missing.key")
    with pytest.raises(SettingsError, match=r"give the \.pub file"):
        keys.load_public(pair[0])
    junk = tmp_path / "junk.key"
    junk.write_bytes(b"junk")
    junk.chmod(0o600)
    with pytest.raises(SettingsError, match="no private key"):
        keys.load_private(junk)
    junk.write_bytes(bytes(keys.LARGEST + 1))
    with pytest.raises(SettingsError, match="too large"):
        keys.load_private(junk)
    with pytest.raises(SettingsError, match="no kind of key"):
        keys.new_pair("dsa", tmp_path / "d.key", tmp_path / "d.pub")
    with pytest.raises(SettingsError, match="--dir"):
        keys.new_pair(keys.ED25519, tmp_path / "no" / "d.key", tmp_path / "no" / "d.pub")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "agents use"),
        (lambda: rsa.generate_private_key(65537, 2048), "3072"),
    ],
)
def test_kinds_that_agents_do_not_use(tmp_path: Path, make, complaint: str) -> None:
    key = make()
    path, public = tmp_path / "x.key", tmp_path / "x.pub"
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    path.chmod(0o600)
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SettingsError, match=complaint):
        keys.load_private(path)
    with pytest.raises(SettingsError, match=complaint):
        keys.load_public(public)


def test_both_sides_agree_and_nobody_else() -> None:
    (a, half_a), (b, half_b), (m, _) = agreement.new_half(), agreement.new_half(), agreement.new_half()
    one = agreement.agree(a, half_b, b"offer", b"acceptance")
    assert one == agreement.agree(b, half_a, b"offer", b"acceptance")
    assert one != agreement.agree(b, half_a, b"offer!", b"acceptance")
    assert one != agreement.agree(b, half_a, b"offera", b"cceptance")
    assert one != agreement.agree(m, half_a, b"offer", b"acceptance")
    assert 0 < one.poly < 1 << 120
    assert str(one.key0) not in repr(one)
    for wrong in ("", "zz", "00" * 32):
        with pytest.raises(PeerError):
            agreement.agree(a, wrong, b"", b"")
