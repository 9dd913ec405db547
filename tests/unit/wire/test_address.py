# SPDX-License-Identifier: Apache-2.0
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.errors import LocalError
from controller.wire.address import decode_ip, decode_mac, encode_ip, encode_mac


@given(st.binary(min_size=6, max_size=6))
def test_mac_round_trip(octets):
    assert encode_mac(decode_mac(octets)) == octets


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
def test_ip_round_trip_in_canonical_text(octets):
    text = decode_ip(octets)
    assert text == str(ipaddress.ip_address(octets))
    assert encode_ip(text) == octets


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02:00:00:00:00:0g", "020000000001", "02:00:00:00:00:01:02"])
def test_what_is_no_mac_is_a_local_error(text):
    with pytest.raises(LocalError, match="MAC"):
        encode_mac(text)


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "fd00::g", "host"])
def test_what_is_no_address_is_a_local_error(text):
    with pytest.raises(LocalError):
        encode_ip(text)
