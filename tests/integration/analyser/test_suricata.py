# SPDX-License-Identifier: Apache-2.0
"""The real Suricata on a real wire: alerts from packets, rules exchanged while it runs, ends in every way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from controller.core.segment import Endpoint
from tests.integration.analyser.conftest import DEADLINE, until

ETHER = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:01")
LINK = ETHER / IP(src="10.0.0.3", dst="10.0.0.1")


def request(text, port=4000, seq=77, flags="PA"):
    return LINK / TCP(sport=port, dport=11111, seq=seq, flags=flags) / text


@pytest.fixture
def analyser(start, wire, alerts):
    begun = start("--interface", "wire", "--netns", wire.server)
    begun.expect("^ready$")
    return begun


@pytest.fixture
def send(wire):
    return wire.sender()


def edit(rules, old, new):
    path = rules / "baton.rules"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_packet_raises_the_alert_of_its_rule(analyser, alerts, send):
    for text, flags, sid, message in (
        (b"please forward this", "PA", 1000001, "FORWARD"),
        (b"please migrate this", "PA", 1000002, "MIGRATE"),
        (b"please migrate this", "PAC", 1000002, "MIGRATE"),
    ):
        send(request(text, flags=flags))
        event = alerts.next()
        assert (event.engine, event.sid, event.gid, event.rev, event.message) == ("suricata", sid, 1, 1, message)
        assert (event.classtype, event.priority) == ("connection-migration", 1)
        assert (event.src, event.dst) == (Endpoint("10.0.0.3", 4000), Endpoint("10.0.0.1", 11111))
        assert (event.seq, event.payload) == (77, text)
        assert event.raised_at > 1_700_000_000

    # IPv6 and VLAN-tagged packets do too
    send(ETHER / IPv6(src="fd00::3", dst="fd00::1") / TCP(sport=1, dport=2, seq=5, flags="PA") / b"migrate")
    event = alerts.next()
    assert (event.src, event.dst, event.seq) == (Endpoint("fd00::3", 1), Endpoint("fd00::1", 2), 5)
    vlan = ETHER / Dot1Q(vlan=7) / IP(src="10.0.0.3", dst="10.0.0.1")
    send(vlan / TCP(sport=3, dport=4, seq=6, flags="PA") / b"migrate")
    event = alerts.next()
    assert (event.src.port, event.seq, event.payload) == (3, 6, b"migrate")

    # what the rules do not ask for raises none: of these four, only the last
    send(request(b"migrate", port=1, flags="A"))
    send(request(b"MIGRATE", port=2))
    send(request(b"nothing", port=3))
    send(request(b"migrate", port=4))
    assert alerts.next().src.port == 4


def test_a_match_inside_a_segment_larger_than_the_mtu_is_found(analyser, alerts, wire):
    # a virtual wire carries what the sender's kernel leaves to its network card: segments of up to 64 KiB
    text = b"x" * 5_000 + b"migrate" + b"y" * 5_000
    listener = subprocess.Popen(
        ["ip", "netns", "exec", wire.server, sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert listener.stdout.readline() == "listening\n"
        client = ["ip", "netns", "exec", wire.client, sys.executable, "-c", CLIENT]
        subprocess.run(client, input=text, timeout=DEADLINE, check=True)
        event = alerts.next()
    finally:
        listener.wait(DEADLINE)
        listener.stdout.close()
    assert event.dst == Endpoint("10.77.0.2", 11111)
    assert event.payload in text  # a segment, or all of it
    assert event.payload.index(b"migrate") > 1_500, "the match is beyond what a packet of the wire's MTU holds"


LISTENER = """
import socket
server = socket.create_server(("10.77.0.2", 11111))
print("listening", flush=True)
peer, _ = server.accept()
while peer.recv(65536):
    pass
"""
CLIENT = """
import socket, sys
data = sys.stdin.buffer.read()
with socket.create_connection(("10.77.0.2", 11111)) as peer:
    peer.sendall(data)
