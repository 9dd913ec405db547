# SPDX-License-Identifier: Apache-2.0
"""The copying part of a source's session: walks the plan's steps, paces tokens, finds gaps, knows when all is there.

Everything here can be repeated: a walk goes on where it was, a flow sent twice is shipped as two additive deltas.
"""

from __future__ import annotations

from enum import Enum

from controller.p4sync import inputs
from controller.p4sync.pace import Pace, Repair
from controller.p4sync.plan import Flows, Plan, Round
from controller.p4sync.protocol import BLOCK, CREDIT, Answer, Report, Token, round_argument

Tokens = list[tuple[Token, dict[str, int]]]


class Stage(Enum):
    """What the current step waits for."""

    ASKED = "round asked"
    WALKING = "walking"
    FLOWS = "flows asked"
    MADE = "all made"


class Copying:
    """How far a session's copy is. Methods return the tokens to send to the source's switch."""

    def __init__(self, plan: Plan, pace: Pace) -> None:
        """Begin with the plan's first step."""
        self.made = self.staged = self.digest = self.conflicts = 0
        self.total = plan.blocks
        self.broken = ""
        self.is_full = False
        self.is_looked = False
        self.moved_at = 0.0
        self._steps = plan.steps
        self._pace = pace
        self._repair = Repair(pace.window)
        self._stage = Stage.ASKED
        self._at = -1
        self._round = 0
        self._cursor = self._made_before = self._granted = 0
        self._seen_cursor = -1
        self._still_since = 0.0
        self._highest = -1
        self._links = 0
        self._looking = self._reporting = False
        self._asked_at = self._sent_at = -1.0
        self._group: list[int] = []
        self._left: list[int] = []
        self._absent: dict[int, None] = {}

    # ---- what is known ----

    @property
    def is_made(self) -> bool:
        """Return whether every step is done; the report that ended the last one has the final count and MAC."""
        return self._stage is Stage.MADE

    @property
    def is_whole(self) -> bool:
        """Return whether the destination has staged all that was made, linked."""
        return self.is_made and self.is_looked and self.staged == self._links == self.made

    @property
    def walked(self) -> int:
        """Return how much of `total` is behind, blocks without anything to ship included."""
        behind = sum(step.blocks for step in self._steps[: max(0, self._at)])
        step = self._steps[self._at] if 0 <= self._at < len(self._steps) else None
        if isinstance(step, Flows):
            return behind + step.blocks - len(self._left) - len(self._group)
        if step is not None and self._stage is Stage.WALKING:
            behind += max(0, min(self._cursor, step.last + 1) - step.first) // BLOCK[step.array]
        return behind

    @property
    def resent(self) -> int:
        """Return how many packets were sent again."""
        return self._repair.resent

    @property
    def absent(self) -> tuple[int, ...]:
        """Return the flows of the plan that the source does not have."""
        return tuple(self._absent)

    def describe(self) -> str:
        """Return where it stands, for people."""
        return f"{self._stage.value}, {self.made} packets made, {self.staged} arrived"

    # ---- steps ----

    def begin(self, now: float) -> Tokens:
        """Start with the first step; the first look follows when there may be something to see."""
        self.moved_at = self._asked_at = now
        return self._next(now)

    def _next(self, now: float) -> Tokens:
        self._at += 1
        self._sent_at = now
        if self._at >= len(self._steps) or self.is_full:
            self._stage = Stage.MADE
            return []
        step = self._steps[self._at]
        if isinstance(step, Flows):
            self._left = list(step.keys)
            return self._next_group(now)
        self._round += 1
        self._stage = Stage.ASKED
        return [self._ask_round(step)]

    def _ask_round(self, step: Round) -> tuple[Token, dict[str, int]]:
        argument = round_argument(step.array, step.mode, step.first, step.last)
        return Token.ROUND, {"credit": self._round, "argument": argument}

    def _next_group(self, now: float) -> Tokens:
        """Send the next flows, and ask behind them how many packets that made."""
        if not self._left:
            return self._next(now)
        self._stage = Stage.FLOWS
        self._group, self._left = self._left[: self._pace.window], self._left[self._pace.window :]
        return self._send_group(now)

    def _send_group(self, now: float) -> Tokens:
        self._made_before = self.made
        self._sent_at = now
        return [*((Token.FLOW, {"argument": key}) for key in self._group), (Token.REPORT_OUT, {})]

    # ---- the source's switch answers ----

    def reported(self, report: Report, now: float) -> Tokens:
        """Take a report of the own session."""
        if report.kind == Token.READ_FLOW:
            return self._flow_read(report, now)
        if report.kind > Token.REPORT_OUT:
            return []
        if report.count > self.made or report.cursor != self._cursor:
            self.moved_at = now
        self.made, self._cursor, self.digest = report.count, report.cursor, report.digest
        if report.kind == Token.REPORT_OUT:
            self._reporting = False
        if self._stage is Stage.MADE:
            return []
        handler = {
            Stage.ASKED: self._round_reported,
            Stage.WALKING: self._walk_reported,
            Stage.FLOWS: self._flows_reported,
        }[self._stage]
        return handler(report, now)

    def _round_reported(self, report: Report, now: float) -> Tokens:
        if report.kind != Token.ROUND or report.round != self._round:
            if report.kind == Token.ROUND and report.state == Answer.REFUSED:
                self.broken = f"the source's switch refuses round {self._round}"
            return []
        self._stage = Stage.WALKING
        self._granted = 0
        self._made_before = self.made
        self._seen_cursor, self._still_since = -1, now
        return self._walk(now)

    def _walk_reported(self, report: Report, now: float) -> Tokens:
        step = self._steps[self._at]
        assert isinstance(step, Round)
        if report.kind == Token.WALK and report.state == Answer.FULL:
            self.is_full = True
            return self._next(now)
        if report.round == self._round and report.cursor > step.last:
            return self._next(now)
        return self._walk(now)

    def _walk(self, now: float) -> Tokens:
        """Grant passes while few are outstanding and few packets are on their way.

        A pass makes one packet or skips up to eight blocks, so the passes done are known from below. A walk that has
        not moved for a while has lost its token.
        """
        step = self._steps[self._at]
        assert isinstance(step, Round)
        if self._cursor != self._seen_cursor:
            self._seen_cursor, self._still_since = self._cursor, now
        made = self.made - self._made_before
        visited = max(0, self._cursor - step.first) // BLOCK[step.array]
        done = made + max(0, visited - made) // 8
        is_stalled = now - self._still_since >= self._pace.stall and self._granted > 0
        if is_stalled:
            self._granted, self._still_since = done, now
        on_their_way = self.made - 1 - self._highest
        window = self._pace.window
        if self._granted - done > window // 2 or (on_their_way > window and not is_stalled):
            return []
        self._granted += window
        return [(Token.WALK, {"credit": min(window, CREDIT)})]

    def _flows_reported(self, report: Report, now: float) -> Tokens:
        if report.kind == Token.FLOW and report.state == Answer.FULL:
            self.is_full = True
            return self._next(now)
        if report.kind != Token.REPORT_OUT:
            return []
        made = self.made - self._made_before
        if made >= len(self._group):
            return self._next_group(now)
        if len(self._group) == 1:
            return [(Token.READ_FLOW, {"argument": self._group[0]})]  # a report that says which flow it is about
        # some are not there, or tokens were lost: halve, until it is one flow that makes no packet
        half = len(self._group) // 2
        self._left = self._group[half:] + self._left
        self._group = self._group[:half]
        return self._send_group(now)

    def _flow_read(self, report: Report, now: float) -> Tokens:
        """Learn whether the one flow that made no packet is there at all."""
        if self._stage is not Stage.FLOWS or self._group != [report.detail]:
            return []
        if report.state != Answer.ABSENT:
            return self._send_group(now)
        self._absent[report.detail] = None
        return self._next_group(now)

    # ---- the destination answers ----

    def looked(self, look: inputs.Looked, now: float) -> Tokens:
        """Take what the destination has staged; resend what it lacks."""
        self._looking, self.is_looked = False, True
        if look.count > self.staged:
            self.moved_at = now
        self.staged, self._links, self.conflicts = look.count, look.links, look.conflicts
        self._highest = max(self._highest, look.highest)
        if self.is_made and look.count == self.made and look.links != self.made:
            self.broken = "the chain of MACs does not hold: packets of another run of this session were staged"
            return []
        tokens: Tokens = [
            (Token.RESEND, {"argument": first, "credit": length})
            for first, length in self._repair.runs(look.gaps, look.highest, self.made, self.is_made)
        ]
        return tokens + (self._walk(now) if self._stage is Stage.WALKING else [])

    # ---- time ----

    def wants_look(self, now: float) -> bool:
        """Return whether both switches are to be asked again: both have answered, or not for too long."""
        since = now - self._asked_at
        if self._looking or self._reporting:
            return since >= self._pace.retry
        return since >= self._pace.look_interval

    @property
    def wants_report(self) -> bool:
        """Return whether a look is to be accompanied by `REPORT_OUT`: flows send their own, counted one by one."""
        return self._stage is not Stage.FLOWS

    def asked(self, now: float) -> None:
        """Remember that the destination was asked, and the own switch where that is wanted."""
        self._looking, self._reporting = True, self.wants_report
        self._asked_at = now

    def delay(self, now: float) -> float:
        """Return in how many seconds to look again."""
        wait = self._pace.retry if self._looking or self._reporting else self._pace.look_interval
        return max(0.0005, self._asked_at + wait - now)

    def tick(self, now: float) -> Tokens:
        """Repeat what was not answered in time."""
        if now - self._sent_at < self._pace.retry:
            return []
        self._sent_at = now
        if self._stage is Stage.ASKED:
            step = self._steps[self._at]
            assert isinstance(step, Round)
            return [self._ask_round(step)]
        if self._stage is Stage.FLOWS:
            return [(Token.REPORT_OUT, {})]
        return self._walk(now) if self._stage is Stage.WALKING else []

    def reopen(self, now: float) -> None:
        """Go on after a submission that found packets missing."""
        self._looking = self._reporting = False
        self._asked_at = self.moved_at = now
