# SPDX-License-Identifier: Apache-2.0
"""Codec of ECCP's datagrams: bytes <-> frozen dataclasses.

Every datagram starts with the same 20 bytes, in network byte order::

    0       1       2       4                       12                      20
    +-------+-------+-------+-----------------------+-----------------------+
    | magic | kind  |  aux  |  destination flow id  |     packet number     | body ...
    +-------+-------+-------+-----------------------+-----------------------+

``destination flow id`` is the receiver's own id, the only demultiplexing key (Arye et al., ICNP 2012).  It is 0 in
a SYN, which is demultiplexed on its service.  SYN and COOKIE are clear text.  Every other body is
``[block] sealed(version:8, message)``: the block (length:2, bytes) is a clear Noise message if ``aux`` has the bit
`WITH_KEY_EXCHANGE`, or the sender's flow id (8 bytes) in a FLOW_SYN; header and block are the associated data.

Errors: every ``decode_`` function raises `MalformedMessageError` and nothing else, whatever the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from controller.wire.eccp_messages import (
    CLEAR_KINDS,
    COUNT_MASK,
    DATA_KINDS,
    HEADER,
    HEADER_SIZE,
    INDEX_ONE,
    KIND_OF_BYTE,
    MAGIC,
    MAX_ADDRESSES,
    MAX_COOKIE,
    MAX_VERSION,
    PADDED_KINDS,
    PADDED_SIZE,
    RESENT,
    TAG_SIZE,
    WITH_KEY_EXCHANGE,
    Ack,
    Address,
    Cookie,
    Fin,
    FinAck,
    FlowSyn,
    FlowSynAck,
    Forward,
    Header,
    Hello,
    Kind,
    MalformedMessageError,
    Message,
    Ping,
    Pong,
    Relay,
    Rsyn,
    RsynAck,
    Syn,
    SynAck,
)


def encode_header(kind: Kind, flow: int, number: int, aux: int = 0) -> bytes:
    """Pack the 20 header bytes."""
    return HEADER.pack(MAGIC, kind, aux, flow, number)


def decode_header(datagram: bytes | memoryview) -> Header:
    """Unpack the first 20 bytes; raises `MalformedMessageError` if they are short, of another protocol or kind."""
    if len(datagram) < HEADER_SIZE:
        raise MalformedMessageError(f"datagram of {len(datagram)} bytes is shorter than the {HEADER_SIZE}-byte header")
    magic, kind, aux, flow, number = HEADER.unpack_from(datagram)
    if magic != MAGIC:
        raise MalformedMessageError(f"first byte {magic:#04x} is not {MAGIC:#04x}")
    known = KIND_OF_BYTE.get(kind)
    if known is None:
        raise MalformedMessageError(f"unknown message kind {kind}")
    return Header(known, aux, flow, number)


class _Reader:
    """Walks a body; every pull checks the length first."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def pull(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise MalformedMessageError(f"body ends at {len(self._data)} where {end} bytes are due")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def pull_uint(self, size: int) -> int:
        return int.from_bytes(self.pull(size), "big")

    def pull_block(self, limit: int) -> bytes:
        size = self.pull_uint(2)
        if size > limit:
            raise MalformedMessageError(f"block of {size} bytes exceeds {limit}")
        return self.pull(size)

    def rest_is_zero(self) -> None:
        if any(self._data[self._at :]):
            raise MalformedMessageError("padding is not zero")
        self._at = len(self._data)

    def end(self) -> None:
        if self._at != len(self._data):
            raise MalformedMessageError(f"{len(self._data) - self._at} bytes follow the body")


