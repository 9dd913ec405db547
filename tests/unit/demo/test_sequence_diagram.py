# SPDX-License-Identifier: Apache-2.0
"""The picture is well-formed, holds every step, and stays inside its frame."""

import re
from itertools import pairwise
from xml.etree import ElementTree

from demo.sequence_diagram import draw
from demo.steps import LIFELINES, Step

SVG = "{http://www.w3.org/2000/svg}"
STEPS = [
    Step(0.0, ("client", "switch", "server1"), "SYN", "segment", numbers=("seq 0", "")),
    Step(0.001, ("client", "switch", "controller"), 'PSH ACK "<&>" 5 B', "segment", ("analyser",), ("seq 1", ""), 5),
    Step(0.002, ("analyser", "controller"), "alert: MIGRATE", "alert"),
    Step(0.003, ("controller",), "migration to server2 begins", "note"),
    Step(0.004, ("controller", "switch", "server2"), "SYN", "made", numbers=("seq 7", "seq 9")),
    Step(0.005, ("controller", "switch"), "3 flow changes", "flows"),
    Step(0.006, ("controller",), "cutover to server2 complete", "note"),
    Step(0.007, ("server2", "switch", "client"), "PSH ACK 9 B", "segment", bytes=9),
]


def texts(svg):
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_step_and_lifeline_is_there():
    found = texts(draw(STEPS, "a <title> & more"))
    assert "a <title> & more" in found
    for step in STEPS:
        assert any(text.startswith(step.label) for text in found), step.label
        assert f"{step.time * 1000:.2f} ms" in found
    assert {"client", "switch", "server 1", "server 2", "controller", "analyser"} <= set(found)
    assert len(LIFELINES) == 6


def test_phases_follow_the_story():
    found = texts(draw(STEPS, "t"))
    assert [text for text in found if re.match(r"[123]  |server 2 serves", text)] == [
        "1  the client connects",
        "2  the verdict",
        "3  the hand-off",
        "server 2 serves",
    ]
    assert "3  the hand-off" not in texts(draw(STEPS[:2], "t"))


def test_rows_do_not_overlap_and_stay_inside():
    root = ElementTree.fromstring(draw(STEPS, "t"))
    times = [node for node in root.iter(f"{SVG}text") if (node.text or "").endswith(" ms")]
    heights = [float(node.get("y")) for node in times]
    assert all(b - a >= 28 for a, b in pairwise(heights))
    assert heights[-1] < float(root.get("height"))


def test_no_steps_are_an_empty_picture():
    assert ElementTree.fromstring(draw([], "nothing")).tag == f"{SVG}svg"
