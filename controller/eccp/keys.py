# SPDX-License-Identifier: Apache-2.0
"""Keys of a connection, and the sealing and opening of its packets with AES-256-GCM.

The Noise handshake leaves one secret per direction.  Each flow id gets a key of its own from the secret of the
direction *towards* it, so that packet numbers, which are per flow, never repeat an AEAD nonce.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.eccp.errors import RefusedError

Buffer = bytes | memoryview

LAST_NUMBER = 2**64 - 1


class Cipher(Protocol):
    """What a flow needs of its AEAD; tests and the explorer may inject another."""

    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...

    def decrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...


def derive_key(secret: bytes, label: bytes, flow: int) -> bytes:
    """HKDF-Expand (RFC 5869) of one 32-byte block: a key for ``flow`` and purpose ``label``."""
    return hmac.digest(secret, b"baton eccp " + label + flow.to_bytes(8, "big") + b"\x01", "sha256")


def nonce_of(number: int) -> bytes:
    """The 12-byte AEAD nonce of a packet number."""
    return b"\0\0\0\0" + number.to_bytes(8, "big")


class Secrets:
    """The two direction secrets of a connection as one side sees them; hands out ciphers per flow id."""

    __slots__ = ("_receive", "_send")

    def __init__(self, send: bytes, receive: bytes) -> None:
        self._send = send
        self._receive = receive

    def sender(self, remote_flow: int) -> AESGCM:
        """Seals packets addressed to the peer's flow id."""
        return AESGCM(derive_key(self._send, b"flow", remote_flow))

    def receiver(self, local_flow: int) -> AESGCM:
        """Opens packets addressed to our flow id."""
        return AESGCM(derive_key(self._receive, b"flow", local_flow))

    def opener_sender(self, local_flow: int) -> AESGCM:
        """Seals a FLOW_SYN, when the peer has no id for the new flow yet: keyed by our own id."""
        return AESGCM(derive_key(self._send, b"open", local_flow))

    def opener_receiver(self, remote_flow: int) -> AESGCM:
        """Opens a peer's FLOW_SYN, keyed by the id that stands in it."""
        return AESGCM(derive_key(self._receive, b"open", remote_flow))


def syn_ack_cipher(chaining_key: bytes, flow: int) -> AESGCM:
    """The key under SYN-ACKs, from the handshake's state after its second message."""
    return AESGCM(derive_key(chaining_key, b"syn-ack", flow))


def seal(cipher: Cipher, number: int, plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt under the packet number."""
    return cipher.encrypt(nonce_of(number), plaintext, associated)


def unseal(cipher: Cipher, number: int, sealed: bytes, associated: bytes) -> bytes:
    """Decrypt, or raise `RefusedError` ``forged``."""
    try:
        return cipher.decrypt(nonce_of(number), sealed, associated)
    except (InvalidTag, ValueError) as error:
        raise RefusedError("forged") from error
