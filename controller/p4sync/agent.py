# SPDX-License-Identifier: Apache-2.0
"""An agent: one process beside one switch, source of some sessions and destination of others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from controller.p4sync import entries, inputs, keys, links, protocol
from controller.p4sync.errors import P4SyncError, SettingsError
from controller.p4sync.jobs import Jobs
from controller.p4sync.journal import Journal
from controller.p4sync.protocol import Mark, Report, Token
from controller.p4sync.receiving import Receiving
from controller.p4sync.requests import Requests
from controller.p4sync.settings import AgentSettings
from controller.p4sync.switch import AgentSwitch

RECOVERY_TIME = 1.0

log = logging.getLogger(__name__)


class Agent:
    """Everything of one agent, put together."""

    def __init__(self, settings: AgentSettings) -> None:
        """Read keys and journal; raises SettingsError."""
        self.settings = settings
        self._key = keys.load_private(settings.key)
        self._peer_keys = {name: keys.load_public(peer.key) for name, peer in settings.peers.items()}
        for name, key in self._peer_keys.items():
            if keys.same(self._key, key):
                raise SettingsError(f"peers.{name}.key is this agent's own public key; give that of {name}'s agent")
        self._journal = Journal(settings.journal or settings.control.with_suffix(".journal"))
        self.switch = AgentSwitch(settings)
        self.jobs = Jobs(settings, self._key, self._peer_keys, self.switch, self._journal)
        self.receiving = Receiving(settings, self._key, self._peer_keys, self.switch, self._journal)
        self.switch.on_found, self.switch.on_lost, self.switch.on_report = self._found, self._lost, self._reported
        self.switch.open_sessions = self._open_sessions
        self._first = True
        self._is_ready = asyncio.Event()
        self._requests = Requests(settings, self.switch, self.jobs, self.receiving, self._is_ready)
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- the switch ----

    def _open_sessions(self) -> set[int]:
        own = {self.receiving.machine.session} if self.receiving.machine.is_in_switch else set()
        if self._first:
            return set()
        return own | self.jobs.open_sessions

    def _found(self, same: bool) -> None:
        if self._first:
            self._first = False
            self._task(self._begin(same))
        else:
            self.receiving.tell(inputs.SwitchFound(same))
            self.jobs.tell(inputs.SwitchFound(same))

    def _lost(self, reason: str) -> None:
        self.receiving.tell(inputs.SwitchLost(reason))
        self.jobs.tell(inputs.SwitchLost(reason))

    def _reported(self, report: Report) -> None:
        if report.kind in (Token.OPEN_IN, Token.REPORT_IN, Token.SWEEP):
            self.receiving.report(report)
        elif report.kind == Token.MARKER:
            self._requests.marker_seen(report)
        else:
            self.jobs.report(report)

    async def _begin(self, same: bool) -> None:
        """Take over what an earlier agent has left in the switch, then begin to work."""
        while True:
            try:
                if same:
                    await self._take_over()
                break
            except P4SyncError as error:
                log.error("%s: %s", self.settings.name, error)
                await asyncio.sleep(RECOVERY_TIME)
        if not same:
            for session in list(self._journal.memory.incoming):
                reason = "the destination's switch was restarted"
                if session not in self._journal.memory.decisions:
                    self._journal.write({"what": "discarded", "side": "in", "session": session, "reason": reason})
                    self.receiving.machine.decisions[session] = (False, reason, True)
                self._journal.write({"what": "closed", "side": "in", "session": session})
            for session, record in list(self._journal.memory.outgoing.items()):
                reason = "the source's switch was restarted: what it held and had not shipped is lost"
                log.error("session %d: %s", session, reason)
                self._journal.write({"what": "closed", "side": "out", "session": session, "result": "lost"})
                self.jobs.lose(str(record.get("job", "")), session, reason)
        self._task(self.jobs.run())
        self._is_ready.set()

    async def _take_over(self) -> None:
        """Find the session that ends here in the switch, if one does, and remove entries of sessions that are over."""
        marks = await self.switch.sessions(protocol.STAGING_MARK)
        hears = await self.switch.sessions(protocol.SYNC_IN)
        sends = await self.switch.sessions(protocol.SYNC_OUT)
        opening = self._journal.memory.incoming
        for session, entry in sends.items():
            self._adopt_outgoing(session, entry)
        for session in [number for number, entry in marks.items() if entry.parameters.get("mark") == Mark.COMMITTED]:
            self._adopt_incoming(session, hears.get(session))
        for session in sorted(opening)[:-1]:  # a switch opens a session only when the one before is over
            self._journal.write({"what": "closed", "side": "in", "session": session})
        unwanted = [entry for session, entry in hears.items() if session not in opening]
        unwanted += [entry for session, entry in marks.items() if session not in opening]
        for session, record in list(opening.items()):
            mark = marks[session].parameters.get("mark", Mark.NONE) if session in marks else Mark.NONE
            decided = self._journal.memory.decisions.get(session)
            if decided is not None:
                mark = Mark.COMMITTED if decided.committed else Mark.DISCARDED
            log.warning("session %d from switch %s was left %s", session, record["peer"], Mark(mark).name)
            self.receiving.restore(session, int(record["nonce"]), int(record["peer"]), Mark(mark))
        if unwanted:
            await self.switch.take_away(*unwanted)

    def _adopt_outgoing(self, session: int, entry: entries.TableEntry) -> None:
        """Take a session that the switch sends and no journal knows for one that may have been submitted."""
        if session not in self._journal.memory.outgoing:
            facts = {"session": session, "nonce": entry.parameters["nonce"], "peer": entry.parameters["destination"]}
            self._journal.write({"what": "opened", **facts, "side": "out"})
            self._journal.write({"what": "submitted", "session": session, "side": "out"})
            self._journal.take_number(session)

    def _adopt_incoming(self, session: int, entry: entries.TableEntry | None) -> None:
        """Take a session that the switch has as committed and no journal knows: it may have to be swept."""
        if session not in self._journal.memory.incoming:
            values = entry.parameters if entry else {}
            facts = {"session": session, "nonce": values.get("nonce", 0), "peer": values.get("source", 0)}
            self._journal.write({"what": "opening", **facts, "side": "in"})
            self._journal.take_number(session)

    # ---- running ----

    def _task(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a defect", exc_info=task.exception())
            if not self._defect.done():
                self._defect.set_result(task.exception())

    async def run(self) -> None:
        """Serve until cancelled; raises SettingsError where it cannot listen."""
        self._defect: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        peers = await links.listen(self.settings.listen, self.receiving.serve)
        control = await links.listen(f"unix:{self.settings.control}", self._requests.serve)
        try:
            self._task(self.switch.client.run())
            raise await self._defect
        finally:
            for server in (peers, control):
                server.close()
            for task in list(self._tasks):
                task.cancel()
            for task in list(self._tasks):
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
            for address in (self.settings.listen, f"unix:{self.settings.control}"):
                if address.startswith("unix:"):
                    links.remove(address)
            await self.close()

    async def close(self) -> None:
        """Let go of the journal, the peers and the switch."""
        self.jobs.close()
        self._journal.close()
        await self.switch.client.close()
