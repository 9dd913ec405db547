# SPDX-License-Identifier: Apache-2.0
"""The flow tables: which flows a switch holds, for everybody and for each connection.

Table 0 watches: it hands SYNs of services to the controller (metered), copies FIN and RST, learns from ARP, and leaves
all other traffic to the switch's own learning. Table 1 holds the connections, exact on the 4-tuple; what is unknown
there is dropped, never passed to an origin, which would reset the client.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from controller.core.commands import (
    Action,
    Bundle,
    Command,
    FlowAdd,
    FlowDelete,
    Match,
    MeterAdd,
    Output,
    Port,
    Rewrite,
)
from controller.core.connection import Attempt, Connection, Path, facts_of, rewrite_to_client, rewrite_to_server
from controller.core.cookie import Cookie, Kind
from controller.core.facts import Facts
from controller.core.policy import Policy, Server
from controller.core.segment import ACK, FIN, RST, SYN, Endpoint

WATCH, CONNECTIONS = 0, 1
SYN_METER, ARP_METER = 1, 2
ARP_RATE = 1_000

TCP, ICMPV4, ICMPV6 = 6, 1, 58
NEIGHBOUR_MESSAGES = (135, 136)
"""Neighbour solicitation and advertisement."""
UNREACHABLE_4, UNREACHABLE_6 = (3, 11), (1, 2, 3)
"""ICMP errors that a sender of TCP segments acts on: unreachable or too big, too far."""
ETHER_IPV4, ETHER_IPV6, ETHER_ARP = 0x0800, 0x86DD, 0x0806
RESOLVER_MAC = "02:ba:70:00:00:01"
"""Locally administered address from which the controller asks who has an address."""

P_SYN, P_CLOSE, P_SERVICE, P_ARP_REPLY, P_ARP = 300, 200, 100, 60, 50
P_FROZEN, P_WATCH, P_CONNECTION, P_PASS = 200, 150, 100, 10
SILENCE = 180
"""Seconds for which an abandoned side stays silenced: longer than its retransmissions of a lost RST."""

_PUNT = (Output(Port.CONTROLLER),)
HEADERS = 256
"""Bytes of a packet that hold all headers."""


def _tcp(
    src: Endpoint | None = None,
    dst: Endpoint | None = None,
    flags: tuple[int, int] | None = None,
    in_port: int | None = None,
    vlan: int | None = None,
) -> Match:
    """Return a match on TCP packets between two ends, either of which may be any."""
    known = src or dst
    assert known is not None
    return Match(
        ether_type=ETHER_IPV6 if ":" in known.address else ETHER_IPV4,
        ip_proto=TCP,
        in_port=in_port,
        vlan=vlan,
        ip_src=src and src.address,
        tcp_src=src and src.port,
        ip_dst=dst and dst.address,
        tcp_dst=dst and dst.port,
        tcp_flags=flags,
    )


def standing_flows(switch: int, policy: Policy) -> Iterator[Command]:
    """Yield the flows and meters of a rewriting switch, connections or not; putting them in again changes nothing."""
    plain = Cookie(Kind.PLAIN).encode()
    copy = Cookie(Kind.COPY).encode()
    origins = {service.origin.endpoint for service in policy.services}
    yield MeterAdd(switch, SYN_METER, rate=policy.limits.syn_rate, burst=policy.limits.syn_rate // 2)
    yield MeterAdd(switch, ARP_METER, rate=ARP_RATE, burst=ARP_RATE)
    for endpoint in origins:
        yield FlowAdd(
            switch,
            WATCH,
            P_SYN,
            _tcp(dst=endpoint, flags=(SYN, SYN | ACK)),
            _PUNT,
            meter=SYN_METER,
            cookie=Cookie(Kind.SYN).encode(),
        )
        yield FlowAdd(switch, WATCH, P_SERVICE, _tcp(dst=endpoint), goto=CONNECTIONS, cookie=plain)
    for match in [_tcp(dst=endpoint) for endpoint in origins] + [
        _tcp(src=server.endpoint) for server in policy.servers.values()
    ]:
        for flag in (FIN, RST):
            closing = Match(
                ether_type=match.ether_type,
                ip_proto=TCP,
                ip_src=match.ip_src,
                tcp_src=match.tcp_src,
                ip_dst=match.ip_dst,
                tcp_dst=match.tcp_dst,
                tcp_flags=(flag, flag),
            )
            actions = (Output(Port.CONTROLLER, HEADERS),)
            priority = P_CLOSE + (flag == RST)
            yield FlowAdd(switch, WATCH, priority, closing, actions, goto=CONNECTIONS, cookie=copy)
    for server in policy.servers.values():
        yield FlowAdd(switch, WATCH, P_SERVICE, _tcp(src=server.endpoint), goto=CONNECTIONS, cookie=plain)
        if server.endpoint not in origins:
            # Connections made straight to a server that is only a target are none of ours.
            match = _tcp(src=server.endpoint)
            yield FlowAdd(switch, CONNECTIONS, P_PASS, match, (Output(Port.NORMAL),), cookie=plain)
    to_us = Match(ether_type=ETHER_ARP, eth_dst=RESOLVER_MAC)
    yield FlowAdd(switch, WATCH, P_ARP_REPLY, to_us, _PUNT, meter=ARP_METER, cookie=plain)
    heard = (Output(Port.NORMAL), Output(Port.CONTROLLER, HEADERS))
    yield FlowAdd(switch, WATCH, P_ARP, Match(ether_type=ETHER_ARP), heard, cookie=plain)
    for kind in NEIGHBOUR_MESSAGES:  # what ARP is to IPv4 (RFC 4861)
        to_us = Match(ether_type=ETHER_IPV6, ip_proto=ICMPV6, eth_dst=RESOLVER_MAC, icmpv6_type=kind)
        yield FlowAdd(switch, WATCH, P_ARP_REPLY, to_us, _PUNT, meter=ARP_METER, cookie=plain)
        message = Match(ether_type=ETHER_IPV6, ip_proto=ICMPV6, icmpv6_type=kind)
        yield FlowAdd(switch, WATCH, P_ARP, message, heard, cookie=plain)
    told = (Output(Port.NORMAL), Output(Port.CONTROLLER))
    for kind in UNREACHABLE_4:
        message = Match(ether_type=ETHER_IPV4, ip_proto=ICMPV4, icmpv4_type=kind)
        yield FlowAdd(switch, WATCH, P_ARP, message, told, cookie=plain)
    for kind in UNREACHABLE_6:
        message = Match(ether_type=ETHER_IPV6, ip_proto=ICMPV6, icmpv6_type=kind)
        yield FlowAdd(switch, WATCH, P_ARP, message, told, cookie=plain)
    yield FlowAdd(switch, WATCH, 0, Match(), (Output(Port.NORMAL),), cookie=plain)


def rewriting_mark(switch: int) -> FlowAdd:
    """Return the flow that tells a controller to come that this switch rewrites; it drops, as no flow at all would."""
    return FlowAdd(switch, CONNECTIONS, 0, Match(), cookie=Cookie(Kind.REWRITES).encode())


def forwarding(switch: int) -> Bundle:
    """Return the change that makes a plain learning switch of one, whatever its standing flows were.

    The mark carries what the watching table may have sent there until now.
    """
    normal = (Output(Port.NORMAL),)
    standing = (Kind.PLAIN, Kind.SYN, Kind.COPY, Kind.REWRITES)
    whole = (1 << 64) - 1
    return Bundle(
        switch,
        (
            *(FlowDelete(switch, cookie=Cookie(kind).encode(), cookie_mask=whole) for kind in standing),
            FlowAdd(switch, CONNECTIONS, 0, Match(), normal, cookie=Cookie(Kind.FORWARDS).encode()),
            FlowAdd(switch, WATCH, 0, Match(), normal, cookie=Cookie(Kind.PLAIN).encode()),
        ),
    )


def from_client(connection: Connection) -> Match:
    """Return the match on what the client sends."""
    return _tcp(connection.key.client, connection.key.service, vlan=connection.syn.vlan)


def from_server(connection: Connection, server: Server, port: int | None, client: Endpoint | None = None) -> Match:
    """Return the match on what a server sends to the client; with its port nobody elsewhere can speak for it.

    ``client`` is the client's end as the server knows it, where it is another one.
    """
    return _tcp(server.endpoint, client or connection.key.client, in_port=port, vlan=connection.syn.vlan)


def back(connection: Connection, path: Path) -> Match:
    """Return the match on what the server of a path sends to the client."""
    return from_server(connection, path.server, path.port, path.alias)


def _flow(
    connection: Connection,
    match: Match,
    actions: tuple[Action, ...],
    kind: Kind,
    *,
    idle_timeout: int | None = None,
    hard_timeout: int = 0,
    notify: bool = False,
    token: int = 0,
    priority: int = P_CONNECTION,
    facts: Facts | None = None,
) -> FlowAdd:
    """Return a flow of one connection; by default it lives until it has been idle as long as the service allows."""
    idle = connection.service.idle_timeout if idle_timeout is None and not hard_timeout else idle_timeout or 0
    return FlowAdd(
        connection.switch,
        CONNECTIONS,
        priority,
        match,
        actions,
        cookie=Cookie(kind, connection.version, connection.number).encode(),
        idle_timeout=idle,
        hard_timeout=hard_timeout,
        notify_removed=notify,
        token=token,
        facts=facts,
    )


def gate_flows(connection: Connection, origin_port: int | None, mirror: tuple[Output, ...]) -> Iterator[FlowAdd]:
    """Yield the flows of a gated connection: the client's packets are held, the origin's pass and are copied."""
    facts = facts_of(connection, connection.path)
    yield _flow(connection, from_client(connection), (*mirror, *_PUNT), Kind.PUNT, notify=True, facts=facts)
    copied = (Output(connection.client_port), *mirror, *_PUNT)
    yield _flow(connection, from_server(connection, connection.service.origin, origin_port), copied, Kind.COPY)


def to_server_actions(connection: Connection, path: Path) -> tuple[Action, ...]:
    """Return what happens to a client's packet on its way to the path's server."""
    return _edited(connection, path, rewrite_to_server(path), path.port)


def to_client_actions(connection: Connection, path: Path) -> tuple[Action, ...]:
    """Return what happens to a server's packet on its way to the client."""
    return _edited(connection, path, rewrite_to_client(connection, path), connection.client_port)


