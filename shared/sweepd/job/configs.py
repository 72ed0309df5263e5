"""Set parameters of a study as attributes of what a NeMo Run recipe returned.

By walking its Configs, attribute by attribute. Never through NeMo Run's own command line
parser: it imports and calls what it finds in values.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fiddle
import nemo_run as run

from sweepd.job.loading import nearest
from sweepd.job.result import BadConfig

_SCRIPT_VARIABLE = "env."
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def set_parameters(tasks: Sequence[Any], params: Mapping[str, Any]) -> None:
    """Set each parameter, `a.b.c`, in every one of *tasks* that has that attribute.

    A Script has environment variables only, `env.NAME`. Raises :class:`BadConfig` for a
    parameter that no task has, and then some may be set already.
    """
    for name, value in params.items():
        found = [_set(task, name, value) for task in tasks]
        if not any(found):
            known = [path for task in tasks for path in _paths(task)]
            problem = f"the recipe has no attribute {name!r} to set to that parameter{nearest(name, known)}"
            if any(isinstance(task, run.Script) for task in tasks):
                problem += "; a Script has env.NAME only, but its recipe may take parameters as arguments"
            raise BadConfig(problem)


def _set(task: Any, name: str, value: Any) -> bool:
    """Set the attribute *name* of *task*; return False if it has none of that name."""
    return (
        _set_variable(task, name, value)
        if isinstance(task, run.Script)
        else _set_attribute(task, name, value)
    )


def _set_variable(script: Any, name: str, value: Any) -> bool:
    if not name.startswith(_SCRIPT_VARIABLE):
        return False
    script.env[name[len(_SCRIPT_VARIABLE) :]] = value if isinstance(value, str) else json.dumps(value)
    return True


def _set_attribute(task: Any, name: str, value: Any) -> bool:
    *path, last = name.split(".")
    node = task
    for part in path:
        if part not in _names(node):
            return False
        node = _get(node, part)
        if not _is_node(node):
            raise BadConfig(
                f"{name!r} leads through {part!r}, which is a {type(node).__name__}: "
                "make it a nemo_run.Config, so that its attributes can be set"
            )
    if last not in _names(node) and not _takes_any(node):
        return False
    if last in _names(node) and isinstance(old := _get(node, last), fiddle.Buildable):
        raise BadConfig(f"{name!r} is a whole {type(old).__name__}: name one of its attributes")
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list):
        node[int(last)] = value
    else:
        setattr(node, last, value)
    return True


def _is_node(value: Any) -> bool:
    return isinstance(value, (fiddle.Buildable, dict, list))


def _names(node: Any) -> list[str]:
    """Return the attributes of a Config, the keys of a dict, the indexes of a list."""
    if isinstance(node, dict):
        return [key for key in node if isinstance(key, str)]
    if isinstance(node, list):
        return [str(index) for index in range(len(node))]
    return [*(one.name for one in _arguments(node) if one.kind not in _VARIABLE), *node.__arguments__]


def _arguments(node: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(fiddle.get_callable(node)).parameters.values())


def _takes_any(node: Any) -> bool:
    return isinstance(node, fiddle.Buildable) and any(
        one.kind is inspect.Parameter.VAR_KEYWORD for one in _arguments(node)
    )


def _get(node: Any, part: str) -> Any:
    if isinstance(node, dict):
        return node[part]
    if isinstance(node, list):
        return node[int(part)]
    return getattr(node, part, None)


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every attribute that can be set."""
    if not _is_node(node):
        return
    for name in _names(node):
        yield prefix + name
        yield from _paths(_get(node, name), f"{prefix}{name}.")
