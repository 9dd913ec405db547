# SPDX-License-Identifier: Apache-2.0
"""Rewriting of addresses and ports on real devices that leave checksums and segmentation to the switch.

The switch's devices complete the checksums (`tx off`) and the hosts verify them (`rx off`): two plain veth ends would
never look at a partial checksum. UDP checks what TCP's own retransmission would hide.
"""

import json
import re
import sys

import pytest
from integration.ovs.conftest import CLIENT_MAC, SERVER_MAC

VIRTUAL = {4: "10.0.0.99", 6: "fd00::99"}
VIRTUAL_MAC = "02:00:00:00:00:99"
MEGABYTE = 1 << 20
MTU = 1500

# Counts the TCP segments with payload that arrive at eth0, and the largest payload, until a FIN of that direction.
SNIFFER = """
import json, socket, struct
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("eth0", 0))
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 27)  # SO_RCVBUFFORCE
print("ready", flush=True)
sizes = []
while True:
    frame, origin = sock.recvfrom(70000)
    if origin[2] == socket.PACKET_OUTGOING or frame[12:14] != b"\\x08\\x00" or frame[23] != 6:
        continue
    tcp = 14 + (frame[14] & 15) * 4
    size = struct.unpack("!H", frame[16:18])[0] - (tcp - 14) - (frame[tcp + 12] >> 4) * 4
    sizes += [size] if size else []
    if frame[tcp + 13] & 1:
        break
print(json.dumps({"largest": max(sizes), "segments": len(sizes)}), flush=True)
"""

UDP_ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], 7000))
    print("ready", flush=True)
    while True:
        data, sender = sock.recvfrom(70000)
        sock.sendto(data, sender)
"""

UDP_ASK = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.settimeout(20)
    sock.connect((sys.argv[1], 5000))
    for size in range(1, 1400, 13):
        data = bytes((size + i) % 256 for i in range(size))
        sock.send(data)
        assert sock.recv(70000) == data
print("good")
"""


# Sends packets of ten datagrams each, which the device is to cut (UDP_SEGMENT), and wants all of them back.
UDP_SEGMENTS = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.settimeout(20)
    sock.connect((sys.argv[1], 5000))
    sock.setsockopt(17, 103, 1200)  # SOL_UDP, UDP_SEGMENT
    for turn in range(20):
        datagrams = [bytes([turn, number]) * 600 for number in range(9)] + [b"the last one is shorter"]
        sock.send(b"".join(datagrams))
        assert [sock.recv(70000) for _ in datagrams] == datagrams
print("good")
"""


def rewrite_to_server(pair, version, protocol):
    """Bring what is dialled as VIRTUAL, port 5000, to the server's port 7000, and answers back."""
    proto = protocol if version == 4 else f"{protocol}6"
    prefix = "nw" if version == 4 else "ipv6"
    field = "ip" if version == 4 else "ipv6"
    virtual, server = VIRTUAL[version], pair.server_addresses[version]
    pair.client.knows(virtual, VIRTUAL_MAC)
    pair.server.knows(pair.client_addresses[version], CLIENT_MAC)
    pair.flows(
        f"in_port={{c}},{proto},{prefix}_dst={virtual},tp_dst=5000 actions=set_field:{server}->{field}_dst,"
        f"set_field:7000->{protocol}_dst,set_field:{SERVER_MAC}->eth_dst,output:{{s}}",
        f"in_port={{s}},{proto},{prefix}_src={server},tp_src=7000 actions=set_field:{virtual}->{field}_src,"
        f"set_field:5000->{protocol}_src,output:{{c}}",
    )


def checksum_errors(*hosts):
    """Return how many TCP and UDP checksums were wrong."""
    names = ("TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors")
    return sum(host.counters().get(name, 0) for host in hosts for name in names)


def average_size(ovs, host):
    """Return the average size in bytes of what the switch received from a host: ACKs, and large segments."""
    counters = ovs.port_counters(host)
    return counters["rx bytes"] / counters["rx pkts"]


@pytest.mark.parametrize("version", [4, 6])
def test_tcp_with_rewritten_addresses_and_ports(pair, version):
    rewrite_to_server(pair, version, "tcp")
    up, down = 20 * MEGABYTE + 3, 20 * MEGABYTE + 1
    pair.transfer(VIRTUAL[version], 5000, pair.server_addresses[version], 7000, up, down)
    assert checksum_errors(pair.client, pair.server) == 0
    if pair.ovs.tso:
        # Else the test would say nothing about segmentation.
        for host in (pair.client, pair.server):
            assert average_size(pair.ovs, host) > 2 * MTU


@pytest.mark.parametrize("version", [4, 6])
def test_udp_with_rewritten_addresses_and_ports(pair, version):
    rewrite_to_server(pair, version, "udp")
    echo = pair.server.popen(sys.executable, "-c", UDP_ECHO, pair.server_addresses[version])
    assert echo.stdout.readline() == "ready\n"
    assert pair.client.run(sys.executable, "-c", UDP_ASK, VIRTUAL[version]).stdout == "good\n"
    assert checksum_errors(pair.client, pair.server) == 0


@pytest.mark.parametrize("version", [4, 6])
def test_large_udp_packets_stay_the_datagrams_they_were(tso_pair, version):
    pair = tso_pair
    rewrite_to_server(pair, version, "udp")
    echo = pair.server.popen(sys.executable, "-c", UDP_ECHO, pair.server_addresses[version])
    assert echo.stdout.readline() == "ready\n"
    assert pair.client.run(sys.executable, "-c", UDP_SEGMENTS, VIRTUAL[version]).stdout == "good\n"
    assert checksum_errors(pair.client, pair.server) == 0
    assert average_size(pair.ovs, pair.client) > 2 * MTU


@pytest.mark.parametrize("rewritten", [False, True], ids=["plain", "rewritten"])
@pytest.mark.parametrize("advertised", [1000, 536])
def test_segments_respect_an_mss_below_the_mtu(tso_pair, advertised, rewritten):
    pair = tso_pair
    dialled, port = (VIRTUAL[4], 5000) if rewritten else (pair.server_addresses[4], 7000)
    if rewritten:
        rewrite_to_server(pair, 4, "tcp")
    else:
        pair.flows("actions=normal")
    pair.server.run("ip", "route", "replace", "10.0.0.0/24", "dev", "eth0", "advmss", str(advertised))
    pair.server.set_offload(gro=False)
    sniffer = pair.server.popen(sys.executable, "-c", SNIFFER)
    assert sniffer.stdout.readline() == "ready\n"
    pair.transfer(dialled, port, pair.server_addresses[4], 7000, 4 * MEGABYTE, 1000)
    seen = json.loads(sniffer.stdout.readline())
    # Timestamps take 12 bytes of each; the full size must be used.
    assert seen["largest"] == advertised - 12
    assert seen["segments"] >= 4 * MEGABYTE // (advertised - 12)
    assert average_size(pair.ovs, pair.client) > 2 * MTU
    assert checksum_errors(pair.client, pair.server) == 0


def test_the_switch_has_room_for_a_window_of_large_segments(tso_pair):
    sockets = tso_pair.ovs.namespace.run("ss", "--packet", "--memory").stdout
    buffers = [int(size) for size in re.findall(r"skmem:\(r\d+,rb(\d+),", sockets)]
    assert len(buffers) >= 2, sockets  # one for each host
    assert buffers == [4 << 20] * len(buffers)  # 2 MiB asked for, which the kernel doubles
