# SPDX-License-Identifier: Apache-2.0
"""Exhaustive exploration of the flow machine itself: every interleaving of two hosts over an adversarial network.

`explore` checks the safety of every step and that from every reachable state, if moves stop, a state can be reached in
which both hosts hold each other's present address (no stuck state).  States that differ only in which host is which
are explored once; a violation's path then names the hosts of some such state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.eccp.explore_space import Bounds, Space, StepFunction, World
from controller.eccp.flow import step as flow_step


@dataclass(slots=True)
class Report:
    """What an exploration found; ``violations`` are sentences with the path that leads there."""

    states: int = 0
    steps: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    stuck: int = 0
    truncated: bool = False


def explore(bounds: Bounds, step: StepFunction = flow_step, stop_at: int = 1) -> Report:
    """Walk every reachable state within ``bounds``; stop early after ``stop_at`` violations."""
    report = Report()
    space = Space(bounds, step)
    start = space.initial()
    index: dict[World, int] = {start: 0}
    order: list[World] = [start]
    parents: list[tuple[int, str]] = [(-1, "start")]
    calm: list[list[int]] = [[]]  # predecessors by steps that need no move
    good: list[int] = []
    symmetric = space.is_symmetric
    at = 0
    while at < len(order):
        world = order[at]
        if space.is_good(world):
            good.append(at)
        for label, following, is_move in space.successors(world):
            report.steps += 1
            number = index.get(following)
            if number is None and symmetric:
                number = index.get(space.mirror(following))
            if number is None:
                number = len(order)
                if number >= bounds.limit:
                    report.truncated = True
                    continue
                index[following] = number
                order.append(following)
                parents.append((at, label))
                calm.append([])
                action = label.split(" ")[1]
                report.actions[action] = report.actions.get(action, 0) + 1
            if not is_move:
                calm[number].append(at)
            if world.flows != following.flows and (broken := space.check(world, following)) is not None:
                report.violations.append(f"{broken}: {' / '.join(_path(parents, at))} / {label}")
                if len(report.violations) >= stop_at:
                    report.states = len(order)
                    return report
        at += 1
    report.states = len(order)
    _find_stuck(report, parents, calm, good, stop_at)
    return report


def _find_stuck(
    report: Report, parents: list[tuple[int, str]], calm: list[list[int]], good: list[int], stop_at: int
) -> None:
    """States from which no good state can be reached without a further move."""
    healed = bytearray(len(calm))
    queue = list(good)
    for number in queue:
        healed[number] = 1
    while queue:
        for previous in calm[queue.pop()]:
            if not healed[previous]:
                healed[previous] = 1
                queue.append(previous)
    stuck = [number for number in range(len(calm)) if not healed[number]]
    report.stuck = len(stuck)
    for number in stuck[:stop_at]:
        report.violations.append(f"stuck: {' / '.join(_path(parents, number))}")


def _path(parents: list[tuple[int, str]], number: int) -> list[str]:
    labels: list[str] = []
    while number > 0:
        number, label = parents[number]
        labels.append(label)
    return labels[::-1]