def _push_block(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _push_ip(host: str) -> bytes:
    packed = ip_address(host).packed
    return bytes((len(packed),)) + packed


def _pull_ip(reader: _Reader) -> IPv4Address | IPv6Address:
    size = reader.pull_uint(1)
    if size == 4:
        return IPv4Address(reader.pull(4))
    if size == 16:
        return IPv6Address(reader.pull(16))
    raise MalformedMessageError(f"an IP address has 4 or 16 bytes, not {size}")


def encode_address(address: Address) -> bytes:
    """Length byte (4 or 16), address, port."""
    return _push_ip(address.host) + address.port.to_bytes(2, "big")


def _pull_address(reader: _Reader) -> Address:
    host = str(_pull_ip(reader))
    port = reader.pull_uint(2)
    if port == 0:
        raise MalformedMessageError("port 0 in an address")
    return Address(host, port)


def _push_addresses(addresses: tuple[Address, ...]) -> bytes:
    if len(addresses) > MAX_ADDRESSES:
        raise ValueError(f"{len(addresses)} addresses; a message holds at most {MAX_ADDRESSES}")
    return bytes((len(addresses),)) + b"".join(map(encode_address, addresses))


def _pull_count(reader: _Reader) -> int:
    count = reader.pull_uint(1)
    if count > MAX_ADDRESSES:
        raise MalformedMessageError(f"{count} addresses exceed {MAX_ADDRESSES}")
    return count


def _pull_addresses(reader: _Reader) -> tuple[Address, ...]:
    return tuple(_pull_address(reader) for _ in range(_pull_count(reader)))


def _pull_flow(reader: _Reader) -> int:
    flow = reader.pull_uint(8)
    if flow == 0:
        raise MalformedMessageError("flow id 0 is reserved")
    return flow


def _pull_bool(reader: _Reader) -> bool:
    value = reader.pull_uint(1)
    if value > 1:
        raise MalformedMessageError(f"flag byte {value} is neither 0 nor 1")
    return bool(value)


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _pull_syn(r: _Reader) -> Syn:
    return Syn(r.pull_uint(4), _pull_flow(r), _pull_version(r), r.pull_block(MAX_COOKIE), r.pull_block(PADDED_SIZE))


def _pull_version(reader: _Reader) -> int:
    version = reader.pull_uint(8)
    if version == 0:
        raise MalformedMessageError("version 0: versions begin at 1")
    return version


def _pull_nonce(reader: _Reader) -> int:
    nonce = reader.pull_uint(8)
    if nonce == 0:
        raise MalformedMessageError("nonce 0 means none")
    return nonce


def _push_pair(message: SynAck | RsynAck | Ack) -> bytes:
    return _u64(message.echo) + _u64(message.nonce)


class _Format(NamedTuple):
    """One row of the table: how a kind's body is packed and unpacked, and whether it is padded to `PADDED_SIZE`."""

    kind: Kind
    message: type
    push: Callable[[Any], bytes]
    pull: Callable[[_Reader], Any]
    padded: bool = False


FORMATS: tuple[_Format, ...] = (
    _Format(
        Kind.SYN,
        Syn,
        lambda m: b"".join(
            (m.service.to_bytes(4, "big"), _u64(m.flow), _u64(m.version), _push_block(m.cookie), _push_block(m.noise))
        ),
        _pull_syn,
        padded=True,
    ),
    _Format(Kind.COOKIE, Cookie, lambda m: _push_block(m.cookie), lambda r: Cookie(r.pull_block(MAX_COOKIE))),
    _Format(Kind.SYN_ACK, SynAck, _push_pair, lambda r: SynAck(_pull_version(r), _pull_nonce(r))),
    _Format(Kind.ACK, Ack, _push_pair, lambda r: Ack(_pull_version(r), _pull_nonce(r))),
    _Format(
        Kind.RSYN,
        Rsyn,
        lambda m: m.generation.to_bytes(4, "big") + _push_addresses(m.addresses),
        lambda r: Rsyn(r.pull_uint(4), _pull_addresses(r)),
        padded=True,
    ),
    _Format(Kind.RSYN_ACK, RsynAck, _push_pair, lambda r: RsynAck(_pull_version(r), _pull_nonce(r))),
    _Format(Kind.PING, Ping, lambda m: _u64(m.nonce), lambda r: Ping(_pull_nonce(r))),
    _Format(Kind.PONG, Pong, lambda m: _u64(m.nonce), lambda r: Pong(_pull_nonce(r))),
    _Format(Kind.FLOW_SYN, FlowSyn, lambda m: _u64(m.flow), lambda r: FlowSyn(_pull_flow(r)), padded=True),
    _Format(
        Kind.FLOW_SYN_ACK,
        FlowSynAck,
        lambda m: _u64(m.flow) + _u64(m.echo) + _u64(m.nonce),
        lambda r: FlowSynAck(_pull_flow(r), _pull_version(r), _pull_nonce(r)),
    ),
    _Format(
        Kind.FIN,
        Fin,
        lambda m: bytes((m.whole,)) + m.reason.to_bytes(2, "big"),
        lambda r: Fin(_pull_bool(r), r.pull_uint(2)),
    ),
    _Format(Kind.FIN_ACK, FinAck, lambda m: bytes((m.whole,)), lambda r: FinAck(_pull_bool(r))),
    _Format(
        Kind.FORWARD,
        Forward,
        lambda m: m.identity + _push_block(m.datagram),
        lambda r: Forward(r.pull(32), r.pull_block(PADDED_SIZE)),
    ),
    _Format(
        Kind.RELAY,
        Relay,
        lambda m: encode_address(m.source) + _push_block(m.datagram),
        lambda r: Relay(_pull_address(r), r.pull_block(PADDED_SIZE)),
    ),
)
_BY_KIND: dict[Kind, _Format] = {row.kind: row for row in FORMATS}
_BY_TYPE: dict[type, _Format] = {row.message: row for row in FORMATS}


def kind_of(message: Message) -> Kind:
    """The wire kind of a message object."""
    return _BY_TYPE[type(message)].kind


def encode_body(message: Message, overhead: int = HEADER_SIZE) -> bytes:
    """Pack a message's body; padded kinds are filled so that body and ``overhead`` bytes around it make 1,200."""
    row = _BY_TYPE[type(message)]
    body = row.push(message)
    return body.ljust(PADDED_SIZE - overhead, b"\0") if row.padded else body


def decode_body(kind: Kind, body: bytes) -> Message:
    """Unpack the clear (or opened) body of a message; raises `MalformedMessageError`."""
    row = _BY_KIND.get(kind)
    if row is None:
        raise MalformedMessageError(f"{kind.name} has no control body")
    reader = _Reader(bytes(body))
    message: Message = row.pull(reader)
    if row.padded:
        reader.rest_is_zero()
    reader.end()
    return message


def encode_hello(hello: Hello) -> bytes:
    """Pack the payload of Noise messages 2 and 3."""
    inner = bytes((len(hello.inner),)) + b"".join(_push_ip(str(address)) for address in hello.inner)
    return b"".join(
        (
            _u64(hello.flow),
            _push_block(hello.identity),
            _push_block(hello.signature),
            bytes((hello.sealed_data,)),
            hello.generation.to_bytes(4, "big"),
            _push_addresses(hello.addresses),
            inner,
        )
    )


def decode_hello(payload: bytes) -> Hello:
    """Unpack the payload of Noise messages 2 and 3; raises `MalformedMessageError`."""
    reader = _Reader(payload)
    flow = _pull_flow(reader)
    identity = reader.pull_block(32)
    signature = reader.pull_block(64)
    if len(identity) not in {0, 32} or len(signature) not in {0, 64}:
        raise MalformedMessageError("an identity has 32 bytes and its signature 64, or both are absent")
    sealed = _pull_bool(reader)
    generation = reader.pull_uint(4)
    addresses = _pull_addresses(reader)
    inner = tuple(_pull_ip(reader) for _ in range(_pull_count(reader)))
    reader.end()
    return Hello(flow, identity, signature, sealed, generation, addresses, inner)


__all__ = [
    "CLEAR_KINDS",
    "COUNT_MASK",
    "DATA_KINDS",
    "FORMATS",
    "HEADER",
    "HEADER_SIZE",
    "INDEX_ONE",
    "KIND_OF_BYTE",
    "MAGIC",
    "MAX_ADDRESSES",
    "MAX_COOKIE",
    "MAX_VERSION",
    "PADDED_KINDS",
    "PADDED_SIZE",
    "RESENT",
    "TAG_SIZE",
    "WITH_KEY_EXCHANGE",
    "Ack",
    "Address",
    "Cookie",
    "Fin",
    "FinAck",
    "FlowSyn",
    "FlowSynAck",
    "Forward",
    "Header",
    "Hello",
    "Kind",
    "MalformedMessageError",
    "Message",
    "Ping",
    "Pong",
    "Relay",
    "Rsyn",
    "RsynAck",
    "Syn",
    "SynAck",
    "decode_body",
    "decode_header",
    "decode_hello",
    "encode_address",
    "encode_body",
    "encode_header",
    "encode_hello",
    "kind_of",
]