def _edited(connection: Connection, path: Path, rewrite: Rewrite, port: int) -> tuple[Action, ...]:
    """Leave out the edits where the connection is still with its origin and nothing would change."""
    untouched = path.server is connection.service.origin and not (path.client_delta or path.server_delta)
    return (Output(port),) if untouched else (rewrite, Output(port))


def path_flows(
    connection: Connection,
    path: Path,
    token: int = 0,
    idle_timeout: int | None = None,
    mirror: tuple[Output, ...] = (),
) -> Iterator[FlowAdd]:
    """Yield the two flows that carry a connection along a path, in the fast path alone; the analyser gets ``mirror``.

    The way back comes first: nothing asks for it before the way there exists.
    """
    connection.flow_version = connection.version
    actions = mirror + to_client_actions(connection, path)
    yield _flow(connection, back(connection, path), actions, Kind.PATH, idle_timeout=idle_timeout, token=token)
    there, actions = from_client(connection), mirror + to_server_actions(connection, path)
    facts = facts_of(connection, path)
    yield _flow(connection, there, actions, Kind.PATH, idle_timeout=idle_timeout, notify=True, token=token, facts=facts)


def stopped(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Return the actions with a window of zero shown, before the output."""
    return (*actions[:-1], Rewrite(window=0), actions[-1])


def stop_client(connection: Connection, path: Path) -> FlowAdd:
    """Return the flow that shows the client a window of zero, in the fast path: it drains and stops.

    It goes by itself after a second, as all flows of a freeze, so a controller that dies now leaves no black hole.
    """
    actions = stopped(to_client_actions(connection, path))
    return _flow(connection, back(connection, path), actions, Kind.PATH, hard_timeout=1, priority=P_FROZEN)


def overhear_client(connection: Connection, path: Path) -> FlowAdd:
    """Return the flow that gives the controller copies of what the client says: whole ones, where a request is kept."""
    copies = _PUNT if connection.tap is not None else (Output(Port.CONTROLLER, HEADERS),)
    actions = (*copies, *to_server_actions(connection, path))
    return _flow(connection, from_client(connection), actions, Kind.COPY, hard_timeout=1, priority=P_FROZEN)


def stop_server(connection: Connection, path: Path) -> FlowAdd:
    """Return the flow that shows the server a window of zero, in the fast path."""
    actions = stopped(to_server_actions(connection, path))
    return _flow(connection, from_client(connection), actions, Kind.PATH, hard_timeout=1, priority=P_FROZEN)


def watch_flows(
    connection: Connection, path: Path, seconds: int = 0, mirror: tuple[Output, ...] = ()
) -> Iterator[FlowAdd]:
    """Yield the flows that let the controller overhear both ends, for so long if at all; the connection goes on."""
    for match, actions in (
        (back(connection, path), to_client_actions(connection, path)),
        (from_client(connection), to_server_actions(connection, path)),
    ):
        copied = mirror + _PUNT + actions
        yield _flow(connection, match, copied, Kind.COPY, hard_timeout=seconds, priority=P_WATCH)


def measure_flows(connection: Connection, path: Path) -> Iterator[FlowAdd]:
    """Yield the flows that hand what both ends say to the controller alone; they, too, go after a second."""
    for match in (back(connection, path), from_client(connection)):
        yield _flow(connection, match, _PUNT, Kind.PUNT, hard_timeout=1, priority=P_FROZEN)


def thaw(connection: Connection, path: Path, watched: bool = False) -> Iterator[FlowDelete]:
    """Yield the commands that remove the flows of a freeze, and of the overhearing before it."""
    yield from _deleted(connection, path, P_FROZEN)
    if watched:
        yield from unwatch(connection, path)


def unwatch(connection: Connection, path: Path) -> Iterator[FlowDelete]:
    """Yield the commands that end the overhearing."""
    return _deleted(connection, path, P_WATCH)


def _deleted(connection: Connection, path: Path, priority: int) -> Iterator[FlowDelete]:
    for match in (back(connection, path), from_client(connection)):
        yield FlowDelete(connection.switch, CONNECTIONS, match, priority)


def handshake_flow(connection: Connection, attempt: Attempt) -> FlowAdd:
    """Return the flow that hands what the target says during its handshake to the controller.

    Its facts name the target's MAC address and our number, so that a controller that finds it can reset the target's
    half.
    """
    facts = replace(facts_of(connection, connection.path), service_mac=attempt.mac, client_isn=attempt.syn_seq)
    return _flow(connection, from_target(connection, attempt), _PUNT, Kind.PUNT, hard_timeout=60, facts=facts)


def from_target(connection: Connection, attempt: Attempt) -> Match:
    """Return the match on what a migration's target says."""
    return from_server(connection, attempt.target, attempt.port, attempt.alias)


def silence_flow(connection: Connection, server: Server, port: int | None, client: Endpoint | None = None) -> FlowAdd:
    """Return the flow that keeps an abandoned server's packets from the client."""
    return _flow(connection, from_server(connection, server, port, client), (), Kind.DROP, hard_timeout=SILENCE)


def removal(connection: Connection, match: Match) -> FlowDelete:
    """Return the command that removes the flow with exactly this match: found by hash, however many there are."""
    return FlowDelete(connection.switch, CONNECTIONS, match, P_CONNECTION)
