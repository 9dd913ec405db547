# SPDX-License-Identifier: Apache-2.0
"""Both apps on one switch: a host's move installs its flows while a connection migrates; neither disturbs the other."""

import subprocess
import sys
from pathlib import Path

import pytest
from frameworks import need

from controller.bus_client import BusClient
from controller.core.events import FlowMoved
from controller.core.segment import Endpoint
from controller.eccp.mobility import cookie_of
from topo import BatonNet, wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
FLOW, PEER = "00000000000000a7", Endpoint("203.0.113.9", 4500)
APPS = ("apps/tcp_migration.py", "apps/mobility.py")


@pytest.fixture(params=["ryu", "os_ken"])
def both(request, new_bench):
    need(request.param)
    with BatonNet(private=True) as net:
        bench = new_bench(net)
        apps = [str(REPOSITORY / app) for app in APPS]
        net.start_controller(command=[sys.executable, "-m", "controller.manager", "--framework", request.param, *apps])
        net.start_analyser("--rules", str(bench.rules.parent))
        yield bench


def moved(bench, version, address):
    with BusClient(bench.net.run_dir / "bus.sock") as bus:
        bus.send(FlowMoved(1.0, "phone", "aa" * 32, FLOW, version, "own", Endpoint(address, 4500), PEER))


def places(bench):
    """The addresses that the switch has flows of this ECCP flow for, as (source, destination)."""
    cookie = f"cookie={cookie_of('phone', FLOW):#x}/-1"
    lines = bench.net.switch.ofctl("dump-flows", "--no-stats", "s1", cookie).splitlines()
    fields = [dict(part.split("=", 1) for part in line.replace(" ", ",").split(",") if "=" in part) for line in lines]
    return {(field["nw_src"], field["nw_dst"]) for field in fields if "nw_src" in field}


def both_ways(address):
    return {(address, PEER.address), (PEER.address, address)}


def servers_of(report):
    return [exchange["server"] for exchange in report["exchanges"]]


def test_moves_and_migrations_share_a_switch(both):
    first = both.ask("migrate, please", "get 300000 1")
    assert (first["error"], servers_of(first)) == ("", ["server2"] * 2)
    moved(both, 2, "10.0.0.3")
    wait_for("the flows of the first place", lambda: places(both) == both_ways("10.0.0.3"), 30)
    client = both.client("migrate, please", "get 3000000 2", "still there?")
    moved(both, 3, "10.0.0.77")  # in the middle of a migration
    wait_for("the flows of the new place", lambda: places(both) == both_ways("10.0.0.77"), 30)
    second = both.report(client)
    assert (second["error"], servers_of(second)) == ("", ["server2"] * 3)
    moved(both, 2, "10.0.0.3")  # late: an older version moves nothing
    third = both.ask("forward, please", "who are you?")
    assert (third["error"], servers_of(third)) == ("", ["server1"] * 2)
    assert places(both) == both_ways("10.0.0.77")
    assert both.wait_closed(third) == "fin"
    assert both.net.controller.poll() is None
    log = (both.net.run_dir / "controller.log").read_text()
    assert "Traceback" not in log, subprocess.list2cmdline(log.splitlines()[-20:])
