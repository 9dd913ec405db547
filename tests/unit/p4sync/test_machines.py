# SPDX-License-Identifier: Apache-2.0
"""Every state of both machines meets every input; what a forged or torn session must not do, step by step."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pytest

from controller.core.errors import TransitionError
from controller.p4sync import destination, inputs, outputs, source
from controller.p4sync.destination import Destination
from controller.p4sync.outputs import Result
from controller.p4sync.pace import Pace
from controller.p4sync.plan import Flows, Plan
from controller.p4sync.protocol import Answer, Mark, Phase, Report, Suite, Token
from controller.p4sync.source import FEW, Source
from controller.p4sync.statement import Statement, statement_of

PACE = Pace()
KEY = 0x0A000001_0400_0007
NONCE = 99
MAC = 0xABCDEF
AT_SOURCE = {
    kind for kind in vars(inputs).values() if dataclasses.is_dataclass(kind) and kind.__module__ == inputs.__name__
} - {inputs.Offered, inputs.LookAsked, inputs.Submitted, inputs.DiscardAsked}
AT_DESTINATION = {
    inputs.Offered,
    inputs.LookAsked,
    inputs.Submitted,
    inputs.DiscardAsked,
    inputs.Reported,
    inputs.EntriesWritten,
    inputs.EntriesRefused,
    inputs.SwitchLost,
    inputs.SwitchFound,
    inputs.TimerExpired,
}


def test_every_state_meets_every_input() -> None:
    assert {(s, kind) for s in source.State for kind in AT_SOURCE} == set(source.TABLE)
    assert {(s, kind) for s in destination.State for kind in AT_DESTINATION} == set(destination.TABLE)


def test_what_is_no_input_raises() -> None:
    with pytest.raises(TransitionError):
        Source(Plan(()), 1, 2, PACE).handle(object(), 0.0)
    with pytest.raises(TransitionError):
        Destination(2, PACE).handle(object(), 0.0)


def out_report(kind: Token, state: Answer = Answer.OK, count: int = 0, **fields: int) -> inputs.Reported:
    fields = {"round": 0, "session": 5, "links": Phase.OPEN, "detail": 0, "digest": MAC} | fields
    return inputs.Reported(Report(kind, state, count=count, **fields))


def kinds(wanted: list[Any]) -> list[type]:
    return [type(output) for output in wanted]


def one(wanted: list[Any], kind: type) -> Any:
    (found,) = [output for output in wanted if type(output) is kind]
    return found


def submitted_source() -> tuple[Source, Statement]:
    """A source that has shipped one flow and waits for the decision."""
    machine = Source(Plan((Flows((KEY,)),), release=True), 1, 2, PACE)
    assert kinds(machine.start(0.0)) == [outputs.SendOffer, outputs.WakeAt]
    wanted = machine.handle(inputs.Accepted(5, NONCE), 0.0)
    assert kinds(wanted) == [outputs.Remember, outputs.InstallOutgoing, outputs.WakeAt]
    wanted = machine.handle(inputs.EntriesWritten(outputs.InstallOutgoing(5)), 0.0)
    assert one(wanted, outputs.SendToken).kind is Token.OPEN_OUT
    machine.handle(out_report(Token.OPEN_OUT), 0.0)
    wanted = machine.handle(inputs.Opened(), 0.0)
    tokens = [output.kind for output in wanted if type(output) is outputs.SendToken]
    assert tokens == [Token.FLOW, Token.REPORT_OUT]
    wanted = machine.handle(out_report(Token.REPORT_OUT, count=1), 0.001)
    return machine, one(wanted, outputs.Submit).statement


def test_one_flow_takes_no_look() -> None:
    machine, statement = submitted_source()
    assert (statement.session, statement.nonce, statement.count, statement.digest) == (5, NONCE, 1, MAC)
    assert (statement.source, statement.destination) == (1, 2)
    assert statement_of(statement.record()) == statement
    wanted = machine.handle(inputs.Decided(committed=True), 0.002)
    token = one(wanted, outputs.SendToken)
    assert (token.kind, token.flags) == (Token.RELEASE, 0)
    wanted = machine.handle(out_report(Token.RELEASE, Answer.DONE, 1), 0.003)
    assert one(wanted, outputs.Finish).outcome.result is Result.COMMITTED
    assert FEW >= 1


def test_after_a_submission_nothing_is_restored_before_the_decision_is_known() -> None:
    machine, _ = submitted_source()
    now = 0.01
    for event in (
        inputs.PeerFailed("gone"),
        inputs.TimerExpired(),
        inputs.Cancelled("enough"),
        inputs.PeerFailed("gone"),
        inputs.TimerExpired(),
    ):
        now += 100.0
        wanted = machine.handle(event, now)
        tokens = [output.kind for output in wanted if type(output) is outputs.SendToken]
        assert Token.RESTORE not in tokens
        assert machine.state is source.State.DECIDING
    wanted = machine.handle(inputs.Decided(committed=False, reason="forged"), now)
    assert one(wanted, outputs.SendToken).kind is Token.RESTORE
    wanted = machine.handle(out_report(Token.RESTORE, Answer.DONE, 1), now)
    outcome = one(wanted, outputs.Finish).outcome
    assert (outcome.result, outcome.reason) == (Result.ABORTED, "forged")


def test_a_commit_that_was_never_asked_for_is_a_defect() -> None:
    machine = Source(Plan((Flows((KEY,)),)), 1, 2, PACE)
    machine.start(0.0)
    machine.handle(inputs.Accepted(5, NONCE), 0.0)
    with pytest.raises(TransitionError, match="not asked for"):
        machine.handle(inputs.Decided(committed=True), 0.0)


def test_a_source_that_nobody_answers_gives_up() -> None:
    machine = Source(Plan((Flows((KEY,)),)), 1, 2, PACE)
    machine.start(0.0)
    machine.handle(inputs.PeerFailed("no agent there"), 1.0)
    wanted = machine.handle(inputs.TimerExpired(), PACE.patience + 1)
    outcome = one(wanted, outputs.Finish).outcome
    assert (outcome.result, outcome.reason, outcome.again) == (Result.ABORTED, "no agent there", True)


# ---- the destination ----


def in_report(kind: Token, state: Answer = Answer.OK, count: int = 0, links: int = 0, **fields: int) -> inputs.Reported:
    bits = fields.pop("bits", (1 << count) - 1)
    words = [bits >> 64 * index & (1 << 64) - 1 for index in range(64)]
    fields = {"round": Mark.OPEN, "session": 5, "detail": 0, "digest": MAC} | fields
    return inputs.Reported(Report(kind, state, count=count, links=links, body=struct.pack(">64Q", *words), **fields))


def opened() -> Destination:
    machine = Destination(2, PACE)
    wanted = machine.handle(inputs.Offered(5, NONCE, 1, Suite.SIPHASH, 3), 0.0)
    assert kinds(wanted) == [outputs.Remember, outputs.InstallIncoming, outputs.WakeAt]
    machine.handle(inputs.EntriesWritten(outputs.InstallIncoming(5)), 0.0)
    wanted = machine.handle(in_report(Token.OPEN_IN), 0.0)
    assert outputs.AnswerOpened(5) in wanted
    return machine


def statement(**changes: Any) -> Statement:
    return Statement(**{**STATEMENT, **changes})


STATEMENT: dict[str, Any] = {
    "session": 5,
    "nonce": NONCE,
    "source": 1,
    "destination": 2,
    "shipped": {},
    "count": 3,
    "digest": MAC,
}


def test_what_is_whole_and_signed_is_committed_and_swept() -> None:
    machine = opened()
    machine.handle(inputs.Submitted(statement()), 0.0)
    wanted = machine.handle(in_report(Token.REPORT_IN, count=3, links=3), 0.0)
    assert outputs.SetMark(5, Mark.COMMITTED) in wanted
    assert not any(type(output) is outputs.AnswerDecided for output in wanted), "not before the mark is known to be set"
    wanted = machine.handle(inputs.EntriesWritten(outputs.SetMark(5, Mark.COMMITTED)), 0.0)
    assert outputs.AnswerDecided(5, True, "") in wanted
    assert one(wanted, outputs.SendToken).kind is Token.SWEEP
    wanted = machine.handle(in_report(Token.SWEEP, Answer.DONE), 0.0)
    assert outputs.RemoveIncoming(5) in wanted
    wanted = machine.handle(inputs.Submitted(statement()), 0.0)
    assert wanted == [outputs.AnswerDecided(5, True, "", False)], "asked again: the same answer"


@pytest.mark.parametrize(
    ("report", "signed", "reason"),
    [
        ({}, {"digest": MAC + 1}, "final MAC"),
        ({"links": 2}, {}, "chain"),
        ({"detail": 1 << 32}, {}, "1 flows meet"),
        ({}, {"nonce": NONCE + 1}, "another session"),
        ({}, {"source": 3}, "other switches"),
        ({}, {"destination": 3}, "other switches"),
    ],
)
def test_what_is_not_what_was_signed_is_discarded(report: dict, signed: dict, reason: str) -> None:
    machine = opened()
    wanted = machine.handle(inputs.Submitted(statement(**signed)), 0.0)
    for _ in range(destination.LOOKS + 1):
        if machine.state is destination.State.CHECKING:
            wanted = machine.handle(in_report(Token.REPORT_IN, **({"count": 3, "links": 3} | report)), 0.0)
    answer = one(wanted, outputs.AnswerDecided)
    assert not answer.committed
    assert reason in answer.reason
    assert outputs.SetMark(5, Mark.DISCARDED) in wanted
    assert machine.handle(inputs.Submitted(statement()), 0.0) == [
        outputs.AnswerDecided(5, False, answer.reason, answer.again)
    ]


def test_an_answer_to_an_older_look_is_no_mismatch() -> None:
    """It tells the MAC of another packet; the answer to the statement's own look follows."""
    machine = opened()
    machine.handle(inputs.Submitted(statement()), 0.0)
    machine.handle(in_report(Token.REPORT_IN, count=3, links=3, digest=MAC + 1), 0.0)
    assert machine.state is destination.State.CHECKING
    machine.handle(in_report(Token.REPORT_IN, count=3, links=3), 0.0)
    assert machine.state is destination.State.COMMITTING


