# SPDX-License-Identifier: Apache-2.0
"""Several switches between clients and servers: one rewrites connections, the others only forward.

Two that both took a connection in hand would send its SYN round and round. The settings name those that rewrite; else
it is one: that which holds connections, that which has the analyser's port, that which did so before, or the first. A
switch remembers what it was by a flow of its own (the *mark*), so a controller that starts again, or takes over, finds
it as it was, whichever connects first.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from controller.core import pipeline
from controller.core.commands import FlowAdd, Output, PacketOut, Port, ResolveHost
from controller.core.cookie import Kind, decode_cookie
from controller.core.events import SegmentReceived, SwitchAssigned
from controller.core.world import World


class Claim(IntEnum):
    """Why a switch should be the one that rewrites; the greatest wins, then the first."""

    FORWARDED = 0
    """By its mark it only forwards: it waits for the one that rewrites."""
    NONE = 1
    REWROTE = 2
    ANALYSER = 3
    BUSY = 4


def rewrites(world: World, switch: int) -> bool:
    """Return whether a switch rewrites, as far as is known."""
    return switch in (world.policy.rewriting or world.rewriting)


def connected(world: World, switch: int) -> None:
    """A switch is there: what the settings say holds at once, and the first one begins to rewrite.

    Its mark is left as it is: it has still to be read.
    """
    if not world.policy.rewriting and not world.rewriting:
        world.rewriting[switch] = Claim.NONE
    if rewrites(world, switch):
        _rewrite(world, switch)
    elif world.policy.rewriting:
        _forward(world, switch)


def told(world: World, switch: int, flows: Iterable[FlowAdd]) -> None:
    """A switch has told what it holds: compare what it claims with what others do.

    None that holds connections is made to forward, unless the settings say so: they would stand still.
    """
    if world.policy.rewriting:
        _assigned(world, switch)
        return
    claim = _claim(world, switch, flows)
    others = {other: _claim_now(world, other) for other in world.rewriting if other != switch}
    if claim is Claim.BUSY or claim > max(others.values(), default=Claim.FORWARDED):
        for other, theirs in others.items():
            if theirs is not Claim.BUSY:
                _retire(world, other, theirs)
        _promote(world, switch, claim)
        return
    _retire(world, switch, claim)
    if not world.rewriting and world.spare:
        _promote(world, max(sorted(world.spare), key=lambda spare: world.spare[spare]), Claim.NONE)


def _claim(world: World, switch: int, flows: Iterable[FlowAdd]) -> Claim:
    cookies = [cookie for flow in flows if (cookie := decode_cookie(flow.cookie)) is not None]
    kinds = {cookie.kind for cookie in cookies}
    if any(cookie.number for cookie in cookies):
        return Claim.BUSY
    if world.policy.analyser_port in world.ports.get(switch, {}):
        return Claim.ANALYSER
    if Kind.REWRITES in kinds:
        return Claim.REWROTE
    return Claim.FORWARDED if Kind.FORWARDS in kinds else Claim.NONE


def _claim_now(world: World, switch: int) -> Claim:
    """Return the claim of a switch that rewrites: connections may have begun since."""
    is_busy = any(known.switch == switch for known in world.connections.values())
    return Claim.BUSY if is_busy else Claim(world.rewriting[switch])


def lost(world: World, switch: int) -> None:
    """A switch has gone; one that rewrites is waited for."""
    world.spare.pop(switch, None)


def passed_on(world: World, event: SegmentReceived) -> bool:
    """Let a packet go its way that a switch handed over before it only forwarded; return whether that was so."""
    if rewrites(world, event.switch):
        return False
    cookie = decode_cookie(event.cookie)
    if cookie is None or cookie.kind is not Kind.COPY:
        packet = event.segment.frame or event.segment
        world.do(PacketOut(event.switch, packet, (Output(Port.TABLE),), in_port=event.port))
    return True


def _promote(world: World, switch: int, claim: Claim) -> None:
    """From now on a switch rewrites."""
    world.spare.pop(switch, None)
    if switch not in world.rewriting:
        _rewrite(world, switch)
    world.rewriting[switch] = claim
    _assigned(world, switch)


def _retire(world: World, switch: int, claim: Claim) -> None:
    """From now on a switch only forwards."""
    world.rewriting.pop(switch, None)
    if switch in world.ports:
        if claim is not Claim.FORWARDED:
            world.spare[switch] = claim
        _forward(world, switch)
        _assigned(world, switch)


def _rewrite(world: World, switch: int) -> None:
    world.do(*pipeline.standing_flows(switch, world.policy))
    world.do(*(ResolveHost(switch, server.endpoint.address) for server in world.policy.servers.values()))


def _forward(world: World, switch: int) -> None:
    world.do(pipeline.forwarding(switch))


def _assigned(world: World, switch: int) -> None:
    if rewrites(world, switch):
        world.do(pipeline.rewriting_mark(switch))
    world.publish(SwitchAssigned(world.now, switch, rewrites(world, switch)))
