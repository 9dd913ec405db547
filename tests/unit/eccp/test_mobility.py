# SPDX-License-Identifier: Apache-2.0
"""What the network is told when a host moves."""

from controller.core.commands import FlowAdd, FlowDelete
from controller.core.events import FlowMoved, SwitchConnected, SwitchLost
from controller.core.segment import Endpoint
from controller.eccp.mobility import IDLE, UDP, Mobility, cookie_of, describe

HOME, NEW, SERVER = (Endpoint(address, 4500) for address in ("10.1.0.2", "10.2.0.2", "10.3.0.2"))


def moved(version: int, own: Endpoint, peer: Endpoint = SERVER, who: str = "own", flow: str = "f") -> FlowMoved:
    return FlowMoved(1.0, "phone", "ab" * 32, flow, version, who, own, peer)


def test_both_directions_are_installed_on_every_switch() -> None:
    mobility = Mobility()
    for switch in (2, 1):
        mobility.handle(SwitchConnected(0.0, switch))
    changes = mobility.handle(moved(2, NEW))
    assert [change.switch for change in changes] == [1, 1, 2, 2]
    ends = {(c.match.ip_src, c.match.ip_dst) for c in changes if isinstance(c, FlowAdd)}
    assert ends == {("10.2.0.2", "10.3.0.2"), ("10.3.0.2", "10.2.0.2")}
    assert all(isinstance(c, FlowAdd) and c.match.ip_proto == UDP and c.idle_timeout == IDLE for c in changes)


def test_a_newer_place_replaces_the_old_one_and_an_older_version_is_ignored() -> None:
    mobility = Mobility()
    mobility.handle(SwitchConnected(0.0, 1))
    mobility.handle(moved(2, HOME))
    changes = mobility.handle(moved(5, NEW))
    assert isinstance(changes[0], FlowDelete)
    assert changes[0].cookie == cookie_of("phone", "f")
    assert len(changes) == 3
    assert mobility.handle(moved(4, HOME)) == []
    assert mobility.handle(moved(5, NEW)) == []


def test_a_switch_that_comes_later_learns_the_places() -> None:
    mobility = Mobility()
    assert mobility.handle(moved(2, NEW)) == []
    assert len(mobility.handle(SwitchConnected(0.0, 7))) == 2
    mobility.handle(SwitchLost(0.0, 7))
    assert mobility.handle(moved(3, HOME)) == []


def test_cookies_tell_flows_apart_and_ipv6_is_matched() -> None:
    assert cookie_of("phone", "f") != cookie_of("phone", "g") != cookie_of("tablet", "g")
    mobility = Mobility()
    mobility.handle(SwitchConnected(0.0, 1))
    v6 = [Endpoint(f"2001:db8::{n}", 4500) for n in (1, 2)]
    changes = mobility.handle(moved(2, *v6))
    assert all(isinstance(c, FlowAdd) and c.match.ether_type == 0x86DD for c in changes)


def test_the_line_for_people() -> None:
    assert "phone moved" in describe(moved(2, NEW))
    assert "the peer of phone moved" in describe(moved(2, NEW, who="peer"))
    assert mobility_ignores_others() == []


def mobility_ignores_others() -> list[object]:
    return list(Mobility().handle(object()))
