# SPDX-License-Identifier: Apache-2.0
"""What is asked of a source's agent, one after the other: plans become sessions, tried again where that may help."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from controller.p4sync import inputs, plan
from controller.p4sync.errors import ControlError, P4SyncError
from controller.p4sync.journal import Journal
from controller.p4sync.keys import PrivateKey, PublicKey
from controller.p4sync.outputs import Outcome, Progress, Result
from controller.p4sync.peer_link import PeerLink
from controller.p4sync.plan import Flows, Plan, Round
from controller.p4sync.protocol import Mode, Report, describe_key
from controller.p4sync.sending import Sending
from controller.p4sync.settings import AgentSettings
from controller.p4sync.switch import AgentSwitch

PAUSE = 0.3
"""Seconds before another attempt."""
QUEUED = 1_024
"""Jobs that may wait."""

log = logging.getLogger(__name__)
Telling = Callable[[dict[str, Any]], None]


@dataclass
class Job:
    """One request: ship a plan to a peer."""

    name: str
    to: str
    plans: list[Plan]
    tell: Telling = lambda frame: None
    at: int = 0
    """How many of the plans are done."""
    cancelled: str = ""
    sessions: list[int] = field(default_factory=list)
    packets: int = 0
    resent: int = 0
    left: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)
    began: float = 0.0
    committed_after: float = 0.0
    """Seconds from the beginning to the last commit that was heard of."""

    def result(self, result: str, reason: str) -> dict[str, Any]:
        """Return what became of it, as JSON."""
        return {
            "kind": "done",
            "job": self.name,
            "to": self.to,
            "result": result,
            "reason": reason,
            "sessions": self.sessions,
            "packets": self.packets,
            "resent": self.resent,
            "left": [describe_key(key) for key in self.left],
            "absent": [describe_key(key) for key in self.absent],
            "committed_seconds": round(self.committed_after, 6),
            "seconds": round(monotonic() - self.began, 6),
        }


class Jobs:
    """Runs jobs in order; `watchers` hear every result."""

    def __init__(
        self,
        settings: AgentSettings,
        key: PrivateKey,
        peer_keys: dict[str, PublicKey],
        switch: AgentSwitch,
        journal: Journal,
    ) -> None:
        """Begin with what the journal has left."""
        self._settings, self._key, self._peer_keys = settings, key, peer_keys
        self._switch, self._journal = switch, journal
        self._links = {name: PeerLink(name, peer.address, settings.id, key) for name, peer in settings.peers.items()}
        self._waiting: deque[Job] = deque()
        self._wake = asyncio.Event()
        self.current: Job | None = None
        self.sending: Sending | None = None
        self.watchers: set[Telling] = set()
        for record in list(journal.memory.jobs.values()):
            try:
                plans = [plan.plan_of(one) for one in record["plans"]]
                job = Job(record["job"], record["to"], plans, at=record["at"])
            except (KeyError, TypeError, ControlError) as error:
                log.error("a job in the journal cannot be read: %s", error)
                continue
            if job.to in settings.peers:
                self._waiting.append(job)

    # ---- in ----

    def add(self, to: str, wanted: Plan, tell: Telling) -> Job:
        """Take a job; raises ControlError where it cannot be done."""
        if to not in self._settings.peers:
            known = ", ".join(sorted(self._settings.peers)) or "none"
            raise ControlError(f"{self._settings.name} has no peer {to!r} (known: {known})")
        if len(self._waiting) >= QUEUED:
            raise ControlError(f"{QUEUED} jobs are waiting already; try later")
        job = Job(secrets.token_hex(6), to, plan.split(wanted), tell)
        self._note(job)
        self._waiting.append(job)
        self._wake.set()
        return job

    def cancel(self, job: Job, reason: str) -> None:
        """Give a job up: nothing of it that is not committed will be."""
        job.cancelled = reason
        if job is self.current and self.sending is not None:
            self.sending.tell(inputs.Cancelled(reason))

    def lose(self, name: str, session: int, reason: str) -> None:
        """End a job of an earlier agent whose session was lost with the switch."""
        job = next((one for one in self._waiting if one.name == name), None)
        if job is None:
            return
        self._waiting.remove(job)
        job.sessions.append(session)
        job.began = monotonic()
        self._journal.write({"what": "job done", "job": name})
        self._announce(job, job.result("lost", reason))

    def report(self, report: Report) -> None:
        """Hand on what the switch says about outgoing sessions."""
        if self.sending is not None:
            self.sending.report(report)

    def tell(self, event: Any) -> None:
        """Hand on what happened to the switch."""
        if self.sending is not None:
            self.sending.tell(event)

    @property
    def waiting(self) -> int:
        """Return how many jobs wait."""
        return len(self._waiting)

    @property
    def open_sessions(self) -> set[int]:
        """Return the numbers of the sessions that the switch should know as a source."""
        machine = self.sending.machine if self.sending else None
        return {machine.session} if machine is not None and machine.is_open else set()

    def close(self) -> None:
        """Let go of the peers."""
        for link in self._links.values():
            link.close()

    # ---- running ----

    async def run(self) -> None:
        """Do one job after the other, until cancelled; first what an earlier agent has left."""
        await self._recover()
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            job = self._waiting.popleft()
            self.current = job
            try:
                done = await self._do(job)
            except P4SyncError as error:
                done = job.result("aborted", str(error))
            finally:
                self.current = None
            self._journal.write({"what": "job done", "job": job.name})
            self._announce(job, done)

    def _announce(self, job: Job, done: dict[str, Any]) -> None:
        log.info(
            "job %s to %s: %s %s", job.name, job.to, done["result"], done["reason"] or f"({done['packets']} packets)"
        )
        job.tell(done)
        for watcher in list(self.watchers):
            watcher(done)

    def _note(self, job: Job) -> None:
        plans = [plan.record_of(one) for one in job.plans]
        self._journal.write({"what": "job", "job": job.name, "to": job.to, "at": job.at, "plans": plans})

    async def _recover(self) -> None:
        """Bring every session to its end that the journal has as open: committed, or given back."""
        names = {peer.id: name for name, peer in self._settings.peers.items()}
        for session, record in list(self._journal.memory.outgoing.items()):
            name = names.get(record["peer"])
            if name is None:
                log.error("session %d went to switch %s, which is no peer any more", session, record["peer"])
                continue
            log.warning("session %d to %s was left open: finding out what became of it", session, name)
            outcome = await self._session(
                name,
                Plan((), bool(record.get("release", False))),
                {},
                partial(Sending.resume, **{key: record[key] for key in ("session", "nonce", "submitted")}),
            )
            log.warning("session %d to %s is %s", session, name, outcome.result.value)
            name = str(record.get("job", ""))
            if outcome.result is Result.LOST:
                self.lose(name, session, outcome.reason)
            for job in self._waiting:
                if job.name == name and outcome.result is Result.COMMITTED:
                    job.at = int(record["at"]) + 1

    async def _do(self, job: Job) -> dict[str, Any]:
        job.began = monotonic()
        attempts = 0
        while job.at < len(job.plans):
            if job.cancelled:
                return job.result("aborted", job.cancelled)
            wanted = job.plans[job.at]
            labels = {"job": job.name, "at": job.at, "release": wanted.release}
            outcome = await self._session(job.to, wanted, labels, Sending.run, partial(self._tell, job))
            if outcome.session:
                job.sessions.append(outcome.session)
            job.packets += outcome.packets
            job.resent += outcome.resent
            if outcome.result is Result.COMMITTED:
                job.committed_after = outcome.decided_at - job.began
                job.absent += outcome.absent
                if outcome.full:
                    rest = [step for step in wanted.steps if isinstance(step, Round) and step.mode is Mode.CHANGED]
                    job.plans[job.at + 1 : job.at + 1] = [Plan(tuple(rest), wanted.release)] if rest else []
                job.at += 1
                attempts = 0
                if job.at < len(job.plans):
                    self._note(job)
                continue
            if outcome.result is Result.LOST:
                return job.result("lost", outcome.reason)
            attempts += 1
            if outcome.conflicts and attempts < self._settings.attempts:
                job.plans[job.at : job.at + 1] = await self._avoid(job, wanted)
                self._note(job)
                if job.at >= len(job.plans):
                    return job.result("aborted", outcome.reason)
                continue
            if job.cancelled or not outcome.again or attempts >= self._settings.attempts:
                return job.result("aborted", job.cancelled or outcome.reason)
            log.warning("job %s: %s; another attempt", job.name, outcome.reason)
            await asyncio.sleep(PAUSE)
        return job.result("committed", "")

    def _tell(self, job: Job, now: Progress) -> None:
        behind = sum(one.blocks for one in job.plans[: job.at])
        job.tell(
            {
                "kind": "progress",
                "job": job.name,
                "made": job.packets + now.made,
                "staged": job.packets + now.staged,
                "walked": behind + now.walked,
                "total": sum(one.blocks for one in job.plans),
            }
        )

    async def _session(
        self,
        to: str,
        wanted: Plan,
        labels: dict[str, Any],
        go: Callable[[Sending], Any],
        progress: Callable[[Progress], None] = lambda now: None,
    ) -> Outcome:
        sending = self._sending(to, wanted, labels, progress)
        self.sending = sending
        try:
            outcome: Outcome = await go(sending)
            return outcome
        finally:
            self.sending = None

    def _sending(
        self, to: str, wanted: Plan, labels: dict[str, Any], progress: Callable[[Progress], None] = lambda now: None
    ) -> Sending:
        peer_key = self._peer_keys[to]
        link, switch, journal = self._links[to], self._switch, self._journal
        return Sending(self._settings, self._key, peer_key, to, link, switch, journal, wanted, labels, progress)

    async def _avoid(self, job: Job, wanted: Plan) -> list[Plan]:
        """Return plans without the flows that would meet other flows' entries at the destination."""
        named = [key for step in wanted.steps if isinstance(step, Flows) for key in step.keys]
        if any(isinstance(step, Round) for step in wanted.steps):
            named = [record.key for record in await self._switch.read_flows()]
        conflicts = await self._sending(job.to, wanted, {}).ask_conflicts(named)
        job.left += [key for key in conflicts if key not in job.left]
        log.warning("job %s: %d flows stay: their entries at %s are taken", job.name, len(conflicts), job.to)
        return plan.split(plan.avoiding(wanted, frozenset(conflicts), named))
