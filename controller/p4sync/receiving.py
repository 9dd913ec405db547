# SPDX-License-Identifier: Apache-2.0
"""Runs the destination's machine: hears the sources' agents, checks who they are, does what the machine asks for."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from time import monotonic
from typing import Any, ClassVar

from controller.p4sync import agreement, entries, inputs, links, outputs
from controller.p4sync.destination import Destination, State
from controller.p4sync.entries import SessionKeys
from controller.p4sync.errors import P4SyncError, PeerError, SwitchError, WriteError
from controller.p4sync.half import Half
from controller.p4sync.journal import Journal
from controller.p4sync.keys import PrivateKey, PublicKey
from controller.p4sync.protocol import STAGING_MARK, SYNC_IN, Mark, Report, Suite
from controller.p4sync.settings import SUITES, AgentSettings, Peer
from controller.p4sync.statement import statement_of
from controller.p4sync.switch import AgentSwitch

MOST_KEYS = 65_536
HELLO_TIME = 5.0
"""Seconds in which a source's agent has to say who it is."""

log = logging.getLogger(__name__)


class Receiving(Half):
    """All sessions that end at this agent's switch."""

    def __init__(
        self,
        settings: AgentSettings,
        key: PrivateKey,
        peer_keys: dict[str, PublicKey],
        switch: AgentSwitch,
        journal: Journal,
    ) -> None:
        """Begin without a session, with the decisions that the journal remembers."""
        super().__init__(settings, switch, journal)
        self._key, self._peer_keys = key, peer_keys
        self.machine = Destination(settings.id, settings.pace)
        self.is_idle = asyncio.Event()
        """No session ends here now."""
        self.is_idle.set()
        self._links: dict[int, links.Link] = {}
        self._nonces: dict[int, tuple[int, int]] = {}
        for session, past in journal.memory.decisions.items():
            self.machine.decisions[session] = (past.committed, past.reason, True)
            self._nonces[session] = (past.nonce, past.peer)
        self._keys: SessionKeys | None = None
        self._suite, self._port = Suite.NONE, 0
        self._offer = ""
        self._acceptance: links.Frame | None = None

    # ---- in ----

    def tell(self, event: Any) -> None:
        """Tell the machine what happened, and do what it asks for."""
        self._do(self.machine.handle(event, monotonic()))

    def report(self, report: Report) -> None:
        """Tell it what its switch has answered."""
        self.tell(inputs.Reported(report))

    def restore(self, session: int, nonce: int, source: int, mark: Mark) -> None:
        """Go on with a session that an earlier agent has left in the switch."""
        peer = self._peer(source)
        self._port = peer.port if peer else 0
        self._nonces[session] = (nonce, source)
        self._do(self.machine.restore(session, nonce, source, mark, monotonic()))

    def _peer(self, number: int) -> Peer | None:
        return next((peer for peer in self._settings.peers.values() if peer.id == number), None)

    # ---- the sources' agents ----

    async def serve(self, link: links.Link) -> None:
        """Hear one connection until it ends; whoever breaks the rules is cut off."""
        name = "a stranger"
        try:
            challenge = secrets.token_hex(16)
            link.send({"kind": "challenge", "value": challenge})
            async with asyncio.timeout(HELLO_TIME):
                name = await self._greet(link, challenge)
            self._links[self._settings.peers[name].id] = link
            while (frame := await link.receive()) is not None:
                await self._take(link, name, frame)
        except TimeoutError:
            log.warning("cut off %s: it did not say who it is", name)
        except PeerError as error:
            log.warning("cut off %s: %s", name, error)
            link.send({"kind": "declined", "session": 0, "reason": str(error), "busy": False})

    async def _greet(self, link: links.Link, challenge: str) -> str:
        """Return which peer has connected; raises PeerError."""
        frame = await link.receive()
        if frame is None or frame["kind"] != "hello":
            raise PeerError("no hello")
        for name, peer in self._settings.peers.items():
            try:
                claimed = json.loads(frame["body"])["source"] == peer.id
            except (ValueError, KeyError, TypeError) as error:
                raise PeerError("no hello") from error
            if claimed:
                body = links.opened(self._peer_keys[name], frame)
                if body.get("challenge") != challenge:
                    raise PeerError(f"{name}: an old hello")
                return name
        raise PeerError("no peer of ours has this switch id")

    async def _take(self, link: links.Link, name: str, frame: links.Frame) -> None:
        kind, peer = frame["kind"], self._settings.peers[name]
        if kind == "look":
            session, made = links.number(frame, "session", (1 << 32) - 1), links.number(frame, "made", 8_192)
            self._own(session, peer)
            self.tell(inputs.LookAsked(session, made))
        elif kind == "conflicts":
            link.send(await self._conflicts(frame))
        elif kind in ("offer", "submit", "discard"):
            body = links.opened(self._peer_keys[name], frame)
            if (body.get("source"), body.get("destination")) != (peer.id, self._settings.id):
                raise PeerError(f"a {kind} of other switches")
            if kind == "offer":
                self._offered(link, name, frame, body)
            elif kind == "submit":
                try:
                    statement = statement_of(body)
                except ValueError as error:
                    raise PeerError(str(error)) from error
                self._own(statement.session, peer)
                self.tell(inputs.Submitted(statement))
            else:
                session = links.number(body, "session", (1 << 32) - 1)
                self._own(session, peer)
                self.tell(inputs.DiscardAsked(session, str(body.get("reason"))[:200]))
        else:
            raise PeerError(f"a message of kind {kind!r}")

    def _own(self, session: int, peer: Peer) -> None:
        """Raise PeerError where a peer speaks of another peer's session."""
        _, owner = self._nonces.get(session, (0, peer.id))
        if owner != peer.id:
            raise PeerError(f"session {session} is not its own")
        self._nonces.setdefault(session, (0, peer.id))
        while len(self._nonces) > MOST_KEYS:
            del self._nonces[next(iter(self._nonces))]

    async def _conflicts(self, frame: links.Frame) -> links.Frame:
        keys = frame.get("keys")
        if not isinstance(keys, list) or len(keys) > MOST_KEYS:
            raise PeerError("conflicts of what is no list of flows")
        if not all(type(key) is int and 0 < key < 1 << 64 for key in keys):
            raise PeerError("flows are numbers of 64 bits")
        try:
            return {"kind": "conflicts", "keys": await self._switch.strangers(keys)}
        except P4SyncError as error:
            return {"kind": "conflicts", "keys": [], "error": str(error)}

    def _offered(self, link: links.Link, name: str, frame: links.Frame, body: dict[str, Any]) -> None:
        peer, answers = self._settings.peers[name], {"offer": frame["signature"]}
        if body.get("suite") != self._settings.suite:
            reason = f"suite {body.get('suite')!r} is not the one used here ({self._settings.suite!r})"
            link.send({"kind": "declined", "session": 0, "reason": reason, "busy": False, **answers})
            return
        if frame["signature"] == self._offer and self._acceptance is not None:
            link.send(self._acceptance)  # asked again: the same answer, or the news since
            if self.machine.state is not State.IDLE:
                session = json.loads(self._acceptance["body"])["session"]
                self.tell(inputs.Offered(session, self._nonces[session][0], peer.id, self._suite, peer.port))
            return
        if self.machine.state is not State.IDLE or not self._switch.is_ready:
            proposed = links.number(body, "number", (1 << 32) - 1)
            if self.machine.state is State.OPEN and self.machine.source == peer.id:
                self.tell(inputs.Offered(max(proposed, self.machine.session + 1), 0, peer.id, self._suite, peer.port))
            else:
                session = self.machine.session
                reason = f"session {session} is under way there" if session else self._switch.trouble
                link.send({"kind": "declined", "session": 0, "reason": reason, "busy": True, **answers})
            return
        try:
            session = self._journal.take_number(links.number(body, "number", (1 << 32) - 1))
        except OverflowError as error:
            link.send({"kind": "declined", "session": 0, "reason": str(error), "busy": False, **answers})
            return
        half, public = agreement.new_half()
        self._acceptance = links.signed(
            self._key, "accept", {"offer": frame["signature"], "session": session, "half": public}
        )
        self._keys = agreement.agree(
            half, str(body.get("half")), frame["body"].encode(), self._acceptance["body"].encode()
        )
        self._offer, self._suite, self._port = frame["signature"], SUITES[self._settings.suite], peer.port
        self._nonces[session] = (self._keys.nonce, peer.id)
        link.send(self._acceptance)
        self.tell(inputs.Offered(session, self._keys.nonce, peer.id, self._suite, peer.port))

    # ---- out ----

    def _do(self, wanted: list[Any]) -> None:
        super()._do(wanted)
        if self.machine.state is State.IDLE:
            self.is_idle.set()
        else:
            self.is_idle.clear()

    def _remember(self, output: outputs.Remember) -> None:
        self._journal.write({**output.record, "side": "in"})

    def _install(self, output: outputs.InstallIncoming) -> None:
        self._spawn(self._write(output))

    def _mark(self, output: outputs.SetMark) -> None:
        self._spawn(self._write(output))

    async def _write(self, output: outputs.InstallIncoming | outputs.SetMark) -> None:
        try:
            if isinstance(output, outputs.SetMark):
                await self._switch.change(entries.staging_mark(output.session, output.mark))
            else:
                assert self._keys is not None
                keys, suite, port = self._keys, self._suite, self._port
                ids = (self._nonces[output.session][1], self._settings.id)
                await self._switch.put(
                    entries.staging_mark(output.session, Mark.OPEN),
                    entries.sync_in(output.session, keys, suite, *ids, port),
                )
        except SwitchError as error:
            self.tell(inputs.EntriesRefused(output, str(error), isinstance(error, WriteError)))
        else:
            self.tell(inputs.EntriesWritten(output))

    def _remove(self, output: outputs.RemoveIncoming) -> None:
        self._spawn(self._forget(output.session, self._port))

    async def _forget(self, session: int, port: int) -> None:
        """Delete a session's entries; the mark is the last witness of a decision that is not on the disk yet."""
        await asyncio.to_thread(self._journal.flush)
        await self._switch.take_away(
            entries.TableEntry(SYNC_IN, {"port": port, "session": session}),
            entries.TableEntry(STAGING_MARK, {"session": session}),
        )

    def _send(self, session: int, frame: links.Frame) -> None:
        _, source = self._nonces.get(session, (0, 0))
        link = self._links.get(source)
        if link is not None:
            link.send(frame)

    def _answer_opened(self, output: outputs.AnswerOpened) -> None:
        self._send(output.session, {"kind": "opened", "session": output.session})

    def _answer_declined(self, output: outputs.AnswerDeclined) -> None:
        frame = {"kind": "declined", "session": output.session, "reason": output.reason, "busy": output.busy}
        self._send(output.session, frame)

    def _answer_looked(self, output: outputs.AnswerLooked) -> None:
        self._send(
            output.session,
            {
                "kind": "looked",
                "session": output.session,
                "count": output.count,
                "links": output.links,
                "conflicts": output.conflicts,
                "highest": output.highest,
                "gaps": [list(gap) for gap in output.gaps],
            },
        )

    def _answer_decided(self, output: outputs.AnswerDecided) -> None:
        nonce, source = self._nonces.get(output.session, (0, 0))
        body = {
            "session": output.session,
            "nonce": nonce,
            "source": source,
            "destination": self._settings.id,
            "committed": output.committed,
            "reason": output.reason,
            "again": output.again,
        }
        self._send(output.session, links.signed(self._key, "decided", body))

    ACTIONS: ClassVar[dict[type, Any]] = {
        outputs.SendToken: Half._send_token,
        outputs.WakeAt: Half._wake_at,
        outputs.Remember: _remember,
        outputs.InstallIncoming: _install,
        outputs.SetMark: _mark,
        outputs.RemoveIncoming: _remove,
        outputs.AnswerOpened: _answer_opened,
        outputs.AnswerDeclined: _answer_declined,
        outputs.AnswerLooked: _answer_looked,
        outputs.AnswerDecided: _answer_decided,
    }
