# SPDX-License-Identifier: Apache-2.0
"""Who is there: the Noise XX handshake with Ed25519 identities, a pre-shared key, or both.

Each side's Noise payload is a `Hello` that carries its Ed25519 key and a signature over the handshake hash so far,
which covers both ephemeral keys and its own static key: an identity cannot be moved to another handshake.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from controller.eccp.errors import ConfigError, RefusedError
from controller.eccp.keys import Secrets
from controller.eccp.noise import NoiseXX
from controller.wire.eccp import Hello, MalformedMessageError, decode_hello, encode_hello

CONTEXT = {True: b"baton eccp initiator", False: b"baton eccp responder"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What this host proves itself with, and whom it lets in.

    ``identity`` is an Ed25519 key; ``psk`` 32 bytes that both ends share.  ``authorized`` holds the identities that
    may connect, or None for anybody (only with a pre-shared key).  Raises `ConfigError` if nothing would be proved.
    """

    static: X25519PrivateKey
    identity: Ed25519PrivateKey | None = None
    psk: bytes | None = None
    authorized: frozenset[bytes] | None = None

    def __post_init__(self) -> None:
        """Refuse settings under which anybody could connect."""
        if self.psk is not None and len(self.psk) != 32:
            raise ConfigError(f"the pre-shared key has {len(self.psk)} bytes; it must have 32 (`baton eccp keygen`)")
        if self.psk is None and (self.identity is None or self.authorized is None):
            raise ConfigError("nobody would be authenticated: name the peers' identities, or give a pre-shared key")

    @property
    def public_identity(self) -> bytes:
        """The 32 bytes by which peers know this host, or nothing."""
        return b"" if self.identity is None else self.identity.public_key().public_bytes_raw()


class Handshake:
    """One side of one handshake; wraps `NoiseXX` with hellos and identities."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        initiator: bool,
        ephemeral: X25519PrivateKey,
        service: int,
        flow: int,
        expected: bytes | None = None,
    ) -> None:
        prologue = b"baton eccp 1" + service.to_bytes(4, "big") + flow.to_bytes(8, "big")
        self._noise = NoiseXX(
            initiator=initiator,
            static=credentials.static,
            ephemeral=ephemeral,
            prologue=prologue,
            psk=credentials.psk,
        )
        self._credentials = credentials
        self._initiator = initiator
        self._expected = expected

    @property
    def chaining_key(self) -> bytes:
        """State after the message handled last; keys the SYN-ACK's sealed part."""
        return self._noise.state.chaining_key

    @property
    def remote_static(self) -> bytes:
        """The peer's X25519 key (32 bytes), once it was read."""
        return self._noise.remote_static or b""

    def copy(self) -> Handshake:
        """An independent copy, to try a message on that may be forged."""
        twin = copy.copy(self)
        twin._noise = self._noise.copy()
        return twin

    def write_first(self) -> bytes:
        """Noise message 1."""
        return self._noise.write_header() + self._noise.write_payload(b"")

    def read_first(self, message: bytes) -> None:
        """Process Noise message 1; raises `RefusedError`."""
        if self._noise.read_payload(self._noise.read_header(message)):
            raise RefusedError("handshake-payload", "message 1 carries a payload")

    def write_hello(self, hello: Hello) -> bytes:
        """Noise message 2 or 3 with our hello, signed."""
        head = self._noise.write_header()
        if self._credentials.identity is not None:
            signature = self._credentials.identity.sign(CONTEXT[self._initiator] + self._noise.handshake_hash)
            hello = replace(hello, identity=self._credentials.public_identity, signature=signature)
        return head + self._noise.write_payload(encode_hello(hello))

    def read_hello(self, message: bytes) -> Hello:
        """Process Noise message 2 or 3 and check who sent it; raises `RefusedError`."""
        sealed = self._noise.read_header(message)
        signed = CONTEXT[not self._initiator] + self._noise.handshake_hash
        try:
            hello = decode_hello(self._noise.read_payload(sealed))
        except MalformedMessageError as error:
            raise RefusedError("handshake-hello", str(error)) from error
        self._check_identity(hello, signed)
        return hello

    def _check_identity(self, hello: Hello, signed: bytes) -> None:
        if hello.identity:
            try:
                Ed25519PublicKey.from_public_bytes(hello.identity).verify(hello.signature, signed)
            except (InvalidSignature, ValueError) as error:
                raise RefusedError("identity-forged") from error
        authorized = self._credentials.authorized
        if self._expected is not None and hello.identity != self._expected:
            raise RefusedError("identity-unexpected", hello.identity.hex())
        if authorized is not None and hello.identity not in authorized:
            raise RefusedError("identity-unauthorized", hello.identity.hex())

    def secrets(self) -> Secrets:
        """The connection's keys, after the third message."""
        first, second = self._noise.split()
        return Secrets(first, second) if self._initiator else Secrets(second, first)


RandomBytes = Callable[[int], bytes]


def ephemeral_key(random: RandomBytes) -> X25519PrivateKey:
    """An X25519 key pair from the injected source of randomness."""
    return X25519PrivateKey.from_private_bytes(random(32))
