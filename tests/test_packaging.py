"""What ``pip install`` gives a user: the packages, the twistd plugin and the two programs, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEADLINE = 120.0  # seconds, for one program; each takes a few at most


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program away from the checkout, so that only what is installed can be found."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE)


def succeed(*command: str | Path, cwd: Path) -> str:
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of the checkout, so that the checkout itself stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in ("mpt", "twisted", "conf"):
        copy_tree(ROOT / name, source / name)
    for name in ("setup.cfg", "pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            (source / name).write_bytes((ROOT / name).read_bytes())
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
    """Every module of mpt is in the wheel, and so is the plugin."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {str(module.relative_to(ROOT)) for module in (ROOT / "mpt").rglob("*.py")} <= names
    assert "twisted/plugins/mpt_plugin.py" in names


def test_the_wheel_holds_nothing_of_others(wheel: Path) -> None:
    """No tests, no caches, and above all no ``twisted/__init__.py``, which would overwrite Twisted's."""
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = wheel.name.split("-")[0] + "-" + wheel.name.split("-")[1]
    assert {name.split("/")[0] for name in names} <= {"mpt", "twisted", f"{metadata}.dist-info", f"{metadata}.data"}
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/mpt_plugin.py"}


def test_the_wheel_brings_the_sample_configuration(wheel: Path) -> None:
    """The samples of ``conf/`` are installed under ``share/mpt``."""
    names = zipfile.ZipFile(wheel).namelist()
    brought = {name.split("/data/share/mpt/")[1] for name in names if "/data/share/mpt/" in name}
    assert brought == {str(file.relative_to(ROOT / "conf")) for file in (ROOT / "conf").rglob("*.*")}


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
