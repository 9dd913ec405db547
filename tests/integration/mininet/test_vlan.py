# SPDX-License-Identifier: Apache-2.0
"""Tagged packets end to end: the hosts stand at access ports of plain switches, and all that s1 sees has a VLAN tag."""

import pytest

from topo import BatonNet, wait_for

from .takeover_lab import DEADLINE, PLACES, SERVICES, Lab, settings_of

TAG = 42


def behind_access_ports(net):
    """Put a plain switch before every host; the links between the switches are trunks."""
    for bridge, host in (("s2", "h3"), ("s3", "h2"), ("s4", "h1")):
        port = net[host].connectionsTo(net.switch)[0][1].name
        net.switch.vsctl(
            *f"add-br {bridge} -- set bridge {bridge} datapath_type=netdev fail_mode=standalone"
            f" -- del-port s1 {port} -- add-port {bridge} {port} tag={TAG}"
            f" -- add-port {bridge} {bridge}-s1 -- set interface {bridge}-s1 type=patch options:peer=s1-{bridge}"
            f" -- add-port s1 s1-{bridge} -- set interface s1-{bridge} type=patch options:peer={bridge}-s1".split()
        )


@pytest.fixture(scope="module", params=[True, False], ids=["tso", "no tso"])
def lab(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("vlan")
    net = BatonNet(private=True, tso=request.param)
    net.environment["BATON_CONFIG"] = str(directory / "baton.toml")
    with net:
        behind_access_ports(net)
        (directory / "baton.toml").write_text(settings_of(PLACES))
        lab = Lab(net, directory, "ryu")
        lab.start()
        yield lab


@pytest.mark.parametrize("mode", SERVICES)
def test_there_and_back_and_over_the_controllers_death(lab, mode):
    lab.start()
    bulk = lab.bulk(mode)
    bulk.flows()
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    for server in ("target", SERVICES[mode]):
        if lab.row(bulk).server != server:
            lab.migrate(bulk, server)
        bulk.flows()
    assert len(lab.paths(bulk)) == 2
    assert all(f"dl_vlan={TAG}," in match for match in lab.paths(bulk))
    lab.net.stop_controller(9)
    bulk.flows()
    lab.start()
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    lab.migrate(bulk, "target")
    bulk.flows()
    assert lab.account(bulk)[-1] == "target"


def test_nobody_on_another_vlan_can_speak_for_the_client(lab):
    """The same addresses with another tag are another network: its packets are no part of the connection."""
    lab.start()
    bulk = lab.bulk("observe")
    bulk.flows()
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    lab.migrate(bulk, "target")
    match = next(match for match in lab.paths(bulk) if f"tp_src={bulk.port}" in match)
    fields = match.partition("priority=100,")[2]
    other = fields.replace(f"dl_vlan={TAG}", f"dl_vlan={TAG + 1}")
    told = lab.net.switch.appctl("ofproto/trace", "s1", f"in_port=1,{other}")
    assert "Datapath actions: drop" in told, told
    bulk.flows()
    assert lab.account(bulk)[-1] == "target"
