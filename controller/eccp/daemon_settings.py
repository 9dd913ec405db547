# SPDX-License-Identifier: Apache-2.0
"""Settings of an ECCP daemon: checked once, with errors that say the mend."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from controller.eccp.errors import ConfigError
from controller.eccp.handshake import Credentials
from controller.eccp.scheduler import Policy
from controller.wire.eccp import Address

DEFAULT_PORT = 4500
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,10}\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """A host to connect to: where it is and who it must prove to be (empty: anybody with the pre-shared key)."""

    address: Address
    identity: bytes = b""


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """One daemon: its tunnel, its sockets, whom it connects to and lets in."""

    name: str
    credentials: Credentials
    inner: tuple[IPv4Interface | IPv6Interface, ...]
    port: int = DEFAULT_PORT
    interfaces: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    rendezvous: Target | None = None
    is_rendezvous: bool = False
    sealed_data: bool = True
    early_data: bool = True
    multipath: bool = False
    loopback: bool = False
    policy: Policy = Policy.PRIMARY_BACKUP
    weights: dict[str, float] = field(default_factory=dict)  # of interfaces, for the policy weighted; 1 if not named
    keepalive: float = 15.0
    probe_after: float = 1.0
    service: int = 0
    mtu: int = 1380
    test_delay: float = 0.0  # one-way delay added to what is sent, in seconds: for measurements
    peer_inner: dict[bytes, tuple[IPv4Address | IPv6Address, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not NAME.match(self.name):
            raise ConfigError(f"the name {self.name!r} must be 1-11 of a-z, 0-9 and -: it names the tunnel device")
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if not self.inner and not self.is_rendezvous:
            raise ConfigError("give this host an address inside the tunnel (--inner 10.77.0.1/24)")
        if not 576 <= self.mtu <= 9000:
            raise ConfigError(f"an inner MTU of {self.mtu} is not between 576 and 9000")


def parse_target(text: str) -> Target:
    """``HOST:PORT[#IDENTITY]`` (an IPv6 host in brackets).  Raises `ConfigError`."""
    place, _, identity = text.partition("#")
    host, separator, port = place.rpartition(":")
    if not separator:
        host, port = place, str(DEFAULT_PORT)
    try:
        address = Address(str(ip_address(host.strip("[]"))), int(port))
        if not 0 < address.port < 65536:
            raise ValueError(f"port {address.port} is out of range")
        return Target(address, parse_identity(identity) if identity else b"")
    except ValueError as error:
        raise ConfigError(f"{text!r} is not HOST:PORT or HOST:PORT#IDENTITY with a numeric address: {error}") from error


def parse_identity(text: str) -> bytes:
    """64 hexadecimal digits, as `baton eccp keygen` prints them.  Raises `ConfigError`."""
    try:
        identity = bytes.fromhex(text)
    except ValueError:
        identity = b""
    if len(identity) != 32:
        raise ConfigError(f"{text!r} is not an identity: 64 hexadecimal digits, as `baton eccp keygen` prints them")
    return identity


def parse_inner(text: str) -> IPv4Interface | IPv6Interface:
    """An inner address with its prefix length.  Raises `ConfigError`."""
    try:
        return ip_interface(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not an address with a prefix length, such as 10.77.0.1/24") from error


def parse_weight(text: str) -> tuple[str, float]:
    """``INTERFACE=NUMBER``, the number not negative.  Raises `ConfigError`."""
    interface, _, number = text.partition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not interface or not 0 <= weight < float("inf"):
        raise ConfigError(f"{text!r} is not INTERFACE=NUMBER with a number of 0 or more, such as wlan0=3")
    return interface, weight


def load_identity(path: Path, *, create: bool = True) -> Ed25519PrivateKey:
    """Read the host's identity (32 raw bytes, mode 0600), made on first use.  Raises `ConfigError`."""
    try:
        if create and not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(32))
        status = path.stat()
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot use the identity file {path}: {error.strerror}") from error
    if status.st_mode & 0o077:
        raise ConfigError(f"others may read the identity file {path}; `chmod 600 {path}`")
    if len(raw) != 32:
        raise ConfigError(f"{path} holds {len(raw)} bytes, not the 32 of an identity; remove it to make a new one")
    return Ed25519PrivateKey.from_private_bytes(raw)


def load_psk(path: Path) -> bytes:
    """Read a pre-shared key: 64 hexadecimal digits.  Raises `ConfigError`."""
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise ConfigError(f"cannot read the pre-shared key {path}: {error.strerror}") from error
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{path} is not a pre-shared key: 64 hexadecimal digits (`openssl rand -hex 32`)")
    return key


def make_credentials(
    identity: Ed25519PrivateKey | None, psk: bytes | None, authorized: frozenset[bytes] | None
) -> Credentials:
    """Credentials with a fresh X25519 static key for this run of the daemon."""
    return Credentials(X25519PrivateKey.generate(), identity, psk, authorized)
