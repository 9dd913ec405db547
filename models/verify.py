# SPDX-License-Identifier: Apache-2.0
"""`python -m models.verify`: every SPIN run of models/manifest.toml gives what it says, and counterexamples are drawn.

Ends 0 if every run gave its expected result and state count, 1 if one did not, 2 if a tool is missing or failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from models.msc import draw, message_names, parse
from models.spin import (
    MODELS,
    Outcome,
    Run,
    Settings,
    SpinError,
    as_row,
    execute,
    load_manifest,
    matches,
    require_tools,
)

OUT = MODELS.parent / "out" / "models"
HOSTS = {"tcp_migrate.pml": ("mobile host", "other host"), "hip.pml": ("mobile host", "peer")}


def _draw(run: Run, outcome: Outcome, out: Path) -> None:
    events = parse(outcome.trace, message_names(MODELS / run.model))
    text = draw(events, run.about.split(":")[0], HOSTS.get(run.model, ("host 0", "host 1")), run.about)
    (out / f"{run.draw}.svg").write_text(text, encoding="utf-8")


def verify(runs: list[Run], settings: Settings, jobs: int, out: Path = OUT) -> bool:
    """Execute runs, print a line for each, write summary.json and the drawings.  True if all came out as they should."""
    out.mkdir(parents=True, exist_ok=True)
    rows, good = [], True
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting = {pool.submit(execute, run, settings): run for run in runs}
        for done in as_completed(waiting):
            run, outcome = waiting[done], done.result()
            fault = matches(run, outcome)
            if fault is None and run.draw:
                _draw(run, outcome, out)
                fault = None if outcome.trace else "no counterexample to draw"
            good = good and fault is None
            rows.append(as_row(run, outcome, fault))
            print(f"{'ok  ' if fault is None else 'FAIL'} {run.name}: {outcome.verdict}, {outcome.states:,} states, "
                  f"{outcome.memory_mb:.0f} MB, {outcome.seconds:.1f} s{'' if fault is None else ': ' + fault}", flush=True)  # fmt: skip
    (out / "summary.json").write_text(
        json.dumps(sorted(rows, key=lambda r: r["name"]), indent=1) + "\n", encoding="utf-8"
    )
    return good


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.verify", description="Check the Promela models with SPIN.")
    parser.add_argument("--long", action="store_true", help="the long runs as well (more moves)")
    parser.add_argument("--only", metavar="NAME", action="append", help="only this run (may be given again)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2; each may need up to 2 GB)")
    parser.add_argument("--list", action="store_true", help="list the runs and end")
    args = parser.parse_args(argv)
    try:
        settings, runs = load_manifest()
        if args.list:
            for run in runs:
                print(f"{run.name:22} {run.group:8} {run.expect:10} {run.about}")
            return 0
        unknown = set(args.only or ()) - {run.name for run in runs}
        if unknown:
            raise SpinError(f"no run is called {', '.join(sorted(unknown))}; --list shows them")
        chosen = [r for r in runs if (r.name in args.only if args.only else args.long or r.group == "default")]
        require_tools()
        return 0 if verify(chosen, settings, max(1, args.jobs)) else 1
    except SpinError as fault:
        print(f"models.verify: {fault}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
