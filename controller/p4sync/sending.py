# SPDX-License-Identifier: Apache-2.0
"""Runs the source's machine: its outputs become entries, tokens and messages to the destination's agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar

from controller.p4sync import agreement, entries, inputs, links, outputs
from controller.p4sync.entries import SessionKeys
from controller.p4sync.errors import P4SyncError, PeerError, SwitchError, WriteError
from controller.p4sync.half import Half
from controller.p4sync.journal import Journal
from controller.p4sync.keys import PrivateKey, PublicKey
from controller.p4sync.outputs import Outcome, Progress
from controller.p4sync.peer_link import PeerLink
from controller.p4sync.plan import Plan
from controller.p4sync.protocol import SYNC_OUT, Report
from controller.p4sync.settings import SUITES, AgentSettings, Peer
from controller.p4sync.source import Source
from controller.p4sync.switch import AgentSwitch

log = logging.getLogger(__name__)


class Sending(Half):
    """One session at its source; `outcome` is a future."""

    def __init__(
        self,
        settings: AgentSettings,
        key: PrivateKey,
        peer_key: PublicKey,
        peer_name: str,
        link: PeerLink,
        switch: AgentSwitch,
        journal: Journal,
        plan: Plan,
        labels: dict[str, Any],
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Prepare a session to a peer; ``labels`` go into the journal beside it."""
        super().__init__(settings, switch, journal)
        self._key, self._peer_key = key, peer_key
        self._peer: Peer = settings.peers[peer_name]
        self._peer_name = peer_name
        self._labels, self._progress = labels, progress
        self._suite = SUITES[settings.suite]
        self.machine = Source(plan, settings.id, self._peer.id, settings.pace)
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._link = link
        link.attach(self._take, self._failed)
        self._offer: links.Frame | None = None
        self._first_number = 0
        self._is_heard = True
        self._half: Any = None
        self._keys: SessionKeys | None = None
        self._conflicts: asyncio.Future[list[int]] | None = None

    # ---- in ----

    async def run(self) -> Outcome:
        """Go through the session."""
        self._do(self.machine.start(monotonic()))
        return await self._end()

    async def resume(self, session: int, nonce: int, submitted: bool) -> Outcome:
        """Bring a session to its end that an earlier agent has left."""
        self._do(self.machine.resume(session, nonce, submitted, monotonic()))
        return await self._end()

    async def _end(self) -> Outcome:
        try:
            return await self.outcome
        finally:
            self.close()

    def tell(self, event: Any) -> None:
        """Tell the machine what happened, and do what it asks for."""
        if not self.outcome.done():
            self._do(self.machine.handle(event, monotonic()))

    def report(self, report: Report) -> None:
        """Tell it what its switch has answered."""
        if report.session in (self.machine.session, 0) or report.kind <= 8:
            self.tell(inputs.Reported(report))

    def close(self) -> None:
        """Let go of timer and link; what was moved stays in the switch's outbox."""
        self._timer.cancel()
        self._link.detach()

    # ---- out ----

    def _remember(self, output: outputs.Remember) -> None:
        extra = self._labels if output.record["what"] == "opened" else {}
        self._journal.write({**output.record, **extra, "side": "out"})

    def _tell_progress(self, output: Progress) -> None:
        self._progress(output)

    def _finish(self, output: outputs.Finish) -> None:
        self._timer.cancel()
        if not self.outcome.done():
            self.outcome.set_result(output.outcome)

    def _install(self, output: outputs.InstallOutgoing) -> None:
        self._spawn(self._put(output))

    async def _put(self, output: outputs.InstallOutgoing) -> None:
        assert self._keys is not None
        ids = (self._settings.id, self._peer.id)
        try:
            await self._switch.put(entries.sync_out(output.session, self._keys, self._suite, *ids, self._peer.port))
        except SwitchError as error:
            self.tell(inputs.EntriesRefused(output, str(error), isinstance(error, WriteError)))
        else:
            self.tell(inputs.EntriesWritten(output))

    def _remove(self, output: outputs.RemoveOutgoing) -> None:
        self._spawn(self._switch.take_away(entries.TableEntry(SYNC_OUT, {"session": output.session})))

    # ---- the destination's agent ----

    def _send_offer(self, _output: outputs.SendOffer) -> None:
        if self._offer is None:
            self._half, public = agreement.new_half()
            body = {
                "number": self._journal.memory.number + 1,
                "source": self._settings.id,
                "destination": self._peer.id,
                "suite": self._settings.suite,
                "half": public,
            }
            self._offer = links.signed(self._key, "offer", body)
            self._first_number = int(body["number"])
        elif not self._is_heard:
            self._link.close()  # it may be dead without either end knowing
        self._is_heard = False
        self._link.send(self._offer)

    def _ask_look(self, output: outputs.AskLook) -> None:
        self._link.send({"kind": "look", "session": output.session, "made": output.made})

    def _submit(self, output: outputs.Submit) -> None:
        self._link.send(links.signed(self._key, "submit", output.statement.record()))

    def _ask_discard(self, output: outputs.AskDiscard) -> None:
        body = {"session": output.session, "reason": output.reason, "source": self._settings.id}
        self._link.send(links.signed(self._key, "discard", {**body, "destination": self._peer.id}))

    def _failed(self, reason: str) -> None:
        if self._conflicts is not None and not self._conflicts.done():
            self._conflicts.set_exception(PeerError(reason))
        self.tell(inputs.PeerFailed(reason))

    def _take(self, frame: links.Frame) -> None:
        self._is_heard = True
        handler = self._ANSWERS.get(frame["kind"])
        if handler is None:
            raise PeerError(f"{self._peer_name}: an answer of kind {frame['kind']!r}")
        handler(self, frame)

    def _is_ours(self, frame: links.Frame) -> bool:
        return frame.get("session") == self.machine.session

    def _accepted(self, frame: links.Frame) -> None:
        body = links.opened(self._peer_key, frame)
        if self._keys is not None or self._offer is None:
            return
        if body.get("offer") != self._offer["signature"]:
            log.debug("%s: accepts an older offer", self._peer_name)
            return
        session = links.number(body, "session", (1 << 32) - 1)
        if self._journal.take_number(session) != session:
            self._offer = None  # a number was spent in between: offer again
            self.tell(inputs.Declined("session numbers crossed", busy=True))
            return
        self._keys = agreement.agree(
            self._half, str(body.get("half")), self._offer["body"].encode(), frame["body"].encode()
        )
        self._half = None
        self.tell(inputs.Accepted(session, self._keys.nonce))

    def _opened(self, frame: links.Frame) -> None:
        if self._is_ours(frame):
            self.tell(inputs.Opened())

    def _declined(self, frame: links.Frame) -> None:
        if self._keys is not None and not self._is_ours(frame):
            return
        is_older = 0 < links.number(frame, "session", (1 << 32) - 1) < self._first_number
        if is_older or (self._offer is not None and frame.get("offer", "") not in ("", self._offer["signature"])):
            return
        busy = frame.get("busy") is True
        self.tell(inputs.Declined(f"{self._peer_name}: {frame.get('reason')}", busy))

    def _looked(self, frame: links.Frame) -> None:
        if not self._is_ours(frame):
            return
        names = ("count", "links", "conflicts", "highest")
        try:
            gaps = tuple((int(first), int(length)) for first, length in frame["gaps"])
        except (KeyError, TypeError, ValueError) as error:
            raise PeerError(f"{self._peer_name}: gaps that are none") from error
        self.tell(inputs.Looked(**{name: links.number(frame, name) for name in names}, gaps=gaps))

    def _decided(self, frame: links.Frame) -> None:
        body = links.opened(self._peer_key, frame)
        ids = (body.get("source"), body.get("destination"), body.get("session"))
        if ids != (self._settings.id, self._peer.id, self.machine.session):
            return
        committed = body.get("committed") is True
        if committed and body.get("nonce") != self.machine.nonce:
            raise PeerError(f"{self._peer_name}: says that another session of this number is committed")
        reason = f"{self._peer_name}: {body.get('reason')}" if body.get("reason") else ""
        self.tell(inputs.Decided(committed, reason, body.get("again") is True))

    # ---- conflicts ----

    async def ask_conflicts(self, keys: list[int]) -> list[int]:
        """Return which of these flows would meet other flows' entries at the destination; raises P4SyncError."""
        self._conflicts = asyncio.get_running_loop().create_future()
        self._link.send({"kind": "conflicts", "keys": keys})
        try:
            async with asyncio.timeout(30):
                return await self._conflicts
        except TimeoutError as error:
            raise PeerError(f"the agent of {self._peer_name} does not say which flows collide") from error
        finally:
            self.close()

    def _conflicting(self, frame: links.Frame) -> None:
        if self._conflicts is not None and not self._conflicts.done():
            keys = frame.get("keys")
            if frame.get("error") or not isinstance(keys, list):
                self._conflicts.set_exception(P4SyncError(f"{self._peer_name}: {frame.get('error')}"))
            else:
                self._conflicts.set_result([key for key in keys if isinstance(key, int)])

    ACTIONS: ClassVar[dict[type, Any]] = {
        outputs.SendToken: Half._send_token,
        outputs.WakeAt: Half._wake_at,
        outputs.Remember: _remember,
        outputs.Progress: _tell_progress,
        outputs.Finish: _finish,
        outputs.InstallOutgoing: _install,
        outputs.RemoveOutgoing: _remove,
        outputs.SendOffer: _send_offer,
        outputs.AskLook: _ask_look,
        outputs.Submit: _submit,
        outputs.AskDiscard: _ask_discard,
    }
    _ANSWERS: ClassVar[dict[str, Any]] = {
        "accept": _accepted,
        "opened": _opened,
        "declined": _declined,
        "looked": _looked,
        "decided": _decided,
        "conflicts": _conflicting,
    }
