# SPDX-License-Identifier: Apache-2.0
"""The cut policy `request` on the real switch, and what the client then sees; and how deep the analyser looks."""

import pytest

from controller.core.events import MigrationCompleted
from controller.core.segment import ConnectionKey, Endpoint
from topo import BatonNet, wait_for

from .hand import Hand, bus_of, moved, outcome, serve
from .test_any_moment import until_there
from .test_observe import DEADLINE, SETTINGS, Bulk, Lab, account

DEPTH = 60_000
WHOLE, TORN = 11_121, 11_122
SERVERS = {"whole1": ("h1", 1, WHOLE), "torn1": ("h1", 1, TORN), "other": ("h2", 2, 22_231)}
MORE = "".join(
    f'[servers.{name}]\naddress = "10.0.0.{host}"\nport = {port}\n' for name, (_, host, port) in SERVERS.items()
) + "".join(
    f'[[services]]\nname = "{name}"\norigin = "{name}1"\nmode = "observe"\ncut_policy = "request"\n'
    f"allow_torn_response = {torn}\nmirror_bytes = {DEPTH}\nhandshake_timeout = 2.0\n"
    for name, torn in (("whole", "false"), ("torn", "true"))
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    directory = tmp_path_factory.mktemp("request")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS.replace('mode = "observe"', f'mode = "observe"\nmirror_bytes = {DEPTH}') + MORE)
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        net.start_controller("os_ken")
        for name, (node, host, port) in SERVERS.items():
            serve(net, node, f"10.0.0.{host}", port, name, *(() if name == "other" else ("lazy",)))
        yield Lab(net, directory)


@pytest.fixture
def bus(lab):
    with bus_of(lab.net) as client:
        yield client


@pytest.fixture(params=[WHOLE, TORN], ids=["whole", "torn"])
def hand(lab, request):
    """A client of a service that keeps answers whole, or lets them be torn, after a first question."""
    hand = Hand(lab.net)
    hand.connect("10.0.0.1", request.param)
    assert hand.ask("hello") == f"{name_of(hand)} hello\n"
    yield hand
    hand.do("close")


def name_of(hand):
    return "whole1" if hand.key.service.port == WHOLE else "torn1"


def test_not_answered(bus, hand):
    """The client reads the target's answer, alone; the old server had acknowledged the request, and kept silent."""
    hand.send("never mind\n")
    assert isinstance(moved(bus, hand.key, "other"), MigrationCompleted)
    assert hand.read() == "other never mind\n"
    assert hand.ask("more") == "other more\n"


def test_answered_in_part(bus, hand):
    """It stays, and the old answer goes on; or the client reads that part, and behind it the target's whole answer."""
    hand.send("partly so\n")
    assert hand.read(";") == f"{name_of(hand)} begins;"
    if name_of(hand) == "whole1":
        end = outcome(bus, hand.key, "other")
        assert end.reason.partition(":")[0] == "answered"
        assert hand.ask("more") == "whole1 more\n"
    else:
        moved(bus, hand.key, "other")
        assert hand.read() == "other partly so\n"
        assert hand.ask("more") == "other more\n"


def test_answered_wholly(bus, hand):
    """It stays until the next request; or the client reads a second answer to the same one."""
    assert hand.ask("wholly") == f"{name_of(hand)} wholly\n"
    if name_of(hand) == "whole1":
        assert outcome(bus, hand.key, "other").reason.partition(":")[0] == "answered"
        hand.send("never\n")
        moved(bus, hand.key, "other")
        assert hand.read() == "other never\n"
    else:
        moved(bus, hand.key, "other")
        assert hand.read() == "other wholly\n"
    assert hand.ask("more") == "other more\n"


def test_a_request_of_many_segments(bus, hand):
    """All of it is given to the target."""
    text = "never " + "x" * 20_000
    hand.send(text + "\n")
    moved(bus, hand.key, "other")
    assert hand.read() == f"other {text}\n"


def test_a_request_behind_the_depth_does_not_move(lab, bus, hand):
    """What was not overheard cannot be told to anybody."""
    for _ in range(2 * DEPTH // 10_000):
        hand.ask("y" * 10_000)

    def is_past():
        flows = lab.net.switch.ofctl("dump-flows", "s1", f"table=1,tcp,tp_src={hand.key.client.port}")
        return "CONTROLLER" not in flows

    wait_for("the depth", is_past, DEADLINE)
    hand.send("never\n")
    assert outcome(bus, hand.key, "other").reason.partition(":")[0] == "request"
    assert hand.ask("more") == f"{name_of(hand)} more\n"


def copied(lab):
    """Return how many bytes the analyser's interface has been given."""
    node = lab.net["ids"]
    path = f"/sys/class/net/{node.intfNames()[0]}/statistics/rx_bytes"
    return int(lab.net.run("ids", ["cat", path]).stdout)


def test_copies_end_about_where_the_depth_says(lab, bus):
    """A connection that goes on is copied no more, neither here nor where it moves to."""
    bulk = Bulk(lab.net, lab.directory / "mirrored")
    before = copied(lab)
    bulk.flows()

    def is_silent():
        had = copied(lab)
        bulk.flows()
        bulk.flows()
        return copied(lab) - had < 10_000

    wait_for("the end of the copies", is_silent, DEADLINE)
    assert copied(lab) - before > DEPTH
    key = ConnectionKey(Endpoint("10.0.0.3", bulk.port), Endpoint("10.0.0.1", 11_111))
    had = copied(lab)
    for target in ("server2", "server1"):
        until_there(bus, key, target)
        bulk.flows()
    assert copied(lab) - had < 100_000
    assert account(lab, bulk) == ["server1", "server2", "server1"]
