# SPDX-License-Identifier: Apache-2.0
"""Whether a client can tell from the headers that it was moved: origin and target are as different as Linux makes them.

Other hops (TTL), another clock and count of packets (Linux begins both at random for each connection), other window
scales. What the client can still tell is stated in docs/tcp-migration.md ("What the client can see").
"""

import itertools
import json
import subprocess
import sys

import pytest

from controller.core import seq
from controller.core.cut import FREEZE_LIMIT
from controller.core.events import MigrationCompleted
from controller.core.segment import FIN, PSH, SYN, ConnectionKey, Endpoint
from topo import BatonNet, wait_for

from .captures import captured, segments
from .hand import Hand, bus_of, moved, serve
from .test_any_moment import LINES, set_in, until_there
from .test_observe import DEADLINE, SETTINGS, Bulk, Lab, account

ORIGIN_TTL, TARGET_TTL = 77, 200
MORE = """
[servers.lines1]
address = "10.0.0.1"
port = 11112
[servers.lines2]
address = "10.0.0.2"
port = 22225
[servers.lines3]
address = "10.0.0.2"
port = 22226
[[services]]
name = "lines"
origin = "lines1"
mode = "observe"
cut_policy = "quiet"
handshake_timeout = 2.0
"""
DIFFERENT = {
    "h1": {"ip_default_ttl": ORIGIN_TTL, "tcp_ecn": 1},
    "h2": {"ip_default_ttl": TARGET_TTL, "tcp_ecn": 1, "tcp_rmem": "4096 131072 400000"},
    "h3": {"tcp_ecn": 1},
}
ECN, DSCP = 3, 0xFC
STEP = 1_000
"""Most identifications between two packets with data: bare ACKs, and answers to the controller, take some."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stealth")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS + MORE)
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        for node, variables in DIFFERENT.items():
            for name, value in variables.items():
                assert net.run(node, ["sysctl", "-qw", f"net.ipv4.{name}={value}"]).returncode == 0
        net.start_controller("os_ken")
        for node, address, port, name in (("h1", "10.0.0.1", 11_112, "lines1"), ("h2", "10.0.0.2", 22_225, "lines2")):
            command = [sys.executable, LINES, "serve", address, str(port), name]
            server = net.popen(node, command, stdout=subprocess.PIPE, text=True)
            assert server.stdout.readline().startswith("ready")
        yield Lab(net, directory)


@pytest.fixture
def bus(lab):
    with bus_of(lab.net) as client:
        yield client


def said_by_servers(seen):
    """Leave out the SYN-ACK, and what the controller says itself: old bytes, or none."""
    return [one for one in seen if not one.segment.flags & SYN and len(one.segment.payload) > 1]


def check_one_face(seen):
    """Every packet but the SYN-ACK looks as if it came from one machine on one way."""
    rest = [one for one in seen if not one.segment.flags & SYN]
    assert {one.segment.eth_src for one in seen} == {"02:00:00:00:00:01"}
    assert {one.segment.src for one in seen} == {seen[0].segment.src}
    assert {one.segment.ttl for one in seen} == {ORIGIN_TTL}
    assert {one.dont_fragment for one in seen} == {True}
    assert {one.segment.tos & DSCP for one in seen} == {0}
    # Padding, padding, timestamps; behind them SACK in the same way: the layout of one kind of stack.
    assert {one.kinds for one in rest} <= {(1, 1, 8), (1, 1, 8, 1, 1, 5)}


def check_clock(said):
    """TSval does not go back, but for packets that are late: kept in a freeze that was undone, or overtaken."""
    clocks = [one.segment.options.timestamps.value for one in said]
    steps = [seq.offset(one, two) for one, two in itertools.pairwise(clocks)]
    assert min(steps) >= -1000 * FREEZE_LIMIT, sorted(steps)[:5]


def check_numbers(seen):
    """One sequence space: from the SYN-ACK's number on, each byte has its place, none is left out."""
    assert seen[0].segment.flags & SYN
    due = seq.add(seen[0].segment.seq, 1)
    for one in seen[1:]:
        segment = one.segment
        assert not seq.is_after(segment.seq, due)
        due = seq.later(due, seq.add(segment.seq, len(segment.payload)))


