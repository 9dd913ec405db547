# SPDX-License-Identifier: Apache-2.0
"""Keys of a session, agreed by two agents: X25519 with fresh keys, both halves signed, then HKDF-SHA256.

Each session's keys are its own; whoever reads the agents' messages does not learn them, whoever changes one is found
out by the signatures over offer and acceptance.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from controller.p4sync.entries import SessionKeys
from controller.p4sync.errors import PeerError

INFO = b"baton p4sync session keys 1"
LENGTH = 8 + 8 + 15 + 8


def new_half() -> tuple[X25519PrivateKey, str]:
    """Return a fresh private key, and its public half in hexadecimal."""
    key = X25519PrivateKey.generate()
    return key, key.public_key().public_bytes_raw().hex()


def agree(own: X25519PrivateKey, other: str, offer: bytes, acceptance: bytes) -> SessionKeys:
    """Return the session's keys from our half, the other's and what both have signed; raises PeerError."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(other)))
    except ValueError as error:
        raise PeerError(f"not a key share: {error}") from error
    digest = hashes.Hash(hashes.SHA256())
    digest.update(len(offer).to_bytes(4, "big") + offer + acceptance)
    secret = HKDF(hashes.SHA256(), LENGTH, salt=digest.finalize(), info=INFO).derive(shared)
    poly = int.from_bytes(secret[16:31], "big") or 1  # 0 would compress everything to 0
    return SessionKeys(
        int.from_bytes(secret[:8], "big"),
        int.from_bytes(secret[8:16], "big"),
        poly,
        int.from_bytes(secret[31:39], "big"),
    )
