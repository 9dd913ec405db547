# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about connections that have moved: translated, so that who sent the segment knows which one is meant.

Between the switch and the target a segment has the target's addresses and numbers, on the client's side the origin's.
Path MTU discovery (RFC 1191, RFC 8201) depends on these errors. The switch passes them on as they are, too: their
receiver knows no such connection.
"""

from __future__ import annotations

from dataclasses import replace

from controller.core import seq
from controller.core.commands import Output, PacketOut
from controller.core.connection import Connection
from controller.core.events import IcmpErrorReceived
from controller.core.segment import ConnectionKey, IcmpError
from controller.core.world import World


def translate(world: World, event: IcmpErrorReceived) -> None:
    """Tell the end that sent the segment, in its own terms."""
    error = event.error
    connection = world.targets.get(ConnectionKey(error.about_src, error.about_dst))
    if connection is not None and connection.path.server.endpoint == error.about_dst:
        _send(world, event, connection, _to_client(connection, error), connection.client_port)
        return
    connection = world.connections.get(ConnectionKey(error.about_dst, error.about_src))
    if connection is not None and world.targets.get(_there(connection)) is connection:
        _send(world, event, connection, _to_server(connection, error), connection.path.port)


def _there(connection: Connection) -> ConnectionKey:
    """Return both ends as the server that serves now knows them."""
    path = connection.path
    return ConnectionKey(path.alias or connection.key.client, path.server.endpoint)


def _to_client(connection: Connection, error: IcmpError) -> IcmpError:
    """Return an error about what the client has sent; from the target itself, it is the origin's to tell."""
    key, path = connection.key, connection.path
    return replace(
        error,
        src=key.service.address if error.src == path.server.endpoint.address else error.src,
        dst=key.client.address,
        about_src=key.client,
        about_dst=key.service,
        seq=seq.add(error.seq, -path.client_delta),
        eth_src=connection.service_mac,
        eth_dst=connection.syn.eth_src,
    )


def _to_server(connection: Connection, error: IcmpError) -> IcmpError:
    """Return an error about what the client was sent, in the words of the server that sent it."""
    path, there = connection.path, _there(connection)
    return replace(
        error,
        dst=there.service.address,
        about_src=there.service,
        about_dst=there.client,
        seq=seq.add(error.seq, path.server_delta),
        eth_src=connection.syn.eth_src,
        eth_dst=path.mac,
    )


def _send(world: World, event: IcmpErrorReceived, connection: Connection, error: IcmpError, port: int) -> None:
    if event.switch == connection.switch:
        world.do(PacketOut(connection.switch, error, (Output(port),)))
