# SPDX-License-Identifier: Apache-2.0
"""Rules, locations and the small values."""

from __future__ import annotations

import pytest
from simulation.demo import FORWARD, MIGRATE, POLICY, alert

from controller.core.events import Verdict
from controller.core.locations import Location, Locations
from controller.core.policy import Rule
from controller.core.segment import ACK, FIN, SYN, ConnectionKey, Endpoint, Segment
from controller.core.world import World


def test_first_rule_that_matches() -> None:
    """In the order written."""
    assert POLICY.judge(alert(FORWARD)).verdict is Verdict.FORWARD  # type: ignore[union-attr]
    assert POLICY.judge(alert(MIGRATE)).target == "server2"  # type: ignore[union-attr]
    assert POLICY.judge(alert(5)) is None


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(Verdict.DROP, sid=9), True),
        (Rule(Verdict.DROP, sid=8), False),
        (Rule(Verdict.DROP, message="M"), True),
        (Rule(Verdict.DROP, message="m"), False),
        (Rule(Verdict.DROP, classtype="c"), True),
        (Rule(Verdict.DROP, classtype="d"), False),
        (Rule(Verdict.DROP, sid=9, message="M", classtype="c"), True),
        (Rule(Verdict.DROP, sid=9, message="M", classtype="d"), False),
    ],
)
def test_every_given_part_must_match(rule: Rule, expected: bool) -> None:
    """What is not given matches anything."""
    assert rule.matches(alert(9, message="M", classtype="c")) is expected


def test_locations() -> None:
    """The newest word counts, by switch; a lost switch is forgotten."""
    locations = Locations()
    locations.learn(1, "10.0.0.1", 3, "a")
    locations.learn(1, "10.0.0.1", 4, "b")
    locations.learn(2, "10.0.0.1", 5, "b")
    assert locations.find(1, "10.0.0.1") == Location(4, "b")
    locations.forget_switch(1)
    assert locations.find(1, "10.0.0.1") is None
    assert locations.find(2, "10.0.0.1") == (5, "b")


def test_names() -> None:
    """Ends and connections read as people write them."""
    key = ConnectionKey(Endpoint("10.0.0.3", 4), Endpoint("fd00::1", 80))
    assert str(key) == "10.0.0.3:4>[fd00::1]:80"


@pytest.mark.parametrize(("flags", "length"), [(ACK, 2), (SYN, 3), (FIN, 3), (SYN | FIN, 4)])
def test_sequence_space(flags: int, length: int) -> None:
    """SYN and FIN take a number each."""
    end = Endpoint("10.0.0.1", 1)
    assert Segment(end, end, 0, 0, flags, 0, payload=b"ab").length == length


def test_connection_numbers_skip_those_in_use() -> None:
    """Numbers wrap, 0 is never one."""
    world = World(POLICY)
    world._number = 2**32 - 2
    world.numbers[2**32 - 1] = world.numbers[1] = None  # type: ignore[assignment]
    assert world.number() == 2
