# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks` lists the benchmarks; `python -m benchmarks NAME [--quick]` runs one.

Progress goes to stderr. The last line on stdout is one JSON object
`{"name", "value", "unit", "details", "host", "commit"}`; raw samples and plots are kept under `benchmarks/results/`.
Exit codes: 0 measured, 1 it could not be measured (the reason is on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

from benchmarks import harness


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure one part of Baton.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (none: list what there is)")
    parser.add_argument("--all", action="store_true", help="measure everything, one after another")
    parser.add_argument("--quick", action="store_true", help="a short run: shows that it works, not how fast it is")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, help="where samples and plots are kept")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a benchmark that failed")
    options = parser.parse_args(arguments)
    known = harness.benchmarks()
    names = list(known) if options.all else options.names
    if not names:
        width = max(map(len, known), default=0)
        for name, what in known.items():
            print(f"{name:<{width}}  {what}")
        return 0
    for name in names:
        if name not in known:
            print(f"there is no benchmark {name!r}; `python -m benchmarks` lists them", file=sys.stderr)
            return 2
    return max(measure(name, options) for name in names)


def measure(name: str, options: argparse.Namespace) -> int:
    """Run one benchmark and print its result line; returns the exit code."""
    with harness.stdout_kept() as say:
        try:
            say(json.dumps(harness.run(name, options.quick, options.results)))
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            return 130
        except harness.BenchmarkError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        except Exception as error:  # a benchmark's own fault: one line for the user, the rest on request
            if options.debug:
                traceback.print_exc()
            print(f"{name}: failed: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
