# SPDX-License-Identifier: Apache-2.0
"""A connection as its flows tell it: the reverse of ``pipeline.path_flows`` and ``gate_flows``."""

from __future__ import annotations

from controller.core import seq
from controller.core.commands import FlowAdd, Output, Port, Rewrite
from controller.core.connection import Connection, Path, Side
from controller.core.cookie import Kind, decode_cookie
from controller.core.facts import Facts
from controller.core.pipeline import P_CONNECTION
from controller.core.policy import Policy, Server, Service
from controller.core.segment import SYN, ConnectionKey, Endpoint, Segment, Timestamps


def read_off(policy: Policy, switch: int, there: FlowAdd, group: list[FlowAdd]) -> Connection:
    """Return the connection that the flow ``there`` carries from its client; ``group`` are all flows of its number.

    Its state and what its ends have said since are not in the flows. The service must be one of the policy's, and the
    flow must carry facts.
    """
    facts, match = there.facts, there.match
    assert facts is not None
    key = ConnectionKey(end_of(match.ip_src, match.tcp_src), end_of(match.ip_dst, match.tcp_dst))
    own = decode_cookie(there.cookie)
    cookies = [decode_cookie(flow.cookie) for flow in group]
    stamped = facts.agreement is not None and facts.agreement.timestamps
    service = next(service for service in policy.services if service.origin.endpoint == key.service)
    syn = Segment(
        src=key.client,
        dst=key.service,
        seq=facts.client_isn,
        ack=0,
        flags=SYN,
        window=facts.syn_window,
        eth_src=facts.client_mac,
        eth_dst=facts.service_mac,
        vlan=match.vlan,
        ttl=facts.ttl,
        tos=facts.tos,
    )
    client = Side(
        isn=facts.client_isn,
        next=seq.add(facts.client_isn, 1),
        acked=seq.add(facts.origin_isn, 1),
        window=facts.client_window,
        timestamps=Timestamps(facts.client_clock, 0) if facts.client_clock else None,
        heard=True,
    )
    origin = Side(
        isn=facts.origin_isn,
        next=seq.add(facts.origin_isn, 1),
        acked=seq.add(facts.client_isn, 1),
        window=facts.server_window,
        timestamps=Timestamps(facts.server_clock, 0) if stamped else None,
        ttl=facts.server_ttl or None,
        heard=True,
    )
    return Connection(
        key=key,
        number=max(cookie.number for cookie in cookies if cookie is not None),
        service=service,
        switch=switch,
        syn=syn,
        client_port=facts.client_port,
        path=_path(policy, service, there, group),
        opened=facts.opened,
        version=max(cookie.version for cookie in cookies if cookie is not None),
        flow_version=own.version if own is not None else 0,
        client=client,
        origin=origin,
        agreement=facts.agreement,
    )


def _path(policy: Policy, service: Service, there: FlowAdd, group: list[FlowAdd]) -> Path:
    """Return where a flow sends what the client says; what a shut gate holds belongs to the origin."""
    facts: Facts | None = there.facts
    assert facts is not None
    cookie = decode_cookie(there.cookie)
    if cookie is not None and cookie.kind is Kind.PUNT:
        own = service.origin.endpoint
        from_origin = (flow.match.in_port for flow in group if end_of(flow.match.ip_src, flow.match.tcp_src) == own)
        return Path(service.origin, next(from_origin, None) or 0, facts.service_mac)
    edit = next((action for action in there.actions if isinstance(action, Rewrite)), Rewrite())
    port = next((action.port for action in reversed(there.actions) if isinstance(action, Output)), 0)
    end = end_of(edit.ip_dst or there.match.ip_dst, edit.tcp_dst or there.match.tcp_dst)
    face = _shown(group, end)
    return Path(
        server=server_at(policy, end),
        port=0 if isinstance(port, Port) else port,
        mac=edit.eth_dst or facts.service_mac,
        client_delta=edit.seq,
        server_delta=edit.ack,
        tsval_shift=seq.add(0, -edit.tsecr),
        window_shift=facts.window_shift,
        ttl=face.ttl,
        ip_id_shift=face.ip_id,
        alias=end_of(there.match.ip_src, edit.tcp_src) if edit.tcp_src is not None else None,
    )


def _shown(group: list[FlowAdd], server: Endpoint) -> Rewrite:
    """Return how the flow that carries what a server says edits it."""

    def is_its(flow: FlowAdd) -> bool:
        cookie = decode_cookie(flow.cookie)
        is_path = cookie is not None and cookie.kind is Kind.PATH and flow.priority == P_CONNECTION
        return is_path and end_of(flow.match.ip_src, flow.match.tcp_src) == server

    edits = (action for flow in group if is_its(flow) for action in flow.actions if isinstance(action, Rewrite))
    return next(edits, Rewrite())


def end_of(address: str | None, port: int | None) -> Endpoint:
    """Return one end of a match on a connection."""
    return Endpoint(address or "", port or 0)


def server_at(policy: Policy, endpoint: Endpoint) -> Server:
    """Return the server of the settings at an address and port; one that has left the settings goes by its address."""
    known = (server for server in policy.servers.values() if server.endpoint == endpoint)
    return next(known, None) or Server(str(endpoint), endpoint)
