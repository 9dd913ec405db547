# SPDX-License-Identifier: Apache-2.0
"""A migration from its start to its end: which phase meets which input, as a table.

What is done stands in the neighbours: ``target`` (make a connection stand there), ``cut`` (stop, measure, change over),
``rollback`` (undo). Until the final flows stand, any failure leaves the connection where it was, with nothing lost.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from controller.core import ahead, brake, cut, seq, tap, target, watch
from controller.core.commands import ResolveHost
from controller.core.connection import Attempt, Connection, Phase, State
from controller.core.errors import TransitionError
from controller.core.events import MigrationStarted
from controller.core.policy import CutPolicy, Server
from controller.core.rollback import fail, thaw
from controller.core.segment import SYN, Segment
from controller.core.world import World


class Input(Enum):
    """What can happen to a migration under way."""

    LOCATED = "target located"
    SYNACK = "target SYN-ACK"
    SEGMENT = "target segment"
    RESET = "target RST"
    RETRY = "retry"
    DEADLINE = "deadline"
    BRAKED = "braked"
    ASK = "ask again"
    FROZEN = "frozen too long"
    THAW = "undone too slowly"
    CLIENT_HEARD = "client overheard"
    SERVER_HEARD = "server overheard"
    QUIET = "quiet for a while"
    UNQUIET = "never quiet"
    FROM_CLIENT = "client segment"
    FROM_SERVER = "server segment"
    STATE = "state told"
    STATE_LATE = "state late"
    DONE = "flows stand"
    REFUSED = "switch refused"


APART = 0x9E37_79B1
"""How far the numbers of two attempts in a row are from each other: no two of thousands come near (golden ratio)."""
TIMERS = {
    "retry": Input.RETRY,
    "deadline": Input.DEADLINE,
    "braked": Input.BRAKED,
    "ask": Input.ASK,
    "frozen": Input.FROZEN,
    "thaw": Input.THAW,
    "quiet": Input.QUIET,
    "unquiet": Input.UNQUIET,
    ahead.TIMER: Input.STATE_LATE,
}
"""Which input the timer of each kind is."""


def start(world: World, connection: Connection, server: Server, cut_policy: CutPolicy | None = None) -> None:
    """Begin to move a connection to a server."""
    connection.version += 1
    service = connection.service
    connection.attempt = attempt = Attempt(
        target=server,
        version=connection.version,
        phase=Phase.LOCATING,
        cut_policy=cut_policy or service.cut_policy,
        started=world.now,
        deadline=world.now + service.handshake_timeout,
        # The client's own number: as hard to guess for strangers as it was, and a gated client's needs no translation.
        # A served one's is another for each version: late answers to an older attempt are no answers to this one.
        syn_seq=seq.add(connection.client.isn, connection.version * APART if connection.is_open else 0),
    )
    here = connection.path.server.name
    world.publish(MigrationStarted(world.now, connection.key, connection.version, here, server.name))
    world.wake(connection, service.handshake_timeout, "deadline")
    if connection.agreement is None:
        fail(world, connection, "unknown", "nobody has seen its handshake: the controller was away then")
    elif server.endpoint == connection.path.server.endpoint:
        fail(world, connection, "target", "the connection is there already")
    elif connection.origin.finished or (connection.client.finished and connection.state is State.SERVED):
        fail(world, connection, "closing", "one end has closed its half already")
    elif connection.is_open and not connection.agreement.sack:
        # An end that cannot name what it holds behind a hole would join it, after the cut, to what the next one says.
        fail(world, connection, "options", "client and origin have agreed on no SACK, so no cut can be known as exact")
    elif fault := _unfit(connection):
        fail(world, connection, *fault)
    else:
        location = world.locations.find(connection.switch, server.endpoint.address)
        if location is not None:
            target.connect(world, connection, attempt, (location.port, server.mac or location.mac))
        else:
            world.locating.setdefault(server.endpoint.address, []).append(connection.key)
            world.do(ResolveHost(connection.switch, server.endpoint.address, connection.syn.vlan))


def _unfit(connection: Connection) -> tuple[str, str] | None:
    """Return why the client's last request cannot move, where it shall."""
    attempt = connection.attempt
    is_meant = attempt is not None and attempt.cut_policy is CutPolicy.REQUEST and connection.is_open
    return tap.fault(connection) if is_meant else None


