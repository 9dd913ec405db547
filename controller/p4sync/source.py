# SPDX-License-Identifier: Apache-2.0
"""The source's half of a session: a pure machine, from the offer to the release or the restoration.

Told what happened (`inputs`) and the time, it says what to do (`outputs`). Where a session's fate is decided is the
destination's mark alone: once a statement is submitted, this half does not give up by itself any more.

    OFFERING -> OPENING -> COPYING -> DECIDING -> RELEASING -> (committed)
         any of them before a decision -> ABORTING -> RESTORING -> (aborted)
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from controller.core.errors import TransitionError
from controller.p4sync import inputs, outputs
from controller.p4sync.copying import Copying
from controller.p4sync.outputs import Outcome, Result
from controller.p4sync.pace import Pace
from controller.p4sync.plan import Plan, record_of
from controller.p4sync.protocol import CREDIT, Answer, Phase, Report, Token
from controller.p4sync.statement import Statement

FEW = 8
"""A session of up to so many packets is submitted without a look first: the destination looks anyhow."""


class State(Enum):
    """Where the source's half of a session stands."""

    OFFERING = "offering"
    OPENING = "opening"
    COPYING = "copying"
    DECIDING = "deciding"
    RELEASING = "releasing"
    ABORTING = "aborting"
    RESTORING = "restoring"
    OVER = "over"


