# SPDX-License-Identifier: Apache-2.0
"""The same journeys over IPv6 and past several switches; several clients behind one address."""

import pytest

from topo import BatonNet, wait_for

from .takeover_lab import DEADLINE, SERVICES, Lab, settings_of

PORTS = {"gated": ("h1", 11_111), "observed": ("h1", 11_112), "target": ("h2", 22_222)}


def over_ipv6(net):
    """Give every host an IPv6 address."""
    for name in ("h1", "h2", "h3"):
        node = net[name]
        interface = node.intfNames()[0]
        node.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
        node.cmd(f"sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=0")
        node.cmd(f"ip -6 address add fd00::{name[1]}/64 dev {interface} nodad")
    return "fd00::{}"


def behind_switches(net):
    """Put a plain switch between s1 and the client, and another between s1 and the target."""
    for bridge, host in (("s2", "h3"), ("s3", "h2")):
        port = net[host].connectionsTo(net.switch)[0][1].name
        net.switch.vsctl(
            *f"add-br {bridge} -- set bridge {bridge} datapath_type=netdev fail_mode=standalone"
            f" -- del-port s1 {port} -- add-port {bridge} {port}"
            f" -- add-port {bridge} {bridge}-s1 -- set interface {bridge}-s1 type=patch options:peer=s1-{bridge}"
            f" -- add-port s1 s1-{bridge} -- set interface s1-{bridge} type=patch options:peer={bridge}-s1".split()
        )
    return "10.0.0.{}"


NETWORKS = {"ipv6": over_ipv6, "three switches": behind_switches}


@pytest.fixture(scope="module", params=NETWORKS)
def lab(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("anywhere")
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(directory / "baton.toml")
    with net:
        address = NETWORKS[request.param](net)
        places = {name: (host, address.format(host[1]), port) for name, (host, port) in PORTS.items()}
        (directory / "baton.toml").write_text(settings_of(places))
        lab = Lab(net, directory, "ryu", places)
        lab.start()
        yield lab


@pytest.mark.parametrize("mode", SERVICES)
def test_there_and_back_and_over_the_controllers_death(lab, mode):
    lab.start()
    bulk = lab.bulk(mode)
    bulk.flows()
    origin = SERVICES[mode]
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    for server in ("target", origin):
        if lab.row(bulk).server != server:
            lab.migrate(bulk, server)
        bulk.flows()
    lab.net.stop_controller(9)
    bulk.flows()
    lab.start()
    wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    lab.migrate(bulk, "target")
    bulk.flows()
    assert lab.account(bulk)[-1] == "target"


def test_several_clients_behind_one_address_move_at_once(lab):
    """Told apart by their ports alone."""
    lab.start()
    bulks = [lab.bulk("observe") for _ in range(4)]
    for bulk in bulks:
        bulk.flows()
    for bulk in bulks:
        lab.begin(bulk, "")
    for bulk in bulks:
        if lab.row(bulk).server != "target":
            lab.migrate(bulk, "target")
        bulk.flows()
    for bulk in bulks[::2]:
        lab.migrate(bulk, "observed")
    for bulk in bulks:
        bulk.flows()
    ends = [lab.account(bulk)[-1] for bulk in bulks]
    assert ends == ["observed", "target"] * 2
