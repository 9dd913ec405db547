# SPDX-License-Identifier: Apache-2.0
"""Our encoder and the registered actions against the bytes that the built ``ovs-ofctl`` sends to a switch."""

from __future__ import annotations

import importlib
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from frameworks import need

from controller.core.commands import FinTimeout, FlowAdd, Match, Output, Port, Rewrite
from controller.openflow import actions, messages
from controller.openflow.choice import FRAMEWORKS

from .conftest import REPOSITORY, TIMEOUT
from .fake_switch import BARRIER_REPLY, BARRIER_REQUEST, FLOW_MOD, HELLO, message

OFCTL = Path(os.environ.get("BATON_OVS_PREFIX") or REPOSITORY / "build" / "ovs") / "bin" / "ovs-ofctl"

CASES = [
    # what a user writes, what the core asks for
    ("inc_tcp_seq:1", Rewrite(seq=1)),
    ("inc_tcp_seq:2147483647", Rewrite(seq=0x7FFFFFFF)),
    ("dec_tcp_seq:5", Rewrite(seq=-5)),
    ("dec_tcp_seq:2147483648", Rewrite(seq=0x80000000)),
    ("inc_tcp_ack:77", Rewrite(ack=77)),
    ("dec_tcp_ack:77", Rewrite(ack=-77)),
    ("inc_tcp_tsval:4294967295", Rewrite(tsval=-1)),
    ("inc_tcp_tsecr:3735928559", Rewrite(tsecr=0xDEADBEEF)),
    ("shift_tcp_window:7", Rewrite(window_shift=7)),
    ("shift_tcp_window:-14", Rewrite(window_shift=-14)),
    ("set_tcp_window:0", Rewrite(window=0)),
    ("set_tcp_window:65535", Rewrite(window=0xFFFF)),
    ("inc_ip_id:4660", Rewrite(ip_id=0x1234)),
    ("mod_nw_ttl:61", Rewrite(ttl=61)),
    ("fin_timeout(idle_timeout=10,hard_timeout=60)", FinTimeout(10, 60)),
    ("output:7", Output(7, 0)),
    ("CONTROLLER:128", Output(Port.CONTROLLER, 128)),
    (
        "set_field:02:00:00:00:00:02->eth_dst,set_field:10.0.0.2->ip_dst,set_field:22222->tcp_dst,"
        "inc_tcp_seq:9,dec_tcp_ack:8,inc_tcp_tsval:7,inc_tcp_tsecr:6,shift_tcp_window:-1,set_tcp_window:5,inc_ip_id:4",
        Rewrite(
            eth_dst="02:00:00:00:00:02",
            ip_dst="10.0.0.2",
            tcp_dst=22222,
            seq=9,
            ack=-8,
            tsval=7,
            tsecr=6,
            window_shift=-1,
            window=5,
            ip_id=4,
        ),
    ),
]


@pytest.fixture
def flow_mod(tmp_path):
    """Return the flow-mod that ``ovs-ofctl add-flow`` sends for a flow in text form."""
    path = tmp_path / "switch.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(TIMEOUT)

    def capture(text):
        command = [OFCTL, "-O", "OpenFlow14", "--no-names", "add-flow", f"unix:{path}", text]
        tool = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        captured = None
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(TIMEOUT)
                connection.sendall(message(HELLO, 1))
                stream = connection.makefile("rb")
                while header := stream.read(8):
                    _, kind, length, xid = struct.unpack("!BBHI", header)
                    body = stream.read(length - 8)
                    if kind == FLOW_MOD:
                        captured = header + body
                    if kind == BARRIER_REQUEST:
                        connection.sendall(message(BARRIER_REPLY, xid))
        finally:
            _, complaint = tool.communicate(timeout=TIMEOUT)
        assert tool.returncode == 0, complaint
        return captured

    yield capture
    listener.close()


def tail_of(flow):
    """Return what follows the fixed part of a flow-mod: match and instructions."""
    return flow[48:]


@pytest.mark.parametrize(("text", "action"), CASES, ids=[text[:40] for text, _ in CASES])
def test_actions_are_those_of_ofctl(flow_mod, text, action):
    captured = flow_mod(f"table=3,priority=9,cookie=0x55,tcp,nw_src=10.0.0.3,tp_dst=80,actions={text}")
    match = Match(ip_src="10.0.0.3", tcp_dst=80)
    ours = messages.encode_flow(FlowAdd(1, 3, 9, match, (action,), cookie=0x55), 0)
    assert instructions(captured) == instructions(ours)
    assert captured[8:16] == ours[8:16]


def test_the_recorded_vectors_are_what_ofctl_encodes_in_every_version():
    """OpenFlow 1.0 to 1.5; the classes of both frameworks are tested against these vectors without a switch."""
    command = [sys.executable, "ovs_actions/make_vectors.py", "--check", "--ofctl", str(OFCTL)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr


def instructions(flow):
    """Return what follows the match of a flow-mod: the order of match fields is each encoder's own."""
    length = int.from_bytes(flow[50:52])
    return tail_of(flow)[length + -length % 8 :]


@pytest.mark.parametrize("row", actions.ACTIONS, ids=lambda row: row.name)
@pytest.mark.parametrize("framework_name", FRAMEWORKS)
def test_the_framework_parses_what_ofctl_sends(flow_mod, framework_name, row):
    need(framework_name)
    parser = importlib.import_module(f"{framework_name}.ofproto.ofproto_v1_4_parser")
    actions.register_with(parser)
    word = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in row.name.removeprefix("NXAction"))
    encoded = instructions(flow_mod(f"tcp,actions={word.lstrip('_')}:{row.highest}"))
    parsed = parser.OFPAction.parser(encoded[8:], 0)
    assert type(parsed).__name__ == row.name
    assert getattr(parsed, row.argument) == row.highest
    buffer = bytearray()
    parsed.serialize(buffer, 0)
    assert buffer == encoded[8:]
