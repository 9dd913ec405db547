# SPDX-License-Identifier: Apache-2.0
"""Real clients, servers, switch, analyser and controller: who serves which connection, to the last byte."""

import signal
import sys

from topo import wait_for

FLOOD = """
import random, socket, sys
from controller.wire.snort_alert import SnortAlert, encode_snort_alert
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(sys.argv[1])
whole = encode_snort_alert(SnortAlert("MIGRATE", 1, 1000002, 1, 1, 1, 1.0, False, b"x" * 60))
while True:
    for data in (b"", whole[: random.randrange(len(whole))], whole + bytes(100_000), random.randbytes(65_864), whole):
        sender.send(data)
"""
GARBAGE = """
import random, socket, sys
while True:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(sys.argv[1])
        try:
            for _ in range(random.randrange(1, 200)):
                stream.sendall(random.randbytes(random.randrange(20_000)))
        except OSError:
            pass  # refused: too many analysers at once
"""


def servers_of(report):
    return [exchange["server"] for exchange in report["exchanges"]]


def sent(report):
    return sum(exchange["bytes_sent"] for exchange in report["exchanges"])


def test_a_forward_rule_keeps_the_connection_at_its_origin(bench):
    report = bench.ask("forward, please", "who are you?", "get 300000 1")
    assert (report["error"], servers_of(report)) == ("", ["server1"] * 3)
    assert bench.wait_received("server1", report) == sent(report)
    assert bench.wait_closed(report) == "fin"


def test_a_migrate_rule_moves_the_live_connection(bench):
    report = bench.ask("migrate, please", "who are you now?", "get 3000000 2", "still there?")
    assert (report["error"], servers_of(report)) == ("", ["server2"] * 4)
    assert bench.wait_received("server2", report) == sent(report)
    assert bench.wait_received("server1", report) == 0
    (completed,) = bench.events(report, "MigrationCompleted")
    assert (completed["origin"], completed["target"]) == ("server1", "server2")
    assert bench.wait_closed(report) == "fin"


def test_without_a_rule_the_default_verdict_forwards(bench):
    report = bench.ask("nobody looks for this")
    assert (report["error"], servers_of(report)) == ("", ["server1"])
    (verdict,) = bench.events(report, "VerdictReached")
    assert (verdict["verdict"], verdict["cause"]) == ("forward", "default")


def test_a_first_request_of_many_segments_moves_whole(bench):
    report = bench.ask("--size", "60000", "--count", "3", "migrate")
    assert (report["error"], servers_of(report)) == ("", ["server2"] * 3)
    assert bench.wait_received("server2", report) == sent(report)


def test_many_clients_at_once_each_go_their_way(bench):
    words = [("migrate", "server2"), ("forward", "server1"), ("neither", "server1")] * 8
    clients = [(bench.client(word, "get 20000 3", "end"), server) for word, server in words]
    for client, server in clients:
        report = bench.report(client)
        assert (report["error"], servers_of(report)) == ("", [server] * 3)


def test_nothing_of_a_connection_stays_in_the_switch_after_its_end(bench):
    report = bench.ask("migrate", "bye")
    assert report["error"] == ""
    bench.wait_closed(report)
    port = f"={report['local_port']},"

    def flows():
        return [flow for flow in bench.connection_flows() if port in flow and "actions=drop" not in flow]

    wait_for("the end of the flows", lambda: not flows(), 30)


def test_a_target_that_refuses_leaves_the_origin_serving(bench):
    bench.stop_server("server2")
    try:
        report = bench.ask("migrate, if you can", "who are you?")
        assert (report["error"], servers_of(report)) == ("", ["server1"] * 2)
        assert bench.wait_received("server1", report) == sent(report)
        assert bench.events(report, "MigrationFailed")
    finally:
        bench.start_server("server2")
    assert servers_of(bench.ask("migrate again")) == ["server2"]


def test_an_edited_rule_takes_effect_and_disturbs_nobody(bench):
    witness = bench.client("--count", "60", "--interval", "0.05", "migrate first")
    text = bench.rules.read_text()
    assert servers_of(bench.ask("teleport me")) == ["server1"]
    bench.rules.write_text(text.replace('content:"migrate"', 'content:"teleport"').replace("rev:1;", "rev:2;"))
    try:
        wait_for("the edited rule", lambda: servers_of(bench.ask("teleport me")) == ["server2"], 30)
        assert servers_of(bench.ask("migrate me")) == ["server1"]
        report = bench.report(witness)
        assert (report["error"], set(servers_of(report))) == ("", {"server2"})
    finally:
        bench.rules.write_text(text)
        wait_for("the rule as before", lambda: servers_of(bench.ask("migrate me")) == ["server2"], 30)


def test_a_broken_rule_changes_nothing_and_is_named(bench):
    text = bench.rules.read_text()
    log = bench.net.run_dir / "analyser.log"
    bench.rules.write_text(text + 'alert tcp any any -> any any (msg:"BROKEN"; content:"x"; nonsense:1; sid:9;)\n')
    try:
        wait_for("the refusal", lambda: "refused" in log.read_text(), 30)
        assert servers_of(bench.ask("migrate me")) == ["server2"]
    finally:
        bench.rules.write_text(text)
        loaded = log.read_text().count("rules loaded")
        wait_for("the rules loaded again", lambda: log.read_text().count("rules loaded") > loaded, 30)


def test_a_flood_of_wrong_alerts_disturbs_nobody(bench):
    """Truncated, oversized and random alerts, and alerts of no connection, as fast as they can be sent."""
    log = bench.net.run_dir / "controller.log"
    witness = bench.client("--count", "40", "--interval", "0.05", "forward, please")
    flooders = [bench.net.popen("c0", [sys.executable, "-c", FLOOD, str(bench.net.run_dir / "snort_alert")])]
    flooders.append(bench.net.popen("c0", [sys.executable, "-c", GARBAGE, str(bench.net.run_dir / "eve.sock")]))
    try:
        wait_for("the complaint", lambda: "malformed alerts" in log.read_text(), 30)
        report = bench.ask("migrate, in the flood", "who are you?")
        assert (report["error"], servers_of(report)) == ("", ["server2"] * 2)
        report = bench.report(witness)
        assert (report["error"], set(servers_of(report))) == ("", {"server1"})
        assert [flooder.poll() for flooder in flooders] == [None, None]
    finally:
        for flooder in flooders:
            flooder.kill()
            flooder.wait()
    assert bench.net.controller.poll() is None
    assert "Traceback" not in log.read_text()


def test_migrated_connections_outlive_the_controller(bench):
    """Last of the module: the controller is not started again."""
    request = "migrate, then lose your controller"
    client = bench.client("--count", "40", "--interval", "0.1", request)

    def is_served():
        return any(fact["text"] == request for fact in bench.log("server2", "request"))

    wait_for("the migration", is_served, 30)
    bench.net.stop_controller(signal.SIGKILL)
    report = bench.report(client)
    assert (report["error"], set(servers_of(report))) == ("", {"server2"})
