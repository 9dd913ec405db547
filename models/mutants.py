# SPDX-License-Identifier: Apache-2.0
"""Seeded faults of ECCP and who finds each: `python -m models.mutants` ends 0 if at least 95 % are found.

Three killers: SPIN (the fault is `-DBUG=n` of models/eccp.inc), Z3 (one decision of models/proof/rules.py is replaced and an
obligation fails that holds without the fault), and the conformance check (one line of the machine controller/eccp/flow.py
is changed and a random run of it is refused).
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import z3

from models.conformance import Judge, TraceRefused
from models.proof.check import first_failure, safety_obligations
from models.proof.liveness import liveness_obligations
from models.proof.rules import RULES, Rules
from models.proof.state import NONE
from models.spin import Run, Settings, SpinError, execute, require_tools

NEEDED = 0.95

_SAFETY = ("safety", "-DMOVES=2 -DCAP=2")
_LINGER = ("safety", "-DMOVES=2 -DCAP=2 -DESTABLISHED_AT_START -DREBINDS=1 -DLINGER")
_LIVE = ("heals", "-DMOVES=2 -DCAP=2 -DLIVE -DESTABLISHED_AT_START")
_LIVE_NAT = ("heals", "-DMOVES=1 -DCAP=2 -DLIVE -DESTABLISHED_AT_START -DREBINDS=1")


@dataclass(frozen=True)
class Mutant:
    """A fault, its killer, and what the killer needs."""

    name: str
    killer: str  # SPIN, Z3 or conformance
    fault: Any


def _spin(bug: int, name: str, how: tuple[str, str]) -> Mutant:
    return Mutant(name, "SPIN", (bug, *how))


def _z3(name: str, **changes: Callable[..., Any]) -> Mutant:
    return Mutant(name, "Z3", changes)


def _code(name: str, old: str, new: str) -> Mutant:
    return Mutant(name, "conformance", (old, new))


_true, _false = z3.BoolVal(True), z3.BoolVal(False)

MUTANTS: tuple[Mutant, ...] = (
    _spin(1, "sequence semantics: no skipping, one move at a time", ("heals", "-DMOVES=2 -DCAP=2 -DLIVE -DESTABLISHED_AT_START -DEXACT -DMOBILE=1")),
    _spin(2, "a late packet moves the record back", _SAFETY),
    _spin(3, "the source of an RSYN is trusted without a challenge", _LINGER),
    _spin(4, "a newer place does not supersede an unfinished candidate", _LIVE),
    _spin(5, "a packet is compared with the active record only", _SAFETY),
    _spin(6, "the active record is forgotten when a candidate comes", _SAFETY),
    _spin(7, "an old confirmation confirms the present version", _LINGER),
    _spin(8, "a confirmed move is not answered with ACK", _LIVE),
    _spin(9, "a move is never confirmed", _SAFETY),
    _spin(11, "the challenge goes to the active address", _LIVE),
    _spin(13, "every RSYN is answered, taken up or not", _LINGER),
    _spin(14, "any ACK settles the candidate", _SAFETY),
    _spin(15, "ACK is ignored", _LIVE),
    _spin(16, "an answered candidate is forgotten instead of activated", _SAFETY),
    _spin(17, "a move counts as confirmed at once", _SAFETY),
    _spin(18, "a move is not announced", _SAFETY),
    _spin(19, "whoever moves forgets the peer's candidate", _SAFETY),
    _spin(20, "whoever moves forgets where the peer is", _SAFETY),
    _spin(21, "RSYN is not sent again", _LIVE),
    _spin(22, "RSYN goes to the active address only", _LIVE),
    _spin(23, "RSYN only while MOVING, even if pings stay unanswered (PING heals a rebinding too: it may live)", _LIVE_NAT),
    _spin(24, "a challenge is not sent again", _LIVE),
    _z3("a move may keep its version", next_version=lambda new, old: new >= old),
    _z3("a move may go back in versions", next_version=lambda new, old: new != old),
    _z3("a move leaves the flow ESTABLISHED", move_state=lambda: _false),
    _z3("old packet numbers move the address", counts=lambda pn, highest: _true),
    _z3("highest_pn is not remembered", advances=lambda pn, highest: highest),
    _z3("only the address tells a place, not the version", is_active=lambda v, src, e: src == e.peera),
    _z3("only the version tells a place, not the address", is_candidate=lambda v, src, e: v == e.candv),
    _z3("no new candidate while one is pending", may_open=lambda v, e: e.candv == NONE),
    _z3("a new candidate keeps the old candidate's version", cand_version=lambda v, e: e.candv),
    _z3("a new candidate keeps the old nonce", nonce=lambda e: e.candn),
    _z3("the challenge echoes the active version", echo=lambda v, e: e.peerv),
    _z3("an address is trusted without a challenge", trust_source=lambda: _true),
    _z3("an older echo confirms", confirms=lambda echo, own: echo <= own),
    _z3("any challenge is answered", answers=lambda echo, own: _true),
    _z3("an ACK settles by version alone, not by nonce", ack_settles=lambda n, echo, e: echo == e.candv),
    _z3("an ACK settles without a look at nonce or version", ack_settles=lambda n, echo, e: _true),
    _z3("the address of the ACK becomes active, not the challenged one", settled_addr=lambda e, src: src),
    _z3("the active version is not advanced", settled_version=lambda e: e.peerv),
    _z3("an initiator takes the SYN_ACK's source for validated", first_addr=lambda called, src: src),
    _z3("a timer drops a candidate", drop_candidate=lambda: _true),
    _code("probing rule: an equal packet number counts as newer", "event.pn <= flow.highest_pn", "event.pn < flow.highest_pn - 3"),
    _code("probing rule: highest_pn is not remembered", "flow = replace(flow, highest_pn=event.pn)", "flow = replace(flow, highest_pn=max(0, flow.highest_pn))"),
    _code("probing rule: the peer's return to its active address keeps the candidate", "return _without_candidate(flow), False", "return flow, False"),
    _code("probing rule: the candidate is opened under its old version", "cand_version=event.version, cand_addr", "cand_version=flow.own_version, cand_addr"),
    _code("a nonce is used again", "cand_nonce=event.challenge)", "cand_nonce=7)"),
    _code("a challenge goes to the active address", "return Send(message, flow.cand_addr, flow.own_version", "return Send(message, flow.peer_addr, flow.own_version"),
    _code("an ACK settles by version alone", "(event.echo, event.nonce) != (flow.cand_version, flow.cand_nonce)", "event.echo != flow.cand_version"),
    _code("an ACK is believed without a candidate's nonce kept", "peer_nonce=flow.cand_nonce", "peer_nonce=flow.peer_nonce"),
    _code("an older RSYN_ACK confirms", "event.echo != flow.own_version:", "event.echo > flow.own_version:"),
    _code("RSYN_ACK is answered to the active address", "answer = Send(Message.ACK, event.source, flow.own_version, event.echo, event.nonce)", "answer = Send(Message.ACK, flow.peer_addr, flow.own_version, event.echo, event.nonce)"),
    _code("RSYN carries the last confirmed version", "Send(Message.RSYN, None, flow.own_version, everywhere=True)", "Send(Message.RSYN, None, flow.confirmed_version, everywhere=True)"),
    _code("a confirmation is not remembered", "replace(flow, state=state, confirmed_version=flow.own_version)", "replace(flow, state=state)"),
    _code("PONG goes to the active address", "pong = Send(Message.PONG, event.source", "pong = Send(Message.PONG, flow.peer_addr"),
    _code("FIN in CLOSED is answered with FIN", "if not flow.known or flow.state is FlowState.SYN_SENT:", "if flow.state in (FlowState.CLOSED, FlowState.SYN_SENT):\n        return Outcome(flow, (Send(Message.FIN, event.source, flow.own_version),))\n    if not flow.known:"),
)  # fmt: skip


def kill_by_spin(mutant: Mutant, settings: Settings) -> str | None:
    bug, kind, defines = mutant.fault
    outcome = execute(
        Run(f"mutant-{bug}", mutant.name, "eccp_base.pml", f"-DBUG={bug} {defines}", kind, "cycle", 30), settings
    )
    return {"cycle": "never heals", "assertion": "assertion violated", "deadlock": "deadlock"}.get(outcome.verdict)


def kill_by_z3(mutant: Mutant) -> str | None:
    rules: Rules = replace(RULES, **mutant.fault)
    for obligations in (safety_obligations(rules), liveness_obligations(rules)):
        failed = first_failure(obligations, 5000)
        if failed is not None:
            return failed.name
    return None


def mutated_machine(old: str, new: str) -> types.ModuleType:
    """The flow machine with one line changed.  Raises LookupError if the line is no longer there exactly once."""
    import controller.eccp.flow as machine

    source = Path(machine.__file__).read_text(encoding="utf-8")
    if source.count(old) < 1:
        raise LookupError(f"controller/eccp/flow.py no longer has {old!r}: adapt the mutant")
    module = types.ModuleType("mutated_flow")
    sys.modules["mutated_flow"] = module  # dataclasses look their module up
    exec(compile(source.replace(old, new), "mutated_flow.py", "exec"), module.__dict__)
    return module


def kill_by_conformance(mutant: Mutant, runs: int = 60) -> str | None:
    from controller.eccp import walk
    from controller.eccp.tracing import TraceWriter

    machine = mutated_machine(*mutant.fault)
    original = (walk.flow_step, walk.Flow, walk.Step)
    walk.flow_step, walk.Flow, walk.Step = machine.step, machine.Flow, machine.Step
    try:
        for seed in range(runs):
            try:
                steps = walk.Walk(seed, TraceWriter(Judge(), ("a", "b"), rendezvous=walk.RENDEZVOUS))
                for host in steps.hosts:
                    host.flow = machine.Flow()
                steps.run(1000)
            except TraceRefused as refused:
                return f"run {seed}, {refused}"
            except AssertionError:
                continue  # the walk's own checks or the machine's table noticed first: not this killer's doing
    finally:
        walk.flow_step, walk.Flow, walk.Step = original
        del sys.modules["mutated_flow"]
    return None


def _try(mutant: Mutant, settings: Settings) -> str | None:
    if mutant.killer == "SPIN":
        return kill_by_spin(mutant, settings)
    return kill_by_z3(mutant) if mutant.killer == "Z3" else kill_by_conformance(mutant)


def hunt(mutants: tuple[Mutant, ...], settings: Settings, jobs: int = 2) -> list[tuple[Mutant, str | None]]:
    """Try each mutant with its killer, saying what found it; None: it lives.  SPIN's, which are processes, run side by side."""
    results = []
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        spin = {m.name: pool.submit(_try, m, settings) for m in mutants if m.killer == "SPIN"}
        for mutant in mutants:
            found = spin[mutant.name].result() if mutant.name in spin else _try(mutant, settings)
            results.append((mutant, found))
            verdict = "killed" if found else "LIVES "
            print(f"{verdict} by {mutant.killer:11} {mutant.name}" + (f": {found[:110]}" if found else ""), flush=True)
    return results


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.mutants", description="Find the seeded faults of ECCP.")
    parser.add_argument("--killer", choices=("SPIN", "Z3", "conformance"), help="only the mutants of this killer")
    killer = parser.parse_args(argv).killer
    chosen = tuple(m for m in MUTANTS if killer in (None, m.killer))
    try:
        require_tools()
        results = hunt(chosen, Settings(cflags="-O1"))  # small searches: compiling is the longer part
    except (SpinError, LookupError) as fault:
        print(f"models.mutants: {fault}", file=sys.stderr)
        return 2
    killed = sum(found is not None for _, found in results)
    print(f"{killed} of {len(results)} mutants killed")
    return 0 if killed >= NEEDED * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
