# SPDX-License-Identifier: Apache-2.0
"""Keys of a connection, and the sealing and opening of its packets with AES-256-GCM.

The Noise handshake leaves one secret per direction.  Each flow id gets keys of its own from the secret of the
direction *towards* it, so that packet numbers, which are per flow, never repeat an AEAD nonce; and a new key after
every 2^23 packets, the limit under which AES-GCM keeps its promises (RFC 9001 section 6.6, appendix B.1).  Which key
is meant follows from the packet number alone, so nothing needs to be said about it.
"""

from __future__ import annotations

import hmac
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.eccp.errors import RefusedError

EPOCH_BITS = 23
KEPT = 3  # keys of neighbouring epochs that are kept


def derive_key(secret: bytes, label: bytes, flow: int, epoch: int) -> bytes:
    """HKDF-Expand (RFC 5869) of one 32-byte block: the key for ``flow``, purpose ``label`` and key epoch."""
    info = b"baton eccp " + label + flow.to_bytes(8, "big") + epoch.to_bytes(8, "big")
    return hmac.digest(secret, info + b"\x01", "sha256")


def nonce_of(number: int) -> bytes:
    """The 12-byte AEAD nonce of a packet number."""
    return b"\0\0\0\0" + number.to_bytes(8, "big")


class Key:
    """One AES-256-GCM key; a data path in C hangs its own contexts for it here."""

    __slots__ = ("aead", "opener", "raw", "sealer")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.aead = AESGCM(raw)
        self.sealer: Any = None
        self.opener: Any = None


class KeySchedule:
    """The keys of one flow, direction and purpose: `at` gives the one for a packet number."""

    __slots__ = ("_flow", "_keys", "_label", "_secret")

    def __init__(self, secret: bytes, label: bytes, flow: int) -> None:
        self._secret = secret
        self._label = label
        self._flow = flow
        self._keys: dict[int, Key] = {}

    def at(self, number: int) -> Key:
        """The key for packet ``number``."""
        epoch = number >> EPOCH_BITS
        key = self._keys.get(epoch)
        if key is None:
            key = Key(derive_key(self._secret, self._label, self._flow, epoch))
            while len(self._keys) >= KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[epoch] = key
        return key


class Secrets:
    """The two direction secrets of a connection as one side sees them; hands out the keys of each flow id."""

    __slots__ = ("_receive", "_send")

    def __init__(self, send: bytes, receive: bytes) -> None:
        self._send = send
        self._receive = receive

    def sender(self, remote_flow: int) -> KeySchedule:
        """Seals packets addressed to the peer's flow id."""
        return KeySchedule(self._send, b"flow", remote_flow)

    def receiver(self, local_flow: int) -> KeySchedule:
        """Opens packets addressed to our flow id."""
        return KeySchedule(self._receive, b"flow", local_flow)

    def opener_sender(self, local_flow: int) -> KeySchedule:
        """Seals a FLOW_SYN, when the peer has no id for the new flow yet: keyed by our own id."""
        return KeySchedule(self._send, b"open", local_flow)

    def opener_receiver(self, remote_flow: int) -> KeySchedule:
        """Opens a peer's FLOW_SYN, keyed by the id that stands in it."""
        return KeySchedule(self._receive, b"open", remote_flow)


def syn_ack_keys(chaining_key: bytes, flow: int) -> KeySchedule:
    """The keys under SYN-ACKs, from the handshake's state after its second message."""
    return KeySchedule(chaining_key, b"syn-ack", flow)


def left_of_epoch(number: int) -> int:
    """How many consecutive numbers from ``number`` on have its key."""
    return (1 << EPOCH_BITS) - (number & ((1 << EPOCH_BITS) - 1))


def run_of_numbers(number: int, count: int) -> int:
    """The first of ``count`` consecutive numbers from ``number`` on that all have one key: some may be skipped."""
    last = number + count - 1
    return number if number >> EPOCH_BITS == last >> EPOCH_BITS else (last >> EPOCH_BITS) << EPOCH_BITS


def seal(keys: KeySchedule, number: int, plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt under the packet number."""
    return keys.at(number).aead.encrypt(nonce_of(number), plaintext, associated)


def unseal(keys: KeySchedule, number: int, sealed: bytes, associated: bytes) -> bytes:
    """Decrypt, or raise `RefusedError` ``forged``."""
    try:
        return keys.at(number).aead.decrypt(nonce_of(number), sealed, associated)
    except (InvalidTag, ValueError) as error:
        raise RefusedError("forged") from error
