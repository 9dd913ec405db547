# SPDX-License-Identifier: Apache-2.0
"""What is shipped: ranges that the switch takes, sessions that are not overfilled, conflicts that are gone around."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.p4sync import plan
from controller.p4sync.errors import ControlError
from controller.p4sync.plan import Flows, Plan, Round
from controller.p4sync.protocol import BLOCK, SEQUENCES, Array, Mode, entry_of

ranges = st.tuples(st.integers(0, 511), st.integers(0, 511)).map(lambda p: (min(p) * 128, max(p) * 128 + 127))
rounds = st.builds(lambda array, mode, r: Round(array, mode, *r), st.sampled_from(Array), st.sampled_from(Mode), ranges)
flows = st.lists(st.integers(1, (1 << 64) - 1), min_size=1, max_size=40).map(lambda keys: Flows(tuple(keys)))
plans = st.builds(Plan, st.lists(rounds | flows, min_size=1, max_size=5).map(tuple), st.booleans())


@given(plans)
def test_a_plan_survives_the_journal(wanted: Plan) -> None:
    assert plan.plan_of(plan.record_of(wanted)) == wanted


@pytest.mark.parametrize(("first", "last"), [(-128, 127), (0, 126), (1, 127), (128, 127), (0, 65536), (65536, 65663)])
def test_ranges_that_the_switch_would_refuse(first: int, last: int) -> None:
    with pytest.raises(ControlError, match="multiple of 128"):
        Round(Array.CLIENTS, Mode.ALL, first, last)


def test_blocks() -> None:
    assert Round(Array.CLIENTS, Mode.ALL).blocks == 512
    assert Round(Array.FLOWS, Mode.ALL).blocks == 4096
    assert Flows((1, 2)).blocks == 2
    assert plan.drain().blocks == 2 * 4608


@given(st.lists(rounds | st.integers(1, 20_000).map(lambda n: Flows(tuple(range(1, n + 1)))), min_size=1, max_size=6))
def test_split_keeps_all_steps_in_order_and_fills_no_session(steps: list) -> None:
    whole = Plan(tuple(steps), True)
    parts = plan.split(whole)
    assert all(part.release for part in parts)
    for part in parts:
        assert part.steps
        fixed = [s for s in part.steps if not (isinstance(s, Round) and s.mode is Mode.CHANGED)]
        assert sum(step.blocks for step in fixed) <= SEQUENCES
    unfolded = [s for part in parts for s in part.steps]
    assert [s for s in unfolded if isinstance(s, Round)] == [s for s in steps if isinstance(s, Round)]
    assert [k for s in unfolded if isinstance(s, Flows) for k in s.keys] == [
        k for s in steps if isinstance(s, Flows) for k in s.keys
    ]


@given(st.sets(st.integers(1, (1 << 64) - 1), max_size=60), st.randoms(), ranges)
def test_conflicts_are_gone_around(keys: set[int], random, span: tuple[int, int]) -> None:
    conflicts = frozenset(random.sample(sorted(keys), len(keys) // 3))
    wanted = Plan((Round(Array.FLOWS, Mode.ALL, *span), Round(Array.CLIENTS, Mode.ALL)), True)
    around = plan.avoiding(wanted, conflicts, keys)
    inside = {key for key in keys if span[0] <= entry_of(key) <= span[1]}
    for key in inside:
        hits = sum(
            (isinstance(step, Flows) and key in step.keys)
            or (isinstance(step, Round) and step.array is Array.FLOWS and step.first <= entry_of(key) <= step.last)
            for step in around.steps
        )
        assert hits == (key not in conflicts)
    assert Round(Array.CLIENTS, Mode.ALL) in around.steps
    assert around.release


def test_named_flows_without_the_conflicting_ones() -> None:
    assert plan.avoiding(plan.single_flows([1, 2, 3], False), frozenset({2}), []).steps == (Flows((1, 3)),)
    assert plan.avoiding(plan.single_flows([2], False), frozenset({2}), []).steps == ()


@pytest.mark.parametrize(
    "record",
    [
        None,
        3,
        {},
        {"steps": []},
        {"steps": [{}]},
        {"steps": [3]},
        {"steps": [{"array": 9}]},
        {"steps": [{"array": 0, "mode": 7}]},
        {"steps": [{"array": 0, "first": "0"}]},
        {"steps": [{"flows": [0]}]},
        {"steps": [{"flows": ["x"]}]},
        {"steps": [{"flows": 3}]},
        {"steps": [{"array": 0}], "release": 1},
        {"steps": [{"array": 0}], "realease": True},
    ],
)
def test_what_is_no_plan(record: object) -> None:
    with pytest.raises(ControlError, match=r"not a plan|multiple"):
        plan.plan_of(record)


def test_every_array_has_a_block() -> None:
    assert set(BLOCK) == set(Array)
