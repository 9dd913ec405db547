# SPDX-License-Identifier: Apache-2.0
"""Keys of agents: files with checked permissions, signatures (Ed25519, or RSA-3072 with PSS), pinned public keys."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from controller.p4sync.errors import PeerError, SettingsError

ED25519, RSA = "ed25519", "rsa-3072-pss"
KINDS = (ED25519, RSA)
RSA_BITS = 3_072
LARGEST = 1 << 16
"""Bytes of a key file."""
DOMAIN = b"baton p4sync 1\0"
"""In front of everything signed: a signature means nothing elsewhere."""

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ed25519.Ed25519PublicKey | rsa.RSAPublicKey
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def new_pair(kind: str, private: Path, public: Path) -> None:
    """Make a key pair: the private file has mode 0600. Raises SettingsError; no file is ever overwritten."""
    if kind not in KINDS:
        raise SettingsError(f"no kind of key is called {kind!r}; choose {' or '.join(KINDS)}")
    key: PrivateKey
    key = ed25519.Ed25519PrivateKey.generate() if kind == ED25519 else rsa.generate_private_key(65_537, RSA_BITS)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for path in (private, public):
        if path.exists():
            raise SettingsError(f"{path} is there already; remove it first, or choose another name")
    for path, data, mode in ((private, secret, 0o600), (public, shown, 0o644)):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; choose a directory of yours with --dir") from error


def load_private(path: Path) -> PrivateKey:
    """Read our own key; raises SettingsError unless the file is ours alone and holds a key of a kind we use."""
    data = _read(path)
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise SettingsError(f"{path} belongs to another user; make a key of your own with 'baton keys new'")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(f"{path}: others may read this private key; `chmod 600 {path}`, or make a new one")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path}: no private key in PEM without a password; 'baton keys new' makes one") from error
    if not isinstance(key, PrivateKey):
        raise SettingsError(f"{path}: a {type(key).__name__}; agents use {' or '.join(KINDS)}")
    _check_size(path, key)
    return key


def load_public(path: Path) -> PublicKey:
    """Read the pinned key of another agent; raises SettingsError."""
    data = _read(path)
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"{path}: others may change whom we trust; `chmod 644 {path}`")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        mend = "that is a private key: give the .pub file" if b"PRIVATE" in data else "no public key in PEM"
        raise SettingsError(f"{path}: {mend}") from error
    if not isinstance(key, PublicKey):
        raise SettingsError(f"{path}: a {type(key).__name__}; agents use {' or '.join(KINDS)}")
    _check_size(path, key)
    return key


def _check_size(path: Path, key: PrivateKey | PublicKey) -> None:
    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)) and key.key_size < RSA_BITS:
        raise SettingsError(f"{path}: RSA of {key.key_size} bits; {RSA_BITS} at least")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise SettingsError(f"{path}: too large for a key")
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; 'baton keys new NAME' makes a pair of keys") from error


def same(private: PrivateKey, public: PublicKey) -> bool:
    """Return whether the two belong together."""
    return private.public_key() == public


def sign(key: PrivateKey, kind: str, body: bytes) -> bytes:
    """Return the signature of a message of some kind."""
    data = DOMAIN + kind.encode() + b"\0" + body
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, _PSS, hashes.SHA256())


def verify(key: PublicKey, kind: str, body: bytes, signature: bytes) -> None:
    """Raise PeerError unless the signature is this key's for this message of this kind."""
    data = DOMAIN + kind.encode() + b"\0" + body
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, _PSS, hashes.SHA256())
    except InvalidSignature as error:
        raise PeerError(f"the signature of a {kind} is not by the key that is pinned for its sender") from error
