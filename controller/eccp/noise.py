# SPDX-License-Identifier: Apache-2.0
"""The Noise handshakes XX and XXpsk3 with X25519, AES-GCM and SHA-256 (Noise Protocol Framework, revision 34).

Pure: key pairs are handed in, nothing is drawn at random here.  Only the three messages of XX are here, as a table
of tokens; the primitives are the ``cryptography`` library's.
"""

from __future__ import annotations

import copy
import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.eccp.errors import RefusedError

KEY_SIZE = 32
TAG_SIZE = 16
MESSAGES: dict[bool, tuple[tuple[str, ...], ...]] = {
    False: (("e",), ("e", "ee", "s", "es"), ("s", "se")),
    True: (("e",), ("e", "ee", "s", "es"), ("s", "se", "psk")),
}


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> tuple[bytes, ...]:
    """Noise's HKDF (section 4.3): ``outputs`` (2 or 3) keys of 32 bytes."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    result: list[bytes] = []
    last = b""
    for counter in range(1, outputs + 1):
        last = hmac.digest(temporary, last + bytes((counter,)), "sha256")
        result.append(last)
    return tuple(result)


def public_bytes(private: X25519PrivateKey) -> bytes:
    """The 32 public bytes of a key pair."""
    return private.public_key().public_bytes_raw()


class SymmetricState:
    """Chaining key, handshake hash and current cipher key (section 5.2)."""

    def __init__(self, protocol: bytes) -> None:
        self.hash = protocol.ljust(32, b"\0") if len(protocol) <= 32 else hashlib.sha256(protocol).digest()
        self.chaining_key = self.hash
        self._cipher: AESGCM | None = None
        self._counter = 0

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, key = hkdf(self.chaining_key, material, 2)
        self._set_key(key)

    def mix_key_and_hash(self, material: bytes) -> None:
        self.chaining_key, digest, key = hkdf(self.chaining_key, material, 3)
        self.mix_hash(digest)
        self._set_key(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = plaintext
        if self._cipher is not None:
            sealed = self._cipher.encrypt(self._next_nonce(), plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        plaintext = sealed
        if self._cipher is not None:
            try:
                plaintext = self._cipher.decrypt(self._next_nonce(), sealed, self.hash)
            except (InvalidTag, ValueError) as error:
                raise RefusedError("handshake-forged") from error
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """Transport secrets: initiator to responder, responder to initiator."""
        first, second = hkdf(self.chaining_key, b"", 2)
        return first, second

    @property
    def has_key(self) -> bool:
        return self._cipher is not None

    def _set_key(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0

    def _next_nonce(self) -> bytes:
        nonce = b"\0\0\0\0" + self._counter.to_bytes(8, "big")
        self._counter += 1
        return nonce


class NoiseXX:
    """One side of an XX (or, with ``psk``, XXpsk3) handshake: three messages, then `split`."""

    def __init__(
        self,
        *,
        initiator: bool,
        static: X25519PrivateKey,
        ephemeral: X25519PrivateKey,
        prologue: bytes = b"",
        psk: bytes | None = None,
    ) -> None:
        name = b"Noise_XXpsk3_25519_AESGCM_SHA256" if psk is not None else b"Noise_XX_25519_AESGCM_SHA256"
        self.state = SymmetricState(name)
        self.state.mix_hash(prologue)
        self.remote_static: bytes | None = None
        self._initiator = initiator
        self._static = static
        self._ephemeral = ephemeral
        self._remote_ephemeral: bytes | None = None
        self._psk = psk
        self._messages = MESSAGES[psk is not None]
        self._step = 0

    def copy(self) -> NoiseXX:
        """An independent copy: a message that may be forged is tried on it."""
        twin = copy.copy(self)
        twin.state = copy.copy(self.state)
        return twin

    @property
    def handshake_hash(self) -> bytes:
        """Hash over everything said so far: what identities sign."""
        return self.state.hash

    @property
    def is_finished(self) -> bool:
        return self._step == len(self._messages)

    def split(self) -> tuple[bytes, bytes]:
        """Secrets (initiator to responder, responder to initiator), 32 bytes each, after the third message."""
        return self.state.split()

    def write_header(self) -> bytes:
        """All tokens of the next message; `write_payload` must follow (a payload may sign the hash in between)."""
        parts: list[bytes] = []
        for token in self._messages[self._step]:
            if token == "e":
                public = public_bytes(self._ephemeral)
                self.state.mix_hash(public)
                if self._psk is not None:
                    self.state.mix_key(public)
                parts.append(public)
            elif token == "s":
                parts.append(self.state.encrypt_and_hash(public_bytes(self._static)))
            else:
                self._mix(token)
        return b"".join(parts)

    def write_payload(self, payload: bytes) -> bytes:
        """Seal the payload and step to the next message."""
        self._step += 1
        return self.state.encrypt_and_hash(payload)

    def read_header(self, message: bytes) -> bytes:
        """Process all tokens; returns the still sealed payload for `read_payload`.  Raises `RefusedError`."""
        rest = message
        for token in self._messages[self._step]:
            if token == "e":
                public, rest = _cut(rest, KEY_SIZE)
                self._remote_ephemeral = public
                self.state.mix_hash(public)
                if self._psk is not None:
                    self.state.mix_key(public)
            elif token == "s":
                sealed, rest = _cut(rest, KEY_SIZE + (TAG_SIZE if self.state.has_key else 0))
                self.remote_static = self.state.decrypt_and_hash(sealed)
            else:
                self._mix(token)
        return rest

    def read_payload(self, sealed: bytes) -> bytes:
        """Open the payload and step to the next message."""
        payload = self.state.decrypt_and_hash(sealed)
        self._step += 1
        return payload

    def _mix(self, token: str) -> None:
        if token == "psk":
            assert self._psk is not None
            self.state.mix_key_and_hash(self._psk)
        elif token == "ee":
            self.state.mix_key(_exchange(self._ephemeral, self._remote_ephemeral))
        elif (token == "es") == self._initiator:
            self.state.mix_key(_exchange(self._ephemeral, self.remote_static))
        else:
            self.state.mix_key(_exchange(self._static, self._remote_ephemeral))


def _exchange(private: X25519PrivateKey, public: bytes | None) -> bytes:
    if public is None:
        raise RefusedError("handshake-order")
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # an all-zero result: a low-order point (RFC 7748 section 6.1)
        raise RefusedError("handshake-weak-key") from error


def _cut(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise RefusedError("handshake-short", f"{len(data)} bytes where {size} are due")
    return data[:size], data[size:]