def check_identifications(said, mss):
    """They go on from packet to packet; a large one that was captured whole has taken as many as its segments."""
    for one, two in itertools.pairwise(said):
        taken = -(-len(one.segment.payload) // mss)
        step = (two.segment.ip_id - one.segment.ip_id - taken + STEP) & 0xFFFF
        assert step < 2 * STEP, (one.segment.ip_id, two.segment.ip_id, taken)


def test_a_line_protocol_looks_the_same_wherever_it_is_served(lab, bus, tmp_path):
    path = tmp_path / "client.pcap"
    with captured(lab.net, "h3", path, "src host 10.0.0.1 and tcp src port 11112"):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        client = lab.net.popen("h3", [sys.executable, LINES, "ask", "10.0.0.1", "11112"], text=True, **pipes)
        port = json.loads(client.stdout.readline())["port"]
        key = ConnectionKey(Endpoint("10.0.0.3", port), Endpoint("10.0.0.1", 11_112))
        for target in ("lines2", "lines1", "lines2"):
            until_there(bus, key, target)
            heard = path.stat().st_size
            wait_for("answers", lambda heard=heard: path.stat().st_size > heard + 2_000, DEADLINE)
        out, err = client.communicate(timeout=DEADLINE)
        assert client.returncode == 0, err
    assert [name for name, _ in json.loads(out)["turns"]] == ["lines1", "lines2", "lines1", "lines2"]
    seen = segments(path)
    said = said_by_servers(seen)
    check_one_face(seen)
    check_clock(said)
    check_numbers([one for one in seen if not one.segment.flags & FIN])
    check_identifications(said, 1448)
    turns = [(name, list(group)) for name, group in itertools.groupby(said, lambda one: one.segment.payload[:6])]
    assert [name for name, _ in turns] == [b"lines1", b"lines2", b"lines1", b"lines2"]
    # The clock goes on at its rate: what was added to it at a cut is less than a freeze may take.
    early = [max(seq.offset(said[0].segment.options.timestamps.value, one.segment.options.timestamps.value)
                 - 1000 * (one.at - said[0].at) for one in group) for _, group in turns]  # fmt: skip
    assert all(-2 <= two - one < 1000 * FREEZE_LIMIT for one, two in itertools.pairwise(early)), early
    # ECN: what carries data says that it takes marks, from either server; and PSH is set as before.
    for _, group in turns:
        assert {one.segment.tos & ECN for one in group} == {2}
        assert all(one.segment.flags & PSH for one in group)


def test_a_busy_stream_looks_the_same_across_two_cuts(lab, bus, tmp_path):
    bulk = Bulk(lab.net, lab.directory / "stealth")
    path = tmp_path / "client.pcap"
    bulk.flows()
    key = ConnectionKey(Endpoint("10.0.0.3", bulk.port), Endpoint("10.0.0.1", 11_111))
    with captured(lab.net, "h3", path, f"src host 10.0.0.1 and tcp dst port {bulk.port}"):
        for target in ("server2", "server1"):
            assert isinstance(until_there(bus, key, target), MigrationCompleted)
            bulk.flows()
    assert account(lab, bulk) == ["server1", "server2", "server1"]
    seen = segments(path)
    said = said_by_servers(seen)
    assert len(said) > 10
    check_one_face(seen)
    check_clock(said)
    check_identifications(said, 1448)
    assert {one.segment.tos & ECN for one in said} == {2}


def test_what_is_taken_over_keeps_its_face(lab, bus, tmp_path):
    """A controller that reads the connection off its flows goes on as the one before it."""
    bulk = Bulk(lab.net, lab.directory / "taken-over")
    bulk.flows()
    key = ConnectionKey(Endpoint("10.0.0.3", bulk.port), Endpoint("10.0.0.1", 11_111))
    until_there(bus, key, "server2")
    lab.net.stop_controller(9)
    lab.net.start_controller("os_ken")
    path = tmp_path / "client.pcap"
    with captured(lab.net, "h3", path, f"src host 10.0.0.1 and tcp dst port {bulk.port}"):
        told = lab.until_ok("return", bulk.name)
        assert told["result"] == "MigrationCompleted"
        bulk.flows()
        wait_for("the row", lambda: lab.baton("connections", str(bulk.port))["connections"], DEADLINE)
    assert account(lab, bulk) == ["server1", "server2", "server1"]
    seen = segments(path)
    said = said_by_servers(seen)
    check_one_face(seen)
    check_clock(said)
    check_identifications(said, 1448)


def test_a_target_that_lets_routers_fragment_shows(lab, bus, tmp_path):
    """A limit: no action of the switch edits that bit; so both servers have to be set alike."""
    path = tmp_path / "client.pcap"
    variable = "net.ipv4.ip_no_pmtu_disc"
    with set_in(lab.net, "h2", ["sysctl", "-qw", f"{variable}=1"], ["sysctl", "-qw", f"{variable}=0"]):
        serve(lab.net, "h2", "10.0.0.2", 22_226, "lines3")
    hand = Hand(lab.net)
    with captured(lab.net, "h3", path, "src host 10.0.0.1 and tcp src port 11112"):
        hand.connect("10.0.0.1", 11_112)
        assert hand.ask("one") == "lines1 one\n"
        moved(bus, hand.key, "lines3")
        assert hand.ask("two") == "lines3 two\n"
    hand.do("close")
    bits = [one.dont_fragment for one in said_by_servers(segments(path))]
    assert bits == [True, False]
