"""What must hold for every file of the repository, whoever wrote it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Places that exist on one machine or in one company only. In two halves, so as not to be found here.
PLACES = [
    ("pypi", ".org"),
    ("files.python", "hosted.org"),
    ("registry.npm", "js.org"),
    ("deb", ".debian.org"),
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("file:///op", "t/"),
]
#: Standard library names that Python 3.10 does not have, as an import would spell them.
NEW_IN_3_11 = {
    ("tomllib", None),
    ("enum", "StrEnum"),
    ("datetime", "UTC"),
    ("asyncio", "TaskGroup"),
    ("asyncio", "timeout"),
    ("contextlib", "chdir"),
    ("typing", "Self"),
    ("typing", "Never"),
    ("typing", "assert_never"),
    ("typing", "NotRequired"),
    ("typing", "Required"),
    ("typing", "LiteralString"),
    ("typing", "override"),
}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout: nothing tells the project's files from others")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_of_one_machine() -> None:
    places = ["".join(halves) for halves in PLACES]
    found = [
        f"{_name(path)}:{number}: {place}"
        for path in _tracked()
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), start=1)
        for place in places
        if place in line
    ]
    assert found == []


def test_lock_files_with_addresses_stay_untracked() -> None:
    names = {path.name for path in _tracked()}

    assert not {"uv.lock", "package-lock.json", "poetry.lock"} & names


def test_the_three_distributions_have_one_version() -> None:
    projects = {
        folder: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        for folder in ("shared", "coordinator", "agent")
    }
    source = ast.parse((ROOT / "shared/sweepd/__init__.py").read_text())
    [version] = [
        node.value.value
        for node in source.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and any(isinstance(target, ast.Name) and target.id == "__version__" for target in node.targets)
    ]

    assert {project["version"] for project in projects.values()} == {version}
    for folder in ("coordinator", "agent"):
        assert f"sweepd=={version}" in projects[folder]["dependencies"]


def _that_run(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through what an interpreter would run, and not through what only type checkers read."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _that_run(child)


def _too_new(tree: ast.AST) -> Iterator[str]:
    for node in _that_run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if (alias.name, None) in NEW_IN_3_11)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                f"{node.module}.{alias.name}"
                for alias in node.names
                if (node.module, alias.name) in NEW_IN_3_11 or (node.module, None) in NEW_IN_3_11
            )
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) in NEW_IN_3_11
        ):
            yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", sorted((ROOT / "shared/sweepd").rglob("*.py")), ids=_name)
def test_sweepd_stays_within_python_3_10(path: Path) -> None:
    """`sweepd` goes into users' training images; the daemons do not."""
    tree = ast.parse(path.read_text(), filename=str(path), feature_version=(3, 10))

    assert list(_too_new(tree)) == []


def test_a_3_10_interpreter_compiles_sweepd_and_runs_the_sdk(tmp_path: Path) -> None:
    """The real interpreter, where there is one; the job's side needs the standard library only."""
    python = _find_python_3_10()
    if python is None:
        pytest.skip("no python3.10 on this machine; the syntax is checked above")
    program = (
        "import compileall, sys; sys.dont_write_bytecode = True; sys.pycache_prefix = sys.argv[1]\n"
        f"assert compileall.compile_dir({str(ROOT / 'shared/sweepd')!r}, quiet=1)\n"
        f"sys.path.insert(0, {str(ROOT / 'shared')!r})\n"
        "import sweepd; print(sweepd.report({'loss': 1.0}, step=1).value)\n"
    )
    done = subprocess.run(
        [python, "-S", "-c", program, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "continue"


def _find_python_3_10() -> str | None:
    for name in ("python3.10", *map(str, Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))):
        try:
            done = subprocess.run(
                [name, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
            )
        except OSError:
            continue
        if done.stdout.strip() == "(3, 10)":
            return name
    return None


def test_the_imports_keep_their_contracts() -> None:
    """The contracts are in pyproject.toml, their story in docs/architecture.md."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
