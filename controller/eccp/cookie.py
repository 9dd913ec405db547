# SPDX-License-Identifier: Apache-2.0
"""Stateless cookies: under load, a SYN is answered by a MAC over its source that the next SYN must bring back.

Nothing is remembered about who asked (cf. DTLS, RFC 9147 section 5.1): a flood from forged addresses costs one HMAC a
packet and no memory.
"""

from __future__ import annotations

import hashlib
import hmac

from controller.wire.eccp import Address, Syn, encode_address

LIFETIME = 16.0  # seconds; a cookie is good in the period of its making and the next


class CookieJar:
    """Bakes and checks cookies under one secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def bake(self, syn: Syn, source: Address, now: float) -> bytes:
        """The cookie (20 bytes) for this SYN from this source now."""
        return self._bake(syn, source, int(now // LIFETIME))

    def is_good(self, syn: Syn, source: Address, now: float) -> bool:
        """Whether the SYN's cookie is ours, for it, and recent."""
        period = int(now // LIFETIME)
        return any(
            hmac.compare_digest(syn.cookie, self._bake(syn, source, candidate)) for candidate in (period, period - 1)
        )

    def _bake(self, syn: Syn, source: Address, period: int) -> bytes:
        stamp = (period & 0xFFFFFFFF).to_bytes(4, "big")
        fields = (stamp, encode_address(source), syn.flow.to_bytes(8, "big"), hashlib.sha256(syn.noise).digest())
        return stamp + hmac.digest(self._secret, b"".join(fields), "sha256")[:16]