def request(world: World, connection: Connection, server: Server, cut_policy: CutPolicy | None = None) -> None:
    """Move a served connection to a server; a newer wish supersedes an older one at once, but for its last step."""
    attempt = connection.attempt
    if attempt is not None and attempt.phase not in (Phase.COMMITTING, Phase.UNDOING):
        fail(world, connection, "superseded", f"by a migration to {server.name}")
    if connection.attempt is None:
        start(world, connection, server, cut_policy)
    else:
        connection.wish = (server, cut_policy or connection.service.cut_policy)


def _follow(world: World, connection: Connection) -> None:
    """Follow a wish that came too late to stop what was under way, or while that was undone."""
    wish, connection.wish = connection.wish, None
    if wish is not None and wish[0] is not connection.path.server and connection.state is State.SERVED:
        start(world, connection, *wish)


def _deadline(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Time is up, unless the final flows are in the switch's hands: until it answers nobody knows which ones stand."""
    if attempt.phase is Phase.COMMITTING and attempt.token:
        return
    detail = {
        Phase.LOCATING: "nobody answered for its address",
        Phase.CONNECTING: "no SYN-ACK",
        Phase.PROBING: "it answers the handshake but never proved to be established (accept queue full?)",
        Phase.WATCHING: "the connection was never quiet",
        Phase.BRAKING: "the switch did not stop the connection in time",
        Phase.STOPPING: "the client did not come to rest in time",
        Phase.MEASURING: "the connection did not come to rest in time",
        Phase.COMMITTING: "the client or the switch did not get there in time",
    }[attempt.phase]
    fail(world, connection, "timeout", detail)


def _frozen(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """A freeze has taken too long, if it is the one that the timer was set for."""
    if world.now - attempt.frozen_at > 0.9 * cut.FREEZE_LIMIT:
        _deadline(world, connection, attempt, event)


def _deadline_of_gate(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """A freeze has a deadline of its own; the one of before a wait for the state is over."""
    patience, since = connection.service.handshake_timeout, attempt.held_until
    if not connection.is_open and (since is None or world.now - since > 0.9 * patience):
        _deadline(world, connection, attempt, event)


def _switch_refused(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The switch would not take a flow."""
    fail(world, connection, "switch", f"the switch refused a flow: {event}")


def _ignore(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Nothing to do: stale or already done."""


def _pass_on(world: World, connection: Connection, attempt: Attempt, event: Any) -> None:
    """A packet that an outdated megaflow gave to the controller: send it through the tables as they are now."""
    world.release(connection, event.port, event.segment.frame or event.segment)


def _misplaced(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """A late packet of the target while the final flows are being put in: send it through them."""
    if event.length and not event.has(SYN):
        world.release(connection, attempt.port, event.frame or event)


Handler = Callable[[World, Connection, Attempt, Any], None]

_ORDER = tuple(Phase)
_ROWS: dict[Input, tuple[Handler, ...]] = {
    # locating, connecting, probing, awaiting, watching, braking, stopping, measuring, committing, undoing
    Input.LOCATED: (target.connect, *(_ignore,) * 9),
    Input.SYNACK: (_ignore, target.synack, target.prove, *(_ignore,) * 7),
    Input.SEGMENT: (_ignore, target.clear, target.prove, *(target.speak,) * 5, _misplaced, _ignore),
    Input.RESET: (_ignore, *(target.reset,) * 8, _ignore),
    Input.RETRY: (_ignore, target.retry, target.retry, *(_ignore,) * 7),
    Input.DEADLINE: (_deadline, _deadline, _deadline, *(_ignore,) * 5, _deadline_of_gate, _ignore),
    Input.STATE: (ahead.note, ahead.note, ahead.note, ahead.told, *(_ignore,) * 6),
    Input.STATE_LATE: (*(_ignore,) * 3, ahead.late, *(_ignore,) * 6),
    Input.BRAKED: (*(_ignore,) * 5, brake.stop, cut.measure, _ignore, _ignore, _ignore),
    Input.ASK: (*(_ignore,) * 6, cut.ask, cut.ask, _ignore, cut.ask),
    Input.FROZEN: (*(_ignore,) * 5, *(_frozen,) * 4, _ignore),
    Input.THAW: (*(_ignore,) * 9, thaw),
    Input.FROM_CLIENT: (*(_pass_on,) * 7, cut.from_client, cut.hold, cut.from_client),
    Input.FROM_SERVER: (*(_pass_on,) * 7, cut.from_server, _ignore, cut.from_server),
    Input.DONE: (*(_ignore,) * 4, watch.watching, _ignore, cut.stands, cut.stands, cut.commit, cut.measuring),
    Input.REFUSED: (*(_switch_refused,) * 9, thaw),
    Input.CLIENT_HEARD: (
        *(_ignore,) * 4,
        watch.client_heard,
        _ignore,
        brake.client_heard,
        watch.client_stirs,
        *(_ignore,) * 2,
    ),
    Input.SERVER_HEARD: (*(_ignore,) * 4, watch.server_heard, *(_ignore,) * 5),
    Input.QUIET: (*(_ignore,) * 4, watch.quiet, *(_ignore,) * 5),
    Input.UNQUIET: (*(_ignore,) * 4, _deadline, *(_ignore,) * 5),
}
TABLE: dict[tuple[Phase, Input], Handler] = {
    (phase, row): handler for row, handlers in _ROWS.items() for phase, handler in zip(_ORDER, handlers, strict=True)
}


_FREEZE = (Phase.BRAKING, Phase.STOPPING, Phase.MEASURING, Phase.COMMITTING)
MOVES: dict[tuple[Phase, Input], tuple[Phase | None, ...]] = {
    (Phase.LOCATING, Input.LOCATED): (Phase.CONNECTING,),
    (Phase.CONNECTING, Input.SYNACK): (Phase.PROBING, None),
    (Phase.PROBING, Input.SEGMENT): (Phase.AWAITING, Phase.WATCHING, Phase.BRAKING, Phase.COMMITTING, None),
    (Phase.AWAITING, Input.STATE): (Phase.WATCHING, Phase.BRAKING, Phase.COMMITTING, None),
    (Phase.AWAITING, Input.STATE_LATE): (Phase.WATCHING, Phase.BRAKING, Phase.COMMITTING, None),
    **{(Phase.AWAITING, what): (None,) for what in (Input.SEGMENT, Input.RESET, Input.REFUSED)},
    (Phase.WATCHING, Input.QUIET): (Phase.MEASURING,),
    (Phase.MEASURING, Input.CLIENT_HEARD): (Phase.WATCHING,),
    **{(Phase.WATCHING, what): (None,) for what in (Input.UNQUIET, Input.CLIENT_HEARD, Input.SERVER_HEARD)},
    (Phase.WATCHING, Input.SEGMENT): (None,),
    **{(phase, Input.SEGMENT): (Phase.UNDOING,) for phase in _FREEZE[:3]},
    (Phase.BRAKING, Input.BRAKED): (Phase.STOPPING,),
    (Phase.STOPPING, Input.BRAKED): (Phase.MEASURING,),
    (Phase.MEASURING, Input.FROM_CLIENT): (Phase.COMMITTING, Phase.UNDOING),
    (Phase.MEASURING, Input.FROM_SERVER): (Phase.COMMITTING, Phase.UNDOING),
    (Phase.COMMITTING, Input.DONE): (None,),
    (Phase.COMMITTING, Input.DEADLINE): (None,),
    **{(phase, Input.DEADLINE): (None,) for phase in (Phase.LOCATING, Phase.CONNECTING, Phase.PROBING)},
    **{(phase, Input.RESET): (None,) for phase in (Phase.CONNECTING, Phase.PROBING, Phase.WATCHING)},
    **{(phase, Input.REFUSED): (None,) for phase in (Phase.LOCATING, Phase.CONNECTING, Phase.PROBING, Phase.WATCHING)},
    **{
        (phase, what): (Phase.UNDOING,) + ((None,) if phase is Phase.COMMITTING else ())
        for phase in _FREEZE
        for what in (Input.FROZEN, Input.RESET, Input.REFUSED)
    },
    **{(Phase.UNDOING, what): (None,) for what in (Input.FROM_CLIENT, Input.FROM_SERVER, Input.THAW, Input.REFUSED)},
}
"""Which phases may follow (None: the migration is over); kept for the diagram, checked by a test."""


def handle(world: World, connection: Connection, what: Input, event: object) -> None:
    """Do what the table says for the migration under way; without one, nothing (its news is stale)."""
    attempt = connection.attempt
    if attempt is None:
        return
    handler = TABLE.get((attempt.phase, what))
    if handler is None:
        raise TransitionError(attempt.phase, what)
    handler(world, connection, attempt, event)
    if connection.wish is not None and connection.attempt is None:
        _follow(world, connection)
