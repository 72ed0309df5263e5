"""How a client comes to a study: from a file, a mapping, or a bare objective.

This is the part of reading a study that touches files and chance; what a study may say is
in `spec.py`.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from sweepd import strict_yaml
from sweepd.errors import SpecError, UsageError
from sweepd.spec import StudySpec, Task, parse


def load(path: str | Path, *, overrides: Mapping[str, object] | None = None) -> StudySpec:
    """Return the study in the file at *path*, ready to be submitted.

    *overrides*: values by place, as {"budget.trials": 10}, which replace what the file says;
    None removes it. Relative paths are made absolute: `task.workdir` from the file's folder,
    `task.python` from workdir. What the task needs and names by a relative path must exist;
    absolute paths are taken as they are, for they may exist only where the agents run. A seed
    is drawn if there is none.

    Raises UsageError if the file cannot be read, SpecError (with all problems) if it is wrong.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None
    except OSError as error:
        raise UsageError(
            f"{file}: {(error.strerror or 'cannot be read').lower()}; name a study file"
        ) from None
    data = _overridden(strict_yaml.load(text, str(file)), overrides or {})
    return _settled(parse(data, str(file)), file.absolute().parent, str(file))


def from_mapping(data: Mapping[str, object], *, folder: str | Path = ".") -> StudySpec:
    """Return the study that *data* describes, as a notebook has it; relative paths start at *folder*.

    Raises SpecError with all problems.
    """
    return _settled(parse(dict(data)), Path(folder).absolute(), None)


def for_objective(
    target: str,
    direction: str,
    trials: int,
    *,
    overrides: Mapping[str, object] | None = None,
    folder: str | Path = ".",
) -> StudySpec:
    """Return a study of an Optuna objective that suggests its parameters as it goes.

    *target*: `train.py:objective` (relative to *folder*) or `pkg.train:objective`; its file or
    module names the study, and its metric is called `value`. *overrides*: as for :func:`load`.

    Raises SpecError with all problems.
    """
    data: dict[str, object] = {
        "name": _name(target),
        "task": {"objective": target},
        "objectives": [{"metric": "value", "direction": direction}],
        "budget": {"trials": trials},
    }
    return _settled(parse(_overridden(data, overrides or {})), Path(folder).absolute(), None)


def _name(target: str) -> str:
    """Return train for src/train.py:objective and for pkg.train:objective."""
    stem = (
        target.rpartition(":")[0].removesuffix(".py").replace("\\", "/").rpartition("/")[2].rpartition(".")[2]
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-") or "study"


def _settled(spec: StudySpec, folder: Path, source: str | None) -> StudySpec:
    """Return *spec* with absolute paths and a seed; raise SpecError for what is missing."""
    task, sampler = spec.task, spec.sampler
    workdir = _absolute(task.workdir, folder)
    problems = _missing(task, workdir)
    if problems:
        raise SpecError(problems, source)
    python = task.python
    if python is not None and "/" in python:
        python = str(_absolute(python, workdir))
    if sampler.seed is None:
        sampler = replace(sampler, seed=secrets.randbelow(2**32), seed_drawn=True)
    return replace(spec, task=replace(task, workdir=str(workdir), python=python), sampler=sampler)


def _missing(task: Task, workdir: Path) -> list[str]:
    """Return the problems of what *task* names by a relative path."""
    if not workdir.is_dir():
        if _is_absolute(task.workdir):
            return []
        return [
            f"task.workdir: is {task.workdir}, and there is no folder {workdir}; make it or write another"
        ]
    named: dict[str, str] = {}
    if task.python is not None and "/" in task.python:
        named["python"] = task.python
    if isinstance(task.target, str) and ".py:" in task.target:
        named[task.kind] = task.target.rpartition(":")[0]
    return [
        f"task.{word}: there is no file {workdir / path}; write a path relative to workdir"
        for word, path in named.items()
        if not _is_absolute(path) and not (workdir / path).is_file()
    ]


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "~"))


def _absolute(path: str, folder: Path) -> Path:
    # Not resolved: the python of a virtual environment is a link that leads out of it.
    return Path(os.path.normpath(folder / Path(path).expanduser()))


def _overridden(data: object, overrides: Mapping[str, object]) -> object:
    """Return *data* with the values of *overrides* at their places."""
    for place, value in overrides.items():
        data = _put({} if data is None else data, place, value, place)
    return data


def _put(data: object, rest: str, value: object, place: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UsageError(
            f"{place} cannot be set: {place.removesuffix(rest).rstrip('.') or 'the study'} is no mapping"
        )
    mapping = cast("dict[str, Any]", data)
    # A parameter's name may have dots: the longest key that is there wins.
    keys = [key for key in mapping if rest == key or rest.startswith(f"{key}.")]
    key = max(keys, key=len) if keys else rest.partition(".")[0]
    inner = rest[len(key) + 1 :]
    return {**mapping, key: _put(mapping.get(key) or {}, inner, value, place) if inner else value}
