# SPDX-License-Identifier: Apache-2.0
"""The Noise handshake against an independent implementation (the `noiseprotocol` package)."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from noise.connection import Keypair, NoiseConnection

from controller.eccp.errors import RefusedError
from controller.eccp.noise import NoiseXX

PSK = bytes(range(32))


def _other(*, initiator: bool, psk: bytes | None) -> NoiseConnection:
    name = b"Noise_XXpsk3_25519_AESGCM_SHA256" if psk else b"Noise_XX_25519_AESGCM_SHA256"
    other = NoiseConnection.from_name(name)
    other.set_as_initiator() if initiator else other.set_as_responder()
    other.set_prologue(b"prologue")
    if psk:
        other.set_psks(psk)
    other.set_keypair_from_private_bytes(Keypair.STATIC, bytes(range(1, 33)))
    other.start_handshake()
    return other


def _ours(*, initiator: bool, psk: bytes | None) -> NoiseXX:
    static, ephemeral = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    return NoiseXX(initiator=initiator, static=static, ephemeral=ephemeral, prologue=b"prologue", psk=psk)


@pytest.mark.parametrize("psk", [None, PSK])
@pytest.mark.parametrize("initiator", [True, False])
def test_handshake_with_another_implementation(initiator: bool, psk: bytes | None) -> None:
    ours, other = _ours(initiator=initiator, psk=psk), _other(initiator=not initiator, psk=psk)
    for message in range(3):
        payload = b"payload %d" % message
        if (message % 2 == 0) == initiator:
            assert other.read_message(ours.write_header() + ours.write_payload(payload)) == payload
        else:
            assert ours.read_payload(ours.read_header(bytes(other.write_message(payload)))) == payload
    assert ours.is_finished
    assert ours.handshake_hash == other.get_handshake_hash()
    towards_responder, towards_initiator = ours.split()
    key = towards_responder if initiator else towards_initiator
    assert other.decrypt(AESGCM(key).encrypt(bytes(12), b"data", b"")) == b"data"


def _until_second(psk: bytes | None = None) -> tuple[NoiseXX, bytes]:
    first, second = _ours(initiator=True, psk=psk), _ours(initiator=False, psk=psk)
    second.read_payload(second.read_header(first.write_header() + first.write_payload(b"")))
    return first, second.write_header() + second.write_payload(b"hello")


def test_every_changed_byte_of_message_2_is_refused() -> None:
    first, message = _until_second()
    for at in range(len(message)):
        forged = message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :]
        twin = first.copy()
        with pytest.raises(RefusedError):
            twin.read_payload(twin.read_header(forged))
    assert first.read_payload(first.read_header(message)) == b"hello"


def test_truncated_message_is_refused() -> None:
    first, message = _until_second()
    for size in range(len(message)):
        twin = first.copy()
        with pytest.raises(RefusedError):
            twin.read_payload(twin.read_header(message[:size]))


def test_low_order_point_is_refused() -> None:
    responder = _ours(initiator=False, psk=None)
    responder.read_payload(responder.read_header(bytes(32)))
    with pytest.raises(RefusedError, match="weak"):
        responder.write_header()


def test_different_psk_fails_at_message_3() -> None:
    first = _ours(initiator=True, psk=PSK)
    second = _ours(initiator=False, psk=bytes(32))
    second.read_payload(second.read_header(first.write_header() + first.write_payload(b"")))
    message = second.write_header() + second.write_payload(b"")
    with pytest.raises(RefusedError):  # XXpsk3 keys message 1's hash with the psk's name, message 3 with the psk
        second.read_payload(second.read_header(_third(first, message)))


def _third(first: NoiseXX, message: bytes) -> bytes:
    first.read_payload(first.read_header(message))
    return first.write_header() + first.write_payload(b"")
