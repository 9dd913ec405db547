# SPDX-License-Identifier: Apache-2.0
"""The destination's half: a pure machine that opens, looks, verifies, decides, and sweeps; one session at a time.

    IDLE -> OPENING -> OPEN <-> CHECKING -> COMMITTING -> SWEEPING -> IDLE
               any of them before COMMITTING -> DISCARDING -> IDLE

Whether a session is committed is decided by its mark in the switch, and told only when that is known.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from controller.core.errors import TransitionError
from controller.p4sync import inputs, outputs
from controller.p4sync.pace import Pace
from controller.p4sync.protocol import CREDIT, HALF_BITMAP, Answer, Mark, Report, Token, missing_of, runs_of
from controller.p4sync.statement import Statement

KEPT = 4_096
"""Decisions that are remembered, for sources that ask late."""
OTHER_MAC = "the final MAC is not the one that the source has signed"
LOOKS = 3
"""Looks that a submitted session gets before it is said to be incomplete: packets may still be on their way."""
RUNS = 256
"""Gaps told at once."""


class State(Enum):
    """What the destination's half does."""

    IDLE = "idle"
    OPENING = "opening"
    OPEN = "open"
    CHECKING = "checking"
    COMMITTING = "committing"
    SWEEPING = "sweeping"
    DISCARDING = "discarding"


