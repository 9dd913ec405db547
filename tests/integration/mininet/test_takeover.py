# SPDX-License-Identifier: Apache-2.0
"""The controller is killed with SIGKILL at each step of the machine, on the real switch: nobody is worse off.

Connections go on meanwhile; the next controller finds them in the switch, touches none of their flows, lists them,
moves them, brings them back and sees their end. `BATON_EVERY_STEP=1` runs each step on both frameworks, and with what
the step decided both sent and unsent; else one framework, and the two by turns.
"""

import os
import time

import pytest

from controller.core.connection import Phase, State
from topo import BatonNet, wait_for

from .takeover_lab import DEADLINE, SERVICES, SETTINGS, Lab

FULL = bool(os.environ.get("BATON_EVERY_STEP"))
OBSERVED_ONLY = (Phase.WATCHING, Phase.BRAKING, Phase.STOPPING, Phase.MEASURING, Phase.UNDOING)
PHASES = tuple(phase for phase in Phase if phase is not Phase.AWAITING)
"""Those of a network without P4 switches; tests/integration/p4sync has the other one."""
STEPS = {
    "gate": [
        *(state.value for state in (State.OPENING, State.GATED, State.HELD)),
        *(f"{State.MOVING.value}/{phase.value}" for phase in PHASES if phase not in OBSERVED_ONLY),
        *(state.value for state in (State.SERVED, State.CLOSING)),
    ],
    "observe": [
        *(state.value for state in (State.OPENING, State.SERVED)),
        *(f"{State.SERVED.value}/{phase.value}" for phase in PHASES),
        State.CLOSING.value,
    ],
}
"""Every step of both modes, by the names of the tables; a new state or phase has to be put in somewhere."""
CASES = [
    (mode, step, sent)
    for mode, steps in STEPS.items()
    for number, step in enumerate(steps)
    for sent in ((True, False) if FULL else (number % 2 == 0,))
]


def test_no_step_is_forgotten():
    told = {step.partition("/")[::2] for steps in STEPS.values() for step in steps}
    assert {state for state, _ in told} == {state.value for state in State}
    assert {phase for _, phase in told if phase} == {phase.value for phase in PHASES}


@pytest.fixture(scope="module", params=["ryu", "os_ken"] if FULL else ["ryu"])
def lab(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("takeover")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS)
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        yield Lab(net, directory, request.param)


@pytest.mark.parametrize(("mode", "step", "sent"), CASES)
def test_killed_at(lab, mode, step, sent):
    lab.start()
    since = time.monotonic()
    if step != State.CLOSING.value:
        lab.doom(step, sent, since)
    bulk = lab.bulk(mode)
    if "/" in step and mode == "observe":
        bulk.flows()
        lab.begin(bulk, step)
    if step == State.CLOSING.value:
        bulk.flows()
        lab.doom(step, sent, since)
        assert bulk.end()["error"] == ""
        lab.wait_dead()
        lab.start()
        return
    lab.wait_dead()
    # Observed, and the flows that let it pass were never sent: it is as one whose gate is shut.
    stands = step.startswith(State.SERVED.value) and (mode, step, sent) != ("observe", State.SERVED.value, False)
    if stands:
        bulk.flows()
    before = lab.paths(bulk) if stands else {}
    assert len(before) == (2 if stands else 0)
    times = len(lab.events("ConnectionsTakenOver"))
    lab.start()
    if step == State.OPENING.value and not sent:
        told = {"released": 0}  # nothing of it has reached the switch: the client's next SYN is its first
    else:
        told = wait_for("the takeover", lambda: lab.events("ConnectionsTakenOver")[times:], DEADLINE)[0]
    bulk.flows()
    after = lab.paths(bulk)
    assert before.keys() <= after.keys()
    assert all(after[match] < since + 0.5 for match, since in before.items()), "a flow was put in again"
    assert wait_for("the connection", lambda: lab.row(bulk), DEADLINE).state == "served"
    if told["released"]:
        # Its controller died before the journal knew what its ends had agreed on: it stays where it was.
        assert not sent or step == State.OPENING.value
        assert lab.ask(bulk, "target").reason == "unknown"
    else:
        for server in ("target", SERVICES[mode], "target"):
            if lab.row(bulk).server != server:
                lab.migrate(bulk, server)
                bulk.flows()
    lab.account(bulk)
    wait_for("its end", lambda: lab.row(bulk).state == "closing", DEADLINE)
