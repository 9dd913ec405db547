# SPDX-License-Identifier: Apache-2.0
"""What the tests on a real switch share."""

import json
import sys
from pathlib import Path

import pytest
from integration.ovs.ovs_instance import Host, OvsInstance

PEER = Path(__file__).with_name("peer.py")
CLIENT_MAC = "02:00:00:00:00:01"
SERVER_MAC = "02:00:00:00:00:02"


class Pair:
    """A client and a server at a switch of their own, each with an IPv4 and an IPv6 address."""

    def __init__(self, ovs: OvsInstance) -> None:
        self.ovs = ovs
        self.client_addresses = {4: "10.0.0.1", 6: "fd00::1"}
        self.server_addresses = {4: "10.0.0.2", 6: "fd00::2"}
        self.client = self._add("client", CLIENT_MAC, self.client_addresses)
        self.server = self._add("server", SERVER_MAC, self.server_addresses)

    def _add(self, name: str, mac: str, addresses: dict[int, str]) -> Host:
        return self.ovs.add_host(name, f"{addresses[4]}/24", mac, f"{addresses[6]}/64")

    def flows(self, *flows: str) -> None:
        """Replace all flows; {c} and {s} are the ports of client and server."""
        ports = {"c": self.ovs.ofport(self.client), "s": self.ovs.ofport(self.server)}
        text = "".join(flow.format(**ports) + "\n" for flow in ("delete", *(f"add {flow}" for flow in flows)))
        self.ovs.ofctl("--bundle", "add-flows", self.ovs.bridge, "-", input=text)

    def transfer(self, dialled: str, port: int, listening: str, listening_port: int, up: int, down: int) -> None:
        """Move `up` and `down` bytes over a connection to `dialled`, which the switch brings to `listening`."""
        server = self.server.popen(sys.executable, PEER, "serve", listening, str(listening_port))
        assert server.stdout.readline() == "ready\n"
        done = self.client.run(sys.executable, PEER, "connect", dialled, str(port), str(up), str(down))
        assert json.loads(done.stdout) == {"received": down, "good": True}
        assert json.loads(server.stdout.readline()) == {"received": up, "good": True}
        server.wait(10)


@pytest.fixture(params=[True, False], ids=["tso", "no-tso"])
def pair(request):
    """Yield a client and a server at a switch, with userspace TSO and without."""
    with OvsInstance(tso=request.param) as ovs:
        yield Pair(ovs)


@pytest.fixture
def tso_pair():
    """Yield a client and a server at a switch with userspace TSO."""
    with OvsInstance(tso=True) as ovs:
        yield Pair(ovs)
