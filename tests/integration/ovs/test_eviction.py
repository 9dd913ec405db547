# SPDX-License-Identifier: Apache-2.0
"""When the barrier reply to a flow mod is there, the datapath has forgotten how it treated the connection before."""

import json
import re
import sys

import pytest
from integration.ovs.openflow_client import ADD, DELETE_STRICT, MODIFY_STRICT, Connection, OpenFlowClient
from integration.ovs.ovs_instance import OvsInstance, end, wait_until

FLOW = Connection(17, "10.0.0.1", 4000, "10.0.0.99", 5000)
BYSTANDER = Connection(17, "10.0.0.1", 4001, "10.0.0.99", 5000)
MAC = "02:00:00:00:00:99"

BLAST = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.0.0.1", int(sys.argv[1])))
sock.connect(("10.0.0.99", 5000))
print("ready", flush=True)
while True:
    sock.send(b"x" * 100)
"""


# Markers are frames of an experimental type, sent by packet-out; counts the connection's packets behind each of them.
ORDER = """
import json, socket
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("eth0", 0))
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 28)  # SO_RCVBUFFORCE
print("ready", flush=True)
marks = [["start", 0]]
while marks[-1][0] != "done":
    frame = sock.recv(2000)
    if frame[12:14] == b"\\x88\\xb5":
        marks.append([frame[14:].rstrip(b"\\0").decode(), 0])
    elif frame[12:14] == b"\\x08\\x00" and frame[34:36] == (4000).to_bytes(2, "big"):
        marks[-1][1] += 1
print(json.dumps(marks), flush=True)
"""


def marker(text):
    """Return a frame that carries a word."""
    return bytes.fromhex("ffffffffffff 0200000000aa 88b5") + text.encode().ljust(46, b"\0")


@pytest.fixture
def busy():
    """Yield a switch, and the ports of two receivers, while a sender sends on two connections without a pause."""
    with OvsInstance(tso=True) as ovs:
        # From the first packet on, one rule or another counts it.
        ovs.ofctl("add-flow", ovs.bridge, "priority=1,actions=drop")
        sender = ovs.add_host("sender", "10.0.0.1/24", "02:00:00:00:00:01")
        ports = [ovs.ofport(ovs.add_host(name, "10.0.0.99/24", MAC)) for name in ("old", "new")]
        sender.knows("10.0.0.99", MAC)
        for number in (FLOW.source_port, BYSTANDER.source_port):
            assert sender.popen(sys.executable, "-c", BLAST, str(number)).stdout.readline() == "ready\n"
        yield ovs, ports


def outputs(ovs, connection):
    """Return the datapath ports to which flows send the connection, as the datapath has it now."""
    pattern = rf"src={connection.source_port},.*actions:(\S+)"
    return re.findall(pattern, ovs.appctl("dpctl/dump-flows"))


def test_no_old_flow_is_left_after_the_barrier_reply(busy):
    ovs, (old, new) = busy
    datapath = {port: re.search(rf" \w+ {port}/(\d+):", ovs.appctl("dpif/show")) for port in (old, new)}
    numbers = {port: found.group(1) for port, found in datapath.items()}
    with OpenFlowClient(ovs.run_dir, ovs.bridge) as switch:
        switch.commit(switch.flow_mod(ADD, FLOW, 10, old), switch.flow_mod(ADD, BYSTANDER, 10, old))
        changes = [
            (switch.flow_mod(ADD, FLOW, 20, new), new),
            (switch.flow_mod(MODIFY_STRICT, FLOW, 20, old), old),
            (switch.flow_mod(MODIFY_STRICT, FLOW, 20, new), new),
            (switch.flow_mod(DELETE_STRICT, FLOW, 20, new), old),
        ]
        for _ in range(25):
            for message, now in changes:
                wait_until("the connection has a datapath flow", lambda: outputs(ovs, FLOW))
                switch.commit(message)
                assert set(outputs(ovs, FLOW)) <= {numbers[now]}
    assert ovs.coverage("upcall_evict_sync") > 25
    assert outputs(ovs, BYSTANDER) == [numbers[old]]


def counted_by_rules(ovs):
    """Return how many packets all rules have counted together."""
    return sum(int(count) for count in re.findall(r"n_packets=(\d+)", ovs.ofctl("dump-flows", ovs.bridge)))


def looked_up(ovs):
    """Return how many packets the datapath has looked up, with or without an upcall."""
    hit, missed = re.search(r"hit:(\d+) missed:(\d+)", ovs.appctl("dpctl/show")).groups()
    return int(hit) + int(missed)


def test_every_packet_is_counted_once(busy):
    ovs, (old, new) = busy
    with OpenFlowClient(ovs.run_dir, ovs.bridge) as switch:
        switch.commit(switch.flow_mod(ADD, FLOW, 10, old), switch.flow_mod(ADD, BYSTANDER, 10, old))
        switch.commit(switch.flow_mod(ADD, FLOW, 20, new))
        for _ in range(15):
            for port in (old, new):
                wait_until("the connection has a datapath flow", lambda: outputs(ovs, FLOW))
                switch.commit(switch.flow_mod(MODIFY_STRICT, FLOW, 20, port))
    for blaster in ovs.hosts["sender"].processes:
        end(blaster)
    assert ovs.coverage("upcall_evict_sync") > 20
    assert looked_up(ovs) > 1000
    wait_until("the rules have counted what the datapath has seen", lambda: counted_by_rules(ovs) == looked_up(ovs))


def test_no_packet_takes_the_old_way_after_a_packet_out(busy):
    """What follows a flow mod on the OpenFlow connection is not overtaken by packets under the older rules."""
    ovs, (old, new) = busy
    watcher = ovs.hosts["old"].popen(sys.executable, "-c", ORDER)
    assert watcher.stdout.readline() == "ready\n"
    with OpenFlowClient(ovs.run_dir, ovs.bridge) as switch:
        switch.commit(switch.flow_mod(ADD, FLOW, 10, old))
        for _ in range(25):
            wait_until("the old way has a datapath flow", lambda: outputs(ovs, FLOW))
            switch.commit(switch.flow_mod(MODIFY_STRICT, FLOW, 10, new), switch.packet_out(marker("closed"), old))
            wait_until("the new way has a datapath flow", lambda: outputs(ovs, FLOW))
            switch.commit(switch.packet_out(marker("open"), old), switch.flow_mod(MODIFY_STRICT, FLOW, 10, old))
        switch.commit(switch.flow_mod(DELETE_STRICT, FLOW, 10, old), switch.packet_out(marker("done"), old))
    marks = json.loads(watcher.stdout.readline())
    assert [count for name, count in marks if name == "closed"] == [0] * 25
    # Else there was nothing that could have gone wrong.
    assert sum(count for name, count in marks if name == "open") >= 25
