# SPDX-License-Identifier: Apache-2.0
"""Timers and background tasks on green and on native threads, each framework in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from frameworks import need

from controller.openflow.choice import ENVIRONMENT, FRAMEWORKS

PROGRAM = """
import json
from controller.openflow import framework
from controller.openflow.threads import Alarms, clock, spawn
from controller.openflow.framework import hub

posted, done = [], hub.Queue()

def post(fact):
    if fact == "broken":
        raise ValueError("no room")
    posted.append((fact, clock()))
    if fact == "last":
        done.put(None)

start = clock()
alarms = Alarms(post)
due = {"late": 0.15, "early": 0.05, "past": -1.0, "broken": 0.06, "twin1": 0.1, "twin2": 0.1, "last": 0.2}
for fact, after in due.items():
    alarms.wake_at(start + after, fact)
spawn(posted.append, ("spawned", clock()))
done.get(timeout=30)
alarms.stop()
punctual = all(at >= start + due.get(fact, 0) for fact, at in posted)
print(json.dumps({"framework": framework.NAME, "facts": [fact for fact, _ in posted], "punctual": punctual}))
"""


@pytest.fixture(scope="module", params=FRAMEWORKS)
def told(request):
    """What the program saw."""
    need(request.param)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, ENVIRONMENT: request.param},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["framework"] == request.param
    return result


def test_alarms_come_in_the_order_of_their_times(told):
    facts = [fact for fact in told["facts"] if fact != "spawned"]
    assert facts == ["past", "early", "twin1", "twin2", "late", "last"]


def test_no_alarm_comes_before_its_time(told):
    assert told["punctual"]


def test_a_task_runs_beside(told):
    assert "spawned" in told["facts"]
