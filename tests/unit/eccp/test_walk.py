# SPDX-License-Identifier: Apache-2.0
"""Random walks of the flow machine, long ones; `BATON_WALK=N` takes N steps instead of a million."""

import io
import json
import os

import pytest

from controller.eccp.tracing import TraceWriter
from controller.eccp.walk import Walk, walk_many

STEPS = int(os.environ.get("BATON_WALK", "1000000"))


@pytest.mark.timeout(900)
def test_long_random_walks_are_safe() -> None:
    assert walk_many(STEPS, seed=20) > STEPS // 20


def test_a_walk_writes_one_line_a_step_and_is_repeatable() -> None:
    texts = []
    for _ in range(2):
        out = io.StringIO()
        walk = Walk(5, TraceWriter(out, ("a", "b"), rendezvous="r"))
        walk.run(500)
        texts.append(out.getvalue())
    assert texts[0] == texts[1]
    lines = [json.loads(line) for line in texts[0].splitlines()]
    assert lines[0]["trace"] == "eccp"
    assert [line["step"] for line in lines[1:]] == list(range(1, 501))
