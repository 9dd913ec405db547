# SPDX-License-Identifier: Apache-2.0
"""Captured frames become segments; a capture cut short by a kill is read as far as it goes."""

import dpkt
import pytest

from demo.capture import decode_frame, read_pcap

MAC = "02:00:00:00:00:03"


def frame(data, source=b"\2\0\0\0\0\3"):
    return bytes(dpkt.ethernet.Ethernet(src=source, dst=b"\2\0\0\0\0\1", data=data))


TCP = dpkt.tcp.TCP(sport=40000, dport=11111, seq=5, ack=6, flags=24, data=b"hello")
IPV4 = dpkt.ip.IP(src=b"\x0a\0\0\3", dst=b"\x0a\0\0\1", p=6, data=TCP)


def test_an_ipv4_segment():
    packet = decode_frame(frame(IPV4), 1.5, "client", True)
    assert packet.numbers == ("10.0.0.3:40000", "10.0.0.1:11111", 5, 6, 24, b"hello")
    assert (packet.time, packet.place, packet.inward) == (1.5, "client", True)


@pytest.mark.parametrize("length", range(len(frame(IPV4))))
def test_a_truncated_frame_is_no_segment_or_a_shorter_one(length):
    packet = decode_frame(frame(IPV4)[:length], 0.0, "client", True)
    assert packet is None or len(packet.payload) < len(b"hello")


def test_other_protocols_are_passed_over():
    assert decode_frame(frame(dpkt.ip.IP(p=17, data=dpkt.udp.UDP())), 0.0, "client", True) is None


def test_a_capture_says_the_direction_and_may_end_in_the_middle(tmp_path):
    path = tmp_path / "client.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, nano=True)
        writer.writepkt(frame(IPV4), ts=1.0)
        writer.writepkt(frame(IPV4, source=b"\2\0\0\0\0\1"), ts=2.0)
        writer.writepkt(frame(IPV4), ts=3.0)
    assert [p.inward for p in read_pcap(path, "client", MAC)] == [True, False, True]
    assert [p.inward for p in read_pcap(path, "analyser", None)] == [False, False, False]
    path.write_bytes(path.read_bytes()[: -len(frame(IPV4)) - 3])  # inside the last record's header
    assert [p.time for p in read_pcap(path, "client", MAC)] == [1.0, 2.0]