def test_packets_on_their_way_are_waited_for_then_asked_for() -> None:
    machine = opened()
    machine.handle(inputs.Submitted(statement()), 0.0)
    wanted: list[Any] = []
    for _ in range(destination.LOOKS):
        wanted = machine.handle(in_report(Token.REPORT_IN, count=2, links=1, bits=0b101), 0.0)
    wanted = machine.handle(in_report(Token.REPORT_IN, count=2, links=1, bits=0b101), 0.0)
    assert one(wanted, outputs.AnswerLooked) == outputs.AnswerLooked(5, 2, 1, 0, 2, ((1, 1),))
    assert machine.state is destination.State.OPEN


def test_nobody_knows_whether_the_mark_is_set_until_the_switch_says() -> None:
    machine = opened()
    machine.handle(inputs.Submitted(statement()), 0.0)
    machine.handle(in_report(Token.REPORT_IN, count=3, links=3), 0.0)
    mark = outputs.SetMark(5, Mark.COMMITTED)
    machine.handle(inputs.EntriesRefused(mark, "deadline", known=False), 0.0)
    wanted = machine.handle(inputs.TimerExpired(), 1.0)
    assert one(wanted, outputs.SendToken).kind is Token.REPORT_IN
    wanted = machine.handle(in_report(Token.REPORT_IN, count=3, links=3, round=Mark.OPEN), 1.0)
    assert mark in wanted
    wanted = machine.handle(in_report(Token.REPORT_IN, count=3, links=3, round=Mark.COMMITTED), 1.0)
    assert outputs.AnswerDecided(5, True, "") in wanted


