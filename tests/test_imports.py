"""The rules of who may import whom: they keep the pure parts pure and each foreign library in one room."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "mpt").rglob("*.py"))

# Our packages: what each may import, besides itself. Downward only; data and control are siblings.
_SHARED = {"errors", "model", "values", "facts"}
_SEAM = {"limits"}  # values of data and control, and of whoever joins them
_LOW = _SHARED | {"wire", "config", "host", "local"}
_BOTH_PLANES = _LOW | _SEAM | {"data", "control"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "values": {"errors", "model"},
    "facts": {"model"},
    "wire": _SHARED,
    "config": _SHARED,
    "host": _SHARED,
    "local": _SHARED,
    "doctor": _SHARED | {"config", "local"},
    "limits": set(),
    "page": set(),  # files alone
    "data": _LOW | _SEAM,
    "control": _LOW - {"host"} | _SEAM,
    "accel": _BOTH_PLANES,
    "daemon": _BOTH_PLANES | {"accel"},
    "cli": _SHARED | {"local", "config", "doctor", "lab", "host"},  # lab: `mpt demo`; host: check, doctor
    "lab": _SHARED | {"config", "local"},  # drives the installed programs from outside
    "testing": _BOTH_PLANES | {"accel", "daemon"},
}

# Foreign libraries: the packages or modules that may import each. Everything else is the standard library.
HOME_OF: dict[str, set[str]] = {
    "twisted": {"daemon", "testing"},
    "zope": {"daemon", "testing"},
    "pyroute2": {"host.netlink"},
    "cffi": {"accel", "lab.netem"},
    "cryptography": {"wire.seal", "config.identity", "daemon.tls", "lab.capture"},
    "OpenSSL": {"daemon.tls"},
    "hypothesis": {"testing"},
    "prometheus_client": {"local.metrics"},
    "matplotlib": {"lab.experiment.plots"},
}

# Linux is behind host: the pure packages know octets and numbers.
PURE = {"errors", "model", "values", "facts", "limits", "wire", "config", "data", "control", "local", "doctor"}
_OF_THE_KERNEL = {"socket", "fcntl", "ctypes", "select", "termios", "resource"}

_SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def name_of(module: Path) -> str:
    """The dotted name of a module below ``mpt``: "wire.gre", or "" for ``mpt/__init__.py``."""
    parts = module.relative_to(ROOT / "mpt").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def nodes_of(module: Path) -> list[tuple[ast.Import | ast.ImportFrom | ast.Call, bool]]:
    """The imports and calls of a module, each with whether it stands in a function."""
    found = []
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(module.read_text()), False)]
    while waiting:
        node, inside = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            found.append((node, inside))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]
    return found


def imports_of(module: Path, package: list[str], inside: tuple[bool, ...] = (False, True)) -> Iterator[str]:
    """Every dotted name that a module imports, in functions or outside; `package` resolves the relative ones."""
    for node, in_function in nodes_of(module):
        if in_function not in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def within(name: str, homes: set[str]) -> bool:
    return any(name == home or name.startswith(home + ".") for home in homes)


@pytest.fixture(params=MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_a_module_imports_only_what_is_below_it(module: Path) -> None:
    """A module imports only its own package, those the design puts below it, and the libraries it is home to."""
    name = name_of(module)
    own = name.split(".")[0]
    package = ["mpt", *name.split(".")] if module.name == "__init__.py" else ["mpt", *name.split(".")[:-1]]
    wrong = []
    for imported in imports_of(module, [part for part in package if part]):
        library, _, rest = imported.partition(".")
        if library == "mpt":
            target = rest.split(".")[0]
            allowed = target in {"", "__version__", own} or target in MAY_IMPORT.get(own, set())
        elif library in HOME_OF:
            allowed = within(name, HOME_OF[library])
        else:
            allowed = library in sys.stdlib_module_names
        if not allowed:
            wrong.append(imported)
    assert not wrong, f"{module.relative_to(ROOT)} may not import {', '.join(wrong)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for annotations, and not inside functions either."""
    names = {name_of(module): module for module in MODULES}
    graph: dict[str, set[str]] = {}
    for name, module in names.items():
        is_package = module.name == "__init__.py"
        package = [part for part in ("mpt", *name.split(".")[: None if is_package else -1]) if part]
        found = (each.removeprefix("mpt.") for each in imports_of(module, package))
        modules = {each if each in names else each.rpartition(".")[0] for each in found}
        graph[name] = {each for each in modules if each in names and each not in (name, "")}
    assert len(graph["daemon.root"]) > 10, "the imports are not seen"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(reversed(error.args[1]))}")


def test_a_pure_module_knows_no_kernel(module: Path) -> None:
    """Sockets, ioctls and C libraries are used in host and above it."""
    if name_of(module).split(".")[0] in PURE:
        libraries = {name.partition(".")[0] for name in imports_of(module, [])}
        assert not libraries & _OF_THE_KERNEL


def test_no_module_imports_the_reactor_when_it_is_imported(module: Path) -> None:
    """The reactor is passed in; importing a module never installs one."""
    names = set(imports_of(module, [], inside=(False,)))
    assert "twisted.internet.reactor" not in names


def test_no_module_runs_a_shell(module: Path) -> None:
    """Programs are run from a list of arguments, never through a shell."""
    for node, _ in nodes_of(module):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in _SHELLS, f"line {node.lineno}"
            assert not any(keyword.arg == "shell" for keyword in node.keywords), f"line {node.lineno}"


def test_every_package_has_its_place_in_the_rules() -> None:
    """A new package below mpt is not forgotten here."""
    assert {name_of(module).split(".")[0] for module in MODULES} - {""} <= MAY_IMPORT.keys()
