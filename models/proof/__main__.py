# SPDX-License-Identifier: Apache-2.0
"""`python -m models.proof`: prove ECCP for any number of migrations, and sequence semantics stuck; ends 0 if all is so."""

from __future__ import annotations

import argparse
import sys
import time

from models.proof.check import Obligation, discharge_all, safety_obligations
from models.proof.epochs import epoch_obligations
from models.proof.flows import flow_obligations
from models.proof.liveness import liveness_obligations
from models.proof.rules import RULES
from models.proof.sequence import (
    BOTH_MOVE,
    HEAL,
    MOVE_TWICE,
    SEQUENCE_RULES,
    forever_obligations,
    found,
    lost,
    run,
    stuck_apart,
)


def _prove(title: str, obligations: list[Obligation], verbose: bool) -> bool:
    start, failed = time.perf_counter(), 0
    for verdict in discharge_all(obligations):
        if not verdict.proved:
            failed += 1
            print(f"  NOT PROVED ({verdict.answer}): {verdict.name}")
        elif verbose:
            print(f"  proved in {verdict.seconds:.2f} s: {verdict.name}")
    print(
        f"{title}: {len(obligations) - failed} of {len(obligations)} obligations proved in {time.perf_counter() - start:.1f} s"
    )
    return not failed


def _reach(title: str, script: object, rules: object, goal: object) -> bool:
    answer, lines = run(script, rules, goal)
    print(f"{title}: {'found' if answer == 'sat' else 'NOT FOUND'}")
    for line in lines:
        print(f"    {line}")
    return answer == "sat"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.proof", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="name every obligation")
    verbose = parser.parse_args(argv).verbose
    results = [
        _prove("Safety, any number of migrations", list(safety_obligations()), verbose),
        _prove("Liveness, by rank", list(liveness_obligations()), verbose),
        _prove("Several flows", list(flow_obligations()), verbose),
        _prove("Packet numbers and epochs", list(epoch_obligations()), verbose),
        _prove("Sequence semantics: the stuck state is for ever", list(forever_obligations()), verbose),
        _reach("Sequence semantics: the stuck state is reached", MOVE_TWICE, SEQUENCE_RULES, stuck_apart),
        _reach("Versions: the same run heals", (*MOVE_TWICE, *HEAL), RULES, found),
        _reach("Both moved at once, no rendezvous: lost (the premise of liveness is needed)", BOTH_MOVE, RULES, lost),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
