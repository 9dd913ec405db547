# SPDX-License-Identifier: Apache-2.0
"""What the two session machines ask for, as frozen values in the imperative, to be done in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from controller.p4sync.protocol import Mark, Token
from controller.p4sync.statement import Statement


@dataclass(frozen=True, slots=True)
class SendToken:
    """Send a token of the session to the own switch; answered by `Reported`, or not at all."""

    kind: Token
    session: int
    credit: int = 0
    argument: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Say `TimerExpired` at this time; replaces the last one."""

    when: float


@dataclass(frozen=True, slots=True)
class Remember:
    """Write into the journal, before anything that follows is done."""

    record: dict[str, Any] = field(default_factory=dict)


# ---- at the source ----


@dataclass(frozen=True, slots=True)
class SendOffer:
    """Offer a session to the destination; answered by `Accepted`, then `Opened`, or `Declined`."""


@dataclass(frozen=True, slots=True)
class InstallOutgoing:
    """Write the session's keys into `sync_out`; answered by `EntriesWritten` or `EntriesRefused`."""

    session: int


@dataclass(frozen=True, slots=True)
class RemoveOutgoing:
    """Delete the session's keys from `sync_out`; not answered."""

    session: int


@dataclass(frozen=True, slots=True)
class AskLook:
    """Ask the destination what it has staged; answered by `Looked` or `PeerFailed`."""

    session: int
    made: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Sign a statement and send it; answered by `Decided`, by `Looked` if packets are missing, or `PeerFailed`."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class AskDiscard:
    """Ask the destination to end the session without a commit; answered by `Decided` or `PeerFailed`."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Tell how far it is: packets made and staged, and blocks behind of all that there are."""

    made: int
    staged: int
    walked: int
    total: int


class Result(Enum):
    """How a session ends."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The session is over; ``full``: it was ended early because it held as many packets as one may.

    ``again``: another attempt may go better. ``absent``: flows of the plan that the source does not know.
    """

    result: Result
    session: int
    packets: int
    resent: int
    reason: str = ""
    again: bool = False
    conflicts: int = 0
    full: bool = False
    absent: tuple[int, ...] = ()
    staged_at: float = 0.0
    decided_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish:
    """Hand over the outcome; nothing comes after it."""

    outcome: Outcome


# ---- at the destination ----


@dataclass(frozen=True, slots=True)
class InstallIncoming:
    """Write mark (open) and keys of the session; answered by `EntriesWritten` or `EntriesRefused`."""

    session: int


@dataclass(frozen=True, slots=True)
class SetMark:
    """Change the mark of the session; answered by `EntriesWritten` or `EntriesRefused`."""

    session: int
    mark: Mark


@dataclass(frozen=True, slots=True)
class RemoveIncoming:
    """Delete keys and mark of the session; not answered."""

    session: int


@dataclass(frozen=True, slots=True)
class AnswerOpened:
    """Tell the source that the session is open."""

    session: int


@dataclass(frozen=True, slots=True)
class AnswerDeclined:
    """Tell the source that the session is not opened."""

    session: int
    reason: str
    busy: bool


@dataclass(frozen=True, slots=True)
class AnswerLooked:
    """Tell the source what is staged; ``gaps`` are (first, length) below ``highest``."""

    session: int
    count: int
    links: int
    conflicts: int
    highest: int
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class AnswerDecided:
    """Tell the source, signed, what became of the session; ``again``: another attempt may go better."""

    session: int
    committed: bool
    reason: str
    again: bool = False
