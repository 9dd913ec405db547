# SPDX-License-Identifier: Apache-2.0
"""Compile the P4 programs with p4c, and tell whether what is committed still belongs to its sources.

`python -m p4src.compile` writes `build/NAME.json`, `build/NAME.p4info.txtpb` and `manifest.json`; it needs
`p4c-bm2-ss` on PATH. `python -m p4src.compile --check` only compares hashes, and needs nothing.
The compiler's notes on source positions are left out: they are two thirds of the file and name local paths.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOM = Path(__file__).resolve().parent
BUILD = ROOM / "build"
MANIFEST = ROOM / "manifest.json"
COMPILER = "p4c-bm2-ss"
PROGRAMS = ("flow_state", "baseline", "siphash_check")
# Without this, chained assignments that use a variable twice (every SipHash round) grow exponentially.
OPTIONS = ("--std", "p4-16", "--excludeMidendPasses", "P4::LocalCopyPropagation")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


class CompileError(Exception):
    """The compiler is missing or refused a program; `str()` says which and why."""


@dataclass(frozen=True)
class Outputs:
    """Bytes of the pipeline configuration (bmv2 JSON) and of the P4Info (protobuf text)."""

    json: bytes
    p4info: bytes


def sources_of(program: str, room: Path = ROOM) -> list[Path]:
    """The files a program consists of: itself and, transitively, what it includes by a quoted name."""
    found: list[Path] = []
    todo = [room / f"{program}.p4"]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.append(path)
        todo += [(path.parent / name).resolve() for name in INCLUDE.findall(path.read_text())]
    return sorted(found)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def without_positions(node: Any) -> Any:
    """A bmv2 JSON tree without its `source_info` members."""
    if isinstance(node, dict):
        return {key: without_positions(value) for key, value in node.items() if key != "source_info"}
    if isinstance(node, list):
        return [without_positions(value) for value in node]
    return node


def compiler_version(compiler: str) -> str:
    """The version of p4c as it states it, without the hash of its build.

    Raises CompileError when it cannot be run.
    """
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as failure:
        raise CompileError(f"{compiler} --version failed: {failure}") from failure
    match = re.search(r"Version\s+([0-9.]+)", done.stdout)
    return match.group(1) if match else done.stdout.strip()


def find_compiler() -> str | None:
    """The path of p4c-bm2-ss, or None when it is not on PATH."""
    return shutil.which(COMPILER)


def compile_program(program: str, compiler: str, room: Path = ROOM) -> Outputs:
    """Compile one program. Raises CompileError with the compiler's own words when it refuses."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "out.json"
        info = Path(scratch) / "out.p4info.txtpb"
        command = [compiler, *OPTIONS, "--p4runtime-files", str(info), "-o", str(made), f"{program}.p4"]
        done = subprocess.run(command, cwd=room, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0 or not made.exists() or not info.exists():
            raise CompileError(f"{COMPILER} refused {program}.p4:\n{done.stderr.strip()}")
        tree = without_positions(json.loads(made.read_text()))
        return Outputs(json.dumps(tree, separators=(",", ":")).encode() + b"\n", info.read_bytes())


def describe(program: str, outputs: Outputs, room: Path = ROOM) -> dict[str, Any]:
    """The manifest's entry of a program: hashes of its sources and outputs."""
    return {
        "sources": {str(path.relative_to(room)): digest(path.read_bytes()) for path in sources_of(program, room)},
        "outputs": {
            f"build/{program}.json": digest(outputs.json),
            f"build/{program}.p4info.txtpb": digest(outputs.p4info),
        },
    }


def stale(room: Path = ROOM) -> list[str]:
    """What the manifest does not vouch for, in words; empty when sources and compiled files are in step."""
    try:
        programs = json.loads((room / "manifest.json").read_text())["programs"]
    except (OSError, ValueError, KeyError) as failure:
        return [f"manifest.json cannot be read: {failure}"]
    problems = [f"{name} is not in the manifest" for name in PROGRAMS if name not in programs]
    for name, entry in programs.items():
        present = {str(path.relative_to(room)) for path in sources_of(name, room)}
        problems += [f"{name}: {path} is not in the manifest" for path in sorted(present - set(entry["sources"]))]
        for path, expected in {**entry["sources"], **entry["outputs"]}.items():
            file = room / path
            if not file.exists():
                problems.append(f"{name}: {path} is missing")
            elif digest(file.read_bytes()) != expected:
                problems.append(f"{name}: {path} has changed since it was compiled")
    return problems


def build(room: Path = ROOM) -> None:
    """Compile all programs and write outputs and manifest. Raises CompileError; then nothing is written."""
    compiler = find_compiler()
    if compiler is None:
        raise CompileError(f"{COMPILER} is not on PATH; the compiled files that are committed work without it")
    made = {program: compile_program(program, compiler, room) for program in PROGRAMS}
    (room / "build").mkdir(exist_ok=True)
    for program, outputs in made.items():
        (room / "build" / f"{program}.json").write_bytes(outputs.json)
        (room / "build" / f"{program}.p4info.txtpb").write_bytes(outputs.p4info)
    manifest = {
        "compiler": f"p4c {compiler_version(compiler)}",
        "command": " ".join((COMPILER, *OPTIONS, "--p4runtime-files NAME.p4info.txtpb -o NAME.json NAME.p4")),
        "left out": "source_info members of the JSON",
        "programs": {program: describe(program, outputs, room) for program, outputs in made.items()},
    }
    (room / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m p4src.compile", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--check", action="store_true", help="only say whether the compiled files are in step")
    options = parser.parse_args(arguments)
    if options.check:
        problems = stale()
        print("\n".join(problems) if problems else "compiled files and sources are in step")
        return 1 if problems else 0
    try:
        build()
    except CompileError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
