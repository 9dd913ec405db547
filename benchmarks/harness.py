# SPDX-License-Identifier: Apache-2.0
"""What every benchmark has in common: how it is found, what it is given, what it returns and where that goes.

A benchmark is a file of this package. Its name is the file's with `-` for `_` (`tcp_handoff.py` is `tcp-handoff`);
the first line of its docstring says what it measures; it defines

    def run(bench: Bench) -> Outcome: ...

`bench.progress("...")` reports on stderr, `bench.quick` asks for the shortest run that still exercises everything, and
`BenchmarkError("what is missing; how to mend it")` ends the run with that sentence. Anything that a benchmark or its
children print goes to stderr: stdout carries the one JSON line of the result and nothing else.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

ROOM = Path(__file__).resolve().parent
RESULTS = ROOM / "results"
NOT_BENCHMARKS = {"__init__", "__main__", "harness"}


class BenchmarkError(Exception):
    """The benchmark cannot run here, or its run proved nothing; the text says why and what to do."""


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found.

    `value` and `unit` are the one figure it stands for; `details` (JSON types) everything else worth reading;
    `samples` the raw measurements, each series by name (put the unit into the name: `latency_us`).
    `plot` draws on a matplotlib Figure; without it each series is drawn as its cumulative distribution.
    """

    value: float
    unit: str
    details: dict[str, Any] = field(default_factory=dict)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    plot: Callable[[Any], None] | None = None


class Bench:
    """What a benchmark is given: its name, whether to be quick, and a voice on stderr."""

    def __init__(self, name: str, quick: bool = False) -> None:
        self.name = name
        self.quick = quick
        self._began = monotonic()

    def progress(self, text: str) -> None:
        """Say on stderr how far the run is, with the seconds since its start."""
        print(f"[{self.name} {monotonic() - self._began:6.1f}s] {text}", file=sys.stderr, flush=True)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0..1) of all samples do not exceed (nearest rank)."""
    if not samples:
        raise BenchmarkError("no samples were taken")
    ordered = sorted(samples)
    rank = -int(-share * len(ordered) // 1)  # ceiling
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def summary(samples: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Count, mean and the percentiles one looks for; for an `Outcome`'s details."""
    figures = {"mean": sum(samples) / len(samples) if samples else 0.0}
    figures |= {f"p{int(share * 100)}": percentile(samples, share) for share in (0.5, 0.9, 0.99)}
    figures |= {"min": min(samples), "max": max(samples)}
    return {"samples": len(samples)} | {name: round(figure, digits) for name, figure in figures.items()}


def benchmarks() -> dict[str, str]:
    """Every benchmark's name and what it measures, without importing (and so without needing) any of them."""
    found = {}
    for path in sorted(ROOM.glob("*.py")):
        if path.stem in NOT_BENCHMARKS or path.stem.startswith("_"):
            continue
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem.replace("_", "-")] = text.partition("\n")[0]
    return found


def host() -> dict[str, Any]:
    """The machine a result was measured on: enough to judge it by, nothing that names the machine."""
    models = (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    memory = (int(line.split()[1]) // 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "cpu": next(models, "") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": next(memory, 0),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """The commit measured, with `-dirty` when the tree differed from it; `unknown` outside a clone."""
    command = ["git", "-C", str(ROOM), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def run(name: str, quick: bool = False, results: Path = RESULTS) -> dict[str, Any]:
    """Run one benchmark, keep its samples and plot under `results`, and return the object of the result line.

    Raises BenchmarkError for an unknown name, a benchmark that cannot run here and one that cannot keep its result.
    """
    known = benchmarks()
    if name not in known:
        raise BenchmarkError(f"there is no benchmark {name!r}; there are: {', '.join(known)}")
    bench = Bench(name, quick)
    measured = {"host": host(), "commit": commit()}  # before the run: the load is that of the others
    outcome = importlib.import_module(f"{__package__}.{name.replace('-', '_')}").run(bench)
    result: dict[str, Any] = {"name": name, "value": outcome.value, "unit": outcome.unit, "details": outcome.details}
    result |= measured
    try:
        results.mkdir(parents=True, exist_ok=True)
        kept = result | {"quick": quick, "samples": {key: list(series) for key, series in outcome.samples.items()}}
        (results / f"{name}.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"cannot keep the result under {results}: {error.strerror}") from error
    _draw(bench, outcome, results)
    return result


def _draw(bench: Bench, outcome: Outcome, results: Path) -> None:
    """Plot the outcome as PNG and SVG beside its samples; a machine without matplotlib keeps the samples alone."""
    if not outcome.samples and outcome.plot is None:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        bench.progress("no plot: matplotlib is not installed (run `make setup`)")
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    (outcome.plot or (lambda figure: cumulative(figure, bench.name, outcome.samples)))(figure)
    for kind in ("png", "svg"):
        figure.savefig(results / f"{bench.name}.{kind}", dpi=110, metadata={"Date": None} if kind == "svg" else None)


def distribution(series: Sequence[float], points: int = 400) -> tuple[list[float], list[float]]:
    """A series' cumulative distribution, as at most ``points`` values and the shares of samples up to each."""
    ordered, count = sorted(series), len(series)
    ranks = sorted({max(1, round(count * step / points)) for step in range(1, points + 1)})
    return [ordered[rank - 1] for rank in ranks], [rank / count for rank in ranks]


def cumulative(figure: Any, title: str, samples: Mapping[str, Sequence[float]]) -> None:
    """Draw each series' cumulative distribution in a panel of its own (series differ in unit)."""
    drawn = {name: series for name, series in samples.items() if series}
    for index, (name, series) in enumerate(drawn.items(), start=1):
        axes = figure.add_subplot(1, len(drawn), index)
        axes.step(*distribution(series), where="post")
        axes.set(xlabel=name, ylabel="share of samples", ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.suptitle(title)


@contextlib.contextmanager
def stdout_kept() -> Iterator[Callable[[str], None]]:
    """Send everything written to stdout, by children too, to stderr; yield a function that writes to the real one."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)

    def say(line: str) -> None:
        os.write(real, line.encode() + b"\n")

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield say
    finally:
        os.dup2(real, 1)
        os.close(real)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