"""


def test_an_edited_rule_takes_effect_without_a_restart(analyser, alerts, send, rules):
    pid = analyser.process.pid
    edit(rules, 'content:"migrate"', 'content:"handover"')
    analyser.expect("^rules loaded: 2$")
    send(request(b"migrate", port=1))
    send(request(b"handover", port=2))
    event = alerts.next()
    assert (event.sid, event.src.port) == (1000002, 2)
    assert analyser.process.pid == pid
    assert analyser.process.poll() is None


def test_a_new_file_with_a_new_class_is_loaded(analyser, alerts, send, rules):
    (rules / "classification.config").write_text("config classification: honeypot,Send to a decoy,2\n")
    (rules / "more.rules").write_text(
        'alert tcp any any -> any any (msg:"DECOY"; flags:PA; content:"decoy"; classtype:honeypot; sid:7; rev:2;)\n'
    )
    analyser.expect("^rules loaded: 3$")
    send(request(b"decoy"))
    event = alerts.next()
    assert (event.sid, event.rev, event.message, event.priority) == (7, 2, "DECOY", 2)


@pytest.mark.parametrize(
    ("new", "what"),
    [
        ('content:"migrate" classtype:connection-migration', "baton.rules line 11: "),
        ("content:migrate; nonsense; classtype:connection-migration", "baton.rules line 11: "),
    ],
    ids=["missing semicolon", "unknown keyword"],
)
def test_a_broken_file_is_refused_and_the_rules_before_live_on(analyser, alerts, send, rules, new, what):
    edit(rules, 'content:"migrate"; classtype:connection-migration', new)
    analyser.expect(f"^rules refused: {what}\\S+")
    analyser.expect("^rules unchanged: mend the file")
    send(request(b"migrate", port=1))
    assert alerts.next().sid == 1000002
    edit(rules, new, 'content:"mended"; classtype:connection-migration')
    analyser.expect("^rules loaded: 2$")
    send(request(b"mended", port=2))
    assert (event := alerts.next()).src.port == 2, event


def test_a_missing_file_changes_nothing(analyser, alerts, send, rules):
    (rules / "baton.rules").unlink()
    analyser.expect(r"^rules not loaded: there is no \*\.rules file")
    send(request(b"migrate"))
    assert alerts.next().sid == 1000002


def test_no_alert_is_lost_while_rules_are_exchanged(analyser, alerts, send, rules):
    sent = 0
    for turn in range(1, 4):
        edit(rules, f"rev:{turn};", f"rev:{turn + 1};")
        while not any(line.startswith("rules loaded") for line in analyser.lines[turn:]):
            send(request(b"migrate", port=1024 + sent, seq=sent))
            sent += 1
            alerts_wait(alerts, sent)
            assert analyser.process.poll() is None
    seen = {alerts.next().seq for _ in range(sent)}
    assert seen == set(range(sent))
    assert sent > 3


def alerts_wait(alerts, sent):
    """Let no more than a few packets be under way, so that no queue on a busy machine overflows."""
    until(lambda: alerts.queue.qsize() >= sent - 8, f"alert {sent - 8}")


def test_the_analyser_may_come_back(start, wire, alerts, send):
    for _ in range(2):
        begun = start("--interface", "wire", "--netns", wire.server)
        begun.expect("^ready$")
        send(request(b"migrate"))
        assert alerts.next().sid == 1000002
        assert begun.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_engine(analyser, directory, number):
    engine = children(analyser.process.pid)
    assert len(engine) == 1
    assert analyser.end(number) == 0
    assert not Path(f"/proc/{engine[0]}").exists()
    assert not (directory / "suricata-cmd.sock").exists()


def test_killed_it_leaves_no_engine_behind(analyser):
    engine = children(analyser.process.pid)
    assert len(engine) == 1
    analyser.end(signal.SIGKILL)
    until(lambda: not is_running(engine[0]), "the engine to end")


def test_an_engine_that_dies_is_reported(analyser):
    os.kill(children(analyser.process.pid)[0], signal.SIGKILL)
    analyser.expect("^baton: suricata has ended by itself")
    analyser.process.wait(DEADLINE)
    assert analyser.end() == 1


def test_a_second_one_in_the_same_place_is_refused(analyser, start, wire):
    second = start("--interface", "wire", "--netns", wire.server)
    second.expect("^baton: another analyser works in .*; stop it, or set BATON_RUN_DIR")
    assert second.process.wait(DEADLINE) == 2
    assert analyser.process.poll() is None


def test_a_missing_interface_is_named(start, wire, alerts):
    begun = start("--interface", "nowhere", "--netns", wire.server)
    begun.expect("^baton: suricata could not start on nowhere: .*nowhere: .*No such device")
    assert begun.process.wait(DEADLINE) == 2


def test_a_missing_namespace_is_named(start):
    begun = start("--interface", "wire", "--netns", "nowhere")
    begun.expect("^baton: there is no network namespace 'nowhere'")
    assert begun.process.wait(DEADLINE) == 2


def test_it_does_not_start_with_broken_rules(start, wire, rules, alerts):
    edit(rules, "sid:1000001;", "")
    begun = start("--interface", "wire", "--netns", wire.server)
    begun.expect('^baton: baton.rules line 10: Signature missing required value "sid"')
    assert begun.process.wait(DEADLINE) == 2


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
