# SPDX-License-Identifier: Apache-2.0
"""The datagram codec: what is encoded decodes to itself, and nothing else decodes."""

from ipaddress import ip_address

import pytest

from controller.wire import eccp as wire
from controller.wire.eccp import Address, Kind, MalformedMessageError

V4 = Address("192.0.2.1", 4500)
V6 = Address("2001:db8::1", 65535)
MESSAGES = [
    (Kind.SYN, wire.Syn(7, 2**64 - 1, 3, b"c" * 20, b"n" * 32)),
    (Kind.COOKIE, wire.Cookie(b"x" * 20)),
    (Kind.SYN_ACK, wire.SynAck(1, 2**64 - 1)),
    (Kind.ACK, wire.Ack(2**64 - 1, 1)),
    (Kind.RSYN, wire.Rsyn(9, (V4, V6))),
    (Kind.RSYN, wire.Rsyn()),
    (Kind.RSYN_ACK, wire.RsynAck(5, 6)),
    (Kind.PING, wire.Ping(1)),
    (Kind.PONG, wire.Pong(2)),
    (Kind.FLOW_SYN, wire.FlowSyn(1)),
    (Kind.FLOW_SYN_ACK, wire.FlowSynAck(1, 2, 3)),
    (Kind.FIN, wire.Fin(whole=True, reason=9)),
    (Kind.FIN_ACK, wire.FinAck(whole=False)),
    (Kind.FORWARD, wire.Forward(b"i" * 32, b"d" * 1200)),
    (Kind.RELAY, wire.Relay(V6, b"d" * 1200)),
]


@pytest.mark.parametrize(("kind", "message"), MESSAGES)
def test_body_round_trip(kind: Kind, message: wire.Message) -> None:
    assert wire.kind_of(message) is kind
    assert wire.decode_body(kind, wire.encode_body(message)) == message


def test_every_control_kind_is_covered() -> None:
    assert {kind for kind, _ in MESSAGES} == set(Kind) - wire.DATA_KINDS


@pytest.mark.parametrize(("kind", "message"), MESSAGES)
def test_truncated_body_is_refused(kind: Kind, message: wire.Message) -> None:
    body = wire.encode_body(message, overhead=1200)  # no padding: every byte counts
    for size in range(len(body)):
        with pytest.raises(MalformedMessageError):
            wire.decode_body(kind, body[:size])


@pytest.mark.parametrize(("kind", "message"), MESSAGES)
def test_trailing_bytes_are_refused(kind: Kind, message: wire.Message) -> None:
    with pytest.raises(MalformedMessageError):
        wire.decode_body(kind, wire.encode_body(message) + b"\x01")


def test_padding_fills_the_datagram() -> None:
    for message in (wire.Syn(0, 1, 1, b"", b"n"), wire.Rsyn(), wire.FlowSyn(4)):
        assert len(wire.encode_body(message)) + wire.HEADER_SIZE == wire.PADDED_SIZE


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.SYN, wire.encode_body(wire.Syn(0, 1, 1, b"", b""))[:4] + bytes(8)),  # flow id 0
        (Kind.RSYN_ACK, bytes(8) + b"\0" * 7 + b"\1"),  # version 0
        (Kind.RSYN_ACK, b"\0" * 7 + b"\1" + bytes(8)),  # nonce 0
        (Kind.PING, bytes(8)),
        (Kind.FIN, b"\x02\0\0"),
        (Kind.RSYN, bytes(4) + b"\x11"),  # 17 addresses
        (Kind.RSYN, bytes(4) + b"\x01\x05" + bytes(7)),  # an address of 5 bytes
        (Kind.RSYN, bytes(4) + b"\x01\x04" + bytes(6)),  # port 0
        (Kind.DATA, b""),
    ],
)
def test_impossible_fields_are_refused(kind: Kind, body: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        wire.decode_body(kind, body)


def test_header_round_trip() -> None:
    for kind in Kind:
        packed = wire.encode_header(kind, 2**64 - 1, 12345, 0xFFFF)
        assert wire.decode_header(packed) == wire.Header(kind, 0xFFFF, 2**64 - 1, 12345)


@pytest.mark.parametrize("raw", [b"", bytes(19), bytes(20), b"\xec\x00" + bytes(18), b"\xec\xff" + bytes(18)])
def test_bad_header_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        wire.decode_header(raw)


def test_hello_round_trip() -> None:
    inner = (ip_address("10.0.0.1"), ip_address("fd00::1"))
    hello = wire.Hello(1, b"i" * 32, b"s" * 64, False, 7, (V4,), inner)
    assert wire.decode_hello(wire.encode_hello(hello)) == hello
    for size in range(len(wire.encode_hello(hello))):
        with pytest.raises(MalformedMessageError):
            wire.decode_hello(wire.encode_hello(hello)[:size])


def test_more_addresses_than_a_message_holds_are_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="17 addresses"):
        wire.encode_body(wire.Rsyn(0, (V4,) * 17))


def test_address_is_readable() -> None:
    assert str(V4) == "192.0.2.1:4500"
    assert str(V6) == "[2001:db8::1]:65535"


@pytest.mark.parametrize(("identity", "signature"), [(bytes(5), b""), (bytes(32), bytes(5))])
def test_an_identity_of_another_length_is_refused(identity, signature):
    hello = wire.Hello(1, identity, signature, False, 0, (), ())
    with pytest.raises(MalformedMessageError, match="32 bytes"):
        wire.decode_hello(wire.encode_hello(hello))


def test_a_block_beyond_its_limit_is_refused():
    hello = wire.Hello(1, bytes(33), b"", False, 0, (), ())
    with pytest.raises(MalformedMessageError, match="exceeds 32"):
        wire.decode_hello(wire.encode_hello(hello))
