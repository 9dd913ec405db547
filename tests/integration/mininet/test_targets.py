# SPDX-License-Identifier: Apache-2.0
"""Targets that speak first, tell late of a connection, or have one of the client's port; and origins that are dead."""

import subprocess
import sys

import pytest

from controller.core.events import MigrationCompleted
from controller.core.world import FIRST_OTHER_PORT
from topo import BatonNet, wait_for

from .hand import Hand, bus_of, moved, outcome, serve
from .test_any_moment import set_in
from .test_bad_input import RAW
from .test_observe import DEADLINE, Lab

SERVERS = {
    "lines1": ("h1", "10.0.0.1", 11_112, ()),
    "more1": ("h1", "10.0.0.1", 11_113, ()),
    "lines2": ("h2", "10.0.0.2", 22_225, ()),
    "banner": ("h2", "10.0.0.2", 22_226, ("greets",)),
    "defers": ("h2", "10.0.0.2", 22_227, ("defers",)),
}
SETTINGS = "".join(
    f'[servers.{name}]\naddress = "{address}"\nport = {port}\nbanner = "discard"\n'
    for name, (_, address, port, _) in SERVERS.items()
) + "".join(
    f'[[services]]\nname = "{name}"\norigin = "{name}1"\nmode = "observe"\nhandshake_timeout = 1.0\n'
    for name in ("lines", "more")
)


class Place(Lab):
    """The network with these servers."""

    def __init__(self, net, directory):
        self.net, self.directory = net, directory
        for name, (node, address, port, ways) in SERVERS.items():
            serve(net, node, address, port, name, *ways)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    directory = tmp_path_factory.mktemp("targets")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS)
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        net.start_controller("os_ken")
        yield Place(net, directory)


@pytest.fixture
def bus(lab):
    with bus_of(lab.net) as client:
        yield client


@pytest.fixture
def hand(lab):
    """A client of the first service that has had an answer."""
    hand = Hand(lab.net)
    hand.connect("10.0.0.1", 11_112)
    assert hand.ask("hello") == "lines1 hello\n"
    yield hand
    hand.do("close")


def test_a_banner_is_discarded_where_that_is_wanted(bus, hand):
    """The client reads the target's answers only, there and on the way back."""
    for target in ("banner", "lines1", "banner"):
        assert isinstance(moved(bus, hand.key, target), MigrationCompleted)
        assert hand.ask("who is there?") == f"{target} who is there?\n"


def test_a_target_that_tells_late_of_a_connection_is_refused(bus, hand):
    """TCP_DEFER_ACCEPT: it answers the handshake, but stands only once there is data; nobody could take that back."""
    assert outcome(bus, hand.key, "defers").reason == "timeout"
    assert hand.ask("still there?") == "lines1 still there?\n"


def client_ports(lab, port):
    """Return under which ports of the client's a server has established connections."""
    told = lab.net.run("h2", ["ss", "-Htn", "state", "established", f"( sport = :{port} )"]).stdout
    return sorted(int(line.split()[-1].rpartition(":")[2]) for line in told.splitlines())


def test_a_connection_that_the_client_has_there_itself_is_left_alone(lab, bus, hand):
    """From the same port straight to the target: it is not reset, and the one that moves gets another port there."""
    own = hand.key.client.port
    direct = Hand(lab.net)
    direct.connect("10.0.0.2", 22_225, own)
    assert direct.ask("straight") == "lines2 straight\n"
    for target in ("lines2", "lines1", "lines2"):
        moved(bus, hand.key, target)
        assert hand.ask("round") == f"{target} round\n"
        assert direct.ask("straight on") == "lines2 straight on\n"
    ports = client_ports(lab, 22_225)
    assert own in ports
    assert any(port >= FIRST_OTHER_PORT for port in ports)
    # And the next controller reads the port off the flows.
    lab.net.stop_controller(9)
    lab.net.start_controller("os_ken")
    assert hand.ask("still there?") == "lines2 still there?\n"
    with bus_of(lab.net) as new:
        moved(new, hand.key, "lines1")
    assert hand.ask("home?") == "lines1 home?\n"
    assert direct.ask("and you?") == "lines2 and you?\n"
    direct.do("close")


def test_two_services_with_one_port_of_the_client(lab, bus, hand):
    """Both move to the same server, one of them under another port, and back."""
    other = Hand(lab.net)
    other.connect("10.0.0.1", 11_113, hand.key.client.port)
    assert other.ask("hello") == "more1 hello\n"
    for one, two in (("lines2", "lines2"), ("lines1", "more1"), ("more1", "lines1")):
        moved(bus, hand.key, one)
        moved(bus, other.key, two)
        assert hand.ask("who?") == f"{one} who?\n"
        assert other.ask("who?") == f"{two} who?\n"
    other.do("close")


def test_a_dead_origin_is_still_found(lab, bus, hand):
    """Its machine is off, and the client has forgotten its MAC address: what moved before goes on."""
    moved(bus, hand.key, "lines2")
    forget = ["ip", "neigh", "flush", "dev", "h3-eth0"]
    with set_in(lab.net, "h1", ["ip", "link", "set", "h1-eth0", "down"], ["ip", "link", "set", "h1-eth0", "up"]):
        for word in ("now", "and then"):
            assert lab.net.run("h3", forget).returncode == 0
            assert hand.ask(word) == f"lines2 {word}\n"
    moved(bus, hand.key, "lines1")
    assert hand.ask("back") == "lines1 back\n"


def path_mtu(lab, port):
    """Return what the client's system believes to fit on the way of a connection."""
    told = lab.net.run("h3", ["ss", "-Htin", f"( sport = :{port} )"]).stdout
    return int(told.partition("pmtu:")[2].split()[0])


def test_a_narrow_way_to_the_target_is_told_to_the_client(lab, bus, hand):
    """Path MTU discovery: the router's error quotes the target's address and numbers; the client knows neither."""
    moved(bus, hand.key, "lines2")
    port = hand.key.client.port
    assert path_mtu(lab, port) == 1500
    command = [sys.executable, RAW, "too_big", "h2-eth0", "10.0.0.2", "22225", "1200"]
    router = lab.net.popen("h2", command, stdout=subprocess.PIPE, text=True)
    assert router.stdout.readline() == "ready\n"
    try:
        assert hand.ask("is it narrow?") == "lines2 is it narrow?\n"
        wait_for("the word of the router", lambda: path_mtu(lab, port) == 1200, DEADLINE)
    finally:
        router.kill()
        router.wait(DEADLINE)
    long = "x" * 5_000
    assert hand.ask(long) == f"lines2 {long}\n"