class Destination:
    """All sessions that end at one switch, one after the other."""

    def __init__(self, own: int, pace: Pace) -> None:
        """Begin without a session; ``own`` is the switch's id."""
        self.state = State.IDLE
        self.session = self.nonce = self.source = 0
        self.decisions: dict[int, tuple[bool, str, bool]] = {}
        self._own = own
        self._pace = pace
        self._out: list[Any] = []
        self._now = self._heard_at = 0.0
        self._switch_lost = False
        self._wants_look = False
        self._made = 0
        self._half = 0
        self._first: tuple[int, ...] | None = None
        self._statement: Statement | None = None
        self._looks = 0
        self._swept = -1
        self._reason, self._again = "", False

    @property
    def is_in_switch(self) -> bool:
        """Return whether the switch should know the session."""
        return self.state not in (State.IDLE, State.OPENING, State.DISCARDING)

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take what happened; returns what to do. Raises TransitionError for what cannot happen."""
        self._now = now
        action = TABLE.get((self.state, type(event)))
        if action is None:
            raise TransitionError(self.state, type(event).__name__)
        action(self, event)
        out, self._out = self._out, []
        return out

    def restore(self, session: int, nonce: int, source: int, mark: Mark, now: float) -> list[Any]:
        """Go on with a session that an earlier agent has left in the switch, as its mark says."""
        self._now = self._heard_at = now
        self.session, self.nonce, self.source = session, nonce, source
        if mark is Mark.COMMITTED:
            self._commit_known()
        elif mark is Mark.OPEN:
            self.state = State.OPENING  # its entries are written; whether OPEN_IN followed, its repetition tells
            self._token(Token.OPEN_IN)
            self._wake(self._pace.retry)
        else:
            self._discard("the session's mark was gone", again=True)
        out, self._out = self._out, []
        return out

    def _wake(self, delay: float) -> None:
        self._out.append(outputs.WakeAt(self._now + delay))

    def _token(self, kind: Token, **fields: int) -> None:
        if not self._switch_lost:
            self._out.append(outputs.SendToken(kind, self.session, **fields))

    # ---- opening ----

    def _offered(self, event: inputs.Offered) -> None:
        if event.session in self.decisions:
            self._decline(event, "its number is spent", busy=False)
        elif self._switch_lost:
            self._decline(event, "the destination's switch cannot be reached", busy=True)
        else:
            self.session, self.nonce, self.source = event.session, event.nonce, event.source
            self._heard_at = self._now
            self._made = 0
            self._out.append(
                outputs.Remember({"what": "opening", "session": self.session, "nonce": self.nonce, "peer": self.source})
            )
            self.state = State.OPENING
            self._out.append(outputs.InstallIncoming(self.session))
            self._wake(self._pace.retry)

    def _offered_again(self, event: inputs.Offered) -> None:
        if event.session == self.session:
            self._heard_at = self._now
            if self.state is State.OPEN:
                self._out.append(outputs.AnswerOpened(self.session))
        elif event.source == self.source and event.session > self.session and self.state is State.OPEN:
            self._discard("its source has begun another session", again=True)
            self._decline(event, "an older session is discarded first", busy=True)
        else:
            self._decline(event, f"session {self.session} is under way there", busy=True)

    def _decline(self, event: inputs.Offered, reason: str, busy: bool) -> None:
        self._out.append(outputs.AnswerDeclined(event.session, reason, busy))

    def _installed(self, event: inputs.EntriesWritten) -> None:
        if event.of != outputs.InstallIncoming(self.session):
            return
        self._token(Token.OPEN_IN)
        self._wake(self._pace.retry)

    def _not_installed(self, event: inputs.EntriesRefused) -> None:
        if event.of != outputs.InstallIncoming(self.session):
            return
        self._out.append(outputs.AnswerDeclined(self.session, event.reason, busy=self._switch_lost))
        self._discard(event.reason, again=True)

    def _opening_reported(self, event: inputs.Reported) -> None:
        report = event.report
        if report.kind != Token.OPEN_IN:
            return
        if report.state == Answer.OK and report.session == self.session:
            self.state = State.OPEN
            self._out.append(outputs.AnswerOpened(self.session))
            self._wake(self._pace.idle)
        elif report.state == Answer.BUSY and self._now - self._heard_at < self._pace.patience:
            self._wake(self._pace.busy_retry)
        else:
            reason = f"the destination's switch does not open the session: {Answer(report.state).name}"
            self._out.append(outputs.AnswerDeclined(self.session, reason, busy=False))
            self._discard(reason, again=True)

    def _opening_again(self, _event: Any) -> None:
        if self._now - self._heard_at >= self._pace.patience:
            self._discard("the destination's switch did not open the session in time", again=True)
        else:
            self._token(Token.OPEN_IN)
            self._wake(self._pace.retry)

    # ---- looking ----

    def _look_asked(self, event: inputs.LookAsked) -> None:
        if event.session != self.session:
            self._other_asked(event)
            return
        self._heard_at = self._now
        self._made = event.made
        self._wants_look = True
        self._look(0)
        self._wake(self._pace.idle)

    def _look(self, half: int) -> None:
        """Ask for half of the bitmap, and for the MAC of the packet made last."""
        self._half = half
        if half == 0:
            self._first = None
        last = max(0, (self._statement.count if self._statement else self._made) - 1)
        self._token(Token.REPORT_IN, argument=half << 32 | last)

    def _open_reported(self, event: inputs.Reported) -> None:
        report = event.report
        if report.kind != Token.REPORT_IN or not self._wants_look or self._is_gone(report):
            return
        if self._half == 0 and self._made > HALF_BITMAP:
            if self._first is None:
                self._first = report.words
                self._half = 1
                self._look(1)
            return
        self._wants_look = False
        self._answer_look(report)

    def _is_gone(self, report: Report) -> bool:
        """Return whether the switch speaks of another session than ours, which is over then."""
        if report.session == self.session:
            return False
        self._discard("the destination's switch has lost the session", again=True)
        return True

    def _answer_look(self, report: Report) -> None:
        """Tell what is there; the gaps end below the highest number that has arrived."""
        first = report.words if self._half == 0 else self._first or ()
        halves = [(0, first)] + ([(HALF_BITMAP, report.words)] if self._half else [])
        highest = max((_highest(words, base) for base, words in halves), default=-1)
        missing = [n for base, words in halves for n in missing_of(words, base, highest + 1)]
        gaps = tuple(runs_of(missing)[:RUNS])
        self._out.append(outputs.AnswerLooked(self.session, report.count, report.links, report.cursor, highest, gaps))

    def _open_timer(self, _event: Any) -> None:
        if self._now - self._heard_at >= self._pace.idle:
            self._discard("its source was not heard of for too long", again=True)
        else:
            self._wake(self._heard_at + self._pace.idle - self._now)

    # ---- verifying ----

    def _submitted(self, event: inputs.Submitted) -> None:
        statement = event.statement
        if statement.session != self.session:
            self._other_asked(statement)
            return
        self._heard_at = self._now
        self._statement = statement
        self._made = statement.count
        self._looks = 0
        named = (statement.nonce, statement.source, statement.destination)
        if named != (self.nonce, self.source, self._own):
            self._discard("the statement is of another session or other switches", again=False)
            return
        self.state = State.CHECKING
        self._wants_look = True
        self._look(0 if statement.count <= HALF_BITMAP else 1)
        self._wake(self._pace.retry)

    def _checking_reported(self, event: inputs.Reported) -> None:
        report, statement = event.report, self._statement
        if report.kind != Token.REPORT_IN or statement is None or self._is_gone(report):
            return
        verdict = self._judge(report, statement)
        if verdict is None:
            self._looks += 1
            if self._looks < LOOKS:
                self._look(self._half)
            else:
                self._to_open()
                self._wants_look = True
                self._look(0)
        elif verdict == OTHER_MAC and self._looks < LOOKS:
            # It may answer a look of before the statement, which asked for another packet's MAC: its own is to come.
            self._looks += 1
            self._look(self._half)
        elif verdict:
            self._discard(verdict, again=False)
        else:
            self.state = State.COMMITTING
            self._out.append(outputs.Remember({"what": "committing", "session": self.session}))
            self._out.append(outputs.SetMark(self.session, Mark.COMMITTED))
            self._wake(self._pace.retry)

    @staticmethod
    def _judge(report: Report, statement: Statement) -> str | None:
        """Return "" if the switch's own account is the statement's, None if packets are missing, else what is wrong."""
        if report.cursor:
            return f"{report.cursor} flows meet other flows' entries there"
        if report.count < statement.count:
            return None
        if report.count > statement.count:
            return None
        if report.links != report.count:
            return "the chain of MACs does not hold"
        if statement.count and report.digest != statement.digest:
            return OTHER_MAC
        return ""

    def _to_open(self) -> None:
        self.state = State.OPEN
        self._statement = None
        self._wake(self._pace.idle)

    def _checking_again(self, _event: Any) -> None:
        self._look(self._half)
        self._wake(self._pace.retry)

    # ---- deciding ----

    def _mark_set(self, event: inputs.EntriesWritten) -> None:
        if event.of == outputs.SetMark(self.session, Mark.COMMITTED):
            self._commit_known()

    def _commit_known(self) -> None:
        self._decide(committed=True, reason="", again=False)
        self.state = State.SWEEPING
        self._swept = -1
        self._token(Token.SWEEP, credit=CREDIT)
        self._wake(self._pace.retry)

    def _mark_not_set(self, event: inputs.EntriesRefused) -> None:
        """Nobody knows whether the mark is set: the switch will say."""
        self._reason = event.reason
        self._wake(self._pace.retry)

    def _commit_watched(self, event: inputs.Reported) -> None:
        report = event.report
        if report.kind != Token.REPORT_IN:
            return
        if self._is_gone(report):
            return
        if report.round == Mark.COMMITTED:
            self._commit_known()
        else:
            self._out.append(outputs.SetMark(self.session, Mark.COMMITTED))
            self._wake(self._pace.retry)

    def _commit_again(self, _event: Any) -> None:
        self._token(Token.REPORT_IN)
        self._wake(self._pace.retry)

    def _decide(self, committed: bool, reason: str, again: bool) -> None:
        self.decisions[self.session] = (committed, reason, again)
        while len(self.decisions) > KEPT:
            del self.decisions[next(iter(self.decisions))]
        what = "committed" if committed else "discarded"
        self._out.append(outputs.Remember({"what": what, "session": self.session, "reason": reason}))
        self._out.append(outputs.AnswerDecided(self.session, committed, reason, again))

    def _discard(self, reason: str, again: bool) -> None:
        """End the session without a commit; the number is spent at once, the mark follows."""
        self._decide(committed=False, reason=reason, again=again)
        self.state = State.DISCARDING
        self._statement = None
        if self._switch_lost:
            self._wake(self._pace.retry)
        else:
            self._out.append(outputs.SetMark(self.session, Mark.DISCARDED))
            self._wake(self._pace.retry * 4)

    def _discard_asked(self, event: inputs.DiscardAsked) -> None:
        if event.session != self.session:
            self._other_asked(event)
        else:
            self._discard(event.reason, again=False)

    def _discarded(self, event: inputs.EntriesWritten) -> None:
        if event.of == outputs.SetMark(self.session, Mark.DISCARDED):
            self._clear()

    def _not_discarded(self, event: inputs.EntriesRefused) -> None:
        """Retry, unless the switch says that there is no such mark."""
        if event.of == outputs.SetMark(self.session, Mark.DISCARDED) and event.known:
            self._clear()

    def _discard_again(self, _event: Any) -> None:
        if not self._switch_lost:
            self._out.append(outputs.SetMark(self.session, Mark.DISCARDED))
        self._wake(self._pace.retry * 4)

    # ---- sweeping ----

    def _sweep_reported(self, event: inputs.Reported) -> None:
        report = event.report
        if report.kind == Token.SWEEP and report.state in (Answer.DONE, Answer.UNKNOWN):
            self._clear()
        elif report.kind == Token.REPORT_IN:
            if report.session != self.session:
                self._clear()
            elif report.undone == self._swept:
                self._token(Token.SWEEP, credit=CREDIT)
            self._swept = report.undone

    def _sweep_timer(self, _event: Any) -> None:
        self._token(Token.REPORT_IN)
        self._wake(self._pace.retry)

    def _clear(self) -> None:
        self._out.append(outputs.RemoveIncoming(self.session))
        self._out.append(outputs.Remember({"what": "closed", "session": self.session}))
        self.state = State.IDLE
        self._statement = None
        self.session = self.nonce = self.source = 0

    # ---- late questions ----

    def _other_asked(self, event: Any) -> None:
        """Tell what became of a session that is not the present one: it was decided, or never will be."""
        self._told(event.session)

    def _asked_late(self, event: Any) -> None:
        statement = event.statement if isinstance(event, inputs.Submitted) else event
        self._told(statement.session)

    def _told(self, session: int) -> None:
        if session == self.session and session not in self.decisions:
            return  # being decided: the answer follows
        decision = self.decisions.get(session)
        if decision is None:
            decision = self.decisions[session] = (False, "the destination does not know it", True)
            self._out.append(outputs.Remember({"what": "discarded", "session": session, "reason": decision[1]}))
        self._out.append(outputs.AnswerDecided(session, *decision))

    # ---- troubles ----

    def _switch_gone(self, _event: Any) -> None:
        self._switch_lost = True

    def _switch_found(self, event: inputs.SwitchFound) -> None:
        self._switch_lost = False
        if self.state is State.IDLE:
            return
        if event.same:
            self._wake(0.0)
        elif self.state in (State.SWEEPING, State.DISCARDING):
            self._clear()
        else:
            self._decide(committed=False, reason="the destination's switch was restarted", again=True)
            self._clear()

    def _ignore(self, _event: Any) -> None:
        """Come too late to matter."""


TABLE: dict[tuple[State, type], Callable[[Any, Any], None]] = {
    (State.IDLE, inputs.Offered): Destination._offered,
    **{(state, inputs.Offered): Destination._offered_again for state in State if state is not State.IDLE},
    (State.OPENING, inputs.EntriesWritten): Destination._installed,
    (State.OPENING, inputs.EntriesRefused): Destination._not_installed,
    (State.OPENING, inputs.Reported): Destination._opening_reported,
    (State.OPENING, inputs.TimerExpired): Destination._opening_again,
    (State.OPEN, inputs.LookAsked): Destination._look_asked,
    (State.OPEN, inputs.Reported): Destination._open_reported,
    (State.OPEN, inputs.Submitted): Destination._submitted,
    (State.OPEN, inputs.TimerExpired): Destination._open_timer,
    (State.CHECKING, inputs.Reported): Destination._checking_reported,
    (State.CHECKING, inputs.TimerExpired): Destination._checking_again,
    (State.COMMITTING, inputs.EntriesWritten): Destination._mark_set,
    (State.COMMITTING, inputs.EntriesRefused): Destination._mark_not_set,
    (State.COMMITTING, inputs.Reported): Destination._commit_watched,
    (State.COMMITTING, inputs.TimerExpired): Destination._commit_again,
    (State.SWEEPING, inputs.Reported): Destination._sweep_reported,
    (State.SWEEPING, inputs.TimerExpired): Destination._sweep_timer,
    (State.DISCARDING, inputs.EntriesWritten): Destination._discarded,
    (State.DISCARDING, inputs.EntriesRefused): Destination._not_discarded,
    (State.DISCARDING, inputs.TimerExpired): Destination._discard_again,
    **{
        (state, inputs.DiscardAsked): Destination._discard_asked
        for state in (State.OPENING, State.OPEN, State.CHECKING)
    },
    **{(state, inputs.SwitchLost): Destination._switch_gone for state in State},
    **{(state, inputs.SwitchFound): Destination._switch_found for state in State},
}
"""(state, what happened) -> what is done. What is missing cannot happen; what may come late is added below."""

QUESTIONS: tuple[type, ...] = (inputs.LookAsked, inputs.Submitted, inputs.DiscardAsked)
LATE: tuple[type, ...] = (inputs.Reported, inputs.TimerExpired, inputs.EntriesWritten, inputs.EntriesRefused)
"""Questions about sessions that are over get their answer; answers that come too late do not matter."""
for _state in State:
    TABLE.update({(_state, kind): Destination._asked_late for kind in QUESTIONS if (_state, kind) not in TABLE})
    TABLE.update({(_state, kind): Destination._ignore for kind in LATE if (_state, kind) not in TABLE})


def _highest(words: tuple[int, ...], base: int) -> int:
    """Return the highest number in a half of the bitmap that begins with ``base``; -1: none."""
    for index in range(len(words) - 1, -1, -1):
        if words[index]:
            return base + 64 * index + words[index].bit_length() - 1
    return -1