def test_a_session_that_was_never_heard_of_is_discarded_for_ever() -> None:
    machine = Destination(2, PACE)
    wanted = machine.handle(inputs.DiscardAsked(8, "late"), 0.0)
    assert one(wanted, outputs.AnswerDecided).committed is False
    wanted = machine.handle(inputs.Offered(8, NONCE, 1, Suite.SIPHASH, 3), 0.0)
    assert one(wanted, outputs.AnswerDeclined).reason == "its number is spent"


def test_a_source_that_falls_silent_is_discarded() -> None:
    machine = opened()
    machine.handle(inputs.TimerExpired(), PACE.idle - 1)
    assert machine.state is destination.State.OPEN
    wanted = machine.handle(inputs.TimerExpired(), PACE.idle + 1)
    assert not one(wanted, outputs.AnswerDecided).committed


def test_another_source_has_to_wait() -> None:
    machine = opened()
    wanted = machine.handle(inputs.Offered(6, NONCE, 3, Suite.SIPHASH, 4), 0.0)
    assert one(wanted, outputs.AnswerDeclined).busy
    assert machine.session == 5


@pytest.mark.parametrize(
    "changes", [{"count": -1}, {"count": "3"}, {"digest": 1 << 64}, {"x": 1}, {"shipped": 3}, {"count": True}]
)
def test_what_is_no_statement(changes: dict) -> None:
    with pytest.raises(ValueError, match="statement"):
        statement_of({**STATEMENT, **changes})
