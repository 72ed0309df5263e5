"""The three wheels: each builds, carries its data files, and imports without the ones it may not need."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"shared": "sweepd", "coordinator": "sweepd_coordinator", "agent": "sweepd_agent"}

#: Files that are read at run time and that nothing would miss before: named here one by one.
DATA = {
    "shared": ["sweepd/py.typed", "sweepd/examples/digits/objective.yaml"],
    "coordinator": ["sweepd_coordinator/py.typed", "sweepd_coordinator/commit.lua"],
    "agent": ["sweepd_agent/py.typed", "sweepd_agent/supervise.py"],
}

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if ".examples" in module.name or module.name.endswith("__main__"):
        continue  # examples are users' programs and import what they like
    importlib.import_module(module.name)
print(*sorted(sys.modules))
"""
IMPORT_ONE = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Build all three; by distribution's folder."""
    directory = tmp_path_factory.mktemp("wheels")
    built: dict[str, Path] = {}
    for folder in PACKAGES:
        command = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            str(directory / folder),
        ]
        done = subprocess.run(command, cwd=ROOT / folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        [built[folder]] = (directory / folder).glob("*.whl")
    return built


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _unpack(wheels: Mapping[str, Path], folders: list[str], into: Path) -> Path:
    for folder in folders:
        with zipfile.ZipFile(wheels[folder]) as archive:
            archive.extractall(into)
    return into


def _loaded(program: str, name: str, directory: Path) -> set[str]:
    """Run *program* on a module or package as unpacked in *directory*; return all modules loaded.

    The libraries come from this environment. Without `site`, the editable installs of the
    repository itself stay invisible.
    """
    paths = [str(directory), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {paths!r}\n{program}", name],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_wheel_holds_every_file_of_its_package(folder: str, wheels: Mapping[str, Path]) -> None:
    package = ROOT / folder / PACKAGES[folder]
    ours = {
        path.relative_to(ROOT / folder).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = _names(wheels[folder])

    assert not ours - names
    assert not set(DATA[folder]) - names


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_wheel_carries_the_licence_and_one_top_level_name(
    folder: str, wheels: Mapping[str, Path], tmp_path: Path
) -> None:
    directory = _unpack(wheels, [folder], tmp_path)

    assert {path.name for path in directory.iterdir() if path.suffix != ".dist-info"} == {PACKAGES[folder]}
    [licence] = directory.glob("*.dist-info/licenses/LICENSE")
    assert licence.read_text() == (ROOT / "LICENSE").read_text()


def test_sweepd_imports_without_the_daemons(wheels: Mapping[str, Path], tmp_path: Path) -> None:
    loaded = _loaded(IMPORT_EVERYTHING, "sweepd", _unpack(wheels, ["shared"], tmp_path))

    assert "sweepd.client" in loaded


def test_the_coordinator_imports_without_the_agent(wheels: Mapping[str, Path], tmp_path: Path) -> None:
    directory = _unpack(wheels, ["shared", "coordinator"], tmp_path)

    assert "sweepd_coordinator.daemon" in _loaded(IMPORT_EVERYTHING, "sweepd_coordinator", directory)
    assert not {"nemo_run", "pynvml"} & _loaded(IMPORT_ONE, "sweepd_coordinator.__main__", directory)


def test_the_agent_imports_without_the_coordinator(wheels: Mapping[str, Path], tmp_path: Path) -> None:
    directory = _unpack(wheels, ["shared", "agent"], tmp_path)

    assert "sweepd_agent.daemon" in _loaded(IMPORT_EVERYTHING, "sweepd_agent", directory)
    # nemo_run takes over logging, and costs 120 MB: its place is the launcher child.
    assert not {"nemo_run", "optuna"} & _loaded(IMPORT_ONE, "sweepd_agent.__main__", directory)
