# SPDX-License-Identifier: Apache-2.0
"""The seam as a running controller, on Ryu and on OS-Ken: switches, second controllers, ports in use, the end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
from frameworks import NO_RYU, RYU_ENDS

from controller.core.segment import ACK, Endpoint, Segment
from controller.openflow.switch import CHECKS
from controller.wire.segment import decode_segment, encode_segment

from .conftest import REPOSITORY, TIMEOUT, free_port
from .fake_switch import BUNDLE_ADD, FLOW_MOD, FakeSwitch

PACKET_OUT = 13


def test_a_switch_on_the_private_socket(start, framework):
    controller = start()
    assert wait_until_listening(controller)["framework"] == framework
    path = controller.run_dir / "openflow.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    switch = FakeSwitch(str(path), dpid=0xB1)
    assert controller.next("SwitchConnected")["ports"] == [["h1-eth0", 1], ["ids0", 4]]
    assert controller.next("BarrierReplied")["token"] == 5
    assert len(switch.wait_for(FLOW_MOD)) == 1
    assert controller.next("TimerExpired")["kind"] == "probe"
    switch.close()
    assert controller.next("SwitchLost")["switch"] == 0xB1
    code, _ = controller.end()
    assert code == 0
    assert not path.exists()


def test_a_switch_on_tcp(start):
    controller = start()
    wait_until_listening(controller)
    switch = FakeSwitch(("127.0.0.1", controller.port), dpid=0xB2)
    assert controller.next("SwitchConnected")["switch"] == 0xB2
    switch.close()
    controller.next("SwitchLost")


def test_packets_in_and_out(start):
    controller = start()
    wait_until_listening(controller)
    switch = FakeSwitch(str(controller.run_dir / "openflow.sock"))
    controller.next("SwitchConnected")
    segment = Segment(Endpoint("10.0.0.3", 40_000), Endpoint("10.0.0.1", 80), 7, 8, ACK, 100, payload=b"hello")
    switch.packet_in(4, encode_segment(segment), cookie=99)
    told = controller.next("SegmentReceived")
    assert (told["port"], told["cookie"]) == (4, 99)
    ((_, _, message),) = switch.wait_for(PACKET_OUT)
    assert decode_segment(message[24 + int.from_bytes(message[16:18]) :]).payload == b"hello"
    switch.packet_in(4, b"not a packet at all")
    switch.packet_in(4, encode_segment(segment), cookie=100)
    assert controller.next("SegmentReceived")["cookie"] == 100
    switch.close()


def test_a_switch_without_the_actions_gets_no_flow_and_is_named(start):
    controller = start()
    wait_until_listening(controller)
    bare = FakeSwitch(str(controller.run_dir / "openflow.sock"), dpid=0xBAD, refuse={BUNDLE_ADD})
    bare.wait_for(BUNDLE_ADD, len(CHECKS))
    good = FakeSwitch(str(controller.run_dir / "openflow.sock"), dpid=0x600D)
    assert controller.next("SwitchConnected")["switch"] == 0x600D
    controller.next("BarrierReplied")
    assert all(kind != FLOW_MOD for kind, _, _ in bare.received)
    bare.close()
    good.close()
    assert controller.next("SwitchLost")["switch"] == 0x600D
    _, complaints = controller.end()
    assert "0000000000000bad lacks inc_tcp_seq" in complaints
    assert "make setup" in complaints


def test_commands_are_sent_though_nothing_understandable_follows(start):
    """What is written is gathered while events are at hand; a burst that ends in rubbish must not hold it up."""
    controller = start()
    wait_until_listening(controller)
    switch = FakeSwitch(str(controller.run_dir / "openflow.sock"))
    controller.next("BarrierReplied")
    segment = encode_segment(Segment(Endpoint("10.0.0.3", 40_000), Endpoint("10.0.0.1", 80), 7, 8, ACK, 100))
    burst = 20
    switch.packets_in(4, [segment, b"rubbish", b"more rubbish"] * burst)
    assert len(switch.wait_for(PACKET_OUT, burst)) == burst
    switch.close()


def test_a_refused_command_is_reported(start):
    controller = start()
    wait_until_listening(controller)
    switch = FakeSwitch(str(controller.run_dir / "openflow.sock"), refuse={FLOW_MOD})
    refused = controller.next("CommandRefused")
    assert refused["token"] == 5
    assert "OFPET_BAD_ACTION" in refused["reason"]
    switch.close()


def test_a_switch_that_comes_back_is_connected_again(start):
    controller = start()
    wait_until_listening(controller)
    for _ in range(3):
        switch = FakeSwitch(str(controller.run_dir / "openflow.sock"))
        controller.next("SwitchConnected")
        switch.close()
        controller.next("SwitchLost")


def test_a_second_controller_in_the_same_directory_is_refused(start):
    first = start()
    wait_until_listening(first)
    code, complaints = start().end(number=None)
    assert code == 2
    assert f"process {first.process.pid}" in complaints
    assert "BATON_RUN_DIR" in complaints
    assert "Traceback" not in complaints
    switch = FakeSwitch(str(first.run_dir / "openflow.sock"))
    first.next("SwitchConnected")
    switch.close()


def test_a_tcp_port_in_use_is_named(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        code, complaints = start(port=port).end(number=None)
    assert code == 2
    assert f"TCP port {port} is in use" in complaints
    assert "Traceback" not in complaints


def test_the_socket_of_a_killed_controller_is_replaced(start):
    killed = start()
    wait_until_listening(killed)
    killed.end(signal.SIGKILL)
    assert (killed.run_dir / "openflow.sock").exists()
    controller = start()
    wait_until_listening(controller)
    switch = FakeSwitch(str(controller.run_dir / "openflow.sock"))
    controller.next("SwitchConnected")
    switch.close()


def test_something_else_in_the_way_is_left_there(start, tmp_path):
    obstacle = tmp_path / "run" / "openflow.sock"
    obstacle.write_text("mine")
    code, complaints = start().end(number=None)
    assert code == 2
    assert "not a socket" in complaints
    assert obstacle.read_text() == "mine"


def test_a_missing_app_is_named(start):
    code, complaints = start(apps=("apps/nothing_here.py",)).end(number=None)
    assert code == 2
    assert "there is no app apps/nothing_here.py" in complaints
    assert "Traceback" not in complaints


@pytest.mark.skipif(sys.version_info >= RYU_ENDS, reason=NO_RYU)
def test_ryu_manager_itself_runs_an_app(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    manager = os.path.join(os.path.dirname(sys.executable), "ryu-manager")
    process = subprocess.Popen(
        [manager, "--ofp-tcp-listen-port", str(free_port()), "tests/integration/framework/probe_app.py"],
        cwd=REPOSITORY,
        env={**os.environ, "BATON_RUN_DIR": str(run_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert '"framework": "ryu"' in process.stdout.readline()
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def wait_until_listening(controller):
    """Wait for the app, then for the framework's own listener, which starts last; return what the app said."""
    started = controller.next("Started")
    end = time.monotonic() + TIMEOUT
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", controller.port)) == 0:
                return started
        assert controller.process.poll() is None, controller.complaints
        assert time.monotonic() < end, f"nothing listens on port {controller.port}"
        time.sleep(0.02)
