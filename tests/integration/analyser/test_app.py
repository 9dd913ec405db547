# SPDX-License-Identifier: Apache-2.0
"""`apps/alerts.py` in either framework: alerts of every engine reach the bus (the journal observes it)."""

import json
import signal
import socket
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from frameworks import need
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from vectors.suricata import RECORD

from controller.wire.snort_alert import SnortAlert, encode_snort_alert
from tests.integration.analyser.conftest import DEADLINE, REPOSITORY, Command, until

PACKET = bytes(
    Ether() / IP(src="10.0.0.3", dst="10.0.0.1") / TCP(sport=4000, dport=11111, seq=77, flags="PA") / b"migrate"
)
EVE = {**RECORD, "timestamp": "2026-01-01T00:00:00.250000+0000", "packet": b64encode(PACKET).decode()}
SNORT2 = SnortAlert("MIGRATE", 1, 1000002, 1, 1, 1, 1767225600.25, False, PACKET)
SNORT3 = SnortAlert("MIGRATE", 1, 1000002, 1, 1, 1, 1767225600.25, True, PACKET)


@pytest.fixture(params=["ryu", "os_ken"])
def controller(request, directory):
    """Start the app with the journal in one of the frameworks; ended with the test."""
    need(request.param)
    started = []

    def begin(config=REPOSITORY / "baton.toml"):
        made = Command(
            *(sys.executable, "-m", "controller.manager", "--framework", request.param),
            *("apps/alerts.py", "apps/journal.py"),
            environment={"BATON_RUN_DIR": str(directory), "BATON_CONFIG": str(config)},
        )
        started.append(made)
        return made

    yield begin
    for command in started:
        command.end(signal.SIGKILL)


def send_datagram(path, data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(DEADLINE)
        sender.connect(str(path))
        sender.sendall(data)


def journal(directory):
    """The alerts in the journal so far, whole lines only."""
    lines = (directory / "events.jsonl").read_text().split("\n")[:-1]
    return [record for record in map(json.loads, lines) if record["event"] == "AlertRaised"]


def test_alerts_of_every_engine_reach_the_bus(controller, directory):
    process = controller()
    process.expect("listening on .*eve.sock .* and .*snort_alert")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as suricata:
        suricata.connect(str(directory / "eve.sock"))
        suricata.sendall(b"garbage\n" + json.dumps(EVE).encode() + b"\n")
        until(lambda: len(journal(directory)) == 1, "Suricata's alert")
        send_datagram(directory / "snort_alert", b"garbage")
        send_datagram(directory / "snort_alert", encode_snort_alert(SNORT2))
        until(lambda: len(journal(directory)) == 2, "Snort 2's alert")
        send_datagram(directory / "snort_alert", encode_snort_alert(SNORT3))
        records = until(lambda: len(found := journal(directory)) == 3 and found, "Snort 3's alert")
    assert [record["engine"] for record in records] == ["suricata", "snort2", "snort3"]
    for record in records:
        assert (record["sid"], record["message"]) == (1000002, "MIGRATE")
        assert record["classtype"] == "connection-migration"
        assert record["seq"] == 77
        assert record["raised_at"] == 1767225600.25
    assert process.process.poll() is None
    assert not any("Traceback" in line for line in process.lines)


def test_a_configured_path_is_honoured_and_a_stale_socket_replaced(controller, directory, tmp_path):
    elsewhere = tmp_path / "snort_alert"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crashed:
        crashed.bind(str(elsewhere))
    config = tmp_path / "baton.toml"
    text = (REPOSITORY / "baton.toml").read_text()
    config.write_text(text.replace("[analyser]", f'[analyser]\nsnort_socket = "{elsewhere}"'))
    controller(config).expect(f"and {elsewhere} ")
    send_datagram(elsewhere, encode_snort_alert(SNORT2))
    until(lambda: len(journal(directory)) == 1, "the alert")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_it_leaves_no_socket_and_starts_again(controller, directory, number):
    for turn in (1, 2):
        process = controller()
        process.expect("listening on")
        send_datagram(directory / "snort_alert", encode_snort_alert(SNORT2))
        until(lambda count=turn: len(journal(directory)) == count, "the alert")
        assert process.end(number) == 0
        assert not (directory / "eve.sock").exists()
        assert not (directory / "snort_alert").exists()


def test_interrupted_while_it_starts_it_ends_too(controller, directory):
    for sign in ("loading app", "instantiating app", "listening on"):
        process = controller()
        process.expect(sign)
        process.end(signal.SIGINT)
    controller().expect("listening on")


def test_killed_it_starts_again_over_what_it_left(controller, directory):
    process = controller()
    process.expect("listening on")
    process.end(signal.SIGKILL)
    assert (directory / "eve.sock").exists()
    controller().expect("listening on")


def test_wrong_settings_end_it_with_their_mend(controller, directory, tmp_path):
    config = tmp_path / "baton.toml"
    config.write_text((REPOSITORY / "baton.toml").read_text().replace("port = 11111", 'port = "11111"'))
    process = controller(config)
    process.expect(f'^baton: {config}: servers.server1.port: must be a whole number, not "11111"$')
    assert process.process.wait(DEADLINE) == 2
    assert not any("Traceback" in line for line in process.lines)
    assert not (directory / "eve.sock").exists()


def test_a_path_in_use_ends_it_with_a_clear_message(controller, directory):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(directory / "eve.sock"))
        other.listen(1)
        process = controller()
        process.expect(f"^baton: {directory}/eve.sock is in use by another process; stop that one or configure")
        assert process.process.wait(DEADLINE) == 2
        assert not any("Traceback" in line for line in process.lines)
    assert Path(directory, "eve.sock").is_socket()
