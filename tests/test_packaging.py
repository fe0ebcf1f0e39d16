"""What ``pip install`` gives a user: the packages, the twistd plugin and the two programs, and nothing else; and the
native data path where it can be built, and only there."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.build
DEADLINE = 120.0  # seconds, for one program; each takes a few at most


NATIVE = "mpt/accel/_native.abi3.so"
WIRE = "mpt/lab/netem/_wire.abi3.so"
# Compilers that do not work: there is none, and one that fails, as it does where Python.h is missing.
BROKEN = ("/nonexistent/gcc", "false")

needs_a_compiler = pytest.mark.skipif(find_spec("mpt.accel._native") is None, reason="nothing to build it with here")


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program away from the checkout, so that it finds only the installed files."""
    ours = ("PYTHONPATH", "MPT_BUILD_NATIVE", "MPT_DATA_PLANE")
    environment = {name: value for name, value in os.environ.items() if name not in ours} | variables
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE)


def succeed(*command: str | Path, cwd: Path) -> str:
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def build(what: str, source: Path, output: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Let setuptools make a "wheel" or an "sdist" of `source`, as pip does."""
    output.mkdir(exist_ok=True)
    call = f"import sys; from setuptools import build_meta; build_meta.build_{what}(sys.argv[1])"
    return run(sys.executable, "-c", call, output, cwd=source, **variables)


def wheel_of(source: Path, output: Path, **variables: str) -> Path:
    """Return a wheel built with such environment variables."""
    result = build("wheel", source, output, **variables)
    assert result.returncode == 0, result.stderr
    [built] = output.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that the checkout itself stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in ("mpt", "bench", "twisted", "conf", "docs/man", "fuzz"):
        copy_tree(ROOT / name, source / name)
    for name in ("setup.cfg", "pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    output = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation", "--no-index")
    succeed(*pip, "--wheel-dir", output, source, cwd=output)
    [built] = output.glob("*.whl")
    return built


def copy_tree(source: Path, target: Path) -> None:
    for file in source.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a new virtual environment with the wheel in it; the libraries it needs are borrowed from this one."""
    environment = tmp_path_factory.mktemp("installed") / "with a space"
    succeed(sys.executable, "-m", "venv", "--without-pip", environment, cwd=wheel.parent)
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", environment / "bin" / "python")
    succeed(*pip, "install", "--no-deps", "--no-index", wheel, cwd=wheel.parent)
    purelib = environment / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    # A plain path in a .pth file: the .pth files over there, the one of an editable mpt among them, do not count here.
    (purelib / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return environment


def test_the_wheel_holds_every_module_and_the_plugin(wheel: Path) -> None:
    """Every module of mpt is in the wheel but the fakes of the tests; so are the plugin and the types."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {module.relative_to(ROOT) for module in (ROOT / "mpt").rglob("*.py")}
    shipped = {str(module) for module in modules if module.parts[:2] != ("mpt", "testing")}
    assert {name for name in names if name.startswith("mpt/") and name.endswith(".py")} == shipped
    assert "twisted/plugins/mpt_plugin.py" in names
    assert {"mpt/py.typed", "mpt/accel/_native.pyi"} <= names


def test_the_wheel_holds_nothing_of_others(wheel: Path) -> None:
    """No tests, no benchmark, no caches, and above all no ``twisted/__init__.py``, which would overwrite Twisted's."""
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = wheel.name.split("-")[0] + "-" + wheel.name.split("-")[1]
    assert {name.split("/")[0] for name in names} <= {"mpt", "twisted", f"{metadata}.dist-info", f"{metadata}.data"}
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/mpt_plugin.py"}


def test_the_wheel_brings_the_sample_configuration(wheel: Path) -> None:
    """The samples of ``conf/`` are installed under ``share/mpt``."""
    names = zipfile.ZipFile(wheel).namelist()
    brought = {name.split("/data/share/mpt/")[1] for name in names if "/data/share/mpt/" in name}
    assert brought == {str(file.relative_to(ROOT / "conf")) for file in (ROOT / "conf").rglob("*.*")}


def test_the_wheel_brings_the_manual_pages(wheel: Path) -> None:
    """Where `man` looks for them below the prefix of the installation."""
    names = zipfile.ZipFile(wheel).namelist()
    brought = {name.split("/data/share/man/")[1] for name in names if "/data/share/man/" in name}
    assert brought == {f"man{page.suffix[1:]}/{page.name}" for page in (ROOT / "docs" / "man").iterdir()}


def test_every_import_of_others_is_declared() -> None:
    """What the product imports is a requirement or an extra of setup.cfg."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    declared = projects(settings["options"]["install_requires"]) | projects(extras["metrics"]) | projects(extras["lab"])
    for module in [*(ROOT / "mpt").rglob("*.py"), ROOT / "twisted/plugins/mpt_plugin.py"]:
        if module.relative_to(ROOT).parts[:2] != ("mpt", "testing"):
            assert imported(module) <= declared, module


def projects(requirements: str) -> set[str]:
    """Return the names that the projects of a list of requirements are imported by."""
    names = {re.split(r"[ <>=\[]", line)[0] for line in requirements.split("\n") if line}
    return {
        {"zope.interface": "zope", "pyOpenSSL": "OpenSSL", "service-identity": "service_identity"}.get(n, n)
        for n in names
    }


def imported(module: Path) -> set[str]:
    """Return the top-level packages of others that a module imports, also within its functions."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"mpt"}


def test_twistd_lists_mpt(installed: Path) -> None:
    """``twistd --help`` names the plugin, and no word about caches or permissions goes to standard error."""
    twistd = "from twisted.scripts.twistd import run; run()"
    result = run(installed / "bin" / "python", "-c", twistd, "--help", cwd=installed)
    assert "Multipath tunnel" in result.stdout
    assert result.stderr == ""


def test_the_client_prints_its_usage(installed: Path) -> None:
    """``mpt`` alone tells how it is used."""
    result = run(installed / "bin" / "mpt", cwd=installed)
    assert "usage: mpt" in (result.stdout + result.stderr).lower()


def test_the_daemon_prints_its_help(installed: Path) -> None:
    """``mptsrv --help`` names the option that chooses the configuration, and succeeds without one."""
    assert "--config" in succeed(installed / "bin" / "mptsrv", "--help", cwd=installed)


def test_the_application_file_makes_the_service(installed: Path) -> None:
    """``mpt.tac`` is an application with one service, made from the directory that $MPT_CONFIG_DIR names."""
    load = f"""
import os, runpy
from twisted.application.service import IServiceCollection
os.environ["MPT_CONFIG_DIR"] = {str(ROOT / "conf")!r}
application = runpy.run_path({str(ROOT / "mpt.tac")!r})["application"]
print(len(list(IServiceCollection(application))))
"""
    assert succeed(installed / "bin" / "python", "-c", load, cwd=installed).split() == ["1"]


@needs_a_compiler
def test_the_native_data_path_is_built_where_it_can_be(wheel: Path, source: Path, tmp_path: Path) -> None:
    """By itself and when it is a must, for this machine and for every Python from 3.11 on."""
    for built in (wheel, wheel_of(source, tmp_path, MPT_BUILD_NATIVE="yes")):
        assert {NATIVE, WIRE} <= set(zipfile.ZipFile(built).namelist())
        assert built.name.split("-")[2:4] == ["cp311", "abi3"]
        assert "linux" in built.name


def test_the_native_data_path_can_be_left_out(wheel: Path, source: Path, tmp_path: Path) -> None:
    """The wheel is then one for any machine; files of an earlier build in the checkout stay out of it."""
    (source / NATIVE).touch()
    pure(wheel_of(source, tmp_path, MPT_BUILD_NATIVE="no"))


def pure(built: Path) -> None:
    assert not [name for name in zipfile.ZipFile(built).namelist() if name.endswith(".so")]
    assert built.name.endswith("-py3-none-any.whl")


@pytest.mark.parametrize("compiler", BROKEN)
def test_without_a_compiler_the_wheel_is_one_for_any_machine(
    wheel: Path, source: Path, tmp_path: Path, compiler: str
) -> None:
    """It would be taken again from pip's cache otherwise, as if it had the extension; nor has it an older one in it."""
    copy = tmp_path / "source"
    shutil.copytree(source, copy)  # with what was built in it
    os.utime(copy / "mpt/accel/join.c")
    result = build("wheel", copy, tmp_path / "wheel", MPT_BUILD_NATIVE="auto", CC=compiler)
    assert "Debian: gcc and python3-dev" in result.stderr
    [built] = (tmp_path / "wheel").glob("*.whl")
    pure(built)


@pytest.mark.parametrize("compiler", BROKEN)
def test_a_must_that_cannot_be_built_is_an_error(source: Path, tmp_path: Path, compiler: str) -> None:
    """That says what is missing; there is no wheel."""
    copy = tmp_path / "source"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build"))
    result = build("wheel", copy, tmp_path / "wheel", MPT_BUILD_NATIVE="yes", CC=compiler)
    assert result.returncode == 1
    assert "the native data path was not built" in result.stderr.splitlines()[-1]
    assert "Debian: gcc and python3-dev" in result.stderr.splitlines()[-1]
    assert not list((tmp_path / "wheel").iterdir())


def test_a_module_that_is_gone_is_not_installed_again(source: Path, tmp_path: Path) -> None:
    """A wheel of a checkout in which an older wheel was built holds the modules of today."""
    copy = tmp_path / "source"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build"))
    module = copy / "mpt" / "wire" / "gone.py"
    module.touch()
    assert "mpt/wire/gone.py" in zipfile.ZipFile(wheel_of(copy, tmp_path / "old", MPT_BUILD_NATIVE="no")).namelist()
    module.unlink()
    assert (copy / "build").is_dir()
    names = zipfile.ZipFile(wheel_of(copy, tmp_path / "new", MPT_BUILD_NATIVE="no")).namelist()
    assert "mpt/wire/gone.py" not in names
    assert "mpt/wire/gre.py" in names


def test_a_wrong_word_is_refused(source: Path, tmp_path: Path) -> None:
    """MPT_BUILD_NATIVE has three values."""
    result = build("wheel", source, tmp_path, MPT_BUILD_NATIVE="1")
    assert result.returncode == 1
    assert "MPT_BUILD_NATIVE=1: write auto, yes or no" in result.stderr


def test_an_installation_without_the_native_data_path_says_how_to_get_it(source: Path, tmp_path: Path) -> None:
    """pip hides what was missing, so ``mptsrv`` says it; an extension that does not load is another thing."""
    with zipfile.ZipFile(wheel_of(source, tmp_path, MPT_BUILD_NATIVE="no")) as built:
        built.extractall(tmp_path / "site")

    def check(plane: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "mpt.daemon.main", "--check", "--config", ROOT / "conf")
        return run(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"), MPT_DATA_PLANE=plane)

    said = check("auto")
    assert said.returncode == 0
    assert "the data path is python: the native one was not built" in said.stdout
    assert "Debian: gcc, python3-dev and libssl-dev" in said.stdout
    said = check("native")
    assert said.returncode == 1
    assert "MPT_DATA_PLANE = native: the native data path was not built" in said.stderr
    (tmp_path / "site" / NATIVE).write_text("not a library")
    said = check("native")
    assert said.returncode == 1
    assert "MPT_DATA_PLANE = native: the native data path was built but does not load" in said.stderr
    assert "Traceback" not in said.stderr


def test_the_source_distribution_can_build_it_all(source: Path, tmp_path: Path) -> None:
    """It holds the C sources, their headers, the benchmark and what fuzzes, and nothing that was made from them."""
    assert build("sdist", source, tmp_path).returncode == 0
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    made = {"mpt/accel/_native.c", "mpt/lab/netem/_wire.c"}
    rooms = ("mpt/accel", "mpt/lab/netem")
    c = {f"{room}/{file.name}" for room in rooms for end in ("*.c", "*.h") for file in (ROOT / room).glob(end)} - made
    bench = {str(file.relative_to(ROOT)) for room in ("bench", "mpt") for file in (ROOT / room).rglob("*.py")}
    fuzz = {f"fuzz/{file.name}" for file in (ROOT / "fuzz").glob("*.[ch]")} | {"fuzz/run", "fuzz/sanitize"}
    assert {"mpt/accel/_api.h", "mpt/lab/netem/line.c"} <= c and "fuzz/driver.c" in fuzz
    builders = {"setup.py", "mpt/accel/build_native.py", "mpt/lab/netem/build_wire.py"}
    assert c | bench | fuzz | builders <= names
    assert not [name for name in names if name in made or name.endswith((".so", ".o"))]
