# SPDX-License-Identifier: Apache-2.0
"""The proof holds, is about something (runs exist), and fails when a decision of the protocol is changed."""

import pytest

from controller.eccp.names import Action
from models.mutants import MUTANTS, kill_by_z3
from models.proof import abstraction, sequence
from models.proof.check import Obligation, discharge, first_failure, safety_obligations
from models.proof.epochs import epoch_obligations
from models.proof.flows import flow_obligations
from models.proof.liveness import liveness_obligations
from models.proof.rules import RULES
from models.proof.state import symbolic


@pytest.mark.parametrize("obligations", [safety_obligations, liveness_obligations, flow_obligations, epoch_obligations,
                                         sequence.forever_obligations, abstraction.obligations])  # fmt: skip
def test_every_obligation_is_proved(obligations: object) -> None:
    assert first_failure(obligations()) is None


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.killer == "Z3"], ids=lambda m: m.name)
def test_changed_decision_breaks_the_proof(mutant: object) -> None:
    assert kill_by_z3(mutant) is not None


def test_a_false_obligation_is_not_proved() -> None:
    state = symbolic("s")
    assert not discharge(Obligation("own is peer's own", (), state.a.own == state.b.own)).proved


def test_stuck_state_is_reached_under_sequence_semantics() -> None:
    answer, lines = sequence.run(sequence.MOVE_TWICE, sequence.SEQUENCE_RULES, sequence.stuck_apart)
    assert answer == "sat"
    assert len(lines) == len(sequence.MOVE_TWICE)


def test_same_run_heals_with_versions_and_cannot_with_sequences() -> None:
    script = (*sequence.MOVE_TWICE, *sequence.HEAL)
    assert sequence.run(script, RULES, sequence.found)[0] == "sat"
    assert sequence.run(script, sequence.SEQUENCE_RULES, sequence.found)[0] == "unsat"


def test_without_rendezvous_both_may_be_lost() -> None:
    assert sequence.run(sequence.BOTH_MOVE, RULES, sequence.lost)[0] == "sat"


EVERY_ACTION = (
    *sequence.OPENING, (Action.SEND_PING, "a"), (Action.RECV_PING, "b"), (Action.RECV_PONG, "a"), (Action.SEND_DATA, "b"),
    (Action.RECV_DATA, "a"), (Action.MOVE, "b"), (Action.RETRANSMIT, "b"), (Action.RECV_RSYN, "a"), (Action.RECV_RSYN_ACK, "b"),
    (Action.RECV_ACK, "a"), (Action.CLOSE, "a"), (Action.RECV_FIN, "b"), (Action.RECV_FIN_ACK, "a"),
)  # fmt: skip


def test_guards_are_not_vacuous() -> None:
    """A run takes every action (EXPIRE apart, which ends it), so no guard is false by mistake."""
    assert {action for action, _ in EVERY_ACTION} == set(Action) - {Action.EXPIRE}
    assert sequence.run(EVERY_ACTION, RULES, lambda s: s.a.own == 1)[0] == "sat"


def test_abstraction_is_safe_everywhere_it_reaches() -> None:
    assert all(abstraction.is_safe(facts) for facts in abstraction.reach())
    assert abstraction.Facts(3, True, False) in abstraction.reach()
