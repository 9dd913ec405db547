# SPDX-License-Identifier: Apache-2.0
"""What a controller can ask an agent over its private socket, request by request."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

from controller.p4sync import entries, links, plan, protocol
from controller.p4sync.errors import ControlError, P4SyncError, PeerError
from controller.p4sync.jobs import Job, Jobs
from controller.p4sync.protocol import Answer, Report, Token, Verdict
from controller.p4sync.receiving import Receiving
from controller.p4sync.settings import AgentSettings
from controller.p4sync.switch import AgentSwitch

MARKER_TIME = 5.0

log = logging.getLogger(__name__)


class Requests:
    """Serves controllers; `is_ready` is set once the agent has taken over what an earlier one has left."""

    def __init__(
        self, settings: AgentSettings, switch: AgentSwitch, jobs: Jobs, receiving: Receiving, is_ready: asyncio.Event
    ) -> None:
        """Prepare."""
        self.settings, self.switch, self.jobs, self.receiving = settings, switch, jobs, receiving
        self._is_ready = is_ready
        self._markers: dict[int, asyncio.Future[Report]] = {}
        self._again: dict[int, asyncio.Task[None]] = {}

    def marker_seen(self, report: Report) -> None:
        """Tell who waits for this marker."""
        waiting = self._markers.get(report.detail)
        if waiting is not None and not waiting.done():
            waiting.set_result(report)

    async def serve(self, link: links.Link) -> None:
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
        key = links.number(frame, "key")
        await self._set_verdict(key, verdict)
        if not self.receiving.is_idle.is_set():
            task = asyncio.get_running_loop().create_task(self._set_again(key, verdict))
            self._again[key] = task
            task.add_done_callback(lambda done: self._again.pop(key) if self._again.get(key) is done else None)
        return {}

    async def _set_verdict(self, key: int, verdict: Verdict) -> None:
        report = await self.switch.ask(Token.VERDICT, key, verdict)
        if report.state != Answer.OK:
            raise ControlError(f"{self.settings.name}: the flow's entry belongs to another flow")

    async def _set_again(self, key: int, verdict: Verdict) -> None:
        """The commit of the session that is open here brings the source's verdict, which is an older one."""
        await self.receiving.is_idle.wait()
        if self._again.get(key) is asyncio.current_task():  # no newer one has been set meanwhile
            try:
                await self._set_verdict(key, verdict)
            except P4SyncError as error:
                log.warning("%s: a verdict may have been replaced by an older one: %s", self.settings.name, error)

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
