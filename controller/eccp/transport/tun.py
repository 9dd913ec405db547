# SPDX-License-Identifier: Apache-2.0
"""A TUN device with virtio_net_hdr: the kernel hands over and takes TCP packets of up to 64 KB, unsegmented."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface

from pyroute2 import IPRoute  # type: ignore[import-untyped]

from controller.eccp.errors import ConfigError
from controller.eccp.outputs import Buffer

TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN = 1, 2, 4, 8
FRAME_SIZE = 65536 + 16
DEFAULT_MTU = 1380  # 1,500 less IPv6 and UDP (48), header, version, head and tag (62), with room for a tunnel below
GSO_MAX_SIZE = 60000  # as many full slices as fit one UDP send of 65,000 bytes


class Tun:
    """An open TUN device; `read` and `write` move whole frames (virtio_net_hdr and IP packet)."""

    def __init__(self, name: str) -> None:
        """Create the device.  Raises `ConfigError` without the right or the device node."""
        try:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                f"cannot open /dev/net/tun ({error.strerror}): run as root, with the tun module"
            ) from error
        try:
            request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
            answer = fcntl.ioctl(self.fd, TUNSETIFF, request)
            self.name = answer[:16].rstrip(b"\0").decode()
            fcntl.ioctl(self.fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
        except OSError as error:
            os.close(self.fd)
            raise ConfigError(f"cannot create the tunnel device {name!r}: {error.strerror}") from error

    def configure(self, addresses: list[IPv4Interface | IPv6Interface], mtu: int = DEFAULT_MTU) -> None:
        """Give the device its addresses and bring it up."""
        with IPRoute() as route:
            index = route.link_lookup(ifname=self.name)[0]
            route.link("set", index=index, mtu=mtu, txqlen=1000, state="up")
            for kind in ("gso_max_size", "gso_ipv4_max_size"):
                try:
                    route.link("set", index=index, **{kind: GSO_MAX_SIZE})
                except Exception:  # older kernels lack one of them; frames are then split in two sends
                    continue
            for address in addresses:
                route.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)

    def set_mtu(self, mtu: int) -> None:
        """Lower (or raise) the inner packet size."""
        with IPRoute() as route:
            route.link("set", index=route.link_lookup(ifname=self.name)[0], mtu=mtu)

    def read(self) -> bytes | None:
        """One frame, or None when there is none now."""
        try:
            return os.read(self.fd, FRAME_SIZE)
        except BlockingIOError:
            return None

    def write(self, parts: Sequence[Buffer]) -> bool:
        """Hand one frame to the kernel; False if it refused it."""
        try:
            os.writev(self.fd, parts)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Remove the device."""
        os.close(self.fd)
