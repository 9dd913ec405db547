# SPDX-License-Identifier: Apache-2.0
"""MAC and IP addresses between text and bytes, remembered: a switch sees the same few again and again.

Text is canonical (lower case, RFC 5952 for IPv6), so that equal addresses are equal strings everywhere.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from socket import inet_ntoa

from controller.core.errors import LocalError

REMEMBERED = 16_384
"""Bound of each cache: a flood of invented addresses costs conversions, never memory."""


@lru_cache(REMEMBERED)
def decode_mac(octets: bytes) -> str:
    """Six bytes as ``02:00:00:00:00:01``."""
    return octets.hex(":")


@lru_cache(REMEMBERED)
def encode_mac(text: str) -> bytes:
    """The reverse of `decode_mac`; raises LocalError for anything else than six pairs of hexadecimal digits."""
    try:
        octets = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        octets = b""
    if len(octets) != 6 or text.count(":") != 5:
        raise LocalError(f"{text!r} is not a MAC address (six pairs of digits with colons)")
    return octets


@lru_cache(REMEMBERED)
def decode_ip(octets: bytes) -> str:
    """Four or sixteen bytes as text."""
    return inet_ntoa(octets) if len(octets) == 4 else str(ipaddress.IPv6Address(octets))


@lru_cache(REMEMBERED)
def encode_ip(text: str) -> bytes:
    """Text as four bytes (IPv4) or sixteen (IPv6); raises LocalError for what is no address."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError as error:
        raise LocalError(str(error)) from error
