"""YAML as study files use it: the core schema of YAML 1.2, and nothing that surprises.

PyYAML reads YAML 1.1, where `1e-5` is text, `on` is true and `12:30` is 750. Here a plain
scalar is null, true, false or a number only as YAML 1.2 says; all else is text. Keys are text
and occur once. Anchors and aliases work; tags, merge keys (`<<`) and several documents do not.
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sweepd.errors import SpecError

VALUE_LIMIT = 100_000  #: values in one document, aliases counted as often as they are used

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser with YAML 1.2's idea of plain scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
for _name, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def load(text: str, source: str | None = None) -> object:
    """Return the value of the one document in *text*; None if it is empty.

    Raises SpecError, whose problems begin with line and column (both from 1).
    """
    construction = _Construction()
    try:
        root = yaml.compose(text, _Loader)
        value = None if root is None else construction.value(root)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax(error)], source) from None
    except yaml.reader.ReaderError as error:
        raise SpecError([_unprintable(text, int(error.position))], source) from None
    except RecursionError:
        problem = "line 1, column 1: lists and mappings are nested too deeply; write a flatter file"
        raise SpecError([problem], source) from None
    if construction.problems:
        raise SpecError(construction.problems, source)
    return value


class _Construction:
    """Values of nodes, and what was wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._count = 0
        self._open: set[int] = set()

    def value(self, node: Node) -> object:
        self._count += 1
        if self._count > VALUE_LIMIT:
            if self._count == VALUE_LIMIT + 1:
                self._complain(
                    node, f"more than {VALUE_LIMIT} values, aliases counted each time; use fewer aliases"
                )
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            self._complain(node, "this value contains itself through an alias; write it out")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(item) for item in cast("list[Node]", node.value)]
            if isinstance(node, MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node)
        finally:
            self._open.discard(id(node))
        self._complain(node, f"the tag {_tag(node)} is not allowed; remove it")
        return None

    def _mapping(self, node: MappingNode) -> dict[str, object]:
        read: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in cast("list[tuple[Node, Node]]", node.value):
            value = self.value(value_node)
            if not isinstance(key_node, ScalarNode):
                self._complain(key_node, "a list or mapping is used as a key; write text before the colon")
                continue
            key = self._scalar(key_node)
            if key == "<<" and key_node.style is None:
                self._complain(key_node, "merge keys (<<) are not part of YAML 1.2; write the words out")
            elif not isinstance(key, str):
                self._complain(
                    key_node, f"the key {key_node.value or '(nothing)'} is not text; put it in quotes"
                )
            elif key in read:
                self._complain(
                    key_node, f"the key {key} is already in line {lines[key]}; remove one of the two"
                )
            else:
                read[key] = value
                lines[key] = key_node.start_mark.line + 1
        return read

    def _scalar(self, node: ScalarNode) -> object:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            if any("\ud800" <= character <= "\udfff" for character in text):
                self._complain(node, "half of a surrogate pair; write the character itself")
            return text
        pattern, _ = _PLAIN.get(kind, (None, None))
        if pattern is None:
            self._complain(node, f"the tag {_tag(node)} is not allowed; remove it")
        elif not re.fullmatch(pattern, text):
            self._complain(node, f"{text!r} is no {kind}; remove the tag")
        elif kind == "bool":
            return text.lower() == "true"
        elif kind == "int":
            return self._whole(node, text)
        elif kind == "float":
            return self._real(node, text)
        return None

    def _whole(self, node: ScalarNode, text: str) -> int | None:
        if len(text) > 1000:
            self._complain(node, f"a whole number of {len(text)} digits; put it in quotes if it is text")
            return None
        bases = {"0o": 8, "0x": 16}
        return int(text, bases.get(text[:2], 10))

    def _real(self, node: ScalarNode, text: str) -> float:
        if text.lower().endswith(("inf", "nan")):
            return float(text.replace(".", ""))
        value = float(text)
        if math.isinf(value):
            self._complain(node, f"{text} is too large for a number; the largest is about 1.8e308")
        return value

    def _complain(self, node: Node, problem: str) -> None:
        mark = node.start_mark
        self.problems.append(f"line {mark.line + 1}, column {mark.column + 1}: {problem}")


def _tag(node: Node) -> str:
    return node.tag.replace(_TAG, "!!")


#: What to do about the usual complaints of PyYAML, by a part of their text.
_REMEDIES = {
    "'\\t'": "indent with spaces, not with tabs",
    "expected a single document": "write one study in a file",
    "mapping values are not allowed": "put text that has a colon in quotes, or mend the indentation",
    "cannot start any token": "put the text in quotes",
    "undefined alias": "put text that begins with * in quotes, or define the anchor above",
    "quoted scalar": "close the quotes",
    "flow sequence": "separate the items by commas, and close the list with ]",
    "flow mapping": "separate the words by commas, and close the mapping with }",
    "flow node": "close what was opened with [ or {",
    "<block end>": "mend the indentation",
}


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "line 1, column 1"
    problem = error.problem or "this is not YAML"
    for part, remedy in _REMEDIES.items():
        if part in f"{problem} {error.context or ''}":
            return f"{place}: {problem}; {remedy}"
    return f"{place}: {problem}{f' ({error.context})' if error.context else ''}"


def _unprintable(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return (
        f"line {line}, column {column}: the character U+{ord(text[position]):04X} is not allowed; remove it"
    )
