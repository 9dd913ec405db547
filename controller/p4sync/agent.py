# SPDX-License-Identifier: Apache-2.0
"""An agent: one process beside one switch, source of some sessions and destination of others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, ClassVar

from controller.p4sync import entries, inputs, keys, links, plan, protocol
from controller.p4sync.errors import ControlError, P4SyncError, PeerError, SettingsError
from controller.p4sync.jobs import Job, Jobs
from controller.p4sync.journal import Journal
from controller.p4sync.protocol import Answer, Mark, Report, Token, Verdict
from controller.p4sync.receiving import Receiving
from controller.p4sync.settings import AgentSettings
from controller.p4sync.switch import AgentSwitch

RECOVERY_TIME = 1.0
MARKER_TIME = 5.0

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
        self._markers: dict[int, asyncio.Future[Report]] = {}
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
            waiting = self._markers.get(report.detail)
            if waiting is not None and not waiting.done():
                waiting.set_result(report)
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
        control = await links.listen(f"unix:{self.settings.control}", self._serve)
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
        """Let go of the journal and the switch."""
        self._journal.close()
        await self.switch.client.close()

    # ---- control ----

    async def _serve(self, link: links.Link) -> None:
        """Answer one controller; a job that it began and does not detach is given up when it leaves."""
        begun: list[Job] = []
        try:
            while (frame := await link.receive()) is not None:
                try:
                    await self._control(link, frame, begun)
                except (P4SyncError, PeerError) as error:
                    link.send({"kind": "error", "error": str(error)})
        except PeerError as error:
            link.send({"kind": "error", "error": str(error)})
        finally:
            self.jobs.watchers.discard(link.send)
            for job in begun:
                self.jobs.cancel(job, "whoever asked for it has left")

    async def _control(self, link: links.Link, frame: links.Frame, begun: list[Job]) -> None:
        handler = self._CONTROL.get(frame["kind"])
        if handler is None:
            raise ControlError(f"no request is called {frame['kind']!r}: {', '.join(sorted(self._CONTROL))}")
        answer = await handler(self, link, frame, begun)
        if answer is not None:
            link.send({"kind": "answer", **answer})

    async def _ship(self, link: links.Link, frame: links.Frame, begun: list[Job]) -> dict[str, Any]:
        if not self.switch.is_ready and not frame.get("patient"):
            raise ControlError(f"{self.settings.name}: its switch is not ready: {self.switch.trouble}")
        job = self.jobs.add(str(frame.get("to")), plan.plan_of(frame.get("plan")), link.send)
        if not frame.get("detached"):
            begun.append(job)
        return {"job": job.name}

    async def _cancel(self, _link: links.Link, frame: links.Frame, begun: list[Job]) -> dict[str, Any]:
        for job in begun:
            self.jobs.cancel(job, str(frame.get("reason", "cancelled")))
        return {}

    async def _watch(self, link: links.Link, _frame: links.Frame, _begun: list[Job]) -> dict[str, Any]:
        self.jobs.watchers.add(link.send)
        return {}

    async def _status(self, _link: links.Link, _frame: links.Frame, _begun: list[Job]) -> dict[str, Any]:
        incoming, sending = self.receiving.machine, self.jobs.sending
        return {
            "name": self.settings.name,
            "id": self.settings.id,
            "ready": self.switch.is_ready and self._is_ready.is_set(),
            "switch": self.switch.describe(),
            "peers": sorted(self.settings.peers),
            "suite": self.settings.suite,
            "incoming": {"session": incoming.session, "state": incoming.state.value},
            "outgoing": {
                "session": sending.machine.session if sending else 0,
                "state": sending.machine.state.value if sending else "idle",
            },
            "jobs": self.jobs.waiting + (self.jobs.current is not None),
        }

    async def _flow(self, _link: links.Link, frame: links.Frame, _begun: list[Job]) -> dict[str, Any]:
        record = await self.switch.read_flow(links.number(frame, "key"))
        return {"flow": None if record is None else _flow_json(record)}

    async def _flows(self, _link: links.Link, _frame: links.Frame, _begun: list[Job]) -> dict[str, Any]:
        return {"flows": [_flow_json(record) for record in await self.switch.read_flows()]}

    async def _clients(self, _link: links.Link, _frame: links.Frame, _begun: list[Job]) -> dict[str, Any]:
        values = await self.switch.read_clients()
        return {"clients": {str(index): value for index, value in enumerate(values) if value}}

    async def _events(self, _link: links.Link, _frame: links.Frame, _begun: list[Job]) -> dict[str, Any]:
        return {"events": await self.switch.read_events(), "collisions": self.switch.collisions}

    async def _verdict(self, _link: links.Link, frame: links.Frame, _begun: list[Job]) -> dict[str, Any]:
        try:
            verdict = Verdict(links.number(frame, "verdict"))
        except ValueError as error:
            raise ControlError(f"verdict: {error}; 0 none, 1 forward, 2 drop") from error
        report = await self.switch.ask(Token.VERDICT, links.number(frame, "key"), verdict)
        if report.state != Answer.OK:
            raise ControlError(f"{self.settings.name}: the flow's entry belongs to another flow")
        return {}

    async def _marker(self, link: links.Link, frame: links.Frame, _begun: list[Job]) -> None:
        """Expect a marker: answer with its frame at once, and again when it has been seen."""
        token, session = links.number(frame, "token"), links.number(frame, "session", (1 << 32) - 1)
        entry = entries.marker(session, token)
        waiting: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._markers[token] = waiting
        try:
            await self.switch.put(entry)
            link.send({"kind": "answer", "frame": protocol.marker_frame(session, token).hex()})
            async with asyncio.timeout(float(frame.get("timeout", MARKER_TIME))):
                report = await waiting
            link.send({"kind": "marked", "token": token, "port": report.round})
        except TimeoutError as error:
            raise ControlError(f"{self.settings.name}: the marker did not arrive in time") from error
        finally:
            self._markers.pop(token, None)
            await self.switch.take_away(entry)

    _CONTROL: ClassVar[dict[str, Any]] = {
        "ship": _ship,
        "cancel": _cancel,
        "watch": _watch,
        "status": _status,
        "flow": _flow,
        "flows": _flows,
        "clients": _clients,
        "events": _events,
        "verdict": _verdict,
        "marker": _marker,
    }


def _flow_json(record: protocol.FlowRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "name": protocol.describe_key(record.key),
        "entry": protocol.entry_of(record.key),
        "packets": record.packets,
        "bytes": record.bytes,
        "age_seconds": round(record.age * 1.024e-3, 3),
        "verdict": record.verdict,
    }
