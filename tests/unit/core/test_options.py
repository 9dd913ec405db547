# SPDX-License-Identifier: Apache-2.0
"""What may be offered to a target, and what it must agree to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.errors import NotMigratableError
from controller.core.options import Agreement, agree, check_target, offer, strip_syn
from controller.core.segment import ACK, CWR, ECE, SYN, Endpoint, Segment, TcpOptions, Timestamps

CLIENT, SERVER = Endpoint("10.0.0.3", 1), Endpoint("10.0.0.1", 2)
FULL = TcpOptions(1460, 7, True, (), Timestamps(5, 0))
SYN_SEGMENT = Segment(CLIENT, SERVER, 9, 0, SYN | ECE | CWR, 100, FULL, frame=b"as it came")
SYNACK = Segment(SERVER, CLIENT, 4, 10, SYN | ACK | ECE, 100, replace(FULL, mss=1400, window_scale=3))
AGREED = Agreement(1400, 1460, 3, 7, True, True, True)


def test_plain_syn_stays_as_it_came() -> None:
    """Nothing to strip: the frame can be sent on untouched."""
    assert strip_syn(SYN_SEGMENT) is SYN_SEGMENT


@pytest.mark.parametrize("kind", [30, 34, 172, 253])
def test_what_cannot_move_is_stripped(kind: int) -> None:
    """MPTCP, Fast Open, AccECN, experiments: gone, with the data that came along; the rest stays."""
    syn = replace(SYN_SEGMENT, options=replace(FULL, others=((kind, b"x"),)), payload=b"early")
    stripped = strip_syn(syn)
    assert stripped.options == FULL
    assert stripped.payload == b""
    assert stripped.frame is None


@pytest.mark.parametrize(("kind", "name"), [(19, "TCP-MD5"), (29, "TCP-AO")])
def test_signed_connections_cannot_move(kind: int, name: str) -> None:
    """RFC 2385 and RFC 5925 sign addresses and numbers."""
    with pytest.raises(NotMigratableError, match=name) as caught:
        strip_syn(replace(SYN_SEGMENT, options=replace(FULL, others=((kind, b""),))))
    assert caught.value.reason == "signed"


def test_agreement_of_all() -> None:
    """Each end's own numbers, and the options that both had."""
    assert agree(SYN_SEGMENT, SYNACK) == AGREED


@pytest.mark.parametrize(
    ("field", "lacking", "agreed"),
    [
        ("window_scale", None, {"window_scale": None, "client_window_scale": None}),
        ("sack_permitted", False, {"sack": False}),
        ("timestamps", None, {"timestamps": False}),
    ],
)
def test_an_option_takes_two(field: str, lacking: object, agreed: dict[str, object]) -> None:
    """Missing at either end, it is not agreed on."""
    expected = replace(AGREED, **agreed)
    assert agree(replace(SYN_SEGMENT, options=replace(FULL, **{field: lacking})), SYNACK) == expected
    assert agree(SYN_SEGMENT, replace(SYNACK, options=replace(SYNACK.options, **{field: lacking}))) == expected


@pytest.mark.parametrize(
    ("syn", "synack"), [(SYN, SYN | ACK | ECE), (SYN | ECE | CWR, SYN | ACK), (SYN | ECE | CWR, SYN | ACK | ECE | CWR)]
)
def test_ecn_takes_two(syn: int, synack: int) -> None:
    """RFC 3168 section 6.1.1: ECE and CWR one way, ECE alone back; a reflection of both is a broken host."""
    assert not agree(replace(SYN_SEGMENT, flags=syn), replace(SYNACK, flags=synack)).ecn


def test_without_mss() -> None:
    """The default of the IP version."""
    silent = replace(FULL, mss=None)
    assert agree(replace(SYN_SEGMENT, options=silent), replace(SYNACK, options=silent)).mss == 536
    client6 = replace(SYN_SEGMENT, src=Endpoint("fd00::3", 1), options=silent)
    assert agree(client6, replace(SYNACK, options=silent)).client_mss == 1220


def test_offer_is_the_clients_own() -> None:
    """What the client offered, of what the origin agreed to."""
    assert offer(AGREED) == TcpOptions(1460, 7, True)
    assert offer(replace(AGREED, sack=False, client_window_scale=None)) == TcpOptions(1460, None, False)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sack": False}, "SACK"),
        ({"timestamps": False}, "timestamps"),
        ({"window_scale": None}, "window scaling"),
        ({"ecn": False}, "ECN"),
        ({"mss": 1399}, "1399"),
    ],
)
def test_a_target_that_lacks_something_is_refused(change: dict[str, object], named: str) -> None:
    """The client would use what the target does not know."""
    with pytest.raises(NotMigratableError, match=named):
        check_target(AGREED, replace(AGREED, **change))


def test_a_target_may_do_more() -> None:
    """Larger segments, another scale, options that the origin lacked."""
    check_target(AGREED, replace(AGREED, mss=9000, window_scale=14))
    check_target(replace(AGREED, sack=False, ecn=False, timestamps=False, window_scale=None), AGREED)
