# SPDX-License-Identifier: Apache-2.0
"""requirements.txt names what the project imports and nothing else; the constraints agree with it."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("apps", "benchmarks", "client", "controller", "demo", "models", "p4src", "servers", "testbed", "tests")
COMMANDS = {"coverage", "mypy", "pytest-cov", "pytest-timeout", "ruff"}
"""Used as programs or plugins, never imported."""
BY_OTHER_WAYS = {
    "pyopenssl": "eventlet imports it where it finds it",
    "noiseprotocol": "its module has the name of one of ours, controller.eccp.noise",
    "p4runtime": "its message descriptions are loaded by name",
}
DEBIAN = {"mininet"}
"""Python modules that come as Debian packages (setup/packages.txt)."""
BACKENDS = {"setuptools"}
"""Only in the environment in which the project's own wheel is built."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\n]+)", path.read_text(), re.MULTILINE)
    return {normal(name): version for name, version in found}


DIRECT = pins(ROOT / "requirements.txt")
ALL = pins(ROOT / "requirements" / "constraints.txt")


def imported() -> dict[str, set[str]]:
    """Return the top-level modules from outside the project and the standard library, with the files that use them."""
    ours = {path.stem for room in ROOMS for path in (ROOT / room).rglob("*.py")} | set(ROOMS) | {"topo"}
    ours |= {path.name for room in ROOMS for path in (ROOT / room).iterdir() if path.is_dir()}
    found: dict[str, set[str]] = {}
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")] + list(ROOT.glob("*.py"))
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("importorskip", "import_module")):
                first = node.args[0] if node.args else None
                names = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in ours:
                    found.setdefault(top, set()).add(path.relative_to(ROOT).as_posix())
    return found


IMPORTED = imported()
DISTRIBUTIONS = metadata.packages_distributions()


def distributions_of(module: str) -> set[str]:
    return {normal(name) for name in DISTRIBUTIONS.get(module, [])}


@pytest.mark.parametrize("module", sorted(set(IMPORTED) - DEBIAN - BACKENDS))
def test_what_is_imported_is_required(module):
    providers = distributions_of(module) or {normal(module)}
    assert providers & set(DIRECT), f"{module} is imported in {sorted(IMPORTED[module])[:3]}"


@pytest.mark.parametrize("name", sorted(set(DIRECT) - COMMANDS - set(BY_OTHER_WAYS)))
def test_what_is_required_is_imported(name):
    modules = {module for module in DISTRIBUTIONS if name in distributions_of(module)} | {name.replace("-", "_")}
    framework = {"ryu", "eventlet", "os-ken"}
    assert modules & set(IMPORTED) or name in framework, f"nothing imports {name}"


@pytest.mark.parametrize("name", sorted(DIRECT))
def test_the_constraints_agree(name):
    assert ALL.get(name) == DIRECT[name]


def test_debian_brings_what_is_taken_from_it():
    listed = (ROOT / "setup" / "packages.txt").read_text().split()
    assert set(listed) >= DEBIAN
