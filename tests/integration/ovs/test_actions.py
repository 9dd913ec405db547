# SPDX-License-Identifier: Apache-2.0
"""A live connection between two hosts whose numbers the switch translates, so that each side counts from elsewhere.

Every packet of both directions passes the actions, from the SYN on, so neither side can notice.
"""

import json
import re
import sys

import pytest

MEGABYTE = 1 << 20
MODULUS = 1 << 32

# (added to the client's sequence numbers, to the server's, to the client's timestamps, to the server's)
SHIFTS = [(1, 2, 3, 4), (0x89ABCDEF, 0x76543210, 0x1000, 0xFFFFF000), (0xFFFFFFFF, 0x80000000, 0x80000000, 0)]

# Prints sequence and acknowledgment number, TSval and TSecr of the SYN and the SYN-ACK that pass eth0.
SYN_SNIFFER = """
import json, socket, struct
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("eth0", 0))
print("ready", flush=True)
seen = {}
while len(seen) < 2:
    frame = sock.recv(70000)
    if frame[12:14] == b"\\x08\\x00" and frame[23] == 6 and frame[47] & 2:
        options, at = frame[54 : 34 + (frame[46] >> 4) * 4], 0
        while options[at] != 8:
            at += 1 if options[at] == 1 else options[at + 1]
        name = "SYN-ACK" if frame[47] & 16 else "SYN"
        seen[name] = struct.unpack("!II", frame[38:46]) + struct.unpack("!II", options[at + 2 : at + 10])
print(json.dumps(seen), flush=True)
"""


def translate(pair, seq_client, seq_server, ts_client, ts_server):
    """Shift the numbers of both directions so that each side sees a consistent connection."""
    tcp = "in_port={%s},tcp actions=inc_tcp_seq:%d,dec_tcp_ack:%d,inc_tcp_tsval:%d,inc_tcp_tsecr:%d,output:{%s}"
    pair.flows(
        "in_port={c},tcp,tp_dst=5000 actions=set_field:7000->tcp_dst,resubmit(,1)",
        "in_port={s},tcp,tp_src=7000 actions=set_field:5000->tcp_src,resubmit(,1)",
        "arp actions=normal",
        "table=1," + tcp % ("c", seq_client, seq_server, ts_client, -ts_server % MODULUS, "s"),
        "table=1," + tcp % ("s", seq_server, seq_client, ts_server, -ts_client % MODULUS, "c"),
    )


def upcalls(ovs):
    """Return how many packets the datapath did not know what to do with."""
    return int(re.search(r"missed:(\d+)", ovs.appctl("dpctl/show")).group(1))


def slow_path(ovs):
    """Return the datapath flows that send each packet to userspace."""
    return [line for line in ovs.appctl("dpctl/dump-flows").splitlines() if "userspace" in line]


@pytest.mark.parametrize("shifts", SHIFTS, ids=["small", "wrapping", "extreme"])
def test_neither_side_notices_translated_numbers(pair, shifts):
    translate(pair, *shifts)
    sniffers = [host.popen(sys.executable, "-c", SYN_SNIFFER) for host in (pair.client, pair.server)]
    for sniffer in sniffers:
        assert sniffer.stdout.readline() == "ready\n"
    size = (20 if pair.ovs.tso else 5) * MEGABYTE
    before = upcalls(pair.ovs)
    pair.transfer(pair.server_addresses[4], 5000, pair.server_addresses[4], 7000, size + 1, size + 2)
    # One for each of the two directions, and what ARP and other connections' flows cause; not one a packet.
    assert upcalls(pair.ovs) - before < 20
    assert slow_path(pair.ovs) == []
    assert pair.ovs.port_counters(pair.client)["rx pkts"] > 100
    for host in (pair.client, pair.server):
        assert host.counters()["TcpInCsumErrors"] == 0

    # The numbers were different indeed.
    at_client, at_server = (json.loads(sniffer.stdout.readline()) for sniffer in sniffers)
    seq_client, seq_server, ts_client, ts_server = shifts

    def added(name, field):
        change = at_server[name][field] - at_client[name][field]
        return change % MODULUS

    assert [added("SYN", field) for field in (0, 2)] == [seq_client, ts_client]
    assert [added("SYN-ACK", field) for field in range(4)] == [
        -seq_server % MODULUS,
        seq_client,
        -ts_server % MODULUS,
        ts_client,
    ]
    # Without the ACK flag, the SYN's acknowledgment fields stay.
    assert [added("SYN", field) for field in (1, 3)] == [0, 0]
