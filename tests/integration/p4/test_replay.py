# SPDX-License-Identifier: Apache-2.0
"""Every target that can be started here does what real bmv2 was recorded doing."""

from __future__ import annotations

import contextlib
import socket

import pytest
from vectors.p4 import bed, record, registers, replay
from vectors.p4.client import Client
from vectors.p4.targets import TARGETS


@pytest.mark.parametrize("name", replay.RECORDED)
@pytest.mark.parametrize("target", TARGETS)
def test_replay(target: str, name: str) -> None:
    recording = replay.load(name)
    with bed.Bed() as lab, contextlib.ExitStack() as stack:
        for port in recording["ports"]:
            lab.port("a", port)
        client = Client(
            lab.start(target, "a", recording["ports"]), record.BUILD / f"{recording['program']}.p4info.txtpb"
        )
        client.start()
        stack.callback(client.stop)
        client.push(record.BUILD / f"{recording['program']}.json")
        sockets = {port: stack.enter_context(lab.socket("a", port)) for port in recording["ports"]}
        read = None
        if target == "bmv2":
            with lab.inside():
                thrift = stack.enter_context(socket.create_connection(("127.0.0.1", 9090)))
            read = lambda register: registers.read_all(thrift, register)  # noqa: E731
        assert replay.Replay(client, sockets, read).run(recording["steps"]) == []
