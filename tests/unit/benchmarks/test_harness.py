# SPDX-License-Identifier: Apache-2.0
import json
import sys

import pytest

import benchmarks
from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.harness import BenchmarkError, distribution, percentile, summary

GOOD = '''"""Measures nothing in particular.

More text.
"""
import os
import subprocess
from benchmarks.harness import Outcome

def run(bench):
    bench.progress("at work")
    print("noise")
    os.write(1, b"noise of a library\\n")
    subprocess.run(["echo", "noise of a child"], check=True)
    return Outcome(2.5, "things/s", {"quick": bench.quick}, {"latency_us": [3.0, 1.0, 2.0]})
'''
MISSING = '''"""Cannot run here."""
from benchmarks.harness import BenchmarkError

def run(bench):
    raise BenchmarkError("no switch; run `make setup`")
'''
BROKEN = '''"""Has a fault."""

def run(bench):
    return 1 / 0
'''


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package directory with three benchmarks and nothing else."""
    made = tmp_path / "room"
    made.mkdir()
    for name, text in (("test_good", GOOD), ("test_missing", MISSING), ("test_broken", BROKEN), ("_helper", "")):
        (made / f"{name}.py").write_text(text)
    monkeypatch.setattr(harness, "ROOM", made)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(made)])
    yield made
    for name in ("test_good", "test_missing", "test_broken"):
        sys.modules.pop(f"benchmarks.{name}", None)


def test_benchmarks_are_listed_by_file_without_being_imported(room, capsys):
    (room / "heavy.py").write_text('"""Needs a lot."""\nimport nothing_of_the_kind\n')
    assert command.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "heavy         Needs a lot.",
        "test-broken   Has a fault.",
        "test-good     Measures nothing in particular.",
        "test-missing  Cannot run here.",
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_stdout_is_the_result_line_alone(room, tmp_path, capfd, quick):
    arguments = ["test-good", "--results", str(tmp_path / "results")] + ["--quick"] * quick
    assert command.main(arguments) == 0
    printed = capfd.readouterr()
    (line,) = printed.out.splitlines()
    result = json.loads(line)
    assert list(result) == ["name", "value", "unit", "details", "host", "commit"]
    assert (result["name"], result["value"], result["unit"]) == ("test-good", 2.5, "things/s")
    assert result["details"] == {"quick": quick}
    assert {"cpu", "cores", "kernel", "python"} <= set(result["host"])
    for noise in ("at work", "noise\n", "noise of a library", "noise of a child"):
        assert noise in printed.err


def test_samples_and_plots_are_kept(room, tmp_path, capfd):
    results = tmp_path / "results"
    command.main(["test-good", "--results", str(results)])
    kept = json.loads((results / "test-good.json").read_text())
    assert kept["samples"] == {"latency_us": [3.0, 1.0, 2.0]}
    assert kept["quick"] is False
    assert {key: kept[key] for key in ("name", "value")} == {"name": "test-good", "value": 2.5}
    assert (results / "test-good.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (results / "test-good.svg").read_text()


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("test-missing", 1, "test-missing: no switch; run `make setup`\n"),
        ("test-broken", 1, "test-broken: failed: ZeroDivisionError: division by zero (--debug shows where)\n"),
        ("nothing", 2, "there is no benchmark 'nothing'; `python -m benchmarks` lists them\n"),
    ],
)
def test_what_goes_wrong_is_one_line_on_stderr(room, tmp_path, capfd, name, code, message):
    assert command.main([name, "--results", str(tmp_path)]) == code
    assert capfd.readouterr() == ("", message)


def test_all_runs_each_and_the_worst_code_counts(room, tmp_path, capfd):
    assert command.main(["--all", "--results", str(tmp_path)]) == 1
    printed = capfd.readouterr()
    assert [json.loads(line)["name"] for line in printed.out.splitlines()] == ["test-good"]
    assert "test-missing: no switch" in printed.err


def test_an_interrupt_is_told_apart(room, tmp_path, capfd, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(harness, "run", interrupted)
    assert command.main(["test-good", "--results", str(tmp_path)]) == 130
    assert capfd.readouterr().err == "test-good: interrupted\n"


def test_results_that_cannot_be_kept_are_an_error(room, tmp_path, capfd):
    (tmp_path / "results").write_text("a file")
    assert command.main(["test-good", "--results", str(tmp_path / "results")]) == 1
    assert "cannot keep the result" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([5], 0.5, 5),
        ([1, 2], 0.5, 1),
        ([2, 1, 3], 0.5, 2),
        (range(1, 101), 0.5, 50),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 1.0, 100),
        (range(1, 101), 0.0, 1),
        (range(1, 11), 0.99, 10),
    ],
)
def test_percentiles_are_nearest_ranks(samples, share, expected):
    assert percentile(list(samples), share) == expected


def test_a_summary_has_the_figures_one_looks_for():
    assert summary([1.0, 2.0, 3.0]) == {
        "samples": 3,
        "mean": 2.0,
        "p50": 2.0,
        "p90": 3.0,
        "p99": 3.0,
        "min": 1.0,
        "max": 3.0,
    }
    with pytest.raises(BenchmarkError, match="no samples"):
        summary([])


def test_a_distribution_is_thinned_out_for_drawing():
    assert distribution([3.0, 1.0]) == ([1.0, 3.0], [0.5, 1.0])
    values, shares = distribution(range(1, 10_001), points=4)
    assert (values, shares) == ([2_500, 5_000, 7_500, 10_000], [0.25, 0.5, 0.75, 1.0])
