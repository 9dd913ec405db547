# SPDX-License-Identifier: Apache-2.0
"""Three switches in a row, all of them with the controller: one rewrites, the others forward, over its death too."""

import itertools
import json

import pytest

from topo import BatonNet, wait_for

from .takeover_lab import DEADLINE, PLACES, SERVICES, SETTINGS, Lab

NAMES = {"s1": 1, "s2": 2, "s3": 3}
EXPECTED = {
    # settings, and which switch then rewrites; h3 is behind s2, h2 behind s3, h1 and the analyser at s1
    "by the analyser's port": ("", "s1"),
    "by the settings": ('[switches]\nrewriting = ["0000000000000002"]\n', "s2"),
}


def put_in_a_row(net):
    """Put s2 between s1 and the client, s3 between s1 and the target; each has the controller."""
    for bridge, host in (("s2", "h3"), ("s3", "h2")):
        port = net[host].connectionsTo(net.switch)[0][1].name
        net.switch.vsctl(
            *f"add-br {bridge} -- set bridge {bridge} datapath_type=netdev fail_mode=secure"
            f" other-config:datapath-id={NAMES[bridge]:016x} other-config:disable-in-band=true"
            f" -- set-controller {bridge} unix:{net.run_dir}/openflow.sock"
            f" -- set controller {bridge} max_backoff=1000"
            f" -- del-port s1 {port} -- add-port {bridge} {port}"
            f" -- add-port {bridge} {bridge}-s1 -- set interface {bridge}-s1 type=patch options:peer=s1-{bridge}"
            f" -- add-port s1 s1-{bridge} -- set interface s1-{bridge} type=patch options:peer={bridge}-s1".split()
        )


def assigned(lab, since):
    """Return what the controller has settled since then: the newest word on each switch."""
    lines = (lab.net.run_dir / "events.jsonl").read_text().splitlines()[since:]
    told = [json.loads(line) for line in lines if line.startswith('{"event":"SwitchAssigned"')]
    return {one["switch"]: one["rewrites"] for one in told}


def start(lab, expected):
    """Start a controller; wait until all three switches know what they are."""
    journal = lab.net.run_dir / "events.jsonl"
    since = len(journal.read_text().splitlines()) if journal.exists() else 0
    lab.start()
    right = {number: name == expected for name, number in NAMES.items()}
    wait_for("the switches", lambda: assigned(lab, since) == right, DEADLINE)


def flows(lab, bridge):
    return [line for line in lab.net.switch.ofctl("dump-flows", "--no-stats", bridge).splitlines() if "actions" in line]


@pytest.fixture(scope="module", params=itertools.product(EXPECTED, ["ryu", "os_ken"]), ids="-".join)
def lab(request, tmp_path_factory):
    words, framework = request.param
    directory = tmp_path_factory.mktemp("switches")
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(directory / "baton.toml")
    with net:
        put_in_a_row(net)
        (directory / "baton.toml").write_text(SETTINGS + EXPECTED[words][0])
        lab = Lab(net, directory, framework, PLACES)
        lab.expected = EXPECTED[words][1]
        start(lab, lab.expected)
        yield lab


@pytest.mark.parametrize("mode", SERVICES)
def test_there_and_back_and_over_the_controllers_death(lab, mode):
    bulk = lab.bulk(mode)
    bulk.flows()
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    for server in ("target", SERVICES[mode]):
        if lab.row(bulk).server != server:
            lab.migrate(bulk, server)
        bulk.flows()
    lab.net.stop_controller(9)
    bulk.flows()
    start(lab, lab.expected)
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    lab.migrate(bulk, "target")
    bulk.flows()
    assert lab.account(bulk)[-1] == "target"


def test_the_others_only_forward(lab):
    for name in NAMES.keys() - {lab.expected}:
        assert len(flows(lab, name)) == 2
        assert all(line.endswith("actions=NORMAL") for line in flows(lab, name))
    assert any("CONTROLLER" in line for line in flows(lab, lab.expected))


def test_a_forwarding_switch_that_comes_back_empty_forwards_again(lab):
    bulk = lab.bulk("observe")
    bulk.flows()
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    other = "s3" if lab.expected != "s3" else "s2"
    lab.net.switch.ofctl("del-flows", other)
    lab.net.switch.vsctl("set-fail-mode", other, "secure")
    target = lab.net.switch.vsctl("get-controller", other).strip()
    lab.net.switch.vsctl("del-controller", other)
    lab.net.switch.vsctl("set-controller", other, target)
    wait_for("its flows", lambda: len(flows(lab, other)) == 2, DEADLINE)
    lab.migrate(bulk, "target")
    bulk.flows()
    lab.account(bulk)