class Source:
    """One session at its source."""

    def __init__(self, plan: Plan, source: int, destination: int, pace: Pace) -> None:
        """Prepare; ``source`` and ``destination`` are switch ids."""
        self.state = State.OFFERING
        self.session = 0
        self.plan = plan
        self.nonce = 0
        self._ids = (source, destination)
        self._pace = pace
        self._copying = Copying(plan, pace)
        self._out: list[Any] = []
        self._now = 0.0
        self._alive = 0.0
        self._asked_at = 0.0
        self._own_open = self._peer_open = self._may_be_open = False
        self._switch_lost = self._memory_lost = self._submitted = False
        self._reason = ""
        self._again = False
        self._undone = -1
        self._staged_at = self._decided_at = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether the source's switch knows the session: what it has moved is in its outbox."""
        return self._own_open and self.state is not State.OVER

    # ---- the way in ----

    def start(self, now: float) -> list[Any]:
        """Begin: returns the first outputs."""
        self._now = self._alive = now
        self._offer()
        return self._flush()

    def resume(self, session: int, nonce: int, submitted: bool, now: float) -> list[Any]:
        """Begin with a session that an earlier agent has left: ask for its end, or give it up, and act on it."""
        self._now = self._alive = now
        self.session, self.nonce = session, nonce
        self._own_open = self._may_be_open = True
        self._submitted = submitted
        self._abort("the agent was restarted", again=True)
        return self._flush()

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take what happened; returns what to do. Raises TransitionError for what cannot happen."""
        self._now = now
        action = TABLE.get((self.state, type(event)))
        if action is None:
            raise TransitionError(self.state, type(event).__name__)
        action(self, event)
        return self._flush()

    def _flush(self) -> list[Any]:
        out, self._out = self._out, []
        return out

    def _enter(self, state: State) -> None:
        self.state = state
        self._alive = self._now

    def _token(self, kind: Token, **fields: int) -> None:
        if not self._switch_lost:
            self._out.append(outputs.SendToken(kind, self.session, **fields))

    def _wake(self, delay: float) -> None:
        self._out.append(outputs.WakeAt(self._now + delay))

    # ---- opening ----

    def _offer(self) -> None:
        self._out.append(outputs.SendOffer())
        self._asked_at = self._now
        self._wake(self._pace.retry * 4)

    def _accepted(self, event: inputs.Accepted) -> None:
        self.session, self.nonce = event.session, event.nonce
        self._enter(State.OPENING)
        self._out.append(
            outputs.Remember({"what": "opened", "session": self.session, "nonce": self.nonce, "peer": self._ids[1]})
        )
        self._out.append(outputs.InstallOutgoing(self.session))
        self._wake(self._pace.retry)

    def _declined(self, event: inputs.Declined) -> None:
        if event.busy and self._now - self._alive < self._pace.patience:
            self._wake(self._pace.busy_retry)
        elif self.state is State.OFFERING:
            self._finish(Result.ABORTED, event.reason, again=event.busy)
        else:
            self._abort(event.reason, again=event.busy)

    def _offer_again(self, _event: Any) -> None:
        if self._now - self._alive >= self._pace.patience:
            self._finish(Result.ABORTED, self._reason or "the destination's agent does not answer", again=True)
        else:
            self._offer()

    def _offer_failed(self, event: inputs.PeerFailed) -> None:
        self._reason = event.reason
        self._wake(self._pace.retry)

    def _installed(self, _event: Any) -> None:
        self._may_be_open = True
        self._token(Token.OPEN_OUT)
        self._wake(self._pace.retry)

    def _not_installed(self, event: inputs.EntriesRefused) -> None:
        self._abort(event.reason, again=not event.known)

    def _peer_opened(self, _event: Any) -> None:
        self._peer_open = True
        self._copy_if_open()

    def _opening_reported(self, event: inputs.Reported) -> None:
        report = event.report
        if report.kind != Token.OPEN_OUT:
            return
        if report.state == Answer.OK and report.session == self.session:
            self._own_open = True
            self._copy_if_open()
        elif report.state in (Answer.BUSY, Answer.UNKNOWN) and self._now - self._alive < self._pace.patience:
            self._wake(self._pace.busy_retry)
        else:
            self._abort(f"the source's switch does not open the session: {Answer(report.state).name}", again=True)

    def _opening_again(self, _event: Any) -> None:
        if self._now - self._alive >= self._pace.patience:
            self._abort("a switch did not open the session in time", again=True)
            return
        if not self._own_open:
            self._may_be_open = True
            self._token(Token.OPEN_OUT)
        if not self._peer_open:
            self._out.append(outputs.SendOffer())
        self._wake(self._pace.retry)

    def _copy_if_open(self) -> None:
        if not (self._own_open and self._peer_open):
            return
        self._enter(State.COPYING)
        self._asked_at = self._now
        self._copy(self._copying.begin(self._now))

    # ---- copying ----

    def _copy(self, tokens: list[tuple[Token, dict[str, int]]]) -> None:
        for kind, fields in tokens:
            self._token(kind, **fields)
        copying = self._copying
        if copying.broken:
            self._abort(copying.broken, again=False)
        elif copying.is_whole or (copying.is_made and copying.made <= FEW and not self._submitted):
            self._submit()
        else:
            if copying.wants_look(self._now):
                self._out.append(outputs.AskLook(self.session, copying.made))
                if copying.wants_report:
                    self._token(Token.REPORT_OUT)
                copying.asked(self._now)
                self._out.append(outputs.Progress(copying.made, copying.staged, copying.walked, copying.total))
            self._wake(copying.delay(self._now))

    def _copy_reported(self, event: inputs.Reported) -> None:
        if event.report.session == self.session:
            self._copy(self._copying.reported(event.report, self._now))

    def _copy_looked(self, event: inputs.Looked) -> None:
        if event.conflicts:
            self._copying.looked(event, self._now)
            self._abort(f"{event.conflicts} flows meet other flows' entries there", again=False)
            return
        self._copy(self._copying.looked(event, self._now))

    def _copy_timer(self, _event: Any) -> None:
        if self._now - self._copying.moved_at >= self._pace.patience:
            self._abort(f"no headway for {self._pace.patience:g} s: {self._copying.describe()}", again=True)
        else:
            self._copy(self._copying.tick(self._now))

    def _copy_peer_failed(self, event: inputs.PeerFailed) -> None:
        self._reason = event.reason
        self._wake(self._copying.delay(self._now))

    # ---- the decision ----

    def _submit(self) -> None:
        copying = self._copying
        self._staged_at = self._now
        self._enter(State.DECIDING)
        self._submitted = True
        self._statement = Statement(
            self.session, self.nonce, *self._ids, record_of(self.plan), copying.made, copying.digest
        )
        self._out.append(outputs.Remember({"what": "submitted", "session": self.session}))
        self._out.append(outputs.Submit(self._statement))
        self._wake(self._pace.retry * 4)

    def _submit_again(self, _event: Any) -> None:
        self._out.append(outputs.Submit(self._statement))
        self._wake(self._pace.retry * 4)

    def _submit_failed(self, _event: Any) -> None:
        self._wake(self._pace.retry)

    def _not_whole_yet(self, event: inputs.Looked) -> None:
        self._enter(State.COPYING)
        self._copying.reopen(self._now)
        self._copy_looked(event)

    def _decided(self, event: inputs.Decided) -> None:
        self._decided_at = self._now
        if event.committed:
            self._out.append(outputs.Remember({"what": "committed", "session": self.session}))
            self._enter(State.RELEASING)
            self._release()
        else:
            self._reason, self._again = self._reason or event.reason, self._again or event.again
            self._out.append(outputs.Remember({"what": "discarded", "session": self.session}))
            self._enter(State.RESTORING)
            self._restore()

    def _decided_early(self, event: inputs.Decided) -> None:
        """Hear that it was given up there (its switch restarted, say), or that an earlier submission did it."""
        if event.committed and not self._submitted:
            raise TransitionError(self.state, "a commit that was not asked for")
        self._reason = event.reason
        self._decided(event)

    # ---- after it ----

    def _release(self) -> None:
        if self._memory_lost:
            self._end()
            return
        self._token(Token.RELEASE, credit=CREDIT, flags=0 if self.plan.release else 1)
        self._wake(self._pace.retry)

    def _restore(self) -> None:
        if self._memory_lost or not self._may_be_open:
            self._end()
            return
        self._token(Token.RESTORE, credit=CREDIT)
        self._wake(self._pace.retry)

    def _undo_reported(self, event: inputs.Reported) -> None:
        report = event.report
        kind = Token.RELEASE if self.state is State.RELEASING else Token.RESTORE
        if report.kind == Token.REPORT_OUT:
            self._undo_watched(report)
        elif report.kind == kind and (
            (report.state == Answer.DONE and report.session in (self.session, 0))
            or (report.state == Answer.UNKNOWN and report.session != self.session)
        ):
            self._end()

    def _undo_watched(self, report: Report) -> None:
        """A token that gets no further is lost: send another one."""
        if report.session != self.session or report.links == Phase.IDLE:
            self._end()
        elif report.undone == self._undone or report.links == Phase.OPEN:
            self._undone = -1
            self._release() if self.state is State.RELEASING else self._restore()
        else:
            self._undone = report.undone

    def _undo_timer(self, _event: Any) -> None:
        self._token(Token.REPORT_OUT)
        self._wake(self._pace.retry)

    def _end(self) -> None:
        if self.state is State.RELEASING:
            self._finish(Result.COMMITTED, "")
        elif self._memory_lost:
            self._finish(Result.LOST, self._reason, again=False)
        else:
            self._finish(Result.ABORTED, self._reason, again=self._again)

    def _abort(self, reason: str, again: bool) -> None:
        """Give the session up; what was never submitted cannot have been committed, so nobody needs to be asked."""
        self._reason, self._again = reason, again
        self._enter(State.ABORTING)
        self._discard()
        if not self._submitted:
            self._out.append(outputs.Remember({"what": "discarded", "session": self.session}))
            self._enter(State.RESTORING)
            self._restore()

    def _discard(self, _event: Any = None) -> None:
        self._out.append(outputs.AskDiscard(self.session, self._reason))
        self._wake(self._pace.retry * 4)

    def _finish(self, result: Result, reason: str, again: bool = False) -> None:
        copying = self._copying
        self.state = State.OVER
        if self.session:
            if not self._memory_lost:
                self._out.append(outputs.RemoveOutgoing(self.session))
            self._out.append(outputs.Remember({"what": "closed", "session": self.session, "result": result.value}))
        self._out.append(
            outputs.Finish(
                Outcome(
                    result,
                    self.session,
                    copying.made,
                    copying.resent,
                    reason,
                    again,
                    copying.conflicts,
                    copying.is_full,
                    copying.absent,
                    self._staged_at,
                    self._decided_at,
                )
            )
        )

    # ---- troubles ----

    def _cancelled(self, event: inputs.Cancelled) -> None:
        if self.state is State.OFFERING:
            self._finish(Result.ABORTED, event.reason)
        else:
            self._abort(event.reason, again=False)

    def _switch_gone(self, _event: Any) -> None:
        self._switch_lost = True
        self._wake(self._pace.retry)

    def _switch_found(self, event: inputs.SwitchFound) -> None:
        self._switch_lost = False
        if event.same:
            self._undone = -1
            self._wake(0.0)
            return
        self._memory_lost = True
        reason = "the source's switch was restarted: what it held and had not shipped is lost"
        if self.state in (State.RELEASING, State.RESTORING):
            self._reason = reason
            self._end()
        elif self.state is State.OFFERING:
            self._wake(0.0)
            self._memory_lost = False
        elif self.state in (State.DECIDING, State.ABORTING):
            self._reason = reason
            self._wake(self._pace.retry)
        else:
            self._abort(reason, again=False)

    def _ignore(self, _event: Any) -> None:
        """Come too late to matter."""


TABLE: dict[tuple[State, type], Callable[[Any, Any], None]] = {
    (State.OFFERING, inputs.Accepted): Source._accepted,
    (State.OFFERING, inputs.Declined): Source._declined,
    (State.OFFERING, inputs.PeerFailed): Source._offer_failed,
    (State.OFFERING, inputs.TimerExpired): Source._offer_again,
    (State.OPENING, inputs.EntriesWritten): Source._installed,
    (State.OPENING, inputs.EntriesRefused): Source._not_installed,
    (State.OPENING, inputs.Opened): Source._peer_opened,
    (State.OPENING, inputs.Declined): Source._declined,
    (State.OPENING, inputs.PeerFailed): Source._offer_failed,
    (State.OPENING, inputs.Reported): Source._opening_reported,
    (State.OPENING, inputs.TimerExpired): Source._opening_again,
    (State.COPYING, inputs.Reported): Source._copy_reported,
    (State.COPYING, inputs.Looked): Source._copy_looked,
    (State.COPYING, inputs.PeerFailed): Source._copy_peer_failed,
    (State.COPYING, inputs.TimerExpired): Source._copy_timer,
    (State.DECIDING, inputs.Looked): Source._not_whole_yet,
    (State.DECIDING, inputs.PeerFailed): Source._submit_failed,
    (State.DECIDING, inputs.TimerExpired): Source._submit_again,
    (State.DECIDING, inputs.Decided): Source._decided,
    (State.ABORTING, inputs.Decided): Source._decided,
    (State.ABORTING, inputs.PeerFailed): Source._submit_failed,
    (State.ABORTING, inputs.TimerExpired): Source._discard,
    (State.RELEASING, inputs.Reported): Source._undo_reported,
    (State.RELEASING, inputs.TimerExpired): Source._undo_timer,
    (State.RESTORING, inputs.Reported): Source._undo_reported,
    (State.RESTORING, inputs.TimerExpired): Source._undo_timer,
    **{(state, inputs.Decided): Source._decided_early for state in (State.OPENING, State.COPYING)},
    **{(state, inputs.Cancelled): Source._cancelled for state in (State.OFFERING, State.OPENING, State.COPYING)},
    **{(state, inputs.SwitchLost): Source._switch_gone for state in State if state is not State.OVER},
    **{(state, inputs.SwitchFound): Source._switch_found for state in State if state is not State.OVER},
}
"""(state, what happened) -> what is done. What is missing cannot happen; `LATE` may, and does not matter."""

LATE = (
    inputs.Accepted,
    inputs.Opened,
    inputs.Declined,
    inputs.PeerFailed,
    inputs.Looked,
    inputs.Decided,
    inputs.Reported,
    inputs.TimerExpired,
    inputs.Cancelled,
    inputs.EntriesWritten,
    inputs.EntriesRefused,
    inputs.SwitchLost,
    inputs.SwitchFound,
)
"""Answers that come when the session has moved on already."""
for _state in State:
    for _kind in LATE:
        TABLE.setdefault((_state, _kind), Source._ignore)
