"""Find what a task names: `FILE.py:NAME` or `MODULE:NAME`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sweepd.job.result import BadConfig


def load(target: str, workdir: Path) -> Any:
    """Import the module of *target* and return the object it names.

    A file is relative to *workdir* and is imported under its stem, with its directory first on
    `sys.path`, as `python FILE.py` has it: so processes that it starts can import it as well.

    Raises :class:`BadConfig` if there is no such file, module or name. What the module itself
    raises is passed on.
    """
    place, separator, name = target.rpartition(":")
    if not separator or not place or not name:
        raise BadConfig(f"{target!r} names no function: write FILE.py:FUNCTION or MODULE:FUNCTION")
    module = _import_file(workdir / place) if place.endswith(".py") else _import_module(place, workdir)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise BadConfig(f"{place} has no {name!r}{nearest(name, vars(module))}") from None
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" for the name of *known* that is most like *name*, or nothing."""
    names = [one for one in known if not one.startswith("_")]
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _import_file(path: Path) -> Any:
    path = path.resolve()
    if not path.is_file():
        raise BadConfig(f"there is no file {path} on this node")
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None:
        raise BadConfig(
            f"{path.name} cannot be imported as {name!r}: that is {getattr(loaded, '__file__', 'built in')} "
            "already; rename the file"
        )
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # it is, for every name that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import_module(name: str, workdir: Path) -> Any:
    if str(workdir) not in sys.path:
        sys.path.insert(0, str(workdir))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise  # The module is there; one that it imports is not.
        raise BadConfig(
            f"there is no module {name!r} for {sys.executable}: looked in {workdir} and its packages"
        ) from None
