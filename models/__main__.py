# SPDX-License-Identifier: Apache-2.0
"""`python -m models` (make verify): proof, models, abstraction, seeded faults and random runs of the code; ends 0 if all is well.

Default: under ten minutes on two cores.  `--long` adds more moves and longer random runs.
"""

from __future__ import annotations

import argparse
import sys
import time

from models import mutants, verify
from models.conformance import Judge, TraceRefused
from models.proof import __main__ as proof
from models.proof import abstraction

STEPS, LONG_STEPS = 1_000_000, 5_000_000


def _conformance(steps: int) -> int:
    from controller.eccp.walk import walk_many

    judge = Judge()
    try:
        moves = walk_many(steps, 1, sink=lambda: judge)
    except (AssertionError, TraceRefused) as fault:
        print(f"the machine and the model disagree: {fault}")
        return 1
    print(f"{judge.steps:,} random steps of the machine ({moves:,} moves) accepted by the model")
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m models", description="Verify ECCP: proof, models, seeded faults, random runs."
    )
    parser.add_argument("--long", action="store_true", help="more moves, longer random runs")
    parser.add_argument("--jobs", type=int, default=2, help="SPIN runs at a time (default 2)")
    args = parser.parse_args(argv)
    parts = (
        ("Unbounded proof (Z3)", lambda: proof.main([])),
        ("Fixed point of the abstraction (Z3)", lambda: abstraction.main([])),
        ("Models (SPIN)", lambda: verify.main([*(["--long"] if args.long else []), "--jobs", str(args.jobs)])),
        ("Seeded faults", lambda: mutants.main([])),
        ("Random runs of the code", lambda: _conformance(LONG_STEPS if args.long else STEPS)),
    )
    failed = []
    for title, part in parts:
        print(f"== {title}", flush=True)
        start = time.monotonic()
        if part():
            failed.append(title)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    print(f"FAILED: {', '.join(failed)}" if failed else "verified")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
